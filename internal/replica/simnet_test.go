package replica

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// network is how the primary reaches the backup.
type network struct {
	mu    sync.Mutex
	ln    *memoryListener
	conns []*wireConn
	rng   *rand.Rand // nil: no trouble
	bytes int        // about how many a connection carries before something happens to it
}

func (n *network) set(ln *memoryListener) {
	n.mu.Lock()
	n.ln = ln
	n.mu.Unlock()
	if ln == nil {
		n.cut()
	}
}

func (n *network) trouble(seed uint64, bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rng, n.bytes = rand.New(rand.NewPCG(seed, 9)), bytes
	for _, c := range n.conns {
		c.plan(n.rng, n.bytes)
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rng = nil
	for _, c := range n.conns {
		c.plan(nil, 0)
	}
}

// cut breaks all connections.
func (n *network) cut() {
	n.mu.Lock()
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	for _, c := range conns {
		c.Close()
		c.other.Close()
	}
}

var errUnreachable = errors.New("simulated: no route to host")

func (n *network) dial(context.Context) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ln == nil {
		return nil, errUnreachable
	}
	a, b := net.Pipe()
	ca, cb := &wireConn{Conn: a, more: make(chan struct{}, 1), gone: make(chan struct{})}, &wireConn{Conn: b, more: make(chan struct{}, 1), gone: make(chan struct{})}
	ca.other, cb.other = cb, ca
	ca.plan(n.rng, n.bytes)
	cb.plan(n.rng, n.bytes)
	n.conns = append(n.conns, ca, cb)
	go ca.pump()
	go cb.pump()
	if !n.ln.give(cb) {
		return nil, errUnreachable
	}
	return ca, nil
}

// wireConn is one end of a connection to which something happens after some bytes.
type wireConn struct {
	net.Conn
	other *wireConn

	more chan struct{} // something was queued
	gone chan struct{} // closed

	mu     sync.Mutex
	queue  []packet
	closed bool
	left   int // bytes until it happens; 0: it never does
	what   int
	wait   time.Duration
}

func (c *wireConn) plan(rng *rand.Rand, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = 0
	if rng == nil {
		return
	}
	c.left, c.what, c.wait = 1+rng.IntN(bytes), rng.IntN(4), time.Duration(rng.IntN(90))*time.Second
}

// Write implements net.Conn. It never blocks: the bubble's time does not pass while somebody waits for a mutex, and HTTP/2 writes under one.
func (c *wireConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	what, part := -1, 0
	if c.left > 0 {
		if c.left -= len(p); c.left <= 0 {
			what, part, c.left = c.what, max(0, len(p)+c.left), 0
		}
	}
	switch what {
	case 0: // cut, with a part on its way
		c.send(p[:part], 0)
		c.send(nil, 0)
		return part, io.ErrClosedPipe
	case 1: // cut after all of it, and the writer is not told
		c.send(p, 0)
		c.send(nil, 0)
	case 2: // delayed
		c.send(p, c.wait)
	case 3: // a part twice: TLS must not take it
		c.send(p[:part], 0)
		c.send(p, 0)
	default:
		c.send(p, 0)
	}
	return len(p), nil
}

// packet is what travels; no bytes mean the end of the connection.
type packet struct {
	b    []byte
	wait time.Duration
}

// send queues a packet. c.mu is held.
func (c *wireConn) send(b []byte, wait time.Duration) {
	c.queue = append(c.queue, packet{bytes.Clone(b), wait})
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// pump delivers what is queued, until the connection is closed.
func (c *wireConn) pump() {
	for {
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, p := range queue {
			select {
			case <-time.After(p.wait):
			case <-c.gone:
				return
			}
			if len(p.b) == 0 {
				c.Close()
				c.other.Close()
				return
			}
			if _, err := c.Conn.Write(p.b); err != nil {
				return
			}
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-c.more:
		case <-c.gone:
			return
		}
	}
}

// Close implements net.Conn.
func (c *wireConn) Close() error {
	c.mu.Lock()
	if !c.closed {
		close(c.gone)
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// SetWriteDeadline implements net.Conn: a write never waits.
func (c *wireConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (c *wireConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// memoryListener hands connections over.
type memoryListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn, 64), closed: make(chan struct{})}
}

func (l *memoryListener) give(c net.Conn) bool {
	select {
	case <-l.closed:
		return false
	case l.conns <- c:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }
