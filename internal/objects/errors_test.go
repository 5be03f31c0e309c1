package objects

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestErrorsForPeople: each error of the store's files says which file and what to do.
func TestErrorsForPeople(t *testing.T) {
	s := store(t)
	id, err := s.Put(ctx, "a", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error, public, hint string) {
		t.Helper()
		if !strings.Contains(fault.PublicOf(err), public) || !strings.Contains(fault.HintOf(err), hint) {
			t.Errorf("%q, hint %q (%v)", fault.PublicOf(err), fault.HintOf(err), err)
		}
	}
	name := filepath.Join(s.dir, id[:2], id)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(ctx, id)
	check(err, "is missing", "in the objects folder from the backup")
	if err := os.WriteFile(name, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(ctx, id)
	check(err, "is damaged", "in the objects folder from the backup")
	if err := os.Remove(s.tmp()); err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(ctx, "a", []byte("x"))
	check(err, s.tmp(), "backup")
	if err := os.WriteFile(s.tmp(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(ctx, "a", []byte("x"))
	check(err, "a file, not a folder", "move that file away")
	_, err = Open(filepath.Join(s.tmp(), "objects"), s.keys)
	check(err, "a file, not a folder", "move that file away")
}
