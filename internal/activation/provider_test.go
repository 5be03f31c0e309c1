package activation_test

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
	"github.com/veripath/aes-appliance/internal/oidctest"
)

// TestRealProvider judges tokens of a real OpenID provider, and forgeries of them.
func TestRealProvider(t *testing.T) {
	p := oidctest.Start(t, oidctest.Options{Host: "sso.example.org"})
	ready := func(t *testing.T) *portal {
		l := newLab(t)
		l.clinic("north", p.A.Issuer, p.CA, nil)
		l.clinic("south", p.B.Issuer, p.CA, nil)
		return &portal{lab: l, to: p.Address}
	}
	t.Run("good tokens sign", func(t *testing.T) { goodTokens(t, p, ready(t)) })
	t.Run("forged tokens are refused", func(t *testing.T) { forgedTokens(t, p, ready(t)) })
	t.Run("tokens that may not sign", func(t *testing.T) { weakTokens(t, p, ready(t)) })
	t.Run("service accounts", func(t *testing.T) { serviceAccounts(t, p, ready(t)) })
	t.Run("an issuer that is not registered", func(t *testing.T) { strangers(t, p, ready(t)) })
	t.Run("new keys", func(t *testing.T) { newKeys(t, p, ready(t)) })
	t.Run("outage", func(t *testing.T) { outage(t, p, ready(t)) })
}

func goodTokens(t *testing.T, p *oidctest.Provider, q *portal) {
	for slug, r := range map[string]*oidctest.Realm{"north": p.A, "south": p.B} {
		token := r.Login(t, oidctest.Doctor()).Access
		c, err := q.who(token)
		if err != nil {
			t.Fatal(err)
		}
		if c.Clinic != slug || c.Kind != activation.Clinician || c.Admin || c.Sub != oidctest.Doctor().Sub || c.Username != "dr.clinician" || c.ACR != "2" ||
			q.now().Sub(c.AuthTime) > time.Minute || c.KeyThumbprint == "" || c.TokenHash != sha256.Sum256([]byte(token)) {
			t.Errorf("%+v", c)
		}
		g, err := q.Authorize(context.Background(), q.request(c))
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte("document"))
		if err := g.Use(digest[:], q.now()); err != nil || g.Level != activation.LevelToken || g.Label != "" {
			t.Errorf("%v, %+v", err, g.Level)
		}
		// Replay of an authorisation: also for the same document.
		wantCode(t, "used twice", g.Use(digest[:], q.now()), fault.Conflict, activation.AuthorisationUsed)
		if used, ok := g.Digest(); !ok || used != digest {
			t.Error("another digest than it was used for")
		}
	}
	if n := q.dialled(); n != 2 {
		t.Errorf("%d connections for two realms", n)
	}
	if seen, changed := q.lines("realm_key_first_seen"), q.lines("realm_keys_changed"); len(seen) != 2 || len(changed) != 2 {
		t.Errorf("lines about keys: %v, %v", seen, changed)
	}
	if refused := q.lines("authentication_refused", "authorisation_refused"); len(refused) != 0 {
		t.Errorf("%v", refused)
	}
}

func forgedTokens(t *testing.T, p *oidctest.Provider, q *portal) {
	good := p.A.Login(t, oidctest.Doctor())
	b := p.B.Login(t, oidctest.Doctor())
	for _, token := range []string{good.Access, b.Access} {
		if _, err := q.who(token); err != nil {
			t.Fatal(err)
		}
	}
	h, c := oidctest.Decode(t, good.Access)
	with := oidctest.With
	public, err := x509.MarshalPKIXPublicKey(&p.A.Key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(secret []byte) string {
		return oidctest.Encode(t, with(h, map[string]any{"alg": "HS256"}), c, func(input []byte) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write(input)
			return m.Sum(nil)
		})
	}
	signed := func(r *oidctest.Realm, header, claims map[string]any) string {
		return r.Sign(t, with(h, header), with(c, claims))
	}
	forger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := q.now().Unix()
	for _, test := range []struct {
		name, token string
		kind        fault.Kind
		code        string
	}{
		{"alg none", oidctest.Encode(t, with(h, map[string]any{"alg": "none"}), c, func([]byte) []byte { return nil }), fault.Unauthorized, string(jwt.BadAlgorithm)},
		{"HS256 with the public key, DER", hs256(public), fault.Unauthorized, string(jwt.BadAlgorithm)},
		{"HS256 with the public key, PEM", hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), fault.Unauthorized, string(jwt.BadAlgorithm)},
		{"other realm's key under its own kid", signed(p.B, map[string]any{"kid": p.B.Kid}, nil), fault.Unauthorized, string(jwt.UnknownKid)},
		{"other realm's key under this realm's kid", signed(p.B, nil, nil), fault.Unauthorized, string(jwt.BadSignature)},
		{"other realm's token with this realm's issuer", signed(p.B, map[string]any{"kid": p.B.Kid}, map[string]any{"iss": p.A.Issuer}), fault.Unauthorized, string(jwt.UnknownKid)},
		{"a forger's key", oidctest.Encode(t, h, c, func(input []byte) []byte {
			sum := sha256.Sum256(input)
			sig, err := rsa.SignPKCS1v15(rand.Reader, forger, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return sig
		}), fault.Unauthorized, string(jwt.BadSignature)},
		{"a changed payload", changed(good.Access), fault.Unauthorized, string(jwt.BadSignature)},
		{"unknown kid", signed(p.A, map[string]any{"kid": "no-such"}, nil), fault.Unauthorized, string(jwt.UnknownKid)},
		{"issuer with a suffix", signed(p.A, nil, map[string]any{"iss": p.A.Issuer + ".evil.example"}), fault.Unauthorized, activation.UnknownRealm},
		{"issuer with a slash", signed(p.A, nil, map[string]any{"iss": p.A.Issuer + "/"}), fault.Unauthorized, activation.UnknownRealm},
		{"issuer in another case", signed(p.A, nil, map[string]any{"iss": strings.Replace(p.A.Issuer, "sso", "SSO", 1)}), fault.Unauthorized, activation.UnknownRealm},
		{"issuer with its port", signed(p.A, nil, map[string]any{"iss": strings.Replace(p.A.Issuer, ".org", ".org:443", 1)}), fault.Unauthorized, activation.UnknownRealm},
		{"issuer with http", signed(p.A, nil, map[string]any{"iss": strings.Replace(p.A.Issuer, "https", "http", 1)}), fault.Unauthorized, activation.UnknownRealm},
		{"issuer with a user", signed(p.A, nil, map[string]any{"iss": strings.Replace(p.A.Issuer, "//", "//sso@", 1)}), fault.Unauthorized, activation.UnknownRealm},
		{"issuer by another path", signed(p.A, nil, map[string]any{"iss": strings.Replace(p.A.Issuer, "/a", "/b/../a", 1)}), fault.Unauthorized, activation.UnknownRealm},
		{"issuer, escaped", signed(p.A, nil, map[string]any{"iss": strings.Replace(p.A.Issuer, "/a", "/%61", 1)}), fault.Unauthorized, activation.UnknownRealm},
		{"the other registered issuer", signed(p.A, nil, map[string]any{"iss": p.B.Issuer}), fault.Unauthorized, string(jwt.UnknownKid)},
		{"expired", signed(p.A, nil, map[string]any{"exp": now - 60}), fault.Unauthorized, string(jwt.Expired)},
		{"not yet", signed(p.A, nil, map[string]any{"nbf": now + 600}), fault.Unauthorized, string(jwt.NotYet)},
		{"issued in the future", signed(p.A, nil, map[string]any{"iat": now + 600}), fault.Unauthorized, string(jwt.NotYet)},
		{"ID token", good.ID, fault.Unauthorized, string(jwt.WrongType)},
		{"ID token of the other realm", b.ID, fault.Unauthorized, string(jwt.WrongType)},
		{"ID token as Keycloak marks it", signed(p.A, nil, map[string]any{"typ": "ID"}), fault.Unauthorized, string(jwt.WrongType)},
		{"opaque refresh token", good.Refresh, fault.Unauthorized, string(jwt.Malformed)},
		{"refresh token as Keycloak marks it", signed(p.A, nil, map[string]any{"typ": "Refresh"}), fault.Unauthorized, string(jwt.WrongType)},
		{"another client's token", p.A.LoginTo(t, oidctest.Doctor(), oidctest.ClientStranger).Access, fault.Unauthorized, string(jwt.WrongClient)},
		{"1 MB", good.Access + strings.Repeat("A", 1<<20), fault.TooLarge, string(jwt.TooLarge)},
		{"nothing", "", fault.Unauthorized, string(jwt.Malformed)},
	} {
		before := len(q.lines("authentication_refused"))
		_, err := q.who(test.token)
		wantCode(t, test.name, err, test.kind, test.code)
		after := q.lines("authentication_refused")
		// The allowance of lines for what no realm vouches for is used up at some point; until then each is there.
		if len(after) == before+1 && after[before].Details["code"] != test.code || len(after) > before+1 || before < 10 && len(after) != before+1 {
			t.Errorf("%s: lines %v", test.name, after[before:])
		}
		q.advance(6 * time.Second)
	}
	// A bearer who expires is told so, with the provider's own token.
	q.advance(10 * time.Minute)
	_, err = q.who(good.Access)
	wantCode(t, "the real token, later", err, fault.Unauthorized, string(jwt.Expired))
	if !strings.Contains(fault.HintOf(err), "log in again") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	for _, one := range q.lines() {
		for name, v := range one.Details {
			if text, ok := v.(string); ok && strings.Contains(text, "eyJ") {
				t.Errorf("%s: a token in %s", one.Type, name)
			}
		}
	}
}

// changed returns the token with one character of its payload changed.
func changed(token string) string {
	i := strings.Index(token, ".") + 40
	c := byte('A')
	if token[i] == c {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

// weakTokens are real ones, rightly signed, of people who may not sign this.
func weakTokens(t *testing.T, p *oidctest.Provider, q *portal) {
	login := func(change func(*oidctest.Person)) string {
		d := oidctest.Doctor()
		change(&d)
		return p.A.Login(t, d).Access
	}
	_, err := q.who(login(func(d *oidctest.Person) { d.Roles = []string{"nurse"} }))
	wantCode(t, "missing role", err, fault.Forbidden, activation.MissingRole)
	_, err = q.who(login(func(d *oidctest.Person) { d.Roles = nil }))
	wantCode(t, "no roles at all", err, fault.Forbidden, activation.MissingRole)
	if !strings.Contains(fault.HintOf(err), "lightweight") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	_, err = q.who(login(func(d *oidctest.Person) { d.Roles = nil; d.ClientRoles = map[string][]string{"other": {"clinician"}} }))
	wantCode(t, "the role at another client", err, fault.Forbidden, activation.MissingRole)
	sign := func(token string, change func(*activation.Request)) error {
		t.Helper()
		c, err := q.who(token)
		if err != nil {
			t.Fatal(err)
		}
		r := q.request(c)
		if change != nil {
			change(&r)
		}
		_, err = q.Authorize(context.Background(), r)
		return err
	}
	wantCode(t, "acr too low", sign(login(func(d *oidctest.Person) { d.ACR = "1" }), nil), fault.Forbidden, activation.WeakLogin)
	wantCode(t, "another acr", sign(login(func(d *oidctest.Person) { d.ACR = "gold" }), nil), fault.Forbidden, activation.WeakLogin)
	wantCode(t, "auth_time too old", sign(login(func(d *oidctest.Person) { d.AuthAge = 12*3600 + 120 }), nil), fault.Unauthorized, activation.OldLogin)
	wantCode(t, "auth_time absent", sign(login(func(d *oidctest.Person) { d.NoAuthTime = true }), nil), fault.Forbidden, activation.OldLogin)
	wantCode(t, "sub mismatch", sign(login(func(d *oidctest.Person) { d.Sub = "someone-else" }), func(r *activation.Request) {
		r.Credential.BoundSub = oidctest.Doctor().Sub
	}), fault.Forbidden, activation.OtherSub)
	refused := q.lines("authorisation_refused")
	last := refused[len(refused)-1]
	if last.Actor != "someone-else" || last.Details["code"] != activation.OtherSub || last.Details["certificate_serial"] != "0badc0de" || last.Details["reference"] != "RX-1" {
		t.Errorf("%+v", last)
	}
	wantCode(t, "unbound", sign(login(func(*oidctest.Person) {}), func(r *activation.Request) { r.Credential.BoundSub = "" }), fault.Forbidden, activation.Unbound)
	// The same sub of another realm is another person.
	south, err := q.who(p.B.Login(t, oidctest.Doctor()).Access)
	if err != nil {
		t.Fatal(err)
	}
	r := q.request(south)
	r.Credential.Clinic = "north"
	_, err = q.Authorize(context.Background(), r)
	wantCode(t, "the same sub in another clinic", err, fault.Forbidden, activation.OtherClinic)
	admin, err := q.who(login(func(d *oidctest.Person) { d.Roles = []string{"aes-admin"} }))
	if err != nil || admin.Kind != activation.Admin || !admin.Admin {
		t.Fatalf("%+v, %v", admin, err)
	}
	if err := q.RequireAdmin(context.Background(), admin, "certificate_issue", q.now()); err != nil {
		t.Error(err)
	}
	_, err = q.Authorize(context.Background(), q.request(admin))
	wantCode(t, "an administrator signs", err, fault.Forbidden, activation.MissingRole)
	lax, err := q.who(login(func(d *oidctest.Person) { d.Roles, d.ACR = []string{"aes-admin"}, "1" }))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "an administrator with one factor", q.RequireAdmin(context.Background(), lax, "certificate_issue", q.now()), fault.Forbidden, activation.WeakLogin)
	doctor, err := q.who(login(func(*oidctest.Person) {}))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "a clinician administers", q.RequireAdmin(context.Background(), doctor, "certificate_issue", q.now()), fault.Forbidden, activation.MissingRole)
}

func serviceAccounts(t *testing.T, p *oidctest.Provider, q *portal) {
	for slug, r := range map[string]*oidctest.Realm{"north": p.A, "south": p.B} {
		token := r.Service(t)
		_, err := q.who(token)
		wantCode(t, "off by default", err, fault.Forbidden, activation.ServiceRefused)
		policy := activation.DefaultPolicy()
		policy.ServiceAccounts, policy.ServiceClients = activation.ServiceReduced, []string{"another"}
		if _, err := q.SetPolicy(context.Background(), slug, policy, "operator"); err != nil {
			t.Fatal(err)
		}
		_, err = q.who(token)
		wantCode(t, "another client's", err, fault.Forbidden, activation.ServiceRefused)
		policy.ServiceClients = []string{oidctest.ClientService}
		if _, err := q.SetPolicy(context.Background(), slug, policy, "operator"); err != nil {
			t.Fatal(err)
		}
		c, err := q.who(token)
		if err != nil || c.Kind != activation.Service || c.Admin {
			t.Fatalf("%+v, %v", c, err)
		}
		req := q.request(c)
		req.Credential.BoundSub = oidctest.Doctor().Sub
		g, err := q.Authorize(context.Background(), req)
		if err != nil || g.Level != activation.LevelService || g.Label != activation.ServiceLabel {
			t.Fatalf("%+v, %v", g, err)
		}
		req.Credential.BoundSub = ""
		_, err = q.Authorize(context.Background(), req)
		wantCode(t, "with a credential bound to nobody", err, fault.Forbidden, activation.Unbound)
		wantCode(t, "administers", q.RequireAdmin(context.Background(), c, "x", q.now()), fault.Forbidden, activation.MissingRole)
	}
}

// strangers: an issuer that is not registered causes no connection.
func strangers(t *testing.T, p *oidctest.Provider, q *portal) {
	token := p.A.Login(t, oidctest.Doctor()).Access
	if err := q.RemoveRealm(context.Background(), p.A.Issuer, "operator"); err != nil {
		t.Fatal(err)
	}
	_, err := q.who(token)
	wantCode(t, "a realm that was removed", err, fault.Unauthorized, activation.UnknownRealm)
	h, c := oidctest.Decode(t, token)
	for _, issuer := range []string{"https://evil.example/realms/a", "http://169.254.169.254/latest", "file:///etc/passwd", "https://127.0.0.1:1/"} {
		_, err := q.who(p.A.Sign(t, h, oidctest.With(c, map[string]any{"iss": issuer})))
		wantCode(t, issuer, err, fault.Unauthorized, activation.UnknownRealm)
	}
	if n := q.dialled(); n != 0 {
		t.Errorf("%d connections: %v", n, q.dials)
	}
	wantKind := q.FetchKeys(context.Background(), p.A.Issuer, nil, q.now())
	if fault.KindOf(wantKind) != fault.NotFound {
		t.Error(wantKind)
	}
}

// newKeys: a realm that rotates is followed, at a bounded rate; who asks meanwhile waits for the fetch that is under way.
func newKeys(t *testing.T, p *oidctest.Provider, q *portal) {
	old := p.A.Login(t, oidctest.Doctor()).Access
	if _, err := q.who(old); err != nil {
		t.Fatal(err)
	}
	h, c := oidctest.Decode(t, old)
	q.advance(time.Minute)
	for range 20 {
		_, err := q.who(p.A.Sign(t, oidctest.With(h, map[string]any{"kid": rand.Text()}), c))
		wantCode(t, "made-up kid", err, fault.Unauthorized, string(jwt.UnknownKid))
	}
	if n := q.dialled(); n != 2 {
		t.Errorf("%d connections: 20 made-up kids cause one", n)
	}
	p.A.Rotate(t)
	token := p.A.Login(t, oidctest.Doctor()).Access
	_, err := q.who(token)
	wantCode(t, "within the pause between two fetches", err, fault.Unauthorized, string(jwt.UnknownKid))
	q.advance(31 * time.Second)
	var wg sync.WaitGroup
	errs := make(chan error, 20)
	for range 20 {
		wg.Go(func() {
			_, err := q.who(token)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Errorf("after a rotation: %v", err)
		}
	}
	if n := q.dialled(); n != 3 {
		t.Errorf("%d connections: 20 callers at once cause one", n)
	}
	_, err = q.who(old)
	wantCode(t, "the withdrawn key", err, fault.Unauthorized, string(jwt.UnknownKid))
	changes := q.lines("realm_keys_changed")
	if len(changes) != 2 || len(changes[1].Details["added"].([]any)) != 1 || len(changes[1].Details["removed"].([]any)) != 1 {
		t.Errorf("%v", changes)
	}
	// The keys survive a restart, and a lost index.
	for range 2 {
		q.reopen()
		n := q.dialled()
		if _, err := q.who(token); err != nil || q.dialled() != n {
			t.Errorf("after a restart: %v, %d connections", err, q.dialled()-n)
		}
		if err := q.index.Reset(); err != nil {
			t.Fatal(err)
		}
	}
}

// outage: tokens are believed on through an outage of the realm, for as long as its keys may be kept.
func outage(t *testing.T, p *oidctest.Provider, q *portal) {
	token := p.A.Login(t, oidctest.Doctor()).Access
	if _, err := q.who(token); err != nil {
		t.Fatal(err)
	}
	q.to = "" // nothing can be dialled
	h, c := oidctest.Decode(t, token)
	fresh := func() string {
		return p.A.Sign(t, h, oidctest.With(c, map[string]any{"iat": q.now().Unix(), "exp": q.now().Unix() + 300}))
	}
	for range 3 {
		q.advance(time.Hour)
		n := q.dialled()
		for range 5 {
			if _, err := q.who(fresh()); err != nil {
				t.Errorf("during an outage: %v", err)
			}
		}
		if q.dialled() != n+1 {
			t.Errorf("%d attempts at once", q.dialled()-n)
		}
	}
	q.advance(22 * time.Hour)
	_, err := q.who(fresh())
	wantCode(t, "after a day", err, fault.Unavailable, activation.NoKeys)
	q.to = p.Address
	q.advance(2 * time.Second)
	if _, err := q.who(fresh()); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	if n := len(q.lines("realm_keys_confirmed")); n != 1 {
		t.Errorf("%d lines that the keys are the same", n)
	}
}
