package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

func TestBudget(t *testing.T) {
	b := wire.NewBudget(100)
	var held, most atomic.Int64
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			n := int64(i%40 + 1)
			giveBack, err := b.Take(t.Context(), n)
			if err != nil {
				t.Error(err)
				return
			}
			if now := held.Add(n); now > most.Load() {
				most.Store(now)
			}
			time.Sleep(time.Millisecond)
			held.Add(-n)
			giveBack()
		})
	}
	wg.Wait()
	if most.Load() > 100 || most.Load() < 40 {
		t.Errorf("%d were held at once", most.Load())
	}
	all, err := b.Take(t.Context(), 1<<40) // more than there is: all of it
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nothing left: %v", err)
	}
	all()
	if giveBack, err := b.Take(t.Context(), -1); err != nil {
		t.Error(err)
	} else {
		giveBack()
	}
}

// TestRequestsInFlightAreBounded: a peer that sends large requests, on as many connections as it likes, waits for room; small ones go on after that.
func TestRequestsInFlightAreBounded(t *testing.T) {
	var inside atomic.Int32
	goOn := make(chan struct{})
	var left atomic.Int32
	path, _ := serve(t, map[wire.Op]wire.Handler{wire.OpTSA: func(ctx context.Context, in json.RawMessage, _ *os.File) (any, *os.File, error) {
		wire.After(ctx, func() { left.Add(1) })
		inside.Add(1)
		<-goOn
		return wire.Nothing{}, nil, nil
	}})
	const callers = 12
	done := make(chan error, callers)
	for range callers {
		c := dial(t, path)
		go func() {
			_, err := c.Call(context.Background(), wire.OpTSA, wire.DER{DER: make([]byte, 3_000_000)}, nil, nil)
			done <- err
		}()
	}
	// 64 MiB hold five requests of 4 MB, three times over.
	for deadline := time.Now().Add(10 * time.Second); inside.Load() < 5 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
	}
	time.Sleep(200 * time.Millisecond)
	if n := inside.Load(); n != 5 {
		t.Errorf("%d large requests are dealt with at once", n)
	}
	close(goOn)
	for range callers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); left.Load() < callers && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
	}
	if left.Load() != callers {
		t.Errorf("after %d of %d answers that was done which was to be", left.Load(), callers)
	}
	ran := false
	wire.After(t.Context(), func() { ran = true })
	if !ran {
		t.Error("outside an operation it is not run")
	}
}
