package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/wire"
)

const cureCeremony = "hold a ceremony (/usr/share/doc/aes-appliance/operations.md, \"A CA is about to end\")"

// maxNamed bounds how many things of one sort are named one by one.
const maxNamed = 5

func (e *exam) certificates(ctx context.Context, s *sheet) {
	said, err := e.signer.examined(ctx)
	if err != nil {
		s.unasked("certificates.authorities", err)
		s.unasked("certificates.own", err)
		s.unasked("certificates.clinicians", err)
		s.unasked("certificates.pins", err)
		return
	}
	e.authorities(s, said)
	for _, c := range said.Overdue {
		s.bad("certificates.own", cureSigner, "the %s certificate that ends on %s should have been renewed by now", c.CertType, c.NotAfter.Format(time.DateOnly))
	}
	if len(said.Overdue) == 0 {
		s.ok("certificates.own", "%d certificates of the appliance's own are renewed by itself, in time", len(said.Own)).with("own", len(said.Own))
	}
	e.clinicians(ctx, s)
	e.pins(ctx, s)
}

func (e *exam) authorities(s *sheet, said wire.Examined) {
	first, fine := time.Time{}, true
	for _, a := range said.Authorities {
		if !a.Newest {
			continue
		}
		if first.IsZero() || a.NotAfter.Before(first) {
			first = a.NotAfter
		}
		left := e.left(a.NotAfter)
		ends := a.NotAfter.Format(time.DateOnly)
		switch {
		case a.Revoked:
			s.bad("certificates.authorities", cureCeremony, "%s is revoked, and there is no successor", a.Name)
		case left < warnEnd:
			s.bad("certificates.authorities", cureCeremony, "%s ends on %s, in %s", a.Name, ends, days(left))
		case a.Due:
			s.warn("certificates.authorities", cureCeremony, "%s ends on %s: its successor is due, or certificates below it are cut short", a.Name, ends)
		default:
			continue
		}
		fine = false
	}
	if fine {
		s.ok("certificates.authorities", "the root and %d CAs are valid, the first until %s", len(said.Authorities)-1, first.Format(time.DateOnly)).with("first_end", first)
	}
}

// clinicians says which certificates somebody must renew.
func (e *exam) clinicians(ctx context.Context, s *sheet) {
	var page wire.CertPage
	_, err := e.signer.client.Call(ctx, wire.OpCertList, wire.CertListRequest{Expiring: true, ExpiringDays: int(warnEnd.Hours() / 24)}, &page, nil)
	if err != nil {
		s.unasked("certificates.clinicians", err)
		return
	}
	if len(page.Certificates) == 0 {
		s.ok("certificates.clinicians", "no certificate that somebody must renew ends within %s", days(warnEnd))
		return
	}
	soonest := page.Certificates[0]
	text := fmt.Sprintf("%d certificates end within %s, the first that of %s on %s", len(page.Certificates), days(warnEnd), soonest.CommonName, soonest.NotAfter.Format(time.DateOnly))
	const cure = "appliance cert expiring; appliance cert renew SERIAL"
	v := Warn
	if e.left(soonest.NotAfter) < badEnd {
		v = Bad
	}
	s.add("certificates.clinicians", v, cure, text).with("ending", len(page.Certificates)).with("first_end", soonest.NotAfter)
}

// pins looks at the certificates that realms are pinned to: when one ends, its clinic cannot sign.
func (e *exam) pins(ctx context.Context, s *sheet) {
	var page wire.RealmPage
	if _, err := e.signer.client.Call(ctx, wire.OpRealmList, wire.Nothing{}, &page, nil); err != nil {
		s.unasked("certificates.pins", err)
		return
	}
	pinned, fine := 0, true
	for _, r := range page.Realms {
		for rest := []byte(r.CA); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				continue // registered once, and judged then
			}
			pinned++
			const cure = "get the new one from the clinic, then: appliance realm add ISSUER --clinic SLUG --ca FILE"
			switch left := e.left(c.NotAfter); {
			case left <= 0:
				s.bad("certificates.pins", cure, "the certificate that realm %s is pinned to ended on %s", r.Issuer, c.NotAfter.Format(time.DateOnly))
				fine = false
			case left < warnEnd:
				s.warn("certificates.pins", cure, "the certificate that realm %s is pinned to ends on %s", r.Issuer, c.NotAfter.Format(time.DateOnly))
				fine = false
			}
		}
	}
	if pinned == 0 {
		s.ok("certificates.pins", "no realm is pinned to a certificate of its own")
	} else if fine {
		s.ok("certificates.pins", "%d certificates that realms are pinned to are valid for longer than %s", pinned, days(warnEnd))
	}
}

// issuerOf finds the certificate that signed c among the authorities.
func issuerOf(said wire.Examined, c *x509.Certificate) *x509.Certificate {
	for _, a := range said.Authorities {
		if ca, err := x509.ParseCertificate(a.DER); err == nil && c.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

// isRoot reports whether an authority is the root.
func isRoot(a wire.Authority) bool { return a.Kind == string(cert.Root) }

// few names the first of many.
func few(names []string) string {
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxNamed)
	}
	return strings.Join(names, ", ")
}
