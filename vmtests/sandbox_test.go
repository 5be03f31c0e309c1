//go:build vm

package vmtests

import (
	"slices"
	"strings"
	"testing"
)

// cage is what of a unit's sandbox is looked at from inside, with cmd/confined in the program's place.
type cage struct {
	as       string   // the unit as it is started; "": as it is called
	probe    string   // lines that put the probe in the program's place, where that is not /usr/bin/appliance
	may      []string // the attempts that must succeed; all others must not
	sees     map[string]string
	bounding string // hexadecimal digits of its capabilities; "": none
}

// cages are the units; in what they see "…" is anything.
var cages = map[string]cage{
	"aes-signer": {may: []string{"read the PIN", "write its state", "make a unix socket", "read the clock's state"},
		sees: map[string]string{"/usr/bin": "appliance", "/home": "none", "/var/lib": "aes-appliance", "/var/lib/aes-appliance": "signer", "/run/aes-appliance": "admin portal", "interfaces": "lo"}},
	"aes-portal": {may: []string{"write its state", "make a unix socket", "make a network socket", "make an IPv6 socket"},
		sees: map[string]string{"/usr/bin": "appliance", "/home": "none", "/var/lib": "aes-appliance", "/var/lib/aes-appliance": "portal", "/run/aes-appliance": "portal"}},
	"aes-receiver": {may: []string{"write its state", "make a unix socket", "make a network socket", "make an IPv6 socket"},
		sees: map[string]string{"/usr/bin": "appliance", "/home": "none", "/var/lib": "aes-appliance", "/var/lib/aes-appliance": "receiver", "/run/aes-appliance": "none"}},
	"aes-expiry":        task,
	"aes-renew-archive": task,
	"aes-drill":         task,
	// It decrypts the PIN for the signer. It is no program of ours that could be alone in a folder; as a user without rights it can run what the machine has.
	"aes-signer-pin@": {as: "aes-signer-pin@probe", probe: "ExecStart=\nExecStart=/opt/confined\nStandardOutput=journal\n", may: []string{"run a shell", "run a file of its own"},
		sees: map[string]string{"/var/lib/aes-appliance": "none", "/home": "none", "interfaces": "lo"}},
	// It looks at the whole machine as root, and writes nothing of it but its own temporary files. (Of shared memory root sees an empty folder.)
	"aes-doctor": {bounding: "1002", may: []string{"read /etc/shadow", "read a key of ssh", "read sealed credentials", "read another process", "run a shell", "run a file of its own", "become root", "read shared memory",
		"make a network socket", "make an IPv6 socket", "make a netlink socket", "make a unix socket", "listen on TCP", "listen on a unix socket", "bind port 8081"},
		sees: map[string]string{"/home": "none"}},
}

// task is what is started by a timer and asks the signer.
var task = cage{may: []string{"make a unix socket"}, sees: map[string]string{"/usr/bin": "appliance", "/home": "none", "/var/lib": "none", "/var/lib/aes-appliance": "none", "/run/aes-appliance": "admin", "interfaces": "lo"}}

// sandbox puts the probe in the program's place, and starts each unit: without its AppArmor profile, which would hide what the sandbox lets see; armour has that alone.
func (u *units) sandbox(t *testing.T) {
	u.on(t, "primary", "cp -a /usr/bin/appliance /opt/appliance && cp /opt/confined /usr/bin/appliance")
	for unit, c := range cages {
		name := unit
		if c.as != "" {
			name = c.as
		}
		u.put(t, "primary", "/run/systemd/system/"+unit+".service.d/probe.conf", 0o644, "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nAppArmorProfile=\n"+c.probe)
		out := u.on(t, "primary", "since=$(date +%s); systemctl daemon-reload; systemctl start "+name+".service; said() { journalctl --no-pager -o cat -u "+name+" --since=@$since; }; "+
			"n=0; until said | grep -q '^status Seccomp' || [ $n -ge 600 ]; do n=$((n+1)); sleep 0.1; done; said | grep -E '^(attempt|folder|status) '")
		u.judge(t, unit, c, out)
	}
	u.on(t, "primary", "rm -rf /run/systemd/system/aes-*.service.d && cp -a /opt/appliance /usr/bin/appliance && systemctl daemon-reload")
}

// judge compares what the probe found with what it must find.
func (u *units) judge(t *testing.T, unit string, c cage, out string) {
	t.Helper()
	seen := 0
	for line := range strings.Lines(out) {
		name, result, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if what, ok := strings.CutPrefix(name, "attempt "); ok {
			seen++
			if what == "bind port 8081" && u.release.Number == "12" {
				continue // its systemd knows SocketBindDeny= and does nothing about it; what is bound cannot listen all the same
			}
			if want := slices.Contains(c.may, what); want != (result == "done") {
				t.Errorf("%s: %s: %s", unit, what, result)
			}
		}
		if what, ok := strings.CutPrefix(name, "folder "); ok {
			if want := c.sees[what]; want != "" && result != want {
				t.Errorf("%s: in %s there is %s, not %s", unit, what, result, want)
			}
		}
		if what, ok := strings.CutPrefix(name, "status "); ok && strings.HasPrefix(what, "Cap") {
			if got := strings.TrimLeft(result, "0"); got != "" && got != c.bounding {
				t.Errorf("%s: %s is %s", unit, what, result)
			}
		}
	}
	if seen < 40 {
		t.Errorf("%s: %d attempts:\n%s", unit, seen, out)
	}
}
