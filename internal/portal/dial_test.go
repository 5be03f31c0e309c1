package portal

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// A host that does not answer, a witness of the log say, does not keep the signer from another, the backup.
func TestDialsForTheSignerAtOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p, d := newPortal(t, func(c *Config) {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if address == "silent.example:443" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return net.Dial("tcp", address)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	wants := []wire.Wanted{{ID: 1, Address: "silent.example:443"}, {ID: 2, Address: "silent.example:443"}, {ID: 3, Address: listener.Addr().String()}}
	given := make(chan uint64, len(wants))
	d.do[wire.OpWanted] = func(any, *os.File) (any, *os.File, error) {
		mu.Lock()
		if len(wants) > 0 {
			defer mu.Unlock()
			w := wants[0]
			wants = wants[1:]
			return w, nil, nil
		}
		mu.Unlock()
		<-ctx.Done()
		return wire.Wanted{}, nil, nil
	}
	d.do[wire.OpDialled] = func(in any, fd *os.File) (any, *os.File, error) {
		if fd != nil {
			given <- in.(wire.Dialled).ID
		}
		return wire.Nothing{}, nil, nil
	}
	var running sync.WaitGroup
	defer running.Wait()
	for range dialers {
		running.Go(func() { p.dialFor(ctx) })
	}
	select {
	case id := <-given:
		if id != 3 {
			t.Errorf("connected for %d", id)
		}
	case <-time.After(dialTime / 2):
		t.Error("the host that answers waits for those that do not")
	}
	cancel()
}
