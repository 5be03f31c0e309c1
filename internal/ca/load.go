package ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// load fills memory from the index and loads every key that is in use. c is not shared yet.
func (c *CA) load(ctx context.Context) error {
	c.entries, c.names, c.held = map[string]*entry{}, map[string][]string{}, map[string]bool{}
	c.keys, c.cas, c.issuers = map[string]keyState{}, map[string]*authority{}, map[string]*authority{}
	lists := map[string]crlDetails{}
	var rootCRL []byte
	err := c.cfg.Ledger.View(func(tx *index.Tx) error {
		rootCRL = tx.Bucket(bucketRoot).Get([]byte("crl"))
		if err := each(tx, bucketEntry, func(serial string, e entry) { c.entries[serial] = &e }); err != nil {
			return err
		}
		if err := each(tx, bucketKey, func(label string, k keyState) { c.keys[label] = k }); err != nil {
			return err
		}
		return each(tx, bucketCRL, func(serial string, d crlDetails) { lists[serial] = d })
	})
	if err != nil {
		return err
	}
	c.order = slices.SortedFunc(maps.Keys(c.entries), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.entries[a].Seq, c.entries[b].Seq), cmp.Compare(a, b))
	})
	for _, serial := range c.order {
		c.addName(c.entries[serial])
	}
	if rootCRL == nil {
		return nil
	}
	if c.rootCRL, err = cert.ParseCRL(rootCRL); err != nil {
		return corrupt("the root's CRL in the log", err)
	}
	return c.loadKeys(ctx, lists)
}

// each decodes every value of a bucket.
func each[V any](tx *index.Tx, bucket string, f func(key string, v V)) error {
	for key, raw := range tx.Bucket(bucket).Seek(nil) {
		var v V
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("ca: index bucket %s, key %s: %w", bucket, key, err)
		}
		f(string(key), v)
	}
	return nil
}

// corrupt is the error of something stored that is not as the log says; the hint leads to where it is stored.
func corrupt(what string, err error) error {
	hint := fault.HintOf(err)
	switch {
	case hint != "": // the token or the store of objects knows what helps
	case fault.KindOf(err) == fault.Internal:
		hint = "remove index.db from the state folder: it is made anew from the log; if that does not help, restore the log from the backup"
	default:
		hint = "restore the token's folder from the backup: the key is not in it as it was made"
	}
	return fault.New(fault.Corrupt, what+" cannot be used").WithCause(err).WithHint(hint)
}

// loadKeys takes up the root, the CAs with their keys, responders and lists, the TSA and the checkpoint key.
func (c *CA) loadKeys(ctx context.Context, lists map[string]crlDetails) error {
	for _, serial := range c.order {
		e := c.entries[serial]
		var err error
		switch {
		case e.Kind == cert.Root:
			c.root, err = c.certificate(serial)
		case e.Kind.IsCA():
			err = c.takeAuthority(e)
		}
		if fault.KindOf(err) == fault.Invalid {
			return err
		}
		if err != nil {
			return corrupt(fmt.Sprintf("the %s with serial %s", e.Kind, serial), err)
		}
	}
	for _, a := range c.cas {
		if d, ok := lists[a.serial]; ok {
			list, err := c.takeCRL(ctx, a, d)
			if err != nil {
				return corrupt("the CRL of the "+string(a.kind), err)
			}
			a.crl.Store(list)
		}
	}
	for _, serial := range c.order {
		e := c.entries[serial]
		if _, alive := c.aliveKey(e.KeyLabel); !alive || e.RevokedAt != nil {
			continue
		}
		var err error
		switch e.Kind {
		case cert.OCSP:
			err = c.takeResponder(e)
		case cert.TSA:
			err = c.takeTSA(e)
		}
		if err != nil {
			return corrupt(fmt.Sprintf("the %s with serial %s", e.Kind, serial), err)
		}
	}
	return c.takeCheckpointKey()
}

// aliveKey returns the state of a key that exists and has not been given up.
func (c *CA) aliveKey(label string) (keyState, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	k, ok := c.keys[label]
	return k, ok && k.State == eventKeyCreated
}

// key loads a key of the token by the name that the log has for it.
func (c *CA) key(label string, pub crypto.PublicKey) (crypto.Signer, error) {
	k, ok := c.aliveKey(label)
	if !ok {
		return nil, fmt.Errorf("ca: the log has no key %q", label)
	}
	id, err := hex.DecodeString(k.ID)
	if err != nil {
		return nil, fmt.Errorf("ca: key %q: key_id in the log: %w", label, err)
	}
	return c.cfg.Keys.Key(label, id, pub)
}

// certificate reads one from the index.
func (c *CA) certificate(serial string) (*x509.Certificate, error) {
	var der []byte
	if err := c.cfg.Ledger.View(func(tx *index.Tx) error { der = tx.Bucket(bucketDER).Get([]byte(serial)); return nil }); err != nil {
		return nil, err
	}
	if der == nil {
		return nil, errNoCertificate(serial)
	}
	return x509.ParseCertificate(der)
}

func (c *CA) takeAuthority(e *entry) error {
	crt, err := c.certificate(e.Serial)
	if err != nil {
		return err
	}
	if !bytes.Equal(crt.RawSubject, c.profiles.CASubject(e.Kind)) {
		return fault.New(fault.Invalid, fmt.Sprintf("the settings name the %s otherwise than its certificate does: %q", e.Kind, crt.Subject)).
			WithHint("name, organization, country and demo cannot be changed after the ceremony")
	}
	key, err := c.key(e.KeyLabel, crt.PublicKey)
	if err != nil {
		return err
	}
	a := &authority{kind: e.Kind, serial: e.Serial, cert: crt, key: key}
	if a.id, err = cert.NewCertID(crypto.SHA1, crt, crt.SerialNumber); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cas[e.Serial] = a
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		id, err := cert.NewCertID(h, crt, crt.SerialNumber)
		if err != nil {
			return err
		}
		c.issuers[string(id.NameHash)+string(id.KeyHash)] = a
	}
	return nil
}

func (c *CA) takeCRL(ctx context.Context, a *authority, d crlDetails) (*crl, error) {
	der, err := c.cfg.Objects.Get(ctx, d.Object)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(der); hex.EncodeToString(sum[:]) != d.SHA256 {
		return nil, fault.New(fault.Corrupt, "the object "+d.Object+" is not what the log says").WithHint("restore the objects folder and the log from one backup")
	}
	list := &crl{crlDetails: d, der: der}
	revoked := 0
	for _, e := range c.entries {
		if e.Issuer == a.serial && e.RevokedAt != nil {
			revoked++
		}
	}
	list.stale = revoked != d.Entries // a crash between a revocation and its CRL is made good by the next Maintain
	return list, nil
}

// takeResponder makes e its CA's responder when it is the newest: entries come oldest first.
func (c *CA) takeResponder(e *entry) error {
	a, err := c.authority(e.Issuer)
	if err != nil {
		return err
	}
	crt, err := c.certificate(e.Serial)
	if err != nil {
		return err
	}
	key, err := c.key(e.KeyLabel, crt.PublicKey)
	if err != nil {
		return err
	}
	s, err := cert.NewOCSPSigner(crt, key)
	if err != nil {
		return err
	}
	a.responder.Store(&responder{OCSPSigner: s, serial: e.Serial})
	return nil
}

func (c *CA) takeTSA(e *entry) error {
	crt, err := c.certificate(e.Serial)
	if err != nil {
		return err
	}
	key, err := c.key(e.KeyLabel, crt.PublicKey)
	if err != nil {
		return err
	}
	_, until, err := cert.PrivateKeyUsagePeriod(crt)
	if err != nil {
		return err
	}
	a, err := c.authority(e.Issuer)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tsa = &TimeStamper{Serial: e.Serial, Certificate: crt, Chain: []*x509.Certificate{a.cert, c.root}, Key: key, Until: until,
		Policy: c.profiles.TimeStampPolicy()}
	return nil
}

// authority returns the CA with this serial.
func (c *CA) authority(serial string) (*authority, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if a := c.cas[serial]; a != nil {
		return a, nil
	}
	return nil, fault.New(fault.NotFound, "there is no CA with serial number "+serial)
}

func (c *CA) takeCheckpointKey() error {
	for label, k := range c.keys {
		if k.Purpose != purposeCheckpoint || k.State != eventKeyCreated {
			continue
		}
		pub, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return corrupt("the checkpoint key in the log", err)
		}
		if c.log, err = c.key(label, pub); err != nil {
			return corrupt("the checkpoint key", err)
		}
	}
	return nil
}

// refresh takes over from the index what the log now says of these certificates.
func (c *CA) refresh(serials ...string) error {
	fresh := map[string]*entry{}
	err := c.cfg.Ledger.View(func(tx *index.Tx) error {
		for _, serial := range serials {
			raw := tx.Bucket(bucketEntry).Get([]byte(serial))
			if raw == nil {
				continue
			}
			var e entry
			if err := json.Unmarshal(raw, &e); err != nil {
				return fmt.Errorf("ca: entry %s: %w", serial, err)
			}
			fresh[serial] = &e
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, serial := range serials {
		e := fresh[serial]
		if e == nil {
			continue
		}
		if c.entries[serial] == nil {
			c.order = append(c.order, serial)
			c.addName(e)
		}
		c.entries[serial] = e
	}
	return nil
}

// nameKeys returns what a clinic's clinicians are told apart by: the name in any spelling, and what it looks like.
func nameKeys(clinic, name string) [2]string {
	return [2]string{clinic + "\x00fold\x00" + cert.Fold(name), clinic + "\x00look\x00" + cert.Skeleton(name)}
}

func (c *CA) addName(e *entry) {
	if e.Kind != cert.Clinician {
		return
	}
	for _, k := range nameKeys(e.Clinic, e.Subject.CommonName) {
		c.names[k] = append(c.names[k], e.Serial)
	}
}
