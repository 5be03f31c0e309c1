package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// linux is the Kernel of this machine.
type linux struct{}

// maxSlack is how far apart Wall and Boot may be read; a sample that was interrupted for longer is taken again, tries times at most.
const (
	maxSlack = 100 * time.Microsecond
	tries    = 5
)

// Sample reads CLOCK_REALTIME between two readings of CLOCK_BOOTTIME: through adjtimex, which gives time and state of one moment, or alone.
func (linux) Sample(withState bool) (Sample, error) {
	var best Sample
	for range tries {
		before, err := gettime(unix.CLOCK_BOOTTIME)
		if err != nil {
			return Sample{}, err
		}
		s, err := wall(withState)
		if err != nil {
			return Sample{}, err
		}
		after, err := gettime(unix.CLOCK_BOOTTIME)
		if err != nil {
			return Sample{}, err
		}
		s.Boot, s.Slack = before, after-before
		if best.Wall.IsZero() || s.Slack < best.Slack {
			best = s
		}
		if s.Slack <= maxSlack {
			return s, nil
		}
	}
	return best, nil // a busy machine: the tightest, whose slack the caller allows for
}

func wall(withState bool) (Sample, error) {
	if !withState {
		now, err := gettime(unix.CLOCK_REALTIME)
		return Sample{Wall: time.Unix(0, int64(now))}, err
	}
	var tx unix.Timex // Modes 0: adjtimex(2) only reads, which takes no privilege
	leap, err := unix.Adjtimex(&tx)
	if err != nil {
		return Sample{}, fmt.Errorf("adjtimex: %w", err)
	}
	ns := int64(tx.Time.Usec)
	if tx.Status&unix.STA_NANO == 0 {
		ns *= int64(time.Microsecond)
	}
	return Sample{
		Wall: time.Unix(int64(tx.Time.Sec), ns),
		State: State{
			Leap:           Leap(leap),
			Unsynchronised: leap == unix.TIME_ERROR || tx.Status&(unix.STA_UNSYNC|unix.STA_CLOCKERR) != 0,
			MaxError:       time.Duration(tx.Maxerror) * time.Microsecond,
			EstError:       time.Duration(tx.Esterror) * time.Microsecond,
		},
	}, nil
}

func gettime(id int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("clock_gettime %d: %w", id, err)
	}
	return time.Duration(ts.Nano()), nil
}
