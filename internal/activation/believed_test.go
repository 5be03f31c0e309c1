package activation_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
	"github.com/veripath/aes-appliance/internal/oidctest"
)

// TestBelievedOnce: a token that was believed is refused by whatever speaks against it later, as if it were seen for the first time.
func TestBelievedOnce(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	ctx := context.Background()
	for _, test := range []struct {
		name   string
		change func(*portal, *atomic.Pointer[[]byte])
		kind   fault.Kind
		code   string
	}{
		{"it expires", func(q *portal, _ *atomic.Pointer[[]byte]) { q.advance(331 * time.Second) }, fault.Unauthorized, string(jwt.Expired)},
		{"the policy wants another audience", func(q *portal, _ *atomic.Pointer[[]byte]) {
			p := activation.DefaultPolicy()
			p.Audiences = []string{"another"}
			if _, err := q.SetPolicy(ctx, "north", p, "operator"); err != nil {
				t.Fatal(err)
			}
		}, fault.Unauthorized, string(jwt.WrongClient)},
		{"the policy wants another role", func(q *portal, _ *atomic.Pointer[[]byte]) {
			p := activation.DefaultPolicy()
			p.ClinicianRole, p.AdminRole = "surgeon", "chief"
			if _, err := q.SetPolicy(ctx, "north", p, "operator"); err != nil {
				t.Fatal(err)
			}
		}, fault.Forbidden, activation.MissingRole},
		{"the realm is removed", func(q *portal, _ *atomic.Pointer[[]byte]) {
			if err := q.RemoveRealm(ctx, issuer, "operator"); err != nil {
				t.Fatal(err)
			}
		}, fault.Unauthorized, activation.UnknownRealm},
		{"the realm publishes another key under the kid", func(q *portal, published *atomic.Pointer[[]byte]) {
			other := newForger(t).jwks()
			published.Store(&other)
			q.refresh()
		}, fault.Unauthorized, string(jwt.BadSignature)},
		{"the realm ties the key to another algorithm", func(q *portal, published *atomic.Pointer[[]byte]) {
			other := bytes.Replace(*published.Load(), []byte("RS256"), []byte("PS256"), 1)
			published.Store(&other)
			q.refresh()
		}, fault.Unauthorized, string(jwt.BadAlgorithm)},
		{"the realm publishes the key no more", func(q *portal, published *atomic.Pointer[[]byte]) {
			other := bytes.Replace(newForger(t).jwks(), []byte("forged"), []byte("next"), 1)
			published.Store(&other)
			q.refresh()
		}, fault.Unauthorized, string(jwt.UnknownKid)},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newForger(t)
			var published atomic.Pointer[[]byte]
			keys := f.jwks()
			published.Store(&keys)
			q := &portal{lab: newLab(t), to: https(t, leaf, leafKey, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				jwksHandler(*published.Load()).ServeHTTP(w, r)
			}))}
			q.clinic("north", issuer, pemOf(ca), nil)
			token := f.token(q.now())
			for range 3 {
				if c, err := q.who(token); err != nil || c.Sub != "victim" || c.KeyThumbprint == "" {
					t.Fatalf("%+v, %v", c, err)
				}
			}
			// What is remembered is this token, not its claims: no other signature passes with them.
			for _, forged := range []string{token[:len(token)-8] + "AAAAAAAA", newForger(t).token(q.now())} {
				_, err := q.who(forged)
				wantCode(t, "a forged one", err, fault.Unauthorized, string(jwt.BadSignature))
			}
			test.change(q, &published)
			_, err := q.who(token)
			wantCode(t, test.name, err, test.kind, test.code)
		})
	}
}

// refresh has the realm's keys fetched anew.
func (p *portal) refresh() {
	p.t.Helper()
	p.advance(2 * time.Minute)
	_, err := p.Authenticate(context.Background(), newForger(p.t).tokenOf(p.now(), "unheard-of"), p.now())
	var need *activation.NeedKeys
	if !errors.As(err, &need) {
		p.t.Fatalf("no fetch is asked for: %v", err)
	}
	if err := p.dial(need); err != nil {
		p.t.Fatal(err)
	}
}
