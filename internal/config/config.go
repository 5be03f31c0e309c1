// Package config reads appliance.toml into a validated Config.
//
// One table (keys.go) says of every key what it means, what it may be and what it is when absent; reading, the problems that are reported
// and the documented example file all come from it. Unknown keys are refused. Nothing is taken from the environment, and secrets are only
// ever paths of files, which whoever needs them opens.
package config

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Path is where the appliance's configuration is unless a command is told otherwise.
const Path = "/etc/aes-appliance/appliance.toml"

// Config is the whole configuration; every value in one that Load or Parse returned is valid.
type Config struct {
	StateDir  string // absolute
	PKI       PKI
	Token     Token
	TSA       TSA
	Signing   Signing
	Clock     Clock
	Medicines Medicines
	Portal    Portal
	Signer    Signer
	Limits    Limits

	Replication Replication
	Log         AuditLog
	Firewall    Firewall
	Alarm       Alarm
	Receiver    Receiver // set by LoadReceiver only, which sets nothing else
	Setup       Setup    // set by ParseAnswers only
}

// PKI is what goes into certificates.
type PKI struct {
	BaseURL        string // http, without a slash at the end
	Name           string
	Organisation   string
	OrganisationID string // may be empty
	Country        string
	PolicyArc      asn1.ObjectIdentifier
	ClinicianKey   string // ecdsa-p256, ecdsa-p384, rsa-3072, rsa-4096
}

// Token is where the keys are.
type Token struct {
	Module      string // "" = SoftHSM2, built in
	Label       string
	PINFile     string // absolute
	MaxSessions int    // 0 = cores + 1

	BackupRecipients []string // age recipients; none: the token is not backed up
	BackupDir        string   // absolute; "" = none
}

// TSA is what time-stamp tokens say.
type TSA struct {
	Policy asn1.ObjectIdentifier // nil = the one under PKI.PolicyArc
}

// Signing is how documents are signed.
type Signing struct {
	StatusInLaterSecond bool
}

// Clock says how the time is proven.
type Clock struct {
	Mode     string // system, unproven
	MaxError time.Duration
}

// Medicines is by what it is decided which are controlled drugs.
type Medicines struct {
	DMD string // absolute; "" = by the field and the built-in list alone
}

// Limits bound what is taken in.
type Limits struct {
	PDFBytes int64
}

// Bounds on the file itself. They are far above what a configuration needs, and keep the TOML decoder, whose cost grows with the square of
// a key's depth, within milliseconds.
const (
	maxFile   = 32 << 10 // bytes
	maxLine   = 512      // bytes
	maxBraces = 64
)

// Load reads the file at path; relative paths in it are taken from the folder it is in. The error is a fault.Error: NotFound or Forbidden for the file, Invalid with Problems as its cause.
func Load(path string) (Config, error) { return load(path, appliance(), `"appliance config`) }

// load reads the file at path as doc says; tool is the beginning of the command that prints an example, and that checks.
func load(path string, doc document, tool string) (Config, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Config{}, fault.New(fault.NotFound, "there is no configuration file "+path).WithHint("name another with --config, or begin with what " + tool + ` example" prints`).WithCause(err)
	case err != nil:
		return Config{}, fault.New(fault.Forbidden, "the configuration file "+path+" cannot be opened").WithCause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fault.New(fault.Invalid, "the configuration file "+path+" cannot be read").WithCause(err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Config{}, fault.New(fault.Invalid, "the folder of the configuration file "+path+" has no name").WithCause(err)
	}
	cfg, err := doc.parse(data, filepath.Dir(abs))
	if err != nil {
		// The problems name keys and rules, never values, so they may be shown.
		return Config{}, fault.New(fault.Invalid, fmt.Sprintf("the configuration %s is not valid:\n%v", path, err)).
			WithHint("correct the file, then run " + tool + ` check"`).WithCause(err)
	}
	return cfg, nil
}

// Parse reads a configuration that is in no folder: its paths must be absolute. The error is Problems: everything that is wrong, in the order
// of the documentation.
func Parse(data []byte) (Config, error) { return appliance().parse(data, "") }

// document is one kind of configuration file.
type document struct {
	title    string // for the example
	sections []section
	keys     []key
	agree    func(Config) Problems // checks what no key can be judged for alone
}

// parse reads a configuration and takes relative paths from dir, unless that is empty.
func (doc document) parse(data []byte, dir string) (Config, error) {
	values, problems := doc.decode(data)
	if len(problems) > 0 {
		return Config{}, problems
	}
	var cfg Config
	for _, k := range doc.keys {
		value, there := values[k.ref()]
		if !there {
			if k.mandatory() {
				problems = append(problems, Problem{Key: k.ref().String(), Text: "is missing", Cure: fmt.Sprintf("set it, for instance %s = %s", k.name, literal(k.example))})
				continue
			}
			value = k.fallback
		}
		delete(values, k.ref())
		if path, isText := value.(string); isText {
			value = k.from(dir, path)
		}
		if err := k.set(&cfg, value); err != nil {
			problems = append(problems, Problem{Key: k.ref().String(), Text: err.Error(), Cure: fmt.Sprintf("for instance %s = %s", k.name, literal(k.example))})
		}
	}
	problems = append(problems, doc.unknown(values)...)
	if len(problems) == 0 {
		problems = append(problems, doc.agree(cfg)...)
	}
	if len(problems) > 0 {
		return Config{}, problems
	}
	return cfg, nil
}

// decode returns the values of the file.
func (doc document) decode(data []byte) (map[ref]any, Problems) {
	if p := measure(data); p != nil {
		return nil, p
	}
	tree := map[string]any{}
	if _, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&tree); err != nil {
		return nil, Problems{syntax(err)}
	}
	values := map[ref]any{}
	for name, v := range tree {
		section, isTable := v.(map[string]any)
		if !isTable || !slices.Contains(doc.sectionNames(), name) {
			values[ref{"", name}] = v
			continue
		}
		for key, v := range section {
			values[ref{name, key}] = v
		}
	}
	return values, nil
}

// measure refuses a file that no one wrote as a configuration.
func measure(data []byte) Problems {
	if len(data) > maxFile {
		return Problems{{Text: fmt.Sprintf("the file has more than %d bytes", maxFile), Cure: "is this the right file?"}}
	}
	if bytes.Count(data, []byte("{")) > maxBraces {
		return Problems{{Text: fmt.Sprintf("the file has more than %d braces", maxBraces), Cure: "inline tables are not used here"}}
	}
	n := 0
	for line := range bytes.Lines(data) {
		if n++; len(line) > maxLine {
			return Problems{{Text: fmt.Sprintf("line %d has more than %d bytes", n, maxLine), Cure: "no value is that long"}}
		}
	}
	return nil
}

func syntax(err error) Problem {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return Problem{Text: err.Error(), Cure: "write the file as TOML 1.0"}
	}
	return Problem{Key: parse.LastKey, Text: fmt.Sprintf("line %d is not TOML: %s", parse.Position.Line, parse.Message), Cure: "texts stand in double quotes, comments after #"}
}

// unknown returns a Problem for each of what is left over.
func (doc document) unknown(values map[ref]any) Problems {
	var problems Problems
	for r, value := range values {
		problems = append(problems, Problem{Key: r.String(), Text: "is not known", Cure: doc.suggest(r, value)})
	}
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	return problems
}

// suggest says what may have been meant by an unknown key.
func (doc document) suggest(r ref, value any) string {
	if slices.Contains(doc.sectionNames(), r.name) && r.section == "" {
		return fmt.Sprintf("%s is a section: write [%s] on a line of its own, once", r.name, r.name)
	}
	if _, isTable := value.(map[string]any); isTable && r.section == "" {
		return "the sections are " + strings.Join(doc.sectionNames(), ", ")
	}
	var known []string
	for _, k := range doc.keys {
		if k.name == r.name {
			return fmt.Sprintf("it belongs into %s", k.place())
		}
		if k.section == r.section {
			known = append(known, k.name)
		}
	}
	if len(known) == 0 {
		return "every key stands in a section: " + strings.Join(doc.sectionNames(), ", ")
	}
	return fmt.Sprintf("known there: %s", strings.Join(known, ", "))
}

// agree checks what no key can be judged for alone.
func agree(c Config) Problems {
	var problems Problems
	problems = append(problems, c.Signer.agree()...)
	if policy, arc := c.TSA.Policy, c.PKI.PolicyArc; policy != nil && (len(policy) <= len(arc) || !slices.Equal(policy[:len(arc)], arc)) {
		problems = append(problems, Problem{Key: "tsa.policy", Text: "is not under pki.policy_arc", Cure: "leave it out, or choose one under " + arc.String()})
	}
	problems = append(problems, agreePortal(c.Portal)...)
	return slices.Concat(problems, c.agreeBackup(), c.agreeLog(), c.Alarm.agree(), c.Firewall.agree())
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Key  string `json:"key"` // "section.key"; "" for the file as a whole
	Text string `json:"text"`
	Cure string `json:"cure"`
}

func (p Problem) String() string {
	if p.Key == "" {
		return fmt.Sprintf("%s (%s)", p.Text, p.Cure)
	}
	return fmt.Sprintf("%s %s (%s)", p.Key, p.Text, p.Cure)
}

// Problems is everything that is wrong with a configuration, one line each.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}
