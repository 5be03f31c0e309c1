package activation

import (
	"fmt"
	"testing"
	"time"
)

// TestLimiterForgets: the memory of origins is bounded, and origins that have been quiet make room.
func TestLimiterForgets(t *testing.T) {
	l, now := newLimiter(refusalBurst, refusalRate), time.Unix(1_800_000_000, 0)
	for i := range 3 * refusalOrigins {
		l.take("k", fmt.Sprint(i), now)
	}
	if n := len(l.buckets); n > refusalOrigins+1 {
		t.Errorf("%d origins are remembered", n)
	}
	if ok, _ := l.take("k", "one too many", now); ok {
		t.Error("the shared allowance has no end")
	}
	now = now.Add(10 * time.Minute)
	if ok, _ := l.take("k", "one too many", now); !ok {
		t.Error("no allowance after a pause")
	}
	if n := len(l.buckets); n > 10 {
		t.Errorf("%d origins are remembered after a pause", n)
	}
}

// TestSpendingForgets: what has ended is not counted on.
func TestSpendingForgets(t *testing.T) {
	s, now := newSpending(), time.Unix(1_800_000_000, 0)
	for i := range 1000 {
		c := Caller{Clinic: "north", Policy: DefaultPolicy()}
		c.Sub, c.InputHash, c.Expires = fmt.Sprint(i), [32]byte{byte(i), byte(i >> 8)}, now.Add(5*time.Minute)
		if no := s.take(c, now); no != nil {
			t.Fatal(no)
		}
	}
	now = now.Add(2 * time.Hour)
	if no := s.take(Caller{Policy: DefaultPolicy()}, now); no != nil {
		t.Fatal(no)
	}
	if len(s.tokens) != 1 || len(s.persons) != 1 {
		t.Errorf("%d tokens, %d persons", len(s.tokens), len(s.persons))
	}
}
