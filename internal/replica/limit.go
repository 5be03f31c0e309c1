package replica

import (
	"net"
	"net/netip"
	"sync"
)

// How many connections a receiver has at once, those in a handshake included, and how many of them one address: a primary that goes mad, or whoever can reach the
// port, keeps none of the others out.
const (
	maxSockets      = 128
	maxSocketsOfOne = 32
)

// limitListener accepts a connection only while there are fewer than n, and ends those of an address that has each already. (netutil.LimitListener, which knows only
// the first, would be a module.)
func limitListener(ln net.Listener, n, each int) net.Listener {
	return &limited{Listener: ln, room: make(chan struct{}, n), closed: make(chan struct{}), each: each, from: map[netip.Addr]int{}}
}

type limited struct {
	net.Listener
	room   chan struct{}
	once   sync.Once
	closed chan struct{}
	each   int

	mu   sync.Mutex
	from map[netip.Addr]int // connections of an address
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.room
			return nil, err
		}
		from := addressOf(c)
		if l.enter(from) {
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = c.Close()
	}
}

// addressOf is where a connection comes from; the zero address for what has none.
func addressOf(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

func (l *limited) enter(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from.IsValid() && l.from[from] >= l.each {
		return false
	}
	l.from[from]++
	return true
}

func (l *limited) leave(from netip.Addr) {
	l.mu.Lock()
	if l.from[from]--; l.from[from] == 0 {
		delete(l.from, from)
	}
	l.mu.Unlock()
	<-l.room
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
