package wire

import "time"

// Operations of the admin socket by which an appliance is examined.
const (
	OpExamine     Op = "examine"      // Nothing -> Examined
	OpAuditReport Op = "audit_report" // AuditReport -> AuditSigned
)

// Examined is what only the signer can see of itself.
type Examined struct {
	Keys          []KeyExamined  `json:"keys"`        // those of the token that the log says are in use
	Authorities   []Authority    `json:"authorities"` // the root first
	Own           []Certificate  `json:"own"`         // certificates that the appliance renews itself, as far as they are in use
	Overdue       []Certificate  `json:"overdue"`     // of those, what should have been renewed already
	RootListEnds  time.Time      `json:"root_crl_next_update,omitzero"`
	RootListStops time.Time      `json:"root_crl_signing_stops,omitzero"` // nothing is signed from then on
	Warnings      []string       `json:"warnings"`                        // what only a ceremony mends, in words
	TokenBackup   TokenBackupAge `json:"token_backup"`
	Drill         DrillHeld      `json:"drill"`
	Copy          DrillHeld      `json:"copy"` // the last verification of the backup's copy
}

// KeyExamined is a key that was looked for in the token and made to sign.
type KeyExamined struct {
	Label     string `json:"label"`
	Purpose   string `json:"purpose"`
	Algorithm string `json:"algorithm"`
	Trouble   string `json:"trouble,omitempty"` // "" = it works
}

// Authority is a CA, with what a relying party needs to judge what it publishes.
type Authority struct {
	Kind     string    `json:"kind"`
	Serial   string    `json:"serial"`
	Name     string    `json:"common_name"`
	DER      []byte    `json:"certificate"`
	NotAfter time.Time `json:"not_after"`
	Revoked  bool      `json:"revoked"`
	Due      bool      `json:"successor_due"`    // only a ceremony renews it
	File     string    `json:"file"`             // name of its certificate and list, without suffix, below base_url's /ca and /crl
	Sample   []byte    `json:"sample,omitempty"` // DER of the newest certificate that it issued and that lives: to ask the status of
	Newest   bool      `json:"newest"`           // of its kind: the one that issues
}

// TokenBackupAge is how old the token's backup is.
type TokenBackupAge struct {
	At         time.Time `json:"at,omitzero"` // zero: there is none
	Recipients int       `json:"recipients"`  // that the configuration names
	Due        bool      `json:"due"`         // the token has changed since
}

// DrillHeld is the last restore drill.
type DrillHeld struct {
	At    time.Time `json:"at,omitzero"` // zero: none was held
	From  string    `json:"from,omitempty"`
	Lines uint64    `json:"cosigned_lines,omitempty"`
}

// AuditReport is what an examination came to, to be signed together with what the signer knows itself.
type AuditReport struct {
	Examined Raw `json:"examined"` // a JSON object of package doctor's, at most MaxAuditReport bytes
}

// MaxAuditReport bounds what is signed, in bytes.
const MaxAuditReport = 1 << 20

// AuditSchema names the form of a signed report.
const AuditSchema = "aes-audit/1"

// Attested is a signed report: what the signer says of itself, and what was examined by the program that asked. The signature covers both, and says of the second
// only that it was handed to this appliance at that time by its operator.
type Attested struct {
	Schema   string    `json:"schema"`
	At       time.Time `json:"at"` // the signer's time
	Proven   bool      `json:"time_proven"`
	Signer   Status    `json:"signer"`
	Examined Raw       `json:"examined"`
}

// AuditSigned is the signed report. All but Report is DER.
type AuditSigned struct {
	Report    []byte   `json:"report"`     // Attested as JSON: the bytes that are signed
	Signature []byte   `json:"signature"`  // CMS SignedData, detached
	TimeStamp []byte   `json:"time_stamp"` // TimeStampResp over the report
	Chain     [][]byte `json:"chain"`      // the signing certificate, its CA, the root
}
