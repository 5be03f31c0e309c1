package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// lineNaming returns a log of one line that names an object, and its signed checkpoint.
func lineNaming(t testing.TB, details string) (line, signed []byte) {
	t.Helper()
	line, _, err := chain.AppendLine(nil, chain.Hash{}, chain.Entry{Time: time.Unix(1e9, 0), EventType: "x", Actor: "a", Details: []byte(details)})
	if err != nil {
		t.Fatal(err)
	}
	var f chain.Frontier
	f.Append(chain.LeafHash(line))
	return append(line, '\n'), signTree(t, testOrigin, f.Tree())
}

func signTree(t testing.TB, origin string, tree chain.Tree) []byte {
	t.Helper()
	signed, err := chain.Checkpoint{Origin: origin, Tree: tree}.Sign(keyOf("log " + testOrigin))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// raw sends a request and returns status and body.
func raw(t testing.TB, c *Client, method, path string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://receiver"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestProtocolRefuses is the table of what a receiver does not take from a client that it knows.
func TestProtocolRefuses(t *testing.T) {
	b := startBackup(t, backupOptions{dir: t.TempDir()})
	c := b.client("client "+testOrigin, testOrigin)
	content := []byte("an object's file")
	sum := sha256.Sum256(content)
	id := hex.EncodeToString(sum[:])
	line, signed := lineNaming(t, `{"deep":[{"some_object":"`+id+`"}]}`)
	good := Append{Old: 0, Lines: line, Checkpoint: signed}
	var empty chain.Frontier
	log := "/v1/logs/" + LogID(testOrigin)
	change := func(do func(*Append)) []byte {
		a := Append{good.Old, bytes.Clone(good.Lines), bytes.Clone(good.Checkpoint)}
		do(&a)
		return a.Marshal()
	}
	for name, row := range map[string]struct {
		method, path string
		body         []byte
		status       int
		says         string
	}{
		"an object that is missing":     {"POST", log + "/append", good.Marshal(), 424, id},
		"another old size":              {"POST", log + "/append", change(func(a *Append) { a.Old = 1 }), 409, "0\n"},
		"an old size beyond the new":    {"POST", log + "/append", change(func(a *Append) { a.Old = 2 }), 400, "checkpoint of 1 lines after 2"},
		"a checkpoint of another log":   {"POST", log + "/append", change(func(a *Append) { a.Checkpoint = signTree(t, "other", chain.Tree{Size: 1}) }), 422, "signature"},
		"a signature that is none":      {"POST", log + "/append", change(func(a *Append) { a.Checkpoint[len(a.Checkpoint)-4] ^= 1 }), 422, "signature"},
		"another root":                  {"POST", log + "/append", change(func(a *Append) { a.Checkpoint = signTree(t, testOrigin, chain.Tree{Size: 1}) }), 422, "root"},
		"another size":                  {"POST", log + "/append", change(func(a *Append) { a.Checkpoint = signTree(t, testOrigin, chain.Tree{Size: 2}) }), 422, "root"},
		"an empty tree's other root":    {"POST", log + "/append", change(func(a *Append) { a.Checkpoint = signTree(t, testOrigin, chain.Tree{}) }), 422, "fork"},
		"fewer lines":                   {"POST", log + "/append", change(func(a *Append) { a.Lines = nil }), 422, "root"},
		"a changed line":                {"POST", log + "/append", change(func(a *Append) { a.Lines[200] ^= 1 }), 422, "lines"},
		"no lines":                      {"POST", log + "/append", change(func(a *Append) { a.Lines = []byte("\n") }), 422, "lines"},
		"a line twice":                  {"POST", log + "/append", change(func(a *Append) { a.Lines = append(a.Lines, a.Lines...) }), 422, "lines"},
		"a line that follows another":   {"POST", log + "/append", change(func(a *Append) { a.Lines[20] = '1' }), 422, "lines"},
		"no frame":                      {"POST", log + "/append", []byte("x"), 400, "not an append"},
		"too much":                      {"POST", log + "/append", make([]byte, MaxAppend+1), 413, ""},
		"nothing":                       {"POST", log + "/append", nil, 400, ""},
		"an object with other bytes":    {"PUT", log + "/objects/" + id, []byte("others"), 400, "another SHA-256"},
		"an object without a name":      {"PUT", log + "/objects/" + strings.ToUpper(id), content, 400, "64 lower-case hex digits"},
		"an object's name as a path":    {"PUT", log + "/objects/..%2f..%2fstate", content, 400, "64 lower-case hex digits"},
		"an object that is not there":   {"GET", log + "/objects/" + id, nil, 404, "missing"},
		"lines that are not there":      {"GET", log + "/lines?from=0&to=1", nil, 404, "0 lines"},
		"lines backwards":               {"GET", log + "/lines?from=1&to=0", nil, 400, ""},
		"lines without numbers":         {"GET", log + "/lines", nil, 400, ""},
		"a list that is none":           {"POST", log + "/missing", []byte("x\n"), 400, ""},
		"a list without an end":         {"POST", log + "/missing", []byte(id), 400, ""},
		"too long a list":               {"POST", log + "/missing", bytes.Repeat([]byte(id+"\n"), maxAsked+1), 413, ""},
		"a comparison that is none":     {"POST", log + "/compare", []byte("x"), 422, "signature"},
		"a comparison that is too long": {"POST", log + "/compare", make([]byte, MaxCheckpoint+1), 413, ""},
		"another log":                   {"POST", "/v1/logs/" + LogID("other") + "/append", good.Marshal(), 404, ""},
		"no such path":                  {"POST", log + "/truncate", nil, 404, ""},
		"another method":                {"DELETE", log + "/objects/" + id, nil, 405, ""},
		"a file over another":           {"PUT", log + "/lines", content, 405, ""},
		"a code that nobody gave out":   {"POST", "/v1/redeem", []byte("{}"), 403, "no code"},
	} {
		if status, body := raw(t, c, row.method, row.path, row.body); status != row.status || !strings.Contains(body, row.says) {
			t.Errorf("%s: %d %q", name, status, body)
		}
	}
	if st := b.rcv.Status()[0]; st.Size != 0 || st.Checkpoint != nil {
		t.Fatalf("something of it was taken: %+v", st)
	}
	// What was refused does no harm to what follows.
	if status, body := raw(t, c, "PUT", log+"/objects/"+id, content); status != 204 {
		t.Fatal(status, body)
	}
	if status, body := raw(t, c, "PUT", log+"/objects/"+id, []byte("others")); status != 204 {
		t.Errorf("an object that is there already: %d %s", status, body)
	}
	if got := readObject(t, c, id); !bytes.Equal(got, content) {
		t.Errorf("the object was changed: %q", got)
	}
	if status, body := raw(t, c, "POST", log+"/append", good.Marshal()); status != 200 {
		t.Fatal(status, body)
	}
	// The same request again, as a network may bring it: what it says is true, and older than what is held.
	if status, body := raw(t, c, "POST", log+"/append", good.Marshal()); status != 409 || body != "1\n" {
		t.Errorf("a repeated append: %d %q", status, body)
	}
	// An empty log's checkpoint is true of every log: a rollback only if the primary says that this is what it has.
	a := Append{Checkpoint: signTree(t, testOrigin, empty.Tree())}
	if status, body := raw(t, c, "POST", log+"/append", a.Marshal()); status != 409 || body != "1\n" {
		t.Errorf("an older heartbeat: %d %q", status, body)
	}
}

// TestSuperseded: once a newer connection of the primary has spoken, what arrives on an older one does not count: it may be old.
func TestSuperseded(t *testing.T) {
	b := startBackup(t, backupOptions{dir: t.TempDir()})
	first := b.client("client "+testOrigin, testOrigin)
	line, signed := lineNaming(t, `{}`)
	var empty chain.Frontier
	if _, err := first.compare(t.Context(), signTree(t, testOrigin, empty.Tree())); err != nil {
		t.Fatal(err)
	}
	second := b.client("client "+testOrigin, testOrigin)
	keys := []chain.WitnessKey{b.rcv.Key()}
	if _, _, err := second.append(t.Context(), Append{Lines: line, Checkpoint: signed}, keys); err != nil {
		t.Fatal(err)
	}
	if _, err := first.compare(t.Context(), signTree(t, testOrigin, empty.Tree())); !errors.Is(err, errSuperseded) {
		t.Errorf("an old comparison on the old connection: %v", err)
	}
	if _, _, err := first.append(t.Context(), Append{Lines: line, Checkpoint: signed}, keys); !errors.Is(err, errSuperseded) {
		t.Errorf("an append on the old connection: %v", err)
	}
	if got := b.refusals(); len(got) > 0 {
		t.Errorf("alarms: %v", got)
	}
}

// TestStrangers: who has not a key that is expected does not get through the handshake, on either side; who may only read, or has another log, can
// do no more than that.
func TestStrangers(t *testing.T) {
	reader := peerOf(t, testOrigin)
	reader.Readers = []Pin{identityOf(t, "restorer").Pin()}
	b := startBackup(t, backupOptions{dir: t.TempDir(), peers: []Peer{reader, peerOf(t, "other.example/log")}})
	once := func(id string, server Pin) error {
		c, err := NewClient(t.Context(), ClientConfig{Origin: testOrigin, Identity: identityOf(t, id), Server: server, Dial: b.dial})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Checkpoint(t.Context())
		return err
	}
	// In TLS 1.3 a server refuses after the client's end of the handshake: who writes in that moment finds the connection broken, tries again as a shipper does, and is told then.
	client := func(id string, server Pin) (err error) {
		for range 20 {
			if err = once(id, server); fault.KindOf(err) != fault.Unavailable {
				break
			}
		}
		return err
	}
	server := identityOf(t, "receiver").Pin()
	if err := client("client "+testOrigin, server); err != nil {
		t.Errorf("the primary: %v", err)
	}
	if err := client("stranger", server); fault.KindOf(err) != fault.Unauthorized {
		t.Errorf("a stranger: %v", err)
	}
	if err := client("client "+testOrigin, identityOf(t, "else").Pin()); fault.KindOf(err) != fault.Unauthorized {
		t.Errorf("another receiver: %v", err)
	}
	if err := client("client other.example/log", server); fault.KindOf(err) != fault.NotFound {
		t.Errorf("the client of another log: %v", err)
	}
	if err := client("restorer", server); err != nil {
		t.Errorf("who may read: %v", err)
	}
	c := b.client("restorer", testOrigin)
	if status, _ := raw(t, c, "POST", "/v1/logs/"+LogID(testOrigin)+"/append", nil); status != 403 {
		t.Errorf("who may only read appends: %d", status)
	}
	// Without a certificate, with an older TLS, with a protocol that is not HTTP/2.
	for name, change := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
		"TLS 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"HTTP/1.1":       func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
	} {
		raw, err := b.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cfg := tlsConfig(identityOf(t, "client "+testOrigin), func(Pin) bool { return true })
		change(cfg)
		conn := tls.Client(raw, cfg)
		err = conn.HandshakeContext(t.Context())
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // TLS 1.3: the server's refusal comes after the client's end of the handshake
		}
		if err == nil {
			t.Errorf("%s: the connection stands", name)
		}
		raw.Close()
	}
	// A peer that is taken away cannot go on, not even on its open connection.
	open := b.client("client "+testOrigin, testOrigin)
	if _, err := open.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.rcv.SetPeers([]Peer{peerOf(t, "other.example/log")}); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Checkpoint(t.Context()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a peer that was removed: %v", err)
	}
}

// codes is a Codes with one code.
type codes struct {
	mu     sync.Mutex
	secret []byte
	used   []Pin
}

func (c *codes) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secret != nil
}

func (c *codes) Redeem(_ context.Context, kind string, client Pin, payload []byte, proves func([]byte) bool) ([]byte, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind != "restore" || !proves(c.secret) {
		return nil, nil, fault.New(fault.Forbidden, "the code is not valid")
	}
	secret := c.secret
	c.secret, c.used = nil, append(c.used, client)
	return secret, []byte("answer to " + string(payload)), nil
}

// TestRedeem: a code makes either side known to the other, once, and only whoever has it.
func TestRedeem(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, MinSecret)
	list := &codes{secret: secret}
	b := startBackup(t, backupOptions{dir: t.TempDir(), codes: list})
	server := identityOf(t, "receiver").Pin()
	good := Redemption{Dial: b.dial, Identity: identityOf(t, "newcomer"), Kind: "restore", Secret: secret, Payload: []byte("hello")}
	for name, change := range map[string]func(*Redemption){
		"another secret":  func(r *Redemption) { r.Secret = bytes.Repeat([]byte{8}, MinSecret) },
		"another kind":    func(r *Redemption) { r.Kind = "enrol" },
		"a short secret":  func(r *Redemption) { r.Secret = secret[:MinSecret-1] },
		"much to say":     func(r *Redemption) { r.Payload = make([]byte, maxPayload+1) },
		"another server":  func(r *Redemption) { r.Server = &Pin{} },
		"nobody is there": func(r *Redemption) { r.Dial = func(context.Context) (net.Conn, error) { return nil, errUnreachable } },
	} {
		r := good
		change(&r)
		if pin, answer, err := Redeem(t.Context(), r); err == nil {
			t.Errorf("%s: %v %q", name, pin, answer)
		}
	}
	// Somebody in between, who has a key of his own and relays: the proof is bound to another connection.
	if err := relayRedemption(t, b, good); err == nil {
		t.Error("a relayed proof was taken")
	}
	// A stranger who may finish the handshake while a code is out can do nothing else.
	c := b.client("newcomer", testOrigin)
	if status, _ := raw(t, c, "GET", "/v1/logs/"+LogID(testOrigin)+"/checkpoint", nil); status != 404 {
		t.Errorf("a stranger reads: %d", status)
	}
	pin, answer, err := Redeem(t.Context(), good)
	if err != nil || pin != server || string(answer) != "answer to hello" || !reflect.DeepEqual(list.used, []Pin{good.Identity.Pin()}) {
		t.Errorf("%v %q %v %v", pin, answer, list.used, err)
	}
	if _, _, err := Redeem(t.Context(), good); err == nil {
		t.Error("a code was used twice")
	}
}

// relayRedemption runs a receiver in the middle that passes the client's proof on.
func relayRedemption(t *testing.T, b *backup, r Redemption) error {
	t.Helper()
	var relayed error
	middle := &relay{proofs: func(kind string, payload []byte, proof []byte) {
		c := b.client("middle", "")
		status, body := raw(t, c, "POST", "/v1/redeem", fmt.Appendf(nil, `{"kind":%q,"payload":%q,"proof":%q}`, kind, enc(payload), enc(proof)))
		if status != 200 {
			relayed = fmt.Errorf("%d %s", status, body)
		}
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: middle, TLSConfig: tlsConfig(identityOf(t, "middle"), func(Pin) bool { return true })}
	go srv.ServeTLS(ln, "", "")
	defer srv.Close()
	r.Dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", ln.Addr().String())
	}
	if _, _, err := Redeem(t.Context(), r); err == nil {
		return nil
	}
	return relayed
}

// TestSilence: the alarm is raised once when nothing is heard, and once when the primary is heard again.
func TestSilence(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1.7e9, 0)
	peer := peerOf(t, testOrigin)
	peer.Silence = time.Minute
	b := startBackup(t, backupOptions{dir: t.TempDir(), peers: []Peer{peer}, now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	pass := func(d time.Duration) {
		mu.Lock()
		now = now.Add(d)
		mu.Unlock()
		b.rcv.check()
	}
	kinds := func() (out []AlarmKind) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, a := range b.alarms {
			out = append(out, a.Kind)
		}
		return out
	}
	pass(time.Minute)
	if got := kinds(); len(got) > 0 {
		t.Errorf("too early: %v", got)
	}
	pass(time.Second)
	pass(time.Hour)
	if got := kinds(); !reflect.DeepEqual(got, []AlarmKind{AlarmSilence}) || !b.rcv.Status()[0].Silent {
		t.Errorf("silent: %v", got)
	}
	var empty chain.Frontier
	c := b.client("client "+testOrigin, testOrigin)
	if _, _, err := c.append(t.Context(), Append{Checkpoint: signTree(t, testOrigin, empty.Tree())}, []chain.WitnessKey{b.rcv.Key()}); err != nil {
		t.Fatal(err)
	}
	if got := kinds(); !reflect.DeepEqual(got, []AlarmKind{AlarmSilence, AlarmReturn}) || b.rcv.Status()[0].Silent {
		t.Errorf("heard again: %v", got)
	}
}

// TestLag: lines that come late raise the alarm once, and again only after the copy was up to date; the first copy, all of whose lines are old, does not.
func TestLag(t *testing.T) {
	var ahead atomic.Int64 // of the backup's clock: its lines look that much older
	peer := peerOf(t, testOrigin)
	peer.Lag = time.Minute
	b := startBackup(t, backupOptions{dir: t.TempDir(), peers: []Peer{peer}, now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	p := openPrimary(t, t.TempDir(), testOrigin)
	p.tick(3)
	run(t, p.shipper(b, nil))
	size := uint64(3)
	comes := func(late time.Duration, want int) {
		t.Helper()
		ahead.Store(int64(late))
		p.tick(1)
		size++
		eventually(t, "the line came", func() bool { return b.rcv.Status()[0].Size >= size })
		b.rcv.check()
		lags := 0
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, a := range b.alarms {
			if a.Kind == AlarmLag {
				lags++
			}
		}
		if lags != want {
			t.Errorf("a line %v late: %d alarms, want %d", late, lags, want)
		}
	}
	comes(time.Hour, 0) // never up to date yet
	comes(0, 0)
	comes(59*time.Second, 0)
	comes(2*time.Minute, 1)
	comes(3*time.Minute, 1)
	comes(0, 1)
	comes(2*time.Minute, 2)
}

// TestFullDisk: a full backup refuses, says why, loses nothing, and goes on by itself when there is room.
func TestFullDisk(t *testing.T) {
	disk := durable.NewSim("/b")
	b := startBackup(t, backupOptions{dir: "/b", fs: disk})
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	run(t, s)
	p.tick(5)
	waitFor(t, s, 5)
	disk.SetSpace(100)
	p.tick(5)
	eventually(t, "the backup says that its disk is full", func() bool {
		st := s.Status()
		return st.Problem != nil && strings.Contains(fault.PublicOf(st.Problem), "full") && st.Lag == 5 && !st.Stopped
	})
	disk.SetSpace(-1)
	waitFor(t, s, 10)
	if _, err := b.rcv.Verify(t.Context(), testOrigin); err != nil {
		t.Error(err)
	}
}
