package ledger

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// TestVerifyWhileOpen: the log is verified by its name, against what others know, and no faster than asked for.
func TestVerifyWhileOpen(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	defer closeBoth(t, l, db)
	for i := range 40 {
		if _, err := l.Append(t.Context(), Event{Type: "tick", Actor: "test", Details: map[string]any{"n": i, "pad": strings.Repeat("x", 5000)}}); err != nil {
			t.Fatal(err)
		}
	}
	known, err := l.TreeAt(t.Context(), 30)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	rep, err := l.Verify(t.Context(), 400_000, known)
	if err != nil || rep.Size != 40 || rep.Bytes < 200_000 {
		t.Fatalf("%+v %v", rep, err)
	}
	if took := time.Since(begun); took < 450*time.Millisecond { // 200,000 bytes at 400,000 a second
		t.Errorf("%d bytes were read within %v", rep.Bytes, took)
	}
	ended, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Verify(ended, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a verification that is called off: %v", err)
	}
	for what, k := range map[string]chain.Tree{"another past": {Size: 30, Root: chain.Hash{1}}, "more lines": {Size: 41, Root: known.Root}} {
		if _, err := l.Verify(t.Context(), 0, k); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Rename(p.logPath(), p.logPath()+".gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Verify(t.Context(), 0); fault.KindOf(err) != fault.Corrupt || fault.HintOf(err) == "" {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(p.logPath(), bigLog(t, 40), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Verify(t.Context(), 0); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("another file in its place: %v", err)
	}
	if err := os.Rename(p.logPath()+".gone", p.logPath()); err != nil {
		t.Fatal(err)
	}
}
