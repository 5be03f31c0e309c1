package ledger

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// TestErrorsForPeople: what is wrong with a log's place or form is said without Go's error chain, and with a remedy.
func TestErrorsForPeople(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(dir string) error
		public string
	}{
		{"folder", func(dir string) error { return os.Mkdir(filepath.Join(dir, FileName), 0o700) }, "it is a folder, not a file"},
		{"lock is a folder", func(dir string) error { return os.Mkdir(filepath.Join(dir, lockName), 0o700) }, "it is a folder, not a file"},
		{"garbage", func(dir string) error { return os.WriteFile(filepath.Join(dir, FileName), []byte("hello\n"), 0o600) },
			"the log is broken at line 1 (byte 0): it does not have the form of a line"},
		{"reserve is a folder", func(dir string) error { return os.Mkdir(filepath.Join(dir, reserveName), 0o700) }, "disk failed or is full"},
	} {
		dir := t.TempDir()
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		db, err := index.Open(filepath.Join(dir, "index.db"), plainKeys{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(context.Background(), Config{Dir: dir, Index: db, Now: clockAt(start), FS: durable.OS{}})
		if p := fault.PublicOf(err); !strings.Contains(p, c.public) || strings.Contains(p, "ledger:") || strings.Contains(p, "chain:") || fault.HintOf(err) == "" {
			t.Errorf("%s: %q, hint %q (%v)", c.name, p, fault.HintOf(err), err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
