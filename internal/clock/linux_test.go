package clock

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAdjtimexAgreesWithTheRuntime holds adjtimex against another path to the same clock, where the machine lets us call it.
func TestAdjtimexAgreesWithTheRuntime(t *testing.T) {
	before := time.Now().Round(0)
	s, err := linux{}.Sample(true)
	after := time.Now().Round(0)
	if errors.Is(err, unix.EPERM) {
		t.Log("this sandbox bars adjtimex; a Clock would refuse every reading here")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	// adjtimex shows microseconds unless STA_NANO is set.
	if s.Wall.Before(before.Truncate(time.Microsecond)) || s.Wall.After(after) {
		t.Errorf("adjtimex says %v, not between %v and %v", s.Wall, before, after)
	}
	if s.Boot <= 0 || s.Slack < 0 || s.Slack > time.Second {
		t.Errorf("sample %+v", s)
	}
	if s.State.MaxError < 0 || s.State.Leap < LeapNone || s.State.Leap > unix.TIME_ERROR {
		t.Errorf("state %+v", s.State)
	}
}

func BenchmarkSample(b *testing.B) {
	for _, state := range []bool{false, true} {
		b.Run(map[bool]string{false: "time", true: "time and state"}[state], func(b *testing.B) {
			for b.Loop() {
				if _, err := (linux{}).Sample(state); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
