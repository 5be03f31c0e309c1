package chain

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of a policy.
const (
	MaxPolicy      = 64 << 10 // bytes
	maxPolicyNames = 128      // witnesses and groups together
)

// Policy says whose cosignatures a checkpoint must have (C2SP tlog-policy). The zero Policy asks for none.
type Policy struct {
	Logs      []string // verifier keys of the logs that it is about; none: it does not say
	Witnesses []Witness
	quorum    string // name of a witness or group; quorumNone or empty: nobody is needed
	groups    map[string]group
}

// Witness is a witness that a policy names.
type Witness struct {
	Name string // within the policy; Key.Name() is the one in its signatures
	Key  WitnessKey
	URL  string // its submission prefix (C2SP tlog-witness), without a slash at the end; "" when it is not asked
}

// group is satisfied when at least need of its members are.
type group struct {
	need    int
	members []string
}

const quorumNone = "none"

// ParsePolicy reads a policy file. Errors name the line, counted from 1.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, fmt.Errorf("chain: a policy of %d bytes, more than %d", len(text), MaxPolicy)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return nil, errors.New("chain: the policy's last line does not end")
	}
	r := policyReader{policy: Policy{groups: map[string]group{}}, taken: map[string]bool{quorumNone: true}, used: map[string]bool{}}
	for i, line := range strings.Split(string(text), "\n") {
		if err := r.line(line); err != nil {
			return nil, fmt.Errorf("chain: line %d of the policy: %w", i+1, err)
		}
	}
	if r.policy.quorum == "" {
		return nil, errors.New("chain: the policy has no quorum line")
	}
	return &r.policy, nil
}

// policyReader reads a policy line by line.
type policyReader struct {
	policy Policy
	taken  map[string]bool // names defined
	used   map[string]bool // names that are members of a group
	logs   []string        // public keys
}

func (r *policyReader) line(line string) error {
	for i := range len(line) {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("control character %#02x", c)
		}
	}
	words := strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' })
	if len(words) == 0 || words[0][0] == '#' {
		return nil
	}
	switch keyword := words[0]; keyword {
	case "log":
		return r.log(words[1:])
	case "witness":
		return r.witness(words[1:])
	case "group":
		return r.group(words[1:])
	case "quorum":
		return r.quorum(words[1:])
	default:
		return fmt.Errorf("%q is not log, witness, group or quorum", keyword)
	}
}

// log reads "log <vkey> [<url>]".
func (r *policyReader) log(words []string) error {
	if len(words) != 1 && len(words) != 2 {
		return errors.New("log takes a verifier key and perhaps an address")
	}
	if _, err := optionalURL(words[1:]); err != nil {
		return err
	}
	_, material, err := logKey(words[0])
	if err != nil {
		return err
	}
	if slices.Contains(r.logs, string(material)) {
		return errors.New("the same log key twice")
	}
	r.logs = append(r.logs, string(material))
	r.policy.Logs = append(r.policy.Logs, words[0])
	return nil
}

// witness reads "witness <name> <vkey> [<url>]".
func (r *policyReader) witness(words []string) error {
	if len(words) != 2 && len(words) != 3 {
		return errors.New("witness takes a name, a verifier key and perhaps an address")
	}
	address, err := optionalURL(words[2:])
	if err != nil {
		return err
	}
	key, err := ParseWitnessKey(words[1])
	if err != nil {
		return err
	}
	for _, w := range r.policy.Witnesses {
		// tlog-policy: keys are duplicates if they wrap the same public key, whatever their names are.
		if w.Key.pub == key.pub || w.Key.name == key.name && w.Key.hash == key.hash {
			return fmt.Errorf("the key of %s is that of %s", words[0], w.Name)
		}
	}
	if err := r.define(words[0]); err != nil {
		return err
	}
	r.policy.Witnesses = append(r.policy.Witnesses, Witness{words[0], key, address})
	return nil
}

// group reads "group <name> all|any|<k> <name>...".
func (r *policyReader) group(words []string) error {
	if len(words) < 3 {
		return errors.New("group takes a name, how many (all, any, or a number), and members")
	}
	members := words[2:]
	for _, m := range members {
		switch {
		case m == quorumNone || !r.taken[m]:
			return fmt.Errorf("%q is defined on no line before", m)
		case r.used[m]:
			return fmt.Errorf("%q is a member twice", m)
		}
		r.used[m] = true
	}
	need, err := strconv.Atoi(words[1])
	switch {
	case words[1] == "all":
		need = len(members)
	case words[1] == "any":
		need = 1
	case err != nil || strconv.Itoa(need) != words[1] || need < 1 || need > len(members):
		return fmt.Errorf("%q is not all, any or a number from 1 to %d", words[1], len(members))
	}
	if err := r.define(words[0]); err != nil {
		return err
	}
	r.policy.groups[words[0]] = group{need, members}
	return nil
}

// quorum reads "quorum <name>".
func (r *policyReader) quorum(words []string) error {
	switch {
	case len(words) != 1:
		return errors.New("quorum takes one name")
	case r.policy.quorum != "":
		return errors.New("a second quorum line")
	case !r.taken[words[0]]:
		return fmt.Errorf("%q is defined on no line before", words[0])
	}
	r.policy.quorum = words[0]
	return nil
}

func (r *policyReader) define(name string) error {
	if r.taken[name] {
		return fmt.Errorf("%q is defined twice", name)
	}
	if len(r.taken) > maxPolicyNames {
		return fmt.Errorf("more than %d witnesses and groups", maxPolicyNames)
	}
	r.taken[name] = true
	return nil
}

// optionalURL reads an address, "" when words is empty.
func optionalURL(words []string) (string, error) {
	if len(words) == 0 {
		return "", nil
	}
	u, err := url.Parse(words[0])
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", fmt.Errorf("%q is not an http or https address without user, query and fragment", words[0])
	}
	return strings.TrimRight(words[0], "/"), nil
}

// Keys returns the keys of all witnesses.
func (p *Policy) Keys() []WitnessKey {
	keys := make([]WitnessKey, len(p.Witnesses))
	for i, w := range p.Witnesses {
		keys[i] = w.Key
	}
	return keys
}

// Covers reports whether the policy is about the log with this verifier key: it names it, or names none.
func (p *Policy) Covers(logKey string) bool {
	return len(p.Logs) == 0 || slices.Contains(p.Logs, logKey)
}

// ErrQuorum says that a checkpoint has too few cosignatures.
var ErrQuorum = errors.New("too few cosignatures")

// Check returns nil when cosignatures, which were verified, are enough; else ErrQuorum with who did and who did not cosign.
func (p *Policy) Check(cosignatures []Cosignature) error {
	by := map[string]bool{}
	var did, not []string
	for _, w := range p.Witnesses {
		if slices.ContainsFunc(cosignatures, func(c Cosignature) bool { return c.Key == w.Key }) {
			by[w.Name], did = true, append(did, w.Name)
		} else {
			not = append(not, w.Name)
		}
	}
	if p.quorum == quorumNone || p.quorum == "" || p.satisfied(p.quorum, by) {
		return nil
	}
	if len(did) == 0 {
		return fmt.Errorf("%w: by none of %s", ErrQuorum, strings.Join(not, ", "))
	}
	return fmt.Errorf("%w: by %s, not by %s", ErrQuorum, strings.Join(did, ", "), strings.Join(not, ", "))
}

// satisfied evaluates a witness or group. Groups name only what was defined before them, each once: it is a tree.
func (p *Policy) satisfied(name string, by map[string]bool) bool {
	g, ok := p.groups[name]
	if !ok {
		return by[name]
	}
	n := 0
	for _, m := range g.members {
		if p.satisfied(m, by) {
			n++
		}
	}
	return n >= g.need
}

// Open verifies a checkpoint of origin against the log's verifier key, and its cosignatures against the policy. Too few of them is ErrQuorum, with the
// checkpoint and those that there are.
func (p *Policy) Open(signed []byte, origin, verifierKey string) (Checkpoint, []Cosignature, error) {
	if !p.Covers(verifierKey) {
		return Checkpoint{}, nil, fmt.Errorf("chain: the policy is about other logs than %s", verifierKey)
	}
	c, found, err := OpenCosigned(signed, origin, verifierKey, p.Keys()...)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	if err := p.Check(found); err != nil {
		return c, found, fmt.Errorf("chain: the checkpoint of %d lines: %w", c.Size, err)
	}
	return c, found, nil
}
