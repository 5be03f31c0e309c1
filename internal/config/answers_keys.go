package config

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
)

// told sets a field of Setup.
func told(check func(string) (string, error), at func(*Setup) *string) func(*Config, any) error {
	return text(check, func(c *Config) *string { return at(&c.Setup) })
}

func confine() key {
	return key{"setup", "firewall", "Put the firewall in force: all is denied but what this role needs (\"appliance firewall show\"). ssh stays open to firewall.admin_networks.",
		true, true, flag(func(c *Config) *bool { return &c.Setup.Confine })}
}

func harden() key {
	return key{"setup", "harden", "Harden the machine, which is for this alone: kernel settings, protocols that nobody needs, ssh without forwarding of X11 and agents. Each is a file of its own; who may log in stays as it is.",
		true, true, flag(func(c *Config) *bool { return &c.Setup.Harden })}
}

// primaryAnswers are the answers for a primary that go into no configuration file.
func primaryAnswers() []key {
	return slices.Concat([]key{
		{"setup", "demo", "For trying it out: all that the appliance makes is marked as a demo for good, its clock need not be proven (clock.mode), and its realms may be on loopback.",
			true, false, flag(func(c *Config) *bool { return &c.Setup.Demo })},
		confine(),
		harden(),
		{"setup", "tls_key_file", "With portal.tls = \"files\": the private key (PEM) of portal.certificate_file. It is encrypted for the portal's service; remove the file afterwards.",
			"/root/tls-key.pem", "", told(optional(absolute), func(s *Setup) *string { return &s.TLSKey })},
	}, alarmAnswers(), []key{
		{"ceremony", "led_by", "Who holds the key ceremony: for its transcript.", "Ada Example, operations", nil, told(upTo(100), func(s *Setup) *string { return &s.LedBy })},
		{"ceremony", "witnesses", "Who watches, with semicolons between: each gets a line to sign in the transcript.", "Ben Example, director; Cleo Example, auditor", "",
			func(c *Config, value any) (err error) {
				c.Setup.Witnesses, err = people(value)
				return err
			}},
		{"ceremony", "root_recipients", "Who can open the sealed root: age recipients, separated by spaces. Empty: those of token.backup_recipients.",
			"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "", texts(ageRecipient, func(c *Config, each []string) { c.Setup.RootRecipients = each })},
		{"ceremony", "root_identity_file", "File of one of their identities, when the sealed root is to be opened once as a check. That identity is then on this machine: only for a rehearsal.",
			"/root/identity.txt", "", told(optional(absolute), func(s *Setup) *string { return &s.RootIdentity })},
	}, clinicAnswers(), []key{
		{"backup", "address", "The backup host, as host or host:port. Setup prints the code with which it joins.", "backup.example.org", "",
			told(optional(backupAddress), func(s *Setup) *string { return &s.BackupHost })},
		{"backup", "wait", "How long setup waits for the backup host to join and catch up: 0s to 30m. The code is good for 30 minutes.", "10m", "0s",
			duration(0, 30*time.Minute, func(c *Config) *time.Duration { return &c.Setup.BackupWait })},
	})
}

func clinicAnswers() []key {
	return []key{
		{"clinic", "slug", "Short name of the clinic: a-z, 0-9 and hyphens.", "wharf-lane", "", told(optional(slug), func(s *Setup) *string { return &s.Clinic })},
		{"clinic", "name", "Its name, as prescriptions show it.", "Wharf Lane Clinic", "", told(optional(upTo(64)), func(s *Setup) *string { return &s.ClinicName })},
		{"clinic", "issuer", "Its realm: the issuer, exactly as tokens have it in iss.", "https://sso.example.org/realms/wharf-lane", "",
			told(optional(webURL), func(s *Setup) *string { return &s.Issuer })},
		{"clinic", "issuer_ca_file", "PEM file of the only authorities that may vouch for the realm's TLS. Empty: the system's.", "/root/realm-ca.pem", "",
			told(optional(absolute), func(s *Setup) *string { return &s.IssuerCA })},
		{"clinic", "acr", "Values of acr that are good enough to sign with, separated by spaces. Empty: 2.", "2 3", "", texts(upTo(200), func(c *Config, each []string) { c.Setup.ACR = each })},
		{"clinic", "audiences", "Values of aud, one of which a token needs, separated by spaces. Empty: aes-portal.", "aes-portal", "",
			texts(upTo(200), func(c *Config, each []string) { c.Setup.Audiences = each })},
		{"clinician", "name", "Full name, exactly as the booking app sends it.", "Dr Ada Example", "", told(optional(upTo(64)), func(s *Setup) *string { return &s.Clinician })},
		{"clinician", "register", "Professional register: GMC, NMC, GDC or GPhC.", "GMC", "", told(optional(oneOf("GMC", "NMC", "GDC", "GPhC")), func(s *Setup) *string { return &s.Register })},
		{"clinician", "number", "Registration number in it.", "7654321", "", told(optional(upTo(32)), func(s *Setup) *string { return &s.Number })},
		{"clinician", "sub", "Whom the clinic's realm knows the clinician as: the sub of their tokens. The certificate signs for nobody else.",
			"f:8c1f5c52:ada", "", told(optional(upTo(255)), func(s *Setup) *string { return &s.Sub })},
	}
}

// backupAnswers are the answers for a backup host that go into no configuration file.
func backupAnswers() []key {
	return slices.Concat([]key{
		{"setup", "demo", "For trying it out: this host's clock need not be proven.", true, false, flag(func(c *Config) *bool { return &c.Setup.Demo })},
		confine(),
		harden(),
		{"setup", "join_file", "File with the code that \"appliance backup enrol\" or setup printed on the primary; - is standard input. Empty: it is told later, with \"appliance receiver --join -\".",
			"/root/join-code", "", told(optional(fileOrDash), func(s *Setup) *string { return &s.Join })},
	}, alarmAnswers())
}

// alarmAnswers are the secrets of how a host calls for help.
func alarmAnswers() []key {
	return []key{
		{"setup", "webhook_file", "File with the https address to which alarms go. It is encrypted for the service; remove the file afterwards. Empty: none.",
			"/root/webhook", "", told(optional(absolute), func(s *Setup) *string { return &s.Webhook })},
		{"setup", "mail_password_file", "File with the password of alarm.mail_user. It is encrypted for the service; remove the file afterwards. Empty: none.",
			"/root/mail-password", "", told(optional(absolute), func(s *Setup) *string { return &s.MailPassword })},
	}
}

func fileOrDash(s string) (string, error) {
	if s == "-" {
		return s, nil
	}
	return absolute(s)
}

var addressForm = regexp.MustCompile(`:[0-9]+$`)

// backupAddress accepts what "backup enrol --to" does.
func backupAddress(s string) (string, error) {
	if addressForm.MatchString(s) && !strings.Contains(strings.TrimRight(s, "0123456789"), "::") {
		return hostPort(s)
	}
	clean, err := host(s)
	if err != nil {
		return "", errors.New("is not a host name or address, with or without a port")
	}
	return clean, nil
}

// people are names with semicolons between.
func people(value any) ([]string, error) {
	s, ok := value.(string)
	if !ok {
		return nil, errors.New("is not a text in quotes")
	}
	var list []string
	for one := range strings.SplitSeq(s, ";") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		if _, err := upTo(100)(one); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	if len(list) > 12 {
		return nil, errors.New("names more than 12 people")
	}
	return list, nil
}

// agree checks what no answer can be judged for alone.
func (s Setup) agree(c Config, role Role) (problems Problems) {
	add := func(wrong bool, key, text, cure string) {
		if wrong {
			problems = append(problems, Problem{Key: key, Text: text, Cure: cure})
		}
	}
	filter := c.Firewall
	if role == RoleBackup {
		filter = c.Receiver.Firewall
	}
	add(s.Confine && len(filter.AdminNetworks) == 0, "firewall.admin_networks", "is empty, and the firewall is to be put in force: nobody could log in over ssh",
		"name the addresses that you administer from, or set setup.firewall = false")
	calls := c.Alarm
	if role == RoleBackup {
		calls = c.Receiver.Alarm
	}
	add((s.MailPassword == "") != (calls.MailUser == ""), "setup.mail_password_file", "goes with alarm.mail_user", "set both, or none")
	if role == RoleBackup {
		add(s.Confine && len(filter.Primaries) == 0, "firewall.primaries", "is empty, and the firewall is to be put in force: no primary could send its log",
			"name the primary's addresses, or set setup.firewall = false")
		return problems
	}
	add(c.Clock.Mode != "system" && !s.Demo, "clock.mode", "is for a demo only", "let chrony keep the clock right, or set setup.demo = true")
	add((c.Portal.TLS == TLSFiles) != (s.TLSKey != ""), "setup.tls_key_file", `goes with portal.tls = "files"`, "set both, or neither")
	add((s.Clinic == "") != (s.ClinicName == ""), "clinic.slug", "goes with clinic.name", "set both, or neither")
	add(s.Clinic == "" && (s.Issuer != "" || len(s.ACR)+len(s.Audiences) > 0), "clinic.issuer", "is of no clinic", "set clinic.slug and clinic.name")
	add(s.IssuerCA != "" && s.Issuer == "", "clinic.issuer_ca_file", "is for no realm", "set clinic.issuer")
	add(s.Issuer != "" && !s.Demo && !strings.HasPrefix(s.Issuer, "https://"), "clinic.issuer", "is not https", "a realm whose keys come by plain http proves nobody's identity")
	parts := 0
	for _, part := range []string{s.Clinician, s.Register, s.Number, s.Sub} {
		parts += min(len(part), 1)
	}
	add(parts != 0 && parts != 4, "clinician.name", "goes with register, number and sub", "set all four, or none")
	add(parts != 0 && s.Clinic == "", "clinician.name", "is of no clinic", "set clinic.slug and clinic.name")
	add(s.BackupWait > 0 && s.BackupHost == "", "backup.wait", "is for no backup host", "set backup.address")
	return problems
}
