package portal

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
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

// TestDialsWhileEnding: a request that is in flight when the portal is told to stop waits for a signer that has just been started anew, and that one for its connection to the
// backup host. The portal makes it, and the request has its answer.
func TestDialsWhileEnding(t *testing.T) {
	backup, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backup.Close()
	p, d := newPortal(t, func(c *Config) {
		c.Dial = func(_ context.Context, address string) (net.Conn, error) { return net.Dial("tcp", address) }
	})
	d.certify(p.cfg.Hosts, time.Hour)
	asked, ending, connected, answered := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	d.do[wire.OpTSA] = func(any, *os.File) (any, *os.File, error) {
		close(asked)
		<-connected
		return wire.DER{DER: []byte{0x30, 0}}, nil, nil
	}
	var once sync.Once
	d.do[wire.OpWanted] = func(any, *os.File) (w any, _ *os.File, _ error) {
		<-ending
		w = wire.Wanted{}
		once.Do(func() { w = wire.Wanted{ID: 1, Address: backup.Addr().String()} })
		if w == (wire.Wanted{}) {
			<-answered
		}
		return w, nil, nil
	}
	d.do[wire.OpDialled] = func(_ any, fd *os.File) (any, *os.File, error) {
		if fd != nil {
			close(connected)
		}
		return wire.Nothing{}, nil, nil
	}
	l, stop := serve(t, p)
	got := make(chan error, 1)
	client := clientOf(t, d.root)
	go func() {
		answer, err := client.Post("https://"+l.HTTPS.Addr().String()+"/tsa", "application/timestamp-query", strings.NewReader("x"))
		if err == nil {
			answer.Body.Close()
		}
		got <- err
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	time.AfterFunc(200*time.Millisecond, func() { close(ending) }) // the portal's listeners are closed by then, or soon
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the portal that is ending makes no connection for the signer")
		close(connected)
	}
	close(answered)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestDialsForARestartedSigner: a signer that ends, as one that is restarted does, is asked again almost at once; one that stays away once in a second.
func TestDialsForARestartedSigner(t *testing.T) {
	p, d := newPortal(t, nil)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var asked []time.Duration
		d.do[wire.OpWanted] = func(any, *os.File) (any, *os.File, error) {
			if asked = append(asked, time.Since(began)); len(asked) == 12 {
				cancel()
			}
			return nil, nil, fault.New(fault.Unavailable, "the signer is gone")
		}
		p.dialFor(ctx)
		if len(asked) != 12 || asked[3] > 200*time.Millisecond {
			t.Errorf("asked after %v", asked)
		}
		if asked[11]-asked[10] != time.Second {
			t.Errorf("a signer that stays away is asked after %v", asked)
		}
	})
}
