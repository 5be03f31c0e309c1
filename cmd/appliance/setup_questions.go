package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"
	"os"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
	"github.com/veripath/aes-appliance/internal/signer"
)

// questions are what setup asks a person.
func (r *setupRun) questions() []setup.Item {
	if r.role == config.RoleBackup {
		return backupQuestions()
	}
	return primaryQuestions()
}

func primaryQuestions() []setup.Item {
	is := func(key, value string) func(map[string]string) bool {
		return func(a map[string]string) bool { return a[key] == value }
	}
	set := func(key string) func(map[string]string) bool {
		return func(a map[string]string) bool { return a[key] != "" }
	}
	return []setup.Item{
		{Heading: "Who you are: this goes into certificates"},
		{Key: "pki.organisation", Label: "Your organisation's legal name"},
		{Key: "pki.name", Label: "Short name, for the names of its CAs"},
		{Key: "pki.country", Label: "Country", Default: always("GB")},
		{Key: "pki.organisation_id", Label: "Number in a register"},
		{Key: "pki.policy_arc", Label: "Object identifier of your own"},
		{Heading: "Where you are reached"},
		{Key: "portal.hosts", Label: "Name that booking apps call"},
		{Key: "pki.base_url", Label: "Address in certificates, plain http, for good", Default: func(a map[string]string) string {
			first, _, _ := strings.Cut(strings.TrimSpace(a["portal.hosts"]), " ")
			return "http://" + first
		}},
		{Key: "portal.tls", Label: "TLS certificate: acme, own-ca or files"},
		{Key: "portal.acme_email", Label: "Whom the ACME CA may write to", When: is("portal.tls", config.TLSACME)},
		{Key: "portal.certificate_file", Label: "File of the certificate and its chain", When: is("portal.tls", config.TLSFiles), Needed: true},
		{Key: "setup.tls_key_file", Label: "File of its private key", When: is("portal.tls", config.TLSFiles), Needed: true},
		{Heading: "Key ceremony. Make age identities (age-keygen) on other machines first"},
		{Key: "ceremony.led_by", Label: "Who leads it"},
		{Key: "ceremony.witnesses", Label: "Who watches, semicolons between"},
		{Key: "token.backup_recipients", Label: "age recipients of the keys' backups"},
		{Key: "ceremony.root_recipients", Label: "age recipients of the root, if others"},
		{Heading: "The first clinic (empty: later)"},
		{Key: "clinic.slug", Label: "Short name: a-z, 0-9, hyphens"},
		{Key: "clinic.name", Label: "Name on prescriptions", When: set("clinic.slug"), Needed: true},
		{Key: "clinic.issuer", Label: "Its realm: issuer of its tokens", When: set("clinic.slug")},
		{Key: "clinic.issuer_ca_file", Label: "File of who vouches for its TLS, if not the system", When: set("clinic.issuer")},
		{Key: "clinic.acr", Label: "acr values to sign with", When: set("clinic.slug"), Default: always("2")},
		{Key: "clinic.audiences", Label: "Audiences of tokens", When: set("clinic.slug"), Default: always("aes-portal")},
		{Key: "clinician.name", Label: "Its first clinician's full name", When: set("clinic.slug")},
		{Key: "clinician.register", Label: "Register: GMC, NMC, GDC or GPhC", When: set("clinician.name"), Needed: true},
		{Key: "clinician.number", Label: "Number in it", When: set("clinician.name"), Needed: true},
		{Key: "clinician.sub", Label: "sub of the clinician's tokens", When: set("clinician.name"), Needed: true},
		{Heading: "Backup host (empty: later)"},
		{Key: "backup.address", Label: "Its name or address"},
		{Key: "backup.wait", Label: "How long to wait for it", When: set("backup.address"), Default: always("10m")},
		{Heading: "Firewall"},
		{Key: "setup.firewall", Label: "Put it in force: yes or no"},
		{Key: "firewall.admin_networks", Label: "Where you administer from (ssh)", When: is("setup.firewall", "yes"), Needed: true, Default: administers},
		{Key: "setup.harden", Label: "Harden the machine itself: yes or no"},
	}
}

func always(text string) func(map[string]string) string {
	return func(map[string]string) string { return text }
}

func backupQuestions() []setup.Item {
	set := func(key string) func(map[string]string) bool {
		return func(a map[string]string) bool { return a[key] != "" }
	}
	yes := func(a map[string]string) bool { return a["setup.firewall"] == "yes" }
	return []setup.Item{
		{Heading: "How this host calls for help (at least one way)"},
		{Key: "alarm.command", Label: "Program that is run"},
		{Key: "setup.webhook_file", Label: "File with an https address"},
		{Key: "alarm.mail_server", Label: "Mail server, host:port"},
		{Key: "alarm.mail_from", Label: "Sender", When: set("alarm.mail_server"), Needed: true},
		{Key: "alarm.mail_to", Label: "Who gets the mail", When: set("alarm.mail_server"), Needed: true},
		{Key: "alarm.mail_user", Label: "User at the mail server", When: set("alarm.mail_server")},
		{Key: "setup.mail_password_file", Label: "File with the password", When: set("alarm.mail_user"), Needed: true},
		{Heading: "Firewall"},
		{Key: "setup.firewall", Label: "Put it in force: yes or no"},
		{Key: "firewall.primaries", Label: "Addresses of the primary", When: yes, Needed: true},
		{Key: "firewall.admin_networks", Label: "Where you administer from (ssh)", When: yes, Needed: true, Default: administers},
		{Key: "setup.harden", Label: "Harden the machine itself: yes or no"},
	}
}

// Space that the roles want on their disk at the least: the log and the documents of a small clinic for a year.
const setupSpace = 2 << 30

// examine returns every reason why setup cannot begin; nothing has been changed by then.
func (r *setupRun) examine(ctx context.Context) (setup.Problems, error) {
	needs := setup.Needs{Programs: []string{"/usr/bin/systemd-creds"}, State: stateRoot, Space: setupSpace, Clock: !r.answers.Config.Setup.Demo, MaxError: clock.MaxAllowedError}
	own, other := r.examineBackup, config.Path
	if needs.Users = []string{receiverUser}; r.role == config.RolePrimary {
		needs.Users = []string{signerUser, "aes-portal"}
		needs.MaxError, needs.Clock = r.answers.Config.Clock.MaxError, r.answers.Config.Clock.Mode == clock.System
		if r.answers.Config.Portal.TLS == config.TLSACME {
			needs.Names = r.answers.Config.Portal.Hosts
		}
		own, other = r.examinePrimary, config.ReceiverPath
	}
	if r.host.Root != "" { // a folder instead of a machine: its programs are this machine's
		needs.Programs, needs.Users = nil, nil
	}
	problems := r.host.Examine(ctx, needs, func(what string) { r.tell(what) })
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.host.Has(other) {
		problems = append(problems, setup.Problem{Text: r.host.Path(other) + " is there: this host has the other role",
			Cure: "a backup on the same machine protects nothing; set this role up on another"})
	}
	return append(append(problems, r.differences()...), own(ctx)...), nil
}

func (r *setupRun) tell(what string) { _, _ = r.stdout.Write([]byte(what + "\n")) }

// examinePrimary looks at what the answers name, and at what is there of an appliance.
func (r *setupRun) examinePrimary(context.Context) (problems setup.Problems) {
	add := func(err error, cure string) {
		if err != nil {
			problems = append(problems, setup.Problem{Text: fault.PublicOf(err), Cure: cure})
		}
	}
	told := r.answers.Config
	s := told.Setup
	if s.RootIdentity != "" {
		add(goodIdentity(s.RootIdentity), "ceremony.root_identity_file names a file of age-keygen's")
	}
	if s.IssuerCA != "" {
		_, err := readCertificates(s.IssuerCA)
		add(err, "clinic.issuer_ca_file names a PEM file")
	}
	if told.Portal.TLS == config.TLSFiles && !r.host.Has(tlsKeyCredential().Path()) {
		if _, err := tls.LoadX509KeyPair(told.Portal.CertificateFile, s.TLSKey); err != nil {
			add(fault.New(fault.Invalid, "portal.certificate_file and setup.tls_key_file are not a certificate and its key"+reason(err)), "name two PEM files that belong together")
		}
	}
	r.examineAlarm(add)
	state := told.StateDir
	if fixed, is := r.fixed["state_dir"].(string); is {
		state = fixed
	}
	r.cfg.StateDir = state
	switch there, err := signer.Founded(state); {
	case err != nil:
		add(err, fault.HintOf(err))
	case there && !r.founded():
		add(fault.New(fault.Conflict, "there is something in "+state+", and it is no appliance"), "look what it is; setup removes nothing")
	case there && !r.host.Has(pinCredential().Path()):
		err := noPINLeft(r.host.Path(pinCredential().Path()))
		add(err, fault.HintOf(err))
	}
	return problems
}

func goodIdentity(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return unreadable(file, err)
	}
	defer f.Close()
	if _, err := age.ParseIdentities(f); err != nil {
		return fault.New(fault.Invalid, file+" holds no age identity").WithCause(err)
	}
	return nil
}

// examineBackup looks at what the answers name.
func (r *setupRun) examineBackup(context.Context) (problems setup.Problems) {
	add := func(err error, cure string) {
		if err != nil {
			problems = append(problems, setup.Problem{Text: fault.PublicOf(err), Cure: cure})
		}
	}
	r.examineAlarm(add)
	s := r.answers.Config.Setup
	if s.Join != "" && s.Join != "-" && !r.host.Has(setupAnswers) { // a code that was taken in an earlier run may be gone, or over
		text, err := os.ReadFile(s.Join)
		if err != nil {
			err = unreadable(s.Join, err)
		} else if checkJoin(text, time.Now()) != nil {
			err = fault.New(fault.Invalid, s.Join+" holds no join code that is good now")
		}
		add(err, "have the primary print one: appliance backup enrol --to this host")
	}
	return problems
}

// examineAlarm looks at the files that hold the alarm's secrets.
func (r *setupRun) examineAlarm(add func(err error, cure string)) {
	s := r.answers.Config.Setup
	if s.Webhook != "" && !r.host.Has(alarmCredential(r.role, "webhook").Path()) {
		add(goodWebhook(s.Webhook), "setup.webhook_file names a file that holds one https address")
	}
	if s.MailPassword == "" || r.host.Has(alarmCredential(r.role, "mail-password").Path()) {
		return
	}
	text, err := os.ReadFile(s.MailPassword)
	if err == nil && len(strings.TrimSpace(string(text))) == 0 {
		err = errors.New("empty")
	}
	clear(text)
	if err != nil {
		add(unreadable(s.MailPassword, err), "setup.mail_password_file names a file that holds the password")
	}
}

func goodWebhook(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return unreadable(file, err)
	}
	if u, err := url.Parse(strings.TrimSpace(string(text))); err != nil || u.Scheme != "https" || u.Host == "" {
		return fault.New(fault.Invalid, file+" holds no https address")
	}
	return nil
}
