package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

var (
	schedules = flag.Int("schedules", 120, "how many random schedules TestSimulation runs")
	firstSeed = flag.Uint64("seed", 1, "the seed of the first one")
)

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
		w.attack()
		w.act(w.rng.IntN(3), time.Duration(1+w.rng.IntN(60))*time.Second)
		w.bdisk.Fail(durable.Plan{})
		w.pdisk.Fail(durable.Plan{})
		w.bdisk.SetSpace(-1)
		w.net.heal()
		w.restart()
	}
	w.settle(fmt.Sprintf("seed %d", seed))
}

// attack is what somebody does who has the primary's keys, or a network that repeats: lines that another history goes on with, a request of before, the
// claim of a smaller log. Nothing of it may be cosigned: check sees to that. What comes of it otherwise is the receiver's affair.
func (w *world) attack() {
	if w.b == nil || w.p == nil || w.rng.IntN(3) > 0 {
		return
	}
	w.mu.Lock()
	w.attacked = true
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := NewClient(ctx, ClientConfig{Origin: testOrigin, Identity: identityOf(w.t, "client "+testOrigin), Server: identityOf(w.t, "receiver").Pin(), Dial: w.net.dial})
	if err != nil {
		return
	}
	defer c.Close()
	var log bytes.Buffer
	size, _ := w.p.log.Head()
	if err := w.p.log.Export(ctx, &log, 0, size); err != nil {
		return // its disk is failing
	}
	lines := bytes.SplitAfter(log.Bytes(), []byte("\n"))
	n := w.rng.IntN(len(lines))
	a := Append{Old: uint64(w.rng.IntN(n + 1)), Lines: nil}
	forged := n > 0 && w.rng.IntN(2) == 0 // whoever has the keys may begin a log
	var walked walk
	if err := walked.lines(bytes.Join(lines[:n], nil)); err != nil {
		return
	}
	a.Lines = bytes.Join(lines[a.Old:n], nil)
	if forged {
		extra := written(w.t, foreign(1+w.rng.IntN(3)))
		a.Lines = append(a.Lines, extra...)
		for line := range bytes.Lines(extra) {
			walked.tree.Append(chain.LeafHash(bytes.TrimSuffix(line, []byte("\n"))))
		}
	}
	tree := walked.tree.Tree()
	a.Checkpoint = signTree(w.t, testOrigin, tree)
	if w.rng.IntN(3) == 0 {
		_, _ = c.compare(ctx, a.Checkpoint)
	}
	_, _, err = c.append(ctx, a, []chain.WitnessKey{cosignerKey(w.t)})
	if err == nil && forged {
		w.wrong("a forged history of %d lines was cosigned", tree.Size)
	}
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
