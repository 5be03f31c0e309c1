//go:build vm

package vmtests

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
)

// cage is what of a unit's sandbox is looked at from inside, with cmd/confined in the program's place.
type cage struct {
	as       string            // the unit as it is started; "": as it is called
	probe    string            // lines of a drop-in that the probe takes
	may      []string          // the attempts that must succeed; all others must not
	sees     map[string]string // what is in a folder: "none" when it is not to be seen, "nothing" when it is empty
	bounding string            // hexadecimal digits of its capabilities; "": none
}

// inItsPlace are lines that put the probe in the place of a program that is not /usr/bin/appliance.
const inItsPlace = "ExecStart=\nExecStart=/opt/confined\nExecPaths=/opt/confined\nStandardOutput=journal\n"

// cages are the units.
var cages = map[string]cage{
	// It has the PIN until the last of the others has looked for it.
	"aes-signer": {probe: "RemainAfterExit=yes\n", may: []string{"read the PIN", "read the signer's state", "write the signer's state", "read the token", "write its state", "make a unix socket", "read the clock's state"},
		sees: sees("signer", "admin portal", "/run", "aes-appliance credentials systemd", "/run/credentials", "aes-signer.service", "/etc", "aes-appliance", "interfaces", "lo")},
	"aes-portal": {may: []string{"read the portal's state", "write its state", "make a unix socket", "make a network socket", "make an IPv6 socket"}, sees: sees("portal", "portal")},
	// Its first start here: a link /bin comes with the next.
	"aes-receiver":      {may: []string{"read the receiver's state", "write its state", "make a unix socket", "make a network socket", "make an IPv6 socket"}, sees: sees("receiver", "none", "/run", "systemd", "/", "dev etc proc root run sys tmp usr var")},
	"aes-expiry":        task,
	"aes-renew-archive": task,
	"aes-drill":         task,
	// It decrypts the PIN for the signer. It is no program of ours that could be alone in a folder.
	"aes-signer-pin@": {as: "aes-signer-pin@probe", probe: inItsPlace, sees: map[string]string{"/var/lib/aes-appliance": "none", "/home": "none", "/run/credentials": "aes-signer-pin@probe.service", "interfaces": "lo"}},
	// It looks at the whole machine as root, and writes nothing of it but its own temporary files. (Of shared memory and homes root sees an empty folder.)
	"aes-doctor": {bounding: "1002", may: slices.Concat(readAll, []string{"run a shell", "make a network socket", "make an IPv6 socket", "make a netlink socket"}), sees: map[string]string{"/home": "nothing", "/run/credentials": "aes-doctor.service"}},
	// It puts the package's files back after a power cut, and so writes where it likes.
	"aes-upgrade": {bounding: "b", probe: inItsPlace + "[Unit]\nConditionPathExists=\n", may: slices.Concat(readAll, []string{"run a shell", "run a file of its own", "write /", "write /etc", "write /etc/aes-appliance", "write the program",
		"write /run", "write shared memory", "write the signer's state", "write its state"}), sees: map[string]string{"/home": "nothing", "/run/credentials": "nothing", "interfaces": "lo"}},
}

// readAll is what root may that is to look at files, processes and sockets of others.
var readAll = []string{"read /etc/shadow", "read a key of ssh", "read sealed credentials", "read the signer's state", "read the token", "read the portal's state", "read the receiver's state", "read another process",
	"become root", "read shared memory", "make a unix socket", "ask systemd"}

// sees is what a service sees whose root folder has only what it needs: its state, the folders of sockets, and more, by pairs of a folder and what is in it.
func sees(state, sockets string, more ...string) map[string]string {
	m := map[string]string{"/": "bin dev etc proc root run sys tmp usr var", "/usr": "bin", "/usr/bin": "appliance", "/home": "none", "/var": "lib tmp", "/var/lib": "aes-appliance", "/var/lib/aes-appliance": state,
		"/run": "aes-appliance systemd", "/run/aes-appliance": sockets, "/run/credentials": "none",
		"/dev": "char fd full log mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// task is what is started by a timer and asks the signer.
var task = cage{may: []string{"make a unix socket"}, sees: sees("none", "admin", "/var", "tmp", "/var/lib", "none", "/etc", "aes-appliance", "interfaces", "lo")}

// sandbox puts the probe in the program's place, and starts each unit: without its AppArmor profile, which would hide what the sandbox lets see; armour has that alone.
func (u *units) sandbox(t *testing.T) {
	const pin = "test -s /run/credentials/aes-signer.service/token-pin" // or that nobody reads it would say nothing
	u.on(t, "primary", "cp -a /usr/bin/appliance /opt/appliance && cp /opt/confined /usr/bin/appliance; mkdir -p /home/somebody; install -d -m 700 -o aes-receiver -g aes-receiver /var/lib/aes-appliance/receiver")
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(cages)), func(unit string) bool { return unit == "aes-signer" })
	for _, unit := range append([]string{"aes-signer"}, others...) {
		c := cages[unit]
		name := cmp.Or(c.as, unit)
		u.put(t, "primary", "/run/systemd/system/"+unit+".service.d/probe.conf", 0o644, "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nAppArmorProfile=\n"+c.probe)
		out := u.on(t, "primary", "since=$(date +%s); systemctl daemon-reload; systemctl start "+name+".service; said() { journalctl --no-pager -o cat -u "+name+" --since=@$since; }; "+
			"n=0; until said | grep -q '^status Seccomp' || [ $n -ge 600 ]; do n=$((n+1)); sleep 0.1; done; "+pin+" && said | grep -E '^(attempt|folder|status) '")
		u.judge(t, unit, c, out)
	}
	u.on(t, "primary", "systemctl stop aes-signer && ! "+pin+" && rm -rf /x /etc/x /etc/aes-appliance/x /run/x /dev/shm/x /home/somebody /run/systemd/system/aes-*.service.d && cp -a /opt/appliance /usr/bin/appliance && systemctl daemon-reload")
}

// judge compares what the probe found with what it must find.
func (u *units) judge(t *testing.T, unit string, c cage, out string) {
	t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(out) {
		name, result, _ := strings.Cut(strings.TrimSpace(line), ": ")
		found[name] = result
		if what, ok := strings.CutPrefix(name, "attempt "); ok {
			if what == "bind port 8081" && u.release.Number == "12" {
				continue // its systemd knows SocketBindDeny= and does nothing about it; what is bound cannot listen all the same
			}
			if want := slices.Contains(c.may, what); want != (result == "done") {
				t.Errorf("%s: %s: %s", unit, what, result)
			}
		}
		if what, ok := strings.CutPrefix(name, "status "); ok && strings.HasPrefix(what, "Cap") {
			if got := strings.TrimLeft(result, "0"); got != "" && got != c.bounding {
				t.Errorf("%s: %s is %s", unit, what, result)
			}
		}
	}
	for _, what := range c.may {
		if found["attempt "+what] == "" {
			t.Errorf("%s: %s was not tried", unit, what)
		}
	}
	for what, want := range c.sees {
		got := found["folder "+what]
		if what == "/run" && u.release.Number == "13" {
			got = strings.Replace(got, "host ", "", 1) // its systemd says there of which release the machine is
		}
		if what == "/dev" {
			got = strings.Replace(got, "hugepages ", "", 1) // as the kernel has them
		}
		if got != want {
			t.Errorf("%s: in %s there is %s, not %s", unit, what, got, want)
		}
	}
	if len(found) < 60 {
		t.Errorf("%s: %d findings:\n%s", unit, len(found), out)
	}
}
