// Package ledger is the system of record: it appends to the log, folds what is appended into the index, and verifies.
//
// A line is acknowledged when it is durable and folded. A crash at any point leaves a log of which every acknowledged line is a part, perhaps
// followed by whole lines that nobody was told of (they count) and by part of one group of lines (it is set aside, see Open).
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// The files of a log, in its folder.
const (
	FileName    = "audit_chain.jsonl"
	lockName    = "audit_chain.lock"
	reserveName = "audit_chain.reserve"
)

// Actor of the lines that the ledger writes of its own accord.
const systemActor = "system"

// Event types of the lines that the ledger writes of its own accord.
const (
	TypeStopped  = "log_stopped"        // the last line before the disk failed or was full
	TypeSetAside = "log_tail_set_aside" // a crash left part of a group of lines, now in a file of its own
)

// Event is what a caller wants recorded. Type is 1 to 64 of a-z 0-9 _ beginning with a letter; Actor is 1 to 256 bytes of text. Details is encoded
// as JSON and must be an object (nil is the empty one); its keys are printable ASCII and its numbers whole and within ±(2^53-1).
type Event struct {
	Type, Actor string
	Details     any
}

// Record is one line of the log. Time has microseconds and is in UTC; no record's time is before that of the one before it.
type Record struct {
	Seq         uint64 // 0 for the first line
	Time        time.Time
	Type, Actor string
	Details     json.RawMessage // canonical; must not be changed
	Hash        chain.Hash
}

// Fold derives something from the log. Name identifies it with its version ("ca/1"): when the set of names changes, the index is emptied and every
// fold applied again from the first line. Apply is called in order, once for each record in the life of an index; it must depend on nothing but the
// records and what it wrote itself, and must not fail for an event that was let into the log: an error stops the ledger for good. Its buckets begin
// with its own name.
type Fold interface {
	Name() string
	Apply(tx *index.Tx, r Record) error
}

// Config says what to open.
type Config struct {
	Dir   string    // holds audit_chain.jsonl and what belongs to it; made when missing
	Index *index.DB // of this log alone
	Folds []Fold
	Now   func() time.Time // what a line bears, unless that is before the line before
	Log   *slog.Logger     // nil: silent
	FS    durable.FS       // nil: the machine's
}

// Ledger is an open log. Its methods may be called from several goroutines at once.
//
// Two goroutines share the work behind Append: the writer in durable.AppendFile makes groups of lines durable, and fold takes what is durable, folds
// it and answers. Lock order: mu before smu.
type Ledger struct {
	cfg  Config
	lock io.Closer
	file *durable.AppendFile

	mu     sync.Mutex // the order of lines: held while a line is built and queued
	tip    chain.State
	queue  []*pending // built, not yet folded; in order
	parser chain.Parser
	buf    []byte
	err    error // why nothing is appended any more

	smu    sync.RWMutex // what readers see: the log as far as it is folded
	seen   cursor
	grown  chan struct{} // closed and replaced when seen grows
	folded chan struct{} // closed when the fold goroutine has ended
	failed chan struct{} // closed when the ledger stopped by a failure
	aside  []SetAside
}

// SetAside tells of a torn tail that Open found, or found set aside and not reported yet.
type SetAside struct {
	File   string // the name of the file that holds it now, in the log's folder
	Offset int64  // where it began
	Bytes  int64
}

// Open opens the log in cfg.Dir, which one process at a time may do, and brings the index up to it.
//
// With an index that can be believed, what is verified is the last lines: at least the last one and at most the last 256 that the index knows, and what
// follows them; they must lead to exactly the state that the index remembers. That finds a log that was cut, exchanged or changed near its end. Changes further back
// are found by Verify, by the backup, and by whoever holds a checkpoint. Without such an index
// everything is verified, and folded again.
//
// What a crash can leave after the last line that was acknowledged, within the last durable.MaxPending bytes (a line without its end, pages that
// read as zeros), is copied into a file of its own, cut off and reported, in the log itself too (TypeSetAside). Anything else that is wrong with the log is fault.Corrupt, and nothing is changed.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	if cfg.Index == nil || cfg.Now == nil {
		panic("ledger: a Config without Index or Now")
	}
	if cfg.FS == nil {
		cfg.FS = durable.OS{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{cfg: cfg, grown: make(chan struct{}), folded: make(chan struct{}), failed: make(chan struct{})}
	if err := durable.Mkdir(cfg.FS, cfg.Dir, 0o700); err != nil {
		return nil, refused(fmt.Errorf("ledger: %w", err))
	}
	var err error
	l.lock, err = cfg.FS.Lock(l.path(lockName), false)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fault.New(fault.Unavailable, "another process has the log open").
			WithHint("only one signer may run; stop the other first").WithCause(err)
	}
	if err != nil {
		return nil, refused(fmt.Errorf("ledger: %w", err))
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(refused(err), l.lock.Close())
	}
	if err := l.reportAside(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// GiveUpReserve gives the space away that the log in dir, which nobody has open, holds back for its last line.
func GiveUpReserve(fsys durable.FS, dir string) error {
	return fsys.Remove(filepath.Join(dir, reserveName))
}

func (l *Ledger) path(name string) string { return filepath.Join(l.cfg.Dir, name) }

// start verifies the log, brings the index up to it and opens it for appending.
func (l *Ledger) start(ctx context.Context) error {
	torn, err := l.catchUp(ctx)
	if err != nil {
		return err
	}
	if torn != nil {
		if err := l.setAside(torn); err != nil {
			return err
		}
	}
	if err := l.findAside(); err != nil {
		return err
	}
	// A crash before this leaves the torn tail in both places, and the next Open makes the same copy again; one after it leaves the copy alone, and the
	// next Open finds it.
	l.file, err = durable.OpenAppend(l.cfg.FS, l.path(FileName), l.path(reserveName), l.seen.cur.offset)
	if err != nil {
		return stopped(err)
	}
	l.tip = l.seen.cur.State
	go l.fold()
	return nil
}

// Aside returns what Open had to set aside and report, nothing when the log was whole.
func (l *Ledger) Aside() []SetAside { return l.aside }

// View reads the index, as it is after some line no earlier than the last that was acknowledged.
func (l *Ledger) View(fn func(*index.Tx) error) error {
	err := l.cfg.Index.View(fn)
	if errors.Is(err, index.ErrDamaged) {
		return fault.New(fault.Unavailable, "the index is damaged").WithHint("restart: it is rebuilt from the log").WithCause(err)
	}
	return err
}

// Head returns the number of acknowledged lines and the hash of the last, zeros when there is none.
func (l *Ledger) Head() (size uint64, hash chain.Hash) {
	l.smu.RLock()
	defer l.smu.RUnlock()
	return l.seen.cur.Size, l.seen.cur.Head
}

// Tree returns the Merkle tree over the acknowledged lines: what a checkpoint signs.
func (l *Ledger) Tree() chain.Tree {
	l.smu.RLock()
	defer l.smu.RUnlock()
	return l.seen.cur.tree.Tree()
}

// LastTime returns the time of the last acknowledged line, the zero time when there is none.
func (l *Ledger) LastTime() time.Time {
	l.smu.RLock()
	defer l.smu.RUnlock()
	if l.seen.cur.Size == 0 {
		return time.Time{}
	}
	return time.UnixMicro(l.seen.cur.Micros).UTC()
}

// Wait waits until the log has more than size acknowledged lines and returns how many it has.
func (l *Ledger) Wait(ctx context.Context, size uint64) (uint64, error) {
	for {
		l.smu.RLock()
		now, grown := l.seen.cur.Size, l.grown
		l.smu.RUnlock()
		if now > size {
			return now, nil
		}
		select {
		case <-grown:
		case <-l.folded:
			if now, _ := l.Head(); now > size {
				return now, nil
			}
			return now, l.Err()
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

// Failed returns a channel that is closed when the ledger has stopped because of a failure; Err then says which.
func (l *Ledger) Failed() <-chan struct{} { return l.failed }

// Err returns why the ledger takes no more entries, nil while it does.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

var errClosed = fault.New(fault.Unavailable, "the log is closed")

// Close makes durable and folds what is queued and lets go of the log; the index stays open.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.err == nil {
		l.err = errClosed
	}
	l.mu.Unlock()
	err := l.file.Close()
	<-l.folded
	if lockErr := l.lock.Close(); lockErr != nil && !errors.Is(lockErr, fs.ErrClosed) {
		err = errors.Join(err, lockErr)
	}
	return err
}
