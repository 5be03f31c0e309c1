//go:build vm

package vmtests

import (
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// TestLife takes the package through its life on a primary and a backup host, in order: each part begins where the one before it ended.
func TestLife(t *testing.T) {
	eachRelease(t, func(t *testing.T, d machine.Debian) {
		e := newEstate(t, d)
		l := &life{estate: e, archive: e.newArchive(t), at: atPrimary}
		l.deb = built(t, "aes-appliance_*_amd64.deb")
		l.archive.add(t, l.deb)
		e.boot(map[string]int{"primary": atPrimary, "backup": atBackup})
		for _, part := range []struct {
			name string
			run  func(*testing.T)
		}{
			{"install", l.install}, {"setup", l.setUp}, {"booking app", l.bookingApp},
		} {
			if !t.Run(part.name, part.run) {
				t.Fatalf("what follows %s begins where it ends", part.name)
			}
		}
	})
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
		l.on(t, host, "apt-get -q update && apt-get install -y -q aes-appliance")
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
		l.on(t, host, "dpkg --verify aes-appliance && apt-get -q check && dpkg -s chrony ufw ca-certificates >/dev/null")
		l.refused(t, host, "systemctl start aes-signer && systemctl is-active aes-signer", "inactive")
	})
}
