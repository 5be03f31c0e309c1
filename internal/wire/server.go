package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Handler answers one operation. in is its body; fd is the descriptor that came with it, nil when none did, and is closed after Handler has
// returned. outFD goes with the answer and is closed after that. ctx ends with the caller's patience, its connection, or Server.Grace.
type Handler func(ctx context.Context, in json.RawMessage, fd *os.File) (out any, outFD *os.File, err error)

// Handle makes a Handler of a function with types; a body that does not fit In exactly is fault.Invalid.
func Handle[In, Out any](f func(ctx context.Context, in In, fd *os.File) (Out, *os.File, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage, fd *os.File) (any, *os.File, error) {
		var in In
		if err := Decode(raw, &in); err != nil {
			return nil, nil, fault.New(fault.Invalid, "the operation's body is not what it takes").WithCause(err)
		}
		return f(ctx, in, fd)
	}
}

// Limits of one Serve.
const (
	maxConnections = 64              // at once; more are closed
	maxCalls       = 256             // at once per connection; more wait
	sendTimeout    = time.Minute     // for one answer: a peer that reads nothing is dropped
	maxTimeout     = 5 * time.Minute // whatever the peer says it will wait
	grace          = 20 * time.Second
	inFlight       = 64 << 20 // bytes that all requests together may take up while they are dealt with
	perByte        = 3        // of a message: as it was read, and twice over in its parts
)

// Serve answers on l until ctx ends, then closes l, lets what is in flight finish (for at most 20 s), and returns. The table is the list of what is
// allowed on this socket: anything else is fault.Forbidden. observe, when not nil, is told of each answered operation.
func Serve(ctx context.Context, l *net.UnixListener, table map[Op]Handler, observe func(op Op, took time.Duration, err error)) error {
	s := &server{table: table, observe: observe, slots: make(chan struct{}, maxConnections), memory: NewBudget(inFlight), conns: map[*net.UnixConn]bool{}}
	// Operations in flight outlive ctx by the grace.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() { l.Close(); s.drain() })
	defer stop()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			break
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("wire: %w", err)
		}
		if err != nil { // out of descriptors, say: it passes
			if !pause(ctx, 50*time.Millisecond) {
				break
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
			s.add(ctx, c)
			s.wg.Go(func() { s.connection(work, c) })
		default:
			c.Close()
		}
	}
	timer := time.AfterFunc(grace, cut)
	defer timer.Stop()
	s.wg.Wait()
	return nil
}

// connectionKey is what a Handler's context has its connection's end under.
type connectionKey struct{}

// Gone returns what is closed when the connection has ended over which the operation of ctx came, nil when it came over none. What a peer began there
// nobody can go on with then.
func Gone(ctx context.Context) <-chan struct{} {
	ended, _ := ctx.Value(connectionKey{}).(<-chan struct{})
	return ended
}

// peerKey is what a Handler's context has its peer under.
type peerKey struct{}

// Peer returns a context that ends when the peer over whose connection the operation of ctx came has hung up: it may still be waiting for answers, and
// asks nothing more there. An operation that came over no connection has itself for a peer.
func Peer(ctx context.Context) context.Context {
	if peer, ok := ctx.Value(peerKey{}).(context.Context); ok {
		return peer
	}
	return ctx
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// longAgo is a deadline that ends a read at once.
func longAgo() time.Time { return time.Unix(1, 0) }

type server struct {
	table   map[Op]Handler
	observe func(Op, time.Duration, error)
	slots   chan struct{}
	memory  *Budget
	wg      sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.UnixConn]bool
}

func (s *server) add(ctx context.Context, c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = true
	if ctx.Err() != nil {
		c.SetReadDeadline(longAgo())
	}
}

// drain makes every connection stop reading; what it has read is still answered.
func (s *server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.SetReadDeadline(longAgo())
	}
}

// connection serves one peer until it closes, breaks the format, or the server drains.
func (s *server) connection(ctx context.Context, c *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	peer, hungUp := context.WithCancel(ctx)
	ctx = context.WithValue(context.WithValue(ctx, connectionKey{}, ctx.Done()), peerKey{}, peer)
	var calls sync.WaitGroup
	var sending sync.Mutex
	var broken sync.Once
	abandon := func() { broken.Do(func() { cancel(); c.Close() }) }
	defer func() {
		hungUp()
		calls.Wait()
		abandon()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		<-s.slots
	}()
	room := make(chan struct{}, maxCalls)
	for {
		giveBack := func() {}
		raw, fd, err := readMessage(c, func(size int64) (err error) {
			// Beyond what is in flight a peer waits: what it can make this process hold is bounded, and others' connections to it go on once there is room.
			free, err := s.memory.Take(ctx, perByte*size)
			if err == nil {
				giveBack = free
			}
			return err
		})
		if err != nil {
			giveBack()
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				abandon() // nothing sensible can follow; one that is half closed or drained still gets its answers
			}
			return
		}
		var r request
		if r.body, err = readHead(raw, &r); err != nil {
			giveBack()
			closeFile(fd)
			abandon()
			return
		}
		room <- struct{}{}
		calls.Go(func() {
			defer func() { <-room; giveBack() }()
			s.call(ctx, c, &sending, r, fd, abandon)
		})
	}
}

func (s *server) call(ctx context.Context, c *net.UnixConn, sending *sync.Mutex, r request, fd *os.File, abandon func()) {
	limit := maxTimeout
	if r.TimeoutMS > 0 && r.TimeoutMS < int64(maxTimeout/time.Millisecond) {
		limit = time.Duration(r.TimeoutMS) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var later after
	defer later.run()
	ctx = context.WithValue(ctx, afterKey{}, &later)
	started := time.Now()
	out, outFD, err := s.dispatch(ctx, r, fd)
	if s.observe != nil {
		s.observe(r.Op, time.Since(started), err)
	}
	defer closeFile(outFD)
	a := answer{ID: r.ID}
	if err == nil && out != nil {
		a.body, err = encodeBody(out)
	}
	if err == nil && len(a.body) > MaxMessage-128 {
		err = fault.New(fault.TooLarge, "the answer is too large for a message")
	}
	if err != nil {
		closeFile(outFD)
		a.body, a.Error, outFD = nil, newFailure(err), nil
	}
	sending.Lock()
	defer sending.Unlock()
	c.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err := writeMessage(c, a, a.body, outFD); err != nil {
		abandon()
	}
}

func (s *server) dispatch(ctx context.Context, r request, fd *os.File) (out any, outFD *os.File, err error) {
	defer closeFile(fd)
	h, ok := s.table[r.Op]
	if !ok {
		return nil, nil, fault.New(fault.Forbidden, fmt.Sprintf("the operation %.40q is not allowed on this socket", r.Op))
	}
	return h(ctx, r.body, fd)
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
