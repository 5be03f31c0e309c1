package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listsAge is how old apt's lists may be.
const listsAge = 72 * time.Hour

func (e *exam) updates(ctx context.Context, s *sheet) {
	e.upgrade(ctx, s)
	out, err := e.m.Run(ctx, "apt-get", "--simulate", "--quiet", "-o", "Debug::NoLocking=1", "upgrade")
	switch {
	case errors.Is(err, errNoProgram):
		s.unknown("updates.packages", "see to updates as this system does it", "this machine has no apt")
	case err != nil:
		s.unknown("updates.packages", "apt-get --simulate upgrade", "apt does not say what is pending: %v", err)
	default:
		judgeUpdates(s, parseUpdates(out))
	}
	e.lists(s)
	e.restart(ctx, s)
}

// update is one package that would be upgraded.
type update struct {
	name     string
	security bool
}

// parseUpdates reads what apt-get --simulate upgrade prints: "Inst NAME [OLD] (NEW ORIGIN:SUITE [ARCH]) …". What is no such line is passed over.
func parseUpdates(out []byte) []update {
	var list []update
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "Inst" {
			continue
		}
		list = append(list, update{name: f[1], security: strings.Contains(strings.ToLower(line), "-security")})
	}
	return list
}

func judgeUpdates(s *sheet, list []update) {
	var urgent []string
	for _, u := range list {
		if u.security {
			urgent = append(urgent, u.name)
		}
	}
	var f *Finding
	switch {
	case len(urgent) > 0:
		f = s.warn("updates.packages", "apt-get upgrade (unattended-upgrades does it by itself: apt install unattended-upgrades)", "%d updates are pending, %d of them of security: %s", len(list), len(urgent), few(urgent))
	default:
		f = s.ok("updates.packages", "no security update is pending by apt's own lists (%d others)", len(list))
	}
	f.with("pending", len(list)).with("security", len(urgent))
}

// lists says how old apt's lists are: apt touches these when it has fetched them.
func (e *exam) lists(s *sheet) {
	var newest time.Time
	for _, p := range []string{"/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/lists/partial", "/var/cache/apt/pkgcache.bin"} {
		if info, err := os.Stat(e.m.path(p)); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	// An attempt that failed leaves the same trace as one that went well: what a list says of itself tells more, and nobody can put it off.
	ended, until := e.runOut()
	switch age := e.Now().Sub(newest); {
	case ended != "":
		s.warn("updates.lists", "apt-get update, and see that it ends well; let apt out through the firewall: appliance firewall show",
			"a list of apt's was good until %s, and no newer one has come: %s", until.Format(time.DateOnly), ended).with("until", until)
	case newest.IsZero():
		s.unknown("updates.lists", "apt-get update", "apt has never fetched its lists, or this machine has none")
	case age > listsAge:
		s.warn("updates.lists", "apt-get update; let apt out through the firewall: appliance firewall show", "apt's lists are %s old: what is pending is not known", days(age)).with("at", newest)
	default:
		s.ok("updates.lists", "apt's lists are %s old", days(max(age, 0))).with("at", newest)
	}
}

// runOut returns a list of apt's that is not good any more by its own word (Valid-Until, which the security archive has), the one that ended first; "" when there is none.
func (e *exam) runOut() (name string, until time.Time) {
	files, _ := filepath.Glob(e.m.path("/var/lib/apt/lists/*Release")) // the pattern is well formed
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		head, err := io.ReadAll(io.LimitReader(f, 4<<10))
		_ = f.Close()
		for line := range strings.Lines(string(head)) {
			text, found := strings.CutPrefix(line, "Valid-Until: ")
			if !found || err != nil {
				continue
			}
			at, err := time.Parse(time.RFC1123, strings.TrimSpace(text))
			if err == nil && e.Now().After(at) && (name == "" || at.Before(until)) {
				name, until = filepath.Base(file), at
			}
		}
	}
	return name, until
}

// restart says what still runs that was replaced on the disk.
func (e *exam) restart(ctx context.Context, s *sheet) {
	const check = "updates.restart"
	for _, p := range []string{"/run/reboot-required", "/var/run/reboot-required"} {
		if _, err := os.Stat(e.m.path(p)); err == nil {
			s.warn(check, "reboot when no clinic is open: systemctl reboot; signing goes on by itself afterwards", "an update waits for a restart of the machine")
			return
		}
	}
	for unit, pid := range e.runningUnits(ctx) {
		if e.replaced(pid) {
			s.warn(check, "systemctl restart "+unit, "%s runs a program that was replaced since", unit)
			return
		}
	}
	s.ok(check, "nothing waits for a restart")
}

// replaced reports whether the program of a process has been replaced on the disk since. Its exe is for who may trace it; else it goes by times: when the file came to
// its place, and when the process began.
func (e *exam) replaced(pid int) bool {
	if exe, err := os.Readlink(e.m.path(fmt.Sprintf("/proc/%d/exe", pid))); err == nil {
		return strings.HasSuffix(exe, " (deleted)")
	}
	age, err1 := e.age(pid)
	var file unix.Stat_t
	err2 := unix.Stat(e.m.path(program), &file)
	return errors.Join(err1, err2) == nil && e.Now().Sub(time.Unix(file.Ctim.Unix())) < age
}

// age is how long a process has been there: field 22 of /proc/PID/stat (proc_pid_stat(5)) says when it began, in hundredths of a second after the boot.
func (e *exam) age(pid int) (time.Duration, error) {
	stat, err1 := e.m.read(fmt.Sprintf("/proc/%d/stat", pid))
	up, err2 := e.m.read("/proc/uptime")
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	_, rest, _ := cutLast(stat, ")") // its name may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	began, err1 := strconv.ParseInt(fields[19], 10, 64)
	seconds, _, _ := strings.Cut(up, " ")
	since, err2 := strconv.ParseFloat(seconds, 64)
	return time.Duration(since*float64(time.Second)) - time.Duration(began)*10*time.Millisecond, errors.Join(err1, err2)
}

// program is what the services run.
const program = "/usr/bin/appliance"
