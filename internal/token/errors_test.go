package token

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestErrorsForPeople: whatever keeps a token from being opened is said in a sentence of our own, with a remedy.
func TestErrorsForPeople(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(cfg *Config) error
		public string
	}{
		{"wrong PIN", func(cfg *Config) error { cfg.PIN = []byte("wrong-pin-5512"); return nil }, "the token refused the PIN"},
		{"wrong label", func(cfg *Config) error { cfg.Label = "other"; return nil }, `no token is labelled "other"`},
		{"no token", func(cfg *Config) error { return os.RemoveAll(filepath.Join(cfg.Dir, "tokens")) }, "holds no token"},
		{"no copy", func(cfg *Config) error { return os.RemoveAll(filepath.Join(cfg.Dir, "pristine")) }, "pristine copy is missing"},
		{"empty copy", func(cfg *Config) error {
			found, err := filepath.Glob(filepath.Join(cfg.Dir, "pristine", "*"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			return os.Truncate(found[0], 0)
		}, "pristine copy cannot be read"},
		{"lock is a folder", func(cfg *Config) error {
			lock := filepath.Join(cfg.Dir, "lock")
			if err := os.Remove(lock); err != nil {
				return err
			}
			return os.Mkdir(lock, 0o700)
		}, "lock: it is a folder, not a file"},
		{"a link where a file is to be written", func(cfg *Config) error {
			conf := filepath.Join(cfg.Dir, "softhsm2.conf")
			if err := os.Remove(conf); err != nil && !os.IsNotExist(err) {
				return err
			}
			return os.Symlink("/dev/full", conf+".tmp")
		}, "softhsm2.conf.tmp: a symbolic link stands in its place"},
	} {
		cfg := initNew(t)
		if err := c.spoil(&cfg); err != nil {
			t.Fatal(err)
		}
		_, err := Open(context.Background(), cfg)
		if !strings.Contains(fault.PublicOf(err), c.public) || fault.HintOf(err) == "" {
			t.Errorf("%s: %q, hint %q (%v)", c.name, fault.PublicOf(err), fault.HintOf(err), err)
		}
	}
}
