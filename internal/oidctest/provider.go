package oidctest

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Options say how the provider appears.
type Options struct {
	// Host is the host of the issuers, which are then https://HOST/realms/NAME with a certificate by Provider.CA. The provider listens on loopback
	// all the same: dial Provider.Address for it. "" makes them http://127.0.0.1:PORT/realms/NAME, which only a demo accepts.
	Host string
}

// Provider is a running provider with the realms a and b.
type Provider struct {
	Address string // where it listens: 127.0.0.1:PORT
	CA      string // PEM of who vouches for its TLS; "" without Host

	Authority    *x509.Certificate // of CA
	AuthorityKey crypto.Signer

	A, B *Realm // A writes tokens as a Keycloak does, B as RFC 9068 says

	tls *tls.Config // of clients
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Scanner
}

// Realm is one issuer.
type Realm struct {
	Issuer string
	Kid    string
	Key    *rsa.PrivateKey // with which it signs: what a test signs with it, the realm could have signed

	name     string
	provider *Provider
}

// Start starts a provider that ends with the test.
func Start(t testing.TB, o Options) *Provider {
	t.Helper()
	cmd := command(t)
	errs := &tail{}
	cmd.Stderr = errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the provider ended: %v", err)
		}
		if t.Failed() {
			t.Logf("the provider said:\n%s", errs)
		}
	})
	p := &Provider{in: in, out: bufio.NewScanner(out)}
	listen := map[string]any{"do": "listen"}
	if o.Host != "" {
		p.makeTLS(t, o.Host, listen)
	}
	var where struct{ Port int }
	p.command(t, listen, &where)
	p.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(where.Port))
	base := "http://" + p.Address
	if o.Host != "" {
		base = "https://" + o.Host
	}
	p.A = p.realm(t, "a", base)
	p.B = p.realm(t, "b", base)
	return p
}

// realm makes a realm with a new key.
func (p *Provider) realm(t testing.TB, name, base string) *Realm {
	t.Helper()
	r := &Realm{Issuer: base + "/realms/" + name, name: name, provider: p}
	r.Rotate(t)
	return r
}

// Rotate gives the realm a new key in place of its old one. Sessions are lost.
func (r *Realm) Rotate(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r.Key, r.Kid = key, "kid-"+r.name+"-"+rand.Text()[:8]
	style := "rfc9068"
	if r.name == "a" {
		style = "keycloak"
	}
	r.provider.command(t, map[string]any{
		"do": "realm", "issuer": r.Issuer, "style": style, "clients": clients(), "jwks": map[string]any{"keys": []any{r.privateJWK()}},
	}, nil)
}

// Clients of both realms, each with the secret "secret".
const (
	ClientApp      = "booking-app"   // the booking app: its tokens are for the audience aes-portal
	ClientStranger = "stranger"      // another application: its tokens are for another audience
	ClientService  = "aes-signer-sa" // a service account with the clinician role
)

func clients() []any {
	redirect := []string{redirectURI}
	list := []any{}
	for _, id := range []string{ClientApp, ClientStranger} {
		list = append(list, map[string]any{"client_id": id, "client_secret": "secret", "redirect_uris": redirect, "grant_types": []string{"authorization_code", "refresh_token"}})
	}
	return append(list, map[string]any{"client_id": ClientService, "client_secret": "secret", "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{"client_credentials"}})
}

// privateJWK is the realm's key as the provider wants it. RFC 7518 §6.3.
func (r *Realm) privateJWK() map[string]any {
	b := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	k := r.Key
	return map[string]any{
		"kty": "RSA", "kid": r.Kid, "use": "sig", "alg": "RS256", "n": b(k.N), "e": b(big.NewInt(int64(k.E))), "d": b(k.D),
		"p": b(k.Primes[0]), "q": b(k.Primes[1]), "dp": b(k.Precomputed.Dp), "dq": b(k.Precomputed.Dq), "qi": b(k.Precomputed.Qinv),
	}
}

// command sends one line and reads the answer.
func (p *Provider) command(t testing.TB, c, answer any) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.in).Encode(c); err != nil {
		t.Fatalf("the provider takes no command: %v", err)
	}
	if !p.out.Scan() {
		t.Fatal("the provider gives no answer")
	}
	if answer == nil {
		return
	}
	if err := json.Unmarshal(p.out.Bytes(), answer); err != nil {
		t.Fatalf("the provider answered %q: %v", p.out.Text(), err)
	}
}

// makeTLS makes a CA and a certificate by it, and adds them to the command that listens.
func (p *Provider) makeTLS(t testing.TB, host string, command map[string]any) {
	t.Helper()
	ca, caKey := Issue(t, nil, nil, "")
	leaf, key := Issue(t, ca, caKey, host)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.Authority, p.AuthorityKey = ca, caKey
	p.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	command["key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	command["cert"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	p.tls = &tls.Config{RootCAs: pool}
}

// Issue makes a certificate for a TLS host, by parent; without one a CA.
func Issue(t testing.TB, parent *x509.Certificate, parentKey crypto.Signer, host string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	if parent == nil {
		tmpl.Subject = pkix.Name{CommonName: "Test CA " + rand.Text()[:6]}
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, parentKey = tmpl, key
	} else {
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			tmpl.IPAddresses = []net.IP{ip}
		} else {
			tmpl.DNSNames = []string{host}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	crt, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return crt, key
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	b.text = b.text[max(0, len(b.text)-8<<10):]
	return len(p), nil
}

func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
