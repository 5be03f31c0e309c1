package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// serve answers on a new socket until the test ends, and returns its path and what ends it early.
func serve(t *testing.T, table map[wire.Op]wire.Handler) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- wire.Serve(ctx, l, table, nil) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return path, stop
}

func dial(t *testing.T, path string) *wire.Client {
	t.Helper()
	c, err := wire.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echo answers with what came, document and all.
func echo(_ context.Context, in wire.DER, fd *os.File) (wire.DER, *os.File, error) {
	if fd == nil {
		return in, nil, nil
	}
	doc, err := wire.ReadDocument(fd, 1<<20)
	if err != nil {
		return in, nil, err
	}
	out, err := wire.Memfd("answer", bytes.ToUpper(doc))
	return in, out, err
}

func TestManyCallsAtOnceWithDocuments(t *testing.T) {
	path, _ := serve(t, map[wire.Op]wire.Handler{wire.OpTSA: wire.Handle(echo)})
	c := dial(t, path)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			text := fmt.Sprintf("document %d", i)
			f, err := wire.Memfd("doc", []byte(text))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			var out wire.DER
			back, err := c.Call(t.Context(), wire.OpTSA, wire.DER{DER: []byte(text)}, &out, f)
			if err != nil {
				t.Error(err)
				return
			}
			defer back.Close()
			doc, err := wire.ReadDocument(back, 100)
			if err != nil || string(doc) != fmt.Sprintf("DOCUMENT %d", i) || string(out.DER) != text {
				t.Errorf("%d: got %q with %q, %v", i, out.DER, doc, err)
			}
		})
	}
	wg.Wait()
}

func TestErrorsCrossWithoutTheirCause(t *testing.T) {
	secret := errors.New("pin 1234")
	path, _ := serve(t, map[wire.Op]wire.Handler{
		wire.OpSign: func(context.Context, json.RawMessage, *os.File) (any, *os.File, error) {
			return nil, nil, fault.New(fault.Forbidden, "no").WithHint("ask").WithCode("sub-mismatch").WithCause(secret)
		},
		wire.OpStamp: func(context.Context, json.RawMessage, *os.File) (any, *os.File, error) { return nil, nil, secret },
		wire.OpAuthenticate: func(context.Context, json.RawMessage, *os.File) (any, *os.File, error) {
			return nil, nil, fmt.Errorf("authenticating: %w", &wire.NeedDial{Issuer: "https://a/realms/x", Address: "a:443"})
		},
	})
	c := dial(t, path)
	_, err := c.Call(t.Context(), wire.OpSign, wire.SignDigest{}, nil, nil)
	if fault.KindOf(err) != fault.Forbidden || fault.PublicOf(err) != "no" || fault.HintOf(err) != "ask" || fault.CodeOf(err) != "sub-mismatch" || err.Error() != "no" {
		t.Errorf("got %#v", err)
	}
	_, err = c.Call(t.Context(), wire.OpStamp, wire.SignDigest{}, nil, nil)
	if fault.KindOf(err) != fault.Internal || err.Error() != "internal error" {
		t.Errorf("got %#v", err)
	}
	_, err = c.Call(t.Context(), wire.OpAuthenticate, wire.AuthRequest{}, nil, nil)
	var need *wire.NeedDial
	if !errors.As(err, &need) || *need != (wire.NeedDial{Issuer: "https://a/realms/x", Address: "a:443"}) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %#v", err)
	}
	_, err = c.Call(t.Context(), wire.OpReload, wire.Nothing{}, nil, nil)
	if fault.KindOf(err) != fault.Forbidden {
		t.Errorf("an operation that is not in the table: %v", err)
	}
	_, err = c.Call(t.Context(), wire.OpSign, struct{ More int }{1}, nil, nil)
	if fault.KindOf(err) != fault.Forbidden { // this handler reads no body
		t.Errorf("got %v", err)
	}
}

func TestCallEndsWithItsContextAndTheHandlersToo(t *testing.T) {
	ended := make(chan struct{})
	path, _ := serve(t, map[wire.Op]wire.Handler{wire.OpTSA: func(ctx context.Context, _ json.RawMessage, _ *os.File) (any, *os.File, error) {
		<-ctx.Done()
		close(ended)
		return nil, nil, ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dial(t, path).Call(ctx, wire.OpTSA, wire.DER{}, nil, nil); !errors.Is(err, context.DeadlineExceeded) && fault.CodeOf(err) != "timeout" {
		t.Errorf("got %v", err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the handler still waits")
	}
}

// TestAnswersOutliveRefusedCalls: a server that stops takes no more calls, and answers those that it took. A call that it did not take goes to the next one, once, and fails alone when
// that takes none either.
func TestAnswersOutliveRefusedCalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, path)
	server, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	taken := make(chan error, 1)
	go func() {
		_, err := c.Call(context.Background(), wire.OpStatus, wire.Nothing{}, nil, nil)
		taken <- err
	}()
	if _, err := server.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	if err := server.CloseRead(); err != nil {
		t.Fatal(err)
	}
	answer := `{"id":1}` + "\n{}"
	say := func(to *net.UnixConn) error {
		_, err := to.Write(append([]byte{0, 0, 0, byte(len(answer))}, answer...))
		return err
	}
	next := make(chan error, 1)
	go func() {
		second, err := l.AcceptUnix()
		if err != nil {
			next <- err
			return
		}
		_, err = second.Read(make([]byte, 4096))
		next <- errors.Join(err, say(second), second.CloseRead(), l.Close())
	}()
	if _, err := c.Call(t.Context(), wire.OpStatus, wire.Nothing{}, nil, nil); err != nil {
		t.Errorf("a call that was not taken, and is by the next: %v", err)
	}
	if err := <-next; err != nil {
		t.Error(err)
	}
	if _, err := c.Call(t.Context(), wire.OpStatus, wire.Nothing{}, nil, nil); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a call that nobody takes: %v", err)
	}
	if err := say(server); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Errorf("a call that was taken and answered: %v", err)
	}
}

// TestPeer: who has hung up still gets its answers, and whoever works for it can see that nothing more comes from there.
func TestPeer(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	path, _ := serve(t, map[wire.Op]wire.Handler{wire.OpWanted: wire.Handle(func(ctx context.Context, _ wire.Nothing, _ *os.File) (wire.Nothing, *os.File, error) {
		close(began)
		select {
		case <-wire.Peer(ctx).Done():
			ended <- nil
		case <-time.After(10 * time.Second):
			ended <- errors.New("the peer is gone, and nobody knows")
		}
		return wire.Nothing{}, nil, nil
	})})
	c := dial(t, path)
	go c.Call(t.Context(), wire.OpWanted, wire.Nothing{}, nil, nil)
	<-began
	c.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if ctx := t.Context(); wire.Peer(ctx) != ctx {
		t.Error("what came over no connection has another peer than itself")
	}
}
