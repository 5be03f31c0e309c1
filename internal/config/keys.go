package config

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ref names a key: the file's text can hold dots in either part.
type ref struct{ section, name string }

func (r ref) String() string {
	if r.section == "" {
		return r.name
	}
	return r.section + "." + r.name
}

// key is one row of the table: all that is known of one setting.
type key struct {
	section  string // "" at the top of the file
	name     string
	doc      string // what it means, for the example file
	example  any    // a valid value: string, int64 or bool
	fallback any    // the value when absent; nil makes the key mandatory
	set      func(c *Config, value any) error
}

// isPath reports whether k names a file or folder: a relative one is taken from the configuration file's folder.
func (k key) isPath() bool {
	return slices.Contains([]ref{
		{"", "state_dir"}, {"token", "module"}, {"token", "pin_file"},
		{"signer", "portal_socket"}, {"signer", "admin_socket"},
		{"portal", "state_dir"}, {"portal", "certificate_file"}, {"portal", "key_file"}, {"portal", "acme_roots_file"},
		{"token", "backup_dir"}, {"alarm", "command"}, {"alarm", "webhook_file"}, {"alarm", "roots_file"}, {"alarm", "mail_password_file"}, {"medicines", "dmd"},
		{"log", "witness_policy_file"}, {"log", "witness_roots_file"}, {"log", "timestamp_roots_file"},
		{"witness", "logs_file"}, {"witness", "certificate_file"}, {"witness", "key_file"},
		{"setup", "tls_key_file"}, {"setup", "join_file"}, {"setup", "webhook_file"}, {"setup", "mail_password_file"},
		{"ceremony", "root_identity_file"}, {"clinic", "issuer_ca_file"},
	}, k.ref())
}

// from takes a relative path from dir, unless that is empty; other values stay as they are.
func (k key) from(dir, value string) string {
	if !k.isPath() || value == "" || value == "-" || dir == "" || filepath.IsAbs(value) {
		return value
	}
	return filepath.Join(dir, value)
}

func (k key) mandatory() bool { return k.fallback == nil }

func (k key) ref() ref { return ref{k.section, k.name} }

func (k key) place() string {
	if k.section == "" {
		return "the top of the file, before the first section"
	}
	return "[" + k.section + "]"
}

// section is a table of the file.
type section struct{ name, doc string }

// appliance is the file of the appliance itself.
func appliance() document {
	return document{
		"# Configuration of the AES appliance. Check it with: appliance config check\n", sections(), table(), agree,
	}
}

// sections are the tables of the appliance's file, in order.
func sections() []section {
	return []section{
		{"pki", "What the certificates say. Changes count for certificates issued from then on."},
		{"token", "Where the keys are: a PKCS#11 token."},
		{"tsa", "The time-stamping authority."},
		{"signing", "How documents are signed."},
		{"clock", "How the time is proven that signatures and time stamps carry."},
		{"signer", "The process that holds the keys and the log, and the two sockets on which it answers."},
		{"portal", "What faces the network: HTTPS, and plain http where certificates point to it."},
		{"replication", "The backup host, which holds a copy of the log and cosigns it. Which one it is, is an act in the log: \"appliance backup enrol\"."},
		{"log", "Who else vouches for the audit log: witnesses that cosign it, and another time-stamping authority."},
		{"medicines", "By what it is decided which medicines are controlled drugs, besides what the prescription says and a built-in list of names."},
		{"limits", "What is taken in at most."},
		{"alarm", "How this machine calls for help by itself when its daily examination (\"appliance doctor\") finds something bad. Without a way only the journal and the metrics say so."},
		{"firewall", filterSection},
	}
}

func (doc document) sectionNames() []string {
	names := make([]string, len(doc.sections))
	for i, s := range doc.sections {
		names[i] = s.name
	}
	return names
}

// table returns every key, in the order of the documentation.
func table() []key {
	keys := []key{{"", "state_dir", "Folder of the log, the sealed objects, the index and the token. The service's user owns it; nobody else may read it. A relative path, as any in this file, is taken from the folder that the file is in.",
		"/var/lib/aes-appliance/signer", "/var/lib/aes-appliance/signer", text(absolute, func(c *Config) *string { return &c.StateDir })}}
	return slices.Concat(keys, pkiKeys(), tokenKeys(), timeKeys(), portalKeys(), signerKeys(), replicationKeys(), logKeys(), []key{
		{"signing", "status_in_later_second", "Wait until the second of the signature time stamp is over before asking for the status of certificates: strict validators want " +
			"a status that is visibly later than the time stamp. Each signature then takes up to a second longer.",
			true, false, flag(func(c *Config) *bool { return &c.Signing.StatusInLaterSecond })},
		{"medicines", "dmd", "What \"appliance config import-dmd\" made of an extract of the NHS dictionary of medicines and devices. It decides by SNOMED CT code: schedules 1 to 3 are " +
			"refused whatever the prescription says. Both the signer and the portal read it, again on SIGHUP.",
			"/etc/aes-appliance/dmd.dat", "", text(optional(absolute), func(c *Config) *string { return &c.Medicines.DMD })},
		{"limits", "pdf_bytes", "Largest PDF that is signed or verified, in bytes.", int64(64 << 20), int64(64 << 20),
			number(1<<16, 1<<30, func(c *Config, n int64) { c.Limits.PDFBytes = n })},
	}, wayKeys(func(c *Config) *Alarm { return &c.Alarm }, "aes-doctor.service"), applianceFirewallKeys())
}

func pkiKeys() []key {
	return []key{
		{"pki", "base_url", "Address that goes into every certificate, for its issuer, its status and its revocation list: plain http, because a " +
			"relying party cannot fetch what a TLS certificate would need to be checked with. It can never change for certificates already issued.",
			"http://pki.clinic-signing.example", nil, text(httpURL, func(c *Config) *string { return &c.PKI.BaseURL })},
		{"pki", "name", "Short name that stands before \"Root CA\", \"Clinician CA\" and the like; at most 24 characters.",
			"VeriPath", nil, text(upTo(24), func(c *Config) *string { return &c.PKI.Name })},
		{"pki", "organisation", "The operator's legal name; at most 64 characters.",
			"VeriPath Ltd", nil, text(upTo(64), func(c *Config) *string { return &c.PKI.Organisation })},
		{"pki", "organisation_id", "The operator's number in a register, as EN 319 412-1 writes it: NTRGB- and the company number, or VATGB- and the VAT number. " +
			"May be left out.", "NTRGB-01234567", "", text(optional(organisationID), func(c *Config) *string { return &c.PKI.OrganisationID })},
		{"pki", "country", "Where the operator is established: ISO 3166-1, two capital letters.",
			"GB", nil, text(country, func(c *Config) *string { return &c.PKI.Country })},
		{"pki", "policy_arc", "The operator's own object identifier, under which its policies are numbered. An IANA private enterprise number is free of charge " +
			"(1.3.6.1.4.1.N). Not one of ETSI's: keys in software do not meet its policies.",
			"1.3.6.1.4.1.32473.1", nil, object(func(c *Config) *asn1.ObjectIdentifier { return &c.PKI.PolicyArc })},
		{"pki", "clinician_key", "Kind of key for clinicians when a request does not say: ecdsa-p256, ecdsa-p384, rsa-3072 or rsa-4096.",
			"ecdsa-p256", "ecdsa-p256", text(oneOf("ecdsa-p256", "ecdsa-p384", "rsa-3072", "rsa-4096"), func(c *Config) *string { return &c.PKI.ClinicianKey })},
	}
}

func tokenKeys() []key {
	return []key{
		{"token", "module", "Path of a vendor's PKCS#11 module. Empty: SoftHSM2, which is built in.",
			"/usr/lib/vendor/libpkcs11.so", "", text(optional(absolute), func(c *Config) *string { return &c.Token.Module })},
		{"token", "label", "The token's label; at most 32 bytes of ASCII.",
			"aes-appliance", "aes-appliance", text(label, func(c *Config) *string { return &c.Token.Label })},
		{"token", "pin_file", "File that holds the user PIN and nothing else, readable by its owner only; under systemd, a credential.",
			"/run/credentials/aes-signer.service/token-pin", nil, text(absolute, func(c *Config) *string { return &c.Token.PINFile })},
		{"token", "max_sessions", "Signatures at once. 0: one more than there are processor cores, beyond which SoftHSM2 only gets slower.",
			int64(0), int64(0), number(0, 1024, func(c *Config, n int64) { c.Token.MaxSessions = int(n) })},
		{"token", "backup_recipients", "Who can open the backups of the token, which hold its PIN: age recipients (age1…, made by age-keygen; ssh-ed25519 keys are not taken), separated by " +
			"spaces. Keep the identities off this machine and off the backup host. Empty: the token is not backed up, and a lost machine is a lost appliance.",
			"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "", texts(ageRecipient, func(c *Config, each []string) { c.Token.BackupRecipients = each })},
		{"token", "backup_dir", "Folder that each backup of the token is also written to, besides the backup host. Empty: none.",
			"/var/backups/aes-appliance", "", text(optional(absolute), func(c *Config) *string { return &c.Token.BackupDir })},
	}
}

func timeKeys() []key {
	return []key{
		{"tsa", "policy", "Object identifier of the time-stamp policy, under pki.policy_arc. Left out: the one that the certificates' policies leave free for it.",
			"1.3.6.1.4.1.32473.1.1.100", "", func(c *Config, value any) error {
				if value == "" {
					return nil
				}
				return object(func(c *Config) *asn1.ObjectIdentifier { return &c.TSA.Policy })(c, value)
			}},
		{"clock", "mode", "system: the kernel must say that a time service (chrony) keeps the clock right, or nothing is signed. " +
			"unproven: for demonstrations and tests without a time service; what is signed then is marked, and is no evidence of time.",
			"system", "system", text(oneOf("system", "unproven"), func(c *Config) *string { return &c.Clock.Mode })},
		{"clock", "max_error", "Largest error, as the kernel bounds it, at which time is still given: 1ms to 500ms. Time stamps state an accuracy of 1 s for it and for the fraction of a second that they leave out.",
			"200ms", "200ms", duration(time.Millisecond, 500*time.Millisecond, func(c *Config) *time.Duration { return &c.Clock.MaxError })},
	}
}

// text sets a string that check accepts, as check returns it.
func text(check func(string) (string, error), at func(*Config) *string) func(*Config, any) error {
	return func(c *Config, value any) error {
		s, ok := value.(string)
		if !ok {
			return errors.New("is not a text in quotes")
		}
		clean, err := check(s)
		if err != nil {
			return err
		}
		*at(c) = clean
		return nil
	}
}

func number(least, most int64, put func(*Config, int64)) func(*Config, any) error {
	return func(c *Config, value any) error {
		n, ok := value.(int64)
		if !ok || n < least || n > most {
			return fmt.Errorf("is not a whole number from %d to %d", least, most)
		}
		put(c, n)
		return nil
	}
}

// flag sets a truth value.
func flag(at func(*Config) *bool) func(*Config, any) error {
	return func(c *Config, value any) error {
		b, ok := value.(bool)
		if !ok {
			return errors.New("is not true or false, without quotes")
		}
		*at(c) = b
		return nil
	}
}

func duration(least, most time.Duration, at func(*Config) *time.Duration) func(*Config, any) error {
	return func(c *Config, value any) error {
		s, _ := value.(string)
		d, err := time.ParseDuration(s)
		if err != nil || d < least || d > most || d%time.Microsecond != 0 {
			return fmt.Errorf("is not a time from %v to %v in quotes", least, most)
		}
		*at(c) = d
		return nil
	}
}

// object sets an object identifier below an organisation's arc. Numbers of 2^31 and more, as under 2.25, are refused: they are lost on
// much of the software that reads certificates.
func object(at func(*Config) *asn1.ObjectIdentifier) func(*Config, any) error {
	return func(c *Config, value any) error {
		s, _ := value.(string)
		var oid asn1.ObjectIdentifier
		for part := range strings.SplitSeq(s, ".") {
			n, err := strconv.ParseUint(part, 10, 31)
			if err != nil || strconv.FormatUint(n, 10) != part {
				return errors.New("is not an object identifier: numbers below 2147483648 with dots between, in quotes")
			}
			oid = append(oid, int(n))
		}
		if len(oid) < 4 || len(oid) > 20 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
			return errors.New("is not an organisation's object identifier")
		}
		if slices.Equal(oid[:3], []int{0, 4, 0}) {
			return errors.New("is one of ETSI's, whose policies keys in software do not meet")
		}
		*at(c) = oid
		return nil
	}
}

func absolute(s string) (string, error) {
	if !filepath.IsAbs(s) || strings.ContainsRune(s, 0) || filepath.Clean(s) == "/" {
		return "", errors.New("is not the absolute path of a file or folder")
	}
	return filepath.Clean(s), nil
}

func httpURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !printableURL(s) {
		return "", errors.New("is not a plain http://host[/path]")
	}
	return strings.TrimRight(s, "/"), nil
}

// printableURL reports whether s fits an IA5String and a certificate.
func printableURL(s string) bool {
	return len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// upTo accepts a name of at most n characters, without control characters and without blanks at its ends.
func upTo(n int) func(string) (string, error) {
	return func(s string) (string, error) {
		if s == "" || strings.TrimSpace(s) != s || utf8.RuneCountInString(s) > n || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
			return "", fmt.Errorf("is not a name of 1 to %d printable characters", n)
		}
		return s, nil
	}
}

func country(s string) (string, error) {
	if len(s) != 2 || strings.ContainsFunc(s, func(r rune) bool { return r < 'A' || r > 'Z' }) || s == "UK" {
		return "", errors.New("is not a country code of ISO 3166-1 (the United Kingdom's is GB)")
	}
	return s, nil
}

// organisationID accepts EN 319 412-1 §5.1.4: three letters of a scheme, a country, a hyphen, a reference.
func organisationID(s string) (string, error) {
	scheme, reference, found := strings.Cut(s, "-")
	if !found || len(scheme) != 5 || reference == "" || len(s) > 64 ||
		strings.ContainsFunc(scheme, func(r rune) bool { return r < 'A' || r > 'Z' }) ||
		strings.ContainsFunc(reference, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("is not of the form NTRGB-01234567")
	}
	return s, nil
}

func label(s string) (string, error) {
	if s == "" || len(s) > 32 || strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", errors.New("is not a label of 1 to 32 ASCII characters")
	}
	return s, nil
}

func optional(check func(string) (string, error)) func(string) (string, error) {
	return func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		return check(s)
	}
}

func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("is not one of %s", strings.Join(words, ", "))
		}
		return s, nil
	}
}
