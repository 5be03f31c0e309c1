package wire

import "time"

// Backup says how the log, or the line that an answer rests on, stands to the backup host; field by field backup.Statement.
type Backup struct {
	State    string    `json:"state"`                 // none, disabled, catching-up, comparing, mismatch, sync, async
	Cosigned bool      `json:"cosigned"`              // the backup has cosigned the line that this answer rests on; of a status: the whole log
	Lines    uint64    `json:"cosigned_lines"`        // of the log that it has cosigned in all
	At       time.Time `json:"cosigned_at,omitzero"`  // when, by its clock
	By       string    `json:"cosigned_by,omitempty"` // verifier key of the cosignature
}

// Wanted is a connection that the signer wants: nothing else is to be dialled for it. ID 0: nothing is wanted, ask again.
type Wanted struct {
	ID      uint64 `json:"id"`
	Address string `json:"address,omitempty"` // host:port, TCP
}

// Dialled hands in a wanted connection, or says why there is none.
type Dialled struct {
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"` // when no descriptor comes with it
}

// BackupEnrol asks for a join code for the backup host at an address.
type BackupEnrol struct {
	Address string `json:"address"` // host or host:port
	Replace bool   `json:"replace"` // it takes the place of the one that is enrolled
}

// BackupOffer is a join code: whoever has it can be the backup host, until it expires or was used.
type BackupOffer struct {
	Code    string    `json:"code"`
	Address string    `json:"address"`
	Expires time.Time `json:"expires"`
}

// BackupGiveUp gives the enrolled backup host up.
type BackupGiveUp struct {
	Reason string `json:"reason"`
}

// BackupStatus is all that an operator is told about the backup.
type BackupStatus struct {
	Backup
	LogLines   uint64    `json:"log_lines"`
	Lag        int64     `json:"lag_ms"` // age of the oldest line that is not cosigned
	Address    string    `json:"address,omitempty"`
	Receiver   string    `json:"receiver_key,omitempty"`
	Primary    string    `json:"primary_key,omitempty"`
	EnrolledAt time.Time `json:"enrolled_at,omitzero"`
	Connected  bool      `json:"connected"`
	Trouble    string    `json:"trouble,omitempty"`
	Mismatch   string    `json:"mismatch,omitempty"`
	DisabledAt time.Time `json:"disabled_at,omitzero"`
	Reason     string    `json:"disabled_reason,omitempty"`
	Offered    string    `json:"offered_to,omitempty"` // a join code is out for this address
	OfferEnds  time.Time `json:"offer_expires,omitzero"`
	OfferError string    `json:"offer_trouble,omitempty"`
	Signing    string    `json:"signing_refused,omitempty"` // why nothing is signed now; "" = that is not for the backup's sake
	Token      string    `json:"token_backup,omitempty"`    // object of the token's last backup
	TokenDue   bool      `json:"token_backup_due"`          // the token has changed since
}

// TokenBackup is a backup of the token.
type TokenBackup struct {
	Object     string   `json:"object"`
	File       string   `json:"file,omitempty"` // that it was also written to
	Recipients []string `json:"recipients"`
}

// BackupCopy is what a verification of the backup's copy came to.
type BackupCopy struct {
	Running bool      `json:"running"` // it goes on: ask again
	From    string    `json:"from,omitempty"`
	Lines   uint64    `json:"cosigned_lines,omitempty"`
	At      time.Time `json:"cosigned_at,omitzero"`
	Objects int       `json:"objects,omitempty"`
	Drilled time.Time `json:"drilled_at,omitzero"` // the last drill of a person's; zero: none was held
}

// BackupDrill is what a restore drill found, field by field backup.Drilled.
type BackupDrill struct {
	From       string    `json:"from"`
	Lines      uint64    `json:"cosigned_lines"`
	Root       string    `json:"cosigned_root"`
	At         time.Time `json:"cosigned_at"`
	Objects    int       `json:"objects"`
	TokenLines uint64    `json:"token_lines"`
}
