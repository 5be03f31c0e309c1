//go:build vm

package vmtests

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// refusals are what AppArmor has refused to our services on a machine since it was booted; in a container it is not in force.
func (e *estate) refusals(t *testing.T, host string) []string {
	t.Helper()
	out, err := e.try(host, `journalctl --sync; journalctl --no-pager -k -b -o cat | grep 'apparmor="DENIED"' | grep 'profile="aes-' || true`)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool { return line == "" })
}

// unrefused expects that AppArmor has refused nothing to our services, on any machine that is up.
func (e *estate) unrefused(t *testing.T) {
	t.Helper()
	if *tier != "vm" {
		return
	}
	for host := range e.machines {
		if host == e.lost {
			continue
		}
		if said := e.refusals(t, host); len(said) > 0 {
			t.Errorf("%s: AppArmor refused\n%s", host, strings.Join(said, "\n"))
		}
	}
}

// barred are the attempts of cmd/confined that AppArmor alone must frustrate, though it is root that tries. What it has no say in (memory that is written and
// executed, the personality, key rings, listening) is for the unit.
var barred = []string{"write /", "write /etc", "write /etc/aes-appliance", "write /run", "read /etc/shadow", "read a key of ssh", "read sealed credentials", "read the PIN",
	"read the signer's state", "write the signer's state", "read the token", "read the portal's state", "read the receiver's state", "read memory", "read the kernel's log", "write a kernel setting", "run a shell", "run a file of its own", "make a packet socket", "make a netlink socket", "bind port 81", "change the clock's state", "set the clock", "mount", "change the root folder", "trace", "load a program into the kernel", "load a module"}

// armour has the probe run as root without a sandbox: freely, to see that all of it can be done, and then under each profile, where nothing of it can. It leaves refusals in
// the kernel's log, and a machine that is to be booted.
func (l *life) armour(t *testing.T) {
	l.unrefused(t) // the services' whole life before this
	l.putProbe(t)
	l.on(t, "primary", "aa-status | grep -A20 'profiles are in enforce mode'")
	l.on(t, "primary", "install -d -m 700 -o aes-receiver -g aes-receiver /var/lib/aes-appliance/receiver") // as on a backup host
	for _, profile := range []string{"", "aes-signer", "aes-portal", "aes-receiver"} {
		under := ""
		if profile != "" {
			under = "aa-exec -p " + profile + " -- "
		}
		// In the program's place, for these processes only. Not as a unit: systemd would hide the signer's credentials from it.
		out := l.on(t, "primary", "unshare --mount sh -c 'mount --bind /opt/confined /usr/bin/appliance && exec "+under+"/usr/bin/appliance' | cat; rm -f /x /etc/x /run/x /etc/aes-appliance/x; hostname primary")
		tried := 0
		for line := range strings.Lines(out) {
			name, result, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if what, ok := strings.CutPrefix(name, "attempt "); ok && slices.Contains(barred, what) {
				tried++
				if profile == "aes-signer" && what == "read the PIN" {
					continue // its own
				}
				if done := result == "done"; done != (profile == "") {
					t.Errorf("root under %q: %s: %s", profile, what, result)
				}
			}
		}
		if tried != len(barred) {
			t.Errorf("under %q %d of %d were tried:\n%s", profile, tried, len(barred), out)
		}
	}
	l.on(t, "primary", "rmdir /var/lib/aes-appliance/receiver")
	if said := l.refusals(t, "primary"); len(said) < len(barred) {
		t.Errorf("the kernel's log has %d refusals only", len(said))
	}
}

// duties are what is done to an appliance that runs: reload, what its timers start, a restart, another PIN, a drill. In a VM it is all
// done under AppArmor, which is to refuse nothing of it.
func (l *life) duties(t *testing.T) {
	c := l.client(t)
	l.on(t, "primary", "systemctl reload aes-signer aes-portal && systemctl start aes-expiry aes-renew-archive && appliance backup token && appliance cert list >/dev/null")
	l.on(t, "backup", "systemctl reload aes-receiver && systemctl restart aes-receiver && appliance receiver status")
	c.signs(t, "DUTIES-1")
	l.daily(t)
	l.on(t, "primary", "systemctl start aes-drill && appliance token change-pin && systemctl is-active aes-signer aes-portal && appliance backup token && appliance backup status --wait 2m")

	l.put(t, "primary", "/root/identity.txt", 0o600, l.identity+"\n")
	code := l.on(t, "backup", "appliance receiver allow-restore 2>/dev/null")
	l.put(t, "primary", "/root/code", 0o600, code+"\n")
	l.on(t, "primary", "appliance backup drill --from backup.veripath.test --code - --identity /root/identity.txt </root/code; shred -u /root/identity.txt")
	l.unrefused(t)
}

// daily is the examination that the timer starts, on both hosts: it sees what an operator's own would, and its outcome is in the metrics.
func (l *life) daily(t *testing.T) {
	for _, host := range []string{"primary", "backup"} {
		l.on(t, host, "systemctl is-active aes-doctor.timer && (systemctl start aes-doctor || true) && systemctl show -P ConditionResult aes-doctor | grep -x yes")
		if out := l.on(t, host, "journalctl --sync; journalctl --no-pager -o cat -u aes-doctor"); !strings.Contains(out, `"schema": "aes-doctor/1"`) || strings.Contains(out, "the signer cannot be reached") || strings.Contains(out, "cannot be compared") {
			t.Errorf("%s: the daily examination says\n%s", host, out)
		}
	}
	l.on(t, "primary", "curl -s http://127.0.0.1:9464/metrics | grep '^aes_doctor_findings{verdict=\"ok\"}'")
}

// certificates has the portal get its TLS certificate in the other two ways: from an ACME server, Debian's pebble, which asks back over the portal's ports, and from files.
func (l *life) certificates(t *testing.T) {
	dir := t.TempDir()
	if err := l.lab.Attach("acme", atACME); err != nil {
		t.Fatal(err)
	}
	script := `cd $0; printf '198.18.0.10 sign.clinic.test pki.clinic.test\n127.0.0.1 localhost\n' >hosts; mount --bind hosts /etc/hosts
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=acme.test -addext subjectAltName=DNS:acme.test -keyout key.pem -out ca.pem 2>/dev/null
printf '{"pebble": {"listenAddress": "198.18.0.5:443", "managementListenAddress": "127.0.0.1:15000", "certificate": "ca.pem", "privateKey": "key.pem", "httpPort": 80, "tlsPort": 443, "ocspResponderURL": ""}}' >pebble.json
exec env PEBBLE_VA_NOSLEEP=1 pebble -config pebble.json`
	cmd := l.lab.Command(t.Context(), "acme", "unshare", "--mount", "--propagation=private", "sh", "-ec", script, dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pebble said:\n%s", &said)
		}
		cmd.Process.Kill()
		cmd.Wait() // killed
	})
	var ca []byte
	waitFor(t, 30*time.Second, "an ACME server", func() (err error) {
		if ca, err = os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil {
			return err
		}
		conn, err := l.lab.Dial(t.Context(), "app", "tcp", "198.18.0.5:443")
		if err == nil {
			conn.Close()
		}
		return err
	})
	const config = "/etc/aes-appliance/appliance.toml"
	l.put(t, "primary", "/etc/aes-appliance/acme-ca.pem", 0o644, string(ca))
	l.on(t, "primary", `cp `+config+` /root/own-ca.toml
sed -i -E -e '/^(tls|acme_directory|acme_email|acme_roots_file) *=/d' -e 's#^\[portal\]#[portal]\ntls = "acme"\nacme_directory = "https://acme.test/dir"\nacme_email = "ops@clinic.test"\nacme_roots_file = "/etc/aes-appliance/acme-ca.pem"#' `+config+`
appliance config check && systemctl restart aes-portal && systemctl is-active aes-portal`)
	issuer := "openssl s_client -connect 127.0.0.1:443 -servername sign.clinic.test </dev/null 2>/dev/null | openssl x509 -noout -issuer"
	if got := l.on(t, "primary", issuer); !strings.Contains(got, "Pebble") {
		t.Errorf("by ACME the certificate is of %s", got)
	}
	l.on(t, "primary", `cd /root && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=sign.clinic.test -addext subjectAltName=DNS:sign.clinic.test -keyout tls.key -out /etc/aes-appliance/tls.pem 2>/dev/null
chmod 644 /etc/aes-appliance/tls.pem
systemd-creds encrypt --name=tls-key tls.key /etc/credstore.encrypted/aes-portal.tls-key && shred -u tls.key
mkdir -p /etc/systemd/system/aes-portal.service.d
printf '[Service]\nLoadCredentialEncrypted=tls-key:/etc/credstore.encrypted/aes-portal.tls-key\n' >/etc/systemd/system/aes-portal.service.d/tls.conf
cp own-ca.toml `+config+`
sed -i -E -e '/^(tls|certificate_file|key_file) *=/d' -e 's#^\[portal\]#[portal]\ntls = "files"\ncertificate_file = "/etc/aes-appliance/tls.pem"\nkey_file = "/run/credentials/aes-portal.service/tls-key"#' `+config+`
appliance config check && systemctl daemon-reload && systemctl restart aes-portal && systemctl is-active aes-portal`)
	if got := l.on(t, "primary", issuer); !strings.Contains(got, "sign.clinic.test") {
		t.Errorf("from files the certificate is of %s", got)
	}
	l.on(t, "primary", "rm /etc/systemd/system/aes-portal.service.d/tls.conf && cp /root/own-ca.toml "+config+" && systemctl daemon-reload && systemctl restart aes-portal && systemctl is-active aes-portal")
	l.unrefused(t)
}
