package activation_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/oidctest"
)

// failing is a log that refuses events of one type.
type failing struct {
	*ledger.Ledger
	mu   sync.Mutex
	kind string
}

func (f *failing) refuse(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kind = kind
}

func (f *failing) Append(ctx context.Context, e ledger.Event) (ledger.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Type == f.kind {
		return ledger.Record{}, errors.New("disk on fire")
	}
	return f.Ledger.Append(ctx, e)
}

// TestNoKeyBeforeItsLine: a token is never believed because of a key that the log does not have.
func TestNoKeyBeforeItsLine(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	f := newForger(t)
	q := &portal{lab: newLab(t), to: https(t, leaf, leafKey, jwksHandler(f.jwks()))}
	log := &failing{Ledger: q.ledger}
	var err error
	if q.Activation, err = activation.Open(context.Background(), activation.Config{Ledger: log}); err != nil {
		t.Fatal(err)
	}
	q.clinic("north", issuer, pemOf(ca), nil)
	for _, kind := range []string{"realm_key_first_seen", "realm_keys_changed"} {
		log.refuse(kind)
		_, err := q.who(f.token(q.now()))
		wantCode(t, "without "+kind, err, fault.Unavailable, activation.NoKeys)
		q.advance(2 * time.Second)
	}
	log.refuse("")
	if _, err := q.who(f.token(q.now())); err != nil {
		t.Error(err)
	}
	// The key that was seen before the failure is not seen for the first time again.
	if seen, changed := q.lines("realm_key_first_seen"), q.lines("realm_keys_changed"); len(seen) != 1 || len(changed) != 1 {
		t.Errorf("%v, %v", seen, changed)
	}
	// An act that the log did not take has not happened.
	log.refuse("clinic_policy_changed")
	p := activation.DefaultPolicy()
	p.ACRValues = []string{"0"}
	if _, err := q.SetPolicy(context.Background(), "north", p, "operator"); err == nil {
		t.Error("no error")
	}
	if c, err := q.Clinic("north"); err != nil || c.Policy.ACRValues[0] != "2" {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestCrowd: of very many tokens with made-up kids some wait for the fetch and the rest are refused at once.
func TestCrowd(t *testing.T) {
	ca, caKey := oidctest.Issue(t, nil, nil, "")
	leaf, leafKey := oidctest.Issue(t, ca, caKey, host)
	f, stranger := newForger(t), newForger(t)
	l := &lab{t: t, dir: t.TempDir(), at: time.Now().UTC(), timing: activation.Timing{Await: 2 * time.Second}}
	l.open()
	t.Cleanup(l.close)
	q := &portal{lab: l, to: https(t, leaf, leafKey, jwksHandler(f.jwks()))}
	q.clinic("north", issuer, pemOf(ca), nil)
	if _, err := q.who(f.token(q.now())); err != nil {
		t.Fatal(err)
	}
	q.advance(time.Minute)
	h, c := oidctest.Decode(t, stranger.token(q.now()))
	r := oidctest.Realm{Key: stranger.key}
	token := r.Sign(t, oidctest.With(h, map[string]any{"kid": "made-up"}), c)
	var need *activation.NeedKeys
	if _, err := q.Authenticate(context.Background(), token, q.now()); !errors.As(err, &need) {
		t.Fatal(err)
	}
	var atOnce atomic.Int32
	var wg sync.WaitGroup
	for range 400 {
		wg.Go(func() {
			start := time.Now()
			_, err := q.Authenticate(context.Background(), token, q.now())
			if fault.CodeOf(err) != string(jwt.UnknownKid) {
				t.Error(err)
			}
			if time.Since(start) < time.Second {
				atOnce.Add(1)
			}
		})
	}
	wg.Wait()
	if n := atOnce.Load(); n < 100 {
		t.Errorf("%d of 400 had their answer at once", n)
	}
	// Those who have good tokens are not held up by any of it.
	start := time.Now()
	if _, err := q.Authenticate(context.Background(), f.token(q.now()), q.now()); err != nil || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func BenchmarkAuthenticateAndAuthorize(b *testing.B) {
	ca, caKey := oidctest.Issue(b, nil, nil, "")
	leaf, leafKey := oidctest.Issue(b, ca, caKey, host)
	f := newForger(b)
	q := &portal{lab: newLab(b), to: https(b, leaf, leafKey, jwksHandler(f.jwks()))}
	q.clinic("north", issuer, pemOf(ca), func(p *activation.Policy) { p.SignaturesPerMinute, p.SignaturesPerToken = 1_000_000, 1_000_000 })
	token := f.token(q.now())
	if _, err := q.who(token); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for b.Loop() {
		c, err := q.Authenticate(ctx, token, q.now())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := q.Authorize(ctx, q.request(c)); err != nil {
			b.Fatal(err)
		}
	}
}
