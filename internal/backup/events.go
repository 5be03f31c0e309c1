// Package backup knows which backup host holds a copy of the log, by what the log says, and decides what may leave before that host has cosigned it.
//
// It speaks no protocol of its own: package replica ships the log, and whoever faces the network makes its connections (see Dials).
package backup

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Types of the events that this package writes; docs/audit-log.md lists all.
const (
	eventOffered      = "backup_offered"        // a join code was given out
	eventEnrolled     = "backup_enrolled"       // this backup host and no other, from here on
	eventSynchronised = "backup_synchronised"   // it held everything: from here on answers wait for it
	eventDisabled     = "backup_disabled"       // none any more, by decision of the operator
	eventMismatch     = "backup_mismatch_found" // the log is not what the backup cosigned: nothing is signed
	eventTokenBackup  = "token_backed_up"       // the token as it was after a line
	eventRestored     = "appliance_restored"    // the log goes on from what the backup had cosigned
	eventDrilled      = "backup_drilled"        // what the backup holds was fetched, verified and opened as a restore would
	eventCopied       = "backup_copy_verified"  // all that the backup holds was fetched over the replication's own connection and verified; nothing was opened
	eventKeyCreated   = "key_created"           // package ca's: the token's objects changed
	eventKeyDestroyed = "key_destroyed"         // likewise
	eventPINChanged   = "token_pin_changed"     // package signer's: the token opens by another PIN
)

// Restored is the details of eventRestored. What it says of the past is what the operator must know: nothing after those lines is there, and nothing was made up.
type Restored struct {
	From       string    `json:"from"` // host or folder
	Lines      uint64    `json:"cosigned_lines"`
	Root       string    `json:"cosigned_root"` // hexadecimal
	At         time.Time `json:"cosigned_at"`
	Object     string    `json:"token_backup_object"`
	TokenLines uint64    `json:"token_lines"` // of the log when the token was backed up
	Lost       string    `json:"lost"`        // what this state lacks
}

// Drilled is the details of eventDrilled.
type Drilled struct {
	From       string    `json:"from"`
	Lines      uint64    `json:"cosigned_lines"`
	Root       string    `json:"cosigned_root"`
	At         time.Time `json:"cosigned_at"`
	Objects    int       `json:"objects"`
	TokenLines uint64    `json:"token_lines"`
}

// Copied is the details of eventCopied.
type Copied struct {
	From    string    `json:"from"`
	Lines   uint64    `json:"cosigned_lines"`
	Root    string    `json:"cosigned_root"`
	At      time.Time `json:"cosigned_at"`
	Objects int       `json:"objects"`
}

// offered is the details of eventOffered.
type offered struct {
	Address string    `json:"address"`
	Expires time.Time `json:"expires"`
}

// enrolled is the details of eventEnrolled.
type enrolled struct {
	Address  string `json:"address"`
	Receiver string `json:"receiver_key"` // shown in TLS, as package replica writes it
	Cosigner string `json:"cosigner_key"` // verifier key
	Primary  string `json:"primary_key"`  // by which it knows this appliance
	Replaces string `json:"replaces,omitempty"`
}

// synchronised is the details of eventSynchronised.
type synchronised struct {
	Address string `json:"address"`
	Lines   uint64 `json:"cosigned_lines"`
}

// disabled is the details of eventDisabled.
type disabled struct {
	Address string `json:"address"`
	Reason  string `json:"reason"`
	Lines   uint64 `json:"cosigned_lines"` // the last that is known to be there
}

// mismatch is the details of eventMismatch.
type mismatch struct {
	Address string `json:"address"`
	Found   string `json:"found"`
}

// tokenBackup is the details of eventTokenBackup.
type tokenBackup struct {
	Object     string   `json:"backup_object"` // for age recipients, not sealed by the token: without it nothing else opens
	Recipients []string `json:"recipients"`
	Lines      uint64   `json:"lines"` // of the log when it was made
	Folder     bool     `json:"folder,omitempty"`
}

// Peer is a backup host.
type Peer struct {
	Address  string `json:"address"`
	Receiver string `json:"receiver_key"`
	Cosigner string `json:"cosigner_key"`
	Primary  string `json:"primary_key"`

	EnrolledAt   time.Time `json:"enrolled_at"`
	Synchronised bool      `json:"synchronised"` // it held everything once
	Disabled     time.Time `json:"disabled_at,omitzero"`
	Reason       string    `json:"disabled_reason,omitempty"`
}

// tokenState is what is known of the token's backups.
type tokenState struct {
	Changed uint64    `json:"changed"` // lines of the log after its last change
	Backed  uint64    `json:"backed"`  // lines of the log when the last backup was made
	Object  string    `json:"object"`
	At      time.Time `json:"at,omitzero"` // of the last backup
}

// Drill is the last restore drill, or verification of the copy.
type Drill struct {
	At    time.Time `json:"at,omitzero"` // zero: none was held
	From  string    `json:"from"`
	Lines uint64    `json:"cosigned_lines"`
}

const (
	foldName    = "backup/3"
	bucketState = foldName + "/state" // "peer" -> Peer, "token" -> tokenState, "drill" and "copy" -> Drill
)

var (
	keyPeer  = []byte("peer")
	keyToken = []byte("token")
	keyDrill = []byte("drill")
	keyCopy  = []byte("copy")
)

// Fold keeps the backup host and the state of the token's backups.
func Fold() ledger.Fold { return fold{} }

type fold struct{}

func (fold) Name() string { return foldName }

// Apply implements ledger.Fold.
func (fold) Apply(tx *index.Tx, r ledger.Record) error {
	var err error
	switch r.Type {
	case eventEnrolled, eventSynchronised, eventDisabled:
		err = change(tx, keyPeer, func(p *Peer) error { return p.apply(r) })
	case eventKeyCreated, eventKeyDestroyed, eventPINChanged:
		err = change(tx, keyToken, func(t *tokenState) error { t.Changed = r.Seq + 1; return nil })
	case eventTokenBackup:
		err = change(tx, keyToken, func(t *tokenState) error {
			var d tokenBackup
			if err := json.Unmarshal(r.Details, &d); err != nil {
				return err
			}
			t.Backed, t.Object, t.At = d.Lines, d.Object, r.Time
			return nil
		})
	case eventDrilled:
		err = change(tx, keyDrill, func(last *Drill) error {
			var d Drilled
			if err := json.Unmarshal(r.Details, &d); err != nil {
				return err
			}
			*last = Drill{At: r.Time, From: d.From, Lines: d.Lines}
			return nil
		})
	case eventCopied:
		err = change(tx, keyCopy, func(last *Drill) error {
			var d Copied
			if err := json.Unmarshal(r.Details, &d); err != nil {
				return err
			}
			*last = Drill{At: r.Time, From: d.From, Lines: d.Lines}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("line %d, %s: %w", r.Seq, r.Type, err)
	}
	return nil
}

// apply moves p over a line.
func (p *Peer) apply(r ledger.Record) error {
	switch r.Type {
	case eventEnrolled:
		var d enrolled
		if err := json.Unmarshal(r.Details, &d); err != nil {
			return err
		}
		// The same host with other keys: it holds what it held.
		held := p.Synchronised && p.Disabled.IsZero() && p.Cosigner == d.Cosigner
		*p = Peer{Address: d.Address, Receiver: d.Receiver, Cosigner: d.Cosigner, Primary: d.Primary, EnrolledAt: r.Time, Synchronised: held}
	case eventSynchronised:
		p.Synchronised = true
	case eventDisabled:
		var d disabled
		if err := json.Unmarshal(r.Details, &d); err != nil {
			return err
		}
		p.Disabled, p.Reason = r.Time, d.Reason
	}
	return nil
}

// change reads, changes and writes one value of the state.
func change[T any](tx *index.Tx, key []byte, f func(*T) error) error {
	b := tx.Bucket(bucketState)
	var v T
	if raw := b.Get(key); raw != nil {
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
	}
	if err := f(&v); err != nil {
		return err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

// load reads one value of the state; the zero value when there is none.
func load[T any](l Ledger, key []byte) (v T, err error) {
	err = l.View(func(tx *index.Tx) error {
		if raw := tx.Bucket(bucketState).Get(key); raw != nil {
			return json.Unmarshal(raw, &v)
		}
		return nil
	})
	return v, err
}
