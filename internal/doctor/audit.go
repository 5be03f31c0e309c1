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
const scope = "Made by the machine that it is about, at one moment. \"met\" says that the named checks found what the clause asks of this machine, not that the organisation conforms. " +
	"What people, contracts and buildings must do is not judged. This appliance is a non-qualified trust service: its certificates and time stamps are not qualified."

// NewAudit holds a report of a full examination against the clauses. software says that the keys are in SoftHSM2.
func NewAudit(r Report, software bool) Audit {
	a := Audit{Schema: AuditSchema, Scope: scope, Report: r}
	for _, c := range clauses() {
		if c.device && software {
			c.Result, c.Note = NotMet, "keys are in SoftHSM2, which is software: it holds no FIPS 140-3 or Common Criteria certificate and cannot. A certified device is used by token.module."
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
	return map[Verdict]Result{OK: Met, Warn: WithRemarks, Unknown: CouldNotTell, Bad: NotMet}[worst]
}

// clause is a row of the table, before it is judged.
type clause struct {
	Clause
	device bool // it asks for a certified cryptographic device
}

// clauses is the table. A requirement that no check bears on is there all the same: an auditor must see what this machine does not answer.
func clauses() []clause {
	var all []clause
	add := func(framework, reference, requirement, note string, checks ...string) {
		all = append(all, clause{Clause: Clause{Framework: framework, Reference: reference, Requirement: requirement, Checks: checks, Note: note}})
	}
	device := func(framework, reference, requirement string) {
		all = append(all, clause{Clause{Framework: framework, Reference: reference, Requirement: requirement}, true})
	}
	const (
		dspt, dtac             = "DSPT 2025-26", "DTAC v2"
		general, issuing, time = "ETSI EN 319 401", "ETSI EN 319 411-1", "ETSI EN 319 421"
		sandbox, filter        = "services.sandbox", "firewall.active"
	)
	add(dspt, "1.3", "accountability for data protection and security", "")
	add(dspt, "4.2 / CAF B2.a", "who uses the service is identified and authenticated", "log-in is the clinics' realms'; this machine verifies their tokens", "realms.reachable", "certificates.pins")
	add(dspt, "4.4", "privileged access is limited and reviewed", "the review is the organisation's", "permissions.paths", filter)
	add(dspt, "6", "incidents are detected, reported and learnt from", "the process is the organisation's: /usr/share/doc/aes-appliance/operations.md has the duties and the times")
	add(dspt, "CAF B5.c", "backups are made, kept apart and tried", "", "backup.enrolled", "backup.head", "backup.token", "backup.drill")
	add(dspt, "CAF C1.a", "the service is monitored", "that somebody looks at it is the organisation's", "signer.portal", "services.timers")
	add(dspt, "CAF C1.b", "logs are complete, protected and kept", "", "log.recent", "log.whole", "backup.head")
	add(dtac, "C1.2.3", "clinical safety case (DCB0129)", "")
	add(dtac, "C1.3.4", "hazard log (DCB0129)", "")
	add(dtac, "C3.2", "penetration test within twelve months", "")
	add(dtac, "Technical security", "security updates are applied", "", "updates.packages", "updates.lists", "updates.restart")
	add(dtac, "Technical security", "multi-factor authentication", "what a log-in needs is each clinic's policy (appliance clinic policy): the realms make it")
	add(dtac, "Technical security", "data in transit is encrypted", "", "tls.name", "tls.listener")

	add(general, "5, 6.1-6.3", "risk assessment, practice statement, terms, security policy", "templates are in /usr/share/doc/aes-appliance: the operator completes and approves them")
	add(general, "7.1, 7.2", "organisation, staff, trusted roles", "")
	add(general, "7.4", "access control", "", "permissions.paths", sandbox, "services.apparmor")
	device(general, "7.5", "cryptographic keys in a device certified to FIPS 140-3 level 3 or EAL 4")
	add(general, "7.6", "physical and environmental security", "")
	add(general, "7.7", "operation security: integrity, updates, malicious software", "", sandbox, "updates.packages", "updates.restart", "machine.cores", "machine.swap")
	add(general, "7.8", "network security: only what is needed is open", "", filter, "services.sockets")
	add(general, "7.9", "vulnerabilities and incidents are handled; the supervisory body is told within 24 hours", "UK eIDAS Art 19: /usr/share/doc/aes-appliance/operations.md says what, to whom and when")
	add(general, "7.10", "evidence is collected and kept, with the exact time", "", "clock.kernel", "log.recent", "log.whole", "log.witnesses")
	add(general, "7.11", "business continuity", "the plan is the organisation's", "backup.enrolled", "backup.token", "backup.drill", "disk.space", "disk.growth")
	add(general, "7.12", "termination plan", "")

	add(issuing, "6.1", "certificates and status information are published", "", "revocation.root_crl", "revocation.crl")
	add(issuing, "6.2", "subjects are identified before a certificate is issued", "that a person was vetted is recorded by people")
	add(issuing, "6.3.9", "revocation within 24 hours of a request", "the machine revokes at once (appliance cert revoke); who may ask, and who listens at night, is the organisation's")
	add(issuing, "6.3.10", "certificate status services, round the clock", "as of this moment", "revocation.crl", "revocation.ocsp")
	add(issuing, "6.4.5, 6.4.6", "audit logging and archival", "", "log.recent", "log.whole", "backup.head")
	device(issuing, "6.5.1, 6.5.2", "CA keys generated and used in a device certified to FIPS 140-3 level 3 or EAL 4")
	add(issuing, "6.5.1", "root key offline, ceremony under dual control", "that two people were there is in the ceremony's transcript", "permissions.root_token")
	add(issuing, "6.5.2", "CA private keys are backed up, secured", "", "token.files", "token.pin", "token.keys", "backup.token")
	add(issuing, "6.5.3", "keys and certificates are used within their lives", "", "certificates.authorities", "certificates.own")
	add(issuing, "6.5.5, 6.5.7", "computer and network security controls", "", sandbox, filter, "services.sockets")
	add(issuing, "6.6", "certificate, CRL and OCSP profiles", "each is linted before it is signed; what is published was judged as relying parties do", "revocation.crl", "revocation.ocsp")

	device(time, "7.6.2, 7.6.3", "time-stamping keys generated and used in a device certified to FIPS 140-3 level 3 or EAL 4")
	add(time, "7.6.5, 7.6.7", "time-stamping keys are renewed before their end, and then destroyed", "", "certificates.own", "token.keys")
	add(time, "7.7.2", "the clock is within one second of UTC, drift and jumps are detected, and no token is issued otherwise", "", "clock.kernel", "clock.sources")
	add(time, "7.12", "evidence of synchronisation and of tokens is kept", "", "log.recent", "log.whole")
	return all
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
		if c.Note != "" {
			fmt.Fprintf(&b, "  %-20s   %s\n", "", c.Note)
		}
	}
	n := a.Count()
	fmt.Fprintf(&b, "\n%d clauses:", len(a.Clauses))
	for _, r := range []Result{Met, WithRemarks, NotMet, CouldNotTell, NotJudged} {
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
