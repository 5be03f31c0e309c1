package backup

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Dials is how a process without network gets a connection: it says which address it wants, and whoever polls Wanted dials it and hands the
// connection in. What is said over the connection is its own business; the one who dials can refuse, or lead elsewhere, which TLS finds out.
type Dials struct {
	mu     sync.Mutex
	last   uint64
	wants  map[uint64]*want
	news   chan struct{} // closed and replaced when there is something to dial
	closed chan struct{}
}

// want is one connection that is wanted.
type want struct {
	id      uint64
	address string
	given   bool // somebody is dialling it
	again   time.Time
	unwatch func() bool // ends the watch over whoever that is
	got     chan result // room for one
}

type result struct {
	conn net.Conn
	err  error
}

// dialTime is how long whoever took a want has before it is offered to others.
const dialTime = 15 * time.Second

// NewDials returns a Dials that wants nothing.
func NewDials() *Dials {
	return &Dials{wants: map[uint64]*want{}, news: make(chan struct{}), closed: make(chan struct{})}
}

// Close ends every Dial and every Wanted.
func (d *Dials) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
}

// Dial waits for a connection to address (host:port, TCP). Unavailable: it was refused, or nobody is there to dial.
func (d *Dials) Dial(ctx context.Context, address string) (net.Conn, error) {
	d.mu.Lock()
	d.last++
	w := &want{id: d.last, address: address, got: make(chan result, 1)}
	d.wants[w.id] = w
	d.tell()
	d.mu.Unlock()
	defer d.forget(w)
	select {
	case r := <-w.got:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.closed:
		return nil, fault.New(fault.Unavailable, "the signer is stopping")
	}
}

// forget takes a want out; a connection that came in the same moment is closed.
func (d *Dials) forget(w *want) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.wants, w.id)
	if w.unwatch != nil {
		w.unwatch()
	}
	select {
	case r := <-w.got:
		if r.conn != nil {
			r.conn.Close()
		}
	default:
	}
}

// take gives w to a peer, as long as that is there: what a portal took that is being restarted, the next one gets at once. d.mu is held.
func (d *Dials) take(w *want, peer context.Context) {
	w.given, w.again = true, time.Now().Add(dialTime)
	if w.unwatch != nil {
		w.unwatch()
	}
	w.unwatch = context.AfterFunc(peer, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.wants[w.id] == w && len(w.got) == 0 {
			w.given = false
			d.tell()
		}
	})
}

// tell wakes up who waits for something to dial. d.mu is held.
func (d *Dials) tell() {
	close(d.news)
	d.news = make(chan struct{})
}

// Wanted waits until something is to be dialled and returns it; id 0 when ctx or peer ended before. Each want is returned to one caller at a time, and to
// another when peer, who this one is, has ended before it gave what became of it.
func (d *Dials) Wanted(ctx, peer context.Context) (id uint64, address string) {
	for {
		d.mu.Lock()
		now, soonest, news := time.Now(), dialTime, d.news
		for _, w := range d.wants {
			if peer.Err() == nil && (!w.given || !now.Before(w.again)) {
				d.take(w, peer)
				d.mu.Unlock()
				return w.id, w.address
			}
			soonest = min(soonest, w.again.Sub(now))
		}
		d.mu.Unlock()
		timer := time.NewTimer(soonest)
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		case <-peer.Done():
		case <-d.closed:
		}
		timer.Stop()
		select {
		case <-d.closed:
			return 0, ""
		default:
		}
		if ctx.Err() != nil || peer.Err() != nil {
			return 0, ""
		}
	}
}

// Give hands in what became of a want: a connection, which is closed when nobody waits for it any more, or why there is none.
func (d *Dials) Give(id uint64, conn net.Conn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.wants[id]
	if w == nil || len(w.got) > 0 {
		if conn != nil {
			conn.Close()
		}
		return
	}
	w.got <- result{conn, err}
}
