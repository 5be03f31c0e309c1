package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/setup"
)

// TestRestoredMachineIsFurnished: it is hardened as by setup, units are given the secrets that the configuration names, and whoever restores is told how those come back that are not there.
func TestRestoredMachineIsFurnished(t *testing.T) {
	const (
		sysctl  = "/etc/sysctl.d/60-aes-appliance.conf"
		hook    = "systemd-creds encrypt --tpm2-pcrs=16 --name=webhook - /etc/credstore.encrypted/aes-doctor.webhook"
		mail    = "systemd-creds encrypt --tpm2-pcrs=16 --name=mail-password - /etc/credstore.encrypted/aes-doctor.mail-password"
		key     = "systemd-creds encrypt --tpm2-pcrs=16 --name=tls-key tls.key /etc/credstore.encrypted/aes-portal.tls-key"
		doctors = "/etc/systemd/system/aes-doctor.service.d/50-setup-credentials.conf"
		portals = "/etc/systemd/system/aes-portal.service.d/50-setup-credentials.conf"
	)
	h := setup.Host{Root: t.TempDir(), Exec: func(context.Context, []byte, string, ...string) ([]byte, error) { return nil, nil }}
	furnish := func(cfg config.Config, harden bool) string {
		var out bytes.Buffer
		a := &app{stdout: &out, site: site{host: h}}
		a.furnish(t.Context(), cfg, harden)
		return out.String()
	}
	if said := furnish(config.Config{}, false); said != "" || h.Has(sysctl) {
		t.Errorf("without secrets and not to be hardened: %s", said)
	}
	if said := furnish(config.Config{}, true); !strings.Contains(said, "hardening  "+sysctl) || !h.Has(sysctl) || strings.Contains(said, "systemd-creds") {
		t.Errorf("without secrets: %s", said)
	}
	var cfg config.Config
	cfg.Portal.KeyFile = "/run/credentials/aes-portal.service/tls-key"
	cfg.Alarm = config.Alarm{Webhook: "/run/credentials/aes-doctor.service/webhook", MailFile: "/run/credentials/aes-doctor.service/mail-password", Roots: "/etc/ssl/mine.pem"}
	said := furnish(cfg, true)
	for _, want := range []string{"hardening  there already", hook, mail, key, "appliance doctor test-alarm"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	for file, want := range map[string]string{
		doctors: "LoadCredentialEncrypted=webhook:aes-doctor.webhook\nLoadCredentialEncrypted=mail-password:aes-doctor.mail-password\n", portals: "LoadCredentialEncrypted=tls-key:aes-portal.tls-key\n",
	} {
		if text, err := os.ReadFile(h.Path(file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if err := errors.Join(h.Write("/etc/credstore.encrypted/aes-doctor.webhook", []byte("x"), 0o600), h.Write("/etc/credstore.encrypted/aes-portal.tls-key", []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if said := furnish(cfg, true); strings.Contains(said, hook) || strings.Contains(said, key) || !strings.Contains(said, mail) {
		t.Errorf("with two of three there:\n%s", said)
	}
	cfg.Portal.KeyFile, cfg.Alarm = "", config.Alarm{Webhook: "/etc/aes-appliance/hook"}
	if said := furnish(cfg, false); said != "" {
		t.Errorf("secrets in files of the operator's: %s", said)
	}
}
