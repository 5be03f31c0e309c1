package wire_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

// raw connects without a Client.
func raw(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// answerTo returns what comes back, "" when the connection is closed.
func answerTo(t testing.TB, c *net.UnixConn) string {
	t.Helper()
	var length [4]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return ""
	}
	body := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestWhatIsNoMessageEndsTheConnection is the rejection table of the framing; the server stays.
func TestWhatIsNoMessageEndsTheConnection(t *testing.T) {
	path, _ := serve(t, map[wire.Op]wire.Handler{wire.OpTSA: wire.Handle(echo)})
	good := `{"id":1,"op":"tsa"}` + "\n" + `{"der":"AA=="}`
	for what, bytes := range map[string][]byte{
		"no length":              {0, 0},
		"a length of nothing":    frame(""),
		"a length of 4 GiB":      {0xff, 0xff, 0xff, 0xff},
		"a byte over the limit":  binary.BigEndian.AppendUint32(nil, wire.MaxMessage+1),
		"less than was promised": frame(good)[:20],
		"no JSON":                frame("hello"),
		"an array":               frame("[]"),
		"an unknown member":      frame(`{"id":1,"op":"tsa","evil":1}`),
		"two heads":              frame(`{"id":1,"op":"tsa"}{"id":2,"op":"tsa"}`),
		"something after a head": frame(`{"id":1,"op":"tsa"}x` + "\n{}"),
		"a body in the head":     frame(`{"id":1,"op":"tsa","body":{"der":"AA=="}}`),
		"a head of two lines":    frame("{\n" + `"id":1,"op":"tsa"}`),
		"no head":                frame("\n" + `{"der":"AA=="}`),
		"a line and no body":     frame(`{"id":1,"op":"tsa"}` + "\n"),
		"a negative id":          frame(`{"id":-1,"op":"tsa"}`),
		"an op that is no text":  frame(`{"id":1,"op":7}`),
		"a head cut off":         frame(`{"id":1,"op":"tsa"`),
		"binary":                 frame("\x00\x01\x02\xff"),
	} {
		c := raw(t, path)
		if _, err := c.Write(bytes); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		if got := answerTo(t, c); got != "" {
			t.Errorf("%s: answered %s", what, got)
		}
	}
	c := raw(t, path)
	if _, err := c.Write(append(frame(good), frame(`{"id":2,"op":"nothing"}`)...)); err != nil {
		t.Fatal(err)
	}
	both := answerTo(t, c) + answerTo(t, c)
	if !strings.Contains(both, `{"id":1}`+"\n"+`{"der":"AA=="}`) || !strings.Contains(both, `"id":2,"error":{"kind":"forbidden"`) {
		t.Errorf("two good ones: %s", both)
	}
}

func TestBodiesAreTakenStrictly(t *testing.T) {
	path, _ := serve(t, map[wire.Op]wire.Handler{wire.OpTSA: wire.Handle(echo)})
	for _, body := range []string{`{"der":1}`, `{"der":"AA==","more":1}`, `[]`, `"x"`, `{"der":"%"}`, `{"der":"AA=="`, `{"der":"AA=="}{"der":"AA=="}`, `{"der":"AA=="}x`, "{}\n{}", "\x00"} {
		c := raw(t, path)
		if _, err := c.Write(frame(`{"id":1,"op":"tsa"}` + "\n" + body)); err != nil {
			t.Fatal(err)
		}
		if got := answerTo(t, c); !strings.Contains(got, `"kind":"invalid"`) {
			t.Errorf("%s: %s", body, got)
		}
	}
}

// TestDescriptorsThatDoNotBelong: more than one, in pieces of a message, or with nothing.
func TestDescriptorsThatDoNotBelong(t *testing.T) {
	path, _ := serve(t, map[wire.Op]wire.Handler{wire.OpTSA: wire.Handle(echo)})
	doc, err := wire.Memfd("doc", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	defer doc.Close()
	fd := int(doc.Fd())
	message := frame(`{"id":1,"op":"tsa"}` + "\n" + `{"der":"AA=="}`)
	send := func(c *net.UnixConn, b []byte, fds ...int) {
		t.Helper()
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		if _, _, err := c.WriteMsgUnix(b, oob, nil); err != nil {
			t.Fatal(err)
		}
	}
	before := descriptors(t)
	for what, c := range map[string]struct {
		send func(*net.UnixConn)
		ok   bool
	}{
		"one with the first byte": {func(c *net.UnixConn) { send(c, message, fd) }, true},
		"one within the length": {func(c *net.UnixConn) {
			send(c, message[:2])
			time.Sleep(20 * time.Millisecond)
			send(c, message[2:], fd)
		}, true},
		"one within the body":        {func(c *net.UnixConn) { send(c, message[:10]); send(c, message[10:], fd) }, true}, // closed by the kernel, unseen
		"two at once":                {func(c *net.UnixConn) { send(c, message, fd, fd) }, false},
		"two within one length":      {func(c *net.UnixConn) { send(c, message[:1], fd); send(c, message[1:], fd) }, false},
		"as many as the kernel lets": {func(c *net.UnixConn) { send(c, message, many(fd)...) }, false},
		"one before the end":         {func(c *net.UnixConn) { send(c, message[:1], fd); c.CloseWrite() }, false},
	} {
		conn := raw(t, path)
		c.send(conn)
		if got := answerTo(t, conn); (got != "") != c.ok {
			t.Errorf("%s: %q", what, got)
		}
		conn.Close()
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now := descriptors(t)
		if now <= before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors were left open", now-before)
		}
	}
}

func many(fd int) []int {
	list := make([]int, 200)
	for i := range list {
		list[i] = fd
	}
	return list
}

// descriptors returns how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestStoppingFinishesWhatIsInFlight(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	path, stop := serve(t, map[wire.Op]wire.Handler{wire.OpTSA: func(context.Context, json.RawMessage, *os.File) (any, *os.File, error) {
		close(started)
		<-goOn
		return wire.DER{DER: []byte("done")}, nil, nil
	}})
	c := dial(t, path)
	result := make(chan error, 1)
	var out wire.DER
	go func() {
		_, err := c.Call(t.Context(), wire.OpTSA, wire.DER{}, &out, nil)
		result <- err
	}()
	<-started
	go stop()
	time.Sleep(50 * time.Millisecond)
	if _, err := wire.Dial(t.Context(), path); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a new connection while stopping: %v", err)
	}
	close(goOn)
	if err := <-result; err != nil || string(out.DER) != "done" {
		t.Errorf("%s, %v", out.DER, err)
	}
}

func TestClientConnectsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := wire.New(path)
	for round := range 3 {
		if _, err := c.Call(t.Context(), wire.OpTSA, wire.DER{}, nil, nil); fault.CodeOf(err) != "signer-unreachable" {
			t.Errorf("%d: without a server: %v", round, err)
		}
		l, err := wire.Listen(wire.Socket{Path: path, Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- wire.Serve(ctx, l, map[wire.Op]wire.Handler{wire.OpTSA: wire.Handle(echo)}, nil) }()
		if _, err := c.Call(t.Context(), wire.OpTSA, wire.DER{DER: []byte("x")}, nil, nil); err != nil {
			t.Errorf("%d: %v", round, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Call(t.Context(), wire.OpTSA, wire.DER{}, nil, nil); fault.CodeOf(err) != "signer-unreachable" {
		t.Errorf("the server is gone: %v", err)
	}
	if err := c.Close(); err != nil { // a portal that is stopped after the signer has not failed
		t.Errorf("closing after the server: %v", err)
	}
}

func TestLargeMessagesAreRefusedBeforeTheyLeave(t *testing.T) {
	path, _ := serve(t, map[wire.Op]wire.Handler{
		wire.OpTSA: wire.Handle(echo),
		wire.OpOCSP: func(context.Context, json.RawMessage, *os.File) (any, *os.File, error) {
			return wire.DER{DER: make([]byte, 4<<20)}, nil, nil
		},
	})
	c := dial(t, path)
	_, err := c.Call(t.Context(), wire.OpTSA, wire.DER{DER: make([]byte, 4<<20)}, nil, nil)
	if fault.KindOf(err) != fault.TooLarge {
		t.Errorf("request: %v", err)
	}
	if _, err := c.Call(t.Context(), wire.OpOCSP, wire.DER{}, nil, nil); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("answer: %v", err)
	}
	var out wire.DER
	if _, err := c.Call(t.Context(), wire.OpTSA, wire.DER{DER: make([]byte, 3_000_000)}, &out, nil); err != nil || len(out.DER) != 3_000_000 {
		t.Errorf("what just fits: %d, %v", len(out.DER), err)
	}
}

func TestSocketIsForItsGroupOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	own, err := user.LookupGroupId(strconv.Itoa(os.Getgid())) // any other takes root
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second replaces what the first left
		l, err := wire.Listen(wire.Socket{Path: path, Mode: 0o660, Group: own.Name})
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Mode&0o7777 != 0o660 || int(st.Gid) != os.Getgid() {
			t.Errorf("mode %o, group %d, %v", st.Mode, st.Gid, err)
		}
		if _, err := wire.Dial(t.Context(), path); err != nil {
			t.Error(err)
		}
		l.Close()
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		s    wire.Socket
		kind fault.Kind
	}{
		"a file in its place": {wire.Socket{Path: file, Mode: 0o600}, fault.Unavailable},
		"no folder":           {wire.Socket{Path: filepath.Join(dir, "none", "s"), Mode: 0o600}, fault.Unavailable},
		"open to all":         {wire.Socket{Path: path, Mode: 0o666}, fault.Invalid},
		"no such group":       {wire.Socket{Path: path, Mode: 0o660, Group: "no-such-group"}, fault.Invalid},
	} {
		if _, err := wire.Listen(c.s); fault.KindOf(err) != c.kind || err == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Error("a file was replaced by a socket")
	}
}

// TestLongPath: the folder may be anywhere, although a socket's address holds 107 bytes.
func TestLongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 200), "s")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := wire.Listen(wire.Socket{Path: path, Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- wire.Serve(ctx, l, map[wire.Op]wire.Handler{wire.OpTSA: wire.Handle(echo)}, nil) }()
	var out wire.DER
	if _, err := dial(t, path).Call(ctx, wire.OpTSA, wire.DER{DER: []byte("x")}, &out, nil); err != nil || string(out.DER) != "x" {
		t.Errorf("%q, %v", out.DER, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzServe feeds a server what a hostile peer may write: it must go on answering others.
func FuzzServe(f *testing.F) {
	for _, seed := range []string{`{"id":1,"op":"tsa"}` + "\n" + `{"der":"AA=="}`, `{"id":1,"op":"tsa","timeout_ms":-9223372036854775808}`, `{}`, `{"id":18446744073709551615,"op":""}`} {
		f.Add(frame(seed))
		f.Add(append(frame(seed), frame(seed)...))
	}
	f.Add([]byte{0, 0, 0, 5, '{'})
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := wire.Listen(wire.Socket{Path: path, Mode: 0o600})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- wire.Serve(ctx, l, map[wire.Op]wire.Handler{wire.OpTSA: wire.Handle(echo)}, nil) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
		os.RemoveAll(dir)
	})
	c := wire.New(path)
	f.Cleanup(func() { c.Close() })
	f.Fuzz(func(t *testing.T, data []byte) {
		hostile, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer hostile.Close()
		hostile.Write(data) // it may be cut off meanwhile
		hostile.CloseWrite()
		hostile.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, hostile); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("the connection was neither answered nor ended: %v", err)
		}
		var out wire.DER
		if _, err := c.Call(t.Context(), wire.OpTSA, wire.DER{DER: []byte("x")}, &out, nil); err != nil || string(out.DER) != "x" {
			t.Fatalf("another peer: %v", err)
		}
	})
}
