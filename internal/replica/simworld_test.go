package replica

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/objects"
)

// world is a primary and a backup, each with a disk and a process that can be stopped at any moment, and the network between them. It runs in a
// synctest bubble: time passes only when everybody waits.
type world struct {
	t       *testing.T
	rng     *rand.Rand // of the test's own goroutine
	net     *network
	scratch string // for indexes, which are derived
	gen     int

	pdisk, bdisk *durable.Sim
	p            *simPrimary
	b            *simBackup

	mu     sync.Mutex
	acked  map[string]uint64     // events that were acknowledged as local lines
	told   map[uint64]chain.Hash // what the primary was told to be cosigned
	signed map[string]bool       // checkpoints that the cosigner's key signed
	bad    []string              // what must not happen

	attacked bool // somebody sent what is to be refused
	events   int
}

type simPrimary struct {
	db      *index.DB
	log     *ledger.Ledger
	objs    *objects.Store
	shipper *Shipper
	stop    func() error
}

type simBackup struct {
	rcv  *Receiver
	ln   *memoryListener
	stop func()
}

// recorder is the cosigner's key; it notes what it signs.
type recorder struct {
	crypto.Signer
	w *world
}

func (r recorder) Sign(rand io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	_, text, _ := strings.Cut(string(msg), "\ntime ")
	_, text, _ = strings.Cut(text, "\n")
	r.w.mu.Lock()
	r.w.signed[text] = true
	r.w.mu.Unlock()
	return r.Signer.Sign(rand, msg, opts)
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, rng: rand.New(rand.NewPCG(seed, 77)), scratch: t.TempDir(), net: &network{},
		pdisk: durable.NewSim("/p"), bdisk: durable.NewSim("/b"),
		acked: map[string]uint64{}, told: map[uint64]chain.Hash{}, signed: map[string]bool{}}
}

func (w *world) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bad = append(w.bad, fmt.Sprintf(format, args...))
}

// startBackup starts the receiver; false when its disk does not let it.
func (w *world) startBackup() bool {
	rcv, err := NewReceiver(ReceiverConfig{Dir: "/b", Identity: identityOf(w.t, "receiver"), Name: "backup.example",
		Key: recorder{keyOf("cosigner"), w}, Now: time.Now, FS: w.bdisk, Alarm: func(a Alarm) {
			w.mu.Lock()
			attacked := w.attacked
			w.mu.Unlock()
			if a.Kind == AlarmRefusal && !attacked {
				w.wrong("an honest primary was refused: %s", a.Text)
			}
		}})
	if err == nil {
		if err = rcv.SetPeers([]Peer{peerOf(w.t, testOrigin)}); err == nil {
			err = rcv.logs[LogID(testOrigin)].broken
		}
	}
	if err != nil {
		if !errors.Is(err, durable.ErrSim) && !errors.Is(err, durable.ErrNoSpace) {
			w.wrong("the receiver does not start: %v", err)
		}
		return false
	}
	// What was told is there, whatever happened.
	w.mu.Lock()
	defer w.mu.Unlock()
	m := rcv.logs[LogID(testOrigin)].mirror
	for size, root := range w.told {
		if size > m.held.Size {
			w.bad = append(w.bad, fmt.Sprintf("%d lines were cosigned, and the backup starts with %d", size, m.held.Size))
		} else if tree, err := m.treeAt(size); err == nil && tree.Root != root || err != nil && !errors.Is(err, durable.ErrSim) {
			w.bad = append(w.bad, fmt.Sprintf("the backup starts with another tree at %d: %v", size, err))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &simBackup{rcv: rcv, ln: newMemoryListener()}
	done := make(chan error, 1)
	go func() { done <- rcv.Serve(ctx, b.ln) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		rcv.Close()
	})
	w.b = b
	w.net.set(b.ln)
	return true
}

func (w *world) stopBackup() {
	if w.b == nil {
		return
	}
	w.net.set(nil)
	w.b.stop()
	w.b = nil
}

// startPrimary starts ledger, objects and shipper; false when the disk does not let it.
func (w *world) startPrimary() bool {
	w.gen++
	p := &simPrimary{}
	var err error
	if p.db, err = index.Open(filepath.Join(w.scratch, fmt.Sprint(w.gen)), plainKeys{}); err != nil {
		w.t.Fatal(err)
	}
	p.log, err = ledger.Open(context.Background(), ledger.Config{Dir: "/p/log", Index: p.db, Now: time.Now, FS: w.pdisk})
	if err == nil {
		p.objs, err = objects.OpenFS(w.pdisk, "/p/objects", plainKeys{})
	}
	if err == nil {
		p.shipper, err = NewShipper(ShipperConfig{
			ClientConfig: ClientConfig{Origin: testOrigin, Identity: identityOf(w.t, "client "+testOrigin), Server: identityOf(w.t, "receiver").Pin(), Dial: w.net.dial},
			Log:          p.log, Objects: p.objs, Key: keyOf("log " + testOrigin), Keys: []chain.WitnessKey{cosignerKey(w.t)}, Store: FileStore{w.pdisk, "/p/cosigned"},
			Heartbeat: 3 * time.Second, Timeout: 20 * time.Second, Now: time.Now, Rand: rand.New(rand.NewPCG(w.rng.Uint64(), 5)),
		})
	}
	if err != nil {
		if !errors.Is(err, durable.ErrSim) && !errors.Is(err, durable.ErrNoSpace) {
			w.wrong("the primary does not start: %v", err)
		}
		p.close()
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.shipper.Run(ctx) }()
	p.stop = func() error {
		cancel()
		return <-done
	}
	w.p = p
	return true
}

func (p *simPrimary) close() {
	if p.objs != nil {
		_ = p.objs.Close()
	}
	if p.log != nil {
		_ = p.log.Close()
	}
	_ = p.db.Close()
}

func (w *world) stopPrimary() {
	if w.p == nil {
		return
	}
	if err := w.p.stop(); err != nil {
		w.wrong("shipping ended: %v", err)
	}
	w.p.close()
	w.p = nil
}

func cosignerKey(t testing.TB) chain.WitnessKey {
	t.Helper()
	c, err := chain.NewCosigner("backup.example", keyOf("cosigner"))
	if err != nil {
		t.Fatal(err)
	}
	return c.Key()
}
