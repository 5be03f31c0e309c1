package config

import (
	"errors"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"filippo.io/age"
)

// Replication is how answers depend on the backup host.
type Replication struct {
	Mode      string // ModeSync, ModeAsync
	Required  bool
	Wait      time.Duration // for one answer
	MaxLag    time.Duration // with ModeAsync
	Heartbeat time.Duration
}

// Modes of replication.
const (
	ModeSync  = "sync"
	ModeAsync = "async"
)

func replicationKeys() []key {
	return []key{
		{"replication", "mode", "sync: an answer that tells of a new act leaves only when the backup has cosigned it. async: it does not wait, and what the machine did last can be " +
			"lost with it. It counts once a backup is enrolled and has caught up.",
			ModeAsync, ModeSync, text(oneOf(ModeSync, ModeAsync), func(c *Config) *string { return &c.Replication.Mode })},
		{"replication", "required", "Sign nothing unless a backup is enrolled and has been compared with. Set it once there is one: an old copy of the whole machine, from before the " +
			"enrolment, does not know of it, and this key does.",
			true, false, flag(func(c *Config) *bool { return &c.Replication.Required })},
		{"replication", "wait", "How long an answer waits for the cosignature: 100ms to 1m. After that it is refused with 503, and the same request later gets it.",
			"5s", "5s", duration(100*time.Millisecond, time.Minute, func(c *Config) *time.Duration { return &c.Replication.Wait })},
		{"replication", "max_lag", "With async: signing stops when the oldest line that is not cosigned is older than this: 1s to 24h.",
			"1m", "1m", duration(time.Second, 24*time.Hour, func(c *Config) *time.Duration { return &c.Replication.MaxLag })},
		{"replication", "heartbeat", "How often the log's newest checkpoint is signed and cosigned anew when nothing happens: 1s to 5m.",
			"5s", "5s", duration(time.Second, 5*time.Minute, func(c *Config) *time.Duration { return &c.Replication.Heartbeat })},
	}
}

// agreeBackup checks that an answer waits less long than whoever asked for it.
func (c Config) agreeBackup() Problems {
	if c.Replication.Wait < c.Portal.RequestTime {
		return nil
	}
	return Problems{{Key: "replication.wait", Text: "is not shorter than portal.request_time", Cure: "the caller would have gone before the answer: 5s is plenty between two data centres"}}
}

// ageRecipient accepts an X25519 recipient of filippo.io/age.
func ageRecipient(s string) (string, error) {
	if _, err := age.ParseX25519Recipient(s); err != nil {
		return "", errors.New("is not a list of age recipients: age1 and 58 more characters each, as age-keygen prints them")
	}
	return s, nil
}

// Receiver is the configuration of a backup host.
type Receiver struct {
	StateDir string // absolute
	Listen   string
	// AppendOnly has the file system keep the copies append-only, where it can.
	AppendOnly bool
	LogQuota   int64 // bytes of one log's copy; 0 = no limit
	Alarm      Alarm
	Witness    Witness
	Firewall   Firewall
}

// Alarm is how a machine calls for help.
type Alarm struct {
	Silence  time.Duration // of a primary's heartbeat; this and the two after it are a backup host's only
	Lag      time.Duration // between a line's time and its coming
	Every    time.Duration // an alarm that lasts is repeated
	Command  string        // absolute; "" = none
	Webhook  string        // file with the URL, absolute; "" = none
	Roots    string        // PEM of who vouches for the webhook's TLS, absolute; "" = the system's
	MailHost string        // host:port; "" = none
	MailFrom string
	MailTo   []string
	MailUser string // "" = no log-in
	MailFile string // file with the password, absolute
}

// ReceiverPath is where the backup host's configuration is unless a command is told otherwise.
const ReceiverPath = "/etc/aes-appliance/receiver.toml"

// LoadReceiver is Load for the backup host's file.
func LoadReceiver(path string) (Receiver, error) {
	c, err := load(path, receiver(), `"appliance receiver config`)
	return c.Receiver, err
}

// ParseReceiver is Parse for the backup host's file.
func ParseReceiver(data []byte) (Receiver, error) {
	c, err := receiver().parse(data, "")
	return c.Receiver, err
}

// receiver is the file of a backup host.
func receiver() document {
	return document{
		title: "# Configuration of a backup host. Check it with: appliance receiver config check\n",
		sections: []section{
			{"alarm", "How the backup host calls for help by itself: when a primary falls silent, sends what is refused, or the disk here fails. Set at least one way."},
			{"witness", "Logs that others keep, and that this host watches for them: what it cosigns has only grown. It holds nothing of them. The key is one of its own."},
			{"firewall", filterSection},
		},
		keys: slices.Concat([]key{
			{"", "state_dir", "Folder of the copies, and of the key that cosigns them. The service's user owns it. A relative path, as any in this file, is taken from the folder that the file is in.",
				"/var/lib/aes-appliance/receiver", "/var/lib/aes-appliance/receiver", text(absolute, func(c *Config) *string { return &c.Receiver.StateDir })},
			{"", "listen", "Address and port for the primaries. Under systemd the socket unit decides.", ":7443", ":7443",
				text(address, func(c *Config) *string { return &c.Receiver.Listen })},
			{"", "append_only", "Have the file system keep the copies append-only (chattr +a), where it can and the service may (CAP_LINUX_IMMUTABLE): root must take that away again before a copy can be removed.",
				true, false, flag(func(c *Config) *bool { return &c.Receiver.AppendOnly })},
			{"", "log_quota", "What one primary may fill of this disk, lines and objects together, in GiB; 0: no limit. Set it where several primaries share the disk: one that was taken over " +
				"then cannot fill it for all. Nearly full, it is an alarm; full, that primary's answers wait in vain.",
				int64(200), int64(0), number(0, 1<<20, func(c *Config, n int64) { c.Receiver.LogQuota = n << 30 })},
		}, watchKeys(), wayKeys(func(c *Config) *Alarm { return &c.Receiver.Alarm }, "aes-receiver.service"), witnessKeys(), receiverFirewallKeys()),
		agree: func(c Config) Problems {
			return slices.Concat(c.Receiver.Alarm.agree(), c.Receiver.Witness.agree(), c.Receiver.Firewall.agree())
		},
	}
}

// watchKeys are what a backup host calls for help at.
func watchKeys() []key {
	return []key{
		{"alarm", "silence", "How long nothing of a primary may arrive and be cosigned, not even its heartbeat: 5s to 24h.", "1m", "1m",
			duration(5*time.Second, 24*time.Hour, func(c *Config) *time.Duration { return &c.Receiver.Alarm.Silence })},
		{"alarm", "lag", "How old a line of a primary may be when it comes, by this host's clock, once the copy was up to date: 5s to 24h.", "1m", "1m",
			duration(5*time.Second, 24*time.Hour, func(c *Config) *time.Duration { return &c.Receiver.Alarm.Lag })},
		{"alarm", "every", "How often an alarm that lasts is repeated; of the same sort there are no more in between: 1m to 168h.", "1h", "1h",
			duration(time.Minute, 168*time.Hour, func(c *Config) *time.Duration { return &c.Receiver.Alarm.Every })},
	}
}

// wayKeys are how a machine calls for help; at is where the role has its alarm, unit whose credentials hold secrets.
func wayKeys(at func(*Config) *Alarm, unit string) []key {
	alarm := func(field func(*Alarm) *string) func(*Config) *string {
		return func(c *Config) *string { return field(at(c)) }
	}
	return []key{
		{"alarm", "command", "Program that is run with the alarm as JSON on its standard input; no argument, no shell. Empty: none.",
			"/usr/local/bin/page-operator", "", text(optional(absolute), alarm(func(a *Alarm) *string { return &a.Command }))},
		{"alarm", "webhook_file", "File that holds the https address to which the alarm is sent as JSON by POST: such an address is a secret. Empty: none.",
			"/run/credentials/" + unit + "/webhook", "", text(optional(absolute), alarm(func(a *Alarm) *string { return &a.Webhook }))},
		{"alarm", "roots_file", "PEM file of the only authorities that may vouch for the certificates of the webhook and the mail server. Empty: the system's.",
			"/etc/aes-appliance/alarm-ca.pem", "", text(optional(absolute), alarm(func(a *Alarm) *string { return &a.Roots }))},
		{"alarm", "mail_server", "Mail server as host:port, with STARTTLS. Empty: no mail.",
			"mail.example.org:587", "", text(optional(hostPort), alarm(func(a *Alarm) *string { return &a.MailHost }))},
		{"alarm", "mail_from", "Sender of the mails.", "alarm@example.org", "", text(optional(mailAddress), alarm(func(a *Alarm) *string { return &a.MailFrom }))},
		{"alarm", "mail_to", "Who gets the mails, separated by spaces.", "on-call@example.org", "",
			texts(mailAddress, func(c *Config, each []string) { at(c).MailTo = each })},
		{"alarm", "mail_user", "User at the mail server. Empty: it takes mail without a log-in.", "backup", "",
			text(optional(upTo(64)), alarm(func(a *Alarm) *string { return &a.MailUser }))},
		{"alarm", "mail_password_file", "File that holds the password of mail_user.",
			"/run/credentials/" + unit + "/mail-password", "", text(optional(absolute), alarm(func(a *Alarm) *string { return &a.MailFile }))},
	}
}

func (a Alarm) agree() Problems {
	var problems Problems
	if (a.MailHost == "") != (a.MailFrom == "") || (a.MailHost == "") != (len(a.MailTo) == 0) {
		problems = append(problems, Problem{Key: "alarm.mail_server", Text: "goes with mail_from and mail_to", Cure: "set all three, or none"})
	}
	if (a.MailUser == "") != (a.MailFile == "") {
		problems = append(problems, Problem{Key: "alarm.mail_user", Text: "goes with mail_password_file", Cure: "set both, or none"})
	}
	return problems
}

// hostPort accepts host:port, the host a name or an IP address.
func hostPort(s string) (string, error) {
	h, port, err := net.SplitHostPort(s)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err == nil {
		h, err = host(h)
	}
	if err != nil || errPort != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", errors.New("is not a host and port such as mail.example.org:587")
	}
	return net.JoinHostPort(h, port), nil
}

var mailForm = regexp.MustCompile(`^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]{1,64}@([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}$`)

// mailAddress accepts an address without quotes and comments.
func mailAddress(s string) (string, error) {
	if len(s) > 254 || !mailForm.MatchString(s) {
		return "", errors.New("is not a list of mail addresses with spaces between")
	}
	return s, nil
}
