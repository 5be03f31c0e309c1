package setup

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestHarden: the files appear and are put in force; what is there already stays; what sshd does not take is taken back, so that the next log-in works.
func TestHarden(t *testing.T) {
	var ran []string
	refuse := ""
	h := Host{Root: t.TempDir(), Exec: func(_ context.Context, _ []byte, name string, args ...string) ([]byte, error) {
		ran = append(ran, name)
		if name == refuse {
			return nil, errors.New(name + " refuses")
		}
		return nil, nil
	}}
	const sysctl, ssh = "/etc/sysctl.d/60-aes-appliance.conf", "/etc/ssh/sshd_config.d/60-aes-appliance.conf"
	if err := errors.Join(os.MkdirAll(h.Path("/etc/ssh/sshd_config.d"), 0o755), h.Write("/etc/modprobe.d/aes-appliance.conf", []byte("# mine\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	refuse = "sshd"
	said, err := h.Harden(t.Context())
	if err != nil || h.Has(ssh) || !strings.Contains(said, "left out "+ssh) || slices.Contains(ran, "systemctl") || !slices.Contains(ran, "sysctl") || !h.Has(sysctl) {
		t.Fatalf("sshd does not take it: %q, %v, %v", said, err, ran)
	}
	refuse = "sysctl"
	if said, err = h.Harden(t.Context()); err != nil || !h.Has(ssh) || strings.Contains(said, sysctl) || !slices.Contains(ran, "systemctl") {
		t.Fatalf("again: %q, %v, %v", said, err, ran)
	}
	if mine, err := os.ReadFile(h.Path("/etc/modprobe.d/aes-appliance.conf")); err != nil || string(mine) != "# mine\n" {
		t.Errorf("the operator's file is %q, %v", mine, err)
	}
	if err := h.Remove(sysctl); err != nil {
		t.Fatal(err)
	}
	if said, err = h.Harden(t.Context()); err != nil || !strings.Contains(said, sysctl+" is in force from the next boot on") {
		t.Errorf("a container: %q, %v", said, err)
	}
	if said, err = h.Harden(t.Context()); err != nil || said != "there already" {
		t.Errorf("once more: %q, %v", said, err)
	}
}

// TestHardeningKeepsNobodyOut: nothing is said of who logs in, or how; and settings are of the form that they must have. That sshd and the kernel take them is seen on
// real machines.
func TestHardeningKeepsNobodyOut(t *testing.T) {
	if m := regexp.MustCompile(`(?im)^(permit|allow(users|groups)|allowtcpforwarding no|deny|match|password|pubkey|auth|listen|port|maxauth|maxstartups|maxsessions [01]$).*$`).FindString(hardenSSH); m != "" {
		t.Errorf("that could keep the operator out: %s", m)
	}
	settings := 0
	for line := range strings.Lines(hardenSysctl) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if settings++; !regexp.MustCompile(`^(kernel|net|fs|dev)(\.[a-z0-9_]+)+ = [0-9]$`).MatchString(line) {
			t.Errorf("%q is no setting", line)
		}
	}
	if settings < 20 {
		t.Errorf("%d settings", settings)
	}
}
