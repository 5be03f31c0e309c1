package replica

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/objects"
)

var (
	schedules = flag.Int("schedules", 120, "how many random schedules TestSimulation runs")
	firstSeed = flag.Uint64("seed", 1, "the seed of the first one")
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
	events int
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
			if a.Kind == AlarmRefusal {
				w.wrong("an honest primary was refused: %s", a.Text)
			}
		}})
	if err == nil {
		err = rcv.SetPeers([]Peer{peerOf(w.t, testOrigin)})
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
	if p.db, err = index.Open(filepath.Join(w.scratch, fmt.Sprint(w.gen))); err != nil {
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

// act does n acts at once, each of a line and perhaps an object, and waits a while for each to be cosigned.
func (w *world) act(n int, patience time.Duration) {
	p := w.p
	if p == nil {
		return
	}
	var wg sync.WaitGroup
	for range n {
		w.events++
		name, object := fmt.Sprintf("e%d", w.events), w.rng.IntN(2) == 0
		wg.Go(func() {
			details := map[string]any{"name": name, "pad": strings.Repeat("x", 200)}
			if object {
				id, err := p.objs.Put(context.Background(), "document", []byte(strings.Repeat(name, 100)))
				if err != nil {
					return
				}
				details["document_object"] = id
			}
			r, err := p.log.Append(context.Background(), ledger.Event{Type: "act", Actor: "test", Details: details})
			if err != nil {
				return
			}
			w.mu.Lock()
			w.acked[name] = r.Seq
			w.mu.Unlock()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c, err := p.shipper.Wait(ctx, r.Seq+1)
			if err != nil {
				if fault.KindOf(err) != fault.Unavailable {
					w.wrong("waiting: %v", err)
				}
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if was, ok := w.told[c.Size]; ok && was != c.Root {
				w.bad = append(w.bad, fmt.Sprintf("two trees of %d lines were cosigned", c.Size))
			}
			w.told[c.Size] = c.Root
		})
	}
	wg.Wait()
}

// settle heals everything, starts both sides, waits until all is cosigned, and checks what must hold.
func (w *world) settle(what string) {
	w.t.Helper()
	w.net.heal()
	w.pdisk.Fail(durable.Plan{})
	w.bdisk.Fail(durable.Plan{})
	w.pdisk.SetSpace(-1)
	w.bdisk.SetSpace(-1)
	if w.b == nil && !w.startBackup() || w.p == nil && !w.startPrimary() {
		w.t.Errorf("%s: a side does not start: %v", what, w.bad)
		return
	}
	w.act(1, time.Hour)
	size, _ := w.p.log.Head()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if _, err := w.p.shipper.Wait(ctx, size); err != nil {
		w.t.Errorf("%s: shipping does not resume: %v; %+v", what, err, w.p.shipper.Status())
	}
	w.check(what, size)
}

func (w *world) check(what string, size uint64) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.bad {
		w.t.Errorf("%s: %s", what, b)
	}
	mine := exported(w.t, w.p.log)
	theirs, err := durable.ReadFile(w.bdisk, filepath.Join("/b", LogID(testOrigin), LogFile), 1<<30)
	if err != nil || !bytes.Equal(mine, theirs) {
		w.t.Errorf("%s: the copy has %d bytes, the log %d, %v", what, len(theirs), len(mine), err)
	}
	names := map[string]uint64{}
	seq := uint64(0)
	for line := range bytes.Lines(mine) {
		l, err := chain.ParseLine(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			w.t.Fatal(err)
		}
		var d struct{ Name string }
		if err := json.Unmarshal(l.Details, &d); err != nil {
			w.t.Fatal(err)
		}
		names[d.Name] = seq
		seq++
	}
	for name, at := range w.acked {
		if got, ok := names[name]; !ok || got != at {
			w.t.Errorf("%s: %s was acknowledged as line %d and is %v at %d", what, name, at, ok, got)
		}
	}
	for n, root := range w.told {
		if tree, err := w.p.log.TreeAt(context.Background(), n); err != nil || tree.Root != root {
			w.t.Errorf("%s: what was cosigned at %d is not the log: %v", what, n, err)
		}
	}
	for text := range w.signed {
		cp, err := chain.ParseCheckpoint(text)
		if err != nil {
			w.t.Errorf("%s: signed %q: %v", what, text, err)
			continue
		}
		if tree, err := w.p.log.TreeAt(context.Background(), cp.Size); err != nil || tree != cp.Tree {
			w.t.Errorf("%s: the backup signed another history at %d: %v", what, cp.Size, err)
		}
	}
	if rep, err := w.b.rcv.Verify(context.Background(), testOrigin); err != nil || rep.Size < size {
		w.t.Errorf("%s: the backup verifies %d lines of %d: %v", what, rep.Size, size, err)
	}
	if len(w.signed) == 0 || len(w.acked) == 0 {
		w.t.Errorf("%s: nothing happened", what)
	}
}

func (w *world) end() {
	w.stopPrimary()
	w.stopBackup()
	w.net.cut()
}

// crash ends a process as its disk is: killed, or the power cut.
func crash(disk *durable.Sim, rng *rand.Rand) *durable.Sim {
	if rng.IntN(2) == 0 {
		return disk.Kill()
	}
	return disk.CutPower(rng)
}

// TestSimulation runs random schedules: disks fail, done and not done, fill up; processes die; the power is cut; connections are cut, delayed, and
// carry part of what was written. A failure prints its seed: -seed N -schedules 1 repeats the schedule (not the scheduling of goroutines).
func TestSimulation(t *testing.T) {
	for i := range uint64(*schedules) {
		seed := *firstSeed + i
		synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	defer w.end()
	for range 2 + w.rng.IntN(4) {
		if w.b == nil {
			w.startBackup()
		}
		if w.p == nil {
			w.startPrimary()
		}
		plan := func() durable.Plan {
			if w.rng.IntN(2) == 0 {
				return durable.Plan{}
			}
			return durable.Plan{Step: 1 + w.rng.IntN(40), Mode: durable.Mode(w.rng.IntN(3)), Die: w.rng.IntN(2) == 0}
		}
		w.bdisk.Fail(plan())
		if w.rng.IntN(3) == 0 {
			w.pdisk.Fail(plan())
		}
		if w.rng.IntN(6) == 0 {
			w.bdisk.SetSpace(int64(w.rng.IntN(4000)))
		}
		if w.rng.IntN(2) == 0 {
			w.net.trouble(w.rng.Uint64(), 300+w.rng.IntN(20000))
		}
		w.act(1+w.rng.IntN(6), time.Duration(1+w.rng.IntN(30))*time.Second)
		w.act(w.rng.IntN(3), time.Duration(1+w.rng.IntN(60))*time.Second)
		w.bdisk.Fail(durable.Plan{})
		w.pdisk.Fail(durable.Plan{})
		w.bdisk.SetSpace(-1)
		w.net.heal()
		w.restart()
	}
	w.settle(fmt.Sprintf("seed %d", seed))
}

// restart ends either side or both, or a connection, or nothing. A side whose disk died is always ended.
func (w *world) restart() {
	// From here on the disk takes nothing: what still runs is dead and does not know it yet.
	died := func(d *durable.Sim) bool {
		_, err := d.List("/")
		return errors.Is(err, durable.ErrSim)
	}
	if died(w.pdisk) || w.p == nil || w.p.log.Err() != nil || w.rng.IntN(3) == 0 {
		next := crash(w.pdisk, w.rng)
		w.stopPrimary()
		w.pdisk = next
	}
	if died(w.bdisk) || w.b == nil || w.rng.IntN(3) == 0 {
		next := crash(w.bdisk, w.rng)
		w.stopBackup()
		w.bdisk = next
	}
	if w.rng.IntN(4) == 0 {
		w.net.cut()
	}
}

// TestFaultTable makes each durable step of the backup, and each of the primary, fail: done, not done, half done; with the process dying there or going
// on; and then killed, or the power cut. It ends when the work has no further step.
func TestFaultTable(t *testing.T) {
	for _, side := range []string{"backup", "primary"} {
		for mode, modeName := range map[durable.Mode]string{durable.NotDone: "not done", durable.Done: "done", durable.Half: "half"} {
			for _, die := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s,%s,die=%v", side, modeName, die), func(t *testing.T) {
					t.Parallel()
					for step := 1; ; step++ {
						hit := true
						for seed := range uint64(3) {
							synctest.Test(t, func(t *testing.T) {
								hit = faultAt(t, side == "backup", durable.Plan{Step: step, Mode: mode, Die: die}, seed)
							})
						}
						if !hit {
							t.Logf("%d steps", step-1)
							if step < 15 {
								t.Errorf("only %d durable steps were met", step-1)
							}
							return
						}
						if t.Failed() {
							t.Fatalf("step %d", step)
						}
					}
				})
			}
		}
	}
}

// faultAt runs the table's row of one step, with the process killed (seed 0) or the power cut; false when the work has no such step.
func faultAt(t *testing.T, onBackup bool, plan durable.Plan, seed uint64) bool {
	w := newWorld(t, seed<<32|uint64(plan.Step))
	defer w.end()
	disk := w.pdisk
	if onBackup {
		disk = w.bdisk
	}
	disk.Fail(plan)
	w.startBackup()
	w.startPrimary()
	w.act(2, 10*time.Second)
	w.act(1, 10*time.Second)
	if disk.Steps() < plan.Step {
		w.settle("no step failed")
		return false
	}
	next := disk.Kill()
	if seed > 0 {
		next = disk.CutPower(w.rng)
	}
	if onBackup {
		w.stopBackup()
		w.bdisk = next
	} else {
		w.stopPrimary()
		w.pdisk = next
	}
	w.settle(fmt.Sprintf("%+v, seed %d", plan, seed))
	return true
}

// network is how the primary reaches the backup.
type network struct {
	mu    sync.Mutex
	ln    *memoryListener
	conns []*wireConn
	rng   *rand.Rand // nil: no trouble
	bytes int        // about how many a connection carries before something happens to it
}

func (n *network) set(ln *memoryListener) {
	n.mu.Lock()
	n.ln = ln
	n.mu.Unlock()
	if ln == nil {
		n.cut()
	}
}

func (n *network) trouble(seed uint64, bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rng, n.bytes = rand.New(rand.NewPCG(seed, 9)), bytes
	for _, c := range n.conns {
		c.plan(n.rng, n.bytes)
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rng = nil
	for _, c := range n.conns {
		c.plan(nil, 0)
	}
}

// cut breaks all connections.
func (n *network) cut() {
	n.mu.Lock()
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	for _, c := range conns {
		c.Close()
		c.other.Close()
	}
}

var errUnreachable = errors.New("simulated: no route to host")

func (n *network) dial(context.Context) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ln == nil {
		return nil, errUnreachable
	}
	a, b := net.Pipe()
	ca, cb := &wireConn{Conn: a, more: make(chan struct{}, 1), gone: make(chan struct{})}, &wireConn{Conn: b, more: make(chan struct{}, 1), gone: make(chan struct{})}
	ca.other, cb.other = cb, ca
	ca.plan(n.rng, n.bytes)
	cb.plan(n.rng, n.bytes)
	n.conns = append(n.conns, ca, cb)
	go ca.pump()
	go cb.pump()
	if !n.ln.give(cb) {
		return nil, errUnreachable
	}
	return ca, nil
}

// wireConn is one end of a connection to which something happens after some bytes.
type wireConn struct {
	net.Conn
	other *wireConn

	more chan struct{} // something was queued
	gone chan struct{} // closed

	mu     sync.Mutex
	queue  []packet
	closed bool
	left   int // bytes until it happens; 0: it never does
	what   int
	wait   time.Duration
}

func (c *wireConn) plan(rng *rand.Rand, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = 0
	if rng == nil {
		return
	}
	c.left, c.what, c.wait = 1+rng.IntN(bytes), rng.IntN(4), time.Duration(rng.IntN(90))*time.Second
}

// Write implements net.Conn. It never blocks: the bubble's time does not pass while somebody waits for a mutex, and HTTP/2 writes under one.
func (c *wireConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	what, part := -1, 0
	if c.left > 0 {
		if c.left -= len(p); c.left <= 0 {
			what, part, c.left = c.what, max(0, len(p)+c.left), 0
		}
	}
	switch what {
	case 0: // cut, with a part on its way
		c.send(p[:part], 0)
		c.send(nil, 0)
		return part, io.ErrClosedPipe
	case 1: // cut after all of it, and the writer is not told
		c.send(p, 0)
		c.send(nil, 0)
	case 2: // delayed
		c.send(p, c.wait)
	case 3: // a part twice: TLS must not take it
		c.send(p[:part], 0)
		c.send(p, 0)
	default:
		c.send(p, 0)
	}
	return len(p), nil
}

// packet is what travels; no bytes mean the end of the connection.
type packet struct {
	b    []byte
	wait time.Duration
}

// send queues a packet. c.mu is held.
func (c *wireConn) send(b []byte, wait time.Duration) {
	c.queue = append(c.queue, packet{bytes.Clone(b), wait})
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// pump delivers what is queued, until the connection is closed.
func (c *wireConn) pump() {
	for {
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, p := range queue {
			select {
			case <-time.After(p.wait):
			case <-c.gone:
				return
			}
			if len(p.b) == 0 {
				c.Close()
				c.other.Close()
				return
			}
			if _, err := c.Conn.Write(p.b); err != nil {
				return
			}
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-c.more:
		case <-c.gone:
			return
		}
	}
}

// Close implements net.Conn.
func (c *wireConn) Close() error {
	c.mu.Lock()
	if !c.closed {
		close(c.gone)
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// SetWriteDeadline implements net.Conn: a write never waits.
func (c *wireConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (c *wireConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// memoryListener hands connections over.
type memoryListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn, 64), closed: make(chan struct{})}
}

func (l *memoryListener) give(c net.Conn) bool {
	select {
	case <-l.closed:
		return false
	case l.conns <- c:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }
