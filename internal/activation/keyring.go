package activation

import (
	"context"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
)

// NeedKeys says that a realm's keys have to be fetched before a token can be judged: dial Address (TCP), give the connection to FetchKeys (or nil
// when it could not be had), and ask again. Asking again without having dialled does no harm: a kept key serves on, and a missing one is missing.
type NeedKeys struct{ Issuer, Address string }

func (n *NeedKeys) Error() string {
	return "activation: the keys of " + n.Issuer + " have to be fetched"
}

// Unwrap returns what those get who cannot dial.
func (n *NeedKeys) Unwrap() error {
	return fault.New(fault.Unavailable, "the keys of the realm have to be fetched first").WithHint("try again")
}

// keyring is a realm's keys and how they are come by. At most one fetch is awaited, and at most one runs.
type keyring struct {
	mu        sync.Mutex
	keys      jwt.Keys
	seen      time.Time     // when the realm was last seen to publish them
	confirmed time.Time     // when a line last said so
	asked     time.Time     // when a fetch was last asked for
	awaited   chan struct{} // closed when that fetch has ended; nil when none is awaited
	running   bool
	waiting   int // callers in await
}

// maxWaiting bounds how many callers of one realm wait at once: tokens with made-up kids cost nothing to make.
const maxWaiting = 256

// await waits until done, for a bounded time, and reports whether it came. It does not begin to wait when too many do.
func (k *keyring) await(ctx context.Context, done <-chan struct{}, longest time.Duration) bool {
	k.mu.Lock()
	full := k.waiting >= maxWaiting
	if !full {
		k.waiting++
	}
	k.mu.Unlock()
	if full {
		return false
	}
	defer func() {
		k.mu.Lock()
		k.waiting--
		k.mu.Unlock()
	}()
	t := time.NewTimer(longest)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// want says why keys are wanted.
type want int

const (
	wantFresh want = iota // whenever it is due
	wantKid               // there is a token with a kid that is not among them
)

// get returns the keys to verify with now, none when there are none to be believed. fetch is true for the one caller that is to have them fetched;
// wait, when not nil, ends when a fetch that another was told of has.
func (k *keyring) get(w want, now time.Time, t Timing) (keys jwt.Keys, fetch bool, wait <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	pause := t.Retry
	// A dialler that gives no connection keeps a key in use that the realm has withdrawn, but no longer than this.
	if k.keys.Len() > 0 && now.Sub(k.seen) < t.Keep {
		keys = k.keys
	} else {
		pause = t.RetryNone
	}
	due := keys.Len() == 0 || w == wantKid || now.Sub(k.seen) >= t.Refresh
	if !due {
		return keys, false, nil
	}
	if since := now.Sub(k.asked); since >= pause || since <= -pause { // who asked at the same time may have looked at the clock a moment before
		k.settle()
		k.asked, k.awaited = now, make(chan struct{})
		return keys, true, nil
	}
	if keys.Len() == 0 || w == wantKid {
		wait = k.awaited
	}
	return keys, false, wait
}

// settle ends the waiting for a fetch. mu is held.
func (k *keyring) settle() {
	if k.awaited != nil {
		close(k.awaited)
		k.awaited = nil
	}
}

// begin claims the fetch that was asked for.
func (k *keyring) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.awaited == nil || k.running {
		return false
	}
	k.running = true
	return true
}

// end lets go of what begin claimed.
func (k *keyring) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = false
	k.settle()
}
