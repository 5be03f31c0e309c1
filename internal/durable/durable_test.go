package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// TestWriteFileCrash: after any failure and any crash there is the old content or the new, and the new once WriteFile returned nil.
func TestWriteFileCrash(t *testing.T) {
	for _, mode := range []Mode{NotDone, Done, Half} {
		for _, die := range []bool{true, false} {
			for step := 1; step < 10; step++ {
				for seed := range uint64(8) {
					s := NewSim("/d")
					if err := WriteFile(s, "/d/f", []byte("old"), 0o600); err != nil {
						t.Fatal(err)
					}
					s.Fail(Plan{Step: step, Mode: mode, Die: die})
					err := WriteFile(s, "/d/f", []byte("newer"), 0o600)
					if (err == nil) != (s.Steps() < step) && (err == nil || !errors.Is(err, ErrSim)) {
						t.Fatalf("step %d: %v", step, err)
					}
					if seed == 0 {
						s = s.Kill()
					} else {
						s = s.CutPower(rand.New(rand.NewPCG(seed, 1)))
					}
					got, rerr := ReadFile(s, "/d/f", 100)
					if rerr != nil || string(got) != "newer" && (string(got) != "old" || err == nil) {
						t.Errorf("step %d, mode %d, die %v, seed %d: WriteFile says %v, there is %q, %v", step, mode, die, seed, err, got, rerr)
					}
				}
			}
		}
	}
}

func TestWriteFileOS(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, want := range []string{"one", "a longer two", ""} {
		if err := WriteFile(OS{}, name, []byte(want), 0o640); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadFile(OS{}, name, 100); err != nil || string(got) != want {
			t.Fatalf("%q %v", got, err)
		}
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if names, err := (OS{}).List(dir); err != nil || !slices.Equal(names, []string{"f"}) {
		t.Errorf("left over: %v %v", names, err)
	}
	if err := WriteFile(OS{}, filepath.Join(dir, "none", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := ReadFile(OS{}, filepath.Join(dir, "none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := WriteFile(OS{}, name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(OS{}, name, 4); err == nil {
		t.Error("a file over the limit was read")
	}
}

func TestLock(t *testing.T) {
	for what, fsys := range map[string]FS{"OS": OS{}, "Sim": NewSim("/d")} {
		dir := "/d"
		if what == "OS" {
			dir = t.TempDir()
		}
		name := filepath.Join(dir, "lock")
		a, err := fsys.Lock(name, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, shared := range []bool{true, false} {
			if _, err := fsys.Lock(name, shared); !errors.Is(err, ErrLocked) {
				t.Errorf("%s: locked twice: %v", what, err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := fsys.Lock(name, true)
		if err != nil {
			t.Fatal(err)
		}
		c, err := fsys.Lock(name, true)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := fsys.Lock(name, false); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", what, err)
		}
		if err := errors.Join(b.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMkdir(t *testing.T) {
	s := NewSim("/d")
	if err := Mkdir(s, "/d/a", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Mkdir(s, "/d/a", 0o700); err != nil {
		t.Fatal(err)
	}
	s = s.CutPower(rand.New(rand.NewPCG(1, 1)))
	if names, err := s.List("/d"); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Fatalf("%v %v", names, err)
	}
	if err := Mkdir(s, "/d/b/c", 0o700); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := Mkdir(OS{}, filepath.Join(t.TempDir(), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// The simulation itself: what is not synced may be lost, what is synced is not.
func TestSimLosesWhatIsNotSynced(t *testing.T) {
	lost := map[string]bool{}
	for seed := range uint64(64) {
		s := NewSim("/d")
		if err := WriteFile(s, "/d/kept", []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := s.Open("/d/data", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SyncDir("/d"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("data")); err != nil {
			t.Fatal(err)
		}
		g, err := s.Open("/d/name", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Write([]byte("name")); err != nil {
			t.Fatal(err)
		}
		if err := g.Sync(); err != nil {
			t.Fatal(err)
		}
		s = s.CutPower(rand.New(rand.NewPCG(seed, 2)))
		if b, err := ReadFile(s, "/d/kept", 10); err != nil || string(b) != "kept" {
			t.Fatalf("what was durable is gone: %q %v", b, err)
		}
		b, err := ReadFile(s, "/d/data", 10)
		if err != nil {
			t.Fatal(err)
		}
		lost[fmt.Sprintf("data %q", b)] = true
		_, err = ReadFile(s, "/d/name", 10)
		lost[fmt.Sprintf("name %v", err == nil)] = true
	}
	for _, want := range []string{`data ""`, `data "data"`, `data "\x00\x00\x00\x00"`, "name true", "name false"} {
		if !lost[want] {
			t.Errorf("never happened: %s of %v", want, lost)
		}
	}
}

// TestLockWhoseFileIsRemoved: of many who lock, work, remove the lock's file and let go, never two are at work.
func TestLockWhoseFileIsRemoved(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	var inside, worked atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 300 {
				l, err := OS{}.Lock(name, false)
				if errors.Is(err, ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				worked.Add(1)
				runtime.Gosched()
				inside.Add(-1)
				if err := errors.Join(os.Remove(name), l.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if worked.Load() < 8 {
		t.Errorf("it was held %d times", worked.Load())
	}
}
