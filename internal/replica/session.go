package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// session connects, compares, and ships until something fails. What no repetition cures is a *finalError.
func (s *Shipper) session(ctx context.Context) error {
	begin, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	client, err := NewClient(begin, s.cfg.ClientConfig)
	if err != nil {
		return err
	}
	verdict, err := s.greet(begin, client)
	defer func() {
		s.wire <- struct{}{}
		defer s.leaveWire()
		s.client = nil
		_ = client.Close() // nothing is in flight
	}()
	if err != nil {
		return err
	}
	if !verdict.Good() {
		return &finalError{verdict.Err()}
	}
	pos, err := s.position(ctx, verdict.Backup.Size)
	if err != nil {
		return err
	}
	s.cfg.Logger.InfoContext(ctx, "connected to the backup", "verdict", string(verdict.Relation), "size", pos.Size)
	for {
		if err := s.growth(ctx, pos.Size); err != nil {
			return err
		}
		if err := s.advance(ctx, client, pos); err != nil {
			return err
		}
	}
}

// enterWire begins an exchange, leaveWire ends it.
func (s *Shipper) enterWire(ctx context.Context) error {
	select {
	case s.wire <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "the backup has not answered in time").WithCause(ctx.Err())
	}
}

func (s *Shipper) leaveWire() { <-s.wire }

// greet compares over a new connection, which is the session's from now on.
func (s *Shipper) greet(ctx context.Context, client *Client) (Verdict, error) {
	if err := s.enterWire(ctx); err != nil {
		return Verdict{}, err
	}
	defer s.leaveWire()
	s.client = client
	return s.exchangeCompare(ctx, client)
}

// advance sends what there is to send, once.
func (s *Shipper) advance(ctx context.Context, client *Client, pos *walk) error {
	if err := s.enterWire(ctx); err != nil {
		return err
	}
	defer s.leaveWire()
	if err := s.stoppedBy(); err != nil { // Compare found something meanwhile
		return err
	}
	return s.exchangeAppend(ctx, client, pos)
}

// growth waits until there are more lines than size, or a heartbeat is due.
func (s *Shipper) growth(ctx context.Context, size uint64) error {
	wait, cancel := context.WithTimeout(ctx, s.cfg.Heartbeat)
	defer cancel()
	_, err := s.cfg.Log.Wait(wait, size)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// position returns the place after the first size lines.
func (s *Shipper) position(ctx context.Context, size uint64) (*walk, error) {
	tree, err := s.cfg.Log.FrontierAt(ctx, size)
	if err != nil {
		return nil, err
	}
	w := &walk{tree: tree, names: true}
	if size == 0 {
		return w, nil
	}
	var line bytes.Buffer
	if err := s.cfg.Log.Export(ctx, &line, size-1, size); err != nil {
		return nil, err
	}
	link, err := w.parser.Link(bytes.TrimSuffix(line.Bytes(), []byte("\n")))
	if err != nil {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("line %d of the log is damaged", size)).WithHint(`run "appliance audit verify"`).WithCause(err)
	}
	w.State = chain.State{Size: size, Head: link.Hash, Micros: link.Micros}
	return w, nil
}

// group collects whole lines up to MaxLines.
type group struct{ b []byte }

var errFull = errors.New("replica: the group is full")

// Write implements io.Writer.
func (g *group) Write(p []byte) (int, error) {
	if n := MaxLines - len(g.b); len(p) > n {
		g.b = append(g.b, p[:n]...)
		g.b = g.b[:bytes.LastIndexByte(g.b, '\n')+1]
		return n, errFull
	}
	g.b = append(g.b, p...)
	return len(p), nil
}

// maxGroup is how many lines are asked for at once: about MaxLines bytes of short ones.
const maxGroup = 8192

// exchangeAppend sends the lines after pos, or a heartbeat when there are none, and moves pos. The wire is held.
func (s *Shipper) exchangeAppend(ctx context.Context, client *Client, pos *walk) error {
	head, hash := s.cfg.Log.Head()
	var g group
	to := min(head, pos.Size+maxGroup)
	if err := s.cfg.Log.Export(ctx, &g, pos.Size, to); err != nil && !errors.Is(err, errFull) {
		return err
	}
	a := Append{Old: pos.Size, Lines: g.b}
	pos.ids, pos.full = pos.ids[:0], nil
	// What is signed below is what these lines are: a line that rotted on the disk must not get into a checkpoint.
	if err := pos.lines(g.b); err != nil {
		return fault.New(fault.Corrupt, "the log is damaged").WithHint(`run "appliance audit verify", and compare with the backup's copy`).WithCause(err)
	}
	if pos.Size == head && pos.Head != hash {
		return fault.New(fault.Corrupt, "the log's file is not what was written").WithHint(`run "appliance audit verify"`)
	}
	if err := s.sendObjects(ctx, client, pos.ids); err != nil {
		return err
	}
	cp := chain.Checkpoint{Origin: s.cfg.Origin, Tree: pos.tree.Tree()}
	var err error
	if a.Checkpoint, err = cp.Sign(s.cfg.Key); err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	signed, at, err := s.send(ctx, client, a)
	var refused *Refusal
	if errors.As(err, &refused) && refused.Kind != RefusedSignature { // a key may be about to be made known there
		return &finalError{fault.New(fault.Corrupt, "the backup refused the log ("+string(refused.Kind)+"): "+refused.Detail).WithCode(CodeRefused).
			WithHint("it kept the evidence: see the receiver's refusals; nothing is sent until the signer is started again").WithCause(err)}
	}
	if err != nil {
		return err
	}
	s.confirm(Cosigned{cp.Tree, signed, at})
	return nil
}

// send sends an append, and the objects that the receiver says it lacks.
func (s *Shipper) send(ctx context.Context, client *Client, a Append) ([]byte, time.Time, error) {
	for range 1 + MaxLines/maxMissing/idLength { // as often as a group can name maxMissing objects
		short, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		signed, at, err := client.append(short, a, s.cfg.Keys)
		cancel()
		var missing *missingError
		if !errors.As(err, &missing) {
			return signed, at, err
		}
		if err := s.putAll(ctx, client, missing.ids); err != nil {
			return nil, time.Time{}, err
		}
	}
	return nil, time.Time{}, fault.New(fault.Unavailable, "the backup does not keep the objects that it is sent").WithHint("see the receiver's log")
}

// fewObjects is how many are sent without asking first whether they are there: those of one act, which are new.
const fewObjects = 8

// sendObjects sees to it that the receiver has the objects that lines name, before the lines.
func (s *Shipper) sendObjects(ctx context.Context, client *Client, ids []string) error {
	if len(ids) <= fewObjects {
		return s.putAll(ctx, client, ids)
	}
	for len(ids) > 0 {
		n := min(len(ids), maxAsked)
		short, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		missing, err := client.missing(short, ids[:n])
		cancel()
		if err != nil {
			return err
		}
		if err := s.putAll(ctx, client, missing); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// putAll sends objects, several at a time.
func (s *Shipper) putAll(ctx context.Context, client *Client, ids []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := make(chan struct{}, maxUploads)
	var wg sync.WaitGroup
	for _, id := range ids {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-room }()
			if err := s.put(ctx, client, id); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (s *Shipper) put(ctx context.Context, client *Client, id string) error {
	f, err := s.cfg.Objects.Raw(id)
	if err != nil {
		return err
	}
	defer f.Close()
	short, cancel := context.WithTimeout(ctx, s.cfg.Timeout+time.Duration(f.Size()/bodyRate)*time.Second)
	defer cancel()
	return client.put(short, id, f.Size(), f)
}

// Compare compares this log with the receiver's copy, over the running session or a connection of its own, and returns what was found; how it stands is
// Status().Verdict as well. A verdict that is not Good stops the Shipper for good. An error says that nothing could be found out: fault.Unavailable when the
// backup does not answer.
func (s *Shipper) Compare(ctx context.Context) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.enterWire(ctx); err != nil {
		return Verdict{}, err
	}
	defer s.leaveWire()
	client := s.client
	if client == nil {
		own, err := NewClient(ctx, s.cfg.ClientConfig)
		if err != nil {
			return Verdict{}, err
		}
		defer own.Close()
		client = own
	}
	v, err := s.exchangeCompare(ctx, client)
	if err == nil && !v.Good() {
		s.stop(v.Err())
	}
	return v, err
}

// exchangeCompare tells the receiver what the log is, so that it can keep its own evidence, and judges what it answers. The wire is held.
func (s *Shipper) exchangeCompare(ctx context.Context, client *Client) (Verdict, error) {
	size, _ := s.cfg.Log.Head()
	local, err := s.treeAt(ctx, size)
	if err != nil {
		return Verdict{}, err
	}
	signed, err := chain.Checkpoint{Origin: s.cfg.Origin, Tree: local}.Sign(s.cfg.Key)
	if err != nil {
		return Verdict{}, fmt.Errorf("replica: %w", err)
	}
	answer, err := client.compare(ctx, signed)
	if err != nil {
		return Verdict{}, err
	}
	var backup Cosigned
	if answer.Checkpoint != "" {
		if backup, err = s.open([]byte(answer.Checkpoint)); err != nil {
			return Verdict{}, fault.New(fault.Invalid, "what the backup says that it cosigned is not a checkpoint of this log with its cosignature").
				WithHint("was a key changed on one side only?").WithCause(err)
		}
	}
	known := s.Last()
	v := Verdict{Local: local, Backup: backup.Tree, Note: backup.Note, Known: known.Tree}
	v.Relation, err = judge(local, backup.Tree, known.Tree, func(n uint64) (chain.Tree, error) { return s.treeAt(ctx, n) })
	if err != nil {
		return Verdict{}, err
	}
	switch {
	case v.Good() && (answer.Verdict == Fork || answer.Verdict == Rollback):
		return Verdict{}, fault.New(fault.Invalid, "the backup contradicts its own cosigned checkpoint: it says "+string(answer.Verdict)).
			WithHint("see the receiver's log")
	case v.Relation == Rollback && answer.Verdict == Fork:
		v.Relation = Fork // what is left here is not what was cosigned, either: only who has all of it can see that
	case v.Relation == Fork && answer.Verdict == Behind:
		if err := s.testify(ctx, client, backup.Size); err != nil {
			s.cfg.Logger.WarnContext(ctx, "the backup could not be told of the fork", "error", err.Error())
		}
	}
	s.learn(v, backup)
	return v, nil
}

// testify gives the receiver this log's signed checkpoint at the size that it has: with its own the proof of a fork, and the reason for its alarm.
func (s *Shipper) testify(ctx context.Context, client *Client, size uint64) error {
	tree, err := s.treeAt(ctx, size)
	if err != nil {
		return err
	}
	signed, err := chain.Checkpoint{Origin: s.cfg.Origin, Tree: tree}.Sign(s.cfg.Key)
	if err != nil {
		return err
	}
	_, err = client.compare(ctx, signed)
	return err
}

// learn keeps a verdict, and the checkpoint that came with it when it is good.
func (s *Shipper) learn(v Verdict, backup Cosigned) {
	s.mu.Lock()
	s.verdict = &v
	s.mu.Unlock()
	if v.Good() && backup.Note != nil {
		s.confirm(backup)
	}
}

func (s *Shipper) treeAt(ctx context.Context, size uint64) (chain.Tree, error) {
	f, err := s.cfg.Log.FrontierAt(ctx, size)
	if err != nil {
		return chain.Tree{}, err
	}
	return f.Tree(), nil
}
