package durable

import (
	"fmt"
	"sync"
)

// Together shares the syncs of a Volume: however many goroutines want what they wrote to be durable, one sync at a time is under way, and one that
// begins after they asked serves them all. It is safe for concurrent use.
type Together struct {
	volume Volume

	mu      sync.Mutex
	idle    sync.Cond // running has become false
	running bool
	next    *round // not begun; nil when nobody waits for it
	failed  int    // syncs that failed
	err     error  // of the last of those
}

// round is one sync and those who wait for it.
type round struct{ done chan struct{} }

// Since is a point in time between syncs.
type Since int

// OpenTogether opens the file system of dir.
func OpenTogether(fsys FS, dir string) (*Together, error) {
	v, err := fsys.Volume(dir)
	if err != nil {
		return nil, fmt.Errorf("durable: opening the file system of %s: %w", dir, err)
	}
	t := &Together{volume: v}
	t.idle.L = &t.mu
	return t, nil
}

// Begin is to be called before anything is written that a Sync is to vouch for.
func (t *Together) Begin() Since {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Since(t.failed)
}

// Sync returns nil when everything that its caller wrote after Begin is durable, names included. A loss is reported once, and by a sync that others may
// have asked for: so every sync that failed after Begin is an error here, also when the one after it succeeded.
func (t *Together) Sync(since Since) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.next; r != nil {
		t.mu.Unlock()
		<-r.done
		t.mu.Lock()
	} else {
		t.lead()
	}
	if t.failed != int(since) {
		return fmt.Errorf("durable: syncing the file system: %w", t.err)
	}
	return nil
}

// lead does the next round, after the one that is under way. t.mu is held, and let go meanwhile.
func (t *Together) lead() {
	r := &round{done: make(chan struct{})}
	t.next = r
	for t.running {
		t.idle.Wait()
	}
	// Whoever asks from here on wrote something that this sync may miss.
	t.next, t.running = nil, true
	t.mu.Unlock()
	err := t.volume.Sync()
	t.mu.Lock()
	t.running = false
	if err != nil {
		t.failed, t.err = t.failed+1, err
	}
	close(r.done)
	t.idle.Broadcast()
}

// Close closes the file system; nobody may be waiting.
func (t *Together) Close() error { return t.volume.Close() }
