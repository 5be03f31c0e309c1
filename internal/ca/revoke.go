package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Revoke ends a certificate for good, as of the time of the line that records it: a time before would end signatures that were good.
// invalidity, when not zero, says since when the key is known or suspected to be bad; it is not in the future and not before the
// certificate. The CRL follows at once; if that fails, Maintain tries again, and OCSP has the revocation already.
//
// Errors: NotFound, Conflict (revoked already), Forbidden (a CA's certificate, which the root revokes), Invalid.
func (c *CA) Revoke(ctx context.Context, serial string, reason cert.Reason, invalidity time.Time, actor string) (Certificate, error) {
	serial, err := parseSerial(serial)
	if err != nil {
		return Certificate{}, err
	}
	if !reason.Valid() {
		return Certificate{}, fault.New(fault.Invalid, fmt.Sprintf("%d is not a reason for revocation in use", int(reason)))
	}
	c.act.Lock()
	defer c.act.Unlock()
	e, err := c.entry(serial)
	if err != nil {
		return Certificate{}, err
	}
	d := revokedDetails{Serial: serial, Reason: reason.String()}
	switch {
	case e.Kind.IsCA():
		return Certificate{}, fault.New(fault.Forbidden, "a CA's certificate is revoked by the root").WithHint(`"appliance ceremony revoke"`)
	case e.RevokedAt != nil:
		return Certificate{}, fault.New(fault.Conflict, "the certificate was revoked at "+e.RevokedAt.Format(time.RFC3339)+" already")
	case !invalidity.IsZero() && (invalidity.After(c.now()) || invalidity.Before(e.NotBefore)):
		return Certificate{}, fault.New(fault.Invalid, "the invalidity date is in the future, or before the certificate's validity")
	case !invalidity.IsZero():
		at := invalidity.UTC().Truncate(time.Second)
		d.Invalidity = &at
	}
	if _, err := c.cfg.Ledger.Append(ctx, ledger.Event{Type: eventRevoked, Actor: actor, Details: d}); err != nil {
		if uncertain(err) {
			// The line may be durable all the same: until a restart has read the log again, nobody is told "good".
			c.mu.Lock()
			c.broken = err
			c.mu.Unlock()
		}
		return Certificate{}, fmt.Errorf("ca: recording a revocation: %w", err)
	}
	if err := c.refresh(serial); err != nil {
		return Certificate{}, err
	}
	if a, err := c.authority(e.Issuer); err == nil {
		if err := c.publish(ctx, a); err != nil {
			c.cfg.Log.ErrorContext(ctx, "no CRL after a revocation; upkeep tries again", "ca", a.kind, "error", err)
			c.markStale(a)
		}
	}
	return c.Get(serial)
}

// uncertain reports whether an event that the log would not confirm may have been recorded all the same: not when it was refused for what it
// is, or when the caller had gone before.
func uncertain(err error) bool {
	kind := fault.KindOf(err)
	return kind != fault.Invalid && kind != fault.TooLarge && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func (c *CA) markStale(a *authority) {
	if old := a.crl.Load(); old != nil {
		list := *old
		list.stale = true
		a.crl.Store(&list)
	}
}

// publish makes a CA's next CRL: signed, kept, recorded, and only then given out. act is held.
func (c *CA) publish(ctx context.Context, a *authority) error {
	number, now := uint64(1), c.now()
	if old := a.crl.Load(); old != nil {
		number = old.Number + 1
		if now.Before(old.ThisUpdate) { // the clock went back; the order of lists must not
			now = old.ThisUpdate
		}
	}
	t := cert.CRLTemplate{Number: new(big.Int).SetUint64(number), ExpiredSince: a.cert.NotBefore}
	c.mu.RLock()
	for _, serial := range c.order {
		e := c.entries[serial]
		if e.Issuer != a.serial || e.RevokedAt == nil {
			continue
		}
		r, err := e.revocation()
		if err != nil {
			c.mu.RUnlock()
			return err
		}
		if r.At.After(now) {
			now = r.At
		}
		t.Revoked = append(t.Revoked, r)
	}
	c.mu.RUnlock()
	t.ThisUpdate, t.NextUpdate = now, now.Add(c.cfg.Policy.CRLValidity)
	der, err := cert.CreateCRL(c.cfg.Rand, t, a.cert, a.key)
	if err != nil {
		return err
	}
	findings, err := c.linter.FindingsCRL(der)
	if err != nil || len(findings) > 0 {
		return errors.Join(fmt.Errorf("ca: lint of the CRL of the %s: %v", a.kind, findings), err)
	}
	object, err := c.cfg.Objects.Put(ctx, "crl", der)
	if err != nil {
		return fmt.Errorf("ca: keeping a CRL: %w", err)
	}
	sum := sha256.Sum256(der)
	d := crlDetails{Issuer: a.serial, Number: number, ThisUpdate: t.ThisUpdate, NextUpdate: t.NextUpdate, Entries: len(t.Revoked), SHA256: hex.EncodeToString(sum[:]), Object: object}
	// A crash before this line leaves an object that nothing names, and the number free for the next list.
	if _, err := c.cfg.Ledger.Append(ctx, ledger.Event{Type: eventCRL, Actor: actorSelf, Details: d}); err != nil {
		return fmt.Errorf("ca: recording a CRL: %w", err)
	}
	a.crl.Store(&crl{crlDetails: d, der: der})
	return nil
}

// revocation returns what a CRL says of a revoked certificate.
func (e *entry) revocation() (cert.Revocation, error) {
	serial, ok := new(big.Int).SetString(e.Serial, 16)
	reason, err := cert.ParseReason(e.Reason)
	if err != nil || !ok {
		return cert.Revocation{}, fmt.Errorf("ca: revocation of %s: %w", e.Serial, err)
	}
	r := cert.Revocation{Serial: serial, At: *e.RevokedAt, Reason: reason}
	if e.Invalidity != nil {
		r.InvalidityDate = *e.Invalidity
	}
	return r, nil
}

// CRLOver returns the newest CRL, in DER, of the CA that issued the certificate with this serial number, which need not be the newest CA of its kind.
// Errors: NotFound.
func (c *CA) CRLOver(serial string) ([]byte, error) {
	serial, err := parseSerial(serial)
	if err != nil {
		return nil, err
	}
	e, err := c.entry(serial)
	if err != nil {
		return nil, err
	}
	if e.Kind.IsCA() {
		return c.CRL(cert.Root)
	}
	a, err := c.authority(e.Issuer)
	if err != nil {
		return nil, err
	}
	list := a.crl.Load()
	if list == nil {
		return nil, fault.New(fault.NotFound, "the issuer of the certificate publishes no CRL")
	}
	return list.der, nil
}

// CRL returns the newest CRL of the newest CA of a kind, or the root's, in DER.
func (c *CA) CRL(issuer cert.Kind) ([]byte, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.root == nil {
		return nil, errNotEstablished()
	}
	if issuer == cert.Root {
		return c.rootCRL.Raw, nil
	}
	a := c.newest(issuer)
	if a == nil || a.crl.Load() == nil {
		return nil, fault.New(fault.NotFound, fmt.Sprintf("%.40q publishes no CRL", issuer))
	}
	return a.crl.Load().der, nil
}
