package activation_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
)

// doctor is a caller as Authenticate gives one.
func (l *lab) doctor() activation.Caller {
	now := l.now()
	return activation.Caller{
		Clinic: "north", Kind: activation.Clinician, Policy: activation.DefaultPolicy(),
		Claims: jwt.Claims{
			Issuer: issuer, Sub: "sub-1", Username: "dr.clinician", Roles: []string{"clinician"}, ACR: "2", AuthTime: now.Add(-time.Hour),
			IssuedAt: now, Expires: now.Add(5 * time.Minute), InputHash: sha256.Sum256([]byte("token")),
		},
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	type request = activation.Request
	for _, test := range []struct {
		name   string
		change func(*request)
		kind   fault.Kind
		code   string
	}{
		{"the token expired meanwhile", func(r *request) { r.Caller.Expires = r.Now.Add(-31 * time.Second) }, fault.Unauthorized, string(jwt.Expired)},
		{"an administrator alone", func(r *request) { r.Caller.Kind = activation.Admin }, fault.Forbidden, activation.MissingRole},
		{"no kind at all", func(r *request) { r.Caller.Kind = "" }, fault.Forbidden, activation.MissingRole},
		{"acr too low", func(r *request) { r.Caller.ACR = "1" }, fault.Forbidden, activation.WeakLogin},
		{"no acr", func(r *request) { r.Caller.ACR = "" }, fault.Forbidden, activation.WeakLogin},
		{"auth_time absent", func(r *request) { r.Caller.AuthTime = time.Time{} }, fault.Forbidden, activation.OldLogin},
		{"auth_time too old", func(r *request) { r.Caller.AuthTime = r.Now.Add(-13 * time.Hour) }, fault.Unauthorized, activation.OldLogin},
		{"auth_time in the future", func(r *request) { r.Caller.AuthTime = r.Now.Add(time.Hour) }, fault.Unauthorized, activation.OldLogin},
		{"another clinic's certificate", func(r *request) { r.Credential.Clinic = "south" }, fault.Forbidden, activation.OtherClinic},
		{"no clinic", func(r *request) { r.Credential.Clinic, r.Caller.Clinic = "", "" }, fault.Forbidden, activation.OtherClinic},
		{"another name", func(r *request) { r.ClinicianName = "Doctor Clinicıan" }, fault.Forbidden, activation.OtherName},
		{"another name by case", func(r *request) { r.ClinicianName = "doctor clinician" }, fault.Forbidden, activation.OtherName},
		{"no name", func(r *request) { r.ClinicianName, r.Credential.CommonName = "", "" }, fault.Forbidden, activation.OtherName},
		{"unbound", func(r *request) { r.Credential.BoundSub = "" }, fault.Forbidden, activation.Unbound},
		{"unbound, and no sub", func(r *request) { r.Credential.BoundSub, r.Caller.Sub = "", "" }, fault.Forbidden, activation.Unbound},
		{"another sub", func(r *request) { r.Caller.Sub = "sub-2" }, fault.Forbidden, activation.OtherSub},
		{"another sub by case", func(r *request) { r.Caller.Sub = "SUB-1" }, fault.Forbidden, activation.OtherSub},
		{"no consent", func(r *request) { r.Consent.Text = "" }, fault.Invalid, activation.NoConsent},
		{"consent without time", func(r *request) { r.Consent.Timestamp = time.Time{} }, fault.Invalid, activation.NoConsent},
		{"consent in the future", func(r *request) { r.Consent.Timestamp = r.Now.Add(time.Hour) }, fault.Invalid, activation.NoConsent},
	} {
		r := l.request(l.doctor())
		test.change(&r)
		g, err := l.Authorize(ctx, r)
		wantCode(t, test.name, err, test.kind, test.code)
		if g != nil {
			t.Errorf("%s: an authorisation beside the refusal", test.name)
		}
		l.advance(10 * time.Second) // so that each has its line
	}
	if n := len(l.lines("authorisation_refused")); n != 20 {
		t.Errorf("%d lines", n)
	}
	g, err := l.Authorize(ctx, l.request(l.doctor()))
	if err != nil || g.Serial != "0badc0de" || g.Caller.Sub != "sub-1" {
		t.Errorf("%+v, %v", g, err)
	}
	// A decomposed spelling of the same name is the same name.
	r := l.request(l.doctor())
	r.Credential.CommonName, r.ClinicianName = "Zoë Clinician", "Zoë Clinician"
	if _, err := l.Authorize(ctx, r); err != nil {
		t.Error(err)
	}
}

func TestUse(t *testing.T) {
	l := newLab(t)
	grant := func(change func(*activation.Request)) *activation.Authorization {
		t.Helper()
		r := l.request(l.doctor())
		if change != nil {
			change(&r)
		}
		g, err := l.Authorize(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	digest := sha256.Sum256([]byte("document"))
	g := grant(nil)
	if err := g.Use(digest[:31], l.now()); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a short digest: %v", err)
	}
	if _, ok := g.Digest(); ok {
		t.Error("used by a digest that is none")
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			d := sha256.Sum256([]byte{byte(i)})
			if err := g.Use(d[:], l.now()); err == nil {
				won.Add(1)
			} else if fault.CodeOf(err) != activation.AuthorisationUsed {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 16 used it", won.Load())
	}
	g = grant(nil)
	wantCode(t, "too late", g.Use(digest[:], l.now().Add(2*time.Minute)), fault.Forbidden, activation.AuthorisationExpired)
	wantCode(t, "again, in time", g.Use(digest[:], l.now()), fault.Conflict, activation.AuthorisationUsed)
	g = grant(func(r *activation.Request) { r.Caller.Expires = r.Now.Add(10 * time.Second) })
	wantCode(t, "after the token's end", g.Use(digest[:], l.now().Add(40*time.Second)), fault.Forbidden, activation.AuthorisationExpired)
}

func TestCaps(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	var forms byte
	caller := func(token, sub string) activation.Caller {
		c := l.doctor()
		c.Sub, c.InputHash = sub, sha256.Sum256([]byte(token))
		forms++
		c.TokenHash[0] = forms // each time in another form (jwt.TestTwins), which gives it no caps of its own
		c.Policy.SignaturesPerToken, c.Policy.SignaturesPerMinute = 5, 3
		return c
	}
	sign := func(c activation.Caller) error {
		_, err := l.Authorize(ctx, l.request(c))
		return err
	}
	for i := range 3 {
		if err := sign(caller("t1", "ann")); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	wantCode(t, "the fourth in a minute", sign(caller("t1", "ann")), fault.Unavailable, activation.TooFast)
	wantCode(t, "with another token", sign(caller("t2", "ann")), fault.Unavailable, activation.TooFast)
	if err := sign(caller("t3", "bob")); err != nil {
		t.Errorf("another person: %v", err)
	}
	bad := l.request(caller("t1", "ann"))
	bad.Credential.BoundSub = ""
	l.advance(time.Minute)
	for range 10 {
		_, err := l.Authorize(ctx, bad)
		wantCode(t, "what is refused is not counted", err, fault.Forbidden, activation.Unbound)
	}
	for i := range 2 {
		if err := sign(caller("t1", "ann")); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	wantCode(t, "the sixth with one token", sign(caller("t1", "ann")), fault.Unavailable, activation.TokenSpent)
	if err := sign(caller("t2", "ann")); err != nil {
		t.Errorf("with a new token: %v", err)
	}
	l.advance(time.Minute)
	wantCode(t, "later", sign(caller("t1", "ann")), fault.Unavailable, activation.TokenSpent)
}

func TestCapsAtOnce(t *testing.T) {
	l := newLab(t)
	var granted atomic.Int32
	var wg sync.WaitGroup
	c := l.doctor()
	c.Policy.SignaturesPerToken, c.Policy.SignaturesPerMinute = 10, 100
	for range 40 {
		wg.Go(func() {
			if _, err := l.Authorize(context.Background(), l.request(c)); err == nil {
				granted.Add(1)
			}
		})
	}
	wg.Wait()
	if granted.Load() != 10 {
		t.Errorf("%d granted", granted.Load())
	}
}

// TestRefusalsDoNotFillTheLog: a flood of refusals costs a bounded number of lines, which count the rest, and one person's does not hide another's.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	l := newLab(t)
	ctx := context.Background()
	for range 500 {
		if _, err := l.Authenticate(ctx, "nonsense", l.now()); err == nil {
			t.Fatal("no refusal")
		}
	}
	lines := l.lines("authentication_refused")
	if len(lines) != 30 {
		t.Errorf("%d lines", len(lines))
	}
	l.advance(10 * time.Second)
	if _, err := l.Authenticate(ctx, "nonsense", l.now()); err == nil {
		t.Fatal("no refusal")
	}
	lines = l.lines("authentication_refused")
	if last := lines[len(lines)-1]; fmt.Sprint(last.Details["suppressed"]) != "470" || last.Details["code"] != string(jwt.Malformed) {
		t.Errorf("%+v", last)
	}
	r := l.request(l.doctor())
	r.Credential.BoundSub = "someone-else"
	for range 100 {
		if _, err := l.Authorize(ctx, r); err == nil {
			t.Fatal("no refusal")
		}
	}
	r.Caller.Sub = "sub-9"
	if _, err := l.Authorize(ctx, r); err == nil {
		t.Fatal("no refusal")
	}
	lines = l.lines("authorisation_refused")
	if last := lines[len(lines)-1]; len(lines) != 31 || last.Actor != "sub-9" {
		t.Errorf("%d lines, the last %+v", len(lines), last)
	}
}

// TestRefusalWithoutALog: a log that takes no lines does not turn a refusal into anything else.
func TestRefusalWithoutALog(t *testing.T) {
	l := newLab(t)
	if err := l.ledger.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := l.Authenticate(context.Background(), "nonsense", l.now())
	wantCode(t, "without a log", err, fault.Unauthorized, string(jwt.Malformed))
}
