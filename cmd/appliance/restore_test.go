package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/veripath/aes-appliance/internal/oidctest"
)

// recipient has the token backed up for a new identity, and returns the identity's file.
func (e *estate) recipient() string {
	e.t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		e.t.Fatal(err)
	}
	text, err := os.ReadFile(e.config)
	if err != nil {
		e.t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "[token]\n", "[token]\nbackup_recipients = \""+id.Recipient().String()+"\"\n", 1))
	path := filepath.Join(e.t.TempDir(), "identity")
	for name, data := range map[string][]byte{e.config: text, path: []byte(id.String() + "\n")} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
	return path
}

// allow returns a restore code.
func (v *vault) allow() string {
	v.t.Helper()
	out, err := program(v.t, "--config", v.config, "receiver", "allow-restore").Output()
	if err != nil {
		v.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// refusesTo runs a verb that must fail with text.
func refusesTo(t *testing.T, text string, args ...string) {
	t.Helper()
	out, err := program(t, args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), text) {
		t.Errorf("%v: %v\n%s\nwant: %s", args, err, out, text)
	}
}

// TestRestoreFromTheBackup loses a machine and brings it back: the log goes on from the last cosigned line, old documents can be read, new ones signed, and
// the lost machine, come back, is found out.
func TestRestoreFromTheBackup(t *testing.T) {
	identity := ""
	e, v := newBackedEstate(t, func(e *estate) { identity = e.recipient() })
	if status, a := e.signs("RX-1"); status != http.StatusOK || !a.Backup.Cosigned {
		t.Fatalf("%d %+v", status, a)
	}
	if st := e.backupStatus(); st.Token == "" || st.TokenDue {
		t.Fatalf("the token is not backed up: %+v", st)
	}
	e.drills(v, identity)
	e.portal.stop()
	e.signer.stop()
	before := string(e.logText())

	state, pin := filepath.Join(e.dir, "demo", "state"), filepath.Join(e.dir, "demo", "pin")
	lost := filepath.Join(t.TempDir(), "lost")
	refusesTo(t, "there is something in", "--config", e.config, "backup", "restore", "--from", v.address, "--code", v.allow(), "--identity", identity)
	for from, to := range map[string]string{state: lost, pin: pin + ".lost"} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte(id.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	refusesTo(t, "cannot be opened with this identity", "--config", e.config, "backup", "restore", "--from", v.address, "--code", v.allow(), "--identity", other)
	code := v.allow()
	refusesTo(t, "holds no age identity", "--config", e.config, "backup", "restore", "--from", v.address, "--code", code, "--identity", e.config) // and the code is still good
	out := run(t, "--config", e.config, "backup", "restore", "--from", v.address, "--code", code, "--identity", identity)
	if !strings.Contains(out, "lost       whatever was recorded after line") || !strings.Contains(out, "log's key  ") {
		t.Errorf("%s", out)
	}
	refusesTo(t, "no such code waits here", "--config", e.config, "backup", "drill", "--from", v.address, "--code", code, "--identity", identity)

	e.signer = start(t, "--config", e.config, "signer")
	e.portal = start(t, "--config", e.config, "portal")
	e.synchronised(v)
	if status, a := e.signs("RX-2"); status != http.StatusOK || !a.Backup.Cosigned {
		t.Errorf("signing on the restored machine: %d %+v", status, a)
	}
	if status, a := e.signs("RX-1"); status != http.StatusOK || !a.Repeated {
		t.Errorf("what was signed before: %d %+v", status, a)
	}
	token := e.provider.A.Login(t, oidctest.Doctor()).Access
	if status, body, _ := e.ask("GET", "/api/pdf/RX-1", token, nil); status != http.StatusOK || !strings.HasPrefix(string(body), "%PDF-") {
		t.Errorf("the old document: %d %.100s", status, body)
	}
	run(t, "--config", e.config, "audit", "verify")
	after := string(e.logText())
	if !strings.HasPrefix(after, before[:strings.LastIndex(strings.TrimSpace(before), "\n")]) || !strings.Contains(after, "appliance_restored") {
		t.Error("the restored log does not go on from the lost one")
	}
	e.comesBack(lost, state, pin)
}

// comesBack puts the lost machine in the place of the restored one: it must not sign.
func (e *estate) comesBack(lost, state, pin string) {
	e.t.Helper()
	e.signer.stop()
	if err := os.Rename(state, state+".restored"); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(lost, state); err != nil {
		e.t.Fatal(err)
	}
	e.signer = start(e.t, "--config", e.config, "signer")
	for end := time.Now().Add(20 * time.Second); e.backupStatus().State != "mismatch"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("the lost machine is not found out: %+v", e.backupStatus())
		}
	}
	if status, a := e.signs("RX-9"); status != http.StatusServiceUnavailable || a.Type != "/problems/log-not-as-cosigned" {
		e.t.Errorf("the lost machine: %d %+v", status, a)
	}
}

// drills holds a restore drill from the host, and one from its folder.
func (e *estate) drills(v *vault, identity string) {
	e.t.Helper()
	folders, err := filepath.Glob(filepath.Join(v.dir, "state", "logs", "*"))
	if err != nil || len(folders) != 1 {
		e.t.Fatalf("%v, %v", folders, err)
	}
	run(e.t, "--config", e.config, "backup", "drill", "--from", v.address, "--code", v.allow(), "--identity", identity)
	run(e.t, "--config", e.config, "backup", "drill", "--from", folders[0], "--identity", identity)
	if n := strings.Count(string(e.logText()), `"event_type":"backup_drilled"`); n != 2 {
		e.t.Errorf("the log has %d drills", n)
	}
}

// TestRestoreGivesToTheOwner of the state folder what root has made.
func TestRestoreGivesToTheOwner(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	made, place := filepath.Join(dir, "made"), filepath.Join(dir, "place")
	if err := errors.Join(os.MkdirAll(filepath.Join(made, "token"), 0o700), os.WriteFile(filepath.Join(made, "token", "x"), nil, 0o600), os.Mkdir(place, 0o700), os.Chown(place, 4711, 4712)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(giveAway(made, place), moveRestored(made, place)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "token", "token/x"} {
		info, err := os.Stat(filepath.Join(place, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 4711 || owner.Gid != 4712 {
			t.Errorf("%q belongs to %d:%d", name, owner.Uid, owner.Gid)
		}
	}
	if err := moveRestored(dir, place); err == nil {
		t.Error("a folder that is not empty was replaced")
	}
}
