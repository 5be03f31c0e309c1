package alarm

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
)

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// collector is a program that adds what it is given to a file.
func collector(t *testing.T) (path string, got func() []Alarm) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "alarms")
	path = write(t, "page", "#!/bin/sh\ncat >> "+out+"\n", 0o700)
	return path, func() (list []Alarm) {
		data, _ := os.ReadFile(out)
		for line := range strings.Lines(string(data)) {
			var a Alarm
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			list = append(list, a)
		}
		return list
	}
}

func running(t *testing.T, c *Caller) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// TestAlarmsOfOneSortAreBounded: the first at once, the others counted and told later; another sort is told at once; what lasts is told again.
func TestAlarmsOfOneSortAreBounded(t *testing.T) {
	path, got := collector(t)
	c := New(config.Alarm{Command: path, Every: 2 * time.Second}, "backup-1", silent())
	running(t, c)
	at := time.Now()
	for range 5 {
		c.Raise(Alarm{Kind: "refusal", Time: at, Origin: "a/log", Text: "a fork"})
	}
	c.Raise(Alarm{Kind: "refusal", Time: at, Origin: "b/log", Text: "a fork"})
	until(t, "the first of each", func() bool { return len(got()) == 2 })
	c.Raise(Alarm{Kind: KindSilence, Time: at, Origin: "a/log", Text: "nothing was heard"})
	until(t, "the rest of the refusals, and the silence twice", func() bool { return len(got()) >= 5 })
	var refusals, silences []Alarm
	for _, a := range got() {
		if a.Host != "backup-1" || a.Text == "" {
			t.Errorf("%+v", a)
		}
		switch {
		case a.Kind == "refusal" && a.Origin == "a/log":
			refusals = append(refusals, a)
		case a.Kind == KindSilence:
			silences = append(silences, a)
		}
	}
	if len(refusals) != 2 || refusals[0].Count != 1 || refusals[1].Count != 4 {
		t.Errorf("refusals: %+v", refusals)
	}
	if len(silences) != 2 || silences[0].Again || !silences[1].Again {
		t.Errorf("silences: %+v", silences)
	}
	c.Raise(Alarm{Kind: KindReturn, Time: at, Origin: "a/log", Text: "heard again"})
	until(t, "the return", func() bool { l := got(); return l[len(l)-1].Kind == KindReturn })
	n := len(got())
	time.Sleep(2500 * time.Millisecond)
	if len(got()) != n {
		t.Errorf("after the return came %+v", got()[n:])
	}
}

// hook is a webhook over TLS, and the files that a configuration names for it.
func hook(t *testing.T, answer func(n int) int) (file, roots string, got func() []Alarm) {
	t.Helper()
	arrived := make(chan Alarm, 16)
	n := 0
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if code := answer(n); code != 200 {
			http.Error(w, "no", code)
			return
		}
		var a Alarm
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &a); err != nil || r.URL.Path != "/secret" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %s: %v", r.Method, r.URL, body, err)
		}
		arrived <- a
	}))
	t.Cleanup(s.Close)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	var list []Alarm
	return write(t, "webhook", s.URL+"/secret\n", 0o600), write(t, "roots.pem", string(text), 0o600), func() []Alarm {
		for len(arrived) > 0 {
			list = append(list, <-arrived)
		}
		return list
	}
}

// TestWebhookIsTriedAgain, while a command that fails is tried for itself.
func TestWebhookIsTriedAgain(t *testing.T) {
	file, roots, got := hook(t, func(n int) int { return map[bool]int{true: 503, false: 200}[n == 1] })
	c := New(config.Alarm{Command: "/nowhere", Webhook: file, Roots: roots, Every: time.Hour}, "h", silent())
	running(t, c)
	c.Raise(Alarm{Kind: "refusal", Time: time.Now(), Origin: "a/log", Text: "a fork"})
	until(t, "the second attempt", func() bool { return len(got()) == 1 })
}

func TestTryTellsWhatIsWrong(t *testing.T) {
	file, roots, got := hook(t, func(int) int { return 200 })
	a := Alarm{Kind: "test", Time: time.Now(), Text: "a test"}
	if err := New(config.Alarm{Webhook: file, Roots: roots}, "h", silent()).Try(t.Context(), a); err != nil || len(got()) != 1 {
		t.Errorf("%v, %v", err, got())
	}
	plain := write(t, "plain", "http://127.0.0.1/secret", 0o600)
	for what, c := range map[string]struct {
		cfg  config.Alarm
		want string
	}{
		"a certificate of nobody": {config.Alarm{Webhook: file}, "certificate"},
		"no file":                 {config.Alarm{Webhook: "/nowhere"}, "no such file"},
		"plain http":              {config.Alarm{Webhook: plain}, "https"},
		"a command that fails":    {config.Alarm{Command: write(t, "page", "#!/bin/sh\necho no network >&2; exit 3\n", 0o700)}, "no network"},
		"no mail server":          {config.Alarm{MailHost: "127.0.0.1:1", MailFrom: "a@b", MailTo: []string{"c@d"}}, "refused"},
	} {
		err := New(c.cfg, "h", silent()).Try(t.Context(), a)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "/secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestMail speaks SMTP with a server on this machine, which needs no TLS.
func TestMail(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in, all, data := bufio.NewReader(conn), "", false
		fmt.Fprint(conn, "220 here\r\n")
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			all += line
			switch word := strings.ToUpper(strings.TrimSpace(line)); {
			case data && word == ".":
				data = false
				fmt.Fprint(conn, "250 taken\r\n")
			case data:
			case strings.HasPrefix(word, "EHLO"):
				fmt.Fprint(conn, "250 here\r\n")
			case word == "DATA":
				data = true
				fmt.Fprint(conn, "354 go on\r\n")
			case word == "QUIT":
				fmt.Fprint(conn, "221 bye\r\n")
				heard <- all
				return
			default:
				fmt.Fprint(conn, "250 yes\r\n")
			}
		}
	}()
	c := New(config.Alarm{MailHost: l.Addr().String(), MailFrom: "backup@example.org", MailTo: []string{"a@example.org", "b@example.org"}}, "backup-1", silent())
	if err := c.Try(t.Context(), Alarm{Kind: "refusal", Time: time.Unix(1e9, 0), Origin: "x\r\nBcc: evil@example.org", Text: "a fork"}); err != nil {
		t.Fatal(err)
	}
	all := <-heard
	for _, want := range []string{"MAIL FROM:<backup@example.org>", "RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>", "Subject: [aes-backup] refusal: x  Bcc: evil@example.org\r\n", "\r\na fork\r\n", "host   backup-1"} {
		if !strings.Contains(all, want) {
			t.Errorf("the mail lacks %q:\n%s", want, all)
		}
	}
}

// TestRootRunsItsOwnProgramsOnly: root does not run, as its call for help, what a service's user could have put there.
func TestRootRunsItsOwnProgramsOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test takes root: only root refuses")
		}
		t.Skip("only root refuses")
	}
	a := Alarm{Kind: KindDoctor, Time: time.Now(), Text: "x"}
	for name, spoil := range map[string]func(path string) error{
		"nothing": func(string) error { return nil },
		"behind root's own links": func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Mkdir(dir+"/real", 0o755), os.Rename(path, dir+"/real/page2"), os.Symlink("real/.", dir+"/current"), os.Symlink("current/../real/page2", path))
		},
		"another's":             func(path string) error { return os.Chown(path, 12345, 0) },
		"writable by the group": func(path string) error { return os.Chmod(path, 0o770) },
		"in another's folder":   func(path string) error { return os.Chown(filepath.Dir(path), 12345, 0) },
		"in a folder of all":    func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
		"behind another's link": func(path string) error {
			return errors.Join(os.Rename(path, path+"2"), os.Chown(path+"2", 12345, 0), os.Symlink(path+"2", path))
		},
		"behind a link in another's folder": func(path string) error {
			dir := filepath.Join(filepath.Dir(path), "theirs")
			return errors.Join(os.Mkdir(dir, 0o755), os.Rename(path, path+"2"), os.Symlink(path+"2", filepath.Join(dir, "page")), os.Chown(dir, 12345, 0), os.Symlink("./theirs/page", path))
		},
		"behind a link of another's": func(path string) error {
			return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path), os.Lchown(path, 12345, 0))
		},
		"behind a link to itself": func(path string) error { return errors.Join(os.Remove(path), os.Symlink(path, path)) },
		"in a folder above that":  func(path string) error { return os.Chmod(filepath.Dir(filepath.Dir(path)), 0o777) },
	} {
		t.Run(name, func(t *testing.T) { // in a folder of its own, up to the system's
			path, got := collector(t)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			err := New(config.Alarm{Command: path}, "h", silent()).Try(t.Context(), a)
			if good := name == "nothing" || name == "behind root's own links"; good != (err == nil) || good != (len(got()) == 1) {
				t.Errorf("%v, %d calls", err, len(got()))
			}
		})
	}
}
