package alarm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/smtp"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/veripath/aes-appliance/internal/config"
)

// maxSecret bounds a file that holds a webhook's address or a password.
const maxSecret = 4 << 10

// secret reads a file of one line.
func secret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret))
	return strings.TrimSpace(string(data)), err
}

// command is a program that gets the alarm on its standard input. It has no arguments and an empty environment, and no shell sees anything.
type command struct{ path string }

func (command) name() string { return "command" }

func (c command) send(ctx context.Context, a Alarm) error {
	body, err := a.json()
	if err != nil {
		return err
	}
	program := c.path
	if os.Geteuid() == 0 {
		if program, err = rootsOwn(program); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Args[0] = c.path
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = bytes.NewReader(append(body, '\n'))
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %.200q", err, out)
	}
	return nil
}

// webhook is an https address that takes the alarm as JSON.
type webhook struct{ file, roots string }

func (webhook) name() string { return "webhook" }

func (w webhook) send(ctx context.Context, a Alarm) error {
	address, err := secret(w.file)
	if err != nil {
		return err
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return errors.New("the file does not hold an https address") // and is not shown: it is a secret
	}
	roots, err := pool(w.roots)
	if err != nil {
		return err
	}
	body, err := a.json()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "aes-appliance")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if hidden := (*url.Error)(nil); errors.As(err, &hidden) {
		return hidden.Err
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
}

// pool reads the authorities of a PEM file; nil, the system's, when there is none.
func pool(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return roots, nil
}

// mail goes to a mail server with STARTTLS; without it only to one on this machine.
type mail struct{ cfg config.Alarm }

func (mail) name() string { return "mail" }

func (m mail) send(ctx context.Context, a Alarm) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", m.cfg.MailHost)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	host, _, err := net.SplitHostPort(m.cfg.MailHost)
	if err != nil {
		return err
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := m.greet(c, a.Host, host, conn.RemoteAddr()); err != nil {
		return err
	}
	if err := c.Mail(m.cfg.MailFrom); err != nil {
		return err
	}
	for _, to := range m.cfg.MailTo {
		if err := c.Rcpt(to); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, m.text(a)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// greet secures the connection and logs in, where that is asked for.
func (m mail) greet(c *smtp.Client, self, host string, peer net.Addr) error {
	if self != "" { // "localhost", which it would say otherwise, is what spam says
		if err := c.Hello(self); err != nil {
			return err
		}
	}
	tcp, ok := peer.(*net.TCPAddr)
	local := ok && tcp.IP.IsLoopback()
	if has, _ := c.Extension("STARTTLS"); has {
		roots, err := pool(m.cfg.Roots)
		if err != nil {
			return err
		}
		if err := c.StartTLS(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: roots}); err != nil {
			return err
		}
	} else if !local {
		return errors.New("the mail server offers no STARTTLS")
	}
	if m.cfg.MailUser == "" {
		return nil
	}
	password, err := secret(m.cfg.MailFile)
	if err != nil {
		return err
	}
	return c.Auth(smtp.PlainAuth("", m.cfg.MailUser, password, host))
}

// text is the message. What is in an alarm comes from a log's origin and this program: line breaks are taken out all the same.
func (m mail) text(a Alarm) string {
	line := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, s)
	}
	again, subject, more := "", "[aes-backup] "+line(a.Kind)+": "+line(a.Origin), `"appliance receiver status" on that host says more.`
	if a.Kind == KindDoctor {
		subject, more = "[aes-appliance] "+line(a.Host)+": not in order", `"appliance doctor" on that host says more, and what to do.`
	}
	if a.Again {
		again = " (it lasts)"
	}
	return strings.Join([]string{
		"From: " + m.cfg.MailFrom,
		"To: " + strings.Join(m.cfg.MailTo, ", "),
		"Subject: " + subject,
		"Date: " + a.Time.Format(time.RFC1123Z),
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"Auto-Submitted: auto-generated",
		"",
		wrapped(line(a.Text) + again),
		"",
		fmt.Sprintf("log    %s", line(a.Origin)),
		fmt.Sprintf("host   %s", line(a.Host)),
		fmt.Sprintf("time   %s", a.Time.UTC().Format(time.RFC3339)),
		fmt.Sprintf("count  %d since the last message of this sort", a.Count),
		"",
		more,
		"",
	}, "\r\n")
}

// RFC 5322 §2.1.1: a line should have 78 bytes at most, and must not have more than 998: mail servers refuse a message with a longer one.
const (
	goodLine = 78
	mostLine = 998
)

// wrapped breaks a text into lines, at spaces, and within a word only where it is longer than a line may be.
func wrapped(text string) string {
	var b strings.Builder
	used := 0
	for word := range strings.FieldsSeq(text) {
		if used > 0 && used+1+len(word) > goodLine {
			b.WriteString("\r\n")
			used = 0
		}
		if used > 0 {
			b.WriteByte(' ')
			used++
		}
		for _, r := range word {
			if used+utf8.RuneLen(r) > mostLine {
				b.WriteString("\r\n")
				used = 0
			}
			b.WriteRune(r)
			used += utf8.RuneLen(r)
		}
	}
	return b.String()
}
