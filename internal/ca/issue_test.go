package ca_test

import (
	"bytes"
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

func TestRenew(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	old := m.issue(doctor("north", "Ann Good"))
	m.advance(700 * day)
	m.establish()
	if list := m.ca.Expiring(60 * day); len(list) == 0 || !slices.ContainsFunc(list, func(c ca.Certificate) bool { return c.Serial == old.Serial }) {
		t.Errorf("%v", list)
	}
	next, err := m.ca.Renew(ctx, old.Serial, 0, "admin")
	if err != nil {
		t.Fatal(err)
	}
	if next.Renews != old.Serial || next.Subject != old.Subject || next.Sub != old.Sub || bytes.Equal(parse(t, next.DER).RawSubjectPublicKeyInfo, parse(t, old.DER).RawSubjectPublicKeyInfo) {
		t.Errorf("%+v", next)
	}
	for range 2 {
		if c, err := m.ca.ByName("north", "Ann Good"); err != nil || c.Serial != next.Serial {
			t.Errorf("%+v, %v", c, err)
		}
		wantKind(t, m.ca.Usable(old.Serial), fault.Forbidden, "has been renewed")
		if c, err := m.ca.Get(old.Serial); err != nil || c.Status != ca.StatusValid || c.RenewedBy != next.Serial {
			t.Errorf("%+v, %v", c, err)
		}
		_, err = m.ca.Renew(ctx, old.Serial, 0, "admin")
		wantKind(t, err, fault.Conflict, "has been renewed")
		m.reopen()
	}
	if slices.ContainsFunc(m.ca.Expiring(60*day), func(c ca.Certificate) bool { return c.Serial == old.Serial }) {
		t.Error("the old one is still said to expire")
	}
	// Who revokes the newest has ended the clinician's signing: the older one does not come back.
	if _, err := m.ca.Revoke(ctx, next.Serial, cert.ReasonAffiliationChanged, time.Time{}, "admin"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ca.ByName("north", "Ann Good"); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	_, err = m.ca.Renew(ctx, next.Serial, 0, "admin")
	wantKind(t, err, fault.Conflict, "revoked")
}

func TestIssueRefuses(t *testing.T) {
	m := newMachine(t)
	m.open()
	ctx := context.Background()
	_, err := m.ca.Issue(ctx, doctor("north", "Ann Good"))
	wantKind(t, err, fault.Unavailable, "ceremony")
	m.establish()
	m.issue(doctor("north", "Ann Good"))
	m.issue(doctor("south", "Ann Good")) // another clinic's
	size, _ := m.ledger.Head()
	change := func(f func(*ca.Request)) ca.Request {
		r := doctor("north", "Bob New")
		f(&r)
		return r
	}
	for _, c := range []struct {
		name, want string
		kind       fault.Kind
		r          ca.Request
	}{
		{"same name", "has a valid certificate", fault.Conflict, doctor("north", "Ann Good")},
		{"look-alike", "looks the same", fault.Conflict, doctor("north", "Аnn Good")},
		{"other case", "looks the same", fault.Conflict, doctor("north", "ann good")},
		{"no clinic", "belongs to a clinic", fault.Invalid, doctor("", "Bob New")},
		{"bad clinic", "belongs to a clinic", fault.Invalid, doctor("North!", "Bob New")},
		{"nobody asks", "who asks", fault.Invalid, change(func(r *ca.Request) { r.Actor = "" })},
		{"a CA", "not issued here", fault.Invalid, change(func(r *ca.Request) { r.Kind = cert.ClinicianCA })},
		{"no such kind", "not issued here", fault.Invalid, change(func(r *ca.Request) { r.Kind = "x" })},
		{"bidi", "cannot stand", fault.Invalid, change(func(r *ca.Request) { r.Subject.CommonName = "Bob\u202e" })},
		{"bad number", "cannot stand", fault.Invalid, change(func(r *ca.Request) { r.Subject.SerialNumber = "1" })},
		{"ten years", "profile", fault.Invalid, change(func(r *ca.Request) { r.Validity = 3650 * day })},
		{"a clinician's CSR", "only TLS", fault.Invalid, change(func(r *ca.Request) { r.CSR = []byte{1} })},
		{"no algorithm", "algorithm", fault.Invalid, change(func(r *ca.Request) { r.Algorithm = "dsa" })},
		{"bad CSR", "PKCS#10", fault.Invalid, ca.Request{Kind: cert.TLSClient, Actor: "a", Subject: cert.Subject{CommonName: "x"}, CSR: []byte{1}}},
		{"OCSP of no CA", "no CA of kind", fault.Invalid, ca.Request{Kind: cert.OCSP, Actor: "a"}},
		{"server without name", "profile", fault.Invalid, ca.Request{Kind: cert.TLSServer, Actor: "a", Subject: cert.Subject{CommonName: "x"}}},
		{"sub of a machine", "sub is for", fault.Invalid, ca.Request{Kind: cert.TLSClient, Actor: "a", Sub: "x", Subject: cert.Subject{CommonName: "x"}}},
	} {
		_, err := m.ca.Issue(ctx, c.r)
		if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v (%v), want %v about %q", c.name, err, fault.KindOf(err), c.kind, c.want)
		}
	}
	m.unproven = true
	_, err = m.ca.Issue(ctx, doctor("north", "Bob New"))
	wantKind(t, err, fault.Unavailable, "not synchronised")
	if again, _ := m.ledger.Head(); again != size {
		t.Errorf("refusals wrote %v", m.events(size))
	}
	if m.answer(request(t, m, 3, nil, m.mustByName("north", "Ann Good"))).Status != cert.OCSPSuccessful {
		t.Error("public OCSP needs no proven clock")
	}
}

func (m *machine) mustByName(clinic, name string) ca.Certificate {
	m.t.Helper()
	c, err := m.ca.ByName(clinic, name)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func TestListPages(t *testing.T) {
	m := newAppliance(t)
	var want []string
	for i := range 25 {
		want = append(want, m.issue(doctor([]string{"north", "south"}[i%2], fmt.Sprintf("Ann Good%c", 'a'+i))).Serial)
	}
	for range 2 {
		var got []string
		f := ca.Filter{Kind: cert.Clinician, Limit: 10}
		for {
			page, more, err := m.ca.List(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page {
				got = append(got, c.Serial)
			}
			if !more {
				break
			}
			f.After = got[len(got)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d certificates listed, want %d", len(got), len(want))
		}
		if page, _, err := m.ca.List(ca.Filter{Clinic: "south"}); err != nil || len(page) != 12 {
			t.Errorf("%d of the south, %v", len(page), err)
		}
		if page, _, err := m.ca.List(ca.Filter{Status: ca.StatusRevoked}); err != nil || len(page) != 0 {
			t.Errorf("%d revoked, %v", len(page), err)
		}
		m.reopen()
	}
	_, _, err := m.ca.List(ca.Filter{After: "x"})
	wantKind(t, err, fault.NotFound, "no certificate")
}
