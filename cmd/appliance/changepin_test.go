package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
)

// TestPINIsChanged: keys, log and documents are there under the new PIN, which nobody has seen; the old one opens nothing any more; a backup of the token with the new one is made by itself,
// and a restore drill opens it. A signer that runs is left alone.
func TestPINIsChanged(t *testing.T) {
	identity := ""
	e, v := newBackedEstate(t, func(e *estate) { identity = e.recipient() })
	pinFile, change := filepath.Join(e.dir, "demo", "pin"), []string{"--config", e.config, "token", "change-pin"}
	old, err := os.ReadFile(pinFile)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := e.signs("RX-1"); status != http.StatusOK {
		t.Fatal(status)
	}
	before := e.backupStatus().Token
	refusesTo(t, "another process has this appliance open", change...)
	e.signer.stop()
	out := run(t, change...)
	now, err := os.ReadFile(pinFile)
	if err != nil || bytes.Equal(now, old) || bytes.ContainsRune(now, '\n') || bytes.Contains([]byte(out), now) {
		t.Errorf("the PIN file: %v, said: %s", err, out)
	}
	if n := strings.Count(string(e.logText()), `"event_type":"token_pin_changed"`); n != 1 {
		t.Errorf("the log has %d lines of it", n)
	}
	e.signer = start(t, "--config", e.config, "signer")
	e.synchronised(v)
	if status, a := e.signs("RX-2"); status != http.StatusOK || !a.Backup.Cosigned {
		t.Errorf("signing with the new PIN: %d %+v", status, a)
	}
	if st := e.backupStatus(); st.Token == before || st.TokenDue {
		t.Errorf("the token with its new PIN was not backed up: %+v", st)
	}
	run(t, "--config", e.config, "backup", "drill", "--from", v.address, "--code", v.allow(), "--identity", identity)
	e.signer.stop()
	if err := os.WriteFile(pinFile, bytes.TrimRight(old, "\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refusesTo(t, "", "--config", e.config, "signer")
	if err := os.WriteFile(pinFile, now, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "--config", e.config, "cert", "list")

	text, err := os.ReadFile(e.config)
	if err != nil {
		t.Fatal(err)
	}
	packaged := filepath.Join(e.dir, "demo", "packaged.toml") // where systemd decrypts the PIN, as the package has it
	if err := os.WriteFile(packaged, bytes.Replace(text, []byte(`pin_file = "pin"`), []byte(`pin_file = "`+sealedPIN()+`"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	host := setup.Host{Root: t.TempDir()}
	a := &app{configPath: packaged, stdout: io.Discard, stderr: io.Discard, site: site{host: host}}
	if err := a.sealPINAnew(t.Context(), identity); err != nil {
		t.Errorf("sealing the PIN of the newest backup: %v", err)
	}
	if sealed, err := host.Decrypt(t.Context(), pinCredential()); err != nil || !bytes.Equal(sealed, now) {
		t.Errorf("sealed is another PIN: %v", err)
	}
	run(t, change...) // and no signer to make a backup with it
	a.site.host = setup.Host{Root: t.TempDir()}
	if err := a.sealPINAnew(t.Context(), identity); fault.KindOf(err) != fault.Conflict || a.site.host.Has(pinCredential().Path()) {
		t.Errorf("the PIN before the one that opens the token was sealed: %v", err)
	}
}

// TestPINChangeKilled: killed wherever, the appliance opens at once with what is kept; run again, the change ends, and one PIN is kept.
func TestPINChangeKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	run(t, "demo", "--dir", dir)
	config, pinFile := filepath.Join(dir, "appliance.toml"), filepath.Join(dir, "pin")
	last, err := os.ReadFile(pinFile)
	if err != nil {
		t.Fatal(err)
	}
	halfWay := 0
	for range 12 {
		cmd := program(t, "--config", config, "token", "change-pin")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(700 * time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		kept, err := os.ReadFile(pinFile)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsRune(kept, '\n') {
			halfWay++
		}
		opens(t, config)
	}
	run(t, "--config", config, "token", "change-pin")
	kept, err := os.ReadFile(pinFile)
	if err != nil || bytes.ContainsRune(kept, '\n') || bytes.Equal(kept, last) {
		t.Errorf("what is kept at the end: %v", err)
	}
	run(t, "--config", config, "audit", "verify")
	run(t, "--config", config, "cert", "list")
	t.Logf("%d of 12 kills left two PINs", halfWay)
}

// opens opens the appliance as soon as the process that a kill left behind has ended: the kernel takes a moment to end it.
func opens(t *testing.T, config string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := program(t, "--config", config, "cert", "list").CombinedOutput()
		if err == nil {
			return
		}
		if !strings.Contains(string(out), "another process has this appliance open") || time.Now().After(end) {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}
