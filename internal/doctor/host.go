package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func (e *exam) machine(ctx context.Context, s *sheet) {
	e.entropy(s)
	units := e.runningUnits(ctx)
	if e.Role == Primary {
		e.swap(ctx, s, units)
	}
	e.cores(s, units)
}

// entropy asks whether the kernel's generator would give anything without waiting.
func (e *exam) entropy(s *sheet) {
	var b [1]byte
	if _, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); err != nil {
		s.bad("machine.entropy", "wait, or give the machine a virtio-rng device; key ceremonies must not be held before", "the kernel's random generator is not seeded: %v", err)
		return
	}
	s.ok("machine.entropy", "the kernel's random generator is seeded")
}

// swap judges whether the keys in the signer's memory could come to lie on a disk.
func (e *exam) swap(ctx context.Context, s *sheet, units map[string]int) {
	swaps, err := e.m.read("/proc/swaps")
	if err != nil {
		s.unknown("machine.swap", "run it as root on the machine itself", "/proc/swaps cannot be read: %v", err)
		return
	}
	if len(strings.Split(swaps, "\n")) <= 1 {
		s.ok("machine.swap", "the machine has no swap: keys in memory do not get to a disk")
		return
	}
	p, err := e.show(ctx, signerUnit, "MemorySwapMax")
	if err == nil && p["MemorySwapMax"] == "0" {
		s.ok("machine.swap", "the machine has swap, and the signer may use none of it (MemorySwapMax=0)")
		return
	}
	if pid := units[signerUnit]; pid != 0 {
		if locked := procValue(e.m, pid, "VmLck"); locked > 0 {
			s.ok("machine.swap", "the machine has swap, and %s of the signer's memory are locked", size(locked))
			return
		}
	}
	s.warn("machine.swap", "swapoff -a and remove it from /etc/fstab; or encrypt it with a key that is thrown away at each start", "the machine has swap: keys in the signer's memory can come to lie on its disk")
}

// procValue reads a value in kB of /proc/PID/status, in bytes; 0 when it is not there.
func procValue(m *Machine, pid int, name string) uint64 {
	text, err := m.read(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// cores judges what the kernel has in force for each running service.
func (e *exam) cores(s *sheet, units map[string]int) {
	looked := 0
	for _, unit := range e.expectedServices() {
		pid := units[unit]
		if pid == 0 {
			continue
		}
		limits, err := e.m.read(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil {
			continue // it ended just now
		}
		looked++
		if soft, hard := coreLimit(limits); soft != "0" || hard != "0" {
			s.bad("machine.cores", "systemctl cat "+unit+" must show LimitCORE=0; apt install --reinstall aes-appliance, systemctl restart "+unit,
				"%s may leave a core dump (limit %s), which would hold keys and patients' data", unit, hard)
			return
		}
	}
	if looked == 0 {
		s.unknown("machine.cores", "start the services, run it as root", "no service runs whose limits could be read")
		return
	}
	s.ok("machine.cores", "no running service may leave a core dump (%d looked at)", looked)
}

// coreLimit returns both limits of the core file's size, of /proc/PID/limits.
func coreLimit(limits string) (soft, hard string) {
	for line := range strings.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			if f := strings.Fields(rest); len(f) >= 2 {
				return f[0], f[1]
			}
		}
	}
	return "?", "?"
}
