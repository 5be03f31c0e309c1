package signer_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// quick has the whole log read again all the time.
func quick() signer.Patrol {
	return signer.Patrol{After: time.Millisecond, Every: 20 * time.Millisecond, PerSecond: 1 << 30}
}

func (h *house) status(t *testing.T) (st wire.Status) {
	t.Helper()
	h.must(t, wire.OpStatus, wire.Nothing{}, &st)
	return st
}

// until waits until the verifications have come to that.
func (h *house) until(t *testing.T, what string, is func(wire.LogVerified) bool) wire.Status {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		st := h.status(t)
		if is(st.Verified) {
			return st
		}
		if time.Now().After(end) {
			t.Fatalf("%s did not come: %+v", what, st.Verified)
		}
	}
}

// TestDamageInOldLinesStopsSigning: a line far back that is changed under a running signer is found, and nothing is signed until the whole log was verified
// again, also after a restart; administration and downloads go on.
func TestDamageInOldLinesStopsSigning(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Patrol: quick()})
	token := h.token(t, nil)
	if _, _, err := h.portal.sign(t.Context(), wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	r, err := h.portal.open(t.Context(), wanted(token, "RX-2"))
	if err != nil {
		t.Fatal(err)
	}
	good := h.until(t, "a good verification", func(v wire.LogVerified) bool { return !v.At.IsZero() && v.Lines > 5 })
	if !good.Ready || good.Verified.Failures != 0 {
		t.Fatalf("%+v", good)
	}

	change(t, h, `"demo":true`, `"demo":trye`)
	st := h.until(t, "the finding", func(v wire.LogVerified) bool { return v.Damage != "" && v.Failures > 0 })
	if st.Ready || len(st.Reasons) == 0 || !strings.Contains(st.Reasons[0], "line 1") {
		t.Errorf("%+v", st)
	}
	_, err = h.portal.open(t.Context(), wanted(token, "RX-3"))
	wantCode(t, err, fault.Unavailable, "log-damaged", "signing on a damaged log")
	if !strings.Contains(fault.HintOf(err), "audit verify") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	_, err = r.Sign(t.Context(), make([]byte, 32))
	wantCode(t, err, fault.Unavailable, "log-damaged", "a signature that was opened before")
	var b wire.BackupStatus
	if h.must(t, wire.OpBackupStatus, wire.Nothing{}, &b); !strings.Contains(b.Signing, "audit verify") {
		t.Errorf("backup status: %q", b.Signing)
	}
	if _, data, err := h.portal.download(t.Context(), wire.OpDocument, token, "RX-1"); err != nil || len(data) == 0 {
		t.Errorf("a download: %v", err)
	}
	h.must(t, wire.OpClinicAdd, wire.Clinic{Slug: "c", Name: "Clinic c"}, nil)

	// It is mended while the signer is down: what was found holds until all of it was read again.
	h.stop()
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, h, `"demo":trye`, `"demo":true`)
	if h.s, err = signer.Open(context.Background(), h.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.s.Close() })
	_, err = h.s.Begin(t.Context(), "test", h.serial)
	wantCode(t, err, fault.Unavailable, "log-damaged", "signing right after the restart")
	h.portal, h.admin, h.stop = onSockets(t, h.s, signer.ServerConfig{Patrol: quick()})
	if st := h.until(t, "a good verification after the cure", func(v wire.LogVerified) bool { return !v.At.IsZero() && v.Damage == "" }); !st.Ready {
		t.Errorf("%+v", st)
	}
	if _, err := os.Stat(filepath.Join(h.cfg.StateDir, "log-damage")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the finding was kept: %v", err)
	}
}

// change replaces text of the same length in the log, behind the signer's back.
func change(t *testing.T, h *house, from, to string) {
	t.Helper()
	path := filepath.Join(h.cfg.StateDir, "audit_chain.jsonl")
	at := strings.Index(h.logText(t), from)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil || at < 0 {
		t.Fatal(err, at)
	}
	_, err = f.WriteAt([]byte(to), int64(at))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLogThatWasNotCosigned: a log that is whole by itself and by its index, and not the one that was cosigned.
func TestLogThatWasNotCosigned(t *testing.T) {
	w := &witness{held: &chain.Cosigned{Checkpoint: chain.Checkpoint{Tree: chain.Tree{Size: 3, Root: chain.Hash(bytes.Repeat([]byte{7}, chain.HashSize))}}}}
	h := newHouse(t, signer.ServerConfig{Patrol: quick(), Cosigned: w})
	if st := h.until(t, "the finding", func(v wire.LogVerified) bool { return v.Damage != "" }); st.Ready || !strings.Contains(st.Verified.Damage, "first 3 lines") {
		t.Errorf("%+v", st)
	}
}

// TestLineThatWasExchanged: a line that says of a prescription that it was signed, and that somebody put into the log in the place of the right one, is not believed, though it is one by
// itself; nor is one that is none. Others are shown all the same, and the prescription can be cancelled.
func TestLineThatWasExchanged(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	for _, id := range []string{"RX-1", "RX-2", "RX-3"} {
		if _, _, err := h.portal.sign(ctx, wanted(token, id)); err != nil {
			t.Fatal(err)
		}
	}
	signed := func(id string) string {
		for raw := range strings.Lines(h.logText(t)) {
			if line, err := chain.ParseLine([]byte(strings.TrimSuffix(raw, "\n"))); err == nil && line.EventType == "prescription_signed" && strings.Contains(raw, `"`+id+`"`) {
				return strings.TrimSuffix(raw, "\n")
			}
		}
		t.Fatalf("%s is not in the log", id)
		return ""
	}
	was := signed("RX-1")
	line, err := chain.ParseLine([]byte(was))
	if err != nil {
		t.Fatal(err)
	}
	line.Details = bytes.Replace(bytes.Clone(line.Details), []byte("Doctor Clinician"), []byte("Doctor Clinicion"), 1)
	forged, _, err := chain.AppendLine(nil, line.Prev, line.Entry)
	if err != nil || len(forged) != len(was) || string(forged) == was {
		t.Fatalf("%s, %v", forged, err)
	}
	change(t, h, was, string(forged))
	was = signed("RX-2")
	change(t, h, was, strings.Repeat("x", len(was)))
	for _, id := range []string{"RX-1", "RX-2"} {
		for _, op := range []wire.Op{wire.OpDocument, wire.OpPack} {
			_, _, err := h.portal.download(ctx, op, token, id)
			wantKind(t, err, fault.Corrupt, id+", "+string(op))
		}
		_, _, err := h.portal.sign(ctx, wanted(token, id))
		wantKind(t, err, fault.Corrupt, id+", signing again")
	}
	for range 2 { // asking again gets the same answer
		var done wire.Cancelled
		if _, err := h.portal.call(ctx, wire.OpCancel, wire.CancelRequest{Credentials: creds(token), PrescriptionID: "RX-1", Reason: "wrong strength"}, &done, nil); err != nil {
			t.Fatal(err)
		}
		if done.Status != "cancelled" || done.CancelledAt.IsZero() || !done.Incomplete {
			t.Errorf("cancelled: %+v", done)
		}
	}
	var page wire.PrescriptionPage
	if _, err := h.portal.call(ctx, wire.OpPrescriptions, wire.PrescriptionsRequest{Credentials: creds(token)}, &page, nil); err != nil || len(page.Prescriptions) != 3 {
		t.Fatalf("%+v, %v", page, err)
	}
	if whole := page.Prescriptions[0]; whole.Incomplete || whole.PrescriptionID != "RX-3" || whole.MedicationName == "" {
		t.Errorf("the whole one: %+v", whole)
	}
	for i, want := range []struct{ id, status string }{{"RX-2", "signed"}, {"RX-1", "cancelled"}} {
		lost := page.Prescriptions[1+i]
		if !lost.Incomplete || lost.PrescriptionID != want.id || lost.Status != want.status || lost.SHA256 != "" || lost.SignedAt.IsZero() || lost.CancelledAt.IsZero() != (want.status == "signed") {
			t.Errorf("of a line that is not believed is shown: %+v", lost)
		}
	}
	if err := os.Truncate(filepath.Join(h.cfg.StateDir, "audit_chain.jsonl"), int64(strings.Index(h.logText(t), string(forged)))); err != nil {
		t.Fatal(err)
	}
	_, _, err = h.portal.download(ctx, wire.OpDocument, token, "RX-3")
	wantKind(t, err, fault.Corrupt, "a line that is cut off")
}
