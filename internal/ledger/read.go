package ledger

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// Read returns one acknowledged line. NotFound: the log is not that long. Corrupt: the line in the file is not one, or cannot be read.
func (l *Ledger) Read(seq uint64) (Record, error) {
	from, to, err := l.locate(seq)
	if err != nil {
		return Record{}, err
	}
	raw := make([]byte, to-from)
	if _, err := io.ReadFull(io.NewSectionReader(l.file, from, to-from), raw); err != nil {
		return Record{}, fault.New(fault.Corrupt, fmt.Sprintf("line %d of the log cannot be read", seq+1)).
			WithHint("is the disk whole, and the log as long as it was? appliance audit verify; compare with the backup's copy").WithCause(err)
	}
	line, err := chain.ParseLine(raw)
	if err != nil {
		return Record{}, broken(&lineError{chain.BreakError{Seq: seq, What: err}, from, true})
	}
	return Record{Seq: seq, Time: line.Time, Type: line.EventType, Actor: line.Actor, Details: line.Details, Hash: line.Hash}, nil
}

// locate returns where a line begins and ends in the file, without its newline.
func (l *Ledger) locate(seq uint64) (from, to int64, err error) {
	l.smu.RLock()
	size := l.seen.cur.Size
	recent := block{number: l.seen.base.Size / blockLines, start: l.seen.base.offset, ends: l.seen.ends}
	l.smu.RUnlock()
	if seq >= size {
		return 0, 0, fault.New(fault.NotFound, fmt.Sprintf("the log has %d lines", size))
	}
	b := recent
	if seq/blockLines != recent.number {
		if b, err = l.block(seq / blockLines); err != nil {
			return 0, 0, err
		}
	}
	from, to = b.line(int(seq % blockLines))
	if from < 0 || to < from || to-from > chain.MaxLine {
		return 0, 0, fault.New(fault.Unavailable, "the index is damaged").WithHint("restart: it is rebuilt from the log")
	}
	return from, to, nil
}

func (l *Ledger) block(number uint64) (b block, err error) {
	err = l.View(func(tx *index.Tx) error {
		b, err = decodeBlock(number, tx.Bucket(bucketBlocks).Get(blockKey(number)))
		return err
	})
	return b, err
}

// Export writes the acknowledged lines from ≤ seq < to, with their newlines, as they are in the file. NotFound: the log is not that long.
func (l *Ledger) Export(ctx context.Context, w io.Writer, from, to uint64) error {
	if from > to {
		return fault.New(fault.Invalid, fmt.Sprintf("a range of lines from %d to %d", from, to))
	}
	if from == to {
		return nil
	}
	start, _, err := l.locate(from)
	if err != nil {
		return err
	}
	_, end, err := l.locate(to - 1)
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, start, end+1-start), batchBytes)
	for n := from; n < to; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("ledger: reading line %d: %w", n+1, err)
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	// What was written is the range only if the offsets were right: then nothing is left.
	if rest, err := r.Peek(1); err != io.EOF {
		return fault.New(fault.Corrupt, "the log has other lines than the index knows").WithCause(fmt.Errorf("%q after line %d: %w", bytes.Clone(rest), to, err))
	}
	return nil
}
