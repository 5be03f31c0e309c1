package ca

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

const (
	foldName    = "ca/2"
	bucketEntry = foldName + "/entry" // serial -> entry
	bucketDER   = foldName + "/der"   // serial -> certificate
	bucketKey   = foldName + "/key"   // label -> keyState
	bucketCRL   = foldName + "/crl"   // serial of the issuing CA -> crlDetails of the newest
	bucketRoot  = foldName + "/root"  // "crl" -> the root's newest CRL
)

// Fold returns what derives this package's state from the log; ledger.Open wants it before Open can be called.
func Fold() ledger.Fold { return fold{} }

type fold struct{}

// keyState is how far a key of the token is in its life.
type keyState struct {
	keyDetails
	State string    `json:"state"` // the type of the last event about it
	At    time.Time `json:"at"`
}

func (fold) Name() string { return foldName }

// Apply implements ledger.Fold.
func (f fold) Apply(tx *index.Tx, r ledger.Record) error {
	var err error
	switch r.Type {
	case eventKeyIntended, eventKeyCreated, eventKeyUnfinished, eventKeyDestroyed:
		err = f.key(tx, r)
	case eventCeremony:
		err = f.ceremony(tx, r)
	case eventIssued:
		var d issuedDetails
		if err = json.Unmarshal(r.Details, &d); err == nil {
			err = f.issued(tx, r, d)
		}
	case eventBound:
		err = f.bound(tx, r)
	case eventRevoked:
		err = f.revoked(tx, r)
	case eventCRL:
		var d crlDetails
		if err = json.Unmarshal(r.Details, &d); err == nil {
			err = tx.Bucket(bucketCRL).Put([]byte(d.Issuer), r.Details)
		}
	}
	if err != nil {
		return fmt.Errorf("ca: line %d, %s: %w", r.Seq, r.Type, err)
	}
	return nil
}

func (fold) key(tx *index.Tx, r ledger.Record) error {
	k := keyState{State: r.Type, At: r.Time}
	if err := json.Unmarshal(r.Details, &k.keyDetails); err != nil {
		return err
	}
	return putJSON(tx.Bucket(bucketKey), k.Label, k)
}

func (f fold) ceremony(tx *index.Tx, r ledger.Record) error {
	var d ceremonyDetails
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	for _, c := range d.Certificates {
		if err := f.issued(tx, r, c); err != nil {
			return err
		}
	}
	for _, gone := range d.Revoked {
		err := change(tx, gone.Serial, func(e *entry) {
			if e.RevokedAt == nil {
				e.RevokedAt, e.Reason = &gone.At, gone.Reason
			}
		})
		if err != nil {
			return err
		}
	}
	return tx.Bucket(bucketRoot).Put([]byte("crl"), d.CRL)
}

func (fold) issued(tx *index.Tx, r ledger.Record, d issuedDetails) error {
	at := r.Time
	d.Seq, d.IssuedAt = r.Seq, &at
	if err := putJSON(tx.Bucket(bucketEntry), d.Serial, d.entry); err != nil {
		return err
	}
	if err := tx.Bucket(bucketDER).Put([]byte(d.Serial), d.Certificate); err != nil {
		return err
	}
	if d.Renews == "" {
		return nil
	}
	return change(tx, d.Renews, func(e *entry) { e.RenewedBy = d.Serial })
}

// bound keeps the first binding: there is never a second.
func (fold) bound(tx *index.Tx, r ledger.Record) error {
	var d boundDetails
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	return change(tx, d.Serial, func(e *entry) {
		if e.Sub == "" {
			e.Sub = d.Sub
		}
	})
}

// revoked takes the time from the line, which nobody chose.
func (fold) revoked(tx *index.Tx, r ledger.Record) error {
	var d revokedDetails
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	at := r.Time.Truncate(time.Second)
	return change(tx, d.Serial, func(e *entry) {
		if e.RevokedAt == nil {
			e.RevokedAt, e.Reason, e.Invalidity = &at, d.Reason, d.Invalidity
		}
	})
}

// change rewrites one entry. An entry that is not there stays so: a line cannot be refused any more.
func change(tx *index.Tx, serial string, f func(*entry)) error {
	b := tx.Bucket(bucketEntry)
	raw := b.Get([]byte(serial))
	if raw == nil {
		return nil
	}
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return err
	}
	f(&e)
	return putJSON(b, serial, e)
}

func putJSON(b *index.Bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), raw)
}
