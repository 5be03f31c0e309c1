package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReplicationValuesRejected(t *testing.T) {
	const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	in := func(section, text string) string { return "[" + section + "]\n" + text + "\n[pki]" }
	reject(t, []wrong{
		{`[pki]`, in("replication", `mode = "none"`), "replication.mode", "sync, async"},
		{`[pki]`, in("replication", `required = "yes"`), "replication.required", "true or false"},
		{`[pki]`, in("replication", `wait = "10ms"`), "replication.wait", "100ms"},
		{`[pki]`, in("replication", `wait = "30s"`), "replication.wait", "portal.request_time"},
		{`[pki]`, in("replication", `max_lag = "48h"`), "replication.max_lag", "24h"},
		{`[pki]`, in("replication", `heartbeat = "0s"`), "replication.heartbeat", "1s"},
		{`[pki]`, in("replication", `to = "backup"`), "replication.to", "is not known"},
		{`[token]`, "[token]\nbackup_recipients = \"" + recipient[:61] + "q\"", "token.backup_recipients", "age1"},
		{`[token]`, "[token]\nbackup_recipients = \"ssh-ed25519 AAAA\"", "token.backup_recipients", "age1"},
		{`[token]`, "[token]\nbackup_recipients = \"" + recipient + " " + recipient + "\"", "token.backup_recipients", "twice"},
		{`[token]`, "[token]\nbackup_dir = \"backups\"", "token.backup_dir", "absolute"},
	})
	cfg, err := Parse([]byte(strings.Replace(minimal, "[token]", "[token]\nbackup_recipients = \""+recipient+"\"", 1)))
	if err != nil || !slices.Equal(cfg.Token.BackupRecipients, []string{recipient}) {
		t.Errorf("%v, %v", cfg.Token.BackupRecipients, err)
	}
}

func TestReceiverNeedsNothing(t *testing.T) {
	got, err := ParseReceiver(nil)
	want := Receiver{StateDir: "/var/lib/aes-appliance/receiver", Listen: ":7443", Alarm: Alarm{Silence: time.Minute, Lag: time.Minute, Every: time.Hour},
		Firewall: Firewall{SSHPort: 22, HTTPSPorts: []uint16{443}, HTTPPorts: []uint16{80}, MailPorts: []uint16{587}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReceiverExampleAgreesWithItsTable(t *testing.T) {
	active := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(ReceiverExample(), "$1")
	if n := strings.Count(active, " = "); n != len(receiver().keys) {
		t.Errorf("%d keys in the example, %d in the table", n, len(receiver().keys))
	}
	got, err := ParseReceiver([]byte(active))
	if err != nil || got.Listen != ":7443" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, k := range receiver().keys {
		var c Config
		if err := k.set(&c, k.example); err != nil || reflect.DeepEqual(c, Config{}) {
			t.Errorf("example of %v: %v", k.ref(), err)
		}
	}
}

func TestReceiverValuesRejected(t *testing.T) {
	for text, want := range map[string]string{
		`listen = "backup:7443"`:                 "listen is not an IP address",
		`state_dir = "x"`:                        "state_dir is not the absolute",
		`[pki]`:                                  "pki is not known",
		`[alarm]` + "\n" + `silence = "1s"`:      "alarm.silence",
		`[alarm]` + "\n" + `lag = "1s"`:          "alarm.lag",
		`[alarm]` + "\n" + `every = "1s"`:        "alarm.every",
		`[alarm]` + "\n" + `command = "page me"`: "alarm.command",
		`[alarm]` + "\n" + `webhook_file = "https://hooks.example.org/x"`:  "alarm.webhook_file",
		`[alarm]` + "\n" + `mail_server = "mail.example.org"`:              "alarm.mail_server is not a host and port",
		`[alarm]` + "\n" + `mail_server = "mail.example.org:0"`:            "alarm.mail_server is not a host and port",
		`[alarm]` + "\n" + `mail_server = "mail.example.org:587"`:          "goes with mail_from and mail_to",
		`[alarm]` + "\n" + `mail_to = "on-call@example.org\r\nBcc: x@y.z"`: "alarm.mail_to",
		`[alarm]` + "\n" + `mail_to = "on-call"`:                           "alarm.mail_to",
		`[alarm]` + "\n" + `mail_user = "backup"`:                          "goes with mail_password_file",
		`[alarm]` + "\n" + `mail_from = "\"a b\"@example.org"`:             "alarm.mail_from",
		`[alarm]` + "\n" + `roots_file = "ca.pem"` + "\n" + `x = true`:     "alarm.x is not known",
	} {
		_, err := ParseReceiver([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngave %v, not %q", text, err, want)
		}
	}
}

func TestLoadReceiverTakesRelativePaths(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receiver.toml")
	if err := os.WriteFile(path, []byte("state_dir = \"state\"\n[alarm]\ncommand = \"page\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadReceiver(path)
	if err != nil || got.StateDir != filepath.Join(filepath.Dir(path), "state") || got.Alarm.Command != filepath.Join(filepath.Dir(path), "page") {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("state = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var problems Problems
	if _, err := LoadReceiver(path); !errors.As(err, &problems) || len(problems) != 1 {
		t.Errorf("%v", err)
	}
}

func FuzzParseReceiver(f *testing.F) {
	f.Add([]byte(ReceiverExample()))
	f.Add([]byte("[alarm]\nmail_to = \"a@b\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseReceiver(data)
		if err == nil && (got.StateDir == "" || got.Alarm.Every < time.Minute || (got.Alarm.MailHost != "") != (len(got.Alarm.MailTo) > 0)) {
			t.Errorf("%q gave %+v", data, got)
		}
	})
}
