package config

import (
	"bytes"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// told are answers for a primary with everything that must be set.
const minimalAnswers = `
[ceremony]
led_by = "Ada Example"
[pki]
base_url = "http://pki.example.org"
name = "Example"
organisation = "Example \"Signing\" \\ Ltd"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.7"
[token]
backup_recipients = "` + recipient + `"
[portal]
hosts = "sign.example.org"
[firewall]
admin_networks = "203.0.113.7"
`

const minimalBackup = `[firewall]
admin_networks = "203.0.113.7"
primaries = "192.0.2.10"
`

const clinicPart = `
[clinic]
slug = "wharf"
name = "Wharf"
issuer = "https://sso.example.org/realms/wharf"
acr = "2 3"
[clinician]
name = "Dr Ada Example"
register = "GMC"
number = "7654321"
sub = "f:1:ada"
[backup]
address = "backup.example.org"
wait = "10m"
`

func TestAnswersBecomeAConfigurationFile(t *testing.T) {
	for _, c := range []struct {
		role Role
		text string
	}{
		{RolePrimary, minimalAnswers}, {RolePrimary, minimalAnswers + clinicPart},
		{RolePrimary, strings.Replace(minimalAnswers, `hosts =`, "tls = \"files\"\ncertificate_file = \"tls.pem\"\nhosts =", 1) + "[setup]\ntls_key_file = \"tls.key\"\n[limits]\npdf_bytes = 1000000\n"},
		{RoleBackup, minimalBackup}, {RoleBackup, "append_only = true\n" + minimalBackup + "[setup]\nwebhook_file = \"hook\"\njoin_file = \"-\"\nmail_password_file = \"p\"\n[alarm]\nmail_server = \"mail.example.org:587\"\nmail_from = \"a@example.org\"\nmail_to = \"b@example.org\"\nmail_user = \"x\"\n"},
	} {
		a, err := ParseAnswers(c.role, []byte(c.text), "/root")
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		again, err := ParseAnswers(c.role, a.Text(), "")
		if err != nil || !reflect.DeepEqual(a, again) {
			t.Errorf("the answers as a file are other answers: %v\n%s", err, a.Text())
		}
		file := a.File(map[string]any{"state_dir": "/srv/state"})
		var cfg Config
		if c.role == RolePrimary {
			cfg, err = Parse(file)
		} else {
			cfg.Receiver, err = ParseReceiver(file)
		}
		if err != nil {
			t.Fatalf("the file that follows: %v\n%s", err, file)
		}
		want := a.Config
		want.Setup, want.StateDir, want.Receiver.StateDir = Setup{}, cfg.StateDir, cfg.Receiver.StateDir
		if cfg.StateDir+cfg.Receiver.StateDir != "/srv/state" {
			t.Errorf("state_dir is %q %q", cfg.StateDir, cfg.Receiver.StateDir)
		}
		if !reflect.DeepEqual(cfg, want) {
			t.Errorf("the file says\n%+v\nthe answers\n%+v", cfg, want)
		}
		if diff, err := a.Differences(file); err != nil || len(diff) > 0 {
			t.Errorf("differences %v %v", diff, err)
		}
	}
}

func TestAnswersThatDifferFromAFile(t *testing.T) {
	a, err := ParseAnswers(RolePrimary, []byte(minimalAnswers+"[limits]\npdf_bytes = 1000000\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	file := a.File(nil)
	other := strings.NewReplacer(`name = "Example"`, `name = "Other"`, "pdf_bytes = 1000000", "").Replace(minimalAnswers)
	b, err := ParseAnswers(RolePrimary, []byte(other+"[limits]\npdf_bytes = 2000000\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	if diff, err := b.Differences(file); err != nil || strings.Join(diff, " ") != "pki.name limits.pdf_bytes" {
		t.Errorf("differences %v %v", diff, err)
	}
}

// TestAnswersExample takes the marks off each key of the example: what results must be valid answers.
func TestAnswersExample(t *testing.T) {
	for _, role := range []Role{RolePrimary, RoleBackup} {
		example := AnswersExample(role)
		active := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(example, "$1")
		active = strings.NewReplacer("tls = \"acme\"", "tls = \"files\"\ncertificate_file = \"/x.pem\"", "certificate_file = \"\"", "", "address = \"\"", "address = \"backup.example.org\"", "admin_networks = \"\"", "admin_networks = \"203.0.113.7\"", "primaries = \"\"", "primaries = \"192.0.2.1\"").Replace(active)
		if role == RolePrimary {
			active = strings.Replace(active, "tls_key_file = \"\"", "tls_key_file = \"/x.key\"", 1)
		}
		if _, err := ParseAnswers(role, []byte(active), ""); err != nil {
			t.Errorf("%s: %v\n%s", role, err, active)
		}
		_, err := ParseAnswers(role, []byte(example), "")
		var problems Problems
		if errors.As(err, &problems); len(problems) == 0 {
			t.Errorf("%s as it stands: %v", role, err)
		}
		for _, p := range problems {
			if p.Text != "is missing" && !strings.HasPrefix(p.Key, "firewall.") {
				t.Errorf("%s as it stands: %v", role, p)
			}
		}
	}
}

func TestAnswersRefused(t *testing.T) {
	for _, c := range []struct {
		role         Role
		old, new     string
		key, problem string
	}{
		{RolePrimary, `led_by = "Ada Example"`, ``, "ceremony.led_by", "is missing"},
		{RolePrimary, `backup_recipients = "` + recipient + `"`, ``, "token.backup_recipients", "is missing"},
		{RolePrimary, recipient, "age1nonsense", "token.backup_recipients", "age recipients"},
		{RolePrimary, `hosts = "sign.example.org"`, ``, "portal.hosts", "is missing"},
		{RolePrimary, `[token]`, "[token]\npin_file = \"/x\"", "token.pin_file", "is not known"},
		{RolePrimary, `[portal]`, "[portal]\nstate_dir = \"/x\"", "portal.state_dir", "is not known"},
		{RolePrimary, `[portal]`, "[prtal]\nx = 1\n[portal]", "prtal", "is not known"},
		{RolePrimary, `[portal]`, "[setup]\nfirewall = \"yes\"\n[portal]", "setup.firewall", "true or false"},
		{RolePrimary, `[portal]`, "[portal]\ntls = \"files\"\ncertificate_file = \"/c\"", "portal.key_file", "is missing"},
		{RolePrimary, `[portal]`, "[setup]\ntls_key_file = \"/k\"\n[portal]", "setup.tls_key_file", "goes with"},
		{RolePrimary, `[portal]`, "[clock]\nmode = \"unproven\"\n[portal]", "clock.mode", "for a demo only"},
		{RolePrimary, `[portal]`, "[clinic]\nslug = \"a\"\n[portal]", "clinic.slug", "goes with clinic.name"},
		{RolePrimary, `[portal]`, "[clinic]\nslug = \"A B\"\nname = \"A\"\n[portal]", "clinic.slug", "slug"},
		{RolePrimary, `[portal]`, "[clinic]\nissuer = \"https://x.example/r\"\n[portal]", "clinic.issuer", "of no clinic"},
		{RolePrimary, `[portal]`, "[clinic]\nslug = \"a\"\nname = \"A\"\nissuer = \"http://x.example/r\"\n[portal]", "clinic.issuer", "not https"},
		{RolePrimary, `[portal]`, "[clinic]\nissuer_ca_file = \"/r.pem\"\n[portal]", "clinic.issuer_ca_file", "for no realm"},
		{RolePrimary, `[portal]`, "[clinician]\nname = \"A B\"\n[portal]", "clinician.name", "goes with register"},
		{RolePrimary, `[portal]`, "[backup]\nwait = \"5m\"\n[portal]", "backup.wait", "no backup host"},
		{RolePrimary, `[portal]`, "[backup]\nwait = \"5h\"\n[portal]", "backup.wait", "30m"},
		{RolePrimary, `[portal]`, "[backup]\naddress = \"a b\"\n[portal]", "backup.address", "host name"},
		{RolePrimary, `[portal]`, "[backup]\naddress = \"a:99999\"\n[portal]", "backup.address", "host"},
		{RolePrimary, `admin_networks = "203.0.113.7"`, ``, "firewall.admin_networks", "nobody could log in"},
		{RoleBackup, "", `firewall.admin_networks = "203.0.113.7"`, "firewall.primaries", "no primary"},
		{RolePrimary, `"Ada Example"`, `"Ada\u0007"`, "ceremony.led_by", "printable"},
		{RolePrimary, `[pki]`, "witnesses = \"a\u202e; b\"\n[pki]", "ceremony.witnesses", "printable"},
		{RoleBackup, "", "[setup]\nmail_password_file = \"/p\"", "setup.mail_password_file", "goes with alarm.mail_user"},
		{RoleBackup, "", "[setup]\njoin_file = \"code\"", "setup.join_file", "absolute"},
		{RoleBackup, "", "[pki]\nname = \"x\"", "pki", "is not known"},
		{RoleBackup, "", "listen = \":1\"", "listen", "is not known"},
	} {
		text := c.new
		if c.role == RolePrimary {
			text = strings.Replace(minimalAnswers, c.old, c.new, 1)
		}
		_, err := ParseAnswers(c.role, []byte(text), "")
		var problems Problems
		if !errors.As(err, &problems) {
			t.Errorf("%q: %v", c.new, err)
			continue
		}
		found := false
		for _, p := range problems {
			found = found || p.Key == c.key && strings.Contains(p.Text, c.problem)
		}
		if !found {
			t.Errorf("%q: %v, want %s %s", c.new, problems, c.key, c.problem)
		}
	}
}

func TestTypedAnswers(t *testing.T) {
	for _, c := range []struct{ key, typed, line, problem string }{
		{"pki.name", "Example", `name = "Example"`, ""},
		{"pki.organisation", `Ex "A" \ B`, `organisation = "Ex \"A\" \\ B"`, ""},
		{"pki.country", "UK", "", "ISO 3166"},
		{"setup.firewall", "n", "firewall = false", ""},
		{"setup.firewall", "maybe", "", "yes or no"},
		{"limits.pdf_bytes", "70000", "pdf_bytes = 70000", ""},
		{"limits.pdf_bytes", "a", "", "whole number"},
		{"ceremony.witnesses", "Ben; Cleo", `witnesses = "Ben; Cleo"`, ""},
		{"pki.name", "a\x1b[2J", "", "printable"},
		{"pki.name", "a\xb5", "", "printable"},
	} {
		q, ok := Ask(RolePrimary, c.key)
		if !ok {
			t.Fatalf("no question %s", c.key)
		}
		line, _, err := q.Line(c.typed)
		if line != c.line || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s %q: %q %v", c.key, c.typed, line, err)
		}
	}
	if _, ok := Ask(RoleBackup, "pki.name"); ok {
		t.Error("a backup host is asked for the PKI's name")
	}
}

// FuzzAnswers: what is taken is the same when it is written down, and makes a valid configuration file.
func FuzzAnswers(f *testing.F) {
	f.Add(minimalAnswers+clinicPart, true)
	f.Add("[alarm]\ncommand = \"/x\"\n"+minimalBackup, false)
	f.Fuzz(func(t *testing.T, text string, primary bool) {
		role := RoleBackup
		if primary {
			role = RolePrimary
		}
		a, err := ParseAnswers(role, []byte(text), "")
		if err != nil {
			return
		}
		again, err := ParseAnswers(role, a.Text(), "")
		if err != nil || !bytes.Equal(a.Text(), again.Text()) || !reflect.DeepEqual(a.Config, again.Config) {
			t.Fatalf("%v\n%s", err, a.Text())
		}
		if file := a.File(nil); primary {
			_, err = Parse(file)
		} else {
			_, err = ParseReceiver(file)
		}
		if err != nil {
			t.Fatalf("the file: %v", err)
		}
	})
}
