package firewall

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestNoMomentWithoutRules: while rules are exchanged for others, and those put back, what neither lets through never gets through.
func TestNoMomentWithoutRules(t *testing.T) {
	peer := machine(t)
	if peer == "" {
		return
	}
	listen(t, 8080)
	h, _ := house(t)
	if _, err := h.Apply(t.Context(), primary(), Options{}); err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	var tries, through atomic.Int64
	var watching sync.WaitGroup
	watching.Go(func() {
		in(t, peer, func() {
			for ; !over.Load(); tries.Add(1) {
				for _, way := range [][2]string{{other4, own4}, {other6, own6}} {
					through.Add(int64(len(openWithin(way[0], way[1], []int{8080}, 20*time.Millisecond))))
				}
			}
		})
	})
	before := kernel(t)
	p := primary()
	p.Rules = append(p.Rules, Rule{In, "tcp", 8443, single(prefixes(admin4 + "/32")[0].Addr()), "more_in"})
	for range 2 {
		if _, err := h.Apply(t.Context(), p, Options{Within: time.Minute}); err != nil {
			t.Error(err)
		}
		if !strings.Contains(kernel(t), "--dport 8443 ") {
			t.Error("the new rule is not in force")
		}
		if undone, err := h.Rollback(t.Context(), false); !undone || err != nil {
			t.Errorf("%v, %v", undone, err)
		}
	}
	over.Store(true)
	watching.Wait()
	if n := through.Load(); n > 0 || tries.Load() < 5 {
		t.Errorf("%d connections got through, in %d tries", n, tries.Load())
	}
	if kernel(t) != before {
		t.Errorf("not as it was:\n%s\n%s", kernel(t), before)
	}
}

// TestBrokenOff: whoever applied it and ended in the midst, with a timer that never came, does not stand in the way of the next.
func TestBrokenOff(t *testing.T) {
	if machine(t) == "" {
		return
	}
	h, timer := house(t)
	if err := errors.Join(os.MkdirAll(h.run, 0o700), h.record(time.Now(), 0, nil)); err != nil { // as one that keeps it at once does
		t.Fatal(err)
	}
	unlock, err := h.lock() // it is at work still
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"`, h.run).CombinedOutput(); err != nil { // as the unit of the daily examination has it
		t.Fatalf("%v %s", err, out)
	}
	if found, err := h.Check(t.Context(), primary()); fault.KindOf(err) != fault.Unavailable || len(found) != 0 {
		t.Errorf("what is at work was taken for broken off: %v, %v", found, err)
	}
	unlock()
	if found, err := h.Check(t.Context(), primary()); err != nil || len(found) == 0 || found[0].Kind != "pending" || found[0].Cure != cureApply {
		t.Errorf("%v, %v", found, err)
	}
	if out, err := exec.Command("umount", h.run).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if _, err := h.Apply(t.Context(), primary(), Options{Within: time.Minute}); err != nil {
		t.Fatal(err)
	}
	timer.armed.Stop()
	h.awake = func() time.Duration { return awake() + 2*time.Minute }
	if err := h.Confirm(t.Context()); fault.KindOf(err) != fault.Conflict {
		t.Errorf("what may be in force by half was confirmed: %v", err)
	}
	if found, err := h.Check(t.Context(), primary()); err != nil || len(found) == 0 || found[0].Kind != "pending" || found[0].Cure != cureApply {
		t.Errorf("%v, %v", found, err)
	}
	if result, err := h.Apply(t.Context(), primary(), Options{}); err != nil || !result.Changed {
		t.Errorf("%+v, %v", result, err)
	}
	if found, err := h.Check(t.Context(), primary()); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// TestUnitOfUfw: where systemd does not start ufw at boot, that is found, and applying mends it.
func TestUnitOfUfw(t *testing.T) {
	if machine(t) == "" {
		return
	}
	if _, err := exec.LookPath("/usr/bin/systemctl"); err != nil {
		t.Skip("there is no systemctl here")
	}
	script := `set -e
mkdir -p /run/systemd/system "$0"
cp -a /etc/systemd/system/. "$0"/
mount --bind "$0" /etc/systemd/system
systemctl --root=/ --quiet disable ufw.service`
	if out, err := exec.Command("sh", "-c", script, t.TempDir()).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	h, _ := house(t)
	boot := func(d Difference) bool { return d.Text == "the packet filter is not started at boot" }
	for range 2 {
		if result, err := h.Apply(t.Context(), primary(), Options{}); err != nil || !result.Changed {
			t.Fatalf("%+v, %v", result, err)
		}
		if found, err := h.Check(t.Context(), primary()); err != nil || len(found) != 0 {
			t.Errorf("%v, %v", found, err)
		}
		if out, err := exec.Command("systemctl", "--root=/", "--quiet", "disable", "ufw.service").CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if found, err := h.Check(t.Context(), primary()); err != nil || !slices.ContainsFunc(found, boot) {
			t.Errorf("%v, %v", found, err)
		}
	}
}

// TestSlowMachine: the time to confirm is counted from when the rules are in force, however long ufw took for that.
func TestSlowMachine(t *testing.T) {
	if machine(t) == "" {
		return
	}
	h, timer := house(t)
	began := time.Now()
	slow(t, "sleep 3")
	result, err := h.Apply(t.Context(), primary(), Options{Within: 20 * time.Second})
	if err != nil || time.Until(result.Until) < 17*time.Second {
		t.Fatalf("%+v, %v after %v", result, err, time.Since(began))
	}
	if err := <-timer.fired; err != nil || strings.Contains(kernel(t), "DROP") {
		t.Errorf("nobody confirmed, and it stays: %v", err)
	}
}

// TestChangedMeanwhile: what somebody changes while ufw takes its time is not written over.
func TestChangedMeanwhile(t *testing.T) {
	if machine(t) == "" {
		return
	}
	h, _ := house(t)
	slow(t, "sleep 2; "+ufwProgram+" allow 2222/tcp")
	if result, err := h.Apply(t.Context(), primary(), Options{Within: 15 * time.Second}); err != nil || !result.Changed {
		t.Fatalf("%+v, %v", result, err)
	}
	if err := h.Confirm(t.Context()); fault.KindOf(err) != fault.Conflict || !strings.Contains(onDisk(t), "2222") || strings.Contains(kernel(t), "DROP") {
		t.Errorf("confirmed over what somebody else did: %v", err)
	}
}

// slow has something done before ufw's script puts rules in force that are staged.
func slow(t *testing.T, first string) {
	t.Helper()
	script := `set -e
printf '#!/bin/sh\n[ "$3" != start ] || { %s; }\nexec "%s" "$@"\n' "$1" "$0/was" >"$0/slow"
cp /lib/ufw/ufw-init "$0/was"
chmod 755 "$0/slow" "$0/was"
mount --bind "$0/slow" /lib/ufw/ufw-init`
	if out, err := exec.Command("sh", "-c", script, t.TempDir(), first).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}
