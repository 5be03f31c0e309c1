package ca

import (
	"context"
	"fmt"
	"strings"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Bind ties a clinician's certificate to the person that the clinic's realm knows as sub. It is done once, at issuance or here, and for good: what a
// certificate signed must go on to mean one person. Binding to the same sub again changes nothing.
//
// Errors: NotFound, Invalid (sub, or not a clinician's certificate), Conflict (bound to another sub, or revoked, expired or renewed).
func (c *CA) Bind(ctx context.Context, serial, sub, actor string) (Certificate, error) {
	serial, err := parseSerial(serial)
	if err != nil {
		return Certificate{}, err
	}
	if !isSub(sub) {
		return Certificate{}, fault.New(fault.Invalid, "sub is 1 to 255 printable ASCII characters without spaces")
	}
	if actor == "" {
		return Certificate{}, fault.New(fault.Invalid, "the request does not say who asks")
	}
	c.act.Lock() // two at once must not both find it unbound
	defer c.act.Unlock()
	e, err := c.entry(serial)
	if err != nil {
		return Certificate{}, err
	}
	conflict := func(text string) (Certificate, error) {
		return Certificate{}, fault.New(fault.Conflict, "the certificate with serial number "+serial+" "+text)
	}
	switch {
	case e.Kind != cert.Clinician:
		return Certificate{}, fault.New(fault.Invalid, "the certificate with serial number "+serial+" is not a clinician's")
	case e.Sub == sub:
		return c.Get(serial)
	case e.Sub != "":
		return Certificate{}, fault.New(fault.Conflict, "the certificate with serial number "+serial+" is bound to another person").WithCode("certificate-bound").
			WithHint("revoke it and issue a new one: what it signed must go on to mean that person")
	case e.RevokedAt != nil:
		return conflict("has been revoked")
	case e.RenewedBy != "":
		return conflict("has been renewed: bind " + e.RenewedBy)
	case c.now().After(e.NotAfter):
		return conflict("has expired")
	}
	if _, err := c.cfg.Ledger.Append(ctx, ledger.Event{Type: eventBound, Actor: actor, Details: boundDetails{Serial: serial, Clinic: e.Clinic, Sub: sub}}); err != nil {
		return Certificate{}, fmt.Errorf("ca: recording a binding: %w", err)
	}
	if err := c.refresh(serial); err != nil {
		return Certificate{}, err
	}
	return c.Get(serial)
}

// isSub reports whether s can be a sub. OpenID Connect Core §2: at most 255 ASCII characters.
func isSub(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
