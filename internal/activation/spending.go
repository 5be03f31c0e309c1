package activation

import (
	"fmt"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// spending counts signatures per token and per person. It is in memory: a restart forgets it, and a token lives minutes.
type spending struct {
	mu      sync.Mutex
	tokens  map[[32]byte]*spentToken
	persons map[string][]time.Time // when, oldest first, within the last minute
	swept   time.Time
}

type spentToken struct {
	count   int
	expires time.Time
}

func newSpending() *spending {
	return &spending{tokens: map[[32]byte]*spentToken{}, persons: map[string][]time.Time{}}
}

// take counts one signature, or says which cap forbids it.
func (s *spending) take(c Caller, now time.Time) *fault.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	t := s.tokens[c.TokenHash]
	if t == nil {
		t = &spentToken{expires: c.Expires}
	}
	if t.count >= c.Policy.SignaturesPerToken {
		return refuse(TokenSpent, fault.Unavailable, fmt.Sprintf("the token has been used for %d signatures, as many as the clinic allows", t.count),
			"refresh the token, and send the new one")
	}
	who := c.Clinic + " " + c.Sub
	times := recent(s.persons[who], now)
	if len(times) >= c.Policy.SignaturesPerMinute {
		s.persons[who] = times
		return refuse(TooFast, fault.Unavailable, fmt.Sprintf("%d signatures within a minute, as many as the clinic allows", len(times)), "try again in a minute")
	}
	t.count++
	s.tokens[c.TokenHash] = t
	s.persons[who] = append(times, now)
	return nil
}

// recent cuts off what is more than a minute ago.
func recent(times []time.Time, now time.Time) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) >= time.Minute {
		times = times[1:]
	}
	return times
}

// sweep forgets tokens that have ended and persons who have not signed lately, once a minute. mu is held.
func (s *spending) sweep(now time.Time) {
	if since := now.Sub(s.swept); since >= 0 && since < time.Minute {
		return
	}
	s.swept = now
	for hash, t := range s.tokens {
		if now.Sub(t.expires) > time.Hour {
			delete(s.tokens, hash)
		}
	}
	for who, times := range s.persons {
		if times = recent(times, now); len(times) == 0 {
			delete(s.persons, who)
		}
	}
}
