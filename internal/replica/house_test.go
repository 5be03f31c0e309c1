package replica

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/objects"
)

const testOrigin = "aes.example/audit"

// keyOf returns a key that is the same at each run.
func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("replica test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func identityOf(t testing.TB, name string) Identity {
	t.Helper()
	id, err := NewIdentity(keyOf(name))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func logKeyOf(t testing.TB, origin string) string {
	t.Helper()
	k, err := chain.VerifierKey(origin, keyOf("log "+origin).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// primary is a real ledger and object store with a checkpoint key.
type primary struct {
	t      testing.TB
	origin string
	dir    string
	db     *index.DB
	log    *ledger.Ledger
	objs   *objects.Store
	now    func() time.Time
}

// plainKeys seals object keys with nothing: who seals them is not what is tested here.
type plainKeys struct{}

func (plainKeys) SealKey(key []byte) ([]byte, error)  { return bytes.Clone(key), nil }
func (plainKeys) OpenKey(seal []byte) ([]byte, error) { return bytes.Clone(seal), nil }

func openPrimary(t testing.TB, dir, origin string) *primary {
	t.Helper()
	p := &primary{t: t, origin: origin, dir: dir, now: time.Now}
	var err error
	if p.db, err = index.Open(filepath.Join(dir, "index"), plainKeys{}); err != nil {
		t.Fatal(err)
	}
	if p.log, err = ledger.Open(t.Context(), ledger.Config{Dir: filepath.Join(dir, "log"), Index: p.db, Now: p.now}); err != nil {
		t.Fatal(err)
	}
	if p.objs, err = objects.Open(filepath.Join(dir, "objects"), plainKeys{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func (p *primary) close() {
	if p.db == nil {
		return
	}
	if err := errors.Join(p.log.Close(), p.objs.Close(), p.db.Close()); err != nil {
		p.t.Error(err)
	}
	p.db = nil
}

// tick appends n lines.
func (p *primary) tick(n int) {
	p.t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := p.log.Append(context.Background(), ledger.Event{Type: "tick", Actor: "test", Details: map[string]any{"i": i, "pad": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}); err != nil {
				p.t.Error(err)
			}
		})
	}
	wg.Wait()
}

// sign appends a line that names an object.
func (p *primary) sign(content string) string {
	p.t.Helper()
	id, err := p.objs.Put(context.Background(), "document", []byte(content))
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.log.Append(context.Background(), ledger.Event{Type: "prescription_signed", Actor: "test", Details: map[string]any{"document_object": id}}); err != nil {
		p.t.Fatal(err)
	}
	return id
}

// backup is a real receiver on a loopback listener.
type backup struct {
	t    testing.TB
	rcv  *Receiver
	ln   net.Listener
	stop func()

	mu     sync.Mutex
	alarms []Alarm
}

type backupOptions struct {
	dir   string
	fs    durable.FS
	peers []Peer
	codes Codes
	now   func() time.Time
	log   *slog.Logger

	identity, cosigner string // names of keys; "" for the usual ones
	appendOnly         bool
}

func startBackup(t testing.TB, o backupOptions) *backup {
	t.Helper()
	if o.now == nil {
		o.now = time.Now
	}
	if o.identity == "" {
		o.identity = "receiver"
	}
	if o.cosigner == "" {
		o.cosigner = "cosigner"
	}
	b := &backup{t: t}
	var err error
	b.rcv, err = NewReceiver(ReceiverConfig{Dir: o.dir, Identity: identityOf(t, o.identity), Name: "backup.example", Key: keyOf(o.cosigner),
		AppendOnly: o.appendOnly, Now: o.now, FS: o.fs, Codes: o.codes, Log: o.log, Alarm: func(a Alarm) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.alarms = append(b.alarms, a)
		}})
	if err != nil {
		t.Fatal(err)
	}
	if o.peers == nil {
		o.peers = []Peer{peerOf(t, testOrigin)}
	}
	if err := b.rcv.SetPeers(o.peers); err != nil {
		t.Fatal(err)
	}
	if b.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.rcv.Serve(ctx, b.ln) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := b.rcv.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func peerOf(t testing.TB, origin string) Peer {
	t.Helper()
	return Peer{Origin: origin, LogKeys: []string{logKeyOf(t, origin)}, Clients: []Pin{identityOf(t, "client "+origin).Pin()}}
}

func (b *backup) dial(ctx context.Context) (net.Conn, error) {
	b.mu.Lock()
	addr := b.ln.Addr().String()
	b.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// refusals returns the kinds of refusals that alarm was raised about.
func (b *backup) refusals() (kinds []RefusalKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.alarms {
		if a.Refusal != nil {
			kinds = append(kinds, a.Refusal.Kind)
		}
	}
	return kinds
}

func (b *backup) client(name, origin string) *Client {
	b.t.Helper()
	c, err := NewClient(b.t.Context(), ClientConfig{Origin: origin, Identity: identityOf(b.t, name), Server: identityOf(b.t, "receiver").Pin(), Dial: b.dial})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// memoryStore is a Store that forgets.
type memoryStore struct {
	mu sync.Mutex
	b  []byte
}

func (m *memoryStore) Load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.b, nil
}

func (m *memoryStore) Save(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = bytes.Clone(b)
	return nil
}

func (p *primary) shipper(b *backup, store Store) *Shipper {
	p.t.Helper()
	if store == nil {
		store = &memoryStore{}
	}
	s, err := NewShipper(ShipperConfig{
		ClientConfig: ClientConfig{Origin: p.origin, Identity: identityOf(p.t, "client "+p.origin), Server: identityOf(p.t, "receiver").Pin(), Dial: b.dial},
		Log:          p.log, Objects: p.objs, Key: keyOf("log " + p.origin), Keys: []chain.WitnessKey{b.rcv.Key()}, Store: store,
		Heartbeat: 50 * time.Millisecond, Timeout: 10 * time.Second, Now: time.Now, Rand: testRand(),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// run runs a shipper until the test ends or stop is called; stop returns what Run did.
func run(t testing.TB, s *Shipper) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { stop() })
	return stop
}

func waitFor(t testing.TB, s *Shipper, size uint64) Cosigned {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := s.Wait(ctx, size)
	if err != nil {
		t.Fatalf("waiting for %d: %v (%+v)", size, err, s.Status())
	}
	return c
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// copyOf reads a log's file on the backup.
func copyOf(t testing.TB, dir, origin string) []byte {
	t.Helper()
	b, err := durable.ReadFile(durable.OS{}, filepath.Join(dir, LogID(origin), LogFile), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exported(t testing.TB, l Log) []byte {
	t.Helper()
	var b bytes.Buffer
	size, _ := l.Head()
	if err := l.Export(context.Background(), &b, 0, size); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readObject(t testing.TB, c *Client, id string) []byte {
	t.Helper()
	r, size, err := c.Object(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != size {
		t.Fatal(len(b), size, err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != id {
		t.Fatal(fmt.Errorf("object %s is another", id))
	}
	return b
}

func testRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
