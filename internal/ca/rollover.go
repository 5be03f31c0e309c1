package ca

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Rollover is what a later ceremony is to do. Nothing named: it only signs the root's CRL again.
type Rollover struct {
	Succeed []cert.Kind          // issuing CAs that get a successor with a new key; the old ones stay good for what they signed
	Revoke  []CeremonyRevocation // CAs that end
}

// BeginRollover returns what the ceremony is to do, see Begin and Complete. From Complete on the new CAs are used, and whatever stands under them anew:
// the TSA and the responders have new keys then. Old CAs that are not revoked go on to say what state their certificates are in.
//
// Errors: Unavailable (there has been no first ceremony), Invalid (no such CA or reason), Conflict (revoked already, or a kind would be left without a CA).
func (c *CA) BeginRollover(ctx context.Context, actor string, o Rollover) (CeremonyRequest, error) {
	if !c.Established() {
		return CeremonyRequest{}, errNotEstablished()
	}
	for _, k := range o.Succeed {
		if !slices.Contains(cert.IssuingCAs(), k) {
			return CeremonyRequest{}, fault.New(fault.Invalid, fmt.Sprintf("%.40q is not an issuing CA", k)).WithHint("there are " + fmt.Sprint(cert.IssuingCAs()))
		}
	}
	revoke, err := c.endings(o)
	if err != nil {
		return CeremonyRequest{}, err
	}
	r, err := c.Begin(ctx, actor, o.Succeed...)
	r.Revoke = revoke
	return r, err
}

// Issuing returns the serial of the CA of a kind that issues now; "" when none does.
func (c *CA) Issuing(kind cert.Kind) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if a := c.newest(kind); a != nil && c.entries[a.serial].RevokedAt == nil {
		return a.serial
	}
	return ""
}

// RootCRLExpires returns when the root's newest CRL runs out; zero before the first ceremony.
func (c *CA) RootCRLExpires() (t time.Time) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.rootCRL != nil {
		t = c.rootCRL.NextUpdate
	}
	return t
}

// endings checks which CAs are to be revoked, and writes their serials as the log does.
func (c *CA) endings(o Rollover) ([]CeremonyRevocation, error) {
	var list []CeremonyRevocation
	ending := map[string]bool{}
	for _, gone := range o.Revoke {
		serial, err := parseSerial(gone.Serial)
		if err != nil {
			return nil, err
		}
		e, err := c.entry(serial)
		if err != nil {
			return nil, err
		}
		if _, err := cert.ParseReason(gone.Reason); err != nil {
			return nil, fault.New(fault.Invalid, err.Error())
		}
		switch {
		case !slices.Contains(cert.IssuingCAs(), e.Kind):
			return nil, fault.New(fault.Invalid, "the certificate with serial number "+serial+" is not an issuing CA's").WithHint(`"appliance cert revoke" ends what a CA issued`)
		case e.RevokedAt != nil || ending[serial]:
			return nil, fault.New(fault.Conflict, "the "+string(e.Kind)+" with serial number "+serial+" is revoked already")
		}
		ending[serial] = true
		list = append(list, CeremonyRevocation{Serial: serial, Reason: gone.Reason})
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for serial := range ending {
		kind := c.entries[serial].Kind
		if slices.Contains(o.Succeed, kind) {
			continue
		}
		if !slices.ContainsFunc(c.order, func(s string) bool {
			a := c.cas[s]
			return a != nil && a.kind == kind && c.entries[s].RevokedAt == nil && !ending[s]
		}) {
			return nil, fault.New(fault.Conflict, "no "+string(kind)+" would be left").WithHint("have a successor made in the same ceremony")
		}
	}
	return list, nil
}

// renewOwn gives the TSA, or a CA's responder, a new key and certificate before they are due. The old key is destroyed by upkeep an hour later.
func (c *CA) renewOwn(ctx context.Context, old Certificate, r Request) (Certificate, error) {
	c.act.Lock()
	defer c.act.Unlock()
	a, err := c.authority(old.Issuer)
	if err != nil {
		return Certificate{}, err
	}
	r.Issuer = a.kind
	if old.Kind == cert.TSA {
		c.mu.RLock()
		a = c.newest(cert.TimeCA)
		c.mu.RUnlock()
	}
	if e, err := c.entry(a.serial); err != nil || e.RevokedAt != nil {
		return Certificate{}, fault.New(fault.Forbidden, "the "+string(a.kind)+" has been revoked").WithCause(err).WithHint(`"appliance ceremony rollover" makes a new one`)
	}
	if e, err := c.entry(old.Serial); err != nil || e.RenewedBy != "" { // upkeep was quicker
		return Certificate{}, fault.New(fault.Conflict, "the certificate has been renewed already").WithCause(err)
	}
	return c.issueBy(ctx, r, a, old.Serial)
}
