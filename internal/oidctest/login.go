package oidctest

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"
)

// redirectURI is where the provider sends a browser that has logged in; nothing is there.
const redirectURI = "https://app.example.org/callback"

const route = "/protocol/openid-connect"

// Person is who logs in, and how.
type Person struct {
	Sub         string              `json:"sub"`
	Username    string              `json:"username"`
	Name        string              `json:"name"`
	Roles       []string            `json:"roles"` // realm_access; nil: the token tells none
	ClientRoles map[string][]string `json:"client_roles,omitempty"`
	ACR         string              `json:"acr"`      // one of 0, 1, 2, gold
	AuthAge     int                 `json:"auth_age"` // seconds since the log-in
	NoAuthTime  bool                `json:"no_auth_time,omitempty"`
}

// Doctor is a clinician who has just logged in with two factors.
func Doctor() Person {
	return Person{Sub: "3f1c9a52-7d5e-4c1b-9a51-0d3f6b7a2c11", Username: "dr.clinician", Name: "Doctor Clinician", Roles: []string{"clinician"}, ACR: "2"}
}

// Tokens are what a log-in gives.
type Tokens struct {
	Access  string `json:"access_token"`
	ID      string `json:"id_token"`
	Refresh string `json:"refresh_token"`
}

// client is a browser without pictures, and a booking app's back end.
func (p *Provider) client(t testing.TB) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: p.tls, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", p.Address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), redirectURI) || len(via) > 10 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
}

// Login lets a person log in to the booking app: authorization code flow with PKCE, as mozilla-django-oidc does it.
func (r *Realm) Login(t testing.TB, p Person) Tokens {
	t.Helper()
	return r.LoginTo(t, p, ClientApp)
}

// LoginTo is Login to another client.
func (r *Realm) LoginTo(t testing.TB, p Person, client string) Tokens {
	t.Helper()
	who, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c, verifier, b64 := r.provider.client(t), rand.Text()+rand.Text(), base64.RawURLEncoding
	challenge := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"client_id": {client}, "response_type": {"code"}, "redirect_uri": {redirectURI}, "scope": {"openid profile sign"},
		"state": {"s"}, "nonce": {"n"}, "code_challenge": {b64.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
		"login_hint": {b64.EncodeToString(who)},
	}
	resp, err := c.Get(r.Issuer + route + "/auth?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	where, err := resp.Location()
	if err != nil || where.Query().Get("code") == "" {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 2000))
		t.Fatalf("the log-in ended with %s, %v\n%s", resp.Status, where, body)
	}
	var tokens Tokens
	r.token(t, c, client, url.Values{"grant_type": {"authorization_code"}, "code": {where.Query().Get("code")}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}}, &tokens)
	return tokens
}

// Service returns the access token of the service account aes-signer-sa: client credentials, no person.
func (r *Realm) Service(t testing.TB) string {
	t.Helper()
	var tokens Tokens
	r.token(t, r.provider.client(t), ClientService, url.Values{"grant_type": {"client_credentials"}, "scope": {"sign"}}, &tokens)
	return tokens.Access
}

func (r *Realm) token(t testing.TB, c *http.Client, client string, form url.Values, tokens *Tokens) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.Issuer+route+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(client, "secret")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the token endpoint answered %s: %s, %v", resp.Status, body, err)
	}
	if err := json.Unmarshal(body, tokens); err != nil {
		t.Fatal(err)
	}
}

// JWKS returns the set of keys that the realm publishes.
func (r *Realm) JWKS(t testing.TB) []byte {
	t.Helper()
	resp, err := r.provider.client(t).Get(r.Issuer + route + "/certs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", resp.Status, body, err)
	}
	return body
}

// Decode returns the header and the claims of a token, unverified: what a forger begins with.
func Decode(t testing.TB, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	for i, to := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(strings.NewReader(string(raw)))
		d.UseNumber()
		if err := d.Decode(to); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// With returns a copy of m with some values changed; nil takes a name away.
func With(m map[string]any, changes map[string]any) map[string]any {
	m = maps.Clone(m)
	for name, value := range changes {
		if value == nil {
			delete(m, name)
			continue
		}
		m[name] = value
	}
	return m
}

// Encode writes a token with the signature that sign makes over its signing input.
func Encode(t testing.TB, header, claims map[string]any, sign func(input []byte) []byte) string {
	t.Helper()
	var input string
	for _, part := range []map[string]any{header, claims} {
		raw, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		input += "." + base64.RawURLEncoding.EncodeToString(raw)
	}
	input = input[1:]
	return input + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(input)))
}

// Sign writes a token as the realm itself would: RS256 with its key.
func (r *Realm) Sign(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	return Encode(t, header, claims, func(input []byte) []byte {
		sum := sha256.Sum256(input)
		sig, err := rsa.SignPKCS1v15(rand.Reader, r.Key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	})
}
