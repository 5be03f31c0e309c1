package portal

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestOnTheWire: what only a raw connection can do. Two lengths are one request or none, never one and the beginning of another; what plain http is sent
// with a token is refused; metrics are on the loopback listener alone.
func TestOnTheWire(t *testing.T) {
	p, d := newPortal(t, nil)
	d.certify(p.cfg.Hosts, time.Hour)
	l, _ := serve(t, p)
	pool := x509.NewCertPool()
	pool.AddCert(d.root)
	say := func(secure bool, text string) (answers []int) {
		t.Helper()
		var conn net.Conn
		var err error
		if secure {
			conn, err = tls.Dial("tcp", l.HTTPS.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"http/1.1"}})
		} else {
			conn, err = net.Dial("tcp", l.HTTP.Addr().String())
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
			t.Fatal(err)
		}
		for in := bufio.NewReader(conn); ; {
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				return answers
			}
			io.Copy(io.Discard, answer.Body) // what it says does not matter
			answer.Body.Close()
			answers = append(answers, answer.StatusCode)
			if answer.Close {
				return answers
			}
		}
	}
	smuggled := "GET /healthz HTTP/1.1\nHost: localhost\nConnection: close\n\n"
	for name, c := range map[string]struct{ text, want string }{
		"a length and chunks":   {"POST /api/verify HTTP/1.1\nHost: localhost\nContent-Type: application/pdf\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n" + smuggled, "[422]"},
		"two lengths":           {"POST /api/verify HTTP/1.1\nHost: localhost\nContent-Length: 0\nContent-Length: 5\n\n" + smuggled, "[400]"},
		"a strange encoding":    {"POST /api/verify HTTP/1.1\nHost: localhost\nTransfer-Encoding: xchunked\n\n0\n\n" + smuggled, "[501]"},
		"a length with a sign":  {"POST /api/verify HTTP/1.1\nHost: localhost\nContent-Length: +5\n\n" + smuggled, "[400]"},
		"a folded header":       {"GET /healthz HTTP/1.1\nHost: localhost\nX: a\n\tb\nConnection: close\n\n", "[200]"},
		"a blank before colon":  {"GET /healthz HTTP/1.1\nHost : localhost\n\n" + smuggled, "[400]"},
		"no host":               {"GET /healthz HTTP/1.1\n\n" + smuggled, "[400]"},
		"two hosts":             {"GET /healthz HTTP/1.1\nHost: a\nHost: b\n\n" + smuggled, "[400]"},
		"metrics, from outside": {"GET /metrics HTTP/1.1\nHost: localhost\nConnection: close\n\n", "[404]"},
		"readiness, likewise":   {"GET /readyz HTTP/1.1\nHost: localhost\nConnection: close\n\n", "[404]"},
	} {
		if got := fmt.Sprint(say(true, c.text)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	token := "Authorization: Bearer " + goodToken + "\n"
	if got := say(false, "GET /admin HTTP/1.1\nHost: localhost\nConnection: close\n"+token+"\n"); fmt.Sprint(got) != "[403]" {
		t.Errorf("a token over plain http: %v", got)
	}
	if got := say(false, "GET /ca/log-key.txt HTTP/1.1\nHost: evil.example\nConnection: close\n\n"); fmt.Sprint(got) != "[308]" {
		t.Errorf("the log's key over plain http: %v", got)
	}
}
