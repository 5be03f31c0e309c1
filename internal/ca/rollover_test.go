package ca_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

// rollover holds a later ceremony.
func (m *machine) rollover(o ca.Rollover) {
	m.t.Helper()
	ctx := context.Background()
	r, err := m.ca.BeginRollover(ctx, "operator", o)
	if err != nil {
		m.t.Fatal(err)
	}
	answer, err := m.ceremony(ctx, r)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.ca.Complete(ctx, "operator", answer); err != nil {
		m.t.Fatal(err, fault.HintOf(err))
	}
}

// TestPlannedRollover: new CAs, TSA and responders are used at once, also after a restart; what the old ones issued stays good, signs, and has its state told.
func TestPlannedRollover(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	a := m.issue(doctor("north", "Ann Good"))
	before := map[cert.Kind]string{}
	for _, k := range cert.IssuingCAs() {
		before[k] = m.ca.Issuing(k)
	}
	tsa, err := m.ca.TimeStamper()
	if err != nil {
		t.Fatal(err)
	}
	m.advance(time.Hour)
	line, _ := m.ledger.Head()
	m.rollover(ca.Rollover{Succeed: cert.IssuingCAs()})
	if got := m.events(line); !slices.Contains(got, "ceremony_completed") || slices.Contains(got, "certificate_revoked") {
		t.Errorf("events %v", got)
	}
	for range 2 {
		for _, k := range cert.IssuingCAs() {
			if now := m.ca.Issuing(k); now == before[k] || now == "" {
				t.Errorf("the %s that issues is %q, before it was %q", k, now, before[k])
			}
		}
		next, err := m.ca.TimeStamper()
		if err != nil || next.Serial == tsa.Serial || next.Chain[0].Equal(tsa.Chain[0]) {
			t.Errorf("the TSA is the old one: %v", err)
		}
		if err := m.ca.Usable(a.Serial); err != nil {
			t.Errorf("what the old CA issued signs no more: %v", err)
		}
		if _, err := m.ca.Material(ctx, next.Certificate, tsa.Certificate, parse(t, a.DER)); err != nil {
			t.Errorf("a document with stamps of both TSAs: %v", err)
		}
		if r := m.answer(request(t, m, 5, nil, a)); r.Status != cert.OCSPSuccessful || r.Singles[0].Status != cert.OCSPGood {
			t.Errorf("about what the old CA issued: %+v", r)
		}
		m.reopen()
		m.maintain()
	}
	b := m.issue(doctor("south", "Bob New"))
	if b.Issuer != m.ca.Issuing(cert.ClinicianCA) {
		t.Errorf("issued by %s", b.Issuer)
	}
	// An old CA goes on to publish, and to have a responder, as long as it lives.
	m.advance(30 * day)
	m.maintain()
	der, err := m.ca.CRLOver(a.Serial)
	if list, errList := cert.ParseCRL(der); err != nil || errList != nil || !list.NextUpdate.After(m.time()) {
		t.Errorf("the old CA's list: %v, %v", err, errList)
	}
	if old, err := m.ca.Get(tsa.Serial); err != nil || old.KeyExists || old.Status != ca.StatusValid {
		t.Errorf("the old TSA's key is still there, or its certificate is not good: %+v, %v", old.Status, err)
	}
	// A clinician's successor is by the new CA, for the same person.
	c, err := m.ca.Renew(ctx, a.Serial, 0, "operator")
	if err != nil || c.Issuer != b.Issuer || c.Sub != a.Sub {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestCompromisedCA: succeeded and revoked in one ceremony; what it issued signs no more, and clinicians get successors by the new one.
func TestCompromisedCA(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	a := m.issue(doctor("north", "Ann Good"))
	old := m.ca.Issuing(cert.ClinicianCA)
	m.advance(time.Hour)
	m.rollover(ca.Rollover{Succeed: []cert.Kind{cert.ClinicianCA}, Revoke: []ca.CeremonyRevocation{{Serial: old, Reason: "cACompromise"}}})
	for range 2 {
		wantKind(t, m.ca.Usable(a.Serial), fault.Forbidden, "CA that has been revoked")
		if gone, err := m.ca.Get(old); err != nil || gone.Status != ca.StatusRevoked || gone.Reason != "cACompromise" {
			t.Errorf("%+v, %v", gone, err)
		}
		if u := m.maintain(); len(u.Warnings) > 0 {
			t.Errorf("%v", u.Warnings)
		}
		m.reopen()
	}
	c, err := m.ca.Renew(ctx, a.Serial, 0, "operator")
	if err != nil || c.Issuer == old || c.Sub != a.Sub || m.ca.Usable(c.Serial) != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if found, err := m.ca.ByName("north", "Ann Good"); err != nil || found.Serial != c.Serial {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestRolloverRefuses: nothing that would leave the appliance without a CA, and no key is made for what is refused.
func TestRolloverRefuses(t *testing.T) {
	m := newMachine(t)
	m.open()
	ctx := context.Background()
	_, err := m.ca.BeginRollover(ctx, "operator", ca.Rollover{})
	wantKind(t, err, fault.Unavailable, "ceremony has not been held")
	m.establish()
	a := m.issue(doctor("north", "Ann Good"))
	line, _ := m.ledger.Head()
	clinicians := m.ca.Issuing(cert.ClinicianCA)
	ending := func(serial, reason string) []ca.CeremonyRevocation {
		return []ca.CeremonyRevocation{{Serial: serial, Reason: reason}}
	}
	for name, test := range map[string]struct {
		o    ca.Rollover
		kind fault.Kind
		text string
	}{
		"no CA would be left": {ca.Rollover{Succeed: []cert.Kind{cert.TimeCA}, Revoke: ending(clinicians, "keyCompromise")}, fault.Conflict, "no clinician-ca would be left"},
		"not an issuing CA":   {ca.Rollover{Succeed: []cert.Kind{cert.TSA}}, fault.Invalid, "not an issuing CA"},
		"the root":            {ca.Rollover{Revoke: ending(fmt.Sprintf("%x", m.ca.Root().SerialNumber), "keyCompromise")}, fault.Invalid, "not an issuing CA's"},
		"a clinician":         {ca.Rollover{Revoke: ending(a.Serial, "keyCompromise")}, fault.Invalid, "not an issuing CA's"},
		"no certificate":      {ca.Rollover{Revoke: ending("abcd", "keyCompromise")}, fault.NotFound, "no certificate"},
		"no serial":           {ca.Rollover{Revoke: ending("xyz", "keyCompromise")}, fault.Invalid, "not a serial number"},
		"no reason":           {ca.Rollover{Succeed: cert.IssuingCAs(), Revoke: ending(clinicians, "bored")}, fault.Invalid, "not a reason"},
		"the same one twice":  {ca.Rollover{Succeed: cert.IssuingCAs(), Revoke: append(ending(clinicians, "superseded"), ending(strings.ToUpper(clinicians), "superseded")...)}, fault.Conflict, "revoked already"},
	} {
		if _, err := m.ca.BeginRollover(ctx, "operator", test.o); fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := m.events(line); len(got) > 0 {
		t.Errorf("refused, and yet: %v", got)
	}
	m.advance(time.Hour)
	m.rollover(ca.Rollover{Succeed: cert.IssuingCAs(), Revoke: ending(clinicians, "superseded")})
	_, err = m.ca.BeginRollover(ctx, "operator", ca.Rollover{Revoke: ending(clinicians, "superseded")})
	wantKind(t, err, fault.Conflict, "revoked already")
}

// TestCeremonySignsTheListAgain: nothing but the root's list changes, and it lasts as long as a new one.
func TestCeremonySignsTheListAgain(t *testing.T) {
	m := newAppliance(t)
	issuing := m.ca.Issuing(cert.TimeCA)
	m.advance(390 * day)
	if u := m.maintain(); len(u.Warnings) == 0 {
		t.Error("no warning")
	}
	if err := m.ca.Able(); err != nil {
		t.Error(err)
	}
	m.rollover(ca.Rollover{})
	if left := m.ca.RootCRLExpires().Sub(m.time()); left != ca.RootCRLValidity || m.ca.Issuing(cert.TimeCA) != issuing {
		t.Errorf("the list is good for %v", left)
	}
}

// TestOwnKeysRenewedEarly: the TSA and a responder get new keys when the operator says so; the old keys go an hour later.
func TestOwnKeysRenewedEarly(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	old, err := m.ca.TimeStamper()
	if err != nil {
		t.Fatal(err)
	}
	m.advance(time.Minute)
	made, err := m.ca.Renew(ctx, old.Serial, 0, "operator")
	if err != nil || made.Kind != cert.TSA || made.Renews != old.Serial {
		t.Fatalf("%+v, %v", made, err)
	}
	if now, err := m.ca.TimeStamper(); err != nil || now.Serial != made.Serial {
		t.Errorf("%v", err)
	}
	_, err = m.ca.Renew(ctx, old.Serial, 0, "operator")
	wantKind(t, err, fault.Conflict, "renewed")
	responders, _, err := m.ca.List(ca.Filter{Kind: cert.OCSP})
	if err != nil || len(responders) != 3 {
		t.Fatalf("%d responders, %v", len(responders), err)
	}
	for _, r := range responders {
		next, err := m.ca.Renew(ctx, r.Serial, 0, "operator")
		if err != nil || next.Issuer != r.Issuer {
			t.Errorf("%+v, %v", next, err)
		}
	}
	m.advance(2 * time.Hour)
	m.maintain()
	for _, serial := range []string{old.Serial, responders[0].Serial} {
		if gone, err := m.ca.Get(serial); err != nil || gone.KeyExists || gone.Status != ca.StatusValid {
			t.Errorf("%+v, %v", gone, err)
		}
	}
	_, err = m.ca.Renew(ctx, m.ca.Issuing(cert.TimeCA), 0, "operator")
	wantKind(t, err, fault.Invalid, "ceremony")
}
