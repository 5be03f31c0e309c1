package firewall

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// stored is one rule as ufw keeps it in user.rules or user6.rules: the words after "### tuple ###", and the lines for iptables that it makes of them.
type stored struct {
	words   []string // action, protocol, port, network, source port, source, [applications,] direction
	comment string
	lines   []string
	v6      bool
}

// Bounds of what is read.
const (
	maxRules = 1 << 20 // bytes of one file
	tupleTag = "### tuple ###"
)

// ruleChain is how the lines begin that rules stand for. A fresh file has others among them, of ufw's own.
var ruleChain = regexp.MustCompile(`^-A ufw6?-user-(input|output|forward) `)

// parseStored reads user.rules or user6.rules. The error says which line is not of the form that ufw writes.
func parseStored(data []byte, v6 bool) ([]stored, error) {
	var all []stored
	inRules := false
	s := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "### RULES ###":
			inRules = true
		case line == "### END RULES ###":
			inRules = false
		case !inRules:
		case strings.HasPrefix(line, tupleTag):
			one, err := parseTuple(strings.TrimPrefix(line, tupleTag), v6)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			all = append(all, one)
		case ruleChain.MatchString(line):
			if len(all) == 0 {
				return nil, fmt.Errorf("line %d: a rule before the first tuple", n)
			}
			last := &all[len(all)-1]
			last.lines = append(last.lines, canonical(line))
		}
	}
	return all, s.Err()
}

// parseTuple reads what follows tupleTag.
func parseTuple(text string, v6 bool) (stored, error) {
	words := strings.Fields(text)
	one := stored{v6: v6}
	if len(words) > 0 {
		if coded, found := strings.CutPrefix(words[len(words)-1], "comment="); found {
			comment, err := hex.DecodeString(coded)
			if err != nil {
				return one, fmt.Errorf("a comment that is not hexadecimal: %.60q", coded)
			}
			one.comment, words = string(comment), words[:len(words)-1]
		}
	}
	if len(words) != 7 && len(words) != 9 {
		return one, fmt.Errorf("a tuple of %d words", len(words))
	}
	one.words = words
	return one, nil
}

// ours reports whether the rule came from the configuration.
func (s stored) ours() bool { return strings.HasPrefix(s.comment, mark) }

// same reports whether two rules let the same through; comments do not matter.
func (s stored) same(o stored) bool {
	return s.v6 == o.v6 && strings.Join(s.words, " ") == strings.Join(o.words, " ")
}

// String returns the rule for people.
func (s stored) String() string {
	w := s.words
	family := "IPv4"
	if s.v6 {
		family = "IPv6"
	}
	text := fmt.Sprintf("%s %s %s, port %s of %s, from port %s of %s (%s)", w[0], w[len(w)-1], w[1], w[2], w[3], w[4], w[5], family)
	if len(w) == 9 {
		text += fmt.Sprintf(", applications %s %s", w[6], w[7])
	}
	if s.comment != "" {
		text += fmt.Sprintf(", %q", s.comment)
	}
	return text
}

// wanted returns r as ufw keeps it, for IPv4, IPv6 or both.
func (r Rule) wanted() []stored {
	var all []stored
	for _, v6 := range []bool{false, true} {
		if !r.Anywhere() && r.Network.Addr().Is6() != v6 {
			continue
		}
		any, chain := "0.0.0.0/0", "ufw-user-"
		if v6 {
			any, chain = "::/0", "ufw6-user-"
		}
		network, port := any, strconv.Itoa(int(r.Port))
		if !r.Anywhere() {
			network = kept(r.Network)
		}
		one := stored{v6: v6, comment: mark + r.Why}
		line := ""
		if r.Direction == In {
			one.words = []string{"allow", r.Proto, port, any, "any", network, "in"}
			line = "-A " + chain + "input -p " + r.Proto + " --dport " + port
			if network != any {
				line += " -s " + network
			}
		} else {
			one.words = []string{"allow", r.Proto, port, network, "any", any, "out"}
			line = "-A " + chain + "output -p " + r.Proto + " --dport " + port
			if network != any {
				line += " -d " + network
			}
		}
		one.lines = []string{canonical(line + " -j ACCEPT")}
		all = append(all, one)
	}
	return all
}

// kept returns a network as ufw writes it: without the length when it is one address.
func kept(n netip.Prefix) string {
	if n.IsSingleIP() {
		return n.Addr().String()
	}
	return n.String()
}
