package activation_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/oidctest"
)

const (
	host   = "sso.example.org"
	issuer = "https://" + host + "/realms/a"
	path   = "/realms/a/protocol/openid-connect/certs"
)

// forger has a key that it would like the realm to have.
type forger struct {
	t   testing.TB
	key *rsa.PrivateKey
}

func newForger(t testing.TB) forger {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return forger{t, key}
}

func (f forger) jwks() []byte {
	n := base64.RawURLEncoding.EncodeToString(f.key.N.Bytes())
	e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(f.key.E)).Bytes())
	return fmt.Appendf(nil, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"forged","n":%q,"e":%q}]}`, n, e)
}

func (f forger) token(now time.Time) string { return f.tokenOf(now, "forged") }

// tokenOf is token under another name of the key.
func (f forger) tokenOf(now time.Time, kid string) string {
	r := oidctest.Realm{Key: f.key}
	return r.Sign(f.t, map[string]any{"alg": "RS256", "typ": "JWT", "kid": kid}, map[string]any{
		"iss": issuer, "sub": "victim", "typ": "Bearer", "aud": "aes-portal", "azp": "booking-app", "iat": now.Unix(), "exp": now.Unix() + 300,
		"auth_time": now.Unix(), "acr": "2", "preferred_username": "dr.clinician", "realm_access": map[string]any{"roles": []string{"clinician", "aes-admin"}},
	})
}

// jwksHandler answers at the one path with body.
func jwksHandler(body []byte) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	})
	return m
}

// https serves h with a certificate, on any address.
func https(t testing.TB, crt *x509.Certificate, key crypto.Signer, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{crt.Raw}, PrivateKey: key}}}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(tls.NewListener(ln, config))
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

func pemOf(crt *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: crt.Raw}))
}

// TestLyingMiddleman: a portal that leads the connection elsewhere, or sits in between, gets no key of its own believed.
func TestLyingMiddleman(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	evil, evilKey := oidctest.Issue(t, nil, nil, "")
	fake, fakeKey := oidctest.Issue(t, evil, evilKey, host)
	other, otherKey := oidctest.Issue(t, ca, caKey, "other.example.org")
	f := newForger(t)
	lie := jwksHandler(f.jwks())
	plain := serve(t, func(c net.Conn) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(f.jwks()), f.jwks())
		io.Copy(io.Discard, c)
	})
	honest := https(t, leaf, leafKey, jwksHandler(newForger(t).jwks()))
	// It passes the handshake on to the true realm and changes what comes after it.
	tamper := serve(t, func(c net.Conn) {
		up, err := net.Dial("tcp", honest)
		if err != nil {
			return
		}
		defer up.Close()
		go io.Copy(up, c)
		buf := make([]byte, 4096)
		for total := 0; ; {
			n, err := up.Read(buf)
			if total += n; n > 0 && total > 1500 {
				buf[n-1] ^= 1
			}
			if _, werr := c.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	})
	for name, to := range map[string]string{
		"a certificate by a CA of its own":  https(t, fake, fakeKey, lie),
		"a self-signed one":                 https(t, evil, evilKey, lie),
		"the right CA, another host's":      https(t, other, otherKey, lie),
		"no TLS":                            plain,
		"the true realm, and changed bytes": tamper,
	} {
		q := &portal{lab: newLab(t), to: to}
		q.clinic("north", issuer, pemOf(ca), nil)
		var need *activation.NeedKeys
		_, err := q.Authenticate(context.Background(), f.token(q.now()), q.now())
		if !errors.As(err, &need) || need.Address != host+":443" || need.Issuer != issuer {
			t.Fatalf("%s: %v", name, err)
		}
		if err := q.dial(need); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: the fetch ended with %v", name, err)
		}
		_, err = q.who(f.token(q.now()))
		wantCode(t, name, err, fault.Unavailable, activation.NoKeys)
		if lines := q.lines("realm_key_first_seen", "realm_keys_changed"); len(lines) != 0 {
			t.Errorf("%s: %v", name, lines)
		}
		// What broke off is no proof of a lie; a certificate that is not the realm's is a line.
		if lines := q.lines("realm_keys_refused"); strings.Contains(name, "TLS") || strings.Contains(name, "changed bytes") {
			if len(lines) != 0 {
				t.Errorf("%s: %v", name, lines)
			}
		} else if len(lines) != 1 || lines[0].Details["code"] != activation.RealmCertificate || lines[0].Details["issuer"] != issuer {
			t.Errorf("%s: %v", name, lines)
		}
	}
	// The same lie by whoever really has the realm's certificate would be believed: that the table above refuses is TLS's doing.
	q := &portal{lab: newLab(t), to: https(t, leaf, leafKey, lie)}
	q.clinic("north", issuer, pemOf(ca), nil)
	if c, err := q.who(f.token(q.now())); err != nil || c.Sub != "victim" {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestBadRealm: what a realm that has gone wrong, or is slow, can do is to be unavailable.
func TestBadRealm(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	f := newForger(t)
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf(`{"kty":"RSA","use":"sig","kid":"k%d","n":"%s","e":"AQAB"}`, i, base64.RawURLEncoding.EncodeToString(f.key.N.Bytes()))
	}
	small := make([]string, 10_000)
	for i := range small {
		small[i] = "{}"
	}
	set := func(keys []string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }
	respond := func(header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", header)
			io.WriteString(w, body)
		}
	}
	slow := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, c := range f.jwks() {
			w.Write([]byte{c})
			w.(http.Flusher).Flush()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	}
	silent := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	for name, to := range map[string]string{
		"10,000 keys":         https(t, leaf, leafKey, jwksHandler(set(many))),
		"10,000 empty keys":   https(t, leaf, leafKey, jwksHandler(set(small))),
		"endless":             https(t, leaf, leafKey, endless()),
		"a byte at a time":    https(t, leaf, leafKey, http.HandlerFunc(slow)),
		"silent":              silent,
		"closes at once":      serve(t, func(net.Conn) {}),
		"404":                 https(t, leaf, leafKey, http.NotFoundHandler()),
		"a redirection":       https(t, leaf, leafKey, http.RedirectHandler("https://evil.example/jwks", http.StatusFound)),
		"a page":              https(t, leaf, leafKey, respond("text/html", string(f.jwks()))),
		"no JSON":             https(t, leaf, leafKey, respond("application/json", "<html>")),
		"a set without a key": https(t, leaf, leafKey, respond("application/json", `{"keys":[]}`)),
		"headers of 1 MB": https(t, leaf, leafKey, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			respond("application/json", string(f.jwks()))(w, nil)
		})),
	} {
		t.Run(name, func(t *testing.T) {
			l := &lab{t: t, dir: t.TempDir(), at: time.Now().UTC(), timing: activation.Timing{Fetch: 500 * time.Millisecond}}
			l.open()
			t.Cleanup(l.close)
			q := &portal{lab: l, to: to}
			q.clinic("north", issuer, pemOf(ca), nil)
			start := time.Now()
			_, err := q.who(f.token(q.now()))
			wantCode(t, name, err, fault.Unavailable, activation.NoKeys)
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			if lines := q.lines("realm_key_first_seen", "realm_keys_changed"); len(lines) != 0 {
				t.Errorf("%v", lines)
			}
		})
	}
}

func endless() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
}

// TestFetchOnlyWhenAsked: a portal cannot make the signer fetch at will.
func TestFetchOnlyWhenAsked(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	f := newForger(t)
	q := &portal{lab: newLab(t), to: https(t, leaf, leafKey, jwksHandler(f.jwks()))}
	q.clinic("north", issuer, pemOf(ca), nil)
	need := &activation.NeedKeys{Issuer: issuer, Address: host + ":443"}
	if err := q.dial(need); fault.KindOf(err) != fault.Conflict {
		t.Errorf("unasked: %v", err)
	}
	if _, err := q.who(f.token(q.now())); err != nil {
		t.Fatal(err)
	}
	if err := q.dial(need); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a second time: %v", err)
	}
}

// TestWaitIsBounded: who waits for a connection that never comes gets an answer.
func TestWaitIsBounded(t *testing.T) {
	ca, _ := oidctest.Issue(t, nil, nil, "")
	l := &lab{t: t, dir: t.TempDir(), at: time.Now().UTC(), timing: activation.Timing{Await: 100 * time.Millisecond}}
	l.open()
	t.Cleanup(l.close)
	l.clinic("north", issuer, pemOf(ca), nil)
	f := newForger(t)
	token := f.token(l.now())
	var need *activation.NeedKeys
	if _, err := l.Authenticate(context.Background(), token, l.now()); !errors.As(err, &need) {
		t.Fatal(err)
	}
	if fault.KindOf(error(need)) != fault.Unavailable {
		t.Errorf("%v", fault.KindOf(need))
	}
	start := time.Now()
	_, err := l.Authenticate(context.Background(), token, l.now())
	wantCode(t, "waiting", err, fault.Unavailable, activation.NoKeys)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("waited %v", took)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = l.Authenticate(ctx, token, l.now())
	wantCode(t, "given up", err, fault.Unavailable, activation.NoKeys)
}

// TestSystemRoots: without a CA of its own a realm is held against the configured roots, not against anything.
func TestSystemRoots(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	f := newForger(t)
	q := &portal{lab: newLab(t), to: https(t, leaf, leafKey, jwksHandler(f.jwks()))}
	q.clinic("north", issuer, "", nil)
	_, err := q.who(f.token(q.now()))
	wantCode(t, "a CA that the system does not know", err, fault.Unavailable, activation.NoKeys)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	q.Activation, err = activation.Open(context.Background(), activation.Config{Ledger: q.ledger, Roots: pool})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.who(f.token(q.now())); err != nil {
		t.Error(err)
	}
}

// TestConnectionThatIsMadeToBlock: whoever handed the connection over has a copy of it, and can take O_NONBLOCK off what both share. The fetch ends all
// the same, and the next one can begin.
func TestConnectionThatIsMadeToBlock(t *testing.T) {
	l := &lab{t: t, dir: t.TempDir(), at: time.Now().UTC(), timing: activation.Timing{Fetch: 300 * time.Millisecond}}
	l.open()
	t.Cleanup(l.close)
	ca, _ := oidctest.Issue(t, nil, nil, "")
	q := &portal{lab: l}
	q.clinic("north", issuer, pemOf(ca), nil)
	silent := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	for range 2 {
		var need *activation.NeedKeys
		if _, err := q.Authenticate(context.Background(), newForger(t).token(q.now()), q.now()); !errors.As(err, &need) {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", silent)
		if err != nil {
			t.Fatal(err)
		}
		copied, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer copied.Close()
		raw, err := copied.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { err = syscall.SetNonblock(int(fd), false) }); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- q.FetchKeys(context.Background(), need.Issuer, conn, q.now()) }()
		select {
		case err := <-ended:
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("the fetch ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the fetch does not end")
		}
		q.advance(2 * time.Second)
	}
}
