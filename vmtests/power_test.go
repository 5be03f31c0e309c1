//go:build vm

package vmtests

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// timeServer is a host that chrony on the machines gets the time from: chrony too, serving this machine's own time. What it proves is that the appliance goes
// by what chrony tells the kernel; not that this machine's time is right.
func (l *life) timeServer(t *testing.T) {
	t.Helper()
	base, err := machine.Prepare(l.release)
	if err != nil {
		t.Fatal(err)
	}
	m, err := machine.NewContainer(base, l.lab, "time", atTime)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := m.Exec(ctx, `apt-get -q update && apt-get install -y -q --no-install-recommends chrony &&
systemd-run -q --unit=time chronyd -x -d 'local stratum 1' 'allow all' 'cmdport 0'`); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// askTime has a machine's chrony ask that host, as an operator whose provider has a time server does.
func (l *life) askTime(t *testing.T, host string) {
	t.Helper()
	l.put(t, host, "/etc/chrony/sources.d/provider.sources", 0o644, "server ntp.test iburst minpoll 0 maxpoll 3\n")
	l.on(t, host, "systemctl restart chrony && chronyc -n waitsync 60 0.5 0 1")
}

// limits are the kernel's, and each service is under the AppArmor profile of its own, in force.
func (l *life) limits(t *testing.T) {
	for _, one := range []struct{ host, unit, memory, tasks string }{
		{"primary", "aes-signer", "1073741824", "128"}, {"primary", "aes-portal", "1073741824", "256"}, {"backup", "aes-receiver", "1073741824", "256"},
	} {
		got := l.on(t, one.host, "cd /sys/fs/cgroup/system.slice/"+one.unit+".service && cat memory.max pids.max memory.swap.max && cat /proc/$(systemctl show -P MainPID "+one.unit+")/attr/current")
		if want := one.memory + "\n" + one.tasks + "\n0\n" + one.unit + " (enforce)"; got != want {
			t.Errorf("%s has the limits and the profile\n%s\nnot\n%s", one.unit, got, want)
		}
		t.Logf("%s: %s", one.unit, strings.ReplaceAll(got, "\n", " "))
	}
	l.unswapped(t, "primary")
}

// unswapped expects of each service of the package, also of those that timers start, that systemd lets none of its pages go to swap. That the kernel goes by it is for limits.
func (e *estate) unswapped(t *testing.T, host string) {
	t.Helper()
	files, err := filepath.Glob("../systemd/*.service")
	if err != nil || len(files) < 9 {
		t.Fatal(files, err)
	}
	for i, file := range files {
		files[i] = strings.Replace(filepath.Base(file), "@.", "@x.", 1)
	}
	out := e.on(t, host, "systemctl show -p Id -p MemorySwapMax "+strings.Join(files, " "))
	for _, unit := range files {
		if !strings.Contains(out, "MemorySwapMax=0\nId="+unit) && !strings.Contains(out, "Id="+unit+"\nMemorySwapMax=0\n") {
			t.Errorf("%s may go to swap:\n%s", unit, out)
		}
	}
}

// clockJump: who turns the clock gets no signature until it is right again, and no time goes backwards in the log.
func (l *life) clockJump(t *testing.T) {
	c := l.client(t)
	c.signs(t, "CLOCK-0")
	for n, jump := range []string{"+1 hour", "-2 hours"} {
		l.on(t, "primary", "systemctl stop chrony; date -s '"+jump+"'")
		var a signed
		waitFor(t, 30*time.Second, "no signature with a wrong clock", func() (err error) {
			if a, err = c.sign(t, fmt.Sprintf("CLOCK-%d-%d", n, time.Now().UnixNano())); err == nil && a.Status == http.StatusOK {
				err = fmt.Errorf("signed")
			}
			return err
		})
		t.Logf("%s: %d %s %s", jump, a.Status, a.Type, a.Detail)
		if a.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", jump, a.Status)
		}
		l.on(t, "primary", "systemctl start chrony && chronyc -n waitsync 60 0.5 0 1")
		t.Logf("right again: signing after %v", c.comesBack(t, 2*time.Minute, fmt.Sprintf("CLOCK-AGAIN-%d", n)))
	}
	l.on(t, "primary", "appliance audit verify")
}

// powerCut of both hosts in the midst of signing: what was answered is there, and both logs are whole. They boot beside each other, and all is back without a hand on it.
func (l *life) powerCut(t *testing.T) {
	l.on(t, "primary", "appliance clinic policy wharf-lane --per-minute 10000 --per-token 10000")
	w := l.eightApps(t, "POWER")
	w.goesOn(40)
	hosts := []string{"primary", "backup"}
	for _, host := range hosts {
		if err := l.machines[host].PowerCut(); err != nil {
			t.Fatal(err)
		}
	}
	close(w.stop)
	w.c.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	together(hosts, func(host string) {
		if err := l.machines[host].Boot(ctx); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	w.all.Wait()
	t.Logf("%d acknowledged before the power was cut; signing %v after the boot", len(w.acknowledged), w.c.comesBack(t, 3*time.Minute, "POWER-AGAIN"))
	w.there()
	if out := l.on(t, "primary", "appliance audit verify"); !strings.Contains(out, "verif") && out == "" {
		t.Errorf("the log: %s", out)
	}
	l.sameLog(t)
	for _, host := range hosts {
		l.on(t, host, `test -z "$(systemctl --failed --no-legend)" && appliance firewall check`)
	}
	l.unrefused(t)
}
