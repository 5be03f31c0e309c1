package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/veripath/aes-appliance/internal/setup"
)

// cureDropIn is what is done about a drop-in.
func cureDropIn(unit, file string) string {
	return "see systemctl cat " + unit + "; to be rid of it: rm " + file + "; systemctl daemon-reload; systemctl restart " + unit
}

// overrides compares the units that are in force with those that the package brought: by which file each is, whether that file is still the package's, and what drop-ins change
// of it. A property that is named by no rule of sandboxRules is seen here.
func (e *exam) overrides(ctx context.Context, s *sheet) {
	const check = "services.overrides"
	files, err := filepath.Glob(e.m.path(unitDir) + "/aes-*")
	if err != nil || len(files) == 0 {
		s.unknown(check, "apt install --reinstall aes-appliance", "there is no unit of the package in %s", unitDir)
		return
	}
	seen := len(s.findings)
	e.verifyPackage(ctx, s)
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = strings.Replace(filepath.Base(file), "@.", "@doctor.", 1) // of a template systemd tells nothing, of an instance all
	}
	told, err := e.showEach(ctx, names, "FragmentPath", "DropInPaths", "NeedDaemonReload")
	if err != nil {
		s.unknown(check, "run it as root on the machine that the package is installed on", "systemd does not say what the units are made of: %v", err)
		return
	}
	for i, file := range files {
		unit, p := filepath.Base(file), told[i]
		// Debian's /lib is a link to /usr/lib.
		if f := p["FragmentPath"]; f != "" && strings.TrimPrefix(f, "/usr") != strings.TrimPrefix(path.Join(unitDir, unit), "/usr") {
			s.bad(check, "rm "+f+"; systemctl daemon-reload; systemctl restart "+unit+"; what you change belongs into a drop-in: systemctl edit "+unit, "%s is not the package's: %s stands in its place", unit, f)
		}
		if p["NeedDaemonReload"] == "yes" {
			s.warn(check, "systemctl daemon-reload; systemctl restart "+unit, "systemd has %s otherwise than its files say: they were changed since", unit)
		}
		for _, dropIn := range strings.Fields(p["DropInPaths"]) {
			e.dropIn(s, check, unit, dropIn)
		}
	}
	if len(s.findings) == seen {
		s.ok(check, "the %d units are as the package brought them, and nothing changes what they do", len(files))
	}
}

// verifyPackage has dpkg compare the package's files with their sums: it finds what was changed or lost by accident, not what root hid.
func (e *exam) verifyPackage(ctx context.Context, s *sheet) {
	const check, cure = "services.overrides", "apt install --reinstall aes-appliance; what you change in a unit belongs into a drop-in: systemctl edit"
	out, err := e.m.Run(ctx, "dpkg", "--verify", "aes-appliance")
	if err != nil && !errors.As(err, new(*exec.ExitError)) || err != nil && len(out) == 0 {
		s.unknown(check, "run it as root on the machine that the package is installed on", "dpkg cannot compare the package's files: %v", err)
		return
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line) // "??5?????? c /etc/…", "??5??????   /usr/…" or "missing     /usr/…"
		if len(words) < 2 {
			continue
		}
		file := words[len(words)-1]
		switch {
		case strings.HasPrefix(file, "/usr/share/"): // texts; small machines leave them out (dpkg.cfg(5), path-exclude)
		case words[1] == "c" && words[0] == "missing": // dpkg takes that for the operator's wish
			s.warn(check, "apt-get install --reinstall -o Dpkg::Options::=--force-confmiss aes-appliance", "%s of the package is gone", file)
		case words[1] == "c": // a file that is the operator's to change
			s.warn(check, "compare: apt-get download aes-appliance; dpkg --fsys-tarfile …deb | tar -xO ."+file+" | diff - "+file, "%s was changed since the package was installed", file)
		case words[0] == "missing":
			s.bad(check, cure, "%s of the package is gone", file)
		default:
			s.bad(check, cure, "%s is not as the package brought it", file)
		}
	}
}

// dropIn judges one file that changes a unit: what docs/hardening.md ("To change something") has operators do is a warning, what takes protection away is bad.
func (e *exam) dropIn(s *sheet, check, unit, file string) {
	text, err := e.m.read(file)
	if errors.Is(err, os.ErrNotExist) { // removed, and systemd not told
		s.warn(check, "systemctl daemon-reload; systemctl restart "+unit, "%s was changed by %s, which is gone, and systemd goes by it still", unit, file)
		return
	}
	if err != nil {
		s.unknown(check, "run it as root", "%s changes %s, and cannot be read: %v", file, unit, err)
		return
	}
	settings, err := parseUnit(text)
	if err != nil {
		s.bad(check, cureDropIn(unit, file), "%s changes %s, and is no drop-in: %v", file, unit, err)
		return
	}
	var open, other []string
	for _, one := range settings {
		if e.loosens(unit, one) {
			open = append(open, one.String())
		} else if !setup.Given(file, one.name) {
			other = append(other, one.String())
		}
	}
	if len(open) > 0 {
		s.bad(check, cureDropIn(unit, file), "%s takes protection away from %s: %s", file, unit, shorten(open))
	}
	if len(other) > 0 {
		s.warn(check, cureDropIn(unit, file), "%s changes %s: %s", file, unit, shorten(other))
	}
}

// mostSettings is how many settings of a drop-in a finding names.
const mostSettings = 12

func shorten(list []string) string {
	for i, text := range list {
		if len(text) > 120 {
			list[i] = strings.ToValidUTF8(text[:117], "") + "…"
		}
	}
	if n := len(list); n > mostSettings {
		return strings.Join(list[:mostSettings], ", ") + fmt.Sprintf(" and %d more", n-mostSettings)
	}
	return strings.Join(list, ", ")
}

// harmless are directives that change how a unit is run and nothing of what it may do.
func harmless(name string) bool {
	for _, prefix := range []string{"LoadCredential", "Memory", "CPU", "IO", "Timeout", "Restart", "StartLimit", "Condition", "Assert", "Log", "Limit"} {
		if strings.HasPrefix(name, prefix) {
			return !slices.Contains([]string{"LimitCORE", "LogNamespace", "MemoryDenyWriteExecute", "MemorySwapMax"}, name)
		}
	}
	return slices.Contains([]string{"Description", "Documentation", "Wants", "After", "Before", "Requires", "PartOf", "BindsTo", "OnFailure", "OnSuccess", "WatchdogSec", "Nice", "TasksMax", "OOMScoreAdjust",
		"OnCalendar", "RandomizedDelaySec", "Persistent", "AccuracySec", "OnBootSec", "Backlog", "WantedBy", "CollectMode"}, name)
}

// tightens: whatever its value is, as long as it has one, less is possible afterwards than before.
func tightens(one setting) bool {
	switch one.name {
	case "InaccessiblePaths", "ReadOnlyPaths", "NoExecPaths", "IPAddressDeny", "SocketBindDeny":
		return one.value != ""
	case "SystemCallFilter", "RestrictAddressFamilies", "RestrictNamespaces":
		return strings.HasPrefix(one.value, "~") && one.name != "RestrictNamespaces" || one.value == "yes" || one.value == "none"
	case "ProtectSystem":
		return one.value == "strict"
	case "LimitCORE", "MemorySwapMax":
		return one.value == "0"
	case "AmbientCapabilities":
		return one.value == ""
	case "UMask":
		return one.value == "0077"
	}
	for _, prefix := range []string{"Protect", "Private", "Restrict", "NoNew", "Lock", "MemoryDeny", "RemoveIPC"} {
		if strings.HasPrefix(one.name, prefix) {
			return slices.Contains([]string{"yes", "true", "on", "1", "invisible"}, one.value)
		}
	}
	return false
}

// loosens reports whether a setting of a drop-in takes away protection: all does that is not known to be harmless, to tighten, or what the documentation has operators do.
func (e *exam) loosens(unit string, one setting) bool {
	return !harmless(one.name) && !tightens(one) && !e.documented(unit, one)
}

// documented are the changes that docs/hardening.md names, for the unit that it names them for.
func (e *exam) documented(unit string, one setting) bool {
	switch unit {
	case "aes-portal.socket", "aes-portal-http.socket", "aes-portal-metrics.socket", "aes-receiver.socket":
		return slices.Contains([]string{"ListenStream", "BindIPv6Only", "FreeBind", "BindToDevice"}, one.name)
	case signerUnit:
		dir := e.Appliance.Token.BackupDir
		return one.name == "BindPaths" && dir != "" && (one.value == dir || one.value == dir+":"+dir)
	case receiverUnit:
		const immutable = "CAP_LINUX_IMMUTABLE" // append_only
		switch one.name {
		case "BindReadOnlyPaths", "ExecPaths": // alarm.command and what it needs
			return !slices.ContainsFunc(strings.Fields(one.value), func(p string) bool { return strings.Count(path.Clean(strings.TrimLeft(p, "+-")), "/") < 2 })
		case "PrivateUsers":
			return e.Receiver.AppendOnly
		case "CapabilityBoundingSet", "AmbientCapabilities":
			return one.value == immutable
		case "SystemCallFilter": // witness.listen
			return one.value == "listen"
		case "SocketBindAllow":
			return strings.HasPrefix(one.value, "tcp:")
		}
	}
	return false
}
