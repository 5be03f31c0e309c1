package signer_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// TestSameContentSameAnswer is the table of idempotency.
func TestSameContentSameAnswer(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx := t.Context()
	token := h.token(t, nil)
	type change = func(*prescription.Prescription, *wire.SignOpen)
	key := func(k string) change {
		return func(_ *prescription.Prescription, in *wire.SignOpen) { in.IdempotencyKey = k }
	}
	base := wanted(token, "RX-1", key("k1"))
	first, _, err := h.portal.sign(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	fresh := h.token(t, nil)
	colleague := h.token(t, func(p *oidctest.Person) { p.Sub, p.Name = "colleague", "Carla Colleague" })
	h.credential(t, "a", "Carla Colleague", "colleague")
	at := base.Consent.Timestamp
	same := func(_ *prescription.Prescription, in *wire.SignOpen) { in.Consent.Timestamp = at }
	for _, c := range []struct {
		what, token, id string
		change          []change
		repeated        bool
		kind            fault.Kind
		code            string
	}{
		{"the same again", token, "RX-1", []change{key("k1"), same}, true, 0, ""},
		{"a fresh token of the same person", fresh, "RX-1", []change{key("k1"), same}, true, 0, ""},
		{"without the key", token, "RX-1", []change{same}, true, 0, ""},
		{"under another key", token, "RX-1", []change{key("k2"), same}, true, 0, ""},
		{"other white space, the same text", token, "RX-1", []change{same, func(p *prescription.Prescription, _ *wire.SignOpen) { p.Dosage = "  " + p.Dosage + " " }}, true, 0, ""},
		{"from another address", token, "RX-1", []change{same, func(_ *prescription.Prescription, in *wire.SignOpen) {
			in.Observed.PeerIP, in.Asserted.UserAgent = "192.0.2.8", "x"
		}}, true, 0, ""},
		{"another dosage", token, "RX-1", []change{same, func(p *prescription.Prescription, _ *wire.SignOpen) { p.Dosage += " Twice." }}, false, fault.Conflict, "prescription-conflict"},
		{"another consent", token, "RX-1", []change{same, func(_ *prescription.Prescription, in *wire.SignOpen) { in.Consent.Text += "!" }}, false, fault.Conflict, "prescription-conflict"},
		{"the key for another prescription", token, "RX-2", []change{key("k1"), same}, false, fault.Conflict, "idempotency-conflict"},
		{"another person", colleague, "RX-1", []change{same}, false, fault.Conflict, "prescription-conflict"},
		{"another person with the same key", colleague, "RX-3", []change{key("k1"), same, func(p *prescription.Prescription, _ *wire.SignOpen) { p.ClinicianCN = "Carla Colleague" }}, false, 0, ""},
		{"another prescription", token, "RX-4", []change{same}, false, 0, ""},
	} {
		lines := count(h.since(t, 0), "prescription_signed")
		done, _, err := h.portal.sign(ctx, wanted(c.token, c.id, c.change...))
		signed := count(h.since(t, 0), "prescription_signed") - lines
		switch {
		case c.code != "":
			wantCode(t, err, c.kind, c.code, c.what)
			if signed != 0 {
				t.Errorf("%s: signed", c.what)
			}
		case err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.repeated:
			again := done
			again.Repeated = false
			if !done.Repeated || again != first || signed != 0 {
				t.Errorf("%s: %+v, first %+v, %d new", c.what, done, first, signed)
			}
		case done.Repeated || signed != 1:
			t.Errorf("%s: %+v, %d new", c.what, done, signed)
		}
	}
}

// TestRepetitionIsNoOracle: asking only for an earlier answer tells nobody of another person's prescription without a line.
func TestRepetitionIsNoOracle(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	in := wanted(h.token(t, nil), "RX-1")
	if _, _, err := h.portal.sign(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	in.RepeatOnly = true
	in.Token = h.token(t, func(p *oidctest.Person) { p.Sub, p.Name = "colleague", "Carla Colleague" })
	before := h.lines(t)
	got, err := h.portal.open(t.Context(), in)
	wantCode(t, err, fault.Conflict, "prescription-conflict", "another person's")
	if got.Done != nil {
		t.Errorf("answered with %+v", got.Done)
	}
	if lines := h.since(t, before); !slices.Equal(lines, []string{"signing_refused"}) {
		t.Errorf("it left %v", lines)
	}
}

func TestSameContentAtTheSameTimeIsSignedOnce(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	in := wanted(h.token(t, nil), "RX-1")
	var wg sync.WaitGroup
	results := make([]wire.SignResult, 8)
	for i := range results {
		wg.Go(func() {
			var err error
			if results[i], _, err = h.portal.sign(t.Context(), in); err != nil {
				t.Error(err)
			}
			results[i].Repeated = false
		})
	}
	wg.Wait()
	for _, r := range results {
		if r != results[0] {
			t.Errorf("%+v and %+v", r, results[0])
		}
	}
	if n := count(h.since(t, 0), "prescription_signed"); n != 1 {
		t.Errorf("signed %d times", n)
	}
}

// TestLostPeerHoldsNothingUp: a portal that is gone leaves prescriptions half signed; whoever asks for them again, through the next one, need not wait.
func TestLostPeerHoldsNothingUp(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	for _, far := range []string{"opened", "signed", "stamped"} {
		t.Run(far, func(t *testing.T) {
			before := count(h.since(t, 0), "signing_incomplete")
			in := wanted(h.token(t, nil), "RX-"+far)
			lost := peerAt(h.portal.path)
			r, err := lost.open(t.Context(), in)
			if err == nil && far != "opened" {
				_, err = r.Sign(t.Context(), make([]byte, 32))
			}
			if err == nil && far == "stamped" {
				_, err = r.Stamp(t.Context(), make([]byte, 32))
			}
			if err := errors.Join(err, lost.Close()); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, _, err := h.portal.sign(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(begun); waited > 5*time.Second {
				t.Errorf("waited %v for an operation of which nobody knows any more", waited)
			}
			want := 1
			if far == "opened" {
				want = 0
			}
			if got := count(h.since(t, 0), "signing_incomplete") - before; got != want {
				t.Errorf("%d signatures closed as incomplete, want %d", got, want)
			}
		})
	}
	// Nobody asks again: it is closed all the same, long before its time is up.
	lost := peerAt(h.portal.path)
	r, err := lost.open(t.Context(), wanted(h.token(t, nil), "RX-nobody"))
	if err == nil {
		_, err = r.Sign(t.Context(), make([]byte, 32))
	}
	if err := errors.Join(err, lost.Close()); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); count(h.since(t, 0), "signing_incomplete") < 3; time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("the signature is still open")
		}
	}
}
