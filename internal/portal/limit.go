package portal

import (
	"net/netip"
	"sync"
	"time"
)

// maxKeys bounds what a limiter remembers. A key that is forgotten starts afresh.
const maxKeys = 1 << 16

// limiter lets each key do something at a rate on average, and a burst of it at once (the generic cell rate algorithm, ITU-T I.371: one time per
// key, that at which its bucket will be empty). It is safe for concurrent use.
type limiter struct {
	interval time.Duration // 1 / rate
	burst    int

	mu    sync.Mutex
	empty map[string]time.Time
}

func newLimiter(perSecond, burst int) *limiter {
	return &limiter{interval: time.Second / time.Duration(perSecond), burst: burst, empty: map[string]time.Time{}}
}

// allowance is what a key may still do.
type allowance struct {
	ok        bool
	limit     int           // in a full burst
	remaining int           // now
	wait      time.Duration // until the next is allowed; 0 when remaining > 0
}

// take uses one of key's allowance, if there is one.
func (l *limiter) take(key string, now time.Time) allowance { return l.look(key, now, 1) }

// peek uses nothing.
func (l *limiter) peek(key string, now time.Time) allowance { return l.look(key, now, 0) }

func (l *limiter) look(key string, now time.Time, n int) allowance {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.interval * time.Duration(l.burst)
	empty := l.empty[key]
	if empty.Before(now) {
		empty = now
	}
	room := full - empty.Sub(now) // of the bucket, in time
	a := allowance{ok: room >= l.interval, limit: l.burst}
	if a.ok && n > 0 {
		if len(l.empty) >= maxKeys {
			l.forget(now)
		}
		l.empty[key] = empty.Add(l.interval)
		room -= l.interval
	}
	a.remaining = int(room / l.interval)
	if a.remaining == 0 {
		a.wait = l.interval - room
	}
	return a
}

// forget drops the keys whose bucket is empty, and any half of the rest when that does not help.
func (l *limiter) forget(now time.Time) {
	for key, empty := range l.empty {
		if !empty.After(now) {
			delete(l.empty, key)
		}
	}
	for key := range l.empty {
		if len(l.empty) <= maxKeys/2 {
			return
		}
		delete(l.empty, key)
	}
}

// addressKey is what counts as one address: an IPv6 network of 64 bits is one subscriber's.
func addressKey(a netip.Addr) string {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
