package ca

import (
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

// Types of the events that this package writes; docs/audit-log.md lists all.
const (
	eventKeyIntended   = "key_intended"          // a key of the token is about to be made
	eventKeyCreated    = "key_created"           // it exists and signs
	eventKeyUnfinished = "key_unfinished"        // a crash left it without a use: it is not used, and destroyed after sweepGrace
	eventKeyDestroyed  = "key_destroyed"         // it is about to be destroyed: superseded, or never finished
	eventCeremony      = "ceremony_completed"    // the root's certificate, the CAs' certificates, the root's CRL
	eventIssued        = "certificate_issued"    // the certificate itself is in the line
	eventBound         = "certificate_bound"     // a clinician's certificate means this person from now on
	eventRevoked       = "certificate_revoked"   // as of the line's own time
	eventCRL           = "crl_issued"            // the CRL is in an object
	eventAnswers       = "ocsp_answers_produced" // so many public answers since the last such line
)

// keyDetails names a key of the token.
type keyDetails struct {
	Label     string `json:"label"`
	ID        string `json:"key_id"` // CKA_ID, hexadecimal
	Purpose   string `json:"purpose"`
	Algorithm string `json:"algorithm"`
	Public    []byte `json:"public_key,omitempty"` // SubjectPublicKeyInfo; key_created only
	Reason    string `json:"reason,omitempty"`     // key_unfinished and key_destroyed only
}

// ceremonyDetails is what a ceremony brought: one line, so that a crash leaves all of it or nothing.
type ceremonyDetails struct {
	Certificates []issuedDetails   `json:"certificates"` // the root at the first ceremony, and each new CA
	CRL          []byte            `json:"root_crl"`
	Number       string            `json:"root_crl_number"`
	ThisUpdate   time.Time         `json:"this_update"`
	NextUpdate   time.Time         `json:"next_update"`
	Revoked      []ceremonyRevoked `json:"revoked,omitempty"` // CA certificates that the root's CRL lists
}

type ceremonyRevoked struct {
	Serial string    `json:"serial"`
	At     time.Time `json:"revoked_at"`
	Reason string    `json:"reason"`
}

// issuedDetails is one new certificate.
type issuedDetails struct {
	entry
	Certificate []byte `json:"certificate"`
}

// boundDetails is whom a clinician's certificate is bound to.
type boundDetails struct {
	Serial string `json:"serial"`
	Clinic string `json:"clinic"`
	Sub    string `json:"sub"`
}

// revokedDetails is the end of one certificate.
type revokedDetails struct {
	Serial     string     `json:"serial"`
	Reason     string     `json:"reason"`
	Invalidity *time.Time `json:"invalidity_date,omitempty"`
}

// crlDetails is a new CRL of an issuing CA.
type crlDetails struct {
	Issuer     string    `json:"issuer"` // the CA's serial
	Number     uint64    `json:"crl_number"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Entries    int       `json:"entries"`
	SHA256     string    `json:"sha256"`
	Object     string    `json:"object"`
}

// entry is what is known of one certificate without its bytes. In the index it also holds what later events said of it.
type entry struct {
	Serial     string         `json:"serial"` // 32 hexadecimal digits
	Kind       cert.Kind      `json:"kind"`
	Issuer     string         `json:"issuer"` // the issuing CA's serial; the root's own for the root
	Clinic     string         `json:"clinic,omitempty"`
	Subject    cert.Subject   `json:"subject"`
	Sub        string         `json:"sub,omitempty"`
	Algorithm  cert.Algorithm `json:"algorithm"`
	NotBefore  time.Time      `json:"not_before"`
	NotAfter   time.Time      `json:"not_after"`
	KeyLabel   string         `json:"key_label,omitempty"`  // of a key in the token
	KeyObject  string         `json:"key_object,omitempty"` // of a wrapped key
	Renews     string         `json:"renews,omitempty"`     // serial of the certificate that this one succeeds
	Seq        uint64         `json:"line,omitempty"`       // of its issuance; index only, as all below
	IssuedAt   *time.Time     `json:"issued_at,omitempty"`
	RenewedBy  string         `json:"renewed_by,omitempty"`
	RevokedAt  *time.Time     `json:"revoked_at,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Invalidity *time.Time     `json:"invalidity_date,omitempty"`
}
