package activation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/oidctest"
)

func TestRegistry(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	l.clinic("north", "https://sso.example.org/realms/north", "", nil)
	l.clinic("south", "https://sso.example.org/realms/south", "", nil)
	if _, err := l.AddClinic(ctx, activation.Clinic{Slug: "north", Name: "Again", Policy: activation.DefaultPolicy()}, "operator"); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a clinic twice: %v", err)
	}
	for issuer, kind := range map[string]fault.Kind{"https://sso.example.org/realms/north": fault.Conflict, "https://sso.example.org/realms/other": fault.Conflict} {
		if _, err := l.AddRealm(ctx, activation.Realm{Issuer: issuer, Clinic: "south"}, "operator"); fault.KindOf(err) != kind {
			t.Errorf("%s: %v", issuer, err)
		}
	}
	if _, err := l.AddRealm(ctx, activation.Realm{Issuer: "https://x.example/realms/x", Clinic: "nowhere"}, "operator"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a realm of no clinic: %v", err)
	}
	if err := l.RemoveRealm(ctx, "https://nowhere.example", "operator"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("%v", err)
	}
	p := activation.DefaultPolicy()
	p.ACRValues, p.GivenPDF = []string{"2", "3"}, true
	if _, err := l.SetPolicy(ctx, "nowhere", p, "operator"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("%v", err)
	}
	if c, err := l.SetPolicy(ctx, "north", p, "operator"); err != nil || !reflect.DeepEqual(c.Policy, p) {
		t.Errorf("%+v, %v", c, err)
	}
	if err := l.RemoveRealm(ctx, "https://sso.example.org/realms/south", "operator"); err != nil {
		t.Error(err)
	}
	if _, err := l.AddRealm(ctx, activation.Realm{Issuer: "https://sso2.example.org/realms/south", Clinic: "south"}, "operator"); err != nil {
		t.Error(err)
	}
	clinics, realms := l.Clinics(), l.Realms()
	if len(clinics) != 2 || clinics[0].Slug != "north" || len(realms) != 2 || realms[1].Issuer != "https://sso2.example.org/realms/south" || realms[0].AddedAt.IsZero() {
		t.Errorf("%+v\n%+v", clinics, realms)
	}
	clinics[0].Policy.ACRValues[0] = "0"
	if c, _ := l.Clinic("north"); c.Policy.ACRValues[0] != "2" {
		t.Error("what was given out is the registry itself")
	}
	clinics[0].Policy.ACRValues[0] = "2"
	for range 2 { // after a restart, and from the log alone
		l.reopen()
		if !reflect.DeepEqual(l.Clinics(), clinics) || !reflect.DeepEqual(l.Realms(), realms) {
			t.Errorf("%+v\n%+v", l.Clinics(), l.Realms())
		}
		if err := l.index.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	var types []string
	for _, one := range l.lines() {
		if one.Actor != "operator" {
			t.Errorf("%+v", one)
		}
		types = append(types, one.Type)
	}
	if got := strings.Join(types, " "); got != "clinic_added realm_added clinic_added realm_added clinic_policy_changed realm_removed realm_added" {
		t.Error(got)
	}
}

func TestIssuers(t *testing.T) {
	ctx := context.Background()
	real, demo := newLab(t), &lab{t: t, dir: t.TempDir(), at: newLab(t).at, demo: true}
	demo.open()
	t.Cleanup(demo.close)
	n := 0
	add := func(l *lab, issuer string) error {
		n++
		slug := fmt.Sprintf("c%d", n)
		if _, err := l.AddClinic(ctx, activation.Clinic{Slug: slug, Name: slug, Policy: activation.DefaultPolicy()}, "operator"); err != nil {
			t.Fatal(err)
		}
		_, err := l.AddRealm(ctx, activation.Realm{Issuer: issuer, Clinic: slug}, "operator")
		return err
	}
	for _, issuer := range []string{
		"https://sso.example.org/realms/a", "https://sso.example.org", "https://sso.example.org:8443/auth/realms/A_b~c", "https://10.1.2.3/realms/a", "https://[2001:db8::1]:8443/realms/a",
	} {
		for _, l := range []*lab{real, demo} {
			if err := add(l, issuer); err != nil {
				t.Errorf("%s: %v", issuer, err)
			}
		}
	}
	for _, issuer := range []string{"http://127.0.0.1:9000/realms/a", "https://localhost/realms/a", "https://127.0.0.1:1/realms/a", "http://[::1]:8080/r", "https://sso.localhost", "https://127.9.9.9"} {
		if err := add(real, issuer); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s for a real appliance: %v", issuer, err)
		}
		if err := add(demo, issuer); err != nil {
			t.Errorf("%s for a demo: %v", issuer, err)
		}
	}
	for _, issuer := range []string{
		"", "sso.example.org", "//sso.example.org/realms/a", "ftp://sso.example.org/a", "http://sso.example.org/realms/a", "HTTPS://sso.example.org/realms/a", "https://SSO.example.org/realms/a",
		"https://sso.example.org/", "https://sso.example.org/realms/a/", "https://sso.example.org//realms/a", "https://sso.example.org/realms/../a", "https://sso.example.org/realms/%61",
		"https://sso.example.org:443/realms/a", "https://sso.example.org:/realms/a", "https://sso.example.org:0443/realms/a", "https://u@sso.example.org/a", "https://u:p@sso.example.org/a",
		"https://sso.example.org/a?x=1", "https://sso.example.org/a?", "https://sso.example.org/a#", "https://sso.example.org/a b", "https://sso.example.org./a", "https://sso_x.example.org/a",
		"https://ssö.example.org/a", "https://[::ffff:127.0.0.1]/a", "https://[2001:DB8::1]/a", "https://0.0.0.0/a", "https://169.254.169.254/a", "https://[fe80::1]/a", "https://0177.0.0.1/a",
		"https://" + strings.Repeat("a", 500), "https://sso.example.org/\n", "https://", "https:///realms/a", `https://sso.example.org\realms`,
	} {
		for _, l := range []*lab{real, demo} {
			if err := add(l, issuer); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%q: %v", issuer, err)
			}
		}
	}
}

func TestRealmCA(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	ca, _ := oidctest.Issue(t, nil, nil, "")
	if _, err := l.AddClinic(ctx, activation.Clinic{Slug: "north", Name: "North", Policy: activation.DefaultPolicy()}, "operator"); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no PEM": "x", "something behind": pemOf(ca) + "x", "a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "too many": strings.Repeat(pemOf(ca), 200),
	} {
		if _, err := l.AddRealm(ctx, activation.Realm{Issuer: issuer, Clinic: "north", CA: text}, "operator"); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.AddRealm(ctx, activation.Realm{Issuer: issuer, Clinic: "north", CA: pemOf(ca) + pemOf(ca)}, "operator"); err != nil {
		t.Error(err)
	}
}

func TestPolicyRefuses(t *testing.T) {
	for name, change := range map[string]func(*activation.Policy){
		"no acr":                  func(p *activation.Policy) { p.ACRValues = nil },
		"an empty acr":            func(p *activation.Policy) { p.ACRValues = []string{""} },
		"an acr with a line end":  func(p *activation.Policy) { p.ACRValues = []string{"2\n"} },
		"21 values":               func(p *activation.Policy) { p.ACRValues = strings.Split(strings.Repeat("x", 21), "") },
		"any client":              func(p *activation.Policy) { p.Audiences = nil },
		"no age":                  func(p *activation.Policy) { p.MaxAuthAge = 0 },
		"an age of a year":        func(p *activation.Policy) { p.MaxAuthAge = 365 * 86400 },
		"service accounts: maybe": func(p *activation.Policy) { p.ServiceAccounts = "full" },
		"any service account":     func(p *activation.Policy) { p.ServiceAccounts, p.ServiceClients = activation.ServiceReduced, nil },
		"no signatures":           func(p *activation.Policy) { p.SignaturesPerToken = 0 },
		"endless signatures":      func(p *activation.Policy) { p.SignaturesPerMinute = 1 << 30 },
		"no role":                 func(p *activation.Policy) { p.ClinicianRole = "" },
		"one role for both":       func(p *activation.Policy) { p.AdminRole = p.ClinicianRole },
	} {
		p := activation.DefaultPolicy()
		change(&p)
		if err := p.Check(); fault.KindOf(err) != fault.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := activation.DefaultPolicy().Check(); err != nil {
		t.Error(err)
	}
	p := activation.Policy{}
	if err := p.Check(); err == nil || strings.Count(err.Error(), ";") < 6 {
		t.Errorf("not everything at once: %v", err)
	}
}

// TestRealmChangedWhileItsKeysAreFetched: keys that were asked for under a registration that has ended, of a realm behind an authority that is not to be
// believed any more say, are not those of the registration that took its place; also not after a restart.
func TestRealmChangedWhileItsKeysAreFetched(t *testing.T) {
	stolen, stolenKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, stolen, stolenKey, host)
	good, _ := oidctest.Issue(t, nil, nil, "")
	f := newForger(t)
	asked, release := make(chan struct{}), make(chan struct{})
	q := &portal{lab: newLab(t), to: https(t, leaf, leafKey, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-release
		jwksHandler(f.jwks()).ServeHTTP(w, r)
	}))}
	ctx := context.Background()
	q.clinic("north", issuer, pemOf(stolen), nil)
	token := f.token(q.now())
	_, err := q.Authenticate(ctx, token, q.now())
	var need *activation.NeedKeys
	if !errors.As(err, &need) {
		t.Fatal(err)
	}
	fetched := make(chan error, 1)
	go func() { fetched <- q.dial(need) }()
	<-asked
	if err := q.RemoveRealm(ctx, issuer, "operator"); err != nil {
		t.Fatal(err)
	}
	if _, err := q.AddRealm(ctx, activation.Realm{Issuer: issuer, Clinic: "north", CA: pemOf(good)}, "operator"); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-fetched; fault.KindOf(err) != fault.NotFound {
		t.Errorf("the fetch ended with %v", err)
	}
	if lines := q.lines("realm_key_first_seen", "realm_keys_changed"); len(lines) != 0 {
		t.Errorf("the log has %v", lines)
	}
	q.reopen()
	if c, err := q.Authenticate(ctx, token, q.now()); !errors.As(err, &need) {
		t.Errorf("after a restart: %+v, %v", c, err)
	}
}

// TestKeysWithoutEnd: a realm that publishes other keys each time it is asked does not fill the log; what it published before serves on, and after a while it
// may change them again.
func TestKeysWithoutEnd(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	f := newForger(t)
	n := 0
	q := &portal{lab: newLab(t), to: https(t, leaf, leafKey, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		jwksHandler(fmt.Appendf(nil, `%s,%s`, f.jwks()[:len(f.jwks())-2], bytes.Replace(f.jwks()[9:], []byte("forged"), fmt.Appendf(nil, "k%d", n), 1))).ServeHTTP(w, r)
	}))}
	q.clinic("north", issuer, pemOf(ca), nil)
	try := func() { // a token with a kid that is not there has the keys fetched
		_, err := q.Authenticate(t.Context(), f.tokenOf(q.now(), "unheard-of"), q.now())
		var need *activation.NeedKeys
		if errors.As(err, &need) {
			_ = q.dial(need)
		}
		q.advance(31 * time.Second)
	}
	for range 60 {
		try()
	}
	changed := len(q.lines("realm_keys_changed"))
	if n < 55 || changed > 20 || changed < 5 {
		t.Errorf("%d fetches left %d sets in the log", n, changed)
	}
	if c, err := q.who(f.token(q.now())); err != nil || c.Sub != "victim" {
		t.Errorf("the key that stays: %v", err)
	}
	if refused := len(q.lines("realm_keys_refused")); refused == 0 || refused > 60 {
		t.Errorf("%d refusals", refused)
	}
	q.advance(time.Hour)
	try()
	if now := len(q.lines("realm_keys_changed")); now != changed+1 {
		t.Errorf("an hour later: %d sets, then %d", changed, now)
	}
}
