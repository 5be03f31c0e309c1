package ca_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

func TestBindIsOnceAndForGood(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	r := doctor("north", "Ann Good")
	r.Sub = ""
	made := m.issue(r)
	if made.Sub != "" {
		t.Fatalf("%+v", made)
	}
	size, _ := m.ledger.Head()
	for _, wrong := range []string{"", "with space", "naïve", "line\n", strings.Repeat("x", 256)} {
		_, err := m.ca.Bind(ctx, made.Serial, wrong, "admin")
		wantKind(t, err, fault.Invalid, "sub is")
	}
	_, err := m.ca.Bind(ctx, "deadbeef", "sub-1", "admin")
	wantKind(t, err, fault.NotFound, "")
	tsa, err := m.ca.TimeStamper()
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.ca.Bind(ctx, tsa.Serial, "sub-1", "admin")
	wantKind(t, err, fault.Invalid, "not a clinician's")
	if now, _ := m.ledger.Head(); now != size {
		t.Error("a refused binding left a line")
	}
	done, err := m.ca.Bind(ctx, made.Serial, "sub-1", "admin")
	if err != nil || done.Sub != "sub-1" {
		t.Fatalf("%+v, %v", done, err)
	}
	for range 2 {
		size, _ = m.ledger.Head()
		if again, err := m.ca.Bind(ctx, made.Serial, "sub-1", "admin"); err != nil || again.Sub != "sub-1" {
			t.Errorf("%+v, %v", again, err)
		}
		_, err = m.ca.Bind(ctx, made.Serial, "sub-2", "admin")
		wantKind(t, err, fault.Conflict, "another person")
		if found, err := m.ca.ByName("north", "Ann Good"); err != nil || found.Sub != "sub-1" {
			t.Errorf("%+v, %v", found, err)
		}
		if now, _ := m.ledger.Head(); now != size {
			t.Error("a binding that changes nothing left a line")
		}
		m.reopen()
	}
	next, err := m.ca.Renew(ctx, made.Serial, 0, "admin")
	if err != nil || next.Sub != "sub-1" {
		t.Fatalf("a renewed certificate means the same person: %+v, %v", next, err)
	}
}

func TestBindRefusesWhatSignsNoMore(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	r := doctor("north", "Ann Good")
	r.Sub = ""
	old := m.issue(r)
	next, err := m.ca.Renew(ctx, old.Serial, 0, "admin")
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.ca.Bind(ctx, old.Serial, "sub-1", "admin")
	wantKind(t, err, fault.Conflict, "has been renewed")
	if _, err := m.ca.Revoke(ctx, next.Serial, cert.ReasonSuperseded, m.time(), "admin"); err != nil {
		t.Fatal(err)
	}
	_, err = m.ca.Bind(ctx, next.Serial, "sub-1", "admin")
	wantKind(t, err, fault.Conflict, "revoked")
	r.Subject.CommonName = "Bob Late"
	late := m.issue(r)
	m.advance(late.NotAfter.Sub(m.time()) + day)
	_, err = m.ca.Bind(ctx, late.Serial, "sub-1", "admin")
	wantKind(t, err, fault.Conflict, "expired")
}

func TestBindTwoAtOnce(t *testing.T) {
	m := newAppliance(t)
	r := doctor("north", "Ann Good")
	r.Sub = ""
	made := m.issue(r)
	var wg sync.WaitGroup
	won := make(chan ca.Certificate, 8)
	for i := range 8 {
		wg.Go(func() {
			if c, err := m.ca.Bind(context.Background(), made.Serial, "sub-"+string(rune('a'+i)), "admin"); err == nil {
				won <- c
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d of 8 won", len(won))
	}
	first := <-won
	m.reopen()
	if c, err := m.ca.Get(made.Serial); err != nil || c.Sub != first.Sub {
		t.Errorf("%+v, %v; want %s", c, err, first.Sub)
	}
}
