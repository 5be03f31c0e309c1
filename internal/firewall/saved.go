package firewall

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// saved is the filter table as iptables-save or ip6tables-save shows it: what is in force.
type saved struct {
	policies map[string]string   // of the chains that have one: INPUT -> DROP
	chains   map[string][]string // canonical rules in order; a chain without rules is there too
}

// parseSaved reads what iptables-save -t filter writes. No table at all is an empty one, which lets everything through.
func parseSaved(data []byte) (saved, error) {
	t := saved{policies: map[string]string{}, chains: map[string][]string{}}
	table := ""
	s := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '*':
			table = line[1:]
		case line == "COMMIT":
			table = ""
		case table != "filter":
		case line[0] == ':':
			words := strings.Fields(line[1:])
			if len(words) < 2 {
				return t, fmt.Errorf("line %d: a chain without a policy", n)
			}
			if words[1] != "-" {
				t.policies[words[0]] = words[1]
			}
			t.chains[words[0]] = nil
		case strings.HasPrefix(line, "-A "):
			chain, _, _ := strings.Cut(line[3:], " ")
			t.chains[chain] = append(t.chains[chain], canonical(line))
		default:
			return t, fmt.Errorf("line %d is not of a table: %.60q", n, line)
		}
	}
	return t, s.Err()
}

// canonical writes a rule so that it is the same whether ufw wrote it or iptables-save: each option with its values once, in order, a length to every
// address, without the names of matches and what they add of their own.
//
// canonical(canonical(line)) == canonical(line) for every line.
func canonical(line string) string {
	var options []string
	add := func(o []string) {
		if len(o) == 0 || (o[0] == "-m" && len(o) == 2) || slices.Contains([]string{"--name", "--mask", "--rsource", "--reject-with"}, o[0]) {
			return
		}
		if len(o) == 2 && (o[0] == "-s" || o[0] == "-d") {
			if a, err := netip.ParseAddr(o[1]); err == nil {
				o[1] = single(a).String()
			}
		}
		options = append(options, strings.Join(o, " "))
	}
	words := strings.Fields(line)
	chain := ""
	if len(words) >= 2 && (words[0] == "-A" || words[0] == "-I") {
		chain, words = words[0]+" "+words[1], words[2:]
	}
	var option []string
	for _, w := range words {
		if strings.HasPrefix(w, "-") && len(w) > 1 {
			add(option)
			option = nil
		}
		option = append(option, w)
	}
	add(option)
	slices.Sort(options)
	return strings.TrimSpace(chain + " " + strings.Join(options, " "))
}
