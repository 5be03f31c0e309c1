package backup

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

func TestDialGetsWhatWasHandedIn(t *testing.T) {
	d := NewDials()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		id, address := d.Wanted(t.Context(), t.Context())
		if address != "backup:7443" {
			t.Errorf("address %q", address)
		}
		d.Give(id, ours, nil)
		d.Give(id, nil, errors.New("too late")) // the first counts
	}()
	conn, err := d.Dial(t.Context(), "backup:7443")
	if err != nil || conn != ours {
		t.Errorf("%v, %v", conn, err)
	}
}

func TestDialFails(t *testing.T) {
	d := NewDials()
	refused := errors.New("connection refused")
	go func() {
		id, _ := d.Wanted(t.Context(), t.Context())
		d.Give(id, nil, refused)
	}()
	if _, err := d.Dial(t.Context(), "backup:7443"); !errors.Is(err, refused) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx, "backup:7443"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.Close()
	d.Close()
	if _, err := d.Dial(t.Context(), "backup:7443"); fault.KindOf(err) != fault.Unavailable {
		t.Error(err)
	}
	if id, _ := d.Wanted(t.Context(), t.Context()); id != 0 {
		t.Error("something is wanted after Close")
	}
}

// TestWantIsOfferedAgain: a portal that took a want and died does not keep the signer from its connection.
func TestWantIsOfferedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDials()
		go d.Dial(t.Context(), "backup:7443")
		first, _ := d.Wanted(t.Context(), t.Context())
		short, cancel := context.WithTimeout(t.Context(), dialTime-time.Second)
		defer cancel()
		if id, _ := d.Wanted(short, short); id != 0 {
			t.Error("two dial at once")
		}
		second, _ := d.Wanted(t.Context(), t.Context())
		if first == 0 || first != second {
			t.Errorf("%d, then %d", first, second)
		}
		d.Close()
		synctest.Wait()
	})
}

// TestWantOfAPortalThatEnded: what a portal took that is being restarted is the next one's at once, and the one that has ended takes nothing more.
func TestWantOfAPortalThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDials()
		defer d.Close()
		go d.Dial(t.Context(), "backup:7443")
		old, restart := context.WithCancel(t.Context())
		first, _ := d.Wanted(t.Context(), old)
		began := time.Now()
		time.AfterFunc(time.Second, restart)
		second, _ := d.Wanted(t.Context(), t.Context())
		if first == 0 || second != first || time.Since(began) > 2*time.Second {
			t.Errorf("%d, then %d after %v", first, second, time.Since(began))
		}
		go d.Dial(t.Context(), "witness:443")
		synctest.Wait()
		if id, _ := d.Wanted(t.Context(), old); id != 0 {
			t.Errorf("a portal that has ended was given %d", id)
		}
	})
}

// TestLateConnectionIsClosed: nothing leaks when nobody waits any more.
func TestLateConnectionIsClosed(t *testing.T) {
	d := NewDials()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Dial(ctx, "backup:7443") }()
	id, _ := d.Wanted(t.Context(), t.Context())
	cancel()
	<-ended
	ours, theirs := net.Pipe()
	d.Give(id, ours, nil)
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
}
