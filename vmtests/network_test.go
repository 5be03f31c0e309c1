//go:build vm

package vmtests

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var openPort = regexp.MustCompile(`(\d+)/open/`)

// scan returns the ports of target that answer to who looks from host, by nmap.
func (l *life) scan(t *testing.T, host, target string, args ...string) string {
	t.Helper()
	args = append([]string{"-n", "-Pn", "--max-retries", "2", "--min-rate", "10000", "-oG", "-"}, args...)
	if strings.Contains(target, ":") {
		args = append(args, "-6")
	}
	out, err := l.lab.Command(t.Context(), host, "nmap", append(args, target)...).Output()
	if err != nil {
		t.Errorf("nmap from %s: %v\n%s", host, err, out)
	}
	var open []string
	for _, m := range openPort.FindAllStringSubmatch(string(out), -1) {
		open = append(open, m[1])
	}
	slices.Sort(open)
	return strings.Join(open, " ")
}

// ports are seen from outside: exactly those that the role needs, from where it needs them.
func (l *life) ports(t *testing.T) {
	for _, host := range []string{"primary", "backup"} {
		l.on(t, host, "appliance firewall check")
	}
	// Side by side: what is dropped is waited for, and takes no processor.
	together([]struct{ from, at, ports, range_, want string }{
		{"app", "198.18.0.10", "-sS", "1-65535", "443 80"},
		{"app", "2001:2:0:18::10", "-sS", "1-10000", "443 80"},
		{"admin", "198.18.0.10", "-sS", "1-10000", "22 443 80"},
		{"admin", "2001:2:0:18::10", "-sS", "1-1024", "22 443 80"},
		{"app", "198.18.0.20", "-sS", "1-65535", ""},
		{"app", "2001:2:0:18::20", "-sS", "1-10000", ""},
		{"admin", "198.18.0.20", "-sS", "1-10000", "22"},
		{"primary", "198.18.0.20", "-sT", "7443", "7443"},
		{"primary", "2001:2:0:18::20", "-sT", "7443", "7443"},
		{"app", "198.18.0.10", "-sU", "53,68,123,161,323,514,5353", ""},
		{"app", "198.18.0.20", "-sU", "53,68,123,161,323,514,5353", ""},
	}, func(look struct{ from, at, ports, range_, want string }) {
		if got := l.scan(t, look.from, look.at, look.ports, "-p", look.range_); got != look.want {
			t.Errorf("%s sees of %s (%s %s): %q, not %q", look.from, look.at, look.ports, look.range_, got, look.want)
		}
	})
	// Out: what the role needs, and nothing else.
	listener, err := l.lab.Listen("app", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	together([]string{"primary", "backup"}, func(host string) {
		l.on(t, host, "apt-get -q update")
		l.refused(t, host, "nc -w 3 -z 198.18.0.40 8080")
	})
	l.on(t, "primary", "nc -w 3 -z id.clinic.test 443")
}

// replication goes on over a bad cable, and is what signing waits for.
func (l *life) replication(t *testing.T) {
	c := l.client(t)
	before := c.signs(t, "REP-1")
	if !before.Backup.Cosigned {
		t.Fatal("a prescription was answered that the backup host has not cosigned")
	}
	if err := l.lab.Cut("backup"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a, err := c.sign(t, "REP-2")
	if err != nil || a.Status != http.StatusServiceUnavailable {
		t.Errorf("with the cable cut: %v, %d %s", err, a.Status, a.Detail)
	}
	t.Logf("cut: %d %s after %v", a.Status, a.Type, time.Since(began).Round(time.Millisecond))
	if pdf := c.get(t, "/api/pdf/REP-1"); len(pdf) == 0 {
		t.Error("what is cosigned cannot be had while the cable is cut")
	}
	l.try("primary", "curl -s --max-time 5 http://pki.clinic.test/crl/ >/dev/null")
	if err := l.lab.Heal("backup"); err != nil {
		t.Fatal(err)
	}
	t.Logf("healed: signing after %v", c.comesBack(t, 30*time.Second, "REP-2").Round(time.Millisecond))
	if err := l.lab.Lossy(20); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		t.Logf("every fifth frame lost: signed after %v", c.comesBack(t, time.Minute, fmt.Sprintf("LOSS-%d", n)).Round(time.Millisecond))
	}
	if err := l.lab.Lossy(0); err != nil {
		t.Fatal(err)
	}
	l.sameLog(t)
}

// sameLog waits until the backup host has every line.
func (l *life) sameLog(t *testing.T) {
	t.Helper()
	log := "$(find /var/lib/aes-appliance/%s -name audit_chain.jsonl | head -1)"
	waitFor(t, 20*time.Second, "the same log on both hosts", func() error {
		a, errA := l.try("primary", "sha256sum < "+fmt.Sprintf(log, "signer"))
		b, errB := l.try("backup", "sha256sum < "+fmt.Sprintf(log, "receiver"))
		if errA != nil || errB != nil || a != b {
			last, _ := l.try("primary", "appliance backup status; tail -n 2 "+fmt.Sprintf(log, "signer"))
			return fmt.Errorf("%v %v: %s, %s\n%s", errA, errB, a, b, last)
		}
		return nil
	})
}

// reboots: everything comes back without a hand on it.
func (l *life) reboots(t *testing.T) {
	c := l.client(t)
	for _, host := range []string{"backup", "primary"} {
		began := time.Now()
		if err := l.machines[host].Reboot(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.http.CloseIdleConnections()
		booted := time.Since(began)
		c.comesBack(t, time.Minute, "BOOT-"+host)
		t.Logf("%s rebooted in %v, signing after %v", host, booted.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		l.on(t, host, `test -z "$(systemctl --failed --no-legend)"`)
		l.on(t, host, "appliance firewall check")
	}
}

// kills: what is killed is there again, and its clients need do nothing but ask again.
func (l *life) kills(t *testing.T) {
	c := l.client(t)
	for n, one := range []struct{ host, unit string }{{"primary", "aes-signer"}, {"primary", "aes-portal"}, {"backup", "aes-receiver"}} {
		l.on(t, one.host, "systemctl kill -s KILL "+one.unit)
		t.Logf("%s killed: signing after %v", one.unit, c.comesBack(t, 30*time.Second, fmt.Sprintf("KILL-%d", n)).Round(time.Millisecond))
	}
	l.sameLog(t)
}

// coldStart is of both services at once, as at a boot.
func (l *life) coldStart(t *testing.T) {
	l.on(t, "primary", stopBoth)
	began := time.Now()
	l.on(t, "primary", "systemctl start "+bothServices) // ends when both have said that they are ready
	took := time.Since(began)
	if took > startLimit && busy(t) < 2 {
		t.Errorf("both services are ready after %v, not %v", took, startLimit)
	}
	l.client(t).comesBack(t, 30*time.Second, "COLD-1")
}
