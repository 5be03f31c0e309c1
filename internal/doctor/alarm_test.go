package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/config"
)

// TestAlarmHasItsSecrets: an alarm whose secret is nowhere, given to no unit, or sealed to another machine does not work, and the cure can be typed.
func TestAlarmHasItsSecrets(t *testing.T) {
	const (
		running = "/run/credentials/aes-doctor.service/webhook"
		sealed  = "/etc/credstore.encrypted/aes-doctor.webhook"
		given   = "[Service]\nLoadCredentialEncrypted=webhook:aes-doctor.webhook\n"
		own     = "[Service]\nLoadCredentialEncrypted=webhook:/etc/mine\n"
		plain   = "/etc/aes-appliance/hook"
		cure    = "systemd-creds encrypt --tpm2-pcrs=16 --name=webhook - "
	)
	for what, c := range map[string]struct {
		hook   string
		files  []string
		dropIn string // of aes-doctor.service
		other  bool   // the machine that the secret is sealed to is another
		want   Verdict
		cure   string
	}{
		"the service has it":        {running, []string{running}, "", false, OK, ""},
		"sealed for the unit":       {running, []string{sealed}, given, false, OK, ""},
		"sealed elsewhere":          {running, []string{"/etc/mine"}, own, false, OK, ""},
		"not sealed":                {running, nil, given, false, Bad, cure + sealed},
		"not sealed elsewhere":      {running, []string{sealed}, own, false, Bad, cure + "/etc/mine"},
		"given to no unit":          {running, []string{sealed}, "", false, Bad, "LoadCredentialEncrypted=webhook:aes-doctor.webhook; " + cure + sealed},
		"sealed to another machine": {running, []string{sealed}, given, true, Bad, "rm " + sealed + "; " + cure + sealed},
		"a file of the operator's":  {plain, []string{plain}, "", false, OK, ""},
		"no file of the operator's": {plain, nil, "", false, Bad, "write it there"},
		"without a way":             {"", nil, "", false, Warn, "set alarm.command"},
	} {
		root := t.TempDir()
		write := func(path, text string) {
			full := filepath.Join(root, path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range c.files {
			write(path, "x")
		}
		const drop = "/etc/systemd/system/aes-doctor.service.d/50-setup-credentials.conf"
		shown := "DropInPaths=\n"
		if c.dropIn != "" {
			write(drop, c.dropIn)
			shown = "DropInPaths=" + drop + "\n"
		}
		run := func(_ context.Context, name string, args ...string) ([]byte, error) {
			switch {
			case name == "systemctl" && args[len(args)-1] == "aes-doctor.service":
				return []byte(shown), nil
			case name == "systemd-creds" && args[0] == "decrypt" && c.other:
				return nil, new(exec.ExitError)
			case name == "systemd-creds" && args[0] == "decrypt":
				return nil, nil
			}
			return nil, errors.New(name + " is not asked in this test")
		}
		e := &exam{Config: Config{Role: Primary, Appliance: config.Config{Alarm: config.Alarm{Webhook: c.hook}}}, m: &Machine{Root: root, Run: run}}
		s := &sheet{group: "alarm"}
		e.alarm(t.Context(), s)
		if len(s.findings) != 1 || s.findings[0].Verdict != c.want || !strings.Contains(s.findings[0].Cure, c.cure) {
			t.Errorf("%s: %+v", what, s.findings)
		}
	}
}
