package portal

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestOverlongHeader: a header that is too large gets a problem document, over HTTP/1.1 and HTTP/2, and the signer is not bothered.
func TestOverlongHeader(t *testing.T) {
	p, d := newPortal(t, nil)
	d.certify(p.cfg.Hosts, time.Hour)
	l, _ := serve(t, p)
	for major, client := range map[int]*http.Client{1: clientOf(t, d.root), 2: clientOf(t, d.root)} {
		if major == 1 {
			tr := client.Transport.(*http.Transport)
			tr.ForceAttemptHTTP2, tr.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		for _, c := range []struct {
			name, value string
			status      int
			code        string
		}{
			{"Authorization", "Bearer " + strings.Repeat("a", 1<<20), 401, "token-too-large"},
			{"Authorization", "Bearer " + strings.Repeat("a", 40<<10), 401, "token-too-large"},
			{"Authorization", "Bearer " + strings.Repeat("a", maxToken+1), 401, "token-too-large"},
			{"Cookie", strings.Repeat("c", 100<<10), 431, "header-too-large"},
			{"X-Forwarded-For", strings.Repeat("192.0.2.1,", 50<<10), 431, "header-too-large"},
		} {
			r, err := http.NewRequest(http.MethodGet, "https://"+l.HTTPS.Addr().String()+"/api/prescriptions", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(c.name, c.value)
			answer, err := client.Do(r)
			if err != nil {
				t.Fatalf("HTTP/%d, %s of %d bytes: %v", major, c.name, len(c.value), err)
			}
			var shown Problem
			err = json.NewDecoder(answer.Body).Decode(&shown)
			answer.Body.Close()
			if err != nil || answer.ProtoMajor != major || answer.StatusCode != c.status || shown.Type != problemPath+c.code || shown.WhatToDo == "" || shown.RequestID == "" ||
				answer.Header.Get("Content-Type") != problemJSON {
				t.Errorf("HTTP/%d, %s of %d bytes: HTTP/%d %d %+v, %v", major, c.name, len(c.value), answer.ProtoMajor, answer.StatusCode, shown, err)
			}
		}
	}
}

// TestRefusedWhileSending: who reads nothing before the whole body is sent is told why it was refused, however large the body.
func TestRefusedWhileSending(t *testing.T) {
	p, d := newPortal(t, nil)
	d.certify(p.cfg.Hosts, time.Hour)
	l, _ := serve(t, p)
	pool := x509.NewCertPool()
	pool.AddCert(d.root)
	for head, code := range map[string]string{
		"POST /api/sign HTTP/1.1\r\nContent-Type: application/json\r\n":       "token-missing",
		"POST /api/verify HTTP/1.1\r\nContent-Type: application/pdf\r\n":      "too-large",
		"POST /tsa HTTP/1.1\r\nContent-Type: application/timestamp-query\r\n": "too-large",
	} {
		conn, err := tls.Dial("tcp", l.HTTPS.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := make([]byte, 48<<20)
		if _, err := io.WriteString(conn, head+fmt.Sprintf("Host: localhost\r\nContent-Length: %d\r\n\r\n", len(body))); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Write(body); err != nil {
			t.Errorf("%s: the connection closed after %d bytes: %v", code, n, err)
			continue
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", code, err)
			continue
		}
		var shown Problem
		if err := json.NewDecoder(answer.Body).Decode(&shown); err != nil || shown.Type != problemPath+code {
			t.Errorf("%s: %d %+v, %v", code, answer.StatusCode, shown, err)
		}
		answer.Body.Close()
	}
}

// TestCrowd: one address has a bounded number of connections, and a trusted proxy as many as there are.
func TestCrowd(t *testing.T) {
	for name, trusted := range map[string][]netip.Prefix{"anybody": nil, "a proxy": {netip.MustParsePrefix("127.0.0.0/8")}} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := newCrowd(inner, trusted)
		t.Cleanup(func() { c.Close() })
		accepted := make(chan net.Conn, 2*maxOpenAddress)
		go func() {
			for {
				conn, err := c.Accept()
				if err != nil {
					return
				}
				accepted <- conn
			}
		}()
		dial := func() net.Conn {
			t.Helper()
			conn, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		var held []net.Conn
		for range maxOpenAddress {
			dial()
			held = append(held, <-accepted)
		}
		over := dial()
		if trusted != nil {
			(<-accepted).Close()
			continue
		}
		over.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := over.Read(make([]byte, 1)); err != io.EOF && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: one too many: %v", name, err)
		}
		held[0].Close()
		held[0].Close() // twice is once
		dial()
		held[0] = <-accepted
		if c.all != maxOpenAddress || c.from["127.0.0.1"] != maxOpenAddress {
			t.Errorf("%s: %d, %v", name, c.all, c.from)
		}
		for _, conn := range held {
			conn.Close()
		}
		if c.all != 0 || len(c.from) != 0 {
			t.Errorf("%s: %d, %v are left", name, c.all, c.from)
		}
	}
}
