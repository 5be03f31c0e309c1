package signer_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/signer"
)

func TestFoundingTwiceIsRefused(t *testing.T) {
	cfg := settings(t)
	if err := found(t, cfg, false).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := signer.Found(context.Background(), cfg, signer.Founding{Actor: "test", Ceremony: inChild})
	wantKind(t, err, fault.Conflict, "founding where there is an appliance")
}

// TestLogKeepsItsName: moving the PKI to another address makes no other log: what backup and witnesses have cosigned is still of this one.
func TestLogKeepsItsName(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	_, key, err := s.LogKey()
	if err != nil {
		t.Fatal(err)
	}
	origin := s.Origin()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.PKI.BaseURL = "http://moved.example.org"
	s, err = signer.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	_, again, err := s.LogKey()
	if err != nil || again != key || s.Origin() != origin || strings.Contains(origin, "moved") {
		t.Errorf("%s %s after the move, %s %s before, %v", s.Origin(), again, origin, key, err)
	}
}

func TestUnfinishedFoundingIsNoAppliance(t *testing.T) {
	cfg := settings(t)
	broken := func(string) ca.Root {
		return func(context.Context, ca.CeremonyRequest) (a ca.CeremonyAnswer, err error) {
			return a, fmt.Errorf("the power failed")
		}
	}
	if _, err := signer.Found(context.Background(), cfg, signer.Founding{Actor: "test", Ceremony: broken}); err == nil {
		t.Fatal("founded without a ceremony")
	}
	_, err := signer.Open(context.Background(), cfg)
	wantKind(t, err, fault.NotFound, "opening what was not finished")
	found(t, cfg, false)
	if _, err := os.Stat(cfg.StateDir + ".new"); err == nil {
		t.Error("the unfinished folder is still there")
	}
}

// TestLogThatWasCutCostsNothing: whatever is gone from the log, what remains is told to be restored, and no key, no file goes away.
func TestLogThatWasCutCostsNothing(t *testing.T) {
	cfg := settings(t)
	cfg.Clock.Mode = clock.Unproven // also then: that says nothing of the log
	s := found(t, cfg, true)
	clinician(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(cfg.StateDir, ledger.FileName)
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	ceremony := slices.Index(types(t, cfg), "ceremony_completed")
	lines := bytes.SplitAfter(whole, []byte("\n"))
	before := tree(t, cfg.StateDir)
	for n := -1; n <= ceremony; n++ {
		if err := os.Remove(filepath.Join(cfg.StateDir, "index.db")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if n < 0 {
			err = os.Remove(log)
		} else {
			err = os.WriteFile(log, bytes.Join(lines[:n], nil), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = signer.Open(context.Background(), cfg)
		wantKind(t, err, fault.Corrupt, fmt.Sprintf("a log of %d lines", n))
		if hint := fault.HintOf(err); !strings.Contains(hint, "restore "+log) || !strings.Contains(hint, "remove nothing") {
			t.Errorf("a log of %d lines: hint %q", n, hint)
		}
	}
	if after := tree(t, cfg.StateDir); !slices.Equal(before, after) {
		t.Errorf("files before\n%v\nand after\n%v", before, after)
	}
	if err := os.WriteFile(log, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = signer.Open(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// tree lists the keys and objects below a state folder.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, sub := range []string{"token/tokens", "objects"} {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, _ os.DirEntry, err error) error {
			names = append(names, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// TestReadersLeaveNoLine: opening and closing is no act; the first act brings the line of the opening, once, before its own.
func TestReadersLeaveNoLine(t *testing.T) {
	cfg := settings(t)
	if err := found(t, cfg, false).Close(); err != nil {
		t.Fatal(err)
	}
	before := types(t, cfg)
	for range 2 {
		s, err := signer.Open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.CA().List(ca.Filter{}); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := types(t, cfg); len(after) != len(before) {
		t.Errorf("reading has left %v", after[len(before):])
	}
	s, err := signer.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	clinician(t, s)
	if err := s.Renewed(context.Background(), "test", nil, nil); err != nil {
		t.Fatal(err)
	}
	after := types(t, cfg)[len(before):]
	if after[0] != "system_startup" || slices.Contains(after[1:], "system_startup") {
		t.Errorf("the acts have left %v", after)
	}
}

// TestOneProcessAtATime: who comes second is told so at once, whatever the first is doing.
func TestOneProcessAtATime(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	refused := func(what string) {
		t.Helper()
		start := time.Now()
		_, err := signer.Open(context.Background(), cfg)
		wantKind(t, err, fault.Unavailable, what)
		if fault.PublicOf(err) != "another process has this appliance open" || fault.HintOf(err) == "" || time.Since(start) > 8*time.Second {
			t.Errorf("%s: %q, hint %q, after %v", what, fault.PublicOf(err), fault.HintOf(err), time.Since(start))
		}
	}
	refused("open already")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err := durable.OS{}.Lock(filepath.Join(cfg.StateDir, "token", "lock"), false)
	if err != nil {
		t.Fatal(err)
	}
	refused("the token is being opened")
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = signer.Open(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
