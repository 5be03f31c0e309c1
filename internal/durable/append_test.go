package durable

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAppendFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "log")
	a, err := OpenAppend(OS{}, name, filepath.Join(dir, "reserve"), 0)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for i := range 10 {
		p := fmt.Appendf(nil, "line %d\n", i)
		want.Write(p)
		if err := a.Append(p); err != nil {
			t.Fatal(err)
		}
		if a.Durable() != int64(want.Len()) {
			t.Fatalf("%d durable of %d", a.Durable(), want.Len())
		}
	}
	if err := a.Last([]byte("x")); err == nil {
		t.Error("Last on a file that works")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Append([]byte("x")); err == nil {
		t.Error("append after Close")
	}
	if n, err := a.Beyond(int64(want.Len()) - 1); err != nil || n != int64(want.Len()) {
		t.Errorf("Beyond after Close: %d %v", n, err)
	}
	if _, err := a.Beyond(int64(want.Len())); err == nil || errors.Is(err, ErrFailed) {
		t.Errorf("Beyond the end after Close: %v", err)
	}
	// Opened at a smaller size, the rest is cut off; at a larger one it is an error.
	cut := want.Len() - 3
	a, err = OpenAppend(OS{}, name, "", int64(cut))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Append([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != want.String()[:cut]+"end" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := OpenAppend(OS{}, name, "", 1<<20); err == nil {
		t.Error("opened beyond its size")
	}
	if st, err := os.Stat(filepath.Join(dir, "reserve")); err != nil || st.Size() != reserveSize {
		t.Errorf("reserve: %v %v", st, err)
	}
}

// TestOrder: what one goroutine enqueues stays in order, and nothing mixes.
func TestOrder(t *testing.T) {
	s := NewSim("/d")
	a, err := OpenAppend(s, "/d/log", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				end, err := a.Enqueue(fmt.Appendf(nil, "%d %d\n", w, i))
				if err != nil {
					t.Error(err)
					return
				}
				if i%10 == 0 {
					if err := a.Wait(end); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := ReadFile(s, "/d/log", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for _, line := range strings.Fields(strings.ReplaceAll(string(data), " ", ":")) {
		w, i, _ := strings.Cut(line, ":")
		if i != fmt.Sprint(next[w]) {
			t.Fatalf("%s comes after %s %d", line, w, next[w]-1)
		}
		next[w]++
	}
	if len(next) != 8 || next["7"] != 200 {
		t.Errorf("%v", next)
	}
}

// TestBackPressure: more than MaxPending never waits, and a group is never larger.
func TestBackPressure(t *testing.T) {
	s := NewSim("/d")
	a, err := OpenAppend(s, "/d/log", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 100_000)
	for range 50 {
		if _, err := a.Enqueue(piece); err != nil {
			t.Fatal(err)
		}
		a.mu.Lock()
		if len(a.pending) > MaxPending {
			t.Errorf("%d bytes wait", len(a.pending))
		}
		a.mu.Unlock()
	}
	if _, err := a.Enqueue(make([]byte, MaxPending+1)); err == nil {
		t.Error("more than MaxPending at once")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a.Durable() != 50*100_000 {
		t.Errorf("%d durable", a.Durable())
	}
}

// TestFailurePoisons: after a failed write or fsync nothing is taken any more, everyone who waits is told, and Last may leave a last word.
func TestFailurePoisons(t *testing.T) {
	for _, mode := range []Mode{NotDone, Done, Half} {
		for step := 1; step <= 2; step++ { // the write, the fsync
			s := NewSim("/d")
			a, err := OpenAppend(s, "/d/log", "/d/reserve", 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Append([]byte("good\n")); err != nil {
				t.Fatal(err)
			}
			s.Fail(Plan{Step: step, Mode: mode})
			var told atomic.Int32
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := a.Append([]byte("lost\n")); errors.Is(err, ErrFailed) && errors.Is(err, ErrSim) {
						told.Add(1)
					} else {
						t.Errorf("step %d: %v", step, err)
					}
				})
			}
			wg.Wait()
			if told.Load() != 4 || a.Durable() != 5 || !errors.Is(a.Err(), ErrFailed) {
				t.Errorf("step %d: %d told, %d durable, %v", step, told.Load(), a.Durable(), a.Err())
			}
			if err := a.Last([]byte("last\n")); err != nil {
				t.Errorf("Last: %v", err)
			}
			if got, err := ReadFile(s, "/d/log", 100); err != nil || string(got) != "good\nlast\n" {
				t.Errorf("step %d: %q %v", step, got, err)
			}
			if err := a.Append([]byte("more\n")); !errors.Is(err, ErrFailed) {
				t.Errorf("append after Last: %v", err)
			}
			if err := a.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("Close: %v", err)
			}
		}
	}
}

// TestReserve: on a full disk there is room for a last word, and only there.
func TestReserve(t *testing.T) {
	for _, reserve := range []string{"/d/reserve", ""} {
		s := NewSim("/d")
		a, err := OpenAppend(s, "/d/log", reserve, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.SetSpace(2)
		if err := a.Append([]byte("too much")); !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
		err = a.Last([]byte("the disk is full"))
		if (err == nil) != (reserve != "") {
			t.Errorf("with reserve %q: %v", reserve, err)
		}
	}
}

// TestAppendCrash: whatever fails, what was acknowledged is there after a power cut, in its place.
func TestAppendCrash(t *testing.T) {
	for _, mode := range []Mode{NotDone, Done, Half} {
		for step := 1; ; step++ {
			s := NewSim("/d")
			s.Fail(Plan{Step: step, Mode: mode, Die: true})
			acked := ""
			if a, err := OpenAppend(s, "/d/log", "/d/reserve", 0); err == nil {
				for i := range 5 {
					p := strings.Repeat(fmt.Sprint(i), 400) + "\n"
					if a.Append([]byte(p)) == nil {
						acked += p
					}
				}
				_ = a.Close()
			}
			if s.Steps() < step {
				break
			}
			for seed := range uint64(8) {
				after := s.CutPower(rand.New(rand.NewPCG(seed, uint64(step))))
				got, err := ReadFile(after, "/d/log", 1<<20)
				if acked != "" && (err != nil || !strings.HasPrefix(string(got), acked)) {
					t.Errorf("step %d: acknowledged %d bytes, there are %d: %v", step, len(acked), len(got), err)
				}
			}
		}
	}
}

func BenchmarkAppendFile(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			dir := b.TempDir()
			a, err := OpenAppend(OS{}, filepath.Join(dir, "log"), "", 0)
			if err != nil {
				b.Fatal(err)
			}
			p := bytes.Repeat([]byte("x"), 500)
			var n atomic.Int64
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for n.Add(1) <= int64(b.N) {
						if err := a.Append(p); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			if err := a.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// TestHeldBack: what a log holds back is room on a disk that others have filled since, also for who opens it then. It takes root, for a disk of its own.
func TestHeldBack(t *testing.T) {
	dir := t.TempDir()
	runtime.LockOSThread() // for good: the thread ends with the test, and the disk that it alone sees
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("none", dir, "tmpfs", 0, "size=8m")
	}
	if errors.Is(err, unix.EPERM) {
		if os.Getenv("CI") != "" {
			t.Fatalf("this test takes root, for a disk of its own: %v", err)
		}
		t.Skip("without root there is no disk of its own")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	log, reserve := filepath.Join(dir, "log"), filepath.Join(dir, "reserve")
	a, err := OpenAppend(OS{}, log, reserve, 0)
	if err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	for block := make([]byte, 4096); err == nil; {
		_, err = filler.Write(block)
	}
	if !Full(err) {
		t.Fatal(err)
	}
	if free, err := Room(dir); err != nil || free != 0 {
		t.Fatalf("%d bytes free, %v", free, err)
	}
	line := bytes.Repeat([]byte("x"), 100<<10)
	lines := 0
	more := func(n int) {
		t.Helper()
		for range n {
			if err := a.Append(line); err != nil {
				t.Fatalf("line %d on a full disk: %v", lines, err)
			}
			lines++
		}
	}
	more(10)
	if err := errors.Join(a.Close(), os.Remove(reserve)); err != nil {
		t.Fatal(err)
	}
	if _, err := filler.Write(make([]byte, reserveSize)); err != nil { // somebody takes that, too
		t.Fatal(err)
	}
	if a, err = OpenAppend(OS{}, log, reserve, int64(lines*len(line))); err != nil {
		t.Fatalf("opened on a full disk: %v", err)
	}
	more(10)
	for err == nil {
		err = a.Append(line)
	}
	if !errors.Is(err, ErrFailed) || !Full(err) {
		t.Errorf("with nothing held back any more: %v", err)
	}
	if err := a.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("closing: %v", err)
	}
	if err := errors.Join(filler.Close(), os.Remove(filler.Name())); err != nil {
		t.Fatal(err)
	}
	if a, err = OpenAppend(OS{}, log, reserve, int64(lines*len(line))); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(reserve); err != nil || info.Size() != reserveSize {
		t.Errorf("the reserve with room again: %v", err)
	}
	more(1)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
