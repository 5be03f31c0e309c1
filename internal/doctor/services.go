package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Units of the package.
const (
	signerUnit   = "aes-signer.service"
	portalUnit   = "aes-portal.service"
	receiverUnit = "aes-receiver.service"
)

// expectedServices are those that a role runs.
func (e *exam) expectedServices() []string {
	if e.Role == Backup {
		return []string{receiverUnit}
	}
	return []string{signerUnit, portalUnit}
}

// show asks systemd for properties of a unit, as they are in force.
func (e *exam) show(ctx context.Context, unit string, properties ...string) (map[string]string, error) {
	out, err := e.m.Run(ctx, "systemctl", "show", "--no-pager", "--property="+strings.Join(properties, ","), unit)
	if err != nil {
		return nil, err
	}
	return parseShow(out)
}

// showEach does so for many units at once, and returns them in their order.
func (e *exam) showEach(ctx context.Context, units []string, properties ...string) ([]map[string]string, error) {
	out, err := e.m.Run(ctx, "systemctl", append([]string{"show", "--no-pager", "--property=" + strings.Join(properties, ",")}, units...)...)
	if err != nil {
		return nil, err
	}
	var list []map[string]string
	for block := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n\n") {
		p, err := parseShow([]byte(block))
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if len(list) != len(units) {
		return nil, fmt.Errorf("systemctl told of %d units, asked for %d", len(list), len(units))
	}
	return list, nil
}

// maxProperties bounds what is read of systemctl.
const maxProperties = 4096

// parseShow reads lines of NAME=VALUE; of a name that comes twice the last value counts, as systemctl means it.
func parseShow(out []byte) (map[string]string, error) {
	p := map[string]string{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || len(p) >= maxProperties {
			return nil, fmt.Errorf("%.40q is not what systemctl show prints", line)
		}
		p[name] = value
	}
	return p, nil
}

// runningUnits are the main processes of the role's services; a service that does not run is not among them.
func (e *exam) runningUnits(ctx context.Context) map[string]int {
	pids := map[string]int{}
	for _, unit := range e.expectedServices() {
		if p, err := e.show(ctx, unit, "MainPID"); err == nil {
			if pid, err := strconv.Atoi(p["MainPID"]); err == nil && pid > 0 {
				pids[unit] = pid
			}
		}
	}
	return pids
}

func (e *exam) services(ctx context.Context, s *sheet) {
	_, asked := e.m.Run(ctx, "systemctl", "--version")
	if asked != nil {
		for _, check := range []string{"services.units", "services.sandbox", "services.overrides", "services.timers"} {
			s.unknown(check, "run it as root on the machine that the package is installed on", "systemd cannot be asked: %v", asked)
		}
	} else {
		e.units(ctx, s)
		e.timers(ctx, s)
	}
	units := e.runningUnits(ctx)
	e.sandbox(ctx, s, units)
	e.apparmor(s, units)
	e.sockets(s)
	if asked == nil {
		e.overrides(ctx, s) // reads the whole package: last, should the time run out
	}
}

func (e *exam) units(ctx context.Context, s *sheet) {
	for _, unit := range e.expectedServices() {
		p, err := e.show(ctx, unit, "LoadState", "ActiveState", "SubState", "NRestarts", "Result", "UnitFileState")
		name := strings.TrimSuffix(unit, ".service")
		cure := "systemctl restart " + name + "; journalctl -u " + name + " -n 50"
		switch {
		case err != nil:
			s.unknown("services.units", "run it as root", "systemd does not say how %s is: %v", unit, err)
		case p["LoadState"] != "loaded":
			s.bad("services.units", "apt install --reinstall aes-appliance", "%s is %s", unit, orElse(p["LoadState"], "not there"))
		case p["ActiveState"] != "active":
			s.bad("services.units", cure, "%s is %s (%s, %s)", unit, p["ActiveState"], p["SubState"], p["Result"])
		case p["NRestarts"] != "0" && p["NRestarts"] != "":
			s.warn("services.units", "journalctl -u "+name+" -p warning: find out why", "%s runs, and systemd has restarted it %s times", unit, p["NRestarts"])
		default:
			s.ok("services.units", "%s runs", unit)
		}
	}
}

// unitDir is where the package's units are.
const unitDir = "/usr/lib/systemd/system"

// timers looks at those that the package brings.
func (e *exam) timers(ctx context.Context, s *sheet) {
	files, err := filepath.Glob(e.m.path(unitDir) + "/aes-*.timer")
	if err != nil || len(files) == 0 {
		s.unknown("services.timers", "apt install --reinstall aes-appliance", "there is no timer of the package in %s", unitDir)
		return
	}
	fine := 0
	for _, file := range files {
		timer := filepath.Base(file)
		if e.Role == Backup && timer != doctorTimer { // the others have a primary's duties
			continue
		}
		service := strings.TrimSuffix(timer, ".timer") + ".service"
		t, err := e.show(ctx, timer, "ActiveState", "UnitFileState")
		if err != nil {
			s.unknown("services.timers", "run it as root", "systemd does not say how %s is: %v", timer, err)
			continue
		}
		if t["ActiveState"] != "active" {
			s.bad("services.timers", "systemctl start "+timer+"; it starts with "+e.starter()+" at the next boot", "%s is off: what it does, nobody does", timer)
			continue
		}
		last, err := e.show(ctx, service, "Result", "ExecMainStatus", "ActiveState")
		// What the last examination found is looked at anew here: that it failed says nothing more.
		if err == nil && timer != doctorTimer && last["Result"] != "success" && last["Result"] != "" {
			s.warn("services.timers", "journalctl -u "+service+" -n 30", "the last run of %s ended with %s (%s)", service, last["Result"], last["ExecMainStatus"])
			continue
		}
		fine++
	}
	if fine > 0 {
		s.ok("services.timers", "%d timers are on, and their last runs went well", fine)
	}
}

// doctorTimer is for both roles.
const doctorTimer = "aes-doctor.timer"

// starter is the unit that wants the role's timers.
func (e *exam) starter() string {
	if e.Role == Backup {
		return receiverUnit
	}
	return "aes-appliance.target"
}

// sandboxRule is a property that must be in force.
type sandboxRule struct {
	property string
	want     []string // one of these
	why      string   // what is open when it is not
}

// sandboxRules are those that the threat model rests on; docs/hardening.md has all.
func sandboxRules(unit string) []sandboxRule {
	yes := []string{"yes"}
	rules := []sandboxRule{
		{"User", []string{strings.TrimSuffix(unit, ".service")}, "it runs as another user"},
		{"NoNewPrivileges", yes, "a set-uid program would give it root"},
		{"ProtectSystem", []string{"strict"}, "it could write outside its own folders"},
		{"ProtectHome", []string{"yes", "tmpfs"}, "it could read homes"},
		{"PrivateTmp", []string{"yes", "disconnected"}, "it shares /tmp"},
		{"PrivateDevices", yes, "it sees devices"},
		{"ProtectKernelTunables", yes, "it could change the kernel's settings"},
		{"ProtectKernelModules", yes, "it could load modules"},
		{"ProtectControlGroups", []string{"yes", "private", "strict"}, "it could change its limits"},
		{"LimitCORE", []string{"0"}, "a core dump would hold keys and patients' data"},
	}
	if unit == signerUnit {
		rules = append(rules, sandboxRule{"PrivateNetwork", yes, "who holds the keys could be reached from a network"})
	}
	return rules
}

// sandbox holds the running units against the rules, and the processes themselves against what the kernel says of them: a directive that this systemd ignores
// shows there.
func (e *exam) sandbox(ctx context.Context, s *sheet, units map[string]int) {
	for _, unit := range e.expectedServices() {
		var open []string
		rules := sandboxRules(unit)
		properties := []string{"LoadState"}
		for _, r := range rules {
			properties = append(properties, r.property)
		}
		p, err := e.show(ctx, unit, properties...)
		if err != nil {
			s.unknown("services.sandbox", "run it as root on the machine that the package is installed on", "systemd does not say how %s is confined: %v", unit, err)
			continue
		}
		for _, r := range rules {
			if p["LoadState"] != "not-found" && !slices.Contains(r.want, p[r.property]) {
				open = append(open, fmt.Sprintf("%s=%s (%s)", r.property, p[r.property], r.why))
			}
		}
		if pid := units[unit]; pid != 0 {
			open = append(open, e.process(unit, pid)...)
		} else if len(open) == 0 {
			s.unknown("services.sandbox", "start it: systemctl start "+unit, "%s does not run: what is in force cannot be seen", unit)
			continue
		}
		if len(open) > 0 {
			s.bad("services.sandbox", "systemctl cat "+unit+": remove the drop-in that weakens it; systemctl daemon-reload; systemctl restart "+unit, "%s is less protected than it must be: %s", unit, strings.Join(open, ", "))
			continue
		}
		s.ok("services.sandbox", "%s is confined as it must be: by systemd's word and the kernel's", unit)
	}
}

// process says what the kernel does not have in force for a process.
func (e *exam) process(unit string, pid int) (open []string) {
	status, err := e.m.read(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil // it ended just now
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch {
		case name == "NoNewPrivs" && value != "1":
			open = append(open, "the kernel has no_new_privs off")
		case name == "Seccomp" && value != "2":
			open = append(open, "the kernel filters no system calls")
		case name == "CapEff" && strings.Trim(value, "0") != "" && unit != receiverUnit:
			open = append(open, "it has capabilities ("+value+")")
		}
	}
	if unit != signerUnit {
		return open
	}
	interfaces, err := e.m.read(fmt.Sprintf("/proc/%d/net/dev", pid)) // of the process's network; its namespace's number is for who may trace it
	if err != nil {
		return open
	}
	for line := range strings.Lines(interfaces) {
		if name, _, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) != "lo" {
			return append(open, "it has the network interface "+strings.TrimSpace(name))
		}
	}
	return open
}

// apparmor reads the mode of each running service.
func (e *exam) apparmor(s *sheet, units map[string]int) {
	const check, cure = "services.apparmor", "apt install apparmor apparmor-utils; aa-enforce /etc/apparmor.d/aes-*; systemctl restart the services"
	if enabled, err := e.m.read("/sys/module/apparmor/parameters/enabled"); err != nil || enabled != "Y" {
		s.warn(check, cure+"; on a container the host decides", "the kernel has no AppArmor on")
		return
	}
	for _, unit := range e.expectedServices() {
		pid := units[unit]
		if pid == 0 {
			s.unknown(check, "start it: systemctl start "+unit, "%s does not run", unit)
			continue
		}
		mode, err := e.m.read(fmt.Sprintf("/proc/%d/attr/current", pid))
		switch {
		case err != nil:
			s.unknown(check, "run it as root", "how AppArmor confines %s cannot be read: %v", unit, err)
		case !strings.HasSuffix(mode, "(enforce)"):
			s.warn(check, cure, "AppArmor does not confine %s: %s", unit, orElse(mode, "unconfined"))
		default:
			s.ok(check, "AppArmor confines %s: %s", unit, mode)
		}
	}
}
