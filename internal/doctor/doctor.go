// Package doctor examines an appliance, or its backup host, as a stranger with root on the machine would: by what the kernel, systemd, the network and the
// files say, and by what the signer answers when it can. Each group of checks needs as little of the appliance as it can: doctor is run when half of it is down.
//
// Nothing is changed by an examination, but for one aggregated line of the log about the status that was asked for over http; and a service that does not run, but
// whose socket systemd holds, is started by being asked.
package doctor

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Schema names the form of a Report in JSON; a field is only ever added under the same name.
const Schema = "aes-doctor/1"

// Verdict is what a check came to.
type Verdict string

// Verdicts, the best first.
const (
	OK      Verdict = "ok"
	Warn    Verdict = "warn"    // it works, and somebody has to see to it
	Unknown Verdict = "unknown" // it could not be judged
	Bad     Verdict = "bad"     // it does not do what it must
)

// rank orders verdicts by how much they weigh.
func (v Verdict) rank() int { return slices.Index([]Verdict{OK, Warn, Unknown, Bad}, v) }

// Role is what a machine is for.
type Role string

// Roles.
const (
	Primary Role = "primary"
	Backup  Role = "backup"
)

// Finding is what one check came to, about one thing.
type Finding struct {
	Check   string         `json:"check"` // group.name, one of Checks()
	Verdict Verdict        `json:"verdict"`
	Text    string         `json:"text"`             // one sentence
	Cure    string         `json:"cure,omitempty"`   // what to do about it: there for whatever is not ok
	Values  map[string]any `json:"values,omitempty"` // figures that the text rests on; times in RFC 3339, durations in seconds
}

// Group is the part of the check's name before the dot.
func (f Finding) Group() string {
	group, _, _ := strings.Cut(f.Check, ".")
	return group
}

// Report is one examination.
type Report struct {
	Schema   string    `json:"schema"`
	At       time.Time `json:"at"` // by the machine's clock, proven or not
	Host     string    `json:"host"`
	Role     Role      `json:"role"`
	Version  string    `json:"version"` // of the program
	Verdict  Verdict   `json:"verdict"` // the heaviest of the findings'
	Findings []Finding `json:"findings"`
}

// Count returns how many findings have each verdict.
func (r Report) Count() map[Verdict]int {
	n := map[Verdict]int{}
	for _, f := range r.Findings {
		n[f.Verdict]++
	}
	return n
}

// Config says what to examine.
type Config struct {
	Role       Role
	Appliance  config.Config   // of a primary
	Receiver   config.Receiver // of a backup host
	ConfigPath string          // of the file that it came from
	Broken     error           // why there is no configuration; the checks that need none are made all the same

	Version  string
	Full     bool          // read the whole log
	Serving  bool          // make only the checks that tell whether the services do their work
	Deadline time.Duration // for each group of checks; 0: 15 seconds, an hour with Full
	Machine  *Machine      // nil: this one
	Now      func() time.Time
	Rand     io.Reader
	// Firewall examines the packet filter; nil: its state is told by the tool that Debian has for it.
	Firewall func(context.Context) []Finding
}

const (
	groupTime     = 15 * time.Second
	groupTimeFull = time.Hour
)

// Examine makes every check of the role and returns what they came to, in the order of Checks(). It always returns a report: what could not be judged says so.
func Examine(ctx context.Context, cfg Config) Report {
	if cfg.Machine == nil {
		cfg.Machine = Local()
	}
	if cfg.Deadline == 0 {
		if cfg.Deadline = groupTime; cfg.Full {
			cfg.Deadline = groupTimeFull
		}
	}
	e := &exam{Config: cfg, m: cfg.Machine}
	e.signer = newSignerSide(e)
	defer e.signer.close()
	r := Report{Schema: Schema, At: cfg.Now().UTC(), Role: cfg.Role, Version: cfg.Version, Verdict: OK}
	r.Host, _ = os.Hostname() // a machine without a name has an empty one
	r.Findings = e.all(ctx)
	for _, f := range r.Findings {
		if f.Verdict.rank() > r.Verdict.rank() {
			r.Verdict = f.Verdict
		}
	}
	return r
}

// exam is one examination that goes on.
type exam struct {
	Config
	m      *Machine
	signer *signerSide
}

// group is some checks that are made one after the other.
type group struct {
	name  string
	needs bool // a configuration
	run   func(context.Context, *sheet)
}

// groups are what is examined in a role, in the order of the report.
func (e *exam) groups() []group {
	common := []group{{"clock", true, e.clock}, {"machine", false, e.machine}, {"disk", true, e.disk}, {"permissions", true, e.permissions}}
	services := []group{{"services", true, e.services}, {"firewall", false, e.firewall}, {"updates", false, e.updates}}
	if e.Role == Backup {
		return slices.Concat(common, []group{{"copies", true, e.copies}, {"alarm", true, e.alarm}}, services)
	}
	return slices.Concat(common, []group{
		{"signer", true, e.signerWhole}, {"token", true, e.token}, {"certificates", true, e.certificates}, {"tls", true, e.tls}, {"revocation", true, e.revocation},
		{"realms", true, e.realms}, {"log", true, e.log}, {"backup", true, e.backup}, {"alarm", true, e.alarm},
	}, services)
}

// stuckTime is how long a group may take beyond its time.
const stuckTime = 5 * time.Second

// all runs the groups beside each other. One that does not end with its time is left behind: a file that cannot be read to its end, of a disk that hangs or made so by a
// service's user, keeps nobody from hearing of all the rest.
func (e *exam) all(ctx context.Context) []Finding {
	groups := e.groups()
	if e.Serving {
		groups = e.servingGroups()
	}
	ended := make([]chan *sheet, len(groups))
	for i, g := range groups {
		ended[i] = make(chan *sheet, 1)
		go func() {
			ctx, cancel := context.WithTimeout(ctx, e.Deadline)
			defer cancel()
			s := &sheet{group: g.name}
			if !g.needs || e.Broken == nil {
				g.run(ctx, s)
			}
			ended[i] <- s
		}()
	}
	stuck, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.Deadline+stuckTime)
	defer cancel()
	all := e.configuration()
	for i, g := range groups {
		var s *sheet
		select {
		case s = <-ended[i]:
		case <-stuck.Done():
			select {
			case s = <-ended[i]:
			default:
				s = e.stuck(g.name)
			}
		}
		all = append(all, s.findings...)
	}
	if e.Serving {
		all = onlyServing(all)
	}
	return all
}

// stuck is what a group comes to that did not end.
func (e *exam) stuck(group string) *sheet {
	s := &sheet{group: group}
	for _, c := range Checks() {
		if strings.HasPrefix(c.Name, group+".") && (!e.Serving || slices.Contains(serving(), c.Name)) {
			s.unknown(c.Name, "see what hangs: dmesg for the disk; find "+e.stateDir()+" -type p -o -type c for what is no file", "what tells of this could not be read within %v", e.Deadline+stuckTime)
			break
		}
	}
	return s
}

// configuration says whether there is one.
func (e *exam) configuration() []Finding {
	s := &sheet{group: "configuration"}
	cure := cureOf(e.Broken, "appliance setup")
	if fault.KindOf(e.Broken) == fault.NotFound {
		cure = "appliance setup, or name a configuration with --config"
	}
	if e.Broken != nil {
		s.bad("configuration.valid", cure, "%s; what needs it was not examined", textOf(e.Broken))
	} else {
		s.ok("configuration.valid", "%s is valid", e.ConfigPath)
	}
	return s.findings
}

// sheet takes down what the checks of one group come to.
type sheet struct {
	group    string
	findings []Finding
}

func (s *sheet) add(check string, v Verdict, cure, text string) *Finding {
	if !known(check) || !strings.HasPrefix(check, s.group+".") {
		panic("doctor: " + check + " is no check of the group " + s.group)
	}
	if v != OK && cure == "" {
		panic("doctor: " + check + " is " + string(v) + " without a cure")
	}
	s.findings = append(s.findings, Finding{Check: check, Verdict: v, Text: shown(text), Cure: shown(cure)})
	return &s.findings[len(s.findings)-1]
}

func (s *sheet) ok(check, format string, args ...any) *Finding {
	return s.add(check, OK, "", fmt.Sprintf(format, args...))
}

func (s *sheet) warn(check, cure, format string, args ...any) *Finding {
	return s.add(check, Warn, cure, fmt.Sprintf(format, args...))
}

func (s *sheet) bad(check, cure, format string, args ...any) *Finding {
	return s.add(check, Bad, cure, fmt.Sprintf(format, args...))
}

func (s *sheet) unknown(check, cure, format string, args ...any) *Finding {
	return s.add(check, Unknown, cure, fmt.Sprintf(format, args...))
}

// with adds a figure to a finding.
func (f *Finding) with(name string, value any) *Finding {
	if f.Values == nil {
		f.Values = map[string]any{}
	}
	switch v := value.(type) {
	case time.Time:
		value = v.UTC().Format(time.RFC3339)
	case time.Duration:
		value = v.Seconds()
	}
	f.Values[name] = value
	return f
}
