package ledger

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/index"
)

var (
	killDir    = flag.String("ledger.kill-dir", "", "be the child of TestKill: append to the log in this folder until killed")
	killRounds = flag.Int("ledger.kill-rounds", 12, "how often TestKill kills its child")
)

// TestKillChild is the program that TestKill kills: it tells what was acknowledged, one line each.
func TestKillChild(t *testing.T) {
	if *killDir == "" {
		return // run by TestKill
	}
	p := &place{t: t, dir: *killDir, folds: []Fold{counts{}}, now: time.Now}
	l, _ := p.open()
	var mu sync.Mutex // keeps lines whole
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				r, err := l.Append(context.Background(), Event{Type: "tick", Actor: "child", Details: map[string]any{"id": id}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				fmt.Fprintf(os.Stdout, "acked %d %s\n", r.Seq, id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKill kills the process at random moments: what it acknowledged is there, in its place.
func TestKill(t *testing.T) {
	if *killDir != "" {
		t.Fatal("a child runs TestKillChild only")
	}
	p := newPlace(t)
	acked := map[string]uint64{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range *killRounds {
		killRound(t, p.dir, time.Duration(5+rng.IntN(120))*time.Millisecond, acked)
	}
	if len(acked) == 0 {
		t.Fatal("no child acknowledged anything")
	}
	l, db := p.open()
	defer closeBoth(t, l, db)
	rep, err := l.Verify(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d acknowledged, %d lines", *killRounds, len(acked), rep.Size)
	if n := count(t, l, "tick"); n+count(t, l, TypeSetAside) != rep.Size {
		t.Errorf("%d lines, %d folded", rep.Size, n)
	}
	for id, seq := range acked {
		r, err := l.Read(seq)
		if err != nil || !strings.Contains(string(r.Details), `"`+id+`"`) {
			t.Fatalf("%s was acknowledged as line %d: there is %s, %v", id, seq, r.Details, err)
		}
		err = l.View(func(tx *index.Tx) error {
			if tx.Bucket("ids").Get([]byte(id)) == nil {
				return fmt.Errorf("%s is not folded", id)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// killRound starts a child, kills it some time after its first acknowledgement and notes what it acknowledged.
func killRound(t *testing.T, dir string, after time.Duration, acked map[string]uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-ledger.kill-dir="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	first := true
	for s.Scan() {
		if first {
			first = false
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		var seq uint64
		var id string
		if n, _ := fmt.Sscanf(s.Text(), "acked %d %s", &seq, &id); n == 2 {
			acked[id] = seq
		}
	}
	_ = cmd.Wait() // it was killed
	if first {
		t.Fatalf("the child acknowledged nothing: %s", stderr.String())
	}
}
