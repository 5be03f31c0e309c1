package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// Report is what Verify found. On error it covers the lines before the one that is wrong.
type Report struct {
	Size        uint64     // lines
	Bytes       int64      // of those lines
	Head        chain.Hash // hash of the last line, zeros when there is none
	Root        chain.Hash // RFC 6962 tree hash over the lines
	First, Last time.Time  // of the first and the last line
	Torn        bool       // the error is that the file ends within a line, as a copy of a log in use may
}

// Verify reads a log and checks all that can be checked in the file alone: that every line has the one form it may have, that its hash is the hash of
// what it says, that it follows the line before, and that time does not go back. What is wrong is fault.Corrupt and names the line, counted from 1.
//
// That lines are missing at the end, or that all of it was written anew, only someone who knows an earlier state can tell: for each of known, the
// first known.Size lines must have the tree hash known.Root.
func Verify(r io.Reader, known ...chain.Tree) (Report, error) {
	return verify(context.Background(), r, known)
}

// Verify verifies the whole log, as far as it was acknowledged when called, by the name that it has on the disk: that it is the one that this ledger and its
// index have in mind, and that it begins as each of known says. It reads at most perSecond bytes in a second (0: no bound), and holds a few hundred
// kilobytes. Errors: Corrupt (what was found, a missing file too), Unavailable (it could not be read).
func (l *Ledger) Verify(ctx context.Context, perSecond int64, known ...chain.Tree) (rep Report, err error) {
	known = append(slices.Clone(known), l.Tree())
	var at position
	err = l.View(func(tx *index.Tx) (err error) {
		if saved := tx.Bucket(bucketState).Get(keyCur); saved != nil { // it is there from the first line on
			at, err = decodePosition(saved)
		}
		return err
	})
	if err != nil {
		return rep, refused(err)
	}
	file, err := l.cfg.FS.Open(l.path(FileName), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return rep, changed("the log is not in its place any more", err)
	}
	if err != nil {
		return rep, refused(fmt.Errorf("ledger: %w", err))
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return verify(ctx, &paced{ctx, io.NewSectionReader(file, 0, at.offset), perSecond}, append(known, at.tree.Tree()))
}

// paced is a reader that rests after each read, so that whoever shares the disk and the processors with it hardly notices.
type paced struct {
	ctx       context.Context
	from      io.Reader
	perSecond int64 // bytes; 0: no bound
}

// pacedBytes is what is read between two rests at most.
const pacedBytes = 64 << 10

func (p *paced) Read(b []byte) (int, error) {
	if p.perSecond <= 0 {
		return p.from.Read(b)
	}
	n, err := p.from.Read(b[:min(len(b), pacedBytes)])
	rest := time.NewTimer(time.Duration(n) * time.Second / time.Duration(p.perSecond))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-p.ctx.Done():
		return n, p.ctx.Err()
	}
	return n, err
}

func verify(ctx context.Context, r io.Reader, known []chain.Tree) (Report, error) {
	v := verifier{known: known}
	if err := v.compare(); err != nil {
		return v.report(), err
	}
	err := scan(ctx, r, false, v.batch)
	rep := v.report()
	var bad *lineError
	switch {
	case errors.As(err, &bad):
		rep.Torn = errors.Is(err, errTorn)
		return rep, broken(bad)
	case err != nil:
		return rep, refused(err)
	}
	for _, k := range known {
		if k.Size > rep.Size {
			return rep, fault.New(fault.Corrupt, fmt.Sprintf("the log ends after %d lines: at least %d were known", rep.Size, k.Size)).
				WithHint("its end was cut off, or it is an older copy")
		}
	}
	return rep, nil
}

// verifier takes batches of lines and checks how they follow each other.
type verifier struct {
	state  chain.State
	tree   chain.Frontier
	offset int64
	first  int64
	known  []chain.Tree
}

func (v *verifier) batch(b *batch) error {
	for _, s := range b.lines {
		if err := v.state.Next(s.link); err != nil {
			var at *chain.BreakError
			if !errors.As(err, &at) {
				panic("ledger: a chain error without a place: " + err.Error())
			}
			return &lineError{*at, v.offset, false}
		}
		if v.state.Size == 1 {
			v.first = s.link.Micros
		}
		v.offset += int64(s.size)
		v.tree.Append(s.leaf)
		if err := v.compare(); err != nil {
			return err
		}
	}
	return nil
}

// compare compares the tree as it is with what is known of it at this size.
func (v *verifier) compare() error {
	for _, k := range v.known {
		if k.Size == v.tree.Size() && k.Root != v.tree.Tree().Root {
			return fault.New(fault.Corrupt, fmt.Sprintf("the first %d lines are not those that were known", k.Size)).
				WithHint("the log was written anew since, or what was noted is of another log")
		}
	}
	return nil
}

func (v *verifier) report() Report {
	r := Report{Size: v.state.Size, Bytes: v.offset, Head: v.state.Head, Root: v.tree.Tree().Root}
	if r.Size > 0 {
		r.First, r.Last = time.UnixMicro(v.first).UTC(), time.UnixMicro(v.state.Micros).UTC()
	}
	return r
}
