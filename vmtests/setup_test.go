//go:build vm

package vmtests

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/vmtests/machine"
)

// clockProven reports whether the kernel that a machine runs on says that its clock is right. A container has this machine's clock and may not set it: on a
// machine without a time service the appliance in it is a demo, which may do without the proof and says so everywhere. That a clock is proven by chrony, and
// what an appliance does without, is seen in a VM.
func (l *life) clockProven() bool {
	if *tier == "vm" {
		return true
	}
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0 && tx.Maxerror < 1_000_000
}

const clinician = "Doctor Clinician"

// answers are those of an operator with a backup host, a clinic and its first clinician.
func (l *life) answers(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	l.identity = id.String()
	text := fmt.Sprintf(`[ceremony]
led_by = "Ada Example, operations"
witnesses = "Ben Example, director"
[pki]
base_url = "http://pki.clinic.test"
name = "VeriPath"
organisation = "VeriPath Ltd"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.1"
[token]
backup_recipients = %q
[portal]
hosts = "sign.clinic.test"
tls = "own-ca"
caller_rate = 1000
public_rate = 1000
[firewall]
admin_networks = "198.18.0.50 2001:2:0:18::50"
[clinic]
slug = "wharf-lane"
name = "Wharf Lane Clinic"
issuer = %q
issuer_ca_file = "/root/realm-ca.pem"
[clinician]
name = %q
register = "GMC"
number = "7654321"
sub = %q
[backup]
address = "backup.veripath.test"
`, id.Recipient(), l.provider.A.Issuer, clinician, oidctest.Doctor().Sub)
	if l.clockProven() {
		return text
	}
	t.Log("this machine's kernel does not say that its clock is right: the appliance is set up as a demo")
	return "[setup]\ndemo = true\n[clock]\nmode = \"unproven\"\n" + text
}

// backupAnswers are those of the operator on the backup host.
func (l *life) backupAnswers() string {
	return fmt.Sprintf(`[setup]
demo = %v
join_file = "/root/join-code"
[firewall]
admin_networks = "198.18.0.50 2001:2:0:18::50"
primaries = "198.18.0.10 2001:2:0:18::10"
`, !l.clockProven())
}

// setUp is unattended, on both hosts, and once more, which changes nothing.
func (l *life) setUp(t *testing.T) {
	l.put(t, "primary", "/root/realm-ca.pem", 0o644, l.provider.CA)
	l.put(t, "primary", "/root/answers.toml", 0o600, l.answers(t))
	l.put(t, "backup", "/root/answers.toml", 0o600, l.backupAnswers())
	out := l.on(t, "primary", "appliance setup --answers /root/answers.toml")
	t.Log("\n" + out)
	code := l.code(t, out)
	l.put(t, "backup", "/root/join-code", 0o600, code+"\n")
	t.Log("\n" + l.on(t, "backup", "appliance setup --role backup --answers /root/answers.toml"))
	l.on(t, "primary", "appliance backup status --wait 1m")
	l.root = l.on(t, "primary", "cat /var/lib/aes-appliance/carry-off/root.pem")

	facts := "cd / && find etc/aes-appliance etc/credstore.encrypted var/lib/aes-appliance/signer/token* etc/ufw -type f -exec sha256sum {} + | sort -k2; systemctl list-unit-files --no-legend --state=enabled 'aes-*'"
	before := l.on(t, "primary", facts)
	l.on(t, "primary", "appliance setup --answers /root/answers.toml")
	if after := l.on(t, "primary", facts); after != before {
		t.Errorf("a second setup changed something:\n%s\nwas\n%s", after, before)
	}
	l.setUpFindsBad(t)
	for _, unit := range []string{"aes-signer", "aes-portal"} {
		l.on(t, "primary", "systemctl is-active "+unit)
	}
	l.on(t, "backup", "systemctl is-active aes-receiver && systemctl is-enabled aes-receiver.socket")
	for _, host := range []string{"primary", "backup"} {
		l.hardened(t, host)
	}
}

// setUpFindsBad: a setup that has nothing left to do, on a machine on which something is bad, says so and by its exit code, 3; when that is mended it ends well again.
func (l *life) setUpFindsBad(t *testing.T) {
	t.Helper()
	for host, line := range map[string]string{"primary": "signer appliance setup --answers /root/answers.toml", "backup": "receiver appliance setup --role backup --answers /root/answers.toml"} {
		name, setup, _ := strings.Cut(line, " ")
		state := "/var/lib/aes-appliance/" + name
		l.on(t, host, "chmod 755 "+state)
		out, err := l.try(host, setup)
		var ended *machine.ExitError
		if !errors.As(err, &ended) || ended.Code != 3 || !strings.Contains(out+ended.Output, "is set up, and is not in order") || !strings.Contains(out+ended.Output, state) {
			t.Errorf("%s: a setup on a machine that is not in order: %v\n%s", host, err, out)
		}
		l.on(t, host, "chmod 700 "+state+" && "+setup)
	}
}

// code finds the join code in what setup said: the longest word of it.
func (l *life) code(t *testing.T, out string) string {
	t.Helper()
	longest := ""
	for word := range strings.FieldsSeq(out) {
		if len(word) > len(longest) && !strings.Contains(word, "/") {
			longest = word
		}
	}
	if len(longest) < 60 {
		t.Fatalf("no join code in\n%s", out)
	}
	return longest
}

// bookingApp runs what docs/booking-app.md shows, from a third host.
func (l *life) bookingApp(t *testing.T) {
	dir := t.TempDir()
	l.furnishApp(t, dir)
	token := l.provider.A.Login(t, oidctest.Doctor()).Access
	out, err := l.appShell(t, dir, `exec python3 booking_app.py https://sign.clinic.test root.pem "$TOKEN" RX-1`, "TOKEN="+token)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	pdf := l.client(t).get(t, "/api/pdf/RX-1")
	file := dir + "/rx.pdf"
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	l.verify(t, file, dir+"/root.pem")
}

// busy is how many processes want each processor, by the load of the last minute or of the last five, whichever is less: a part that is timed pauses the others, and should not be
// excused by them.
func busy(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	var one, five float64
	if _, err := fmt.Sscan(string(text), &one, &five); err != nil {
		t.Fatal(err)
	}
	return min(one, five) / float64(runtime.NumCPU())
}
