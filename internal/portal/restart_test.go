package portal

import (
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// held is a listening socket that somebody keeps open, as systemd does: each portal gets a duplicate.
type held struct{ file *os.File }

func hold(t *testing.T) held {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { f.Close() })
	return held{f}
}

func (h held) listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.FileListener(h.file)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestRestartLosesNoConnection: while one portal ends and the next begins on the same socket, no request fails, however close to the end it was made.
func TestRestartLosesNoConnection(t *testing.T) {
	p, d := newPortal(t, nil)
	https, plain, metrics := hold(t), hold(t), hold(t)
	client := clientOf(t, d.root)
	transport := client.Transport.(*http.Transport)
	transport.DisableKeepAlives, transport.ForceAttemptHTTP2 = true, false
	d.certify(p.cfg.Hosts, time.Hour)
	begin := func() func() error {
		return serveOn(t, p, Listeners{HTTPS: https.listener(t), HTTP: plain.listener(t), Metrics: metrics.listener(t)})
	}
	stop := begin()
	at := https.listener(t)
	at.Close()
	address := at.Addr().String()
	var over atomic.Bool
	ended := make(chan int)
	for range 4 {
		go func() {
			asked := 0
			for ; !over.Load(); asked++ {
				r, err := client.Get("https://" + address + "/healthz")
				if err != nil {
					t.Errorf("request %d: %v", asked, err)
					break
				}
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
			ended <- asked
		}()
	}
	for range 10 {
		if err := stop(); err != nil {
			t.Error(err)
		}
		next, err := New(p.cfg)
		if err != nil {
			t.Fatal(err)
		}
		p, stop = next, func() error { return nil }
		stop = begin()
	}
	over.Store(true)
	for range 4 {
		<-ended
	}
}
