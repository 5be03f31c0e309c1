package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Role is what a host is set up as.
type Role string

// The two roles.
const (
	RolePrimary Role = "primary"
	RoleBackup  Role = "backup"
)

// Answers is what "appliance setup" is told: values of the configuration file that it writes, and what goes into no file. Every value in one that ParseAnswers returned is valid.
type Answers struct {
	Role   Role
	Config Config // as the file that setup writes will say, and Config.Setup
	given  map[ref]any
}

// Setup is what setup is told that goes into no configuration file.
type Setup struct {
	Demo           bool
	LedBy          string
	Witnesses      []string
	RootRecipients []string // none: those of the token's backups
	RootIdentity   string   // file, absolute; "" = none is offered
	Clinic         string   // slug; "" = none
	ClinicName     string
	ACR            []string // none: the default policy's
	Audiences      []string // none: the default policy's
	Issuer         string   // "" = none
	IssuerCA       string   // file, absolute; "" = the system's
	Clinician      string   // common name; "" = none
	Register       string
	Number         string
	Sub            string
	BackupHost     string // host[:port]; "" = none
	BackupWait     time.Duration
	TLSKey         string // file, absolute, with tls = "files"
	Join           string // file, absolute; "" = none
	Webhook        string // file, absolute; "" = none
	MailPassword   string // file, absolute; "" = none
	Confine        bool   // put the firewall in force
	Harden         bool   // set what makes the machine harder to break into
}

// answers is the document of the answers for a role.
func answers(role Role) document {
	doc, own := file(role), primaryAnswers()
	first := []section{
		{"setup", "How this host is set up."},
		{"ceremony", "The key ceremony: the root's key is made, used, sealed to its keepers, and is then no longer on this machine."},
		{"clinic", "The first clinic, and its realm. Leave it out to register clinics later: appliance clinic, appliance realm."},
		{"clinician", "The first clinician. Leave it out to issue certificates later: appliance cert issue."},
		{"backup", "The backup host. Leave it out to enrol one later: appliance backup enrol."},
	}
	if role == RoleBackup {
		own = backupAnswers()
		first = []section{{"setup", "How this host is set up."}}
	}
	agree := doc.agree
	return document{
		title: "# Answers for: appliance setup --role " + string(role) + " --answers FILE\n" +
			"# Every other key of the configuration file may stand here too, in its section (\"" + doc.tool() + " example\").\n" +
			"# Relative paths are taken from this file's folder. No secret is in this file.\n",
		sections: slices.Concat(first, doc.sections),
		keys:     slices.Concat(own, answered(doc.keys)),
		agree: func(c Config) Problems {
			doc.settle(role, &c)
			return slices.Concat(agree(c), c.Setup.agree(c, role))
		},
	}
}

// settle sets what nobody is asked for.
func (doc document) settle(role Role, c *Config) {
	secrets := c.Setup.secrets(role)
	for _, k := range doc.keys {
		value, is := settled()[k.ref()]
		if !is {
			continue
		}
		if value == nil {
			value = k.fallback
		}
		if secret, given := secrets[k.ref()]; given {
			value = secret
		}
		if err := k.set(c, value); err != nil {
			panic(fmt.Sprintf("config: setup's value of %v %v", k.ref(), err))
		}
	}
}

// secrets are where the services find what setup encrypts for them.
func (s Setup) secrets(role Role) map[ref]any {
	m, calls := map[ref]any{}, "/run/credentials/aes-doctor.service/" // who calls for help
	if role == RoleBackup {
		calls = "/run/credentials/aes-receiver.service/"
	}
	for r, one := range map[ref][2]string{
		{"portal", "key_file"}:          {s.TLSKey, "/run/credentials/aes-portal.service/tls-key"},
		{"alarm", "webhook_file"}:       {s.Webhook, calls + "webhook"},
		{"alarm", "mail_password_file"}: {s.MailPassword, calls + "mail-password"},
	} {
		if one[0] != "" {
			m[r] = one[1]
		}
	}
	return m
}

// file is the configuration file of a role.
func file(role Role) document {
	if role == RoleBackup {
		return receiver()
	}
	return appliance()
}

func (doc document) tool() string {
	if slices.Contains(doc.sectionNames(), "witness") {
		return "appliance receiver config"
	}
	return "appliance config"
}

// settled are keys that the units decide, or a credential: setup writes them, and nobody is asked. With them their values on a real host.
func settled() map[ref]any {
	return map[ref]any{
		{"", "state_dir"}: nil, {"", "listen"}: nil,
		{"token", "module"}: nil, {"token", "label"}: nil, {"token", "pin_file"}: "/run/credentials/aes-signer.service/token-pin",
		{"signer", "portal_socket"}: nil, {"signer", "admin_socket"}: nil, {"signer", "portal_group"}: "aes-portal",
		{"portal", "state_dir"}: nil, {"portal", "listen"}: nil, {"portal", "listen_http"}: nil, {"portal", "listen_metrics"}: nil, {"portal", "key_file"}: nil,
		{"alarm", "webhook_file"}: nil, {"alarm", "mail_password_file"}: nil,
	}
}

// answered are the keys of a configuration file as answers: without those that are settled, and with some that setup cannot do without.
func answered(keys []key) []key {
	var list []key
	for _, k := range keys {
		value, is := settled()[k.ref()]
		switch {
		case is && value == nil && k.mandatory():
			panic("config: " + k.ref().String() + " must be set, and setup does not know to what")
		case is:
			continue
		}
		if slices.Contains([]ref{{"token", "backup_recipients"}, {"portal", "hosts"}}, k.ref()) {
			k.fallback = nil
		}
		list = append(list, k)
	}
	return list
}

// ParseAnswers reads answers; relative paths in them are taken from dir, unless that is empty. The error is Problems.
func ParseAnswers(role Role, data []byte, dir string) (Answers, error) {
	doc := answers(role)
	cfg, err := doc.parse(data, dir)
	if err != nil {
		return Answers{}, err
	}
	file(role).settle(role, &cfg)
	given, problems := doc.decode(data)
	if len(problems) > 0 {
		return Answers{}, problems
	}
	for _, k := range doc.keys {
		if path, isText := given[k.ref()].(string); isText {
			given[k.ref()] = k.from(dir, path)
		}
	}
	return Answers{Role: role, Config: cfg, given: given}, nil
}

// Text is the answers as a file: ParseAnswers(a.Role, a.Text(), "") == a.
func (a Answers) Text() []byte {
	var b strings.Builder
	section := ""
	for _, top := range []bool{true, false} { // keys without a section come first, or they would be of the section before
		for _, k := range answers(a.Role).keys {
			value, there := a.given[k.ref()]
			if !there || top != (k.section == "") {
				continue
			}
			if k.section != section {
				section = k.section
				fmt.Fprintf(&b, "[%s]\n", section)
			}
			fmt.Fprintf(&b, "%s = %s\n", k.name, literal(value))
		}
	}
	return []byte(b.String())
}

// Value is what was answered to a key, as a person types it; "" when it was left out.
func (a Answers) Value(name string) string {
	for r, v := range a.given {
		if r.String() == name {
			return plain(v)
		}
	}
	return ""
}

// File is the configuration file that follows from a: with every key documented, and those set that were given or that fixed, by "section.key", says.
func (a Answers) File(fixed map[string]any) []byte {
	doc := file(a.Role)
	values := maps.Clone(a.given)
	for _, k := range doc.keys {
		if value := settled()[k.ref()]; value != nil {
			values[k.ref()] = value
		}
		if value, is := a.Config.Setup.secrets(a.Role)[k.ref()]; is {
			values[k.ref()] = value
		}
		if value, is := fixed[k.ref().String()]; is {
			values[k.ref()] = value
		}
	}
	return []byte(doc.write("# Written by \"appliance setup\", once: it is yours to change now.\n", nil, values))
}

// AnswersExample returns a documented answers file: what setup asks, each key commented out.
func AnswersExample(role Role) string {
	doc := answers(role)
	asked := slices.Concat(primaryAsked(), backupAsked())
	return doc.write("", func(k key) bool { return k.mandatory() || slices.Contains(asked, k.ref()) || doc.ownAnswer(role, k) }, nil)
}

func (doc document) ownAnswer(role Role, k key) bool {
	own := primaryAnswers()
	if role == RoleBackup {
		own = backupAnswers()
	}
	return slices.ContainsFunc(own, func(o key) bool { return o.ref() == k.ref() })
}

// primaryAsked and backupAsked are the keys of the configuration files that setup asks for though they need not be set.
func primaryAsked() []ref {
	return []ref{{"pki", "organisation_id"}, {"portal", "tls"}, {"portal", "acme_directory"}, {"portal", "acme_email"}, {"portal", "acme_roots_file"}, {"portal", "certificate_file"}, {"clock", "mode"},
		{"alarm", "mail_server"}, {"alarm", "mail_from"}, {"alarm", "mail_to"}, {"alarm", "mail_user"}, {"firewall", "admin_networks"}, {"replication", "required"}}
}

func backupAsked() []ref {
	return []ref{{"alarm", "command"}, {"alarm", "mail_server"}, {"alarm", "mail_from"}, {"alarm", "mail_to"}, {"alarm", "mail_user"},
		{"firewall", "admin_networks"}, {"firewall", "primaries"}}
}

// Question is one answer as a person is asked for it.
type Question struct {
	Key       string // "section.key"
	Doc       string
	Example   string
	Default   string
	Mandatory bool
	key       key
}

// Ask returns the question of that key, false when the role has none.
func Ask(role Role, name string) (Question, bool) {
	for _, k := range answers(role).keys {
		if k.ref().String() != name {
			continue
		}
		q := Question{Key: name, Doc: k.doc, Example: plain(k.example), Mandatory: k.mandatory(), key: k}
		if !q.Mandatory {
			q.Default = plain(k.fallback)
		}
		return q, true
	}
	return Question{}, false
}

func plain(v any) string {
	if b, ok := v.(bool); ok {
		if b {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprint(v)
}

// Line checks what a person typed, and returns it as a line of an answers file, with what was understood: yes for y.
func (q Question) Line(typed string) (line, understood string, err error) {
	var value any = typed
	switch q.key.example.(type) {
	case bool:
		b, ok := map[string]bool{"yes": true, "y": true, "true": true, "no": false, "n": false, "false": false}[strings.ToLower(typed)]
		if !ok {
			return "", "", errors.New("is not yes or no")
		}
		value = b
	case int64:
		n, err := strconv.ParseInt(typed, 10, 64)
		if err != nil {
			return "", "", errors.New("is not a whole number")
		}
		value = n
	}
	if s, isText := value.(string); isText && (!utf8.ValidString(s) || len(s) > maxLine-64 || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })) {
		return "", "", errors.New("is longer than any value, or no printable text")
	}
	var c Config
	if err := q.key.set(&c, value); err != nil {
		return "", "", err
	}
	return q.key.name + " = " + literal(value), plain(value), nil
}

// Differences names the keys that the configuration file data says otherwise than a, of those that a gives: setup does not change a file that is there.
func (a Answers) Differences(data []byte) ([]string, error) {
	doc := file(a.Role)
	values, problems := doc.decode(data)
	if len(problems) > 0 {
		return nil, problems
	}
	var list []string
	for _, k := range doc.keys {
		given, there := a.given[k.ref()]
		if !there {
			continue
		}
		value, set := values[k.ref()]
		if !set {
			value = k.fallback
		}
		if value != given {
			list = append(list, k.ref().String())
		}
	}
	return list, nil
}
