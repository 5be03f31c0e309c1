package wire

import "time"

// OpExamine is the operation of the admin socket by which an appliance is examined: Nothing -> Examined.
const OpExamine Op = "examine"

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
