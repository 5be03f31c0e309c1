package evidence

import (
	"errors"
	"fmt"
	"time"
)

// Input is what is known when a document has been signed and stamped, before its prescription_signed line. Times are kept to the second or finer
// in UTC; the zero time and the empty string mean "not known", where that is allowed.
type Input struct {
	// Salt is fresh randomness: the core's hash is in the log, and nobody may find out a patient's name by trying names.
	Salt [32]byte

	Prescription Prescription
	Document     Document
	Token        Token
	Request      Request
	Consent      Consent
	Signature    Signature
	Clock        Clock
	Activation   Activation
	Medicine     Medicine

	Lines []Position // that exist already: signature_created, and others that the signing rests on
}

// Prescription names what was prescribed. The document holds the rest.
type Prescription struct {
	ID             string
	Clinic         string // slug
	ClinicianName  string
	PatientName    string
	MedicationName string
	SignedAt       time.Time
	ContentSHA256  string // of the canonical request without its token, hexadecimal: what "same content" means
}

// Medicine is what decided in which schedule of the Misuse of Drugs Regulations the medicine is.
type Medicine struct {
	Schedule   string // "none", "4" or "5": others are not signed
	DMDRelease string // of the extract of dm+d that knows the medicine's code; "" when none does, and its name and the caller's word decided
	DMDSHA256  string // of the dictionary made from it, hexadecimal
}

func (m Medicine) basis() Basis {
	if m.DMDRelease == "" {
		return Asserted
	}
	return Verified
}

// Document is the signed PDF.
type Document struct {
	SHA256 string // of the whole file, hexadecimal
	Size   int64
	Source string // "rendered" by the appliance from the prescription, or "given" by the caller
}

// Token is what the verified bearer token said; the token itself is never kept.
type Token struct {
	Issuer, Sub, Username, Name string
	ACR                         string
	AuthTime                    time.Time // zero: the token has none
	IssuedAt, Expires           time.Time
	JTI, SID, AuthorizedParty   string
	Audience, Roles             []string
	SHA256                      string // of the token, hexadecimal
	Algorithm, Kid              string
	KeyThumbprint               string    // of the realm's key that verified it (RFC 7638)
	KeyFirstSeen                *Position // the line in which that key first appeared
}

// Request is what came with the request. PeerIP, ReceivedAt and RequestID are the portal's observation; the rest is the caller's word.
type Request struct {
	PeerIP, RequestID    string
	ReceivedAt           time.Time
	BrowserIP, UserAgent string
}

// Consent is what the clinician agreed to, as the caller reports it.
type Consent struct {
	Text      string
	Timestamp string // as given
}

// Signature is what was made.
type Signature struct {
	ID                 string // SHA-256 of the signature value, hexadecimal, as in signature_created
	Digest             string // SHA-256 of the signed ByteRange, hexadecimal
	Algorithm          string // in words: "ECDSA P-256 with SHA-256"
	CertificateSerial  string
	CertificateSHA256  string
	CommonName         string
	RegistrationNumber string // of the certificate's subject: "GM:GB-7654321"
	BoundSub           string // the token subject that the certificate was bound to at issuance
	Issuer             string // common name of the issuing CA
	RootSHA256         string // of the root certificate
	Stamps             []Stamp
	Chain              []Certificate // of the signer, the root last
	Revocation         []Revocation  // in the document, made after the signature
}

// Certificate names a certificate.
type Certificate struct {
	Name   string `json:"common_name"`
	Serial string `json:"serial"`
	SHA256 string `json:"sha256"`
}

// Revocation names a statement on the status of certificates.
type Revocation struct {
	Type   string `json:"type"` // "ocsp" or "crl"
	SHA256 string `json:"sha256"`
}

// Stamp is one RFC 3161 time stamp: the signature's, then the document's.
type Stamp struct {
	Time   time.Time `json:"time"`
	Serial string    `json:"serial"`
	Policy string    `json:"policy"`
}

// Clock is the state of the clock when the time stamps were made.
type Clock struct {
	Proven   bool
	MaxError time.Duration
}

// Activation says by what the signature was activated.
type Activation struct {
	Level Level
	Kind  Kind
}

// Position names a line of the log.
type Position struct {
	Seq       uint64    `json:"seq"` // counted from 0
	EventType string    `json:"event_type"`
	Time      time.Time `json:"timestamp"`
	Hash      string    `json:"hash"` // the line's own, hexadecimal
}

// check returns all that is missing or wrong.
func (in *Input) check() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"prescription ID", in.Prescription.ID}, {"clinic", in.Prescription.Clinic}, {"clinician's name", in.Prescription.ClinicianName},
		{"patient's name", in.Prescription.PatientName}, {"medication's name", in.Prescription.MedicationName},
		{"token issuer", in.Token.Issuer}, {"token subject", in.Token.Sub}, {"peer address", in.Request.PeerIP}, {"request ID", in.Request.RequestID},
		{"consent text", in.Consent.Text}, {"consent timestamp", in.Consent.Timestamp},
		{"certificate serial", in.Signature.CertificateSerial}, {"certificate's common name", in.Signature.CommonName},
	} {
		if f.value == "" {
			errs = append(errs, errors.New("there is no "+f.name))
		}
	}
	for _, f := range []struct{ name, value string }{
		{"document SHA-256", in.Document.SHA256}, {"content SHA-256", in.Prescription.ContentSHA256}, {"token SHA-256", in.Token.SHA256},
		{"signature", in.Signature.ID}, {"signed digest", in.Signature.Digest}, {"certificate SHA-256", in.Signature.CertificateSHA256},
		{"root SHA-256", in.Signature.RootSHA256},
	} {
		if !isHash(f.value) {
			errs = append(errs, fmt.Errorf("the %s %q is not 64 lower-case hexadecimal digits", f.name, f.value))
		}
	}
	for _, c := range in.Signature.Chain {
		if !isHash(c.SHA256) {
			errs = append(errs, fmt.Errorf("the SHA-256 of the certificate of %q is %q", c.Name, c.SHA256))
		}
	}
	for _, r := range in.Signature.Revocation {
		if !isHash(r.SHA256) || r.Type != "ocsp" && r.Type != "crl" {
			errs = append(errs, fmt.Errorf("a status is of type %q and SHA-256 %q", r.Type, r.SHA256))
		}
	}
	for _, l := range in.Lines {
		if !isHash(l.Hash) {
			errs = append(errs, fmt.Errorf("the hash of line %d is %q", l.Seq, l.Hash))
		}
	}
	if in.Salt == [32]byte{} {
		errs = append(errs, errors.New("the salt is not random"))
	}
	if s := in.Document.Source; s != "rendered" && s != "given" {
		errs = append(errs, fmt.Errorf("the document's source is %q, neither rendered nor given", s))
	}
	if in.Document.Size <= 0 || in.Prescription.SignedAt.IsZero() || in.Request.ReceivedAt.IsZero() {
		errs = append(errs, errors.New("the document's size, the time of signing or the time of receipt is missing"))
	}
	if l := in.Activation.Level; l != LevelToken && l != LevelPasskey {
		errs = append(errs, fmt.Errorf("the level of activation is %q", l))
	}
	if k := in.Activation.Kind; k != KindClinician && k != KindService {
		errs = append(errs, fmt.Errorf("the kind of credential is %q", k))
	}
	if len(in.Signature.Stamps) == 0 || len(in.Lines) == 0 {
		errs = append(errs, errors.New("time stamps or lines of the log are missing"))
	}
	if len(in.Signature.Chain) == 0 || len(in.Signature.Revocation) == 0 {
		errs = append(errs, errors.New("the certificate's chain or its status is missing"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("evidence: %w", errors.Join(errs...))
	}
	return nil
}
