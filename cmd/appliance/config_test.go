package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/config"
)

// TestConfigCheckLooksAtTheMachine: a valid file is not good when what it names is not.
func TestConfigCheckLooksAtTheMachine(t *testing.T) {
	me := os.Geteuid()
	for name, c := range map[string]struct {
		change func(t *testing.T, cfg *config.Config)
		uid    int
		want   string // "" for good
	}{
		"good":               {func(*testing.T, *config.Config) {}, me, ""},
		"root may look":      {func(*testing.T, *config.Config) {}, 0, ""},
		"another user's":     {func(*testing.T, *config.Config) {}, me + 1, "state_dir belongs to another user"},
		"no state":           {func(t *testing.T, cfg *config.Config) { remove(t, cfg.StateDir) }, me, "state_dir does not exist"},
		"state wide open":    {func(t *testing.T, cfg *config.Config) { mode(t, cfg.StateDir, 0o750) }, me, "state_dir is open to others"},
		"state is a file":    {func(_ *testing.T, cfg *config.Config) { cfg.StateDir = cfg.Token.PINFile }, me, "state_dir is no folder"},
		"state below a file": {func(_ *testing.T, cfg *config.Config) { cfg.StateDir = filepath.Join(cfg.Token.PINFile, "x") }, me, "state_dir cannot be looked at"},
		"log for others": {func(t *testing.T, cfg *config.Config) {
			log := filepath.Join(cfg.StateDir, "audit_chain.jsonl")
			if err := os.WriteFile(log, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			mode(t, log, 0o666)
		}, me, "audit_chain.jsonl may be written by others (mode 0666)"},
		"no PIN":          {func(t *testing.T, cfg *config.Config) { remove(t, cfg.Token.PINFile) }, me, "token.pin_file cannot read"},
		"PIN for others":  {func(t *testing.T, cfg *config.Config) { mode(t, cfg.Token.PINFile, 0o644) }, me, "may be read by others"},
		"PIN is a folder": {func(_ *testing.T, cfg *config.Config) { cfg.Token.PINFile = cfg.StateDir }, me, "token.pin_file"},
		"no module":       {func(_ *testing.T, cfg *config.Config) { cfg.Token.Module = "/nonexistent.so" }, me, "token.module is no file"},
		"everything": {func(t *testing.T, cfg *config.Config) {
			remove(t, cfg.Token.PINFile)
			mode(t, cfg.StateDir, 0o777)
			cfg.Token.Module = "/"
		}, me, "token.pin_file, state_dir, token.module"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := config.Config{StateDir: filepath.Join(dir, "state"), Token: config.Token{PINFile: filepath.Join(dir, "pin")}}
			if err := os.Mkdir(cfg.StateDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(cfg.Token.PINFile, []byte("1234"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.change(t, &cfg)
			problems := examine(cfg, c.uid)
			var keys []string
			for _, p := range problems {
				keys = append(keys, p.Key)
				if p.Cure == "" {
					t.Errorf("%v has no cure", p)
				}
			}
			if got := problems.Error(); !strings.Contains(got, c.want) && strings.Join(keys, ", ") != c.want || (c.want == "") != (got == "") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func mode(t *testing.T, path string, perm os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
}
