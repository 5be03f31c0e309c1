package wire

import "time"

// Sources of a document.
const (
	SourceRendered = "rendered" // the appliance made the PDF from the prescription's data
	SourceGiven    = "given"    // the caller gave the PDF, where its clinic's policy allows
)

// SignOpen asks to sign one prescription.
type SignOpen struct {
	Credentials
	Prescription   Raw     `json:"prescription"` // prescription.Prescription
	Consent        Consent `json:"consent"`
	IdempotencyKey string  `json:"idempotency_key,omitempty"`
	Source         string  `json:"source"`
	GivenSHA256    string  `json:"given_sha256,omitempty"` // of the PDF given, hexadecimal; with SourceGiven only
	RepeatOnly     bool    `json:"repeat_only,omitempty"`  // answer what was signed before, or NotFound: nothing is signed
}

// Consent is what the clinician confirmed, and when, by the booking app's word.
type Consent struct {
	Text      string    `json:"text"`
	Timestamp time.Time `json:"timestamp"`
}

// SignOpened is an operation that may go on, or the answer that the same content got before: then Done is set, and nothing else.
type SignOpened struct {
	Operation          string      `json:"operation,omitempty"`
	Name               string      `json:"name,omitempty"` // of the clinician, as the certificate has it
	RegisterName       string      `json:"register_name,omitempty"`
	RegistrationNumber string      `json:"registration_number,omitempty"`
	Time               time.Time   `json:"time,omitzero"` // to be claimed as the time of signing
	SignatureSize      int         `json:"signature_size,omitempty"`
	StampSize          int         `json:"stamp_size,omitempty"`
	Policy             SignPolicy  `json:"policy,omitzero"`
	Expires            time.Time   `json:"expires,omitzero"` // of the operation
	Done               *SignResult `json:"done,omitempty"`
}

// SignPolicy is what the clinic's policy says about documents.
type SignPolicy struct {
	GivenPDFAllowed bool `json:"given_pdf_allowed"`
}

// SignDigest asks for the signature over the SHA-256 of a ByteRange.
type SignDigest struct {
	Operation string `json:"operation"`
	Digest    []byte `json:"digest"`
}

// Signature is a CMS with its time stamp, and what validates both; all DER. It is packed, in this order.
type Signature struct {
	CMS   []byte
	Certs [][]byte
	OCSPs [][]byte
	CRLs  [][]byte
}

// StampDigest asks for the document time stamp over the SHA-256 of a ByteRange.
type StampDigest struct {
	Operation string `json:"operation"`
	Digest    []byte `json:"digest"`
}

// Stamped is an RFC 3161 time-stamp token. It is packed.
type Stamped struct{ Token []byte }

// Complete hands in the finished document, which comes as descriptor.
type Complete struct {
	Operation      string   `json:"operation"`
	SignatureRange [4]int64 `json:"signature_range"` // ByteRange of the signature
	StampRange     [4]int64 `json:"stamp_range"`     // ByteRange of the document time stamp
}

// SignResult is what became of a prescription.
type SignResult struct {
	PrescriptionID string    `json:"prescription_id"`
	SHA256         string    `json:"sha256"` // of the signed PDF, hexadecimal
	SignedAt       time.Time `json:"signed_at"`
	Size           int64     `json:"size"`
	EvidenceSHA256 string    `json:"evidence_sha256"` // of the core that was fixed at signing time
	Level          string    `json:"level"`           // LevelToken
	Label          string    `json:"label,omitempty"` // what must be said wherever this signature is shown
	Certificate    string    `json:"certificate_serial"`
	Status         string    `json:"status"` // StatusSigned or StatusCancelled
	Repeated       bool      `json:"repeated,omitempty"`
	Backup         Backup    `json:"backup"` // as it stands now
}

// Levels of activation.
const LevelToken = "token"

// States of a prescription.
const (
	StatusSigned    = "signed"
	StatusCancelled = "cancelled"
)

// Abort gives an operation up.
type Abort struct {
	Operation string `json:"operation"`
	Reason    string `json:"reason"`
}

// PrescriptionRef names a prescription of the caller's clinic.
type PrescriptionRef struct {
	Credentials
	PrescriptionID string `json:"prescription_id"`
}

// DocumentRef names the document of one.
type DocumentRef struct {
	Credentials
	PrescriptionID string `json:"prescription_id"`
	Newest         bool   `json:"newest,omitempty"` // with all renewals, of which what was signed is the beginning
}

// DocumentInfo describes the descriptor that comes with it.
type DocumentInfo struct {
	PrescriptionID string    `json:"prescription_id"`
	FileName       string    `json:"file_name"`
	SHA256         string    `json:"sha256"`
	Size           int64     `json:"size"`
	SignedAt       time.Time `json:"signed_at"`
}

// Evidence is the Evidence Summary.
type Evidence struct {
	Evidence Raw `json:"evidence"`
}

// PrescriptionsRequest asks for a page of the caller's clinic's prescriptions, the newest first.
type PrescriptionsRequest struct {
	Credentials
	Cursor string `json:"cursor,omitempty"` // Next of the page before
	Limit  int    `json:"limit,omitempty"`  // 1 to 100; 0 = 50
}

// PrescriptionPage is one such page.
type PrescriptionPage struct {
	Prescriptions []PrescriptionSummary `json:"prescriptions"`
	Next          string                `json:"next,omitempty"`
}

// PrescriptionSummary is one of a list: nothing in it names the patient.
type PrescriptionSummary struct {
	PrescriptionID string    `json:"prescription_id"`
	ClinicianCN    string    `json:"clinician_cn"`
	MedicationName string    `json:"medication_name"`
	Strength       string    `json:"strength,omitempty"`
	Form           string    `json:"form,omitempty"`
	Quantity       string    `json:"quantity,omitempty"`
	PharmacyODS    string    `json:"pharmacy_ods,omitempty"`
	PharmacyName   string    `json:"pharmacy_name,omitempty"`
	Status         string    `json:"status"`
	SignedAt       time.Time `json:"signed_at"`
	SHA256         string    `json:"sha256"`
	Size           int64     `json:"size"`
	Level          string    `json:"level"`
	Label          string    `json:"label,omitempty"`
	CancelledAt    time.Time `json:"cancelled_at,omitzero"`
	CancelReason   string    `json:"cancel_reason,omitempty"`
	Incomplete     bool      `json:"incomplete,omitempty"` // what is kept of it cannot be read: only what can still be said is here
}

// Cancelled is a prescription that is cancelled.
type Cancelled struct {
	PrescriptionSummary
	Backup Backup `json:"backup"`
}

// CancelRequest records that a prescription is not to be dispensed. Nothing is deleted.
type CancelRequest struct {
	Credentials
	PrescriptionID string `json:"prescription_id"`
	Reason         string `json:"reason"`
}
