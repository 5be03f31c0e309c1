package activation

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Types of the events that this package writes; docs/audit-log.md lists all.
const (
	eventClinicAdded   = "clinic_added"
	eventPolicyChanged = "clinic_policy_changed"
	eventRealmAdded    = "realm_added"
	eventRealmRemoved  = "realm_removed"
	eventKeyFirstSeen  = "realm_key_first_seen"   // a key that this realm has not published before
	eventKeysChanged   = "realm_keys_changed"     // the whole set that tokens are verified with from this line on
	eventKeysConfirmed = "realm_keys_confirmed"   // fetched again, and the same; not more often than Timing.Confirm
	eventKeysRefused   = "realm_keys_refused"     // what was offered as a realm's keys was not taken
	eventTokenRefused  = "authentication_refused" // a token that was not believed
	eventRefused       = "authorisation_refused"  // someone known may not do what was asked for
	eventSigned        = "signature_created"      // the signer's: what was signed on a token counts against its caps
)

type policyDetails struct {
	Clinic string `json:"clinic"`
	Policy Policy `json:"policy"`
}

type realmDetails struct {
	Issuer string `json:"issuer"`
	Clinic string `json:"clinic"`
}

// keyDetails is one new key.
type keyDetails struct {
	realmDetails
	Kid        string `json:"kid"`
	Thumbprint string `json:"thumbprint"` // RFC 7638
	Algorithm  string `json:"alg,omitempty"`
}

// keysDetails is a realm's set of keys.
type keysDetails struct {
	realmDetails
	JWKS    json.RawMessage `json:"jwks"`
	Added   []string        `json:"added"`   // thumbprints
	Removed []string        `json:"removed"` // thumbprints
}

// confirmedDetails says that a set is still in use.
type confirmedDetails struct {
	realmDetails
	Keys int `json:"keys"`
}

// keySet is what the index keeps of a realm's keys.
type keySet struct {
	JWKS json.RawMessage `json:"jwks"`
	Seen time.Time       `json:"seen"` // when a line last said that the realm publishes them
}

const (
	foldName     = "activation/3"
	bucketClinic = foldName + "/clinic" // slug -> Clinic
	bucketRealm  = foldName + "/realm"  // issuer -> Realm
	bucketKeys   = foldName + "/keys"   // issuer -> keySet
	bucketSpent  = foldName + "/spent"  // when it ends (8 bytes), hash of a token -> signatures made on it (8 bytes)
	bucketRecent = foldName + "/recent" // clinic, a space, sub -> []spentSecond
	bucketSeen   = foldName + "/seen"   // issuer, a space, thumbprint -> time of its first line; outlives the realm
)

// Fold returns what derives this package's state from the log; ledger.Open wants it before Open can be called.
func Fold() ledger.Fold { return fold{} }

type fold struct{}

func (fold) Name() string { return foldName }

// Apply implements ledger.Fold.
func (f fold) Apply(tx *index.Tx, r ledger.Record) error {
	var err error
	switch r.Type {
	case eventClinicAdded:
		var c Clinic
		if err = json.Unmarshal(r.Details, &c); err == nil {
			c.AddedAt = r.Time
			err = putJSON(tx.Bucket(bucketClinic), c.Slug, c)
		}
	case eventPolicyChanged:
		err = f.policy(tx, r)
	case eventRealmAdded:
		var d Realm
		if err = json.Unmarshal(r.Details, &d); err == nil {
			d.AddedAt = r.Time
			err = putJSON(tx.Bucket(bucketRealm), d.Issuer, d)
		}
	case eventRealmRemoved:
		var d realmDetails
		if err = json.Unmarshal(r.Details, &d); err == nil {
			if err = tx.Bucket(bucketRealm).Delete([]byte(d.Issuer)); err == nil {
				err = tx.Bucket(bucketKeys).Delete([]byte(d.Issuer))
			}
		}
	case eventKeyFirstSeen, eventKeysChanged, eventKeysConfirmed:
		err = f.keys(tx, r)
	case eventSigned:
		err = f.spent(tx, r)
	}
	if err != nil {
		return fmt.Errorf("activation: line %d, %s: %w", r.Seq, r.Type, err)
	}
	return nil
}

func (fold) policy(tx *index.Tx, r ledger.Record) error {
	var d policyDetails
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	b := tx.Bucket(bucketClinic)
	raw := b.Get([]byte(d.Clinic))
	if raw == nil { // a line cannot be refused any more
		return nil
	}
	var c Clinic
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	c.Policy = d.Policy
	return putJSON(b, c.Slug, c)
}

func (fold) keys(tx *index.Tx, r ledger.Record) error {
	var d struct {
		keyDetails
		JWKS json.RawMessage `json:"jwks"`
	}
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	b := tx.Bucket(bucketKeys)
	switch r.Type {
	case eventKeyFirstSeen:
		return tx.Bucket(bucketSeen).Put(seenKey(d.Issuer, d.Thumbprint), []byte(r.Time.Format(time.RFC3339Nano)))
	case eventKeysChanged:
		if tx.Bucket(bucketRealm).Get([]byte(d.Issuer)) == nil { // removed while they were being fetched
			return nil
		}
		return putJSON(b, d.Issuer, keySet{JWKS: d.JWKS, Seen: r.Time})
	}
	raw := b.Get([]byte(d.Issuer))
	if raw == nil {
		return nil
	}
	var s keySet
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	s.Seen = r.Time
	return putJSON(b, d.Issuer, s)
}

func seenKey(issuer, thumbprint string) []byte { return []byte(issuer + " " + thumbprint) }

func putJSON(b *index.Bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), raw)
}
