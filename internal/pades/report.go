package pades

import (
	"slices"
	"strings"
	"time"
)

// Indication is the main result for one signature or time stamp (ETSI EN 319 102-1 §5.1.3, table 5).
type Indication string

const (
	TotalPassed   Indication = "TOTAL_PASSED"  // every check was made and passed
	TotalFailed   Indication = "TOTAL_FAILED"  // wrong, and no further information could change that
	Indeterminate Indication = "INDETERMINATE" // what is at hand does not suffice to say either
)

// SubIndication says why an Indication is not TOTAL_PASSED (EN 319 102-1 §5.1.3, table 6). It is empty when it is.
type SubIndication string

const (
	// With TOTAL_FAILED.
	FormatFailure    SubIndication = "FORMAT_FAILURE"     // not a signature as ISO 32000-2 §12.8 has it, or the document was modified after signing
	HashFailure      SubIndication = "HASH_FAILURE"       // the signed bytes are others
	SigCryptoFailure SubIndication = "SIG_CRYPTO_FAILURE" // the signature value does not verify
	NotYetValid      SubIndication = "NOT_YET_VALID"      // proven to exist before its certificate was valid

	// With INDETERMINATE.
	SigConstraintsFailure     SubIndication = "SIG_CONSTRAINTS_FAILURE"           // a form of signature that is not judged here
	ChainConstraintsFailure   SubIndication = "CHAIN_CONSTRAINTS_FAILURE"         // a certificate may not be used for this
	ChainGeneralFailure       SubIndication = "CERTIFICATE_CHAIN_GENERAL_FAILURE" // a path was found but is not sound
	CryptoConstraintsFailure  SubIndication = "CRYPTO_CONSTRAINTS_FAILURE_NO_POE" // an algorithm or key that is no longer trusted
	NoSigningCertificateFound SubIndication = "NO_SIGNING_CERTIFICATE_FOUND"      // the signer's certificate is missing, or not the one that was signed
	NoCertificateChainFound   SubIndication = "NO_CERTIFICATE_CHAIN_FOUND"        // no path to a trust anchor
	RevokedNoPOE              SubIndication = "REVOKED_NO_POE"                    // revoked, and not proven to be older than that
	RevokedCANoPOE            SubIndication = "REVOKED_CA_NO_POE"                 // the same for a CA's certificate
	OutOfBoundsNoPOE          SubIndication = "OUT_OF_BOUNDS_NO_POE"              // a certificate has expired, and nothing proves that the signature is older
	TimestampOrderFailure     SubIndication = "TIMESTAMP_ORDER_FAILURE"           // the proven times contradict each other
	TryLater                  SubIndication = "TRY_LATER"                         // no usable revocation status of a certificate
)

// Level is the PAdES baseline level that the form and the material of a signature reach (EN 319 142-1 §6), passed or not.
type Level string

const (
	LevelNone Level = "none" // not a PAdES baseline signature: a plain PKCS #7 one, for example; or a time stamp
	LevelB    Level = "B-B"
	LevelT    Level = "B-T"
	LevelLT   Level = "B-LT"
	LevelLTA  Level = "B-LTA"
)

// Kind says what a signature dictionary is.
type Kind string

const (
	KindSignature     Kind = "signature"           // approval signature
	KindCertification Kind = "certification"       // the author's signature, with DocMDP permissions
	KindTimeStamp     Kind = "document_time_stamp" // RFC 3161 token over the document
)

// Verdict is the answer for the whole file.
type Verdict string

const (
	Valid         Verdict = "valid"           // every signature TOTAL_PASSED, no document time stamp TOTAL_FAILED
	Invalid       Verdict = "invalid"         // one is TOTAL_FAILED, or its certificate was revoked before the proven time
	CouldNotJudge Verdict = "could_not_judge" // a signature is INDETERMINATE for another reason: no trust anchor, expired, status unknown
	NoSignature   Verdict = "no_signature"    // nobody signed; document time stamps alone are no signature
)

// Report is the result of validating one file. Its JSON form is stable: fields may be added, none changes its name or meaning. Times
// are UTC.
type Report struct {
	Verdict     Verdict           `json:"verdict"`
	ExitCode    int               `json:"exit_code"`          // 0 good, 1 bad, 2 could not judge
	Summary     string            `json:"summary"`            // one sentence
	ValidatedAt time.Time         `json:"validated_at"`       // the time the file was judged at, as given
	Size        int64             `json:"size"`               // of the file, bytes
	SHA256      string            `json:"sha256"`             // of the file, hexadecimal
	Revisions   int               `json:"revisions"`          // of the document: 1 + incremental updates
	Signatures  []SignatureReport `json:"signatures"`         // and document time stamps, oldest first
	Warnings    []string          `json:"warnings,omitempty"` // of the whole file; they do not change the verdict

	demo bool // something in it is a demo's: the summary says so
}

// SignatureReport is the result for one signature or document time stamp.
type SignatureReport struct {
	Field         string        `json:"field"` // fully qualified name
	Kind          Kind          `json:"kind"`
	Format        string        `json:"format"` // SubFilter: ETSI.CAdES.detached, adbe.pkcs7.detached, ETSI.RFC3161
	Indication    Indication    `json:"indication"`
	SubIndication SubIndication `json:"sub_indication,omitempty"`
	Reasons       []string      `json:"reasons,omitempty"`     // why it did not pass, in words, most important first
	Warnings      []string      `json:"warnings,omitempty"`    // do not change the indication
	Level         Level         `json:"level"`                 // for a document time stamp: none
	LevelNotes    []string      `json:"level_notes,omitempty"` // why it is not the next higher level

	Signer      *Signer    `json:"signer,omitempty"`       // whose certificate signed; absent when it is not known
	ClaimedTime *time.Time `json:"claimed_time,omitempty"` // M, the signer's word; for a document time stamp, the token's genTime
	ProvenTime  *time.Time `json:"proven_time,omitempty"`  // the signature existed then; absent when nothing but this validation proves it
	ProvenBy    string     `json:"proven_by,omitempty"`    // by what, in words
	Reason      string     `json:"reason,omitempty"`       // the signer's word
	Location    string     `json:"location,omitempty"`     // the signer's word

	ByteRange           []int64  `json:"byte_range"`
	Revision            int      `json:"revision"`              // the revision that it covers, from 1; 0 = none
	CoversWholeDocument bool     `json:"covers_whole_document"` // nothing but its own Contents is outside the ByteRange
	Modified            bool     `json:"modified_after_signing"`
	Changes             []Change `json:"changes,omitempty"` // by later revisions, oldest first
	DocMDP              int      `json:"docmdp,omitempty"`  // permissions of a certification signature, 1..3

	TimeStamps   []TimeStampReport   `json:"time_stamps,omitempty"`  // signature time stamps; for a document time stamp, itself
	Certificates []CertificateReport `json:"certificates,omitempty"` // the path, signer first, trust anchor last
}

// Signer is who a certificate says its holder is.
type Signer struct {
	Name               string    `json:"name"`                          // common name
	RegistrationNumber string    `json:"registration_number,omitempty"` // subject serialNumber, EN 319 412-1 §5.1.3 semantics kept: "GM:GB-1234567"
	Organisation       string    `json:"organisation,omitempty"`
	Country            string    `json:"country,omitempty"`
	Issuer             string    `json:"issuer"`
	Serial             string    `json:"serial"` // of the certificate, hexadecimal, 32 digits
	NotBefore          time.Time `json:"not_before"`
	NotAfter           time.Time `json:"not_after"`
}

// Change is one thing that a later revision did.
type Change struct {
	Revision int    `json:"revision"` // that made it, from 1
	Kind     string `json:"kind"`     // one of the Change… constants
	Text     string `json:"text"`
	Allowed  bool   `json:"allowed"` // after this signature

	tail bool // bytes after the end, of no revision: added ones, or what is left of one that was cut off
}

// What a later revision can do.
const (
	ChangeValidationData = "validation_data"     // DSS, VRI, Extensions
	ChangeTimeStamp      = "document_time_stamp" // a document time stamp and its invisible field
	ChangeSignature      = "signature"           // a further signature, in a new or an empty field
	ChangeFormFilled     = "form_filled"         // value of a form field
	ChangeForm           = "form"                // resources that new fields need
	ChangeMetadata       = "metadata"            // modification date, producer, XMP
	ChangeContent        = "content"             // anything else: never allowed
)

// TimeStampReport is the result for one RFC 3161 token.
type TimeStampReport struct {
	Time          time.Time           `json:"time"`
	Accuracy      string              `json:"accuracy,omitempty"` // a duration: "1s"
	Policy        string              `json:"policy"`             // object identifier
	Serial        string              `json:"serial"`             // of the token, hexadecimal
	Authority     *Signer             `json:"authority,omitempty"`
	Indication    Indication          `json:"indication"`
	SubIndication SubIndication       `json:"sub_indication,omitempty"`
	Reasons       []string            `json:"reasons,omitempty"`
	ProvenAt      time.Time           `json:"proven_at"` // judged at: the oldest time at which this token is known to have existed
	Certificates  []CertificateReport `json:"certificates,omitempty"`
}

// CertificateReport is one certificate of a path.
type CertificateReport struct {
	Subject   string            `json:"subject"` // RFC 4514
	Serial    string            `json:"serial"`  // hexadecimal, 32 digits
	SHA256    string            `json:"sha256"`  // of the certificate, hexadecimal
	NotBefore time.Time         `json:"not_before"`
	NotAfter  time.Time         `json:"not_after"`
	Anchor    bool              `json:"trust_anchor,omitempty"`
	Status    *RevocationReport `json:"revocation,omitempty"` // absent for the trust anchor, and where none is usable
}

// RevocationReport is the revocation status that was used.
type RevocationReport struct {
	Source     string     `json:"source"` // "OCSP" or "CRL"
	Status     string     `json:"status"` // "good" or "revoked"
	ThisUpdate time.Time  `json:"this_update"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
	Signer     string     `json:"signer"` // subject of who signed it
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	Reason     string     `json:"reason,omitempty"`
}

// Good reports whether the verdict is Valid: exit code 0.
func (r *Report) Good() bool { return r.Verdict == Valid }

// finish draws the verdict for the file from those of its signatures.
//
// Exit codes: TOTAL_FAILED anywhere is bad (1), and so is a certificate that was revoked before the proven time: someone withdrew it on
// purpose. Any other INDETERMINATE signature cannot be judged (2): an unknown issuer, a file whose proofs have run out, a missing status.
// A document time stamp whose authority is not trusted, or whose certificate has expired, proves nothing and harms nothing; what rested on
// it says so itself. One that seems to be damaged leaves the file unjudged.
func (r *Report) finish() {
	r.Verdict = NoSignature
	for i := range r.Signatures {
		r.Verdict = worse(r.Verdict, r.Signatures[i].verdict())
	}
	switch r.Verdict {
	case Valid:
		r.ExitCode = 0
	case Invalid:
		r.ExitCode = 1
	default:
		r.ExitCode = 2
	}
	r.Summary = r.summary()
	if r.demo {
		r.Summary = strings.TrimSuffix(r.Summary, ".") + " (DEMO)."
	}
}

// damaged are the sub-indications of a time stamp that is not what its authority made; the others speak of trust and time.
var damaged = []SubIndication{SigConstraintsFailure, NoSigningCertificateFound, TimestampOrderFailure}

// verdict returns what s alone makes of the file.
func (s *SignatureReport) verdict() Verdict {
	switch {
	case s.Indication == TotalFailed:
		return Invalid
	case s.Kind == KindTimeStamp && s.Indication == Indeterminate && slices.Contains(damaged, s.SubIndication):
		return CouldNotJudge
	case s.Kind == KindTimeStamp:
		return NoSignature
	case s.Indication == TotalPassed:
		return Valid
	case s.SubIndication == RevokedNoPOE || s.SubIndication == RevokedCANoPOE:
		return Invalid
	}
	return CouldNotJudge
}

// worse returns the one of two verdicts that decides: Invalid before CouldNotJudge before Valid before NoSignature.
func worse(a, b Verdict) Verdict {
	for _, v := range []Verdict{Invalid, CouldNotJudge, Valid} {
		if a == v || b == v {
			return v
		}
	}
	return NoSignature
}
