package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// staleError says that a request is about another size than the receiver has (409).
type staleError struct{ size uint64 }

func (e *staleError) Error() string { return fmt.Sprintf("replica: the receiver has %d lines", e.size) }

// missingError says which objects must come first (424).
type missingError struct{ ids []string }

func (e *missingError) Error() string {
	return fmt.Sprintf("replica: %d objects are missing", len(e.ids))
}

// errSuperseded says that a newer connection of the same primary has taken over (421): what arrives late on an older one must not count.
var errSuperseded = errors.New("replica: a newer connection has taken over")

// maxMissing is how many missing objects one answer names.
const maxMissing = 1000

// begin is what every request about the log's growth begins with. m.mu is held.
func (m *mirror) begin(conn uint64) error {
	if conn < m.conn {
		return errSuperseded
	}
	m.conn = conn
	if m.open {
		return nil
	}
	return m.reopen()
}

// append takes lines, or none, and returns the cosignature of the checkpoint that comes with them: a signature line.
//
// The order of what becomes durable is the argument for all that the package promises: objects (they were put before), lines, state with cosignature;
// only then is anything answered. A crash before the state leaves lines that reopen sets aside: nobody was told of them.
func (m *mirror) append(ctx context.Context, conn uint64, client Pin, a Append) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(conn); err != nil {
		return nil, err
	}
	cp, plain, err := m.openCheckpoint(a.Checkpoint)
	if err != nil {
		return nil, m.refusal(RefusedSignature, client, a, err.Error())
	}
	if a.Old > cp.Size {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("a checkpoint of %d lines after %d", cp.Size, a.Old))
	}
	if cp.Size <= m.held.Size {
		if err := m.consistent(client, a, cp); err != nil {
			return nil, err
		}
	}
	if a.Old != m.held.Size {
		return nil, &staleError{m.held.Size}
	}
	w := &walk{State: m.held.State, offset: m.held.offset, tree: m.held.tree.Clone(), cur: m.cur.Clone(), names: true}
	if err := w.lines(a.Lines); err != nil {
		return nil, m.refuseLines(client, a, err)
	}
	if tree := w.tree.Tree(); tree != cp.Tree {
		return nil, m.refusal(RefusedRoot, client, a, fmt.Sprintf("the tree with these lines is %d %s, the checkpoint says %d %s",
			tree.Size, shortHex(tree.Root[:]), cp.Size, shortHex(cp.Root[:])))
	}
	if err := m.haveObjects(ctx, w.ids); err != nil {
		return nil, err
	}
	if err := m.quota.take(int64(len(a.Lines))); err != nil && len(a.Lines) > 0 {
		return nil, err
	}
	a.Checkpoint = plain
	line, err := m.commit(w, cp, a)
	if err != nil {
		m.quota.give(int64(len(a.Lines)))
	}
	return line, err
}

// consistent checks a checkpoint of no more lines than are held against them.
func (m *mirror) consistent(client Pin, a Append, cp chain.Checkpoint) error {
	mine, err := m.treeAt(cp.Size)
	if err != nil {
		return m.fail(err)
	}
	if mine.Root != cp.Root {
		return m.refusal(RefusedFork, client, a, fmt.Sprintf("the first %d lines were cosigned as %s, and are offered as %s",
			cp.Size, shortHex(mine.Root[:]), shortHex(cp.Root[:])))
	}
	return nil
}

// refuseLines tells a fork, whose first line follows another one than the last that is held, from lines that are none.
func (m *mirror) refuseLines(client Pin, a Append, err error) error {
	kind := RefusedLines
	var at *chain.BreakError
	if errors.As(err, &at) && at.Seq == m.held.Size && errors.Is(err, chain.ErrPrev) {
		kind = RefusedFork
	}
	return m.refusal(kind, client, a, err.Error())
}

// haveObjects checks that each object is there, durably.
func (m *mirror) haveObjects(ctx context.Context, ids []string) error {
	missing, err := m.objects.Missing(ctx, ids)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return &missingError{missing[:min(len(missing), maxMissing)]}
	}
	return nil
}

// commit makes the lines durable, then the state with the cosignature, and returns the cosignature.
func (m *mirror) commit(w *walk, cp chain.Checkpoint, a Append) ([]byte, error) {
	if len(a.Lines) > 0 {
		if _, err := m.file.Write(a.Lines); err != nil {
			return nil, m.fail(fmt.Errorf("replica: appending to %s: %w", m.path(LogFile), err))
		}
		if err := m.file.Sync(); err != nil {
			return nil, m.fail(fmt.Errorf("replica: syncing %s: %w", m.path(LogFile), err))
		}
	}
	now := m.cfg.now()
	line, err := m.cosigner.Cosign(cp, now)
	if err != nil {
		return nil, m.fail(err)
	}
	// A line that bears the time of the line before was written without proof of the time: it does not tell how late it comes.
	tells := len(a.Lines) > 0 && w.Micros > m.held.Micros
	next := held{State: w.State, offset: w.offset, tree: w.tree, table: hashBlocks(m.held.table, w.full), note: append(bytes.Clone(a.Checkpoint), line...)}
	if next.Size == 0 {
		next.note = nil // nothing of an empty log needs to be remembered
	}
	m.saveBlocks(w.full)
	if err := m.state.save(next); err != nil {
		return nil, m.fail(err)
	}
	m.held, m.cur = next, w.cur
	m.blocks = append(m.blocks, w.full...)
	m.heard(now)
	m.late = 0
	if tells {
		m.late = now.Sub(time.UnixMicro(next.Micros))
	}
	m.counted = true
	return line, nil
}

// saveBlocks writes the table of the blocks on. It is derived, and checked against the state at the next opening: a failure costs time then.
func (m *mirror) saveBlocks(full []block) {
	if len(full) == 0 || m.index == nil {
		return
	}
	var out []byte
	for _, b := range full {
		out = b.append(out)
	}
	if _, err := m.index.WriteAt(out, int64(len(m.blocks))*blockSize); err != nil {
		m.cfg.log.Warn("the table of the log's blocks could not be written", "origin", m.cfg.origin, "error", err.Error())
		_ = m.index.Close()
		m.index = nil
	}
}

// heard notes that the primary is there.
func (m *mirror) heard(now time.Time) {
	m.seen = now
	if m.silent {
		m.silent = false
		m.cfg.alarm(Alarm{Kind: AlarmReturn, Time: now, Origin: m.cfg.origin, Text: "the primary is heard again"})
	}
}

// refusal keeps the evidence, raises the alarm, once for the same thing, and returns what to answer. m.mu is held.
func (m *mirror) refusal(kind RefusalKind, client Pin, a Append, detail string) error {
	r := &Refusal{Kind: kind, Time: m.cfg.now().UTC(), Origin: m.cfg.origin, Client: client.String(), Detail: detail,
		Offered: strings.ToValidUTF8(string(a.Checkpoint), "?"), Held: string(m.held.note)}
	if kind == RefusedFork || kind == RefusedLines {
		first, _, _ := bytes.Cut(a.Lines, []byte("\n"))
		r.Line = strings.ToValidUTF8(string(first), "?")
	}
	fresh, err := m.refuse.keep(*r)
	if fresh {
		m.cfg.log.Error("refused", "origin", r.Origin, "kind", string(kind), "detail", detail, "client", r.Client)
		m.cfg.alarm(Alarm{Kind: AlarmRefusal, Time: r.Time, Origin: r.Origin, Text: "refused (" + string(kind) + "): " + detail, Refusal: r})
	}
	if err != nil {
		return m.fail(err)
	}
	return r
}

// Comparison is what a receiver answers to a primary that says what its log is now.
type Comparison struct {
	Verdict    Relation `json:"verdict"`
	Checkpoint string   `json:"checkpoint"` // the cosigned checkpoint that is held; empty when there is none
}

// Relation is how a primary's log stands to the backup's copy.
type Relation string

const (
	Equal    Relation = "equal"    // both have the same lines
	Behind   Relation = "behind"   // the backup has the beginning of the primary's log, and can be sent the rest
	Rollback Relation = "rollback" // the primary has only a beginning of what the backup cosigned
	Fork     Relation = "fork"     // the primary's log has another past than what the backup cosigned
	// Lost: the backup has less than it once cosigned: its disk was exchanged or put back. Only the primary can tell.
	Lost Relation = "lost"
)

// compare judges what a primary says its log is now. A rollback and a fork are refusals: their evidence is kept. Whether a larger log begins with
// what is held shows when its lines come.
func (m *mirror) compare(conn uint64, client Pin, signed []byte) (Comparison, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(conn); err != nil {
		return Comparison{}, err
	}
	a := Append{Checkpoint: signed}
	cp, _, err := m.openCheckpoint(signed)
	if err != nil {
		return Comparison{}, m.refusal(RefusedSignature, client, a, err.Error())
	}
	out := Comparison{Verdict: Behind, Checkpoint: string(m.held.note)}
	// This is no sign of life: one that connects and has nothing cosigned is as good as silent.
	if cp.Size > m.held.Size {
		return out, nil
	}
	var refused *Refusal
	err = m.consistent(client, a, cp)
	switch {
	case errors.As(err, &refused):
		out.Verdict = Fork
		return out, nil
	case err != nil:
		return Comparison{}, err
	case cp.Size == m.held.Size:
		out.Verdict = Equal
		return out, nil
	}
	out.Verdict = Rollback
	err = m.refusal(RefusedRollback, client, a, fmt.Sprintf("the primary has %d lines, and %d were cosigned", cp.Size, m.held.Size))
	if !errors.As(err, &refused) {
		return Comparison{}, err
	}
	return out, nil
}
