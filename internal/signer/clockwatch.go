package signer

import (
	"context"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// ClockWatch says how often the running signer looks whether time is proven. Zero is the default of each.
type ClockWatch struct {
	Every  time.Duration // [5 s]
	Settle time.Duration // for which a proof must hold to be on record as back [30 s]: a clock at the bound adds two lines in that time, not many
}

func (w ClockWatch) withDefaults() ClockWatch {
	if w.Every <= 0 {
		w.Every = 5 * time.Second
	}
	if w.Settle <= 0 {
		w.Settle = 30 * time.Second
	}
	return w
}

// clockLost is the details of eventClockLost.
type clockLost struct {
	Reason string `json:"reason"`
}

// clockProven is the details of eventClockProven.
type clockProven struct {
	Seconds  int64 `json:"seconds"`      // since the loss
	MaxError int64 `json:"max_error_us"` // by which the clock may be off now
}

// watchClock puts on record when the proof of time is lost and when it is back, until ctx ends (EN 319 421 §7.7.2, §7.12). Whether anything is stamped
// does not rest on it: each time stamp asks the clock for itself.
func (v *Server) watchClock(ctx context.Context) {
	w := v.cfg.Clock.withDefaults()
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	var lost, back time.Time // of the loss that is on record, and of the first proof since; zero: none
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		reading, err := v.s.clock.Now()
		now := time.Now()
		switch {
		case err != nil:
			back = time.Time{}
			if lost.IsZero() && v.clockLine(ctx, eventClockLost, clockLost{Reason: clean(fault.PublicOf(err), maxDamage)}) {
				lost = now
				v.log.WarnContext(ctx, "time is not proven any more", "error", err, "hint", fault.HintOf(err))
			}
		case lost.IsZero():
		case back.IsZero():
			back = now
		case now.Sub(back) >= w.Settle && v.clockLine(ctx, eventClockProven, clockProven{int64(now.Sub(lost) / time.Second), reading.MaxError.Microseconds()}):
			lost, back = time.Time{}, time.Time{}
			v.log.InfoContext(ctx, "time is proven again")
		}
	}
}

// clockLine reports whether the line was written; the next look tries again.
func (v *Server) clockLine(ctx context.Context, event string, details any) bool {
	_, err := v.s.ledger.Append(ctx, ledger.Event{Type: event, Actor: "system", Details: details})
	if err != nil && ctx.Err() == nil {
		v.log.ErrorContext(ctx, "the state of the clock is not on record", "error", err)
	}
	return err == nil
}
