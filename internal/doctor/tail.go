package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// tail reads parts of a log while somebody else may append to it: the file is in the order of its lines' times.
type tail struct {
	f    *os.File
	size int64 // when it was opened
	p    chain.Parser
}

func openTail(path string) (*tail, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &tail{f: f, size: info.Size()}, nil
}

// Close lets go of the file.
func (t *tail) Close() error { return t.f.Close() }

// line returns the first whole line that begins at or after off, without its newline, and where it begins; nil at the end. In front of off there is the end of
// a line, unless off is 0.
func (t *tail) line(off int64) (b []byte, at int64, err error) {
	buf := make([]byte, min(2*(chain.MaxLine+1), t.size-off+1))
	from := max(0, off-1)
	n, err := t.f.ReadAt(buf[:min(int64(len(buf)), t.size-from)], from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	buf, at = buf[:n], from
	if off > 0 {
		i := bytes.IndexByte(buf, '\n')
		if i < 0 {
			return nil, t.size, noLine(buf, at)
		}
		buf, at = buf[i+1:], at+int64(i)+1
	}
	i := bytes.IndexByte(buf, '\n')
	if i < 0 {
		return nil, t.size, noLine(buf, at)
	}
	return buf[:i], at, nil
}

// noLine tells the end of a file that is being appended to from what is no log.
func noLine(rest []byte, at int64) error {
	if len(rest) <= chain.MaxLine {
		return nil
	}
	return fmt.Errorf("at byte %d there is no line of a log", at)
}

// timeAt returns the time of the first whole line at or after off; there is false at the end.
func (t *tail) timeAt(off int64) (when time.Time, there bool, err error) {
	b, at, err := t.line(off)
	if err != nil || b == nil {
		return time.Time{}, false, err
	}
	l, err := t.p.Link(b)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("the line at byte %d: %w", at, err)
	}
	return time.UnixMicro(l.Micros), true, nil
}

// since returns where the first line begins that is not before when; the file's size when there is none.
func (t *tail) since(when time.Time) (int64, error) {
	low, high := int64(0), t.size
	for low < high {
		mid := low + (high-low)/2
		at, there, err := t.timeAt(mid)
		if err != nil {
			return 0, err
		}
		if there && at.Before(when) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low >= t.size {
		return t.size, nil
	}
	b, at, err := t.line(low)
	if err != nil || b == nil {
		return t.size, err
	}
	return at, nil
}

// each calls f with every whole line from off on, and returns where the next one would begin.
func (t *tail) each(off int64, f func(b []byte) error) (end int64, err error) {
	r := newLineReader(io.NewSectionReader(t.f, off, t.size-off))
	for end = off; ; {
		b, err := r.next()
		if err != nil || b == nil {
			return end, err
		}
		if err := f(b); err != nil {
			return end, err
		}
		end += int64(len(b)) + 1
	}
}

// recentBytes is how much of a log's end is verified each time.
const recentBytes = 1 << 20

// recent verifies the last lines: each its own hash, each the one before, time not going back. It returns how many they are, the hashes' set, and whether the
// file ends within a line.
func (t *tail) recent() (lines int, heads map[chain.Hash]bool, torn bool, err error) {
	_, at, err := t.line(max(0, t.size-recentBytes))
	if err != nil {
		return 0, nil, false, err
	}
	var before *chain.Link
	heads = map[chain.Hash]bool{}
	end, err := t.each(at, func(b []byte) error {
		l, err := t.p.Link(b)
		switch {
		case err != nil:
		case before != nil && l.Prev != before.Hash:
			err = chain.ErrPrev
		case before != nil && l.Micros < before.Micros:
			err = chain.ErrTime
		}
		if err != nil {
			return fmt.Errorf("line %d of the last megabyte: %w", lines+1, err)
		}
		lines, before = lines+1, &l
		heads[l.Hash] = true
		return nil
	})
	return lines, heads, end < t.size, err
}
