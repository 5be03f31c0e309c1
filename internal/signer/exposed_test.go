package signer_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

// TestStateThatOthersCouldChange: an appliance does not start over files that others may write, and says how to mend that; another user's are found too.
func TestStateThatOthersCouldChange(t *testing.T) {
	cfg := settings(t)
	if err := found(t, cfg, true).Close(); err != nil {
		t.Fatal(err)
	}
	tokens, err := filepath.Glob(filepath.Join(cfg.StateDir, "token", "tokens", "*", "token.object"))
	if err != nil || len(tokens) != 1 {
		t.Fatal(tokens, err)
	}
	inToken, err := filepath.Rel(cfg.StateDir, tokens[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, perm := range map[string]os.FileMode{".": 0o777, "audit_chain.jsonl": 0o666, "index.db": 0o620, "token": 0o702, "objects": 0o770, inToken: 0o660} {
		path := filepath.Join(cfg.StateDir, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, perm); err != nil {
			t.Fatal(err)
		}
		_, err = signer.Open(context.Background(), cfg)
		wantKind(t, err, fault.Forbidden, name)
		if hint := fault.HintOf(err); !strings.Contains(hint, "chmod go-w "+path+" ") {
			t.Errorf("%s: hint %q", name, hint)
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := signer.Exposed(cfg.StateDir, os.Geteuid())
	if err != nil || len(mine) != 0 {
		t.Errorf("%+v %v", mine, err)
	}
	s, err := signer.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		return // only root can give files away
	}
	const other = 54321
	for _, name := range []string{"audit_chain.jsonl", inToken} {
		path := filepath.Join(cfg.StateDir, name)
		if err := os.Chown(path, other, -1); err != nil {
			t.Fatal(err)
		}
		_, err := signer.Open(context.Background(), cfg)
		wantKind(t, err, fault.Forbidden, "another user's "+name)
		if hint := fault.HintOf(err); !strings.Contains(hint, "chown 0 "+path) {
			t.Errorf("hint %q", hint)
		}
		if err := os.Chown(path, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	// To another user root's files are good, and so is the whole of another's folder to root.
	if e, err := signer.Exposed(cfg.StateDir, other); err != nil || len(e) != 0 {
		t.Errorf("%+v %v", e, err)
	}
	if err := filepath.Walk(cfg.StateDir, func(path string, _ os.FileInfo, err error) error {
		if err == nil {
			err = os.Chown(path, other, -1)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if e, err := signer.Exposed(cfg.StateDir, 0); err != nil || len(e) != 0 {
		t.Errorf("%+v %v", e, err)
	}
}
