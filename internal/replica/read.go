package replica

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// hurryOut bounds the time in which size bytes must be taken.
func hurryOut(w http.ResponseWriter, size int64) error {
	end := time.Now().Add(bodyTime + time.Duration(size/bodyRate)*time.Second)
	if err := http.NewResponseController(w).SetWriteDeadline(end); err != nil {
		return fmt.Errorf("replica: setting a deadline: %w", err)
	}
	return nil
}

func (r *Receiver) handleCheckpoint(w http.ResponseWriter, c call) error {
	h, err := c.mirror.snapshot()
	if err != nil {
		return err
	}
	if h.Size == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return send(w, typeText, h.note)
}

// snapshot returns what is held.
func (m *mirror) snapshot() (held, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reopen(); err != nil {
		return held{}, err
	}
	return m.held, nil
}

// handleLines answers with the lines from ≤ n < to, as they are in the file.
func (r *Receiver) handleLines(w http.ResponseWriter, c call) error {
	from, err1 := strconv.ParseUint(c.URL.Query().Get("from"), 10, 63)
	to, err2 := strconv.ParseUint(c.URL.Query().Get("to"), 10, 63)
	if err := errors.Join(err1, err2); err != nil || from > to {
		return fault.New(fault.Invalid, "lines are asked for with from and to, two numbers").WithCause(err)
	}
	lines, err := c.mirror.lines(from, to)
	if err != nil {
		return err
	}
	defer lines.Close()
	if err := hurryOut(w, lines.size); err != nil {
		return err
	}
	w.Header().Set("Content-Type", typeText)
	w.Header().Set("Content-Length", strconv.FormatInt(lines.size, 10))
	if _, err := io.Copy(w, lines); err != nil {
		return fmt.Errorf("replica: sending lines: %w", err)
	}
	return nil
}

// lineReader reads a range of lines from an own opening of the file.
type lineReader struct {
	io.Reader
	size int64
	file durable.File
}

// Close lets go of the file.
func (l *lineReader) Close() error { return l.file.Close() }

// lines finds a range of the cosigned lines.
func (m *mirror) lines(from, to uint64) (*lineReader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reopen(); err != nil {
		return nil, err
	}
	if to > m.held.Size {
		return nil, fault.New(fault.NotFound, fmt.Sprintf("the copy has %d lines", m.held.Size))
	}
	start, err := m.offsetOf(from)
	if err != nil {
		return nil, err
	}
	end, err := m.offsetOf(to)
	if err != nil {
		return nil, err
	}
	f, err := m.cfg.fs.Open(m.path(LogFile), os.O_RDONLY, 0)
	if err != nil {
		return nil, storage(err)
	}
	return &lineReader{io.NewSectionReader(f, start, end-start), end - start, f}, nil
}

// offsetOf returns where a line begins; that of the line after the last is the end. m.mu is held.
func (m *mirror) offsetOf(line uint64) (int64, error) {
	if line == m.held.Size {
		return m.held.offset, nil
	}
	at := m.startOf(line / blockLines)
	r := bufio.NewReaderSize(io.NewSectionReader(m.file, at, m.held.offset-at), chain.MaxLine+1)
	for range line % blockLines {
		b, err := r.ReadSlice('\n')
		if err != nil {
			return 0, m.fail(fmt.Errorf("replica: finding line %d: %w", line+1, err))
		}
		at += int64(len(b))
	}
	return at, nil
}

func (r *Receiver) handleGet(w http.ResponseWriter, c call) error {
	f, err := c.mirror.objects.Raw(c.PathValue("id"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := hurryOut(w, f.Size()); err != nil {
		return err
	}
	w.Header().Set("Content-Type", typeBytes)
	w.Header().Set("Content-Length", strconv.FormatInt(f.Size(), 10))
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("replica: sending an object: %w", err)
	}
	return nil
}

// Verify reads the whole copy of a log and checks it against what was cosigned: each line, the chain, the tree; and that every object that a line names is
// there and whole. NotFound: no such log is kept. Corrupt: what is wrong, and where.
func (r *Receiver) Verify(ctx context.Context, origin string) (ledger.Report, error) {
	r.mu.RLock()
	s := r.logs[LogID(origin)]
	r.mu.RUnlock()
	if s == nil {
		return ledger.Report{}, fault.New(fault.NotFound, "no log of that origin is kept here")
	}
	if s.mirror == nil {
		return ledger.Report{}, s.broken
	}
	h, err := s.mirror.snapshot()
	if err != nil {
		return ledger.Report{}, err
	}
	lines, err := s.mirror.lines(0, h.Size)
	if err != nil {
		return ledger.Report{}, err
	}
	defer lines.Close()
	rep, err := ledger.Verify(&contextReader{ctx, lines}, h.tree.Tree())
	if err != nil {
		return rep, err
	}
	return rep, s.mirror.verifyObjects(ctx, h)
}

// verifyObjects reads every object that the lines name.
func (m *mirror) verifyObjects(ctx context.Context, h held) error {
	lines, err := m.lines(0, h.Size)
	if err != nil {
		return err
	}
	defer lines.Close()
	in := bufio.NewReaderSize(&contextReader{ctx, lines}, chain.MaxLine+1)
	for n := range h.Size {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("replica: reading line %d: %w", n+1, err)
		}
		for _, id := range AppendObjects(nil, line) {
			if err := m.objects.Check(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// contextReader reads until its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
