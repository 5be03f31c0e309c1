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
