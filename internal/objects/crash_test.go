package objects

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
)

// TestCrashTable: each step of Put fails, done, not done and half; then the process dies or the power fails. An ID that was returned is readable.
func TestCrashTable(t *testing.T) {
	for _, mode := range []durable.Mode{durable.NotDone, durable.Done, durable.Half} {
		for _, die := range []bool{true, false} {
			for step := 1; crashAt(t, durable.Plan{Step: step, Mode: mode, Die: die}); step++ {
			}
		}
	}
}

func crashAt(t *testing.T, plan durable.Plan) (hit bool) {
	t.Helper()
	for seed := range uint64(6) {
		sim := durable.NewSim("/d")
		sim.Fail(plan)
		want := map[string]byte{}
		if s, err := OpenFS(sim, "/d/o", newSealer(t)); err == nil {
			for i := range byte(3) {
				if id, err := s.Put(ctx, "a", bytes.Repeat([]byte{i}, 2000)); err == nil {
					want[id] = i
				}
			}
		}
		if sim.Steps() < plan.Step {
			if len(want) != 3 || plan.Step < 16 { // fewer when two of them come into one folder, by chance
				t.Errorf("%+v: %d objects after %d steps", plan, len(want), sim.Steps())
			}
			return false
		}
		if seed == 0 {
			sim = sim.Kill()
		} else {
			sim = sim.CutPower(rand.New(rand.NewPCG(seed, uint64(plan.Step))))
		}
		s, err := OpenFS(sim, "/d/o", newSealer(t))
		if err != nil {
			t.Fatalf("%+v: reopen: %v", plan, err)
		}
		for id, fill := range want {
			if got, err := s.Get(ctx, id); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{fill}, 2000)) {
				t.Errorf("%+v, seed %d: object %s: %v", plan, seed, id, err)
			}
		}
		if seed == 0 {
			wholeOnly(t, plan, sim)
		}
		if left, err := sim.List("/d/o/tmp"); err != nil || len(left) != 0 {
			t.Errorf("%+v: left in tmp: %v %v", plan, left, err)
		}
		if _, err := s.Put(ctx, "a", []byte("after")); err != nil {
			t.Errorf("%+v: put after the reopen: %v", plan, err)
		}
	}
	return true
}

// TestCrashTogether: several Puts share their syncs while a step fails, whichever it is, or the power does. An ID that was returned is readable.
func TestCrashTogether(t *testing.T) {
	acknowledged := 0
	for _, mode := range []durable.Mode{durable.NotDone, durable.Done, durable.Half} {
		for step := 1; step <= 60; step++ {
			acknowledged += crashTogether(t, durable.Plan{Step: step, Mode: mode, Die: step%2 == 0})
		}
	}
	if acknowledged < 100 {
		t.Errorf("%d objects were acknowledged in all", acknowledged)
	}
}

func crashTogether(t *testing.T, plan durable.Plan) (acknowledged int) {
	t.Helper()
	sim := durable.NewSim("/d")
	s, err := OpenFS(sim, "/d/o", newSealer(t))
	if err != nil {
		t.Fatal(err)
	}
	sim.Fail(plan)
	var ids [8]string
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if id, err := s.Put(ctx, "a", bytes.Repeat([]byte{byte(i)}, 2000)); err == nil {
				ids[i] = id
			}
		})
	}
	wg.Wait()
	cut := sim.CutPower(rand.New(rand.NewPCG(uint64(plan.Mode), uint64(plan.Step))))
	after, err := OpenFS(cut, "/d/o", newSealer(t))
	if err != nil {
		t.Fatalf("%+v: reopen: %v", plan, err)
	}
	for i, id := range ids {
		if id == "" {
			continue
		}
		acknowledged++
		if got, err := after.Get(ctx, id); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, 2000)) {
			t.Errorf("%+v: object %s: %v", plan, id, err)
		}
	}
	return acknowledged
}

// wholeOnly: what has an object's name has all of its bytes, whether or not it was acknowledged. A power cut may leave others, which nobody was told of.
func wholeOnly(t *testing.T, plan durable.Plan, sim *durable.Sim) {
	t.Helper()
	list := func(dir string) []string {
		names, err := sim.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for _, folder := range list("/d/o") {
		if len(folder) != 2 {
			continue
		}
		for _, id := range list("/d/o/" + folder) {
			raw, err := durable.ReadFile(sim, "/d/o/"+folder+"/"+id, MaxSize)
			if sum := sha256.Sum256(raw); err != nil || hex.EncodeToString(sum[:]) != id {
				t.Errorf("%+v: %s has %d bytes of something else, %v", plan, id, len(raw), err)
			}
		}
	}
}

// TestImportTwice: the same object arrives twice at once, as two lines of one group can name it, and the second time a step fails. What the first was told is durable
// stays: nobody sends it again.
func TestImportTwice(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 3000)
	sum := sha256.Sum256(content)
	id := hex.EncodeToString(sum[:])
	for step := 1; step <= 8; step++ {
		for _, mode := range []durable.Mode{durable.NotDone, durable.Done} {
			sim := durable.NewSim("/d")
			s, err := OpenFS(sim, "/d/o", nil)
			if err != nil {
				t.Fatal(err)
			}
			r, w := io.Pipe()
			slow, quick := make(chan error, 1), make(chan error, 1)
			go func() {
				err := s.Import(ctx, id, r)
				r.Close()
				slow <- err
			}()
			if _, err := w.Write(content[:1000]); err != nil {
				t.Fatal(err)
			}
			go func() { quick <- s.Import(ctx, id, bytes.NewReader(content)) }()
			var told error
			select {
			case told = <-quick:
			case <-time.After(20 * time.Millisecond): // it waits for the other
				told = errors.New("not yet")
			}
			sim.Fail(durable.Plan{Step: step, Mode: mode})
			_, _ = w.Write(content[1000:]) // it may have given up
			w.Close()
			<-slow
			if told != nil {
				told = <-quick
			}
			after, err := OpenFS(sim.CutPower(rand.New(rand.NewPCG(1, uint64(step)))), "/d/o", nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := after.Check(ctx, id); told == nil && err != nil {
				t.Errorf("step %d, mode %v: it was durable, and is not: %v", step, mode, err)
			}
		}
	}
}
