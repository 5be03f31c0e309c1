package ca_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

func TestEstablishMakesEverything(t *testing.T) {
	m := newAppliance(t)
	want := []string{"key_intended", "key_created", "key_intended", "key_created", "key_intended", "key_created", "ceremony_completed", "key_intended", "key_created"}
	if got := m.events(0); !slices.Equal(got[:len(want)], want) {
		t.Errorf("events %v", got)
	}
	if _, err := m.ca.TimeStamper(); err != nil {
		t.Error(err)
	}
	if _, err := m.ca.CheckpointKey(); err != nil {
		t.Error(err)
	}
	for _, k := range append(cert.IssuingCAs(), cert.Root) {
		if _, err := m.ca.CRL(k); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	size, _ := m.ledger.Head()
	if u := m.maintain(); len(u.Issued)+len(u.Lists)+len(u.Warnings) > 0 {
		t.Errorf("nothing to do, and yet: %+v", u)
	}
	m.reopen()
	m.maintain()
	if again, _ := m.ledger.Head(); again != size {
		t.Errorf("opening again wrote %v", m.events(size))
	}
}

func TestIssueFindAndRevoke(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	made := m.issue(doctor("north", "Doctor Clinician"))
	if made.Status != "valid" || !made.KeyExists || made.Subject.GivenName != "Doctor" || made.Subject.Surname != "Clinician" || made.Sub != "a1b2" {
		t.Errorf("%+v", made)
	}
	found, err := m.ca.ByName("north", "Doctor Clinician")
	if err != nil || found.Serial != made.Serial {
		t.Errorf("%+v, %v", found, err)
	}
	for _, other := range [][2]string{{"south", "Doctor Clinician"}, {"north", "doctor clinician"}, {"north", "Dосtor Clinician"}, {"north", ""}} {
		_, err := m.ca.ByName(other[0], other[1])
		wantKind(t, err, fault.NotFound, "Certificate not found for clinician: "+other[1])
	}
	if err := m.ca.Usable(made.Serial); err != nil {
		t.Error(err)
	}
	m.advance(time.Minute)
	gone, err := m.ca.Revoke(ctx, made.Serial, cert.ReasonKeyCompromise, m.time().Add(-30*time.Second), "admin")
	if err != nil || gone.Status != "revoked" || !gone.RevokedAt.Equal(m.time()) || gone.InvalidityDate == nil {
		t.Fatalf("%+v, %v", gone, err)
	}
	wantKind(t, m.ca.Usable(made.Serial), fault.Forbidden, "was revoked")
	if _, err := m.ca.ByName("north", "Doctor Clinician"); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	_, err = m.ca.Revoke(ctx, made.Serial, cert.ReasonSuperseded, time.Time{}, "admin")
	wantKind(t, err, fault.Conflict, "already")
	next := m.issue(doctor("north", "Doctor Clinician"))
	m.reopen()
	if found, err := m.ca.ByName("north", "Doctor Clinician"); err != nil || found.Serial != next.Serial {
		t.Errorf("%+v, %v", found, err)
	}
	if again, err := m.ca.Get(made.Serial); err != nil || again.Status != "revoked" || again.Reason != "keyCompromise" || !again.RevokedAt.Equal(*gone.RevokedAt) {
		t.Errorf("%+v, %v", again, err)
	}
}
