package ca

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/token"
)

// graceForOldKeys is how long the key of a superseded responder or TSA is kept for who still works with it.
const graceForOldKeys = time.Hour

// Upkeep is what Maintain did and what it found that a person must see to.
type Upkeep struct {
	Issued   []Certificate // responders' and the TSA's new certificates
	Lists    []cert.Kind   // CAs that published a CRL
	NewTSA   bool          // TimeStamper answers with another one now
	Warnings []string
}

// Maintain keeps the PKI alive: it is run at start and every few minutes. It makes what is missing (checkpoint key, responders, TSA),
// renews responders and the TSA before their certificates, or the period in which the TSA's key may be used, end; publishes CRLs that are
// due; destroys keys that were superseded; and warns when what only a ceremony can renew runs out. What fails is in the error, and what
// does not fail is done all the same. Before the first ceremony it does nothing.
func (c *CA) Maintain(ctx context.Context) (Upkeep, error) {
	c.act.Lock()
	defer c.act.Unlock()
	var u Upkeep
	if !c.Established() {
		return u, nil
	}
	errs := []error{c.keepCheckpointKey(ctx)}
	for _, a := range c.authorities() {
		if e, err := c.entry(a.serial); err == nil && e.RevokedAt != nil {
			continue
		}
		errs = append(errs, c.keepResponder(ctx, a, &u), c.keepCRL(ctx, a, &u))
	}
	errs = append(errs, c.keepTSA(ctx, &u), c.retire(ctx), c.logAnswers(ctx))
	c.warn(&u)
	for _, w := range u.Warnings {
		c.cfg.Log.WarnContext(ctx, w)
	}
	return u, errors.Join(errs...)
}

// authorities returns the issuing CAs, oldest first.
func (c *CA) authorities() []*authority {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var list []*authority
	for _, serial := range c.order {
		if a := c.cas[serial]; a != nil {
			list = append(list, a)
		}
	}
	return list
}

func (c *CA) keepCheckpointKey(ctx context.Context) error {
	if _, err := c.CheckpointKey(); err == nil {
		return nil
	}
	_, key, err := c.makeKey(ctx, actorSelf, purposeCheckpoint, token.Ed25519)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = key
	return nil
}

// keepResponder gives a CA a responder, or a new one before the old one ends. A CA whose own end is near gets none that outlives it.
func (c *CA) keepResponder(ctx context.Context, a *authority, u *Upkeep) error {
	renews := ""
	if r := a.responder.Load(); r != nil {
		renews = r.serial
		e, err := c.entry(r.serial)
		if err != nil {
			return err
		}
		lasts := e.NotAfter.After(c.now().Add(c.cfg.Policy.OCSPRenewal)) || e.NotAfter.Equal(a.cert.NotAfter)
		if e.RevokedAt == nil && lasts {
			return nil
		}
	}
	return c.keep(ctx, a, Request{Kind: cert.OCSP, Issuer: a.kind, Actor: actorSelf}, renews, u)
}

// keepTSA gives the TSA a key and certificate, and the next ones before the key may not be used any more (EN 319 421 §7.6.3), when the
// certificate, or the CA above it, has been revoked, or when there is a newer Time CA.
func (c *CA) keepTSA(ctx context.Context, u *Upkeep) error {
	now := c.now()
	c.mu.RLock()
	a, renews := c.newest(cert.TimeCA), ""
	headless := c.entries[a.serial].RevokedAt != nil // only a ceremony helps; warn says so
	fine := false
	if t := c.tsa; t != nil {
		renews = t.Serial
		e := c.entries[renews]
		fine = e.RevokedAt == nil && e.Issuer == a.serial && t.Until.After(now.Add(c.cfg.Policy.TSARenewal))
	}
	c.mu.RUnlock()
	if fine || headless {
		return nil
	}
	if err := c.keep(ctx, a, Request{Kind: cert.TSA, Actor: actorSelf}, renews, u); err != nil {
		return err
	}
	u.NewTSA = true
	return nil
}

// keep issues one of the appliance's own certificates by a.
func (c *CA) keep(ctx context.Context, a *authority, r Request, renews string, u *Upkeep) error {
	made, err := c.issueBy(ctx, r, a, renews)
	if err != nil {
		return fmt.Errorf("ca: a new %s certificate of the %s: %w", r.Kind, a.kind, err)
	}
	u.Issued = append(u.Issued, made)
	return nil
}

func (c *CA) keepCRL(ctx context.Context, a *authority, u *Upkeep) error {
	now, list := c.now(), a.crl.Load()
	if list != nil && !list.stale && now.Sub(list.ThisUpdate) < c.cfg.Policy.CRLInterval {
		return nil
	}
	if now.After(a.cert.NotAfter) {
		return nil
	}
	if err := c.publish(ctx, a); err != nil {
		return err
	}
	u.Lists = append(u.Lists, a.kind)
	return nil
}

// retire destroys the token's keys of responders and TSAs that have a successor, once nobody can be using them any more.
func (c *CA) retire(ctx context.Context) error {
	now := c.now()
	c.mu.RLock()
	var old []keyState
	for _, e := range c.entries {
		k := c.keys[e.KeyLabel]
		if (e.Kind != cert.OCSP && e.Kind != cert.TSA) || e.RenewedBy == "" || k.State != eventKeyCreated {
			continue
		}
		if next := c.entries[e.RenewedBy]; next != nil && now.Sub(*next.IssuedAt) > graceForOldKeys {
			old = append(old, k)
		}
	}
	c.mu.RUnlock()
	for _, k := range old {
		if err := c.dropKey(ctx, actorSelf, "superseded", k); err != nil {
			return err
		}
	}
	return nil
}

// warn says what only people can renew.
func (c *CA) warn(u *Upkeep) {
	now := c.now()
	c.mu.RLock()
	defer c.mu.RUnlock()
	if left := c.rootCRL.NextUpdate.Sub(now); left < c.cfg.Policy.RootCRLWarn {
		u.Warnings = append(u.Warnings, fmt.Sprintf("the root's CRL runs out at %s: have it signed again by \"appliance ceremony sign-list\"; %s before that, signing stops",
			c.rootCRL.NextUpdate.UTC().Format(time.RFC3339), c.cfg.Policy.RootCRLRefuse))
	}
	for _, kind := range cert.IssuingCAs() {
		a := c.newest(kind)
		if a == nil {
			continue
		}
		if c.entries[a.serial].RevokedAt != nil {
			u.Warnings = append(u.Warnings, fmt.Sprintf("the %s is revoked: \"appliance ceremony rollover\" makes a new one", kind))
		}
		// A clinician's or TSA's certificate is cut short at its CA's end: the successor is due before that bites.
		if a.cert.NotAfter.Sub(now) < c.profiles.For(cert.Clinician).Validity().Default {
			u.Warnings = append(u.Warnings, fmt.Sprintf("the %s ends at %s: \"appliance ceremony rollover\" makes its successor", kind, a.cert.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
}
