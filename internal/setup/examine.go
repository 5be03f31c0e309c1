package setup

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Needs is what a role needs of a machine before anything is changed on it.
type Needs struct {
	Users    []string
	Programs []string // absolute
	State    string   // folder whose disk must have Space
	Space    uint64   // bytes
	Clock    bool     // its clock must be proven
	MaxError time.Duration
	Kernel   clock.Kernel // nil: the machine's
	Names    []string     // host names that must resolve
	Ports    []int        // TCP ports that nobody may have taken
}

// Examine returns everything that the machine lacks. wait is told what it waits for, when a clock is not in step yet.
func (h Host) Examine(ctx context.Context, n Needs, wait func(string)) (problems Problems) {
	add := func(text, cure string) { problems = append(problems, Problem{text, cure}) }
	if h.Root == "" && os.Geteuid() != 0 {
		add("setup is not run as root", "sudo appliance setup")
		return problems // what follows cannot be judged
	}
	if h.Root == "" {
		if _, err := os.Stat("/run/systemd/system"); err != nil {
			add("systemd does not run this machine", "the appliance is run by systemd; use a VPS or a container that boots it")
		}
	}
	for _, u := range n.Users {
		if _, err := h.User(u); err != nil {
			add(fault.PublicOf(err), fault.HintOf(err))
		}
	}
	for _, p := range n.Programs {
		if !h.Has(p) {
			add("there is no "+p, "apt-get install --reinstall aes-appliance")
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(h.Path(n.State), &fs); err != nil {
		add("the folder "+h.Path(n.State)+" cannot be looked at", "systemd-tmpfiles --create; the package has that done")
	} else if free := fs.Bavail * uint64(fs.Bsize); free < n.Space {
		add(fmt.Sprintf("the disk of %s has %d MB free, and %d MB are wanted", h.Path(n.State), free>>20, n.Space>>20), "make room, or take a larger disk: the log is kept for years")
	}
	for _, name := range n.Names {
		if err := resolves(ctx, name); err != nil {
			add("the name "+name+" does not resolve", "give it an address in DNS, and wait until this machine sees it")
		}
	}
	for _, port := range n.Ports {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			add(fmt.Sprintf("TCP port %d is taken", port), fmt.Sprintf("ss -ltnp sport = :%d shows by whom", port))
			continue
		}
		l.Close()
	}
	if n.Clock && len(problems) == 0 {
		if err := proven(ctx, n, wait); err != nil {
			add("the clock is not proven: "+fault.PublicOf(err), "systemctl status chrony; chronyc tracking")
		}
	}
	return problems
}

// resolveTime bounds one look-up.
const resolveTime = 10 * time.Second

func resolves(ctx context.Context, name string) error {
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	_, err := net.DefaultResolver.LookupHost(ctx, name)
	return err
}

// clockTime is how long a clock may take to get in step: chrony was installed with the package, a minute ago.
const clockTime = 2 * time.Minute

// proven waits until the clock is.
func proven(ctx context.Context, n Needs, wait func(string)) error {
	for end, told := time.Now().Add(clockTime), false; ; {
		c, err := clock.Open(clock.Config{Mode: clock.System, MaxError: n.MaxError, Kernel: n.Kernel})
		if err == nil {
			_, err = c.Now()
		}
		if err == nil || time.Now().After(end) {
			return err
		}
		if !told {
			told = true
			wait("waiting until the clock is in step (" + clockTime.String() + " at most)")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
