package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Result is how a clause of a framework stands, as far as this machine can tell.
type Result string

// Results. None of them is a certification: an auditor judges, and this is what the machine has to show.
const (
	Met          Result = "met"                        // every check that bears on it is ok
	InPart       Result = "met in part"                // the same, and the rest of the clause is nothing that this machine can judge
	WithRemarks  Result = "met, with remarks"          // and some are warnings
	NotMet       Result = "not met"                    // a check is bad; or it cannot be met by how this appliance is built
	CouldNotTell Result = "could not be judged"        // a check came to nothing
	NotJudged    Result = "not judged by this machine" // it is about people, contracts, buildings or documents
)

// Clause is one requirement of a framework, and what bears on it here.
type Clause struct {
	Framework   string   `json:"framework"`
	Reference   string   `json:"reference"`
	Requirement string   `json:"requirement"` // in short, in our words
	Result      Result   `json:"result"`
	Checks      []string `json:"checks,omitempty"` // of the examination, that it rests on
	Rest        string   `json:"rest,omitempty"`   // what the clause asks besides, and no check sees
	Note        string   `json:"note,omitempty"`
}

// Audit is an examination held against the frameworks that the appliance's auditors ask by.
type Audit struct {
	Schema  string   `json:"schema"`
	Scope   string   `json:"scope"`
	Clauses []Clause `json:"clauses"`
	Report  Report   `json:"report"`
}

// AuditSchema names the form of an Audit; what is signed holds one as "examined".
const AuditSchema = "aes-examined/1"

// scope is said in every audit, for whoever reads nothing else of it.
const scope = "Made by the machine that it is about, at one moment. \"met\" says that the named checks found what the clause asks of this machine, \"met in part\" that the clause asks for more, which they do not see. " +
	"Neither says that the organisation conforms: what people, contracts and buildings must do is not judged. This appliance is a non-qualified trust service: its certificates and time stamps are not qualified."

// NewAudit holds a report of a full examination against the clauses. software says that the keys are in SoftHSM2.
func NewAudit(r Report, software bool) Audit {
	a := Audit{Schema: AuditSchema, Scope: scope, Report: r}
	for _, c := range clauses() {
		if c.device && software {
			c.Result, c.Note = NotMet, "keys are in SoftHSM2, which is software: it holds no FIPS 140-3 or Common Criteria certificate and cannot. A certified device is used by token.module"
		} else if c.device {
			c.Result, c.Note = NotJudged, "keys are in a vendor's device: its certificate is to be shown by the vendor"
		} else {
			c.Result = resultOf(r, c.Clause)
		}
		a.Clauses = append(a.Clauses, c.Clause)
	}
	return a
}

// resultOf is what a clause's checks came to.
func resultOf(r Report, c Clause) Result {
	if len(c.Checks) == 0 {
		return NotJudged
	}
	worst := OK
	for _, check := range c.Checks {
		made := false
		for _, f := range r.Findings {
			if f.Check == check {
				made = true
				if f.Verdict.rank() > worst.rank() {
					worst = f.Verdict
				}
			}
		}
		if !made && !(check == "log.witnesses") && worst.rank() < Unknown.rank() { // witnesses are checked only where there are any
			worst = Unknown
		}
	}
	if worst == OK && c.Rest != "" {
		return InPart
	}
	return map[Verdict]Result{OK: Met, Warn: WithRemarks, Unknown: CouldNotTell, Bad: NotMet}[worst]
}

// clause is a row of the table, before it is judged.
type clause struct {
	Clause
	device bool // it asks for a certified cryptographic device
}

// clauses is the table. A requirement that no check bears on is there all the same: an auditor must see what this machine does not answer.
func clauses() []clause {
	return slices.Concat(ofTheNHS(), ofProviders(), ofIssuing(), ofTimeStamping())
}

// table collects the clauses of one framework after another.
type table struct {
	framework string
	clauses   []clause
}

// seen adds a clause that checks bear on; rest is what it asks besides, "" for nothing.
func (t *table) seen(reference, requirement, rest string, checks ...string) {
	t.clauses = append(t.clauses, clause{Clause: Clause{Framework: t.framework, Reference: reference, Requirement: requirement, Rest: rest, Checks: checks}})
}

// unseen adds a clause that this machine cannot judge.
func (t *table) unseen(reference, requirement, note string) {
	t.clauses = append(t.clauses, clause{Clause: Clause{Framework: t.framework, Reference: reference, Requirement: requirement, Note: note}})
}

// device adds a clause that asks for a certified cryptographic device.
func (t *table) device(reference, requirement string) {
	t.clauses = append(t.clauses, clause{Clause{Framework: t.framework, Reference: reference, Requirement: requirement}, true})
}

// What stands in more than one row.
const (
	sandbox, filter = "services.sandbox", "firewall.active"
	runbook         = "/usr/share/doc/aes-appliance/operations.md"
	kept            = "for how long it is kept, which is the operator's to lay down"
)

// What the NHS asks of suppliers of software.
func ofTheNHS() []clause {
	t := table{framework: "DSPT 2025-26"}
	t.unseen("1.3", "accountability for data protection and security", "")
	t.seen("4.2 / CAF B2.a", "who uses the service is identified and authenticated", "how strongly, which each clinic's realm and policy decide; the checks see that tokens can be verified", "realms.reachable", "certificates.pins")
	t.seen("4.4", "privileged access is limited and reviewed", "who has it, by which log-in, and its review", "permissions.paths", filter)
	t.unseen("6", "incidents are detected, reported and learnt from", "the process is the organisation's: "+runbook+" has the duties and the times")
	t.seen("CAF B5.c", "backups are made, kept apart and tried", "", "backup.enrolled", "backup.head", "backup.token", "backup.drill")
	t.seen("CAF C1.a", "the service is monitored", "that somebody looks at it, day and night", "signer.portal", "services.timers")
	t.seen("CAF C1.b", "logs are complete, protected and kept", kept, "log.recent", "log.whole", "backup.head")

	t.framework = "DTAC v2"
	t.unseen("C1.2.3", "clinical safety case (DCB0129)", "")
	t.unseen("C1.3.4", "hazard log (DCB0129)", "")
	t.unseen("C3.2", "penetration test within twelve months", "")
	t.seen("Technical security", "security updates are applied", "updates of what is linked into the program, which come with its own package", "updates.packages", "updates.lists", "updates.restart")
	t.unseen("Technical security", "multi-factor authentication", "what a log-in needs is each clinic's policy (appliance clinic policy): the realms make it")
	t.seen("Technical security", "data in transit is encrypted", "", "tls.name", "tls.listener")
	return t.clauses
}

// What every trust service provider must.
func ofProviders() []clause {
	t := table{framework: "ETSI EN 319 401"}
	t.unseen("5, 6.1-6.3", "risk assessment, practice statement, terms, security policy", "templates are in /usr/share/doc/aes-appliance: the operator completes, approves and publishes them")
	t.unseen("7.1-7.3", "organisation, staff, trusted roles, assets", "")
	t.seen("7.4", "access control", "who has access, and why", "permissions.paths", sandbox, "services.overrides", "services.apparmor")
	t.device("7.5", "controls over cryptographic keys and devices throughout their lives; EN 319 411-1 and 421 say which: certified to FIPS 140-3 level 3 or EAL 4")
	t.unseen("7.6", "physical and environmental security", "")
	t.seen("7.7", "operation security: integrity, updates, malicious software", "procedures of change", sandbox, "updates.packages", "updates.restart", "machine.cores", "machine.swap")
	t.seen("7.8", "network security: only what is needed is open", "scans for vulnerabilities and penetration tests", filter, "services.sockets")
	t.unseen("7.9", "vulnerabilities and incidents are handled; the supervisory body is told within 24 hours", "UK eIDAS Art 19: "+runbook+" says what, to whom and when")
	t.seen("7.10", "evidence is collected and kept, with the exact time", kept, "clock.kernel", "log.recent", "log.whole", "log.witnesses")
	t.seen("7.11", "business continuity", "the plan", "backup.enrolled", "backup.token", "backup.drill", "disk.space", "disk.growth")
	t.unseen("7.12, 7.13", "termination plan, compliance with law", "")
	return t.clauses
}

// What those must who issue certificates.
func ofIssuing() []clause {
	t := table{framework: "ETSI EN 319 411-1"}
	t.seen("6.1", "certificates and status information are published", "that practice statement and terms are", "revocation.root_crl", "revocation.crl")
	t.unseen("6.2", "subjects are identified before a certificate is issued", "that a person was vetted is recorded by people")
	t.unseen("6.3.9", "revocation within 24 hours of a request", "the machine revokes at once (appliance cert revoke); who may ask, and who listens at night, is the organisation's")
	t.seen("6.3.10", "certificate status services, round the clock", "any other moment than this", "revocation.crl", "revocation.ocsp")
	t.unseen("6.4.2-6.4.4", "physical, procedural and personnel controls", "")
	t.seen("6.4.5, 6.4.6", "audit logging and archival", kept, "log.recent", "log.whole", "backup.head")
	t.unseen("6.4.7-6.4.9", "change of a CA's key, compromise and disaster, termination", "/usr/share/doc/aes-appliance/keys.md and operations.md say how the first two are done; that somebody can is practice")
	t.device("6.5.1, 6.5.2", "CA keys generated and used in a device certified to FIPS 140-3 level 3 or EAL 4")
	t.seen("6.5.1", "root key offline, ceremony under dual control", "that two people were there: the ceremony's transcript, which they signed", "permissions.root_token")
	t.seen("6.5.2", "CA private keys are backed up, secured", "where the identities that open the backup are", "token.files", "token.pin", "token.keys", "backup.token")
	t.seen("6.5.3", "keys and certificates are used within their lives", "", "certificates.authorities", "certificates.own", "certificates.clinicians")
	t.seen("6.5.5, 6.5.7", "computer and network security controls", "scans for vulnerabilities and penetration tests", sandbox, filter, "services.sockets")
	t.seen("6.6", "certificate, CRL and OCSP profiles", "the profile of each certificate, which is linted before it is signed and not examined here", "revocation.crl", "revocation.ocsp")
	t.unseen("6.7, 6.8", "compliance audit; business and legal matters", "")
	return t.clauses
}

// What time-stamping authorities must.
func ofTimeStamping() []clause {
	t := table{framework: "ETSI EN 319 421"}
	t.unseen("5, 6", "time-stamp policy, practice and disclosure statement, terms", "a template is /usr/share/doc/aes-appliance/tsa-policy.md: the operator completes, approves and publishes it")
	t.device("7.6.2, 7.6.3", "time-stamping keys generated and used in a device certified to FIPS 140-3 level 3 or EAL 4")
	t.seen("7.6.5, 7.6.7", "time-stamping keys are renewed before their end, and then destroyed", "that old ones were destroyed: lines key_destroyed of the log", "certificates.own", "token.keys")
	t.unseen("7.7.1", "what a time stamp holds", "report.json.tsr beside this report is one: openssl ts -reply -in report.json.tsr -text")
	t.seen("7.7.2", "the clock is within one second of UTC, drift and jumps are detected, and no token is issued otherwise", "that the sources are traceable to a laboratory of UTC(k)", "clock.kernel", "clock.sources")
	t.seen("7.12", "evidence of synchronisation and of tokens is kept", kept, "log.recent", "log.whole")
	t.unseen("7.8-7.11, 7.13-7.15", "what EN 319 401 asks of every provider", "see there")
	return t.clauses
}

// Count returns how many clauses have each result.
func (a Audit) Count() map[Result]int {
	n := map[Result]int{}
	for _, c := range a.Clauses {
		n[c.Result]++
	}
	return n
}

// WriteText writes an audit for people: the scope, the clauses by framework, and the whole report after them.
func (a Audit) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Examination of %s (%s), version %s, %s\n\n%s\n", a.Report.Host, a.Report.Role, a.Report.Version, a.Report.At.Format("2006-01-02 15:04:05Z"), wrap(a.Scope, 110))
	framework := ""
	for _, c := range a.Clauses {
		if c.Framework != framework {
			framework = c.Framework
			fmt.Fprintf(&b, "\n%s\n", framework)
		}
		fmt.Fprintf(&b, "  %-20s %s\n  %-20s   %s", c.Reference, c.Requirement, "", strings.ToUpper(string(c.Result)))
		if len(c.Checks) > 0 {
			fmt.Fprintf(&b, " (%s)", strings.Join(c.Checks, ", "))
		}
		b.WriteString("\n")
		if c.Rest != "" {
			fmt.Fprintf(&b, "  %-20s   not judged: %s\n", "", c.Rest)
		}
		if c.Note != "" {
			fmt.Fprintf(&b, "  %-20s   %s\n", "", c.Note)
		}
	}
	n := a.Count()
	fmt.Fprintf(&b, "\n%d clauses:", len(a.Clauses))
	for _, r := range []Result{Met, InPart, WithRemarks, NotMet, CouldNotTell, NotJudged} {
		fmt.Fprintf(&b, " %d %s;", n[r], r)
	}
	b.WriteString("\n\nWhat was examined\n\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return a.Report.WriteText(w)
}

// wrap breaks a text into lines of at most so many bytes, at spaces.
func wrap(text string, width int) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(slices.Concat(lines, []string{line}), "\n")
}
