package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/objects"
	"github.com/veripath/aes-appliance/internal/setup"
)

// intruder is the user of a service that somebody has taken over, in the tests in which root runs verbs beside it.
const intruder = 4711

// needRoot leaves a test out that takes several users; in CI it fails.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test takes root, to be several users")
		}
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

// TestRootTakesNoConfigurationOfOthers: in a folder of somebody else's, "./demo" is not the demo that root made. Its configuration could have any module loaded.
func TestRootTakesNoConfigurationOfOthers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "demo", "appliance.toml")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("not even valid"), 0o644)); err != nil {
		t.Fatal(err)
	}
	verb := func() string {
		cmd := program(t, "cert", "list")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("it ended well: %s", out)
		}
		return string(out)
	}
	if out := verb(); strings.Contains(out, "another user's") {
		t.Errorf("root's own: %s", out)
	}
	elsewhere := filepath.Join(t.TempDir(), "demo")
	for what, spoil := range map[string]func() error{
		"a file of others":   func() error { return os.Lchown(file, intruder, intruder) },
		"a folder of others": func() error { return os.Lchown(filepath.Dir(file), intruder, intruder) },
		"a folder for all":   func() error { return os.Chmod(filepath.Dir(file), 0o777) },
		"a file for all":     func() error { return os.Chmod(file, 0o666) },
		"a link to a folder": func() error {
			return errors.Join(os.Rename(filepath.Dir(file), elsewhere), os.Symlink(elsewhere, filepath.Dir(file)))
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if out := verb(); !strings.Contains(out, "another user's") {
			t.Errorf("%s: %s", what, out)
		}
		_ = os.Remove(filepath.Join(dir, "demo")) // a link
		_ = os.Rename(elsewhere, filepath.Join(dir, "demo"))
		if err := errors.Join(os.Lchown(file, 0, 0), os.Lchown(filepath.Dir(file), 0, 0), os.Chmod(filepath.Dir(file), 0o755), os.Chmod(file, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootOpensNoApplianceOfOthers: with the services stopped, what root did in the signer's folder would be root's, or wherever links there lead.
func TestRootOpensNoApplianceOfOthers(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "demo")
	run(t, "demo", "--dir", dir)
	state, roots := filepath.Join(dir, "state"), filepath.Join(t.TempDir(), "index")
	if err := errors.Join(os.Remove(filepath.Join(state, "index.db")), os.Symlink(roots, filepath.Join(state, "index.db"))); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(state, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, intruder, intruder))
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := program(t, "--config", filepath.Join(dir, "appliance.toml"), "cert", "list").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another user's") {
		t.Errorf("%v %s", err, out)
	}
	if _, err := os.Lstat(roots); err == nil {
		t.Error("root made a file where the signer's user wanted one")
	}
}

// TestFoundingGivesNothingAway: the folder in which an appliance is founded is the signer's user's, who puts a link there in the last moment.
func TestFoundingGivesNothingAway(t *testing.T) {
	needRoot(t)
	roots := t.TempDir()
	r := &setupRun{app: &app{}, host: setup.Host{Root: t.TempDir()}}
	r.cfg.StateDir = r.host.Path("/var/lib/aes-appliance/signer")
	from := r.host.Path(setupFound)
	if err := errors.Join(os.MkdirAll(from, 0o700), os.Symlink(roots, filepath.Join(from, foundState))); err != nil {
		t.Fatal(err)
	}
	give(t, from, filepath.Join(from, foundState))
	if said, err := r.settle(); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("%q, %v", said, err)
	}
	if info, err := os.Stat(roots); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("root's folder was given away: %v", err)
	}
	if _, err := os.Lstat(r.cfg.StateDir); err == nil {
		t.Error("the link is the state now")
	}
}

// TestBackupOfTheTokenIsWhatItsNameSays: root copies it out of the signer's folder, and nothing else that a link there leads to.
func TestBackupOfTheTokenIsWhatItsNameSays(t *testing.T) {
	r := &setupRun{app: &app{}}
	r.cfg.StateDir = t.TempDir()
	secret, good := filepath.Join(t.TempDir(), "secret"), []byte("sealed")
	id := fmt.Sprintf("%x", sha256.Sum256(good))
	place := filepath.Join(r.cfg.StateDir, "objects", objects.Place(id))
	if err := errors.Join(os.WriteFile(secret, []byte("root's own"), 0o600), os.MkdirAll(filepath.Dir(place), 0o700), os.WriteFile(place, good, 0o600)); err != nil {
		t.Fatal(err)
	}
	if data, err := r.object(id); err != nil || string(data) != "sealed" {
		t.Errorf("%q, %v", data, err)
	}
	for _, bad := range []string{"", "../../x", id[:63], strings.Repeat("../", 21) + "x"} {
		if _, err := r.object(bad); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for what, put := range map[string]func() error{"a link": func() error { return os.Symlink(secret, place) }, "a pipe": func() error { return syscall.Mkfifo(place, 0o600) }} {
		if err := errors.Join(os.Remove(place), put()); err != nil {
			t.Fatal(err)
		}
		if data, err := r.object(id); err == nil {
			t.Errorf("%s: %q", what, data)
		}
	}
}

// TestCeremonyFollowsNoLink: anybody can make folders in /dev/shm that look like those of ceremonies that were killed.
func TestCeremonyFollowsNoLink(t *testing.T) {
	needRoot(t)
	trap, roots := filepath.Join(memory, scratchName+"of-an-intruder"), filepath.Join(t.TempDir(), "made")
	if err := errors.Join(os.Mkdir(trap, 0o777), os.Symlink(roots, filepath.Join(trap, scratchLock))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(trap) })
	give(t, trap)
	cmd := program(t, "ceremony")
	cmd.Stdin = strings.NewReader("{}")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "lacks the sealed root token") {
		t.Errorf("%v %s", err, out)
	}
	if _, err := os.Lstat(roots); err == nil {
		t.Error("a ceremony made a file where a link led")
	}
	if _, err := os.Lstat(trap); err != nil {
		t.Errorf("a folder that is not of a ceremony was removed: %v", err)
	}
}

// TestCeremonyCannotBeReadByItsUser: whoever has the signer's user beside it does not see the memory in which the root's key is, nor has the kernel write it down.
func TestCeremonyCannotBeReadByItsUser(t *testing.T) {
	needRoot(t)
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: intruder, Gid: intruder}}
	cmd := exec.Command("/proc/self/exe", "ceremony") // the folder of the tests is not for all
	cmd.Args[0], cmd.SysProcAttr = "appliance", as
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	seen := true
	for end := time.Now().Add(20 * time.Second); seen && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		look := exec.Command("cat", fmt.Sprintf("/proc/%d/auxv", cmd.Process.Pid))
		look.SysProcAttr = as
		seen = look.Run() == nil
	}
	if seen {
		t.Error("its memory can be read")
	}
	if err := syscall.Kill(cmd.Process.Pid, 0); err != nil {
		t.Fatalf("it does not run: %v", err)
	}
}
