package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Host is this machine's packet filter.
type Host struct {
	timer Timer
	now   func() time.Time
	awake func() time.Duration // how long the machine runs: it goes on evenly when the clock is set
	run   string               // folder that a reboot empties: what waits for confirmation
}

// Timer has Rollback called in a while, by a process that outlives this one and the session that it was started in.
type Timer interface {
	// Arm has it called after d, and not by what was armed before. Who calls it holds the lock.
	Arm(ctx context.Context, d time.Duration) error
	// Disarm takes that back.
	Disarm(ctx context.Context) error
}

// New returns this machine's packet filter. Nothing of it is looked at or changed before a method says so.
func New(t Timer, now func() time.Time) *Host {
	return &Host{timer: t, now: now, awake: awake, run: "/run/aes-firewall"}
}

// awake is the clock by which systemd's timers go; every process sees the same.
func awake() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("firewall: the kernel has no monotonic clock: " + err.Error())
	}
	return time.Duration(t.Nano())
}

// Where ufw is.
const (
	ufwProgram = "/usr/sbin/ufw"
	ufwInit    = "/lib/ufw/ufw-init"
	etc        = "/etc"
	templates  = "/usr/share/ufw/iptables"
)

// files are those of ufw that hold what is let through, below etc.
func files() []string {
	return []string{"default/ufw", "ufw/user.rules", "ufw/user6.rules", "ufw/ufw.conf"}
}

// framework are ufw's own rules around those, below etc/ufw and templates.
func framework() []string {
	return []string{"before.rules", "before6.rules", "after.rules", "after6.rules"}
}

// commandTime bounds one command: ufw is written in Python, and takes seconds on a slow machine.
const commandTime = time.Minute

// command runs a program and returns what it wrote to standard output. Nothing is taken from the environment.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	return commandWithin(ctx, commandTime, name, args...)
}

func commandWithin(ctx context.Context, most time.Duration, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %.500s%.500s", name, strings.Join(args, " "), err, strings.TrimSpace(problems.String()), strings.TrimSpace(out.String()))
	}
	return out.Bytes(), nil
}

// ready says why this process cannot work on the packet filter.
func ready() error {
	if os.Geteuid() != 0 {
		return fault.New(fault.Forbidden, "the packet filter is root's").WithHint("run this as root")
	}
	if _, err := os.Stat(ufwProgram); err != nil {
		return fault.New(fault.Unavailable, "ufw is not installed").WithHint("apt-get install ufw").WithCause(err)
	}
	return nil
}

// state is what ufw keeps and what is in force.
type state struct {
	enabled      bool              // at the next boot
	disabledUnit bool              // systemd does not start ufw at boot
	defaults     map[string]string // of default/ufw
	rules        []stored          // of both families, in order
	changed      []string          // files of the framework that are not ufw's own
	own          map[string]int    // of their chains: how many rules let something through
	live         map[bool]saved    // by whether it is IPv6; without IPv6 in the kernel there is none
}

// inspect reads the files below dir and what the kernel has.
func inspect(ctx context.Context, dir string) (s state, err error) {
	unreadable := func(err error) error {
		return fault.New(fault.Unavailable, "what ufw keeps cannot be read").WithHint(`"ufw status verbose" says more`).WithCause(err)
	}
	conf, err := readAssignments(filepath.Join(dir, "ufw/ufw.conf"))
	if err != nil {
		return s, unreadable(err)
	}
	s.enabled = strings.EqualFold(conf["ENABLED"], "yes")
	if s.disabledUnit, err = disabledUnit(ctx); err != nil {
		return s, err
	}
	if s.defaults, err = readAssignments(filepath.Join(dir, "default/ufw")); err != nil {
		return s, unreadable(err)
	}
	for _, name := range []string{"user.rules", "user6.rules"} {
		data, err := readFile(filepath.Join(dir, "ufw", name))
		if err != nil {
			return s, unreadable(err)
		}
		rules, err := parseStored(data, name == "user6.rules")
		if err != nil {
			return s, unreadable(fmt.Errorf("%s: %w", name, err))
		}
		s.rules = append(s.rules, rules...)
	}
	s.own = map[string]int{}
	for _, name := range framework() {
		mine, err := readFile(filepath.Join(dir, "ufw", name))
		if err != nil {
			return s, unreadable(err)
		}
		maps.Copy(s.own, accepts(strings.Split(string(mine), "\n"))) // each chain is in one file
		if own, err := readFile(filepath.Join(templates, name)); err == nil && !bytes.Equal(mine, own) {
			s.changed = append(s.changed, filepath.Join(dir, "ufw", name))
		}
	}
	s.live, err = inForce(ctx)
	return s, err
}

// inForce reads what the kernel has.
func inForce(ctx context.Context) (map[bool]saved, error) {
	live := map[bool]saved{}
	for v6, program := range map[bool]string{false: "/usr/sbin/iptables-save", true: "/usr/sbin/ip6tables-save"} {
		if v6 && !hasIPv6() {
			continue
		}
		out, err := command(ctx, program, "-t", "filter")
		if err == nil {
			live[v6], err = parseSaved(out)
		}
		if err != nil {
			return nil, fault.New(fault.Unavailable, "what the kernel filters cannot be read").WithHint("does " + program + " work, as root?").WithCause(err)
		}
	}
	return live, nil
}

// hasIPv6 reports whether the kernel speaks IPv6.
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRules {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", name, maxRules)
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data, err
}

func readAssignments(name string) (map[string]string, error) {
	data, err := readFile(name)
	if err != nil {
		return nil, err
	}
	return parseAssignments(data), nil
}

// parseAssignments reads lines of the form NAME=value or NAME="value", as a shell would; later ones count. Whatever else is there is passed over.
func parseAssignments(data []byte) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if !found || strings.HasPrefix(name, "#") {
			continue
		}
		values[name] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	return values
}

// assign returns data with NAME="value" for each of values, in the place of the last line that sets it or at the end.
func assign(data []byte, names []string, values map[string]string) []byte {
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	for _, name := range names {
		at := -1
		for i, line := range lines {
			if strings.HasPrefix(strings.TrimSpace(line), name+"=") {
				at = i
			}
		}
		set := name + "=" + values[name]
		if at < 0 {
			lines = append(lines, set)
		} else {
			lines[at] = set
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// Difference is one thing in which what is in force is not what is wanted.
type Difference struct {
	Kind string `json:"kind"` // inactive, policy, missing, stale, foreign, framework, session, pending
	Text string `json:"text"`
	Cure string `json:"cure"`
}

// Check compares what is in force, and what the next boot would put in force, with p: nothing when all of it is as wanted.
//
// Errors: Forbidden (not root), Unavailable (no ufw, or it cannot be told at this moment).
func (h *Host) Check(ctx context.Context, p Plan) ([]Difference, error) {
	if err := ready(); err != nil {
		return nil, err
	}
	var differences []Difference
	dir := etc
	pending, err := h.pending()
	if err == nil && h.brokenOff(pending) {
		if h.locked() {
			return nil, fault.New(fault.Unavailable, "the packet filter is being changed at this moment").WithHint("wait until that is done")
		}
		pending, err = h.pending() // who worked on it may have come to an end since
	}
	switch {
	case err == nil && h.brokenOff(pending):
		differences = append(differences, Difference{"pending", "a change was broken off in the midst", cureApply})
	case err == nil:
		dir = filepath.Join(h.staged(), etc) // ufw's own files are the old ones until it is confirmed
		differences = append(differences, Difference{"pending", "a change waits for confirmation until " + pending.Until.Format(time.RFC3339) + ", and is undone then",
			`"appliance firewall confirm" from a new session, or "appliance firewall rollback"`})
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	s, err := inspect(ctx, dir)
	if err != nil {
		return nil, err
	}
	return append(differences, s.compare(p)...), nil
}

// covers reports whether an address is in one of networks.
func covers(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}
