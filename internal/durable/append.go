package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// MaxPending bounds what may wait to be written, and so the largest group, in bytes. A crash can tear no more than one group: whoever reopens the
// file finds everything before its last MaxPending bytes as it was acknowledged.
const MaxPending = 1 << 20

// reserveSize is how much the reserve holds back for Last.
const reserveSize = 256 << 10

// aheadSize is how much space beyond its end a file with a reserve holds back, and takes again when less than half is left: on a disk that others have filled,
// so much can still be appended.
const aheadSize = 4 << 20

// ErrFailed is in the tree of every error of an AppendFile that failed once: what its file holds beyond Durable is not known, so nothing may follow.
var ErrFailed = errors.New("durable: the file takes no more data after a failure")

var errClosed = errors.New("durable: file closed")

// AppendFile is a file that many goroutines append to. What waits is written as one group with one fsync, in the order of the Enqueue calls; a group
// is begun only when the one before is durable. After a failed write or fsync it takes nothing more: the kernel reports a lost page once and then
// forgets it, so a second fsync that succeeds would prove nothing.
type AppendFile struct {
	fs      FS
	path    string
	reserve string // path of the reserve file, "" for none
	file    File
	ahead   int64 // offset up to which space is held back; the writer's

	mu      sync.Mutex
	work    sync.Cond // something waits, or closing
	done    sync.Cond // durable grew, err was set, or there is room again
	pending []byte    // not yet given to the writer
	spare   []byte    // the writer's other buffer
	queued  int64     // offset after the last byte enqueued
	durable int64     // offset up to which the file is durable
	err     error
	closing bool
	closed  bool
	stopped chan struct{} // closed when the writer has ended
}

// OpenAppend opens the file at path, which is made (with its name durable) when missing, for appending at size; what is in it beyond size is cut off,
// what is in it below is made durable. When reserve is not empty, a file of that name holds disk space back for Last.
func OpenAppend(fsys FS, path, reserve string, size int64) (*AppendFile, error) {
	f, err := fsys.Open(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("durable: opening %s: %w", path, err)
	}
	a := &AppendFile{fs: fsys, path: path, reserve: reserve, file: f, queued: size, durable: size, stopped: make(chan struct{})}
	a.work.L, a.done.L = &a.mu, &a.mu
	if err := a.prepare(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	go a.run()
	return a, nil
}

func (a *AppendFile) prepare(size int64) error {
	now, err := a.file.Size()
	if err != nil {
		return fmt.Errorf("durable: size of %s: %w", a.path, err)
	}
	if now < size {
		return fmt.Errorf("durable: %s has %d bytes, less than %d", a.path, now, size)
	}
	if now > size {
		if err := a.file.Truncate(size); err != nil {
			return fmt.Errorf("durable: cutting %s to %d bytes: %w", a.path, size, err)
		}
	}
	// What a killed process wrote and did not sync may be in the page cache only.
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("durable: syncing %s: %w", a.path, err)
	}
	if a.reserve != "" {
		a.holdBack(size)
		// Without room for it, what is held back must do; a later opening makes it.
		if err := a.fill(); err != nil && (!Full(err) || a.ahead <= size) {
			return err
		} else if err != nil {
			_ = a.fs.Remove(a.reserve) // what there is of it is needed elsewhere
		}
	}
	if err := a.fs.SyncDir(filepath.Dir(a.path)); err != nil {
		return fmt.Errorf("durable: syncing the folder of %s: %w", a.path, err)
	}
	return nil
}

// fill makes the reserve: written, not only allocated, so that also a file system that compresses or has no fallocate(2) gives the space away.
func (a *AppendFile) fill() error {
	f, err := a.fs.Open(a.reserve, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("durable: opening the reserve: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("durable: size of the reserve: %w", err)
	}
	if size == reserveSize {
		return nil
	}
	noise := make([]byte, reserveSize)
	x := uint32(2463534242)
	for i := range noise { // xorshift: bytes that do not compress; nothing secret
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		noise[i] = byte(x)
	}
	if _, err := f.WriteAt(noise, 0); err != nil {
		return fmt.Errorf("durable: filling the reserve: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("durable: syncing the reserve: %w", err)
	}
	return nil
}

// holdBack holds space back for what is appended behind end. Where that cannot be had, an append takes what there is.
func (a *AppendFile) holdBack(end int64) {
	f, can := a.file.(interface{ ahead(end int64) error })
	if !can || a.reserve == "" || a.ahead-end >= aheadSize/2 {
		return
	}
	for size := int64(aheadSize); size >= aheadSize/64 && end+size > a.ahead; size /= 2 { // what was held back before the file was opened is still there
		if f.ahead(end+size) == nil {
			a.ahead = end + size
		}
	}
}

// Enqueue puts p, of at most MaxPending bytes, in line to be written and returns the offset of its end, for Wait. It waits while MaxPending bytes
// are in line already. Calls from one goroutine at a time decide the order.
func (a *AppendFile) Enqueue(p []byte) (end int64, err error) {
	if len(p) > MaxPending {
		return 0, fmt.Errorf("durable: %d bytes at once, more than %d", len(p), MaxPending)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.err == nil && !a.closing && len(a.pending)+len(p) > MaxPending {
		a.done.Wait()
	}
	if a.err != nil {
		return 0, a.err
	}
	if a.closing {
		return 0, errClosed
	}
	a.pending = append(a.pending, p...)
	a.queued += int64(len(p))
	a.work.Signal()
	return a.queued, nil
}

// Wait returns nil when everything before the offset end is durable, and an error when that will never be known.
func (a *AppendFile) Wait(end int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.durable < end && a.err == nil {
		a.done.Wait()
	}
	if a.durable >= end {
		return nil
	}
	return a.err
}

// Append is Enqueue and Wait.
func (a *AppendFile) Append(p []byte) error {
	end, err := a.Enqueue(p)
	if err != nil {
		return err
	}
	return a.Wait(end)
}

// Beyond waits until more than the first after bytes are durable and returns how many are. An error says that no more will be.
func (a *AppendFile) Beyond(after int64) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.durable <= after && a.err == nil {
		a.done.Wait()
	}
	if a.durable > after {
		return a.durable, nil
	}
	return a.durable, a.err
}

// ReadAt reads from the file; what is beyond the durable part must not be relied on.
func (a *AppendFile) ReadAt(p []byte, off int64) (int, error) { return a.file.ReadAt(p, off) }

// run is the writer: the only goroutine that writes to the file.
func (a *AppendFile) run() {
	defer close(a.stopped)
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for len(a.pending) == 0 && !a.closing {
			a.work.Wait()
		}
		if len(a.pending) == 0 {
			a.err = errClosed
			a.done.Broadcast()
			return
		}
		group := a.pending
		a.pending = a.spare[:0]
		a.done.Broadcast() // there is room again
		at := a.durable
		a.mu.Unlock()
		err := a.write(group, at)
		a.mu.Lock()
		a.spare = group
		if err != nil {
			a.err = fmt.Errorf("%w: %w", ErrFailed, err)
			a.done.Broadcast()
			return
		}
		a.durable = at + int64(len(group))
		a.done.Broadcast()
	}
}

func (a *AppendFile) write(group []byte, at int64) error {
	a.holdBack(at + int64(len(group)))
	// A crash in here tears this group at most: none of it has been acknowledged.
	if _, err := a.file.WriteAt(group, at); err != nil {
		return fmt.Errorf("durable: writing to %s: %w", a.path, err)
	}
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("durable: syncing %s: %w", a.path, err)
	}
	return nil
}

// Durable returns how many bytes of the file are durable.
func (a *AppendFile) Durable() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable
}

// Err returns why the file takes no more data, nil while it does.
func (a *AppendFile) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Last tries to put one last piece of data after the durable part of a file that failed: it gives the reserve up, cuts off what the failed group
// left, writes p and syncs. It helps on a full disk; on a broken one it is worth the attempt and no more. The file stays failed.
func (a *AppendFile) Last(p []byte) error {
	if !errors.Is(a.Err(), ErrFailed) {
		return errors.New("durable: the file has not failed")
	}
	<-a.stopped
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errClosed
	}
	var gone error
	if a.reserve != "" {
		if gone = a.fs.Remove(a.reserve); errors.Is(gone, os.ErrNotExist) {
			gone = nil
		}
	}
	if err := a.file.Truncate(a.durable); err != nil {
		return errors.Join(fmt.Errorf("durable: cutting %s: %w", a.path, err), gone)
	}
	if err := a.write(p, a.durable); err != nil {
		return errors.Join(err, gone)
	}
	a.durable += int64(len(p))
	return nil
}

// Close writes what is in line, makes it durable and closes the file.
func (a *AppendFile) Close() error {
	a.mu.Lock()
	a.closing = true
	a.work.Signal()
	a.done.Broadcast()
	a.mu.Unlock()
	<-a.stopped
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	err := a.file.Close()
	if errors.Is(a.err, ErrFailed) {
		return errors.Join(a.err, err)
	}
	return err
}
