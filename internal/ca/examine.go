package ca

import (
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

// KeyExamined is a key that the log says is in use, as the token has it.
type KeyExamined struct {
	Label, Purpose, Algorithm string
	Trouble                   error // nil: it is there once, is the one that the log means, and made a test signature
}

// ExamineKeys looks every key that is in use up in the token, and has it sign a text of the token's own that proves nothing to anybody and leaves no trace.
func (c *CA) ExamineKeys() []KeyExamined {
	c.mu.RLock()
	var inUse []keyState
	for _, k := range c.keys {
		if k.State == eventKeyCreated {
			inUse = append(inUse, k)
		}
	}
	c.mu.RUnlock()
	slices.SortFunc(inUse, func(a, b keyState) int { return strings.Compare(a.Label, b.Label) })
	list := make([]KeyExamined, len(inUse))
	for i, k := range inUse {
		list[i] = KeyExamined{Label: k.Label, Purpose: k.Purpose, Algorithm: k.Algorithm, Trouble: c.tryKey(k)}
	}
	return list
}

func (c *CA) tryKey(k keyState) error {
	id, err := hex.DecodeString(k.ID)
	if err != nil {
		return fault.New(fault.Corrupt, "the log's key ID is no hexadecimal number").WithCause(err)
	}
	pub, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return fault.New(fault.Corrupt, "the log's public key is none").WithCause(err)
	}
	_, err = c.cfg.Keys.Key(k.Label, id, pub)
	return err
}

// AuthorityExamined is the root or an issuing CA.
type AuthorityExamined struct {
	Kind        cert.Kind
	Serial      string
	Certificate *x509.Certificate
	File        string // under which it is published, without suffix
	Revoked     bool
	Due         bool              // a ceremony for a successor is due
	Newest      bool              // of its kind
	Sample      *x509.Certificate // the newest that it issued, and that is neither revoked nor at its end; nil: none
}

// ExamineAuthorities returns the root and every issuing CA.
func (c *CA) ExamineAuthorities() ([]AuthorityExamined, error) {
	c.mu.RLock()
	if c.root == nil {
		c.mu.RUnlock()
		return nil, errNotEstablished()
	}
	now, root := c.now(), c.root
	list := []AuthorityExamined{{Kind: cert.Root, Serial: serialOf(root.SerialNumber), Certificate: root, File: cert.FileName(cert.Root, root), Newest: true}}
	samples := []string{c.lastOf(serialOf(root.SerialNumber), now)}
	for _, serial := range c.order {
		a := c.cas[serial]
		if a == nil {
			continue
		}
		newest := c.newest(a.kind) == a
		list = append(list, AuthorityExamined{
			Kind: a.kind, Serial: serial, Certificate: a.cert, File: cert.FileName(a.kind, a.cert), Revoked: c.entries[serial].RevokedAt != nil, Newest: newest,
			Due: newest && a.cert.NotAfter.Sub(now) < c.profiles.For(cert.Clinician).Validity().Default,
		})
		samples = append(samples, c.lastOf(serial, now))
	}
	list[0].Due = root.NotAfter.Sub(now) < c.profiles.For(cert.ClinicianCA).Validity().Default/2
	c.mu.RUnlock()
	for i, serial := range samples {
		if serial == "" || i == 0 { // there is no OCSP above the CAs: the root's list says
			continue
		}
		crt, err := c.certificate(serial)
		if err != nil {
			return nil, err
		}
		list[i].Sample = crt
	}
	return list, nil
}

// lastOf returns the serial of the newest certificate of an issuer's that lives and is no responder's (theirs are not asked about). mu is held.
func (c *CA) lastOf(issuer string, now time.Time) string {
	for i := len(c.order) - 1; i >= 0; i-- {
		e := c.entries[c.order[i]]
		if e.Issuer == issuer && e.Kind != cert.OCSP && e.RevokedAt == nil && now.Before(e.NotAfter) {
			return e.Serial
		}
	}
	return ""
}

// OwnExamined returns the certificates that Maintain renews and that are in use, and those of them whose renewal is overdue.
func (c *CA) OwnExamined() (own, overdue []Certificate) {
	now := c.now()
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, serial := range c.order {
		e := c.entries[serial]
		if (e.Kind != cert.OCSP && e.Kind != cert.TSA) || e.RenewedBy != "" || e.RevokedAt != nil || now.After(e.NotAfter) {
			continue
		}
		own = append(own, c.describe(e, now))
		if !c.renewsItself(e, now) {
			overdue = append(overdue, c.describe(e, now))
		}
	}
	return own, overdue
}

// RootListLasts returns when the root's list ends, and from when on nothing is signed for its sake; zeros before the first ceremony.
func (c *CA) RootListLasts() (ends, stops time.Time) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.rootCRL == nil {
		return ends, stops
	}
	return c.rootCRL.NextUpdate, c.rootCRL.NextUpdate.Add(-c.cfg.Policy.RootCRLRefuse)
}

// Warnings says what only people can renew, as Maintain logs it.
func (c *CA) Warnings() []string {
	var u Upkeep
	if c.Established() {
		c.warn(&u)
	}
	return u.Warnings
}
