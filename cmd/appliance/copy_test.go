package main

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/doctor"
)

// TestCopyIsVerified: without any secret the signer fetches what the backup host holds and verifies all of it, which is a line of the log and seen by the doctor; a
// file that the host has lost, or that is not what it was, is found, and leaves no line and no scratch folder.
func TestCopyIsVerified(t *testing.T) {
	e, v := newBackedEstate(t)
	if status, a := e.signs("RX-1"); status != http.StatusOK || !a.Backup.Cosigned {
		t.Fatalf("%d %+v", status, a)
	}
	out := run(t, "--config", e.config, "backup", "drill", "--copy")
	for _, want := range []string{"was fetched and verified, and is this log", "appliance receiver allow-restore"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	const event = `"event_type":"backup_copy_verified"`
	if n := strings.Count(string(e.logText()), event); n != 1 {
		t.Errorf("the log has %d lines of it", n)
	}
	expectVerdicts(t, "verified", consult(t, doctor.Primary, e.config, false), map[string]doctor.Verdict{"backup.copy": doctor.OK, "backup.drill": doctor.Warn})
	if status, _ := e.signs("RX-2"); status != http.StatusOK { // the shipping goes on over its own connection
		t.Errorf("signing after it: %d", status)
	}
	refusesTo(t, "--copy goes alone", "--config", e.config, "backup", "drill", "--copy", "--from", v.address)

	file := v.anObject(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"changed": func() error {
			return os.WriteFile(file, append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), 0o600)
		},
		"lost": func() error { return os.Remove(file) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		cmd := program(t, "--config", e.config, "backup", "drill", "--copy")
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: it went well: %s", name, &stdout)
		}
		t.Logf("%s: %s", name, &stderr)
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(string(e.logText()), event); n != 1 {
		t.Errorf("after a spoilt copy the log has %d lines of it", n)
	}
	if _, err := os.Stat(filepath.Join(e.dir, "demo", "state", "copy.scratch")); !os.IsNotExist(err) {
		t.Errorf("the scratch folder is left: %v", err)
	}
	v.stop()
	began := time.Now()
	cmd := program(t, "--config", e.config, "backup", "drill", "--copy")
	if out, err := cmd.CombinedOutput(); err == nil || time.Since(began) > time.Minute {
		t.Errorf("without the host: %v after %v: %s", err, time.Since(began), out)
	}
}

// anObject is the file of an object that v holds.
func (v *vault) anObject(t *testing.T) (file string) {
	t.Helper()
	if err := filepath.WalkDir(filepath.Join(v.dir, "state", "logs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && len(d.Name()) >= 60 {
			file = path
		}
		return err
	}); err != nil || file == "" {
		t.Fatalf("no object: %v", err)
	}
	return file
}
