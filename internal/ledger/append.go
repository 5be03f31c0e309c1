package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// pending is a line between being built and being acknowledged.
type pending struct {
	rec  Record
	leaf chain.Hash
	size int   // bytes of the line with its newline
	end  int64 // where it ends in the file
	done chan error
}

// maxGroup bounds how many lines are folded in one transaction of the index.
const maxGroup = 4096

// Append records an event. When it returns nil the line is durable and folded. fault.Invalid: the event cannot be a line. fault.Unavailable: the
// ledger has stopped; whether this event was recorded shows after the next Open. ctx counts only until the line is built: from then on it may be in
// the log, so the answer is waited for.
func (l *Ledger) Append(ctx context.Context, e Event) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	details, err := encodeDetails(e.Details)
	if err != nil {
		return Record{}, err
	}
	p, err := l.enqueue(chain.Entry{EventType: e.Type, Actor: e.Actor, Details: details})
	if err != nil {
		return Record{}, err
	}
	if err := <-p.done; err != nil {
		return Record{}, err
	}
	return p.rec, nil
}

func encodeDetails(v any) (json.RawMessage, error) {
	if v == nil {
		return json.RawMessage("{}"), nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the details of the event cannot be written as JSON").WithCause(err)
	}
	details, err := chain.Canonical(make([]byte, 0, len(raw)), raw)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the details of the event cannot be recorded").WithCause(err)
	}
	return details, nil
}

// enqueue builds the next line and queues it to be written.
func (l *Ledger) enqueue(e chain.Entry) (*pending, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	p, err := l.build(e, &l.tip)
	if errors.Is(err, chain.ErrTooLong) {
		return nil, fault.New(fault.TooLarge, "the event is too long for a line of the log").WithCause(err)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "the event cannot be recorded").WithCause(err)
	}
	p.end, err = l.file.Enqueue(l.buf)
	if err != nil {
		// The tip is a line too far now, and that does not matter: nothing is enqueued any more.
		return nil, stopped(err)
	}
	l.queue = append(l.queue, p)
	return p, nil
}

// build writes the line after tip into l.buf and moves tip. l.mu is held.
func (l *Ledger) build(e chain.Entry, tip *chain.State) (*pending, error) {
	e.Time = l.cfg.Now().UTC().Truncate(time.Microsecond)
	// Time never goes backwards within the log, whatever the clock does.
	if last := time.UnixMicro(tip.Micros).UTC(); tip.Size > 0 && e.Time.Before(last) {
		e.Time = last
	}
	line, h, err := chain.AppendLine(l.buf[:0], tip.Head, e)
	if err != nil {
		return nil, err
	}
	p := &pending{
		rec:  Record{Seq: tip.Size, Time: e.Time, Type: e.EventType, Actor: e.Actor, Details: e.Details, Hash: h},
		leaf: l.parser.LeafHash(line), size: len(line) + 1, done: make(chan error, 1),
	}
	l.buf = append(line, '\n')
	tip.Size, tip.Head, tip.Micros = tip.Size+1, h, e.Time.UnixMicro()
	return p, nil
}

// fold is the goroutine that folds what is durable and answers those who wait, until the file is closed or something fails.
func (l *Ledger) fold() {
	defer close(l.folded)
	for {
		durableTo, err := l.file.Beyond(l.seen.cur.offset) // seen is written by this goroutine only
		if err != nil {
			l.end(err)
			return
		}
		group := l.take(durableTo)
		if err := l.foldGroup(group); err != nil {
			l.fail(group, err)
			return
		}
		for _, p := range group {
			p.done <- nil
		}
	}
}

// take removes the queued lines that end at or before durableTo, at most maxGroup of them.
func (l *Ledger) take(durableTo int64) []*pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.queue) && n < maxGroup && l.queue[n].end <= durableTo {
		n++
	}
	group := l.queue[:n:n]
	l.queue = l.queue[n:]
	return group
}

// foldGroup folds durable lines into the index and lets readers see them.
func (l *Ledger) foldGroup(group []*pending) error {
	next := l.seen.clone()
	err := l.cfg.Index.Update(func(tx *index.Tx) error {
		for _, p := range group {
			link := chain.Link{Prev: next.cur.Head, Hash: p.rec.Hash, Micros: p.rec.Time.UnixMicro()}
			if err := next.add(link, p.leaf, p.size); err != nil {
				panic("ledger: built a line that does not follow: " + err.Error())
			}
			if err := l.applyFolds(tx, p.rec); err != nil {
				return err
			}
		}
		return next.save(tx)
	})
	// A crash here loses nothing: the lines are durable, and folded at the next Open when the index does not have them.
	if err != nil {
		return err
	}
	l.publish(next)
	return nil
}

func (l *Ledger) publish(next cursor) {
	l.smu.Lock()
	defer l.smu.Unlock()
	l.seen = next
	close(l.grown)
	l.grown = make(chan struct{})
}

// fail stops the ledger after a fold failed: the lines are in the log, but what they mean is not known to the index.
func (l *Ledger) fail(group []*pending, cause error) {
	err := error(fault.New(fault.Unavailable, "the log takes no more entries: the index could not be updated").
		WithHint("restart: the index is rebuilt from the log").WithCause(cause))
	if public, _ := durable.Explain(cause); public != "" { // the index's disk is the log's
		err = stopped(cause)
	}
	l.stop(err, cause, group)
}

// end ends the ledger when its file takes no more: closed, or failed. After a failure it tries to leave a last line that says so.
func (l *Ledger) end(cause error) {
	if !errors.Is(cause, durable.ErrFailed) {
		return // closed, and everything that was queued is folded
	}
	l.stop(stopped(cause), cause, nil)
}

// stop lets nothing more in, tries to leave a last line that says why, and answers those who wait: group, which is durable and not folded, and the
// queue.
func (l *Ledger) stop(err, cause error, group []*pending) {
	l.mu.Lock()
	l.err = err
	waiting := append(group, l.queue...)
	l.queue = nil
	l.mu.Unlock()
	defer close(l.failed)
	l.cfg.Log.Error("the ledger stopped", "error", cause.Error())
	// Before anyone is told: an answer must not overtake the attempt to record why.
	if err := l.writeLast(cause, waiting); err != nil {
		l.cfg.Log.Error("the stop could not be recorded in the log", "error", err.Error())
	}
	for _, p := range waiting {
		p.done <- err
	}
}

// writeLast tries to append TypeStopped: after all that is queued while the file still takes data, else from the reserve, after the last line that is
// durable.
func (l *Ledger) writeLast(cause error, waiting []*pending) error {
	details, err := encodeDetails(map[string]any{"reason": strings.ToValidUTF8(cause.Error(), "?")})
	if err != nil {
		return err
	}
	last := chain.Entry{EventType: TypeStopped, Actor: systemActor, Details: details}
	l.mu.Lock()
	defer l.mu.Unlock() // for l.buf alone: nobody appends any more
	p, err := l.build(last, &l.tip)
	if err != nil {
		return err
	}
	if l.file.Append(l.buf) != nil {
		tip := l.seen.cur.State
		for _, w := range waiting {
			if w.end <= l.file.Durable() {
				tip = chain.State{Size: tip.Size + 1, Head: w.rec.Hash, Micros: w.rec.Time.UnixMicro()}
			}
		}
		if p, err = l.build(last, &tip); err != nil {
			return err
		}
		if err := l.file.Last(l.buf); err != nil {
			return err
		}
	}
	if p.rec.Seq == l.seen.cur.Size { // else the next Open folds it, after those before it
		err = l.foldGroup([]*pending{p})
	}
	if err != nil {
		l.cfg.Log.Warn("the last line is in the log, and not in the index", "error", err.Error())
	}
	return nil
}
