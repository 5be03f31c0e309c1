package portal

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a request's header, in bytes. What is larger than maxHeader is refused by the portal itself, with a problem document; it is read so far that
// a token of a megabyte gets one too, as large as Go's own default is. The crowd bounds how many connections can make use of that.
const (
	maxHeader  = 32 << 10
	readHeader = 1<<20 + 64<<10
)

// overlong says that a request's header is too large, nil when it is not. It lets go of the header then: the answer may have to wait for its reader.
func overlong(r *http.Request) *Problem {
	size, token := len(r.RequestURI), 0
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
			if name == "Authorization" {
				token = max(token, len(v))
			}
		}
	}
	if size <= maxHeader {
		return nil
	}
	clear(r.Header)
	r.RequestURI = ""
	if token > maxToken {
		return problem("token-too-large", fmt.Sprintf("The access token has more than %d bytes.", maxToken))
	}
	return problem("header-too-large", fmt.Sprintf("The header of the request has %d bytes, and %d are taken.", size, maxHeader))
}

// Bounds of open connections to one listener.
const (
	maxOpen        = 2048
	maxOpenAddress = 256 // of one address, unless it is a trusted proxy: those speak for many
)

// crowd is a listener that closes the connections of whoever has too many.
type crowd struct {
	net.Listener
	trusted []netip.Prefix

	once sync.Once
	err  error // of Close

	accepting atomic.Int32 // calls of Accept that have not returned

	mu   sync.Mutex
	last time.Time // that a connection came
	all  int
	from map[string]int
}

func newCrowd(l net.Listener, trusted []netip.Prefix) *crowd {
	return &crowd{Listener: l, trusted: trusted, from: map[string]int{}}
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	c.accepting.Add(1)
	defer c.accepting.Add(-1)
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		key := ""
		if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil && !isTrusted(at.Addr().Unmap(), c.trusted) {
			key = addressKey(at.Addr().Unmap().WithZone(""))
		}
		if c.enter(key) {
			return &member{Conn: conn, leave: sync.OnceFunc(func() { c.leave(key) })}, nil
		}
		conn.Close()
	}
}

// enter counts a connection in, unless there are too many. key is "" for those who speak for many.
func (c *crowd) enter(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= maxOpen || key != "" && c.from[key] >= maxOpenAddress {
		return false
	}
	c.all++
	c.last = time.Now()
	c.from[key]++
	return true
}

func (c *crowd) leave(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.from[key]--; c.from[key] <= 0 {
		delete(c.from, key)
	}
}

// freshTime is what a connection has to bring its first request before the end. http.Server.Shutdown drops every request that it has not read yet, and whoever
// connected just before a restart would see it.
const freshTime = 500 * time.Millisecond

// settle waits, once no more connections are accepted, until each has had its freshTime or is gone.
func (c *crowd) settle() {
	for {
		c.mu.Lock()
		done := c.accepting.Load() == 0 && (c.all == 0 || time.Since(c.last) > freshTime)
		c.mu.Unlock()
		if done {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Close implements net.Listener; it may be repeated.
func (c *crowd) Close() error {
	c.once.Do(func() { c.err = c.Listener.Close() })
	return c.err
}

// member is a connection that is counted.
type member struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (m *member) Close() error {
	m.leave()
	return m.Conn.Close()
}
