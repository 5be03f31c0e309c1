package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/veripath/aes-appliance/internal/chain"
)

// errTorn says that the file does not end with a newline.
var errTorn = errors.New("the file ends within a line")

// lineError says where a log is broken.
type lineError struct {
	chain.BreakError
	offset int64 // of the beginning of the line
	// own: the line is none by itself (cut, holes, garbage), as a crash leaves it. Otherwise it is a whole line in the wrong place, as no crash does.
	own bool
}

// batchBytes is how much of the file one worker checks at a time: several lines of any length.
const batchBytes = 256 << 10

// batch is a run of whole lines, and what a worker found out about each.
type batch struct {
	data  []byte // whole lines; the last batch may end without a newline
	lines []scanned
	err   error // why data stops being lines after those
	ready chan struct{}
}

// scanned is a line that is right by itself.
type scanned struct {
	link chain.Link
	leaf chain.Hash
	size int // with its newline
	line chain.Line
}

// scan reads lines from r, checks each by itself in parallel (form and hash) and calls emit for one batch after the other. Full says whether emit
// needs the parsed lines; then the batch's memory is emit's to keep. It returns the first error of emit; else, as *lineError with offset and Seq
// counted from r's beginning, what stops r from being lines; else the error of reading.
func scan(ctx context.Context, r io.Reader, full bool, emit func(*batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *batch, workers)
	order := make(chan *batch, 2*workers)
	free := make(chan *batch, 4*workers)
	for range workers {
		go func() {
			var p chain.Parser
			for b := range work {
				b.check(&p, full)
				close(b.ready)
			}
		}()
	}
	var readErr error // written before order is closed
	go func() {
		defer close(order)
		defer close(work)
		readErr = split(ctx, r, free, func(b *batch) bool {
			select {
			case order <- b:
			case <-ctx.Done():
				return false
			}
			work <- b
			return true
		})
	}()
	var seq uint64
	var offset int64
	for b := range order {
		<-b.ready
		if err := emit(b); err != nil {
			return err
		}
		for _, s := range b.lines {
			offset += int64(s.size)
		}
		seq += uint64(len(b.lines))
		if b.err != nil {
			return &lineError{chain.BreakError{Seq: seq, What: b.err}, offset, true}
		}
		if !full {
			select {
			case free <- b:
			default:
			}
		}
	}
	if readErr == nil {
		readErr = ctx.Err()
	}
	return readErr
}

// split reads r and passes it on in batches of whole lines, until pass returns false.
func split(ctx context.Context, r io.Reader, free <-chan *batch, pass func(*batch) bool) error {
	var rest []byte // the beginning of a line
	for ctx.Err() == nil {
		b := next(free)
		b.data = append(b.data[:0], rest...)
		n, err := io.ReadFull(r, b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if len(b.data) > 0 {
				pass(b)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("ledger: reading the log: %w", err)
		}
		// A batch without a newline goes on as it is: it is longer than a line may be, and check says so.
		if end := bytes.LastIndexByte(b.data, '\n') + 1; end > 0 {
			rest = append(rest[:0], b.data[end:]...)
			b.data = b.data[:end]
		}
		if !pass(b) {
			return nil
		}
	}
	return nil
}

func next(free <-chan *batch) *batch {
	select {
	case b := <-free:
		b.lines, b.err, b.ready = b.lines[:0], nil, make(chan struct{})
		return b
	default:
		return &batch{data: make([]byte, 0, batchBytes), ready: make(chan struct{})}
	}
}

// check fills b.lines, up to the first line that is none.
func (b *batch) check(p *chain.Parser, full bool) {
	for rest := b.data; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n')
		if n < 0 && len(rest) <= chain.MaxLine {
			b.err = errTorn
			return
		}
		if n < 0 {
			b.err = chain.ErrTooLong
			return
		}
		s := scanned{size: n + 1}
		var err error
		if full {
			s.line, err = p.Parse(rest[:n])
			s.link = chain.Link{Prev: s.line.Prev, Hash: s.line.Hash, Micros: s.line.Time.UnixMicro()}
		} else {
			s.link, err = p.Link(rest[:n])
		}
		if err != nil {
			b.err = err
			return
		}
		s.leaf = p.LeafHash(rest[:n])
		b.lines = append(b.lines, s)
		rest = rest[n+1:]
	}
}
