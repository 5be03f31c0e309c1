package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/portal"
)

// TestUnattendedDoctorCallsForHelp: on a machine that is not in order the daily examination calls by the configuration's alarm, names what is bad in the journal as
// an error, leaves its outcome for the metrics, and fails. Without --unattended it only reports.
func TestUnattendedDoctorCallsForHelp(t *testing.T) {
	for _, role := range []config.Role{config.RolePrimary, config.RoleBackup} {
		t.Run(string(role), func(t *testing.T) {
			dir := t.TempDir()
			called, pager := filepath.Join(dir, "called"), filepath.Join(dir, "pager")
			path, socket := filepath.Join(dir, "appliance.toml"), filepath.Join(dir, "portal", "s")
			text := `state_dir = "state"
[pki]
base_url = "http://pki.example.test"
name = "Example"
organisation = "Example Ltd"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.1"
[token]
pin_file = "pin"
[signer]
portal_socket = "portal/s"
admin_socket = "admin/s"
[alarm]
command = "` + pager + `"
`
			if role == config.RoleBackup {
				path, text = filepath.Join(dir, "receiver.toml"), "state_dir = \"state\"\n[alarm]\ncommand = \""+pager+"\"\n"
			}
			if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Mkdir(filepath.Dir(socket), 0o700),
				os.WriteFile(pager, []byte("#!/bin/sh\ncat >>"+called+"\n"), 0o700)); err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) string {
				t.Helper()
				defer syscall.Umask(syscall.Umask(0o077)) // the unit's
				cmd := program(t, append([]string{"doctor", "--json", "--role", string(role), "--config", path}, args...)...)
				var said strings.Builder
				cmd.Stderr = &said
				var ended *exec.ExitError
				if err := cmd.Run(); !errors.As(err, &ended) || ended.ExitCode() != exitBad {
					t.Fatalf("%v: %s", err, &said)
				}
				return said.String()
			}
			if said := run(); strings.Contains(said, "<3>") || onDisk(called) || onDisk(portal.ExaminedFile(socket)) {
				t.Errorf("who only asked was announced: %s", said)
			}
			if said := run("--unattended"); !strings.Contains(said, "<3>bad permissions.paths: ") {
				t.Errorf("the journal gets\n%s", said)
			}
			data, err := os.ReadFile(called)
			var a alarm.Alarm
			if err := errors.Join(err, json.Unmarshal(data, &a)); err != nil || a.Kind != alarm.KindDoctor || !strings.Contains(a.Text, "permissions.paths: there is no folder ") || a.Host == "" || a.Count != 1 {
				t.Errorf("%v: called with %s", err, data)
			}
			if info, err := os.Stat(portal.ExaminedFile(socket)); err == nil && info.Mode().Perm() != 0o644 {
				t.Errorf("the portal, another user, cannot read the outcome: %v", info.Mode())
			}
			if err := os.Remove(called); err != nil {
				t.Fatal(err)
			}
			out, err := program(t, "doctor", "test-alarm", "--role", string(role), "--config", path).CombinedOutput()
			data, _ = os.ReadFile(called)
			if err != nil || !strings.Contains(string(out), "sent by command") || !strings.Contains(string(data), `"kind":"test"`) {
				t.Errorf("a test: %v %s: called with %s", err, out, data)
			}
			if err := os.WriteFile(pager, []byte("#!/bin/sh\nexit 7\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			refusesTo(t, "the alarm could not be sent", "doctor", "test-alarm", "--role", string(role), "--config", path)
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "[alarm]\ncommand = ", "# ")), 0o600); err != nil {
				t.Fatal(err)
			}
			refusesTo(t, "has no alarm", "doctor", "test-alarm", "--role", string(role), "--config", path)
			if onDisk(portal.ExaminedFile(socket)) != (role == config.RolePrimary) {
				t.Error("the outcome is for a primary's portal, and for nobody else")
			}
		})
	}
}

// TestAlarmTakesTheUnitsOwnSecrets: the service that a configuration names may not be running; this unit's credentials of the same name count.
func TestAlarmTakesTheUnitsOwnSecrets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "webhook"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	told := config.Alarm{Webhook: "/run/credentials/aes-receiver.service/webhook", MailFile: "/run/credentials/aes-receiver.service/mail-password"}
	got := credentialsOf(told, dir)
	if got.Webhook != filepath.Join(dir, "webhook") || got.MailFile != told.MailFile {
		t.Errorf("%+v", got)
	}
	if got := credentialsOf(told, ""); got.Webhook != told.Webhook {
		t.Errorf("outside of a unit: %+v", got)
	}
	if got := credentialsOf(config.Alarm{}, dir); got.Webhook != "" {
		t.Errorf("none is configured: %+v", got)
	}
}
