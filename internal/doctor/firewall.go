package doctor

import (
	"context"
	"errors"
	"strings"
)

const cureFirewall = "appliance firewall apply"

// firewall asks whoever renders the rules from the configuration; without that, only what ufw says of itself can be judged.
func (e *exam) firewall(ctx context.Context, s *sheet) {
	if e.Firewall != nil && e.Broken == nil {
		for _, f := range e.Firewall(ctx) {
			s.add("firewall.active", f.Verdict, f.Cure, f.Text)
		}
		return
	}
	out, err := e.m.Run(ctx, "ufw", "status", "verbose")
	switch {
	case errors.Is(err, errNoProgram):
		s.bad("firewall.active", "apt install ufw; "+cureFirewall, "ufw is not installed: nothing filters what comes in and goes out")
	case err != nil:
		s.unknown("firewall.active", "run it as root: ufw status verbose", "ufw does not say whether it is on: %v", err)
	default:
		judgeUFW(s, string(out))
	}
}

// judgeUFW reads "ufw status verbose".
func judgeUFW(s *sheet, out string) {
	active, defaults := false, ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		active = active || line == "Status: active"
		if d, ok := strings.CutPrefix(line, "Default: "); ok {
			defaults = d
		}
	}
	denies := func(direction string) bool {
		return strings.Contains(defaults, "deny ("+direction+")") || strings.Contains(defaults, "reject ("+direction+")")
	}
	switch {
	case !active:
		s.bad("firewall.active", cureFirewall, "the packet filter is off")
	case !denies("incoming"):
		s.bad("firewall.active", cureFirewall, "the packet filter lets in what it has no rule for (%s)", defaults)
	case !denies("outgoing"):
		s.warn("firewall.active", cureFirewall, "the packet filter lets out what it has no rule for (%s)", defaults)
	default:
		s.ok("firewall.active", "the packet filter is on and denies by default, both ways")
	}
}
