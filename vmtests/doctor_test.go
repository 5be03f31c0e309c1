//go:build vm

package vmtests

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// finding is what is looked at of one of the doctor's.
type finding struct{ Check, Verdict, Text, Cure string }

// examined is what the doctor says on a host; its exit code does not matter here.
func (l *life) examined(t *testing.T, host, role string) []finding {
	t.Helper()
	return l.examinedBy(t, host, "appliance doctor --json --role "+role+" 2>/dev/null")
}

// examinedBy is the same by a command that prints JSON.
func (l *life) examinedBy(t *testing.T, host, line string) []finding {
	t.Helper()
	out, err := l.try(host, line)
	if err != nil && !errors.As(err, new(*machine.ExitError)) {
		t.Fatal(err)
	}
	var r struct{ Findings []finding }
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%s: %v in\n%s", host, err, out)
	}
	return r.Findings
}

// finds expects that each of checks has a finding of this verdict; with ok, that it has no other.
func finds(t *testing.T, when string, all []finding, verdict string, checks ...string) {
	t.Helper()
	for _, check := range checks {
		of := slices.DeleteFunc(slices.Clone(all), func(f finding) bool { return f.Check != check })
		has := slices.ContainsFunc(of, func(f finding) bool { return f.Verdict == verdict })
		other := slices.ContainsFunc(of, func(f finding) bool { return f.Verdict != verdict })
		if !has || verdict == "ok" && other {
			t.Errorf("%s: %s is not %s: %+v", when, check, verdict, of)
		}
	}
}

// doctor finds a machine that was set up in order, as far as a container can be, and each thing that somebody weakens on it.
func (l *life) doctor(t *testing.T) {
	all := l.examined(t, "primary", "primary")
	finds(t, "after setup", all, "ok", "configuration.valid", "machine.cores", "machine.entropy", "permissions.paths", "permissions.root_token", "signer.answers", "signer.version", "signer.portal",
		"token.files", "token.pin", "token.keys", "certificates.authorities", "certificates.own", "tls.listener", "log.recent", "log.whole", "backup.enrolled", "backup.head", "backup.token",
		"services.units", "services.sandbox", "services.overrides", "services.sockets", "services.timers", "firewall.active", "updates.restart")
	finds(t, "after setup", l.examined(t, "backup", "backup"), "ok", "copies.held", "copies.fresh", "copies.refusals", "copies.listener", "log.recent", "services.units", "services.sandbox", "services.overrides", "services.sockets", "permissions.paths")
	l.daily(t)
	if out := l.on(t, "primary", "appliance status"); !strings.Contains(out, "signing") || !strings.Contains(out, "aes-signer active") {
		t.Errorf("status says\n%s", out)
	}

	const drop = "/run/systemd/system/aes-signer.service.d"
	l.on(t, "primary", "mkdir -p "+drop+" && printf '[Service]\\nPrivateNetwork=no\\nLimitCORE=infinity\\n' >"+drop+"/weak.conf && systemctl daemon-reload && systemctl restart aes-signer && systemctl stop aes-expiry.timer && "+
		"chmod 755 /var/lib/aes-appliance/signer && systemd-run --quiet --unit=stranger python3 -m http.server 8123 && until ss -Hltn | grep -q :8123; do sleep 0.1; done")
	all = l.examined(t, "primary", "primary")
	finds(t, "weakened", all, "bad", "services.sandbox", "services.overrides", "machine.cores", "services.timers", "permissions.paths")
	finds(t, "weakened", all, "warn", "services.sockets")
	l.on(t, "primary", "rm -r "+drop+" && systemctl daemon-reload && systemctl restart aes-signer && systemctl start aes-expiry.timer && chmod 700 /var/lib/aes-appliance/signer && systemctl stop stranger && appliance backup status --wait 1m")
	finds(t, "mended", l.examined(t, "primary", "primary"), "ok", "services.sandbox", "services.overrides", "machine.cores", "services.timers", "permissions.paths", "services.sockets", "backup.enrolled")
	l.overrides(t)
}

// overrides: what no property of the sandbox shows is seen by the doctor all the same, and what docs/hardening.md has operators do is not bad.
func (l *life) overrides(t *testing.T) {
	const fragment = "/usr/lib/systemd/system/aes-portal.service"
	for _, one := range []struct{ what, do, undo, verdict string }{
		{"a documented drop-in", "mkdir -p /etc/systemd/system/aes-portal.service.d && printf '[Service]\\nMemoryMax=2G\\n' >/etc/systemd/system/aes-portal.service.d/override.conf", "rm -r /etc/systemd/system/aes-portal.service.d", "warn"},
		{"another program in the PIN's unit", "mkdir -p /etc/systemd/system/aes-signer-pin@.service.d && printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/tee /tmp/pin\\n' >/etc/systemd/system/aes-signer-pin@.service.d/x.conf",
			"rm -r /etc/systemd/system/aes-signer-pin@.service.d", "bad"},
		{"a property that was set", "systemctl set-property aes-portal.service IPAddressAllow=any", "systemctl revert aes-portal.service", "bad"},
		{"a unit in the package's place", "cp " + fragment + " /etc/systemd/system/", "rm /etc/systemd/system/aes-portal.service", "bad"},
		{"a changed unit", "cp -a " + fragment + " /root/portal.before && sed -i s/^NoNewPrivileges=.*// " + fragment, "cp -a /root/portal.before " + fragment, "bad"},
	} {
		l.on(t, "primary", one.do+" && systemctl daemon-reload")
		finds(t, one.what, l.examined(t, "primary", "primary"), one.verdict, "services.overrides")
		l.on(t, "primary", one.undo+" && systemctl daemon-reload")
	}
	finds(t, "without all that", l.examined(t, "primary", "primary"), "ok", "services.overrides")
}
