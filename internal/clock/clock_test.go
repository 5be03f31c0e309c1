package clock_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/fault"
)

// machine is a Kernel whose time a test moves.
type machine struct {
	mu    sync.Mutex
	wall  time.Time
	boot  time.Duration
	slack time.Duration
	state clock.State
	err   error
}

func (m *machine) Sample(withState bool) (clock.Sample, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil && withState {
		return clock.Sample{}, m.err
	}
	s := clock.Sample{Wall: m.wall, Boot: m.boot, Slack: m.slack}
	if withState {
		s.State = m.state
	}
	return s, nil
}

// pass lets time go on, step sets the wall clock.
func (m *machine) pass(d time.Duration) { m.wall, m.boot = m.wall.Add(d), m.boot+d }
func (m *machine) step(d time.Duration) { m.wall = m.wall.Add(d) }

var start = time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC)

func newMachine() *machine {
	return &machine{wall: start, boot: time.Hour, state: clock.State{MaxError: 20 * time.Millisecond, EstError: time.Millisecond}}
}

func open(t *testing.T, mode string, m *machine, highWater time.Time) *clock.Clock {
	t.Helper()
	c, err := clock.Open(clock.Config{Mode: mode, MaxError: 500 * time.Millisecond, Kernel: m})
	if err != nil {
		t.Fatal(err)
	}
	c.Begin(highWater, highWater)
	return c
}

func given(t *testing.T, c *clock.Clock) clock.Reading {
	t.Helper()
	r, err := c.Now()
	if err != nil {
		t.Fatalf("no reading: %v", err)
	}
	return r
}

func refused(t *testing.T, c *clock.Clock, why string) {
	t.Helper()
	r, err := c.Now()
	if err == nil {
		t.Fatalf("a reading %v was given, want a refusal: %s", r.Time, why)
	}
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.PublicOf(err), why) || fault.HintOf(err) == "" {
		t.Fatalf("error %q (kind %v, hint %q), want unavailable: %s", err, fault.KindOf(err), fault.HintOf(err), why)
	}
}

func TestProvenReading(t *testing.T) {
	m := newMachine()
	r := given(t, open(t, clock.System, m, time.Time{}))
	if !r.Proven || !r.Time.Equal(start) || r.Time.Location() != time.UTC || r.MaxError != 20*time.Millisecond {
		t.Errorf("reading %+v", r)
	}
}

func TestStatesThatAreNoProof(t *testing.T) {
	for _, c := range []struct {
		name  string
		state clock.State
		why   string
	}{
		{"unsynchronised", clock.State{Unsynchronised: true}, "not synchronised"},
		{"maximum error", clock.State{MaxError: 501 * time.Millisecond}, "off by 501ms"},
		{"estimated error", clock.State{EstError: 2 * time.Second}, "off by 2s"},
		{"fresh boot", clock.State{Unsynchronised: true, MaxError: 16 * time.Second, EstError: 16 * time.Second}, "not synchronised"},
		{"leap second", clock.State{Leap: clock.LeapInProgress}, "leap second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine()
			k := open(t, clock.System, m, time.Time{})
			good := m.state
			m.state = c.state
			refused(t, k, c.why)
			m.state = good
			m.pass(time.Second)
			given(t, k)
		})
	}
}

func TestMaximumErrorAtTheLimitIsAllowed(t *testing.T) {
	m := newMachine()
	m.state.MaxError = 500 * time.Millisecond
	given(t, open(t, clock.System, m, time.Time{}))
}

func TestKernelThatDoesNotAnswer(t *testing.T) {
	m := newMachine()
	m.err = errors.New("operation not permitted")
	c := open(t, clock.System, m, time.Time{})
	refused(t, c, "does not tell the time")
	if _, err := c.Now(); !errors.Is(err, m.err) {
		t.Error("the cause is lost to the log")
	}
	// Without proof to give, the state is not asked for, so that a sandbox that bars adjtimex does not matter.
	given(t, open(t, clock.Unproven, m, time.Time{}))
}

func TestNeverBelowTheHighWaterMark(t *testing.T) {
	for _, mode := range []string{clock.System, clock.Unproven} {
		m := newMachine()
		c := open(t, mode, m, start.Add(time.Minute)) // as a restart with a clock that went back finds it
		refused(t, c, "1m0s behind the newest time on record")
		m.pass(time.Minute)
		given(t, c)
	}
}

func TestStepBackwards(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	m.pass(time.Minute)
	given(t, c)
	m.step(-30 * time.Second)
	refused(t, c, "stepped by -30s")
	m.pass(11 * time.Second)
	refused(t, c, "behind the newest time on record") // settled, and still no time is used twice
	m.pass(19 * time.Second)
	given(t, c)
}

func TestStepForwards(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	given(t, c)
	m.step(time.Hour)
	m.state.Unsynchronised = true // as the kernel does when its clock is set
	refused(t, c, "not synchronised")
	m.pass(9 * time.Second)
	m.state.Unsynchronised = false
	refused(t, c, "stepped by 1h0m0s")
	m.pass(time.Second)
	given(t, c)
}

func TestStepThatNoReadingSawHappen(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	given(t, c)
	m.pass(24 * time.Hour)
	m.step(2 * time.Second)
	m.pass(24 * time.Hour)
	refused(t, c, "stepped by 2s")
}

func TestSecondStepStartsTheWatchAgain(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	given(t, c)
	m.step(time.Second)
	refused(t, c, "stepped by 1s")
	m.pass(8 * time.Second)
	m.step(-100 * time.Millisecond)
	refused(t, c, "stepped by -100ms")
	m.pass(8 * time.Second)
	refused(t, c, "stepped by -100ms")
	m.pass(2 * time.Second)
	given(t, c)
}

func TestSmallStepsAddUp(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	given(t, c)
	m.step(600 * time.Microsecond)
	given(t, c)
	m.step(600 * time.Microsecond)
	refused(t, c, "stepped by 1.2ms")
}

func TestSuspendIsNoStep(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	given(t, c)
	m.pass(48 * time.Hour) // boot time goes on during a suspend
	given(t, c)
}

func TestSlackOfABusyMachineIsNoStep(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	given(t, c)
	m.pass(time.Second)
	m.step(5 * time.Millisecond)
	m.slack = 5 * time.Millisecond
	given(t, c)
}

// TestInsertedLeapSecond plays what Linux does: the last second of the day is shown twice, the second time with TIME_OOP.
func TestInsertedLeapSecond(t *testing.T) {
	for _, watched := range []bool{true, false} {
		m := newMachine()
		c := open(t, clock.System, m, time.Time{})
		m.state.Leap = clock.LeapInsert
		m.pass(time.Hour - time.Millisecond)
		before := given(t, c)
		if got := before.Time.Second(); got != 59 {
			t.Fatalf("second %d before the leap second", got)
		}
		m.pass(2 * time.Millisecond)
		m.step(-time.Second)
		m.state.Leap = clock.LeapInProgress
		if watched {
			refused(t, c, "leap second")
		}
		m.pass(time.Second)
		m.state.Leap = clock.LeapDone
		after := given(t, c)
		if !after.Time.After(before.Time) || after.Time.Day() != 1 {
			t.Errorf("after the leap second: %v, before: %v", after.Time, before.Time)
		}
		m.state.Leap = clock.LeapNone
		m.pass(time.Minute)
		given(t, c)
	}
}

func TestDeletedLeapSecond(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	m.state.Leap = clock.LeapDelete
	m.pass(time.Hour - 1100*time.Millisecond)
	given(t, c)
	m.pass(200 * time.Millisecond)
	m.step(time.Second)
	m.state.Leap = clock.LeapDone
	given(t, c)
}

func TestOneSecondStepWithoutLeapSecondIsAStep(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, time.Time{})
	m.pass(time.Minute)
	given(t, c)
	m.state.Leap = clock.LeapInsert
	m.step(time.Second)
	refused(t, c, "stepped by 1s")
}

func TestUnprovenIsFlaggedAndNeverGoesBack(t *testing.T) {
	m := newMachine()
	m.state.Unsynchronised = true
	c := open(t, clock.Unproven, m, time.Time{})
	if r := given(t, c); r.Proven || r.MaxError != 0 {
		t.Errorf("reading %+v", r)
	}
	m.step(-time.Second)
	refused(t, c, "1s behind")
	m.pass(time.Second)
	given(t, c)
}

func TestConfigRejected(t *testing.T) {
	for _, cfg := range []clock.Config{
		{},
		{Mode: "ntp", MaxError: time.Second},
		{Mode: clock.System},
		{Mode: clock.System, MaxError: -time.Second},
		{Mode: clock.System, MaxError: time.Second + 1},
	} {
		if _, err := clock.Open(cfg); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: error %v", cfg, err)
		}
	}
}

func TestThisMachineAndConcurrency(t *testing.T) {
	c, err := clock.Open(clock.Config{Mode: clock.Unproven})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var last time.Time
			for range 500 {
				r, err := c.Now()
				if err != nil {
					t.Error(err)
					return
				}
				if r.Time.Before(last) {
					t.Errorf("%v after %v", r.Time, last)
				}
				last = r.Time
			}
		})
	}
	wg.Wait()
	r, err := c.Now()
	if d := time.Since(r.Time); err != nil || d < 0 || d > time.Minute {
		t.Errorf("reading %v is %v away from the runtime's clock, error %v", r.Time, d, err)
	}
}

// TestLeastIsNotMovedByTheWallClock: without proof, time goes on by the boot clock alone, from the newest reading; setting the wall clock does nothing.
func TestLeastIsNotMovedByTheWallClock(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, start.Add(-time.Minute))
	given(t, c)
	least := func(what string, want time.Time, proven bool) {
		t.Helper()
		got, ok := c.Least()
		if !got.Equal(want) || ok != proven {
			t.Errorf("%s: %v (proven %v), want %v", what, got, ok, want)
		}
		if e := c.Estimate(); !e.Equal(want) {
			t.Errorf("%s: the estimate is %v, want %v", what, e, want)
		}
	}
	m.pass(time.Hour)
	m.step(-3 * time.Hour)
	least("set back", start.Add(time.Hour), false)
	m.step(5 * time.Hour)
	m.pass(time.Second)
	least("set forward", start.Add(time.Hour+time.Second), false)
	m.step(-2 * time.Hour)
	least("set right again, and watched", start.Add(time.Hour+time.Second), false)
	m.pass(settled)
	least("settled", start.Add(time.Hour+time.Second+settled), true)
	m.state.Unsynchronised = true
	m.pass(time.Hour)
	least("unsynchronised", start.Add(2*time.Hour+time.Second+settled), false)
	m.err = errors.New("operation not permitted")
	least("adjtimex barred", start.Add(2*time.Hour+time.Second+settled), false)
}

// settled is how long a stepped clock is watched.
const settled = 10 * time.Second

// TestStartWithoutProof: before the first reading the machine's time counts for nothing that lasts. It may be years ahead (a wrong RTC) without a trace.
func TestStartWithoutProof(t *testing.T) {
	for _, wrong := range []time.Duration{-24 * time.Hour, 24 * time.Hour, 11 * 365 * 24 * time.Hour} {
		m := newMachine()
		m.state.Unsynchronised = true
		m.step(wrong)
		c, err := clock.Open(clock.Config{Mode: clock.System, MaxError: 500 * time.Millisecond, Kernel: m})
		if err != nil {
			t.Fatal(err)
		}
		mark, reached := start.Add(-time.Hour), start.Add(-time.Minute)
		c.Begin(mark, reached)
		for range 2 {
			if got, ok := c.Least(); !got.Equal(reached) || ok {
				t.Errorf("wrong by %v: at least %v, proven %v", wrong, got, ok)
			}
			want := reached // what had ended by then stays ended
			if m.wall.After(want) {
				want = m.wall
			}
			if got := c.Estimate(); !got.Equal(want) {
				t.Errorf("wrong by %v: estimate %v, want %v", wrong, got, want)
			}
			refused(t, c, "not synchronised")
			m.pass(time.Minute)
		}
		m.step(-wrong) // the time service sets it
		m.state.Unsynchronised = false
		refused(t, c, "stepped by")
		m.pass(settled)
		if r := given(t, c); !r.Time.Equal(m.wall) {
			t.Errorf("wrong by %v: then %v, want %v", wrong, r.Time, m.wall)
		}
	}
}

// TestReachedIsNoMark: a time that was reached without proof, in whatever future, keeps no reading back.
func TestReachedIsNoMark(t *testing.T) {
	m := newMachine()
	c := open(t, clock.System, m, start.Add(-time.Minute))
	c.Begin(time.Time{}, start.Add(24*time.Hour))
	if got := c.Estimate(); !got.Equal(start) { // a reading is better than any estimate
		t.Errorf("estimate %v", got)
	}
	if r := given(t, c); !r.Time.Equal(start) {
		t.Errorf("reading %v", r.Time)
	}
	c.Begin(start.Add(time.Minute), time.Time{})
	refused(t, c, "1m0s behind the newest time on record")
	c.Begin(start.Add(-time.Hour), time.Time{})
	refused(t, c, "1m0s behind the newest time on record")
}
