package main

import (
	"archive/zip"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/porttest"
)

// TestWhoMaySign: over HTTPS, with tokens of a real OpenID provider and tokens forged from them. Each refusal is the problem that a booking app acts on.
func TestWhoMaySign(t *testing.T) {
	e := newEstate(t)
	boss := oidctest.Person{Sub: "admin-1", Username: "admin", Name: "Clinic Admin", Roles: []string{"aes-admin"}, ACR: "2"}
	doctor := oidctest.Doctor()
	var serial string
	t.Run("an unbound certificate", func(t *testing.T) { serial = e.checkUnbound(t, boss, doctor) })
	t.Run("forged tokens", func(t *testing.T) { e.checkForged(t, doctor) })
	t.Run("realms that go wrong", func(t *testing.T) { e.checkBadRealms(t, doctor) })
	t.Run("bound later", func(t *testing.T) { e.checkBound(t, serial, boss, doctor) })
	t.Run("a service account", func(t *testing.T) { e.checkService(t, doctor) })
	e.portal.stop()
	e.signer.stop()
	run(t, "--config", e.config, "audit", "verify")
}

// wants makes a request and expects that problem, whole: type, status, what to do.
func (e *estate) wants(t *testing.T, what, method, path, token string, body any, status int, code string) {
	t.Helper()
	got, answer, header := e.ask(method, path, token, body)
	var p struct {
		Type, Title, Detail string
		Status              int
		What                string `json:"what_to_do"`
		Request             string `json:"request_id"`
	}
	if err := json.Unmarshal(answer, &p); err != nil || got != status || p.Status != status || p.Type != "/problems/"+code || header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: %d %s, %v; want %d, %s", what, got, answer, err, status, code)
		return
	}
	if p.What == "" || p.Title == "" || p.Detail == "" || p.Request == "" {
		t.Errorf("%s: it does not say all: %s", what, answer)
	}
	if status == http.StatusUnauthorized && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("%s: WWW-Authenticate: %q", what, header.Get("WWW-Authenticate"))
	}
	if page, _, _ := e.ask("GET", p.Type, "", nil); page != http.StatusOK {
		t.Errorf("%s: there is no page %s", what, p.Type)
	}
}

// lines are those of the log so far.
func (e *estate) lines(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "demo", "state", "audit_chain.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func numbered(t *testing.T, id string) map[string]any {
	body := signBody(t)
	body["prescription_id"] = id
	return body
}

func (e *estate) checkUnbound(t *testing.T, boss, doctor oidctest.Person) string {
	e.wants(t, "no certificate yet", "POST", "/api/sign", e.provider.A.Login(t, doctor).Access, numbered(t, "RX-400"), 404, "certificate-not-found")
	issue := map[string]any{"common_name": doctor.Name, "org": "Wharf Lane Clinic", "country": "GB", "cert_type": "clinician", "validity_days": 365,
		"clinic": "wharf-lane", "register": "GMC", "registration_number": "7654321"}
	e.wants(t, "a clinician issuing", "POST", "/certificates/issue", e.provider.A.Login(t, doctor).Access, issue, 403, "role-missing")
	status, body, _ := e.ask("POST", "/certificates/issue", e.provider.A.Login(t, boss).Access, issue)
	var made struct{ Serial string }
	if err := json.Unmarshal(body, &made); err != nil || status != http.StatusOK || made.Serial == "" {
		t.Fatalf("issuing: %d %s, %v", status, body, err)
	}
	e.wants(t, "an unbound certificate", "POST", "/api/sign", e.provider.A.Login(t, doctor).Access, numbered(t, "RX-400"), 403, "certificate-unbound")
	return made.Serial
}

// checkBound binds the certificate that was issued without a sub: from then on it signs for that person, and for nobody else.
func (e *estate) checkBound(t *testing.T, serial string, boss, doctor oidctest.Person) {
	path := "/certificates/" + serial + "/bind"
	e.wants(t, "a clinician binding", "POST", path, e.provider.A.Login(t, doctor).Access, map[string]any{"sub": doctor.Sub}, 403, "role-missing")
	weak := boss
	weak.ACR = "1"
	e.wants(t, "an administrator who logged in weakly", "POST", path, e.provider.A.Login(t, weak).Access, map[string]any{"sub": doctor.Sub}, 403, "acr-too-low")
	if status, body, _ := e.ask("POST", path, e.provider.A.Login(t, boss).Access, map[string]any{"sub": doctor.Sub}); status != http.StatusOK || !strings.Contains(string(body), doctor.Sub) {
		t.Fatalf("binding: %d %s", status, body)
	}
	e.wants(t, "binding to another", "POST", path, e.provider.A.Login(t, boss).Access, map[string]any{"sub": "somebody"}, 409, "certificate-bound")
	other := doctor
	other.Sub = "mallory" // and the same name, which users can give themselves
	before := len(e.lines(t))
	e.wants(t, "another person of that name", "POST", "/api/sign", e.provider.A.Login(t, other).Access, numbered(t, "RX-400"), 403, "certificate-of-another")
	if fresh := e.lines(t)[before:]; len(fresh) != 1 || !strings.Contains(fresh[0], `"authorisation_refused"`) || !strings.Contains(fresh[0], "mallory") || !strings.Contains(fresh[0], serial) {
		t.Errorf("the refusal left %s", fresh)
	}
	token := e.provider.A.Login(t, doctor).Access
	wanted := numbered(t, "RX-400")
	if status, body, _ := e.ask("POST", "/api/sign", token, wanted); status != http.StatusOK || strings.Contains(string(body), `"label"`) {
		t.Errorf("the person it is bound to: %d %s", status, body)
	}
	// A token may be used again, an authorisation not: the same content gets the same answer, other content none, and there is one signature.
	if status, body, _ := e.ask("POST", "/api/sign", token, wanted); status != http.StatusOK || !strings.Contains(string(body), `"repeated":true`) {
		t.Errorf("again: %d %s", status, body)
	}
	changed := numbered(t, "RX-400")
	changed["dosage"] = "Another dosage"
	e.wants(t, "other content under the same number", "POST", "/api/sign", token, changed, 409, "prescription-conflict")
	if text := strings.Join(e.lines(t)[before:], "\n"); strings.Count(text, `"event_type":"signature_created"`) != 1 || strings.Count(text, `"event_type":"prescription_signed"`) != 1 {
		t.Errorf("the log says %s", text)
	}
}

// checkForged is the table of tokens that are not believed, or whose holder may not sign.
func (e *estate) checkForged(t *testing.T, doctor oidctest.Person) {
	realm := e.provider.A
	tokens := realm.Login(t, doctor)
	header, claims := oidctest.Decode(t, tokens.Access)
	change := func(h, c map[string]any) string {
		return realm.Sign(t, oidctest.With(header, h), oidctest.With(claims, c))
	}
	issued := func(iss string) string { return change(nil, map[string]any{"iss": iss}) }
	is := func(f func(*oidctest.Person)) string {
		p := doctor
		f(&p)
		return realm.Login(t, p).Access
	}
	public, err := x509.MarshalPKIXPublicKey(&realm.Key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(secret []byte) string {
		return oidctest.Encode(t, oidctest.With(header, map[string]any{"alg": "HS256"}), claims, func(input []byte) []byte {
			m := hmac.New(sha256.New, secret)
			m.Write(input)
			return m.Sum(nil)
		})
	}
	none := func(alg string) string {
		return oidctest.Encode(t, oidctest.With(header, map[string]any{"alg": alg}), claims, func([]byte) []byte { return nil })
	}
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	host, path, _ := strings.Cut(strings.TrimPrefix(realm.Issuer, "http://"), "/")
	before := len(e.lines(t))
	for _, c := range []struct {
		what, token string
		status      int
		code        string
	}{
		{"no token", "", 401, "token-missing"},
		{"no JWT", "nonsense", 401, "token-malformed"},
		{"alg none", none("none"), 401, "token-algorithm"},
		{"alg nOnE", none("nOnE"), 401, "token-algorithm"},
		{"HS256 with the public key in PEM", hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), 401, "token-algorithm"},
		{"HS256 with the public key in DER", hs256(public), 401, "token-algorithm"},
		{"another realm's key", e.provider.B.Sign(t, header, claims), 401, "token-signature"},
		{"another realm's key by its name", e.provider.B.Sign(t, oidctest.With(header, map[string]any{"kid": e.provider.B.Kid}), claims), 401, "token-unknown-key"},
		{"an unknown kid", change(map[string]any{"kid": "nobody"}, nil), 401, "token-unknown-key"},
		{"no kid", change(map[string]any{"kid": nil}, nil), 401, "token-malformed"},
		{"a realm that is not registered", e.provider.B.Login(t, doctor).Access, 401, "realm-unknown"},
		{"issuer with a slash", issued(realm.Issuer + "/"), 401, "realm-unknown"},
		{"issuer with a suffix", issued(realm.Issuer + ".example.org"), 401, "realm-unknown"},
		{"issuer in another case", issued(strings.ToUpper(realm.Issuer[:4]) + realm.Issuer[4:]), 401, "realm-unknown"},
		{"realm in another case", issued(strings.Replace(realm.Issuer, "/realms/a", "/realms/A", 1)), 401, "realm-unknown"},
		{"issuer without its port", issued("http://" + strings.Split(host, ":")[0] + "/" + path), 401, "realm-unknown"},
		{"issuer with another port", issued("http://127.0.0.1:1/" + path), 401, "realm-unknown"},
		{"issuer with dots in its path", issued("http://" + host + "/realms/x/../a"), 401, "realm-unknown"},
		{"issuer with an escape in its path", issued("http://" + host + "/realms/%61"), 401, "realm-unknown"},
		{"issuer with a user", issued("http://x@" + host + "/" + path), 401, "realm-unknown"},
		{"issuer with a query", issued(realm.Issuer + "?x=1"), 401, "realm-unknown"},
		{"two issuers", issued(realm.Issuer + " " + e.provider.B.Issuer), 401, "realm-unknown"},
		{"no issuer", change(nil, map[string]any{"iss": nil}), 401, "token-malformed"},
		{"expired", change(nil, map[string]any{"exp": at(-time.Minute)}), 401, "token-expired"},
		{"no end", change(nil, map[string]any{"exp": nil}), 401, "token-malformed"},
		{"not yet", change(nil, map[string]any{"nbf": at(time.Hour)}), 401, "token-not-yet-valid"},
		{"issued in the future", change(nil, map[string]any{"iat": at(time.Hour), "exp": at(2 * time.Hour)}), 401, "token-not-yet-valid"},
		{"the ID token", tokens.ID, 401, "token-type"},
		{"the refresh token", tokens.Refresh, 401, "token-malformed"},
		{"a refresh token as Keycloak's", change(nil, map[string]any{"typ": "Refresh"}), 401, "token-type"},
		{"an ID token as Keycloak's", change(nil, map[string]any{"typ": "ID"}), 401, "token-type"},
		{"another application's", realm.LoginTo(t, doctor, oidctest.ClientStranger).Access, 401, "token-audience"},
		{"17 KB", change(nil, map[string]any{"x": strings.Repeat("x", 13000)}), 401, "token-too-large"},
		{"1 MB", strings.Repeat("a", 1<<20), 401, "token-too-large"},
		{"no role", is(func(p *oidctest.Person) { p.Roles = []string{"patient"} }), 403, "role-missing"},
		{"no roles at all", is(func(p *oidctest.Person) { p.Roles = nil }), 403, "role-missing"},
		{"an administrator", is(func(p *oidctest.Person) { p.Roles = []string{"aes-admin"} }), 403, "role-missing"},
		{"a service account", realm.Service(t), 403, "service-account"},
		{"acr too low", is(func(p *oidctest.Person) { p.ACR = "1" }), 403, "acr-too-low"},
		{"a log-in of yesterday", is(func(p *oidctest.Person) { p.AuthAge = 24 * 3600 }), 403, "login-too-old"},
		{"no time of the log-in", is(func(p *oidctest.Person) { p.NoAuthTime = true }), 403, "login-too-old"},
	} {
		e.wants(t, c.what, "POST", "/api/sign", c.token, numbered(t, "RX-401"), c.status, c.code)
	}
	for _, line := range e.lines(t)[before:] {
		if strings.Contains(line, `"signature_created"`) || strings.Contains(line, tokens.Access) {
			t.Errorf("a line says %s", line)
		}
	}
}

// checkBadRealms: what a realm that has gone wrong can do is to be unavailable, and an issuer that was never registered is never asked.
func (e *estate) checkBadRealms(t *testing.T, doctor oidctest.Person) {
	header, claims := oidctest.Decode(t, e.provider.A.Login(t, doctor).Access)
	many := bytes.Repeat([]byte(`{"kty":"RSA","use":"sig","alg":"RS256","kid":"k","n":"`+strings.Repeat("A", 342)+`","e":"AQAB"},`), 10_000)
	many = fmt.Appendf(nil, `{"keys":[%s]}`, many[:len(many)-1])
	release := make(chan struct{})
	var asked atomic.Int32
	serve := func(answer func(http.ResponseWriter, *http.Request)) string {
		s := httptest.NewServer(http.HandlerFunc(answer))
		t.Cleanup(s.Close)
		return s.URL
	}
	jwks := func(body []byte) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Content-Type", "application/json")
			w.Write(body)
		}
	}
	for i, c := range []struct {
		what, url, code string
	}{
		{"10,000 keys", serve(jwks(many)), "realm-keys"},
		{"no set of keys", serve(jwks([]byte(`{"keys":"none"}`))), "realm-keys"},
		{"an error", serve(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", 500) }), "realm-keys-unavailable"},
		{"nobody there", "http://127.0.0.1:" + fmt.Sprint(porttest.Reserve(t)), "realm-keys-unavailable"},
		{"a slow one", serve(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}), "realm-keys-unavailable"},
	} {
		slug := fmt.Sprintf("clinic-%d", i)
		run(t, "--config", e.config, "clinic", "add", slug, "--name", "Clinic "+slug, "--acr", "2", "--audience", "aes-portal")
		run(t, "--config", e.config, "realm", "add", c.url+"/realms/x", "--clinic", slug)
		started := time.Now()
		e.wants(t, c.what, "POST", "/api/sign", e.provider.A.Sign(t, header, oidctest.With(claims, map[string]any{"iss": c.url + "/realms/x"})), numbered(t, "RX-402"), 503, c.code)
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("%s: it took %v", c.what, took)
		}
	}
	close(release)
	if asked.Load() == 0 {
		t.Error("the realms were not asked")
	}
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Close() })
	var came atomic.Int32
	go func() {
		for {
			c, err := stranger.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			c.Close()
		}
	}()
	for _, scheme := range []string{"http", "https"} {
		iss := scheme + "://" + stranger.Addr().String() + "/realms/a"
		token := e.provider.A.Sign(t, oidctest.With(header, map[string]any{"jku": iss + "/certs", "x5u": iss}), oidctest.With(claims, map[string]any{"iss": iss}))
		e.wants(t, "an issuer never registered", "POST", "/api/sign", token, numbered(t, "RX-402"), 401, "realm-unknown")
	}
	time.Sleep(100 * time.Millisecond)
	if came.Load() != 0 {
		t.Errorf("%d connections to an issuer that was never registered", came.Load())
	}
}

// checkService: where the policy allows it, a service account signs, and every account of that says what it is not.
func (e *estate) checkService(t *testing.T, doctor oidctest.Person) {
	e.wants(t, "a service account, off", "POST", "/api/sign", e.provider.A.Service(t), numbered(t, "RX-403"), 403, "service-account")
	run(t, "--config", e.config, "clinic", "policy", "wharf-lane", "--service-accounts", "reduced", "--service-client", "another-client")
	e.wants(t, "another client's", "POST", "/api/sign", e.provider.A.Service(t), numbered(t, "RX-403"), 403, "service-account")
	run(t, "--config", e.config, "clinic", "policy", "wharf-lane", "--service-client", oidctest.ClientService)
	token := e.provider.A.Service(t)
	texts := map[string]string{}
	get := func(what, method, path string, body any) {
		t.Helper()
		status, answer, _ := e.ask(method, path, token, body)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", what, status, answer)
		}
		texts[what] = string(answer)
	}
	get("the answer", "POST", "/api/sign", numbered(t, "RX-403"))
	get("the summary", "GET", "/api/evidence/RX-403", nil)
	get("the list", "GET", "/api/prescriptions", nil)
	get("the pack", "GET", "/api/evidence/RX-403/pack", nil)
	e.readService(t, texts)
	for what, text := range texts {
		low := strings.Join(strings.Fields(strings.ToLower(text)), " ")
		const term = "advanced electronic signature"
		for rest := low; strings.Contains(rest, term); rest = rest[strings.Index(rest, term)+len(term):] {
			said := rest[max(0, strings.Index(rest, term)-60):strings.Index(rest, term)]
			if !strings.Contains(said, "not an ") && !strings.Contains(said, "not be described as an ") {
				t.Errorf("%s calls it an advanced electronic signature: …%s%s", what, said, term)
			}
		}
		if what != "the pack" && !strings.Contains(low, "not an "+term) {
			t.Errorf("%s does not say what it is not: %.2000s", what, text)
		}
	}
	e.wants(t, "cancelling", "POST", "/api/prescriptions/RX-403/cancel", token, map[string]any{"reason": "wrong"}, 403, "service-account")
	if !slices.ContainsFunc(e.lines(t), func(l string) bool {
		return strings.Contains(l, `"prescription_signed"`) && strings.Contains(l, `"kind":"service"`)
	}) {
		t.Error("the log does not say that a service account signed")
	}
	run(t, "--config", e.config, "clinic", "policy", "wharf-lane", "--service-accounts", "off")
	e.wants(t, "switched off again", "GET", "/api/prescriptions", token, nil, 403, "service-account")
}

// readService looks into the pack, which is verified, and at what is labelled by name.
func (e *estate) readService(t *testing.T, texts map[string]string) {
	t.Helper()
	file := filepath.Join(e.dir, "RX-403.zip")
	if err := os.WriteFile(file, []byte(texts["the pack"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "verify", file, "--trust", e.root, "--log-key", filepath.Join(e.dir, "demo", "state", "log-key.txt")); !strings.Contains(out, "valid") {
		t.Errorf("verify says %s", out)
	}
	archive, err := zip.NewReader(strings.NewReader(texts["the pack"]), int64(len(texts["the pack"])))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.txt", "summary.json"} {
		f, err := archive.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		texts[name+" of the pack"] = string(text)
	}
	var summary struct {
		Activation struct{ Level, Kind, Statement string }
		Pillars    map[string]map[string]struct {
			Value any
			Basis string
		}
	}
	if err := json.Unmarshal([]byte(texts["the summary"]), &summary); err != nil {
		t.Fatal(err)
	}
	if a := summary.Activation; a.Kind != "service" || !strings.Contains(a.Statement, "reduced evidence") {
		t.Errorf("%+v", a)
	}
	if k := summary.Pillars["intent"]["credential_kind"]; k.Value != "service" || k.Basis != "verified" {
		t.Errorf("%+v", k)
	}
	var list struct {
		Prescriptions []struct{ PrescriptionID, Label string }
	}
	if err := json.Unmarshal(bytes.ReplaceAll([]byte(texts["the list"]), []byte("prescription_id"), []byte("PrescriptionID")), &list); err != nil {
		t.Fatal(err)
	}
	for _, one := range list.Prescriptions {
		if (one.Label != "") != (one.PrescriptionID == "RX-403") {
			t.Errorf("%s is labelled %q", one.PrescriptionID, one.Label)
		}
	}
}
