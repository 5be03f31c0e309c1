package main

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/enrol"
)

// intruder is the user of a service that somebody has taken over, in the tests in which root runs verbs beside it.
const intruder = 4711

// needRoot leaves a test out that takes several users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this test takes root, to be several users")
	}
}

// give gives what there is to the intruder.
func give(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Lchown(path, intruder, intruder); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootFollowsNoLinkOfTheReceivers: who has the user of the backup host's service puts links where root's verbs write. They lead nowhere.
func TestRootFollowsNoLinkOfTheReceivers(t *testing.T) {
	needRoot(t)
	v := newVault(t)
	// As on a machine: all may look at the configuration, and where it is.
	if err := errors.Join(os.Chmod(filepath.Dir(v.dir), 0o755), os.Chmod(v.config, 0o644)); err != nil {
		t.Fatal(err)
	}
	run(t, "--config", v.config, "receiver", "status")
	state, roots := filepath.Join(v.dir, "state"), t.TempDir()
	mine := filepath.Join(roots, "mine")
	err := errors.Join(os.WriteFile(mine, []byte("root's own"), 0o600),
		os.RemoveAll(filepath.Join(state, "codes")), os.Symlink(roots, filepath.Join(state, "codes")), os.Symlink(mine, filepath.Join(state, "identity.pem.tmp")))
	if err != nil {
		t.Fatal(err)
	}
	give(t, state)
	for _, name := range []string{"peers", "logs", "codes", "identity.pem", "cosigner.pem", "identity.pem.tmp"} {
		give(t, filepath.Join(state, name))
	}
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	code, err := enrol.Join{Expires: time.Now().Add(time.Hour).Truncate(time.Second), LogKey: pub, Origin: "sign.example.org/log", Backup: "backup.example.org:7443"}.Code()
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range [][]string{{"--join", "-"}, {"rotate-key"}, {"allow-restore"}} {
		cmd := program(t, append([]string{"--config", v.config, "receiver"}, verb...)...)
		cmd.Stdin = strings.NewReader(code)
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %v %s", verb, err, out)
	}
	left, err := os.ReadDir(roots)
	if err != nil || len(left) != 1 {
		t.Errorf("root wrote into its own folder: %v, %v", left, err)
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "root's own" {
		t.Errorf("root's file is %q, %v", text, err)
	}
	// Without links the same works, and makes nothing of root's.
	if err := errors.Join(os.Remove(filepath.Join(state, "codes")), os.Mkdir(filepath.Join(state, "codes"), 0o700)); err != nil {
		t.Fatal(err)
	}
	give(t, filepath.Join(state, "codes"))
	cmd := program(t, "--config", v.config, "receiver", "--join", "-")
	cmd.Stdin = strings.NewReader(code)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "sign.example.org/log") {
		t.Fatalf("%v %s", err, out)
	}
	err = filepath.WalkDir(state, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != intruder {
			t.Errorf("%s is root's", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	cmd = program(t, "--config", v.config, "receiver", "status", "--json", "--nonsense")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitUsage {
		t.Errorf("a wrong flag: %v", err)
	}
	cmd = program(t, "--config", v.config, "receiver", "allow-restore", "no.such/log")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != exitBad || strings.Count(string(out), "error:") != 1 {
		t.Errorf("an origin that there is not: %v %s", err, out)
	}
}
