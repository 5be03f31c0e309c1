package durable

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// slowVolume counts its syncs, each of which waits for a value in go, and reports it.
type slowVolume struct {
	begun chan struct{}
	end   chan error
}

func (v slowVolume) Sync() error {
	v.begun <- struct{}{}
	return <-v.end
}

func (slowVolume) Close() error { return nil }

type slowFS struct {
	FS
	volume Volume
}

func (s slowFS) Volume(string) (Volume, error) { return s.volume, nil }

func together(t *testing.T) (*Together, slowVolume) {
	t.Helper()
	v := slowVolume{make(chan struct{}), make(chan error)}
	g, err := OpenTogether(slowFS{volume: v}, "/")
	if err != nil {
		t.Fatal(err)
	}
	return g, v
}

// TestTogether: whoever asks while a sync is under way is served by the one after it, and by one only.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, v := together(t)
		var first, rest sync.WaitGroup
		first.Go(func() {
			if err := g.Sync(g.Begin()); err != nil {
				t.Error(err)
			}
		})
		<-v.begun
		ended := make(chan struct{}, 20)
		for range 20 {
			rest.Go(func() {
				if err := g.Sync(g.Begin()); err != nil {
					t.Error(err)
				}
				ended <- struct{}{}
			})
		}
		synctest.Wait()
		v.end <- nil
		first.Wait()
		<-v.begun
		synctest.Wait()
		if len(ended) != 0 {
			t.Errorf("%d were served by a sync that began before they asked", len(ended))
		}
		v.end <- nil
		rest.Wait() // a third sync would never end
	})
}

// TestTogetherFails: a failed sync is an error for all who had begun to write before it ended, also for those whom it did not serve; not for those who
// begin after it.
func TestTogetherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, v := together(t)
		broken := errors.New("broken")
		var served, writing sync.WaitGroup
		served.Go(func() {
			if err := g.Sync(g.Begin()); !errors.Is(err, broken) {
				t.Errorf("who was served by it: %v", err)
			}
		})
		<-v.begun
		early := g.Begin()
		v.end <- broken
		served.Wait()
		late := g.Begin()
		writing.Go(func() {
			if err := g.Sync(early); !errors.Is(err, broken) {
				t.Errorf("who had begun to write: %v", err)
			}
		})
		<-v.begun
		v.end <- nil
		writing.Wait()
		writing.Go(func() {
			if err := g.Sync(late); err != nil {
				t.Errorf("who began after it: %v", err)
			}
		})
		<-v.begun
		v.end <- nil
		writing.Wait()
	})
}

// TestVolume: the machine's own file system is synced.
func TestVolume(t *testing.T) {
	g, err := OpenTogether(OS{}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Sync(g.Begin()); err != nil {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := g.Sync(g.Begin()); err == nil {
		t.Error("a closed file system was synced")
	}
	if _, err := OpenTogether(OS{}, t.TempDir()+"/none"); err == nil {
		t.Error("the file system of no folder was opened")
	}
}
