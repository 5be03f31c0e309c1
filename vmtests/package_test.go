//go:build vm

package vmtests

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// TestPackage is what dpkg and apt do with the package on one machine: installed from the repository that make apt-repo makes, upgraded by
// unattended-upgrades as docs/package.md says, taken back, removed, purged in each of the ways there are. What is left in the end is what was before.
func TestPackage(t *testing.T) {
	inContainers(t)
	besideOthers(t)
	eachRelease(t, func(t *testing.T, d machine.Debian) {
		p := &packaged{estate: newEstate(t, d), deb: built(t, debs)}
		p.boot(map[string]int{"primary": atPrimary})
		p.archive = p.newArchive(t, "apt", p.deb)
		p.version = strings.TrimSpace(p.on(t, "primary", "echo "+field(t, p.deb, "Version")))
		runParts(t, []part{
			{"install", p.install, true}, {"slow packet filter", p.slowFilter, true}, {"stopping", p.stopping, true}, {"unattended upgrade", p.unattended, true}, {"back", p.back, true}, {"remove", p.remove, true},
			{"purge keeps", p.purgeKeeps, true}, {"purge by debconf", p.purgeByDebconf, true}, {"purge by flag", p.purgeByFlag, true}, {"leftovers", p.leftovers, true},
		})
	})
}

type packaged struct {
	*estate
	archive      *archive
	deb, version string
	before       string // what was on the machine
}

func field(t *testing.T, deb, name string) string {
	t.Helper()
	out, err := exec.Command("dpkg-deb", "-f", deb, name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// documented returns the indented lines of docs/package.md that begin with first.
func documented(t *testing.T, first string) string {
	t.Helper()
	data, err := os.ReadFile("../docs/package.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?m)^    ` + regexp.QuoteMeta(first) + `.*\n(    .*\n)*`).FindString(string(data))
	if block == "" {
		t.Fatalf("docs/package.md has nothing that begins with %q", first)
	}
	return strings.ReplaceAll("\n"+block, "\n    ", "\n")
}

const everything = `find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/cache -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg ` +
	`-o -path /var/lib/systemd/timers -o -path /var/backups -o -path /srv/mirror -o -path /root \) -prune -o -print | sort`

func (p *packaged) install(t *testing.T) {
	p.trust(t, p.archive, "primary")
	p.on(t, "primary", "apt-get -q update && apt-get install -y -q chrony ufw ca-certificates apparmor debconf "+strings.ReplaceAll(field(t, p.deb, "Recommends"), ",", ""))
	p.before = p.on(t, "primary", everything)
	p.on(t, "primary", "apt-get install -y -q aes-appliance && dpkg --verify aes-appliance && appliance version")
	if out := p.on(t, "primary", "systemctl list-units --no-legend --plain 'aes-*'; systemctl list-unit-files --no-legend --state=enabled 'aes-*' || true"); out != "" {
		t.Errorf("active or enabled:\n%s", out)
	}
	p.on(t, "primary", "systemd-analyze verify --man=no /usr/lib/systemd/system/aes-*.socket /usr/lib/systemd/system/aes-*.timer /usr/lib/systemd/system/aes-*.target")
}

// slowFilter: the time to confirm is counted from when the rules are in force, though ufw took so long for that that systemd has begun to undo them.
func (p *packaged) slowFilter(t *testing.T) {
	p.put(t, "primary", "/root/receiver.toml", 0o600, "[firewall]\nadmin_networks = \"198.18.0.50\"\n")
	p.put(t, "primary", "/root/slow", 0o755, "#!/bin/sh\n[ \"$3\" != start ] || { sleep 12; systemctl show -P ActiveState aes-firewall-rollback.service >/root/undoing; }\nexec /root/ufw-init \"$@\"\n")
	p.on(t, "primary", "cp /lib/ufw/ufw-init /root && mount --bind /root/slow /lib/ufw/ufw-init")
	p.on(t, "primary", "appliance --config /root/receiver.toml firewall apply --confirm 10s")
	if out := p.on(t, "primary", "cat /root/undoing; systemctl show -P ActiveState aes-firewall-rollback.timer aes-firewall-rollback.service"); strings.Join(strings.Fields(out), " ") != "active active inactive" {
		t.Errorf("what undoes it was, and the timer and that are: %q", out)
	}
	p.on(t, "primary", "appliance firewall rollback && umount /lib/ufw/ufw-init && iptables -S INPUT | grep -x -e '-P INPUT ACCEPT'")
}

// stopping: a version that is being tried while the machine stops is taken back before that ends, though dpkg is gone and services cannot start, and is not refused for it.
func (p *packaged) stopping(t *testing.T) {
	p.put(t, "primary", "/etc/systemd/system/trying.service", 0o644, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecStop=/usr/lib/aes-appliance/upgrade try 9\nTimeoutStopSec=20\n")
	p.on(t, "primary", `set -e
/usr/lib/aes-appliance/upgrade begin 9
echo aes-signer.service >/var/lib/aes-appliance/upgrade/running
cp /bin/false /root/false && mv /root/false /usr/bin/appliance
systemctl daemon-reload && systemctl start trying.service`)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := p.machines["primary"].Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	if out := p.on(t, "primary", "rm /etc/systemd/system/trying.service && dpkg --verify aes-appliance && ls /var/lib/aes-appliance/upgrade"); out != "" {
		t.Errorf("what the upgrade has left: %q", out)
	}
}

// unattended: with the line of the documentation, and nothing else allowed, the next version comes by itself.
func (p *packaged) unattended(t *testing.T) {
	later := next(t, p.deb)
	p.archive.add(t, later)
	p.put(t, "primary", "/etc/apt/apt.conf.d/52aes-appliance", 0o644, "#clear Unattended-Upgrade::Origins-Pattern;\n"+documented(t, "Unattended-Upgrade::"))
	p.on(t, "primary", "apt-get -q update")
	out := p.on(t, "primary", "unattended-upgrade -v 2>&1; dpkg-query -W -f '${Version}' aes-appliance; rm /etc/apt/apt.conf.d/52aes-appliance")
	if !strings.HasSuffix(out, field(t, later, "Version")) {
		t.Errorf("it was not upgraded:\n%s", out)
	}
}

func (p *packaged) back(t *testing.T) {
	p.on(t, "primary", "apt-get install -y -q --allow-downgrades aes-appliance="+p.version+" && dpkg --verify aes-appliance")
}

// state puts files where keys, log and credentials would be.
const state = `set -e
install -d -m 700 -o aes-signer /var/lib/aes-appliance/signer /etc/credstore.encrypted
echo key >/var/lib/aes-appliance/signer/key; echo x >/etc/aes-appliance/appliance.toml; echo pin >/etc/credstore.encrypted/aes-signer.token-pin; echo other >/etc/credstore.encrypted/other
install -d /etc/systemd/system/aes-portal.service.d
echo '[Service]' >/etc/systemd/system/aes-portal.service.d/50-setup-credentials.conf`

const kept = "cat /var/lib/aes-appliance/signer/key /etc/aes-appliance/appliance.toml /etc/credstore.encrypted/aes-signer.token-pin && stat -c %U /var/lib/aes-appliance/signer"

func (p *packaged) remove(t *testing.T) {
	p.on(t, "primary", state)
	p.on(t, "primary", "systemctl enable -q aes-appliance.target && apt-get remove -y -q aes-appliance")
	p.refused(t, "primary", "command -v appliance")
	p.refused(t, "primary", "systemctl start aes-signer.socket")
	if out := p.on(t, "primary", kept); out != "key\nx\npin\naes-signer" {
		t.Error(out)
	}
	p.on(t, "primary", "apt-get install -y -q aes-appliance="+p.version+" && systemctl is-enabled aes-appliance.target && "+kept)
}

func (p *packaged) purgeKeeps(t *testing.T) {
	out := p.on(t, "primary", "DEBIAN_FRONTEND=noninteractive apt-get purge -y -q aes-appliance 2>&1")
	for _, want := range []string{"are kept:", "/var/lib/aes-appliance/signer", "/etc/aes-appliance", "/etc/credstore.encrypted/aes-signer.token-pin"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if out := p.on(t, "primary", kept); out != "key\nx\npin\naes-signer" {
		t.Error(out)
	}
	p.refused(t, "primary", "test -e /etc/ufw/applications.d/aes-appliance")
}

const gone = "test ! -e /var/lib/aes-appliance && test ! -e /etc/aes-appliance && test ! -e /etc/credstore.encrypted/aes-signer.token-pin && test ! -e /etc/systemd/system/aes-portal.service.d && cat /etc/credstore.encrypted/other"

func (p *packaged) purgeByDebconf(t *testing.T) {
	p.on(t, "primary", "apt-get install -y -q aes-appliance="+p.version+" && "+kept)
	out := p.on(t, "primary", "echo 'aes-appliance aes-appliance/purge-state boolean true' | debconf-set-selections && DEBIAN_FRONTEND=noninteractive apt-get purge -y -q aes-appliance 2>&1")
	if !strings.Contains(out, "are deleted, as confirmed") {
		t.Error(out)
	}
	p.on(t, "primary", gone)
}

// purgeByFlag also shows that a confirmation does not outlive the purge that it was for.
func (p *packaged) purgeByFlag(t *testing.T) {
	p.on(t, "primary", "apt-get install -y -q aes-appliance="+p.version)
	p.on(t, "primary", state)
	p.on(t, "primary", "DEBIAN_FRONTEND=noninteractive apt-get purge -y -q aes-appliance 2>&1 && "+kept)
	p.on(t, "primary", "apt-get install -y -q aes-appliance="+p.version+" && touch /var/lib/aes-appliance/purge-this-state && apt-get remove -y -q aes-appliance && "+kept)
	p.on(t, "primary", "DEBIAN_FRONTEND=noninteractive apt-get purge -y -q aes-appliance 2>&1 && "+gone)
}

// leftovers: nothing is on the machine that was not there before, but what the test itself put there and the users, whose numbers may stand in archives.
func (p *packaged) leftovers(t *testing.T) {
	p.on(t, "primary", "rm -r /etc/credstore.encrypted; getent passwd aes-signer aes-portal aes-receiver")
	was := map[string]bool{}
	for line := range strings.Lines(p.before) {
		was[strings.TrimSpace(line)] = true
	}
	own := regexp.MustCompile(`^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|^/var/lib/(unattended-upgrades|chrony|ucf|systemd/(random-seed|timesync))|^/etc/credstore|/__pycache__`)
	for line := range strings.Lines(p.on(t, "primary", everything)) {
		if path := strings.TrimSpace(line); !was[path] && !own.MatchString(path) {
			t.Errorf("left: %s", path)
		}
	}
}

// ours are what a removed appliance must have none of: processes, units that are up, sockets that listen.
const ours = `pgrep -l -u aes-signer,aes-portal,aes-receiver; pgrep -l -x appliance; systemctl list-units --no-legend --plain --state=active,activating,failed 'aes-*'; ss -Hltn | grep -E ':(80|443|9464|7443) '; ss -Hlx | grep aes-; true`

// hardening are the files that setup and a restore write for the machine itself.
const hardening = "/etc/sysctl.d/60-aes-appliance.conf /etc/modprobe.d/aes-appliance.conf /etc/security/limits.d/60-aes-appliance.conf /etc/systemd/coredump.conf.d/60-aes-appliance.conf /etc/profile.d/60-aes-appliance.sh /etc/ssh/sshd_config.d/60-aes-appliance.conf"

// removed is the end of an appliance that works: a removal stops it and keeps all, an installation takes up where it was; so does one after a purge that nobody confirmed, by the command that
// it told; and one that was confirmed leaves nothing but the packet filter, by which the administrator comes in.
func (l *life) removed(t *testing.T) {
	host := "primary"
	if l.at == atSpare {
		host = "spare"
	}
	c := l.client(t)
	before := c.signs(t, "REMOVE-1")
	goesOn := func(id string) {
		t.Helper()
		l.on(t, host, "systemctl is-active aes-appliance.target aes-signer aes-portal aes-doctor.timer && systemctl is-enabled aes-appliance.target")
		c.http.CloseIdleConnections()
		c.comesBack(t, time.Minute, id)
		if got := c.get(t, "/api/pdf/REMOVE-1"); fmt.Sprintf("%x", sha256.Sum256(got)) != before.SHA256 {
			t.Error("what was signed before the removal is not what is given out")
		}
	}
	ended := func() {
		t.Helper()
		if out := l.on(t, host, ours); out != "" {
			t.Errorf("of the removed appliance is left\n%s", out)
		}
		if conn, err := l.lab.Dial(t.Context(), "admin", "tcp", fmt.Sprintf("198.18.0.%d:22", l.at)); err != nil {
			t.Errorf("the administrator is kept out: %v", err)
		} else {
			conn.Close()
		}
		l.on(t, host, "ufw status verbose | grep -F 'deny (incoming), deny (outgoing)' && ufw status | grep -w 22 | grep -wF 198.18.0.50")
	}
	if out := l.on(t, host, ours); strings.Count(out, "appliance") < 2 || !strings.Contains(out, ":443 ") {
		t.Fatalf("of a running appliance only this is seen:\n%s", out)
	}
	l.on(t, host, "apt-get remove -y -q aes-appliance")
	ended()
	l.on(t, host, "test -s /var/lib/aes-appliance/signer/audit_chain.jsonl && test -s /etc/aes-appliance/appliance.toml && test -s /etc/credstore.encrypted/aes-signer.token-pin && ls "+hardening)
	l.on(t, host, "apt-get install -y -q aes-appliance")
	goesOn("REMOVE-2")

	const purge = "DEBIAN_FRONTEND=noninteractive apt-get purge -y -q aes-appliance 2>&1"
	said := l.on(t, host, purge)
	again := regexp.MustCompile(`systemctl enable --now aes-appliance\.target`).FindString(said)
	if again == "" || !strings.Contains(said, "are kept:") || !strings.Contains(said, "The packet filter stays in force") {
		t.Errorf("a purge that nobody confirmed says\n%s", said)
	}
	ended()
	l.on(t, host, "apt-get install -y -q aes-appliance && "+again)
	goesOn("REMOVE-3")

	said = l.on(t, host, "touch /var/lib/aes-appliance/purge-this-state; "+purge)
	if !strings.Contains(said, "are deleted, as confirmed") || !strings.Contains(said, "The packet filter stays in force") {
		t.Errorf("a confirmed purge says\n%s", said)
	}
	ended()
	for line := range strings.Lines(l.on(t, host, `find /etc /var/lib /usr /run -xdev \( -name '*aes-appliance*' -o -name 'aes-*' -o -name '50-setup-credentials*' \) -print; systemctl --failed --no-legend`)) {
		// The repository is the test's; when timers ran last systemd keeps of every unit; what is in /run, empty folders, the next boot has gone.
		if line = strings.TrimSpace(line); !regexp.MustCompile(`^/etc/apt/|^/var/lib/apt/lists/|^/var/lib/systemd/timers/stamp-|^/run/aes-`).MatchString(line) {
			t.Errorf("left: %s", line)
		}
	}
}
