package portal

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// slow is a body that does not come to its end before it is told to.
type slow struct {
	begun, end chan struct{}
	once       *sync.Once
}

func newSlow() slow {
	return slow{begun: make(chan struct{}), end: make(chan struct{}), once: &sync.Once{}}
}

func (s slow) Read([]byte) (int, error) {
	s.once.Do(func() { close(s.begun) })
	<-s.end
	return 0, io.ErrUnexpectedEOF
}

// send makes a request with a body of that declared size from an address, and returns when the body is being read.
func send(p *Portal, path, from string, size int64, headers ...string) (answered chan int, body slow) {
	body = newSlow()
	r := httptest.NewRequest("POST", path, body)
	r.ContentLength, r.RemoteAddr, r.TLS = size, from+":4711", &tls.ConnectionState{}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answered = make(chan int, 1)
	go func() {
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, r)
		answered <- w.Code
	}()
	return answered, body
}

// TestSlowUploads: who uploads slowly holds no more than the part of one address, and everybody together no more than the whole.
func TestSlowUploads(t *testing.T) {
	p, _ := newPortal(t, nil)
	limit := p.cfg.BodyBytes
	small := func(from string) int {
		r := httptest.NewRequest("POST", "/api/verify", strings.NewReader("x"))
		r.RemoteAddr, r.TLS = from+":4711", &tls.ConnectionState{}
		r.Header.Set("Content-Type", "application/pdf")
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, r)
		return w.Code
	}
	var all []slow
	var answers []chan int
	for i := range 4 {
		from := fmt.Sprintf("192.0.2.%d", i+1)
		answered, body := send(p, "/api/verify", from, limit, "Content-Type", "application/pdf")
		<-body.begun
		all, answers = append(all, body), append(answers, answered)
		if got := small(from); got != 503 {
			t.Errorf("a second body of an address that has its part: %d", got)
		}
		want := 422 // no PDF
		if i == 3 {
			want = 503
		}
		if got := small("198.51.100.1"); got != want {
			t.Errorf("another address while %d are sending: %d, want %d", i+1, got, want)
		}
	}
	for i := range all {
		close(all[i].end)
		if got := <-answers[i]; got != 408 {
			t.Errorf("a body that broke off: %d", got)
		}
	}
	if got := small("192.0.2.1"); got != 422 {
		t.Errorf("afterwards: %d", got)
	}
	if len(p.uploads.usage) != 0 || p.uploads.used != 0 {
		t.Errorf("%d bytes of %v are still held", p.uploads.used, p.uploads.usage)
	}
}

// TestSlowCallers: those who send their prescriptions slowly do not keep others from signing.
func TestSlowCallers(t *testing.T) {
	p, d := newPortal(t, nil)
	reached := false
	d.do[wire.OpSignOpen] = func(any, *os.File) (any, *os.File, error) {
		reached = true
		return nil, nil, os.ErrInvalid
	}
	var all []slow
	var answers []chan int
	for range 2 * cap(p.light) {
		answered, body := send(p, "/api/sign", "192.0.2.1", 1000, authorised("Content-Type", "application/json")...)
		<-body.begun
		all, answers = append(all, body), append(answers, answered)
	}
	if ask(p, "POST", "/api/sign", signJSON(t, nil), authorised("Content-Type", "application/json")...); !reached {
		t.Error("a good request waited for slow ones")
	}
	for i := range all {
		close(all[i].end)
		<-answers[i]
	}
}

// TestFloodOfQuestions: however many ask for time stamps and statuses, only so many are before the signer at once; the rest hear that it is busy, and who
// has a token is not kept waiting.
func TestFloodOfQuestions(t *testing.T) {
	p, d := newPortal(t, nil)
	var now, most atomic.Int64
	hold := make(chan struct{})
	answer := func(any, *os.File) (any, *os.File, error) {
		most.Store(max(most.Load(), now.Add(1)))
		<-hold
		now.Add(-1)
		return wire.DER{DER: []byte{0x30, 0}}, nil, nil
	}
	d.do[wire.OpTSA], d.do[wire.OpOCSP] = answer, answer
	d.do[wire.OpPrescriptions] = func(any, *os.File) (any, *os.File, error) { return wire.PrescriptionPage{}, nil, nil }
	codes := make(chan int, 4*maxRelays)
	for i := range 2 * maxRelays {
		go func() {
			codes <- ask(p, "POST", "/tsa", "q", "Content-Type", "application/timestamp-query").Code
		}()
		go func() {
			codes <- ask(p, "POST", "/ocsp", fmt.Sprint(i), "Content-Type", "application/ocsp-request").Code
		}()
	}
	for range 3 * maxRelays { // the rest is told so after a while
		if got := <-codes; got != http.StatusServiceUnavailable {
			t.Errorf("one of too many: %d", got)
		}
	}
	if got := ask(p, "GET", "/api/prescriptions", "", authorised()...); got.Code != 200 {
		t.Errorf("with a token: %d", got.Code)
	}
	close(hold)
	for range maxRelays {
		if got := <-codes; got != 200 {
			t.Errorf("one of those that were asked: %d", got)
		}
	}
	if most.Load() != maxRelays {
		t.Errorf("%d at once", most.Load())
	}
}

// TestRealmsDialledApart: a realm that does not answer keeps nobody from another.
func TestRealmsDialledApart(t *testing.T) {
	hang := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, d := newPortal(t, func(c *Config) {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if address == "slow:443" {
				<-hang
				return nil, os.ErrDeadlineExceeded
			}
			return net.Dial("tcp", l.Addr().String())
		}
	})
	d.do[wire.OpRealmKeys] = func(any, *os.File) (any, *os.File, error) { return nil, nil, nil }
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() { p.dial(t.Context(), &wire.NeedDial{Issuer: "https://slow", Address: "slow:443"}) })
	}
	time.Sleep(20 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.dial(ctx, &wire.NeedDial{Issuer: "https://quick", Address: "quick:443"}); err != nil {
		t.Errorf("the other realm: %v", err)
	}
	close(hang)
	waiting.Wait()
}

// TestHeadersForAttackers: no page is framed, sniffed, scripted or kept, no other origin is let in, and an ID leads nowhere.
func TestHeadersForAttackers(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpDocument] = func(in any, _ *os.File) (any, *os.File, error) {
		f, err := wire.Memfd("x", []byte("%PDF"))
		return wire.DocumentInfo{FileName: "a\"; filename=\"b.exe\r\nX: y.pdf"}, f, err
	}
	for _, path := range []string{"/", "/docs", "/problems", "/privacy", "/verify", "/admin", "/api/pdf/RX-1", "/nothing", "/openapi.json"} {
		w := ask(p, "GET", path, "", authorised("Origin", "https://evil.example")...)
		h := w.Header()
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", path, h)
		}
		if strings.Contains(strings.ToLower(w.Body.String()), "<script") || strings.Contains(w.Body.String(), " style=") {
			t.Errorf("%s holds a script or a style of its own", path)
		}
		if path != "/openapi.json" && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept: %q", path, h.Get("Cache-Control"))
		}
	}
	got := ask(p, "GET", "/api/pdf/RX-1", "", authorised()...).Header().Get("Content-Disposition")
	if strings.ContainsAny(got, "\r\n") || !bytes.HasPrefix([]byte(got), []byte("attachment; filename")) || strings.Count(got, "filename=") > 1 {
		t.Errorf("a name made for it gives %q", got)
	}
}
