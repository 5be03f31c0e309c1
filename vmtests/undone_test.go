//go:build vm

package vmtests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// broken returns a package of a later version of deb, whose program starts, and is of no use as a service: it ends at once, or never gets ready.
func broken(t *testing.T, deb, name, service string) string {
	t.Helper()
	dir := t.TempDir()
	program := `package main
import ("os"; "time")
func main() {
	if os.Args[1] == "version" { println("appliance ` + name + `"); return }
	` + service + `
}
var _ = time.Now
`
	if err := os.WriteFile(dir+"/main.go", []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name+".deb")
	cmd := exec.Command("bash", "-c", `set -eu
CGO_ENABLED=0 go build -o "$1/appliance" "$1/main.go"
dpkg-deb -R "$0" "$1/x"
sed -i "s/^Version: .*/&+next+$2/" "$1/x/DEBIAN/control"
cp "$1/appliance" "$1/x/usr/bin/appliance"
(cd "$1/x" && find . -type f -not -path './DEBIAN/*' -printf '%P\n' | xargs -d '\n' md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -z1 -b "$1/x" "$3" >/dev/null`, deb, dir, name, out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// undone: an upgrade to a version that is no good undoes itself, under eight signing clients, and everybody is told.
func (l *life) undone(t *testing.T) {
	l.on(t, "primary", "appliance clinic policy wharf-lane --per-minute 10000 --per-token 10000")
	for _, one := range []struct{ name, service, says string }{
		{"dies", "os.Exit(1)", "its services do not do their work"},
		{"hangs", "time.Sleep(time.Hour)", "its services are not ready within"},
	} {
		file := "/root/" + one.name + ".deb"
		l.give(t, "primary", file, broken(t, l.deb, one.name, one.service))
		if one.name == "hangs" && l.release == machine.Releases()[0] {
			continue // minutes of waiting, which are seen on the other releases
		}
		version := l.on(t, "primary", "dpkg-query -W -f '${Version}' aes-appliance")
		w := l.eightApps(t, strings.ToUpper(one.name))
		w.goesOn(20)
		began := time.Now()
		l.refused(t, "primary", "apt-get install -y -q "+file, "is not good, and the former one is put back", one.says, "the former version runs again, and was checked")
		took := time.Since(began)
		w.goesOn(20)
		pause := w.end()
		t.Logf("%s: undone after %v; %d acknowledged, %d told to ask again, %d failed, the longest pause %v", one.name, took, len(w.acknowledged), w.again, len(w.failed), pause)
		w.there()
		l.former(t, version, one.name)
		began = time.Now()
		l.refused(t, "primary", "apt-get install -y -q "+file, "was tried before and is not tried again")
		l.on(t, "primary", "rm /var/lib/aes-appliance/upgrade/undone && appliance doctor --serving")
		t.Logf("%s: not tried again, which took %v", one.name, time.Since(began))
	}
	if l.release == machine.Releases()[0] {
		l.killed(t)
	}
	l.stopped(t)
	l.sameLog(t)
}

// killed: dpkg is killed while a version is tried that is no good. The former one comes back all the same, and what repairs the package is tried, too.
func (l *life) killed(t *testing.T) {
	version := l.on(t, "primary", "dpkg-query -W -f '${Version}' aes-appliance")
	l.on(t, "primary", `cd /var/lib/aes-appliance && was=$(systemctl show -P MainPID aes-portal)
dpkg -i /root/dies.deb >/dev/null 2>&1 & dpkg=$!
for i in $(seq 300); do test $was = $(systemctl show -P MainPID aes-portal) || break; sleep 0.1; done
kill -KILL $dpkg
for i in $(seq 300); do test -e upgrade/pending || break; sleep 0.2; done
test ! -e upgrade/pending && appliance doctor --serving
for unit in aes-signer aes-portal; do cmp /proc/$(systemctl show -P MainPID $unit)/exe /usr/bin/appliance || exit 1; done
rm upgrade/undone`)
	l.refused(t, "primary", "dpkg --configure -a; apt-get install -y -q /root/dies.deb", "is not good, and the former one is put back", "the former version runs again, and was checked")
	l.on(t, "primary", "rm /var/lib/aes-appliance/upgrade/undone; apt-get install -y -q --reinstall --allow-downgrades aes-appliance="+version)
	l.on(t, "primary", "appliance doctor --serving && dpkg --verify aes-appliance && test ! -e /var/lib/aes-appliance/upgrade && test \"$(dpkg-query -W -f '${db:Status-Abbrev}' aes-appliance)\" = 'ii '")
}

// former checks that a version is installed and runs as if nothing had been, and that the operator is told of the one that was undone.
func (l *life) former(t *testing.T, version, name string) {
	t.Helper()
	if got := l.on(t, "primary", "dpkg-query -W -f '${db:Status-Abbrev}${Version}' aes-appliance && dpkg --verify aes-appliance"); got != "ii "+version {
		t.Errorf("%s: the package is %q", name, got)
	}
	l.on(t, "primary", `for unit in aes-signer aes-portal; do cmp /proc/$(systemctl show -P MainPID $unit)/exe /usr/bin/appliance || exit 1; done
test -z "$(systemctl --failed --no-legend 'aes-signer*' 'aes-portal*' '*.socket')"`)
	l.on(t, "primary", "journalctl --sync; journalctl --no-pager -o cat -t aes-upgrade -p err | grep -F '+"+name+" is not good'")
	l.refused(t, "primary", "appliance doctor", name+" was undone at")
	l.on(t, "primary", `appliance status --json | grep -F '"updates.package"'`)
	l.on(t, "primary", "appliance audit verify")
}

// stopped: the power goes off while a version is being tried that is no good. The machine comes up with the former one.
func (l *life) stopped(t *testing.T) {
	version := l.on(t, "primary", "dpkg-query -W -f '${Version}' aes-appliance")
	tried := make(chan struct{})
	go func() {
		defer close(tried)
		l.try("primary", "apt-get install -y -q /root/hangs.deb") // killed with its machine
	}()
	waitFor(t, time.Minute, "a version that is being tried", func() error {
		_, err := l.try("primary", "cd /var/lib/aes-appliance/upgrade && test -e pending && ! cmp -s /usr/bin/appliance former/usr/bin/appliance")
		return err
	})
	if err := l.machines["primary"].PowerCut(); err != nil {
		t.Fatal(err)
	}
	<-tried
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := l.machines["primary"].Boot(ctx); err != nil {
		t.Fatal(err)
	}
	c := l.client(t)
	t.Logf("the power went off in the midst of an upgrade: signing %v after the boot", c.comesBack(t, time.Minute, "UNDONE-BOOT"))
	l.on(t, "primary", "journalctl --sync; journalctl --no-pager -o cat -t aes-upgrade -p err | grep -F 'the machine stopped in the midst of an upgrade'")
	l.refused(t, "primary", "appliance doctor", "apt-get install --reinstall aes-appliance")
	l.on(t, "primary", "rm /var/lib/aes-appliance/upgrade/undone; dpkg --configure -a; apt-get -q update; apt-get install -y -q --reinstall --allow-downgrades aes-appliance="+version)
	l.on(t, "primary", "appliance doctor --serving && test ! -e /var/lib/aes-appliance/upgrade && test \"$(dpkg-query -W -f '${db:Status-Abbrev}' aes-appliance)\" = 'ii '")
	c.signs(t, "UNDONE-AGAIN")
}

// give puts a file of this machine on another.
func (l *life) give(t *testing.T, host, path, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l.put(t, host, path, 0o644, string(data))
}
