// Package activation answers one question: may this credential sign this now?
//
// It keeps the registry of clinics, realms and policies, as events of the log and a fold over them; the public keys with which each realm signs
// tokens, whose first appearance and every change are lines of the log before a token is believed because of them; and it turns a token into a
// Caller (Authenticate) and a Caller's wish into an Authorization for one document (Authorize). Refusals are events too.
//
// It makes no connection of its own. When a realm's keys have to be fetched, Authenticate answers *NeedKeys; whoever can dial does so and hands
// the connection to FetchKeys, which speaks TLS and HTTP over it itself: a dialler that lies is found out by the certificate.
package activation

import (
	"context"
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Ledger is the log as this package uses it.
type Ledger interface {
	Append(context.Context, ledger.Event) (ledger.Record, error)
	View(func(*index.Tx) error) error
}

// Config is what an Activation works with.
type Config struct {
	Ledger Ledger // with Fold() among its folds
	Demo   bool   // founded as a demo: a realm may be http on loopback
	Log    *slog.Logger
	Roots  *x509.CertPool // that realms without a CA of their own are held against; nil: the system's
	Timing Timing
	// Unproven says why the time is not proven, nil when it is; Reached whether a time is certainly past. The time that callers hand over is then the best
	// guess, and nothing is refused that only the guess refuses. May be nil.
	Unproven func() error
	Reached  func(time.Time) bool
}

// Timing holds the periods of the key cache; zero values are the defaults in brackets.
type Timing struct {
	Leeway    time.Duration // between a realm's clock and ours [30 s]
	Refresh   time.Duration // how old a realm's keys may become before they are fetched anew, if that can be done [10 min]
	Retry     time.Duration // between two fetches because of an unknown kid or of age [30 s]
	RetryNone time.Duration // between two fetches while there are no keys at all [1 s]
	Keep      time.Duration // how long keys are believed after the realm was last seen to publish them [24 h]
	Await     time.Duration // how long a caller waits for a fetch that another caller's token asked for [5 s]
	Fetch     time.Duration // how long one fetch may take [10 s]
	Confirm   time.Duration // between two lines that say that a realm's keys are still the same [6 h]
	Authorise time.Duration // how long an Authorization may be used [2 min]
}

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Leeway, 30*time.Second)
	set(&t.Refresh, 10*time.Minute)
	set(&t.Retry, 30*time.Second)
	set(&t.RetryNone, time.Second)
	set(&t.Keep, 24*time.Hour)
	set(&t.Await, 5*time.Second)
	set(&t.Fetch, 10*time.Second)
	set(&t.Confirm, 6*time.Hour)
	set(&t.Authorise, 2*time.Minute)
	return t
}

// Activation is safe for concurrent use.
//
// Locks: act is held by changes of the registry and of a realm's keys, and taken before mu; mu guards the maps and is never held while the log is waited for. Each realm's
// keys have their own lock, taken after mu or without it.
type Activation struct {
	cfg Config

	act sync.Mutex
	mu  sync.RWMutex
	reg registry

	refusals  *limiter // by person
	strangers *limiter // of all whom no realm vouches for
	changes   *limiter // of the keys of each realm
	spent     *spending
	believed  believed
}

// Open reads the registry and the realms' keys from the log's index.
func Open(_ context.Context, cfg Config) (*Activation, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Timing = cfg.Timing.withDefaults()
	a := &Activation{cfg: cfg, refusals: newLimiter(refusalBurst, refusalRate), strangers: newLimiter(strangerBurst, strangerRate),
		changes: newLimiter(changeBurst, changeRate), spent: newSpending()}
	if err := cfg.Ledger.View(a.spent.restore); err != nil {
		return nil, err
	}
	return a, a.reload()
}
