package demorealm

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
)

func newRealm(t testing.TB) *Realm {
	t.Helper()
	l, err := Listen(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(l, key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- r.Serve() }()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// fetch makes a request; a body makes it a POST of a form.
func fetch(t testing.TB, at, host, body string) (int, string) {
	t.Helper()
	q, err := http.NewRequest(http.MethodGet, at, nil)
	if body != "" {
		q, err = http.NewRequest(http.MethodPost, at, strings.NewReader(body))
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		q.Host = host
	}
	got, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	data, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, string(data)
}

// TestTokensAreAccessTokens: what a client finds by discovery is a set of keys and a token endpoint whose tokens these keys verify.
func TestTokensAreAccessTokens(t *testing.T) {
	r := newRealm(t)
	_, text := fetch(t, r.Issuer()+"/.well-known/openid-configuration", "", "")
	var found struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
		Token  string `json:"token_endpoint"`
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil || found.Issuer != r.Issuer() {
		t.Fatalf("%v %s", err, text)
	}
	_, set := fetch(t, found.Keys, "", "")
	keys, err := jwt.ParseKeys([]byte(set))
	if err != nil {
		t.Fatalf("%v %s", err, set)
	}
	expect := jwt.Expect{Issuer: r.Issuer(), Now: time.Now(), Leeway: time.Second, Audiences: []string{"aes-portal"}}
	for _, c := range []struct {
		form, name, sub, acr, role string
		service                    bool
	}{
		{"grant_type=password&username=doctor", "Doctor Clinician", DoctorSub, "2", "clinician", false},
		{"grant_type=password&username=admin", "Clinic Admin", "8a6e0804-2bd0-4672-b79d-d97027f9071a", "2", "aes-admin", false},
		{"grant_type=client_credentials&client_id=aes-signer-sa", "", "5a9c0b1e-0c38-4b8b-a1de-3d0e93b4e7f2", "1", "clinician", true},
	} {
		status, text := fetch(t, found.Token, "", c.form)
		var got struct {
			Token string `json:"access_token"`
			Life  int    `json:"expires_in"`
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK || got.Life != 3600 {
			t.Fatalf("%s: %d %v %s", c.form, status, err, text)
		}
		claims, err := jwt.Verify(got.Token, keys, expect)
		if err != nil || claims.Name != c.name || claims.Sub != c.sub || claims.ACR != c.acr || !claims.HasRole(c.role) || claims.ServiceAccount != c.service {
			t.Errorf("%s: %v %+v", c.form, err, claims)
		}
		if claims.AuthTime.IsZero() != c.service {
			t.Errorf("%s: logged in at %v", c.form, claims.AuthTime)
		}
	}
	for _, form := range []string{"grant_type=authorization_code", "grant_type=password&username=nobody", "%zz"} {
		if status, text := fetch(t, found.Token, "", form); status != http.StatusBadRequest || !strings.Contains(text, `"error"`) {
			t.Errorf("%s: %d %s", form, status, text)
		}
	}
}

// TestTokenAsAskedFor: each field does what its documentation says.
func TestTokenAsAskedFor(t *testing.T) {
	r := newRealm(t)
	_, set := fetch(t, r.Issuer()+keysPath, "", "")
	keys, err := jwt.ParseKeys([]byte(set))
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[string]struct {
		reason jwt.Reason
		holds  func(jwt.Claims) bool
	}{
		"person=doctor":        {"", func(c jwt.Claims) bool { return c.Sub == DoctorSub }},
		"ttl=-60":              {jwt.Expired, nil},
		"aud=other":            {jwt.WrongClient, nil},
		"aud=":                 {jwt.WrongClient, nil},
		"acr=1&auth_age=86400": {"", func(c jwt.Claims) bool { return c.ACR == "1" && time.Since(c.AuthTime) > 23*time.Hour }},
		"acr=":                 {"", func(c jwt.Claims) bool { return c.ACR == "" }},
		"roles=":               {"", func(c jwt.Claims) bool { return len(c.Roles) == 0 }},
		"roles=a clinician":    {"", func(c jwt.Claims) bool { return len(c.Roles) == 2 && c.HasRole("a") }},
		"sub=s-1&name=Ada Example&username=ada&azp=app": {"", func(c jwt.Claims) bool {
			return c.Sub == "s-1" && c.Name == "Ada Example" && c.Username == "ada" && c.AuthorizedParty == "app"
		}},
		`claims={"iss":"https://elsewhere.example/realms/a"}`: {jwt.WrongIssuer, nil},
		`claims={"typ":"ID"}`:                              {jwt.WrongType, nil},
		`claims={"nbf":4000000000}`:                        {jwt.NotYet, nil},
		`claims={"auth_time":null}`:                        {"", func(c jwt.Claims) bool { return c.AuthTime.IsZero() }},
		`claims={"resource_access":{"x":{"roles":["y"]}}}`: {"", func(c jwt.Claims) bool { return c.HasRole("x/y") }},
	} {
		values, err := url.ParseQuery(form)
		if err != nil {
			t.Fatal(err)
		}
		status, token := fetch(t, r.Issuer()+tokenPath, "", values.Encode())
		if status != http.StatusOK {
			t.Errorf("%s: %d %s", form, status, token)
			continue
		}
		claims, err := jwt.Verify(strings.TrimSpace(token), keys, jwt.Expect{Issuer: r.Issuer(), Now: time.Now(), Leeway: 2 * time.Second, Audiences: []string{"aes-portal"}})
		if jwt.ReasonOf(err) != want.reason || want.holds != nil && !want.holds(claims) {
			t.Errorf("%s: %v %+v", form, err, claims)
		}
	}
	if status, token := fetch(t, r.Issuer()+tokenPath, "", " "); status != http.StatusOK || strings.Count(token, ".") != 2 {
		t.Errorf("without a form: %d %s", status, token)
	}
}

func TestTokenRefuses(t *testing.T) {
	r := newRealm(t)
	for _, form := range []string{"person=nobody", "ttl=soon", "ttl=99999999999", "auth_age=1.5", "colour=red", "sub=a&sub=b", "claims=[]", "claims=null", "claims={}{}", "claims={"} {
		if status, text := fetch(t, r.Issuer()+tokenPath, "", form); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", form, status, text)
		}
	}
	if status, _ := fetch(t, r.Issuer()+tokenPath, "evil.example", "person=doctor"); status != http.StatusMisdirectedRequest {
		t.Errorf("another host's name: %d", status)
	}
	if status, _ := fetch(t, r.Issuer()+tokenPath, "", strings.Repeat("a", maxForm+1)); status != http.StatusBadRequest {
		t.Errorf("a large form: %d", status)
	}
}

// TestOnLoopbackOnly: there is no way to have it answer the network.
func TestOnLoopbackOnly(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for address, key := range map[string]*rsa.PrivateKey{"0.0.0.0:0": key, "127.0.0.1:0": weak} {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := New(l, key, time.Now); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// FuzzToken: a form is refused, or gives a token.
func FuzzToken(f *testing.F) {
	r := newRealm(f)
	for _, s := range []string{"", "person=admin", "ttl=-1", `claims={"a":{"b":[null]}}`, "roles=a+b&acr=", "claims=nul"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		form, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		if token, _, err := r.Token(form); err == nil && strings.Count(token, ".") != 2 {
			t.Errorf("%q is no token", token)
		}
	})
}
