//go:build vm

package vmtests

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// TestLife takes the package through its life on a primary and a backup host, in order: each part begins where the one before it ended.
func TestLife(t *testing.T) {
	besideOthers(t)
	eachRelease(t, func(t *testing.T, d machine.Debian) {
		e := newEstate(t, d)
		l := &life{estate: e, deb: *former, at: atPrimary}
		if l.deb == "" {
			l.deb = built(t, debs)
		}
		l.archive = e.newArchive(t, "apt", l.deb)
		e.boot(map[string]int{"primary": atPrimary, "backup": atBackup})
		if *tier == "vm" {
			l.timeServer(t)
		}
		wanted := regexp.MustCompile(*onlyParts)
		runParts(t, slices.DeleteFunc(l.parts(), func(p part) bool { return !p.needed && !wanted.MatchString(p.name) }))
	})
}

// part is one of a life.
type part struct {
	name   string
	run    func(*testing.T)
	needed bool // by all that follow
}

// machines is held by what times something, so that nothing else of these tests runs meanwhile, and shared by all else.
var machines sync.RWMutex

// timed are the parts that something is timed in.
var timed = []string{"upgrade", "cold start"}

// runParts runs parts in their order.
func runParts(t *testing.T, parts []part) {
	leave := func() {}
	defer func() { leave() }()
	alone := false
	for i, p := range parts {
		if now := slices.Contains(timed, p.name); i == 0 || !now || !alone { // two that are timed go on together: it takes long until all others have paused
			leave()
			if alone = now; alone {
				machines.Lock()
				leave = machines.Unlock
			} else {
				machines.RLock()
				leave = machines.RUnlock
			}
		}
		if !t.Run(p.name, p.run) && p.needed {
			t.Fatalf("nothing can be tried after %s failed", p.name)
		}
	}
}

// parts are what is to be seen in this kind of machine: in a VM what a container cannot show, since it is slow.
func (l *life) parts() []part {
	begin := []part{{"install", l.install, true}, {"setup", l.setUp, true}, {"booking app", l.bookingApp, false}}
	if *tier == "vm" {
		begin = append(begin, part{"limits", l.limits, false})
		audits := strings.Contains(*onlyParts, "lynis") // a quarter of an hour without KVM: when it is asked for only
		if audits {
			begin = append(begin, part{"lynis begins", l.beginLynis, false})
		}
		begin = append(begin, part{"clock jump", l.clockJump, false}, part{"duties", l.duties, false}, part{"certificates", l.certificates, false}, part{"armour", l.armour, false}, part{"TPM2", l.tpm, false})
		if audits {
			begin = append(begin, part{"lynis", l.lynis, false})
		}
		begin = append(begin, part{"power cut", l.powerCut, false}, part{"restore", l.restore, false}, part{"unrefused", l.unrefused, false})
		for i, p := range begin {
			begin[i].run = func(t *testing.T) {
				before := l.spent()
				defer func() { t.Logf("the machines took %v of the processor", (l.spent() - before).Round(time.Second)) }()
				p.run(t)
			}
		}
		return begin
	}
	begin = append(begin, part{"doctor", l.doctor, false}, part{"PIN", l.changePIN, false}, part{"replication", l.replication, false}, part{"ports", l.ports, false}, part{"reboot", l.reboots, false},
		part{"kill", l.kills, false}, part{"cold start", l.coldStart, false}, part{"upgrade", l.upgrade, false}, part{"undone", l.undone, false}, part{"drill", l.drill, false}, part{"alarm", l.alarms, false}, part{"tampered repository", l.tampered, false})
	// The program, what setup hardens, and the package's scripts are the same on all releases (TestPackage has the scripts on all): one life has what takes long and tells of them.
	if l.release != machine.Releases()[0] {
		return append(begin, part{"disk full", l.full, false}, part{"restore", l.restore, false})
	}
	return append(begin, part{"lynis begins", l.beginLynis, false}, part{"disk full", l.full, false}, part{"testssl", l.grade, false}, part{"lynis", l.lynis, false}, part{"restore", l.restore, false},
		part{"remove", l.removed, false})
}

type life struct {
	*estate
	archive  *archive
	deb      string
	root     string // the appliance's root certificate, PEM
	at       int    // number of the host that is the primary now
	identity string // that opens the token's backups
}

// install is from the signed repository, and leaves nothing that listens, runs or is a key.
func (l *life) install(t *testing.T) {
	together([]string{"primary", "backup"}, func(host string) {
		before := l.on(t, host, "ss -Hltn | awk '{print $4}' | sort")
		l.trust(t, l.archive, host)
		l.on(t, host, "apt-get -q update")
		l.on(t, host, "apt-get install -y -q aes-appliance")
		if after := l.on(t, host, "ss -Hltn | awk '{print $4}' | sort"); after != before {
			t.Errorf("%s: listening were\n%s\nand after the installation\n%s", host, before, after)
		}
		if out := l.on(t, host, "systemctl list-units --no-legend --plain 'aes-*'; systemctl list-unit-files --no-legend --state=enabled 'aes-*' || true"); out != "" {
			t.Errorf("%s: active or enabled before setup:\n%s", host, out)
		}
		if out := l.on(t, host, "find /var/lib/aes-appliance /etc/aes-appliance /etc/credstore.encrypted /run/aes-appliance ! -type d 2>/dev/null || true"); out != "" {
			t.Errorf("%s: files before setup:\n%s", host, out)
		}
		for _, name := range []string{"aes-signer", "aes-portal", "aes-receiver"} {
			l.on(t, host, "getent passwd "+name+" && getent group "+name)
		}
		if out := l.on(t, host, "systemctl is-system-running || systemctl --failed"); !strings.Contains(out, "running") {
			t.Errorf("%s: %s", host, out)
		}
		if *tier == "vm" {
			l.askTime(t, host)
		}
		l.on(t, host, "dpkg --verify aes-appliance && apt-get -q check && dpkg -s chrony ufw ca-certificates >/dev/null")
		l.refused(t, host, "systemctl start aes-signer && systemctl is-active aes-signer", "inactive")
	})
}
