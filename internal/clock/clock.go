// Package clock says what time it is only when it can prove it.
//
// The proof is the kernel's: adjtimex tells whether a time service keeps the clock synchronised and how far off it is at most. On top of
// that come two laws:
//
//   - in either mode, no reading is earlier than one before it, nor than the high-water mark: the newest time that was proven and used before the start;
//   - in mode System, a clock that was stepped is not believed until it has gone on without another step for a while.
//
// Where there is no proof, Least says how late it is at least. No wall clock counts for that, so that one that is wrong leaves no trace.
//
// Steps are seen without a watcher: the kernel slews CLOCK_REALTIME and CLOCK_BOOTTIME by the same amounts, so that their difference
// changes only when the wall clock is set or a leap second passes. Every reading compares that difference with the one it started with.
package clock

import (
	"fmt"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Modes of a Clock.
const (
	System   = "system"   // readings are proven by the kernel's synchronisation state
	Unproven = "unproven" // for demonstrations and tests on a machine without time service: readings are flagged, and still never go back
)

// MaxAllowedError bounds Config.MaxError: EN 319 421 §7.7.2 asks for a clock within one second of UTC.
const MaxAllowedError = time.Second

const (
	// stepTolerance is the change of wall time against boot time that is not yet a step; both are read within far less.
	stepTolerance = time.Millisecond
	// settleTime is how long a stepped clock must stand without another step: a time service that steps corrects itself within seconds.
	settleTime = 10 * time.Second
)

// Config says how a Clock proves its readings.
type Config struct {
	Mode     string        // System or Unproven; there is no default
	MaxError time.Duration // System: the largest error, as the kernel bounds it, at which a reading is given; at most MaxAllowedError
	Kernel   Kernel        // nil = Linux; tests put their own here
}

// Reading is one proven (or, in mode Unproven, flagged) time.
type Reading struct {
	Time     time.Time     // UTC, without monotonic part
	MaxError time.Duration // bound on the distance to UTC at that moment; 0 and meaningless when not Proven
	Proven   bool
}

// Kernel takes the samples that a Clock judges.
type Kernel interface {
	// Sample reads the clocks; withState says whether the synchronisation state is wanted, which costs a system call that sandboxes may bar.
	Sample(withState bool) (Sample, error)
}

// Sample is what the kernel says at one moment.
type Sample struct {
	Wall  time.Time     // CLOCK_REALTIME
	Boot  time.Duration // CLOCK_BOOTTIME
	Slack time.Duration // Wall and Boot were read at most this far apart
	State State         // zero when it was not wanted
}

// State is the kernel's synchronisation state, from adjtimex(2).
type State struct {
	Leap           Leap
	Unsynchronised bool          // STA_UNSYNC, STA_CLOCKERR or TIME_ERROR
	MaxError       time.Duration // grows by itself between updates of the time service
	EstError       time.Duration
}

// Leap is where the kernel stands with a leap second; the numbers are those of adjtimex(2).
type Leap int

const (
	LeapNone       Leap = 0 // TIME_OK
	LeapInsert     Leap = 1 // TIME_INS: one will be inserted at the end of the day
	LeapDelete     Leap = 2 // TIME_DEL
	LeapInProgress Leap = 3 // TIME_OOP: the inserted second is passing
	LeapDone       Leap = 4 // TIME_WAIT
)

// Clock gives readings. It is safe for concurrent use; readings come in the order in which they were asked for.
type Clock struct {
	cfg    Config
	kernel Kernel

	mu     sync.Mutex
	last   time.Time     // the newest reading, or the high-water mark: there is no reading before it
	least  time.Time     // the newest reading, or what was known at the start to have been reached
	since  time.Duration // Boot at the newest reading
	read   bool          // there was a reading, so that since is known
	offset time.Duration // of Wall against Boot since the last step
	begun  bool          // offset is known
	step   time.Duration // the last step, positive = forwards; 0 when there was none or it is settled
	until  time.Duration // Boot at which the last step is settled
}

// Open returns a Clock that knows of no time before it; see Begin.
func Open(cfg Config) (*Clock, error) {
	switch {
	case cfg.Mode != System && cfg.Mode != Unproven:
		return nil, fault.New(fault.Invalid, fmt.Sprintf("clock mode %q is neither %q nor %q", cfg.Mode, System, Unproven))
	case cfg.Mode == System && (cfg.MaxError <= 0 || cfg.MaxError > MaxAllowedError):
		return nil, fault.New(fault.Invalid, fmt.Sprintf("maximum clock error %v is not between 0 and %v", cfg.MaxError, MaxAllowedError))
	}
	if cfg.Kernel == nil {
		cfg.Kernel = linux{}
	}
	return &Clock{cfg: cfg, kernel: cfg.Kernel}, nil
}

// Begin says what was before this process. highWater is the newest time that was proven and used: no reading is earlier. reached is a time that has been
// reached, proven or not: Least is not earlier, and readings do not heed it. Neither moves anything back.
func (c *Clock) Begin(highWater, reached time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if highWater = highWater.Round(0).UTC(); highWater.After(c.last) {
		c.last = highWater
	}
	for _, t := range []time.Time{highWater, reached.Round(0).UTC()} {
		if !c.read && t.After(c.least) {
			c.least = t
		}
	}
}

// Now returns the time, or a fault.Unavailable that says why it is not known.
func (c *Clock) Now() (Reading, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() (Reading, error) {
	proven := c.cfg.Mode == System
	s, err := c.kernel.Sample(proven)
	if err != nil {
		return Reading{}, unavailable("the kernel does not tell the time").WithCause(err).
			WithHint("let the service call adjtimex: it only reads, but ProtectClock= and seccomp filters bar it")
	}
	// The step is looked for first and in either mode, so that it is noticed whatever else is wrong.
	c.follow(s)
	if proven {
		if err := c.prove(s); err != nil {
			return Reading{}, err
		}
	}
	now := s.Wall.Round(0).UTC()
	if now.Before(c.last) {
		return Reading{}, unavailable(fmt.Sprintf("the clock is %v behind the newest time on record, %s", c.last.Sub(now), c.last.Format(time.RFC3339Nano))).
			WithHint("try again then, or set the clock right if it is wrong; a time that was used is never used again")
	}
	c.last, c.least, c.since, c.read = now, now, s.Boot, true
	r := Reading{Time: now, Proven: proven}
	if proven {
		r.MaxError = s.State.MaxError
	}
	return r, nil
}

// Least returns how late it is at least: what Now says, or without proof the newest reading and the time that has passed since by a clock that nobody can
// set, or before the first reading what was reached before the start. ok says that it is a reading.
//
// However the wall clock is set: Least never goes back, and is ahead of the true time by no more than a reading was, and what the kernel's oscillator drifts.
func (c *Clock) Least() (t time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, err := c.now(); err == nil {
		return r.Time, true
	}
	t, _ = c.held()
	return t, false
}

// held is Least without a reading. The sample is zero when the kernel gave none.
func (c *Clock) held() (time.Time, Sample) {
	s, err := c.kernel.Sample(false)
	if err != nil {
		return c.least, Sample{}
	}
	if !c.read {
		return c.least, s
	}
	return c.least.Add(s.Boot - c.since), s
}

// Estimate returns the time for what need not be proven but is about now, such as whether a token has ended: Least, or the machine's time while that is
// later and there was no reading since the start. Whoever sets the wall clock back revives nothing by it that had ended.
func (c *Clock) Estimate() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, err := c.now(); err == nil {
		return r.Time
	}
	t, s := c.held()
	if wall := s.Wall.Round(0).UTC(); !c.read && wall.After(t) {
		return wall
	}
	return t
}

// follow compares the sample with the ones before and takes note of a step.
func (c *Clock) follow(s Sample) {
	offset := time.Duration(s.Wall.UnixNano()) - s.Boot
	if !c.begun {
		c.offset, c.begun = offset, true
		return
	}
	delta := offset - c.offset
	if delta.Abs() <= stepTolerance+s.Slack {
		return // the offset stays that of the beginning, so that small steps add up to one
	}
	c.offset = offset
	if leapSecond(s.State.Leap, delta, s.Slack) {
		return
	}
	c.step, c.until = delta, s.Boot+settleTime
}

// leapSecond reports whether delta is the step that the kernel itself makes at a leap second: back when it inserts one, forward when it
// leaves one out.
func leapSecond(l Leap, delta, slack time.Duration) bool {
	if l != LeapInProgress && l != LeapDone {
		return false
	}
	return (delta.Abs() - time.Second).Abs() <= stepTolerance+slack
}

// prove refuses a sample that is not proof of the time.
func (c *Clock) prove(s Sample) error {
	switch {
	case s.State.Unsynchronised:
		return unavailable("the clock is not synchronised").
			WithHint(`install chrony, keep rtcsync in its configuration (without it the kernel is never told), and wait for "chronyc waitsync"`)
	case s.State.MaxError > c.cfg.MaxError || s.State.EstError > c.cfg.MaxError:
		return unavailable(fmt.Sprintf("the clock may be off by %v, at most %v is allowed", max(s.State.MaxError, s.State.EstError), c.cfg.MaxError)).
			WithHint("shorten chrony's poll interval (maxpoll 6), or give it nearer servers")
	case s.State.Leap == LeapInProgress:
		// The kernel shows 23:59:59 a second time: its readings would repeat, and 23:59:60 cannot be written (RFC 3161 §2.4.2).
		return unavailable("a leap second is passing").WithHint("try again in a second")
	case c.step == 0:
		return nil
	case s.Boot < c.until:
		return unavailable(fmt.Sprintf("the clock was stepped by %v and is being watched", c.step)).
			WithHint(fmt.Sprintf("try again in %v", (c.until-s.Boot).Round(time.Second)+time.Second))
	}
	c.step = 0
	return nil
}

func unavailable(public string) *fault.Error { return fault.New(fault.Unavailable, public) }
