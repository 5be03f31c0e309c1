//go:build vm

package vmtests

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// duty is who is called for help, on the host app: by https, and by mail with a log-in over STARTTLS.
type duty struct {
	shown tls.Certificate
	roots string // PEM

	mu             sync.Mutex
	posted, mailed string
	password       string // that a mail came with
}

// onDuty listens where alarms go.
func (l *life) onDuty(t *testing.T) *duty {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"app"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	d := &duty{shown: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	web, err := l.lab.Listen("app", "[::]:443")
	if err != nil {
		t.Fatal(err)
	}
	post, err := l.lab.Listen("app", "[::]:587")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(d.hook), TLSConfig: &tls.Config{Certificates: []tls.Certificate{d.shown}}}
	go server.ServeTLS(web, "", "")
	t.Cleanup(func() { server.Close(); post.Close() })
	go func() {
		for {
			conn, err := post.Accept()
			if err != nil {
				return
			}
			go d.talk(conn)
		}
	}()
	return d
}

func (d *duty) hook(_ http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.posted += r.URL.Path + " " + string(text) + "\n"
}

// heard waits until a call for help came to an address, and had this in it.
func (d *duty) heard(t *testing.T, address, what string) {
	t.Helper()
	waitFor(t, time.Minute, what, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if _, said, found := strings.Cut(d.posted, address); !found || !strings.Contains(said, what) {
			return fmt.Errorf("webhook: %s", d.posted)
		}
		return nil
	})
}

// talk is a mail server that takes mail of who logs in.
func (d *duty) talk(conn net.Conn) {
	defer func() { conn.Close() }()
	in, secure, data := bufio.NewReader(conn), false, false
	fmt.Fprint(conn, "220 here\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch word := strings.ToUpper(strings.TrimSpace(line)); {
		case data && word == ".":
			data = false
			fmt.Fprint(conn, "250 taken\r\n")
		case data:
			d.mu.Lock()
			d.mailed += line
			d.mu.Unlock()
		case strings.HasPrefix(word, "EHLO") && !secure:
			fmt.Fprint(conn, "250-here\r\n250 STARTTLS\r\n")
		case strings.HasPrefix(word, "EHLO"):
			fmt.Fprint(conn, "250-here\r\n250 AUTH PLAIN\r\n")
		case word == "STARTTLS":
			fmt.Fprint(conn, "220 go on\r\n")
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{d.shown}})
			in, secure = bufio.NewReader(conn), true
		case strings.HasPrefix(word, "AUTH PLAIN "):
			said, _ := base64.StdEncoding.DecodeString(strings.Fields(line)[2])
			d.mu.Lock()
			d.password = string(said[strings.LastIndexByte(string(said), 0)+1:])
			d.mu.Unlock()
			fmt.Fprint(conn, "235 welcome\r\n")
		case word == "DATA":
			data = true
			fmt.Fprint(conn, "354 go on\r\n")
		case word == "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 yes\r\n")
		}
	}
}

// pager makes the program of alarm.command: it adds what it is given to a file. Nothing but itself is in the unit's root.
func pager(t *testing.T, file string) string {
	t.Helper()
	dir := t.TempDir()
	program := `package main
import ("io"; "os")
func main() {
	f, err := os.OpenFile("` + file + `", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil { _, err = io.Copy(f, os.Stdin) }
	if err != nil { println(err.Error()); os.Exit(1) }
}
`
	if err := os.WriteFile(dir+"/main.go", []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", dir+"/page", dir+"/main.go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "page")
}

// alarms: the backup host calls for help from within its unit, by a program, a webhook and mail, whose secrets come as docs/hardening.md says: encrypted, by a drop-in.
func (l *life) alarms(t *testing.T) {
	const paged = "/var/lib/aes-appliance/receiver/paged"
	d := l.onDuty(t)
	l.put(t, "backup", "/etc/aes-appliance/alarm-ca.pem", 0o644, d.roots)
	l.give(t, "backup", "/usr/local/bin/page", pager(t, paged))
	l.put(t, "backup", "/root/alarm.toml", 0o644, `
[alarm]
command = "/usr/local/bin/page"
webhook_file = "/run/credentials/aes-receiver.service/webhook"
roots_file = "/etc/aes-appliance/alarm-ca.pem"
mail_server = "app:587"
mail_from = "backup@veripath.test"
mail_to = "on-call@veripath.test"
mail_user = "backup"
mail_password_file = "/run/credentials/aes-receiver.service/mail-password"
silence = "5s"
`)
	l.put(t, "backup", "/etc/systemd/system/aes-receiver.service.d/alarm.conf", 0o644, `[Service]
LoadCredentialEncrypted=webhook:/etc/credstore.encrypted/aes-receiver.webhook
LoadCredentialEncrypted=mail-password:/etc/credstore.encrypted/aes-receiver.mail-password
BindReadOnlyPaths=/usr/local/bin/page
ExecPaths=+/usr/local/bin/page
`)
	l.on(t, "backup", `chmod 755 /usr/local/bin/page; cd /etc/aes-appliance && cp receiver.toml /root/receiver.before
awk '/^\[/ { skip = $0 == "[alarm]" } !skip' /root/receiver.before >receiver.toml && cat /root/alarm.toml >>receiver.toml && appliance receiver config check >/dev/null
mkdir -p /etc/credstore.encrypted
printf 'https://app/hook/secret-of-its-own' | systemd-creds encrypt --name=webhook - /etc/credstore.encrypted/aes-receiver.webhook
printf 'a password' | systemd-creds encrypt --name=mail-password - /etc/credstore.encrypted/aes-receiver.mail-password
systemctl daemon-reload && systemctl restart aes-receiver`)
	l.client(t).comesBack(t, time.Minute, "ALARM-1")
	l.on(t, "primary", stopBoth)
	heard := func(what string) {
		t.Helper()
		waitFor(t, time.Minute, what, func() error {
			by, err := l.try("backup", "cat "+paged)
			d.mu.Lock()
			defer d.mu.Unlock()
			if err != nil || !strings.Contains(by, what) || !strings.Contains(d.posted, "/hook/secret-of-its-own {") || !strings.Contains(d.posted, what) || !strings.Contains(d.mailed, "on-call@veripath.test") || d.password != "a password" {
				return fmt.Errorf("%v\nprogram: %s\nwebhook: %s\nmail (%q): %s", err, by, d.posted, d.password, d.mailed)
			}
			return nil
		})
	}
	heard(`"silence"`)
	l.testAlarm(t, d)
	l.on(t, "primary", "systemctl start aes-appliance.target")
	l.client(t).comesBack(t, time.Minute, "ALARM-2")
	heard(`"return"`)
	l.on(t, "backup", "systemctl stop aes-receiver.socket aes-receiver && appliance receiver test-alarm && systemctl start aes-receiver.socket aes-receiver") // the service's credentials are gone while it is off
	heard(`"test"`)
	l.on(t, "backup", "journalctl --sync; ! journalctl --no-pager -u aes-receiver | grep -e secret-of-its-own -e 'a password'")
	l.on(t, "backup", `cp /root/receiver.before /etc/aes-appliance/receiver.toml; rm -r /etc/systemd/system/aes-receiver.service.d/alarm.conf /etc/credstore.encrypted/aes-receiver.webhook /etc/credstore.encrypted/aes-receiver.mail-password
systemctl daemon-reload && systemctl restart aes-receiver`)
	l.client(t).comesBack(t, time.Minute, "ALARM-3")
}

// testAlarm: a primary's alarm is tried with the secret that its daily examination has, which nobody else can read.
func (l *life) testAlarm(t *testing.T, d *duty) {
	t.Helper()
	l.put(t, "primary", "/etc/aes-appliance/alarm-ca.pem", 0o644, d.roots)
	l.on(t, "primary", `cd /etc/aes-appliance && cp appliance.toml /root/appliance.before
awk '/^\[/ { skip = $0 == "[alarm]" } !skip' /root/appliance.before >appliance.toml
printf '[alarm]\nwebhook_file = "/run/credentials/aes-doctor.service/webhook"\nroots_file = "/etc/aes-appliance/alarm-ca.pem"\n' >>appliance.toml
printf 'https://app/hook/of-the-primary' | systemd-creds encrypt --name=webhook - /etc/credstore.encrypted/aes-doctor.webhook
appliance doctor test-alarm | grep -F 'sent by webhook'
cp /root/appliance.before appliance.toml; rm /etc/credstore.encrypted/aes-doctor.webhook`)
	d.heard(t, "/hook/of-the-primary {", `"test"`)
}
