package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// simPlace is a log on a simulated disk with an index in a real folder.
type simPlace struct {
	t     *testing.T
	sim   *durable.Sim
	index string
	gen   int
	acked map[string]uint64 // id -> seq of what was acknowledged
	mu    sync.Mutex
}

func newSimPlace(t *testing.T) *simPlace {
	return &simPlace{t: t, sim: durable.NewSim("/s"), index: filepath.Join(t.TempDir(), "i"), acked: map[string]uint64{}}
}

func (p *simPlace) indexPath() string { return fmt.Sprintf("%s-%d", p.index, p.gen) }

func (p *simPlace) open() (*Ledger, *index.DB, error) {
	db, err := index.Open(p.indexPath(), plainKeys{})
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := Open(context.Background(), Config{Dir: "/s/log", Index: db, Folds: []Fold{counts{}}, Now: clockAt(start), FS: p.sim})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return l, db, nil
}

// work opens the log, appends from three clients at once, closes it, twice. It stops at the first error.
func (p *simPlace) work() error {
	for round := range 2 {
		l, db, err := p.open()
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				for i := range 3 {
					id := fmt.Sprintf("r%d-w%d-%d", round, w, i)
					r, err := l.Append(context.Background(), Event{Type: "tick", Actor: "test", Details: map[string]any{"id": id, "pad": strings.Repeat("x", 300)}})
					if err != nil {
						if fault.KindOf(err) != fault.Unavailable {
							p.t.Errorf("append after a failure: %v", err)
						}
						return
					}
					p.mu.Lock()
					p.acked[id] = r.Seq
					p.mu.Unlock()
				}
			})
		}
		wg.Wait()
		err = l.Err()
		closeErr := l.Close()
		if err := db.Close(); err != nil {
			return err
		}
		if err != nil || closeErr != nil {
			return errors.Join(err, closeErr)
		}
	}
	return nil
}

// dropIndex is what a power cut does to the index.
func (p *simPlace) dropIndex() { p.gen++ }

// keepIndex is what the death of the process does: the index is there as it was last written, not closed.
func (p *simPlace) keepIndex() {
	from := p.indexPath()
	p.gen++
	for _, suffix := range []string{"", ".state"} {
		b, err := os.ReadFile(from + suffix)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := os.WriteFile(p.indexPath()+suffix, b, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
}

// check reopens after a crash and checks what must hold whatever happened.
func (p *simPlace) check(what string) {
	p.t.Helper()
	l, db, err := p.open()
	if err != nil {
		p.t.Errorf("%s: reopen: %v", what, err)
		return
	}
	defer closeBoth(p.t, l, db)
	rep, err := l.Verify(context.Background(), 0)
	if err != nil {
		p.t.Errorf("%s: %v", what, err)
		return
	}
	seen := map[string]uint64{}
	ticks := uint64(0)
	for seq := range rep.Size {
		r, err := l.Read(seq)
		if err != nil {
			p.t.Errorf("%s: %v", what, err)
			return
		}
		if r.Type != "tick" {
			continue
		}
		ticks++
		var d struct{ ID string }
		if err := json.Unmarshal(r.Details, &d); err != nil {
			p.t.Error(err)
		}
		if _, twice := seen[d.ID]; twice {
			p.t.Errorf("%s: %s twice", what, d.ID)
		}
		seen[d.ID] = seq
	}
	for id, seq := range p.acked {
		if got, ok := seen[id]; !ok || got != seq {
			p.t.Errorf("%s: %s was acknowledged as line %d, the log has it: %v at %d", what, id, seq, ok, got)
		}
	}
	if n := count(p.t, l, "tick"); n != ticks {
		p.t.Errorf("%s: %d lines, %d folded", what, ticks, n)
	}
	if _, err := l.Append(context.Background(), Event{Type: "after", Actor: "test"}); err != nil {
		p.t.Errorf("%s: append after the reopen: %v", what, err)
	}
	data, err := durable.ReadFile(p.sim, "/s/log/"+FileName, 1<<30)
	if err != nil {
		p.t.Fatal(err)
	}
	if rep, err := Verify(bytes.NewReader(data), l.Tree()); err != nil {
		p.t.Errorf("%s: the file: %+v %v", what, rep, err)
	}
}

// TestCrashTable makes each durable step fail, done, not done and half done, with the program dying there or going on, and then the power failing or
// not; and again while recovering from that.
func TestCrashTable(t *testing.T) {
	for mode, modeName := range map[durable.Mode]string{durable.NotDone: "not done", durable.Done: "done", durable.Half: "half"} {
		for _, die := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,die=%v", modeName, die), func(t *testing.T) {
				t.Parallel()
				for step := 1; ; step++ {
					if !crashAt(t, durable.Plan{Step: step, Mode: mode, Die: die}) {
						t.Logf("%d steps", step-1)
						if step < 15 {
							t.Errorf("only %d durable steps were met", step-1)
						}
						return
					}
				}
			})
		}
	}
}

// crashAt runs the table's row of one step; it returns false when the work has no such step.
func crashAt(t *testing.T, plan durable.Plan) bool {
	hit := true
	for seed := range uint64(4) {
		p := newSimPlace(t)
		p.sim.Fail(plan)
		err := p.work()
		if hit = p.sim.Steps() >= plan.Step; !hit {
			if err != nil {
				t.Errorf("no step failed, and yet: %v", err)
			}
			return false
		}
		what := fmt.Sprintf("%+v, seed %d", plan, seed)
		rng := rand.New(rand.NewPCG(seed, uint64(plan.Step)))
		if seed == 0 {
			p.sim = p.sim.Kill()
			p.keepIndex()
			p.check(what + ", killed")
			continue
		}
		p.sim = p.sim.CutPower(rng)
		p.dropIndex()
		// And once more, during the recovery.
		p.sim.Fail(durable.Plan{Step: 1 + rng.IntN(8), Mode: plan.Mode, Die: true})
		if l, db, err := p.open(); err == nil {
			_ = l.Close()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		p.sim = p.sim.CutPower(rng)
		p.dropIndex()
		p.check(what + ", power cut twice")
	}
	return hit
}

// TestFullDisk: the ledger stops, says so, and leaves the reason as the log's last line.
func TestFullDisk(t *testing.T) {
	p := newSimPlace(t)
	l, db, err := p.open()
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 0, 5)
	p.sim.SetSpace(100)
	_, err = l.Append(context.Background(), Event{Type: "tick", Actor: "a"})
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, durable.ErrNoSpace) {
		t.Fatalf("on a full disk: %v", err)
	}
	<-l.Failed()
	if _, again := l.Append(context.Background(), Event{Type: "tick", Actor: "a"}); fault.KindOf(again) != fault.Unavailable || !strings.Contains(fault.PublicOf(again), "full") {
		t.Fatalf("later: %v", again)
	}
	size, _ := l.Head()
	last, err := l.Read(size - 1)
	if err != nil || size != 6 || last.Type != TypeStopped || !strings.Contains(string(last.Details), "no space") {
		t.Fatalf("last line of %d: %+v %v", size, last, err)
	}
	if err := l.Close(); !errors.Is(err, durable.ErrFailed) {
		t.Errorf("closing says %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.open(); fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("reopened while full (the reserve is gone): %v", err)
	}
	p.sim.SetSpace(-1)
	p.check("with space again")
}

// TestTornTail cuts the file at every byte of its last lines, with the index and without.
func TestTornTail(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	appendN(t, l, 0, 4)
	closeBoth(t, l, db)
	whole, err := os.ReadFile(p.logPath())
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	third := len(lines[0]) + len(lines[1])
	for cut := third; cut < len(whole); cut++ {
		if cut%11 != 0 && whole[cut] != '\n' && whole[cut-1] != '\n' { // every byte at the ends of lines, and some within
			continue
		}
		q := newPlace(t)
		if err := os.Mkdir(filepath.Join(q.dir, "log"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(q.logPath(), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		good := bytes.LastIndexByte(whole[:cut], '\n') + 1
		l, db := q.open()
		aside := l.Aside()
		if cut == good {
			if len(aside) != 0 {
				t.Errorf("cut at %d: a whole log was torn: %+v", cut, aside)
			}
			closeBoth(t, l, db)
			continue
		}
		if len(aside) != 1 || aside[0].Offset != int64(good) {
			t.Fatalf("cut at %d: %+v", cut, aside)
		}
		kept, err := os.ReadFile(filepath.Join(q.dir, "log", aside[0].File))
		if err != nil || !bytes.Equal(kept, whole[good:cut]) {
			t.Errorf("cut at %d: set aside %q, %v", cut, kept, err)
		}
		size, _ := l.Head()
		if last, err := l.Read(size - 1); err != nil || last.Type != TypeSetAside {
			t.Errorf("cut at %d: not reported in the log: %+v %v", cut, last, err)
		}
		closeBoth(t, l, db)
	}
	// The index remembers that those lines were acknowledged: then it is no torn tail but a loss.
	if err := os.WriteFile(p.logPath(), whole[:len(whole)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.tryOpen(); fault.KindOf(err) != fault.Corrupt || fault.HintOf(err) == "" {
		t.Errorf("an acknowledged line was cut: %v", err)
	}
	if now, err := os.ReadFile(p.logPath()); err != nil || len(now) != len(whole)-3 {
		t.Errorf("a refused log was changed: %d bytes, %v", len(now), err)
	}
}

// TestTornTailIsReportedAfterACrash makes each durable step of setting a torn tail aside fail: once the log is open, one line tells of the file that is
// there, and nothing unfinished is.
func TestTornTailIsReportedAfterACrash(t *testing.T) {
	for mode := range map[durable.Mode]bool{durable.NotDone: true, durable.Done: true} {
		for step, more := 1, true; more; step++ {
			p := newSimPlace(t)
			l, db, err := p.open()
			if err != nil {
				t.Fatal(err)
			}
			appendN(t, l, 0, 3)
			closeBoth(t, l, db)
			f, err := p.sim.Open("/s/log/"+FileName, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			size, err := f.Size()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte(`{"prev_hash":"`), size); err != nil {
				t.Fatal(err)
			}
			p.sim.Fail(durable.Plan{Step: step, Mode: mode, Die: true})
			l, db, err = p.open()
			more = p.sim.Steps() >= step
			if err == nil {
				_ = l.Close() // its program died, or it is whole
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			p.sim = p.sim.Kill()
			p.keepIndex()
			p.reported(fmt.Sprintf("step %d, mode %v", step, mode))
		}
	}
}

// reported opens the log and looks at what it tells of a tail that was set aside.
func (p *simPlace) reported(what string) {
	p.t.Helper()
	l, db, err := p.open()
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	defer closeBoth(p.t, l, db)
	names, err := p.sim.List("/s/log")
	if err != nil {
		p.t.Fatal(err)
	}
	var torn []string
	for _, n := range names {
		if strings.Contains(n, "torn") {
			torn = append(torn, n)
		}
	}
	var told []string
	size, _ := l.Head()
	for seq := range size {
		r, err := l.Read(seq)
		if err != nil {
			p.t.Fatal(err)
		}
		var d struct{ File string }
		if err := json.Unmarshal(r.Details, &d); err == nil && r.Type == TypeSetAside {
			told = append(told, d.File)
		}
	}
	if len(torn) != 1 || !slices.Equal(torn, told) {
		p.t.Errorf("%s: there are %q, and the log tells of %q", what, torn, told)
	}
}
