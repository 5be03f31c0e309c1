package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// tornTail is what follows the last good line of a log after a crash.
type tornTail struct {
	offset int64
	data   []byte
	cause  error
}

// catchUp verifies the log, as far as Open says, and folds what the index does not have. It leaves l.seen at the last good line and returns what
// follows that.
func (l *Ledger) catchUp(ctx context.Context) (*tornTail, error) {
	f, err := l.cfg.FS.Open(l.path(FileName), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: opening the log: %w", err)
	}
	var size int64
	var r io.ReaderAt
	if f != nil {
		defer f.Close()
		if size, err = f.Size(); err != nil {
			return nil, fmt.Errorf("ledger: size of the log: %w", err)
		}
		r = f
	}
	folds := foldNames(l.cfg.Folds)
	cur, base, why, err := load(l.cfg.Index, folds)
	if err != nil {
		return nil, fmt.Errorf("ledger: reading the index: %w", err)
	}
	if why == "" {
		torn, err := l.replay(ctx, r, size, cur, base)
		if !errors.Is(err, index.ErrDamaged) {
			return torn, err
		}
		why = err.Error()
	}
	if size > 0 {
		if e := l.cfg.Index.Emptied(); e != "" {
			why = e
		}
		l.cfg.Log.InfoContext(ctx, "rebuilding the index from the log", "reason", why, "bytes", size)
	}
	if err := l.cfg.Index.Reset(); err != nil {
		return nil, err
	}
	if err := begin(l.cfg.Index, folds); err != nil {
		return nil, err
	}
	return l.replay(ctx, r, size, position{}, position{})
}

// replayer folds the lines after target, and checks that the lines up to it lead there.
type replayer struct {
	l      *Ledger
	target position // where the index is
	at     cursor
	recs   []Record // after target, not yet folded
}

// replay reads the log from base on: up to cur it must lead to cur, after cur it is folded.
func (l *Ledger) replay(ctx context.Context, r io.ReaderAt, size int64, cur, base position) (*tornTail, error) {
	p := &replayer{l: l, target: cur, at: cursor{cur: base.clone(), base: base}}
	if size < cur.offset {
		return nil, l.mismatch(fmt.Errorf("the log has %d bytes, the index covers %d", size, cur.offset))
	}
	if r != nil {
		err := scan(ctx, io.NewSectionReader(r, base.offset, size-base.offset), true, p.batch)
		var bad *lineError
		if err != nil && !errors.As(err, &bad) {
			return nil, err
		}
		if bad != nil && bad.own { // counted from base
			bad.offset += base.offset
			bad.Seq += base.Size
		}
		if bad != nil && (!bad.own || size-bad.offset > durable.MaxPending || bad.offset < cur.offset) {
			return nil, broken(bad)
		}
		if err := p.flush(); err != nil {
			return nil, err
		}
		if bad != nil {
			return l.tail(r, size, bad, p)
		}
	}
	return nil, p.end()
}

// end checks that the index's position was reached and makes the result the ledger's state.
func (p *replayer) end() error {
	if p.at.cur.Size < p.target.Size {
		return p.l.mismatch(fmt.Errorf("the log has %d lines, the index covers %d", p.at.cur.Size, p.target.Size))
	}
	p.l.seen = p.at
	return nil
}

func (l *Ledger) tail(r io.ReaderAt, size int64, bad *lineError, p *replayer) (*tornTail, error) {
	if err := p.end(); err != nil {
		return nil, err
	}
	t := &tornTail{offset: bad.offset, data: make([]byte, size-bad.offset), cause: bad}
	if _, err := io.ReadFull(io.NewSectionReader(r, bad.offset, size-bad.offset), t.data); err != nil {
		return nil, fmt.Errorf("ledger: reading the torn tail: %w", err)
	}
	if !torn(t.data) {
		return nil, broken(bad)
	}
	return t, nil
}

// torn reports whether a tail bears the marks of a crash: it ends within a line, or pages that were never written read as zeros in it. Lines
// of text that merely are wrong were changed by someone, and are not to be cut off.
func torn(tail []byte) bool {
	return tail[len(tail)-1] != '\n' || bytes.IndexByte(tail, 0) >= 0
}

func (p *replayer) batch(b *batch) error {
	for _, s := range b.lines {
		was := p.at.cur.offset
		if err := p.at.add(s.link, s.leaf, s.size); err != nil {
			var at *chain.BreakError
			if !errors.As(err, &at) {
				panic("ledger: a chain error without a place: " + err.Error())
			}
			return &lineError{*at, was, false}
		}
		if p.at.cur.Size == p.target.Size && (p.at.cur.State != p.target.State || p.at.cur.offset != p.target.offset || p.at.cur.tree.Tree() != p.target.tree.Tree()) {
			return p.l.mismatch(fmt.Errorf("line %d is not the one that the index remembers", p.at.cur.Size))
		}
		if p.at.cur.Size > p.target.Size {
			p.recs = append(p.recs, Record{
				Seq: p.at.cur.Size - 1, Time: s.line.Time, Type: s.line.EventType, Actor: s.line.Actor, Details: s.line.Details, Hash: s.link.Hash,
			})
		}
	}
	if len(p.recs) >= maxGroup {
		return p.flush()
	}
	return nil
}

// flush folds what was collected, in one transaction.
func (p *replayer) flush() error {
	if len(p.recs) == 0 {
		return nil
	}
	err := p.l.cfg.Index.Update(func(tx *index.Tx) error {
		for _, r := range p.recs {
			if err := p.l.applyFolds(tx, r); err != nil {
				return err
			}
		}
		return p.at.save(tx)
	})
	p.recs = p.recs[:0]
	return err
}

func (l *Ledger) applyFolds(tx *index.Tx, r Record) error {
	for _, f := range l.cfg.Folds {
		if err := f.Apply(tx, r); err != nil {
			return fmt.Errorf("ledger: folding line %d (%s) into %s: %w", r.Seq+1, r.Type, f.Name(), err)
		}
	}
	return nil
}

func (l *Ledger) mismatch(cause error) error {
	return fault.New(fault.Corrupt, "the log is not the one that the index remembers").
		WithHint("lines that were acknowledged are missing or changed: restore the log from the backup; only if it was replaced on purpose, remove the index").
		WithCause(cause)
}

// setAside copies a torn tail into a file of its own, durably, before it is cut off. The name depends on the tail alone: done twice it is one file.
func (l *Ledger) setAside(t *tornTail) error {
	sum := sha256.Sum256(t.data)
	name := asidePrefix(t.offset) + hex.EncodeToString(sum[:8])
	l.cfg.Log.Warn("the log's end was torn by a crash and is set aside", "file", name, "offset", t.offset, "bytes", len(t.data), "cause", t.cause.Error())
	if err := durable.WriteFile(l.cfg.FS, l.path(name), t.data, 0o600); err != nil {
		return fmt.Errorf("ledger: setting a torn tail aside: %w", err)
	}
	return nil
}

func asidePrefix(offset int64) string { return fmt.Sprintf("%s.torn-%d-", FileName, offset) }

// findAside finds what was set aside at the present end of the log: by this Open, or by one that a crash ended before it could report it. What was
// reported lies further back, for the report itself follows it.
func (l *Ledger) findAside() error {
	names, err := l.cfg.FS.List(l.cfg.Dir)
	if err != nil {
		return fmt.Errorf("ledger: looking for what was set aside: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, asidePrefix(l.seen.cur.offset)) {
			continue
		}
		if strings.HasSuffix(name, ".tmp") { // part of a copy of what is in the log still, or again
			if err := l.cfg.FS.Remove(l.path(name)); err != nil {
				return fmt.Errorf("ledger: removing part of a copy: %w", err)
			}
			continue
		}
		size, err := l.sizeOf(name)
		if err != nil {
			return fmt.Errorf("ledger: looking at what was set aside: %w", err)
		}
		l.aside = append(l.aside, SetAside{File: name, Offset: l.seen.cur.offset, Bytes: size})
	}
	return nil
}

func (l *Ledger) sizeOf(name string) (int64, error) {
	f, err := l.cfg.FS.Open(l.path(name), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}

// reportAside records in the log what was set aside.
func (l *Ledger) reportAside(ctx context.Context) error {
	for _, a := range l.aside {
		_, err := l.Append(ctx, Event{Type: TypeSetAside, Actor: systemActor, Details: map[string]any{"file": a.File, "offset": a.Offset, "bytes": a.Bytes}})
		if err != nil {
			return err
		}
	}
	return nil
}
