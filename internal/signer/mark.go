package signer

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// marks keeps the clock's high-water mark: no time stamp leaves before a durable line bears its time, or a later one, as proven. A restart begins there, so that
// no time that was given out comes again, whatever became of the clock meanwhile. What time a line itself bears does not count: the clock may not have been
// proven when it was written.
//
// A signature's own line is its mark. For what has no line of its own before it leaves, there is clock_high_water: one for a second, or one for leaseTime
// where anybody may ask, lest they fill the log. A lease that a crash left keeps the next start from stamping until it has passed.
type marks struct {
	mu      sync.Mutex
	covered time.Time // by a durable line, the lease counted
	given   time.Time // the newest time that left under a lease, or before
	leased  bool      // the last clock_high_water has an end that has not been taken back
}

// leaseTime is how far ahead of a time stamp that was asked for by anybody its mark is set.
const leaseTime = 10 * time.Second

// highWater is the details of eventClock.
type highWater struct {
	Time  time.Time `json:"time"`           // proven; no time stamp after this line bears an earlier time
	Until time.Time `json:"until,omitzero"` // nor, after a restart, one before this
}

// cover makes sure that a durable line covers t, at which a time stamp was made that is to leave now.
func (s *Signer) cover(ctx context.Context, t time.Time, lease time.Duration) error {
	if s.cfg.Clock.Mode != clock.System {
		return nil
	}
	m := &s.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.After(m.covered) {
		m.given = later(m.given, t)
		return nil
	}
	d := highWater{Time: t.UTC()}
	if lease > 0 {
		d.Until = d.Time.Add(lease)
	}
	if _, err := s.ledger.Append(context.WithoutCancel(ctx), ledger.Event{Type: eventClock, Actor: "system", Details: d}); err != nil {
		return err
	}
	m.given, m.covered, m.leased = later(m.given, t), later(d.Time, d.Until), lease > 0
	return nil
}

// covers takes note of a durable line that bears t as a proven time.
func (s *Signer) covers(t time.Time) {
	m := &s.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	m.given, m.covered = later(m.given, t), later(m.covered, t)
}

// release is cover for the time stamps that anybody may ask for.
func (s *Signer) release(ctx context.Context, info tsp.TSTInfo) error {
	return s.cover(ctx, info.GenTime, leaseTime)
}

// endLease takes back what is left of a lease, so that the next start need not wait for its end. Nothing is stamped any more.
func (s *Signer) endLease(ctx context.Context) error {
	m := &s.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.leased {
		return nil
	}
	m.leased = false
	_, err := s.ledger.Append(ctx, ledger.Event{Type: eventClock, Actor: "system", Details: highWater{Time: m.given}})
	return err
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// least is what time it is at least.
func (s *Signer) least() time.Time {
	t, _ := s.clock.Least()
	return t
}

// unproven says why the time is not proven, nil when it is.
func (s *Signer) unproven() error {
	if _, err := s.clock.Now(); err != nil {
		return clockFault(err)
	}
	return nil
}

// lineTime is what time a line of the log bears: proven, or the least that it can be.
func (s *Signer) lineTime() time.Time {
	t, proven := s.clock.Least()
	if !proven {
		s.held.Store(true)
	}
	if t.IsZero() {
		return time.Unix(0, 0) // the log takes the time of the line before
	}
	return t
}

// proven leaves a mark once the time is proven again after lines were written without proof: from it on, lines bear proven times.
func (s *Signer) proven(ctx context.Context) error {
	if !s.held.Load() {
		return nil
	}
	r, err := s.clock.Now()
	if err != nil {
		return nil // not yet, and everybody who asks for the time is told why
	}
	s.held.Store(false)
	return s.cover(ctx, r.Time.Truncate(time.Microsecond), 0)
}

const (
	markFoldName = "mark/1"
	bucketMark   = markFoldName + "/mark" // "mark", "until" -> time, RFC 3339
)

// markFold keeps the newest time that is known to have been proven.
type markFold struct{}

func (markFold) Name() string { return markFoldName }

// Apply implements ledger.Fold.
func (f markFold) Apply(tx *index.Tx, r ledger.Record) error {
	var err error
	switch r.Type {
	case eventClock:
		var d highWater
		if err = json.Unmarshal(r.Details, &d); err == nil {
			err = f.raise(tx, d.Time)
		}
		if err == nil { // in place of the lease before, whose time stamps are no later than d.Time
			err = tx.Bucket(bucketMark).Put([]byte("until"), []byte(d.Until.Format(time.RFC3339Nano)))
		}
	case eventCreated:
		var d created
		if err = json.Unmarshal(r.Details, &d); err == nil && d.ClockProven {
			err = f.raise(tx, d.GenTime)
		}
	}
	if err != nil {
		return fmt.Errorf("line %d, %s: %w", r.Seq, r.Type, err)
	}
	return nil
}

func (markFold) raise(tx *index.Tx, t time.Time) error {
	b := tx.Bucket(bucketMark)
	if was, err := markAt(b, "mark"); err != nil || !t.After(was) {
		return err
	}
	return b.Put([]byte("mark"), []byte(t.UTC().Format(time.RFC3339Nano)))
}

func markAt(b *index.Bucket, key string) (time.Time, error) {
	raw := b.Get([]byte(key))
	if raw == nil {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, string(raw))
}

// readMark tells the clock what the log knows of the time.
func (s *Signer) readMark() error {
	var mark, until time.Time
	err := s.ledger.View(func(tx *index.Tx) (err error) {
		if mark, err = markAt(tx.Bucket(bucketMark), "mark"); err == nil {
			until, err = markAt(tx.Bucket(bucketMark), "until")
		}
		return err
	})
	if err != nil {
		return err
	}
	high := later(mark, until)
	s.marks.given, s.marks.covered, s.marks.leased = mark, high, until.After(mark)
	s.clock.Begin(high, s.ledger.LastTime())
	return nil
}
