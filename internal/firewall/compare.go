package firewall

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Policies of default/ufw that the plan wants.
func policies() []string {
	return []string{"DEFAULT_INPUT_POLICY", "DEFAULT_OUTPUT_POLICY", "DEFAULT_FORWARD_POLICY"}
}

// builtins are the kernel's chains, and the ufw chain that holds the rules of the plan for each.
func builtins(v6 bool) map[string]string {
	prefix := "ufw-"
	if v6 {
		prefix = "ufw6-"
	}
	return map[string]string{"INPUT": prefix + "before-input", "OUTPUT": prefix + "before-output", "FORWARD": prefix + "before-forward"}
}

const (
	cureApply   = `run "appliance firewall apply"`
	cureForeign = `if it is to stay, say so in firewall.more_in or firewall.more_out; if not, "appliance firewall apply --remove-others" or "ufw delete"`
)

// compare returns in what s is not p.
func (s state) compare(p Plan) []Difference {
	var d []Difference
	if !s.enabled || s.disabledUnit {
		d = append(d, Difference{"inactive", "the packet filter is not started at boot", cureApply})
	}
	d = slices.Concat(d, s.comparePolicies(), s.compareKept(p))
	for _, name := range s.changed {
		d = append(d, Difference{"framework", name + " is not as ufw brought it", "compare it with the one in " + templates + ", and put that in its place"})
	}
	return append(d, s.compareLive(p)...)
}

// comparePolicies compares what default/ufw says.
func (s state) comparePolicies() []Difference {
	var d []Difference
	for _, name := range policies() {
		if got := s.defaults[name]; got != "DROP" {
			d = append(d, Difference{"policy", fmt.Sprintf("%s is %s, not DROP", name, got), cureApply})
		}
	}
	if !strings.EqualFold(s.defaults["IPV6"], "yes") {
		d = append(d, Difference{"policy", "IPv6 is not filtered", cureApply})
	}
	return d
}

// compareKept compares the rules in ufw's files.
func (s state) compareKept(p Plan) []Difference {
	var d []Difference
	var wanted []stored
	for _, r := range p.Rules {
		for _, w := range r.wanted() {
			wanted = append(wanted, w)
			if !slices.ContainsFunc(s.rules, w.same) {
				d = append(d, Difference{"missing", "ufw does not have: " + r.String() + family(w.v6) + " (" + r.Why + ")", cureApply})
			}
		}
	}
	for _, have := range s.rules {
		switch {
		case slices.ContainsFunc(wanted, have.same):
		case have.ours():
			d = append(d, Difference{"stale", "the configuration no longer has: " + have.String(), cureApply})
		default:
			d = append(d, Difference{"foreign", "a rule that is not of the configuration: " + have.String(), cureForeign})
		}
	}
	return d
}

// compareLive compares what the kernel has.
func (s state) compareLive(p Plan) []Difference {
	var d []Difference
	for _, v6 := range []bool{false, true} {
		live, there := s.live[v6]
		if !there {
			continue
		}
		d = append(d, live.compareFrame(v6)...)
		d = append(d, s.compareAround(v6)...)
		var known []string
		for _, r := range p.Rules {
			for _, w := range r.wanted() {
				if w.v6 != v6 {
					continue
				}
				known = append(known, w.lines...)
				if !live.has(w.lines[0]) {
					d = append(d, Difference{"missing", "not in force: " + r.String() + family(v6) + " (" + r.Why + ")", cureApply})
				}
			}
		}
		for _, have := range s.rules { // what is foreign in the files is said already
			known = append(known, have.lines...)
		}
		prefix := "ufw-user-"
		if v6 {
			prefix = "ufw6-user-"
		}
		for _, chain := range []string{"input", "output", "forward"} {
			for _, line := range live.chains[prefix+chain] {
				if !slices.Contains(known, line) {
					d = append(d, Difference{"foreign", "in force, but in no file of ufw's: " + line, cureApply})
				}
			}
		}
	}
	return d
}

// compareFrame compares what is around the rules: policies, the way into ufw's chains, and what stands before it.
func (t saved) compareFrame(v6 bool) []Difference {
	var d []Difference
	for _, chain := range []string{"INPUT", "OUTPUT", "FORWARD"} {
		into := builtins(v6)[chain]
		if t.policies[chain] != "DROP" {
			d = append(d, Difference{"inactive", "the kernel does not drop what no rule lets through " + chain + family(v6), cureApply})
		}
		jump := canonical("-A " + chain + " -j " + into)
		user := strings.Replace(into, "before", "user", 1)
		if !t.has(jump) || !t.has(canonical("-A "+into+" -j "+user)) {
			d = append(d, Difference{"inactive", "the kernel does not ask ufw's rules for " + chain + family(v6), cureApply})
		}
		for _, line := range t.chains[chain] {
			if target := targetOf(line); target == "ACCEPT" || !strings.HasPrefix(target, "ufw") && t.admits(target, map[string]bool{}) {
				d = append(d, Difference{"foreign", "a rule that lets through what ufw would not: " + line + family(v6), "find what adds it, and have that stop"})
			}
		}
	}
	return d
}

// targetOf is where a rule leads to; "" when it only counts.
func targetOf(line string) string {
	words := strings.Fields(line)
	for i, w := range words[:max(0, len(words)-1)] {
		if w == "-j" || w == "-g" {
			return words[i+1]
		}
	}
	return ""
}

// admits reports whether a chain, or one that it leads to, lets something through. seen are those that were looked at.
func (t saved) admits(chain string, seen map[string]bool) bool {
	if seen[chain] {
		return false
	}
	seen[chain] = true
	return slices.ContainsFunc(t.chains[chain], func(line string) bool {
		target := targetOf(line)
		return target == "ACCEPT" || t.admits(target, seen)
	})
}

// frameChain is one that packets pass on their way around those of the plan.
var frameChain = regexp.MustCompile(`^ufw6?-(before|after|before-logging|after-logging|reject|track)-(input|output|forward)$`)

// accepts counts the rules of each of those chains that let something through, in a file of ufw's or in the kernel: each writes the rest of a rule in its own way.
func accepts(lines []string) map[string]int {
	n := map[string]int{}
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) > 2 && words[0] == "-A" && frameChain.MatchString(words[1]) && targetOf(line) == "ACCEPT" {
			n[words[1]]++
		}
	}
	return n
}

// compareAround looks for rules that were put between ufw's own, in the kernel only.
func (s state) compareAround(v6 bool) []Difference {
	var d []Difference
	for _, chain := range slices.Sorted(maps.Keys(s.live[v6].chains)) {
		if n := accepts(s.live[v6].chains[chain])[chain]; n > s.own[chain] {
			d = append(d, Difference{"foreign", fmt.Sprintf("%s lets through by %d rules, and ufw's files have %d of them%s", chain, n, s.own[chain], family(v6)), cureApply})
		}
	}
	return d
}

// has reports whether a canonical rule is in force.
func (t saved) has(line string) bool {
	words := strings.Fields(line)
	return len(words) > 1 && slices.Contains(t.chains[words[1]], line)
}

func family(v6 bool) string {
	if v6 {
		return ", IPv6"
	}
	return ", IPv4"
}
