package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Client calls the operations of one socket. Many calls go over its one connection at once; when that breaks, they fail, and the next call makes
// a new one; one that cannot have been begun is made once more over that. It is safe for concurrent use.
type Client struct {
	path string

	mu     sync.Mutex
	link   *link // nil or broken: to be made anew
	closed bool
}

// Dial connects to the socket at path. Unavailable: nobody answers there.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := &Client{path: path}
	if _, err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// New is Dial that does not connect before the first call.
func New(path string) *Client { return &Client{path: path} }

// Close ends the connection; calls in flight fail.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.link == nil {
		return nil
	}
	if err := c.link.conn.Close(); !errors.Is(err, net.ErrClosed) { // it is closed already when the signer ended first
		return err
	}
	return nil
}

// Call performs op with in as its body and decodes the answer into out (nil: there is none to keep). fd, which stays the caller's, goes with it.
// The descriptor that comes back, if any, is the caller's to close.
//
// Errors are of kind, code, text and hint that the other side chose; Unavailable when it could not be reached or the connection broke, after which
// it is not known whether op was done. A *NeedDial is found by errors.As. ctx's own error is returned when it ends first.
func (c *Client) Call(ctx context.Context, op Op, in, out any, fd *os.File) (*os.File, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("wire: encoding %s: %w", op, err)
	}
	if len(body) > MaxMessage-256 {
		return nil, fault.New(fault.TooLarge, "the request is too large").WithCause(ErrTooLong)
	}
	r := request{Op: op, body: body}
	if deadline, ok := ctx.Deadline(); ok {
		r.TimeoutMS = max(1, time.Until(deadline).Milliseconds())
	}
	a, err := c.exchange(ctx, r, fd)
	if err != nil {
		return nil, err
	}
	if a.Error != nil {
		closeFile(a.fd)
		return nil, a.Error.err()
	}
	if out != nil {
		if err := decodeBody(a.body, out); err != nil {
			closeFile(a.fd)
			return nil, fault.New(fault.Internal, "the signer's answer cannot be understood").WithCause(fmt.Errorf("answer to %s: %w", op, err))
		}
	}
	return a.fd, nil
}

// exchange sends r and returns what comes back. What a connection did not take because the other side has just ended, as one that is being restarted has, goes once more to who listens now.
func (c *Client) exchange(ctx context.Context, r request, fd *os.File) (arrival, error) {
	l, err := c.connect(ctx)
	if err != nil {
		return arrival{}, err
	}
	a, err := l.call(ctx, r, fd)
	if !errors.Is(err, errNotTaken) || ctx.Err() != nil {
		return a, err
	}
	if l, err = c.connect(ctx); err != nil {
		return arrival{}, err
	}
	return l.call(ctx, r, fd)
}

// errNotTaken is in the tree of the error of a call that the other side cannot have had whole, and so has not begun.
var errNotTaken = errors.New("wire: the other side took no more calls")

// connect returns the connection, made anew when there is none that works.
func (c *Client) connect(ctx context.Context) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, unreachable(net.ErrClosed)
	}
	if c.link != nil && c.link.broken() == nil {
		return c.link, nil
	}
	name, release, err := reach(c.path)
	if err != nil {
		return nil, unreachable(err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", name)
	if err := errors.Join(err, release()); err != nil {
		return nil, unreachable(err)
	}
	c.link = &link{conn: conn.(*net.UnixConn), waiting: map[uint64]chan arrival{}}
	go c.link.read()
	return c.link, nil
}

func unreachable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Unavailable, "this user may not connect to the signer").WithHint("run it as root").WithCause(err).WithCode("signer-unreachable")
	}
	return fault.New(fault.Unavailable, "the signer cannot be reached").WithHint("try again in a moment; an operator finds the cause in what the signer wrote to its journal").
		WithCause(err).WithCode("signer-unreachable")
}

// arrival is an answer with its descriptor.
type arrival struct {
	answer
	fd *os.File
}

// link is one connection with the calls that wait on it. Lock order: sending before mu.
type link struct {
	conn    *net.UnixConn
	sending sync.Mutex // one message at a time

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan arrival
	err     error
}

func (l *link) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) call(ctx context.Context, r request, fd *os.File) (arrival, error) {
	got := make(chan arrival, 1)
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return arrival{}, unreachable(errors.Join(errNotTaken, l.err))
	}
	l.last++
	r.ID = l.last
	l.waiting[r.ID] = got
	l.mu.Unlock()

	if err := l.send(r, fd); err != nil {
		l.hangUp(r.ID, err)
		if errors.Is(err, syscall.EPIPE) {
			return arrival{}, unreachable(errors.Join(errNotTaken, err))
		}
	}
	select {
	case a, ok := <-got:
		if !ok {
			return arrival{}, unreachable(l.broken())
		}
		return a, nil
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.waiting, r.ID)
		l.mu.Unlock()
		select {
		case a, ok := <-got: // it came in the same moment
			if ok {
				closeFile(a.fd)
			}
		default:
		}
		return arrival{}, ctx.Err()
	}
}

func (l *link) send(r request, fd *os.File) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return writeMessage(l.conn, r, r.body, fd)
}

// read hands answers to those who wait, until the connection ends.
func (l *link) read() {
	for {
		raw, fd, err := readMessage(l.conn, func(int64) error { return nil })
		if err != nil {
			l.fail(err)
			return
		}
		a := arrival{fd: fd}
		if a.body, err = readHead(raw, &a.answer); err != nil {
			closeFile(fd)
			l.fail(err)
			return
		}
		l.mu.Lock()
		got, ok := l.waiting[a.ID]
		delete(l.waiting, a.ID)
		if ok {
			got <- a // has room: each id is answered once
		}
		l.mu.Unlock()
		if !ok {
			closeFile(fd) // nobody waits any more
		}
	}
}

// hangUp ends the sending on a connection that the call id could not be sent over. The other side may have stopped taking calls and still be
// answering those that it took: they are waited for, as long as an answer may take to be sent.
func (l *link) hangUp(id uint64, err error) {
	l.conn.CloseWrite()
	l.conn.SetReadDeadline(time.Now().Add(sendTimeout))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	if got, ok := l.waiting[id]; ok {
		close(got)
		delete(l.waiting, id)
	}
}

// fail ends the connection and every call that waits on it.
func (l *link) fail(err error) {
	l.conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	for id, got := range l.waiting {
		close(got)
		delete(l.waiting, id)
	}
}
