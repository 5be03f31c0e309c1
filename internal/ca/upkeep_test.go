package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

const day = 24 * time.Hour

// TestSixYearsOfUpkeep runs the appliance for longer than a TSA certificate's life, with the root brought out every 324 days.
func TestSixYearsOfUpkeep(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	tsas, last := 0, m.time()
	for d := 0; d < 6*365; d += 9 {
		m.advance(9 * day)
		if d%324 == 315 {
			m.establish()
		}
		u := m.maintain()
		if len(u.Warnings) > 0 {
			t.Fatalf("day %d: %v", d, u.Warnings)
		}
		if u.NewTSA {
			tsas++
		}
		tsa, err := m.ca.TimeStamper()
		if err != nil || !tsa.Until.After(m.time().Add(20*day)) {
			t.Fatalf("day %d: TSA until %v, %v", d, tsa.Until, err)
		}
		mat, err := m.ca.Material(ctx, tsa.Certificate)
		if err != nil {
			t.Fatalf("day %d: %v", d, err)
		}
		r, err := cert.ParseOCSPResponse(mat.OCSPs[0])
		if err != nil || r.Singles[0].Status != cert.OCSPGood || r.ProducedAt.Before(r.Certificates[0].NotBefore) || r.ProducedAt.After(r.Certificates[0].NotAfter) {
			t.Fatalf("day %d: %+v, %v", d, r, err)
		}
		for _, k := range cert.IssuingCAs() {
			der, err := m.ca.CRL(k)
			if err != nil {
				t.Fatal(err)
			}
			if list, err := cert.ParseCRL(der); err != nil || !list.NextUpdate.After(m.time().Add(5*day)) {
				t.Fatalf("day %d: CRL of %s: %v, %v", d, k, list.NextUpdate, err)
			}
		}
		last = m.time()
	}
	if tsas < 6 || tsas > 7 {
		t.Errorf("%d TSA keys in %v", tsas, last)
	}
	keys, err := m.keys.Keys()
	if err != nil || len(keys) > 3+1+1+3+4 {
		t.Errorf("%d keys in the token: those superseded are not destroyed, %v", len(keys), err)
	}
	m.reopen()
	m.maintain()
}

func TestRootCRLRunsOut(t *testing.T) {
	m := newAppliance(t)
	a := m.issue(ca.Request{Kind: cert.Clinician, Clinic: "north", Actor: "admin", Subject: doctor("", "Ann Good").Subject, Validity: 3 * 365 * day})
	m.advance(350 * day)
	if u := m.maintain(); len(u.Warnings) != 1 || !strings.Contains(u.Warnings[0], "root's CRL runs out") {
		t.Errorf("%v", u.Warnings)
	}
	if err := m.ca.Usable(a.Serial); err != nil {
		t.Error(err)
	}
	m.advance(49 * day)
	wantKind(t, m.ca.Usable(a.Serial), fault.Unavailable, "root's CRL runs out")
	_, err := m.ca.Material(context.Background(), parse(t, a.DER))
	wantKind(t, err, fault.Unavailable, "root's CRL runs out")
	m.establish()
	if err := m.ca.Usable(a.Serial); err != nil {
		t.Error(err)
	}
	m.reopen()
	if err := m.ca.Usable(a.Serial); err != nil {
		t.Error(err)
	}
}

func TestCARevokedAndSucceeded(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	a := m.issue(doctor("north", "Ann Good"))
	chain, err := m.ca.Chain(a.Serial)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.ca.Revoke(ctx, fmt.Sprintf("%x", chain[1].SerialNumber), cert.ReasonKeyCompromise, time.Time{}, "admin")
	wantKind(t, err, fault.Forbidden, "by the root")
	m.advance(time.Hour)
	r, err := m.ca.Begin(ctx, "operator")
	if err != nil {
		t.Fatal(err)
	}
	r.Revoke = []ca.CeremonyRevocation{{Serial: fmt.Sprintf("%x", chain[1].SerialNumber), Reason: "keyCompromise"}}
	answer, err := m.ceremony(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ca.Complete(ctx, "operator", answer); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantKind(t, m.ca.Usable(a.Serial), fault.Forbidden, "CA that has been revoked")
		_, err = m.ca.Issue(ctx, doctor("south", "Bob New"))
		wantKind(t, err, fault.Forbidden, "has been revoked")
		if u := m.maintain(); len(u.Warnings) != 1 || !strings.Contains(u.Warnings[0], "is revoked") {
			t.Errorf("%v", u.Warnings)
		}
		m.reopen()
	}
	if r, err = m.ca.Begin(ctx, "operator", cert.ClinicianCA); err != nil {
		t.Fatal(err)
	}
	if answer, err = m.ceremony(ctx, r); err != nil {
		t.Fatal(err)
	}
	if err := m.ca.Complete(ctx, "operator", answer); err != nil {
		t.Fatal(err)
	}
	b := m.issue(doctor("south", "Bob New"))
	if err := m.ca.Usable(b.Serial); err != nil {
		t.Error(err)
	}
	if r := m.answer(request(t, m, 5, nil, b)); r.Status != cert.OCSPSuccessful || r.Singles[0].Status != cert.OCSPGood {
		t.Errorf("%+v", r)
	}
	list, err := cert.ParseCRL(answer.CRL)
	if err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("the root forgot: %v, %v", list.RevokedCertificateEntries, err)
	}
	m.reopen()
	if err := m.ca.Usable(b.Serial); err != nil {
		t.Error(err)
	}
	// What the old CA issued, its own last list is about: a CA that is revoked signs no more.
	m.advance(20 * day)
	m.maintain()
	for _, serial := range []string{a.Serial, b.Serial} {
		path, err := m.ca.Chain(serial)
		if err != nil {
			t.Fatal(err)
		}
		der, err := m.ca.CRLOver(serial)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := cert.ParseCRL(der); err != nil || list.CheckSignatureFrom(path[1]) != nil || list.NextUpdate.After(m.time()) != (serial == b.Serial) {
			t.Errorf("the list over %s: %v to %v, %v", serial, list.ThisUpdate, list.NextUpdate, err)
		}
	}
}

func TestTSAMovesToTheNewTimeCA(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	before, err := m.ca.TimeStamper()
	if err != nil {
		t.Fatal(err)
	}
	m.advance(time.Hour)
	r, err := m.ca.Begin(ctx, "operator", cert.TimeCA)
	if err != nil {
		t.Fatal(err)
	}
	r.Revoke = []ca.CeremonyRevocation{{Serial: fmt.Sprintf("%x", before.Chain[0].SerialNumber), Reason: "cACompromise"}}
	answer, err := m.ceremony(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.ca.Complete(ctx, "operator", answer); err != nil {
		t.Fatal(err)
	}
	after, err := m.ca.TimeStamper()
	if err != nil || after.Serial == before.Serial || after.Chain[0].Equal(before.Chain[0]) {
		t.Errorf("%+v, %v", after, err)
	}
	if _, err := m.ca.Material(ctx, after.Certificate); err != nil {
		t.Error(err)
	}
}

func TestCompleteRefusesOtherAnswers(t *testing.T) {
	m := newMachine(t)
	m.open()
	ctx := context.Background()
	begin := func() ca.CeremonyRequest {
		r, err := m.ca.Begin(ctx, "operator")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	answer := func(m *machine, r ca.CeremonyRequest) ca.CeremonyAnswer {
		a, err := m.ceremony(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	r := begin()
	if again := begin(); !bytes.Equal(publicKey(t, r.Requests[cert.TimeCA]), publicKey(t, again.Requests[cert.TimeCA])) {
		t.Error("a second Begin made other keys")
	}
	other := newMachine(t)
	other.open()
	otherRequest, err := other.ca.Begin(ctx, "operator")
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*ca.CeremonyAnswer){
		"root certificate":           func(a *ca.CeremonyAnswer) { a.Root = nil },
		"time-ca is missing":         func(a *ca.CeremonyAnswer) { delete(a.Certificates, cert.TimeCA) },
		"not for the key":            func(a *ca.CeremonyAnswer) { *a = answer(m, otherRequest) },
		"certificate of the time-ca": func(a *ca.CeremonyAnswer) { a.Certificates[cert.TimeCA] = a.Certificates[cert.ClinicianCA] },
		"CRL":                        func(a *ca.CeremonyAnswer) { a.CRL = nil },
		"root CRL: x509":             func(a *ca.CeremonyAnswer) { a.CRL = answer(other, otherRequest).CRL },
		"clocks":                     func(a *ca.CeremonyAnswer) { m.advance(-time.Hour) },
	} {
		a := answer(m, r)
		change(&a)
		wantKind(t, m.ca.Complete(ctx, "operator", a), fault.Invalid, want)
		if m.ca.Established() {
			t.Fatalf("%s: established all the same", want)
		}
	}
	m.advance(time.Hour)
	first := answer(m, r)
	if err := m.ca.Complete(ctx, "operator", first); err != nil {
		t.Fatal(err)
	}
	wantKind(t, m.ca.Complete(ctx, "operator", first), fault.Invalid, "awaits one")
	first.Certificates = nil
	wantKind(t, m.ca.Complete(ctx, "operator", first), fault.Invalid, "does not follow")
	wantKind(t, m.ca.Complete(ctx, "operator", answer(other, otherRequest)), fault.Invalid, "not the one in use")
}

func publicKey(t *testing.T, csr []byte) []byte {
	t.Helper()
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	return r.RawSubjectPublicKeyInfo
}

func TestRootCeremonyRefuses(t *testing.T) {
	m := newAppliance(t)
	other := newAppliance(t)
	ctx := context.Background()
	for want, change := range map[string]func(*ca.CeremonyRequest){
		"settings are wrong":       func(r *ca.CeremonyRequest) { r.Settings.BaseURL = "" },
		"is not the certificate's": func(r *ca.CeremonyRequest) { r.Root = other.ca.Root().Raw },
		"cannot be read":           func(r *ca.CeremonyRequest) { r.Root = []byte{1} },
		"time-ca cannot be":        func(r *ca.CeremonyRequest) { r.Requests[cert.TimeCA] = []byte{1} },
		"does not issue":           func(r *ca.CeremonyRequest) { r.Requests[cert.TSA] = []byte{1} },
		"previous CRL is not":      func(r *ca.CeremonyRequest) { r.CRL, _ = other.ca.CRL(cert.Root) },
		"is not a reason": func(r *ca.CeremonyRequest) {
			r.Revoke = []ca.CeremonyRevocation{{Serial: "1", Reason: "certificateHold"}}
		},
		"revocation of \"xyz\"": func(r *ca.CeremonyRequest) { r.Revoke = []ca.CeremonyRevocation{{Serial: "xyz", Reason: "superseded"}} },
	} {
		r, err := m.ca.Begin(ctx, "operator")
		if err != nil {
			t.Fatal(err)
		}
		change(&r)
		if _, err := m.ceremony(ctx, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	r, err := m.ca.Begin(ctx, "operator")
	if err != nil {
		t.Fatal(err)
	}
	_, err = ca.RootCeremony(ctx, ca.RootConfig{Keys: newSoftKeys(), Now: m.time(), Rand: bytes.NewReader(nil)}, r)
	wantKind(t, err, fault.Conflict, "does not hold the root's key")
	m.advance(-time.Hour)
	_, err = m.ceremony(ctx, r)
	wantKind(t, err, fault.Invalid, "the clock says")
}

func TestSettingsCannotChangeAfterTheCeremony(t *testing.T) {
	m := newAppliance(t)
	m.close()
	m.settings.Demo = true
	wantKind(t, m.tryOpen(), fault.Invalid, "settings name the")
}

// TestEverythingAtOnce is for the race detector.
func TestEverythingAtOnce(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	a := m.issue(doctor("north", "Ann Good"))
	question := request(t, m, 3, []byte("n"), a)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				made, err := m.ca.Issue(ctx, doctor("north", fmt.Sprintf("Bob %c%c", 'a'+i, 'a'+j)))
				if err != nil {
					t.Error(err)
					return
				}
				m.ca.OCSP(ctx, question)
				if j%2 == 0 {
					_, err = m.ca.Revoke(ctx, made.Serial, cert.ReasonSuperseded, time.Time{}, "admin")
				} else {
					_, err = m.ca.Renew(ctx, made.Serial, 0, "admin")
				}
				if err != nil {
					t.Error(err)
				}
				if _, err := m.ca.Maintain(ctx); err != nil {
					t.Error(err)
				}
				if _, err := m.ca.Signer(ctx, a.Serial); err != nil {
					t.Error(err)
				}
				m.ca.Expiring(day)
			}
		})
	}
	same := make(chan error, 8)
	for range cap(same) {
		go func() { _, err := m.ca.Issue(ctx, doctor("north", "Only One")); same <- err }()
	}
	made := 0
	for range cap(same) {
		if err := <-same; err == nil {
			made++
		} else if fault.KindOf(err) != fault.Conflict {
			t.Error(err)
		}
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("one name was issued %d times", made)
	}
	crl, err := m.ca.CRL(cert.ClinicianCA)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := cert.ParseCRL(crl); err != nil || len(list.RevokedCertificateEntries) != 24 {
		t.Errorf("%d on the CRL, %v", len(list.RevokedCertificateEntries), err)
	}
}
