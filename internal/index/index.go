// Package index is an ordered key-value store for what is derived from the log. It is the only user of bbolt, and none of bbolt's types leak.
//
// The store may be lost at any time: whoever fills it can fill it again. So it is never fsynced while open, and trades that for one duty: after a
// power cut, on any damage that shows, or when somebody else wrote to it, it must be found out and emptied rather than believed. Three things see to that:
//
//   - a marker file holds the kernel's boot ID while the store is open, and after Close "clean" and a MAC over the file (see Keys). Writes of a killed
//     process survive in the page cache, those before a power cut may not: a marker of another boot means the file is thrown away;
//   - each value carries a CRC-32C over its key and itself, since bbolt has checksums on its meta pages only;
//   - panics and memory faults of bbolt over a damaged page become ErrDamaged.
package index

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"go.etcd.io/bbolt"
)

// ErrDamaged is in the tree of every error that says that the store cannot be believed any more. Reset it and fill it again.
var ErrDamaged = errors.New("index: damaged")

// bootIDPath is where Linux tells one boot from another (random(4)).
const bootIDPath = "/proc/sys/kernel/random/boot_id"

// Keys seal the key of the MAC that a closed store has, so that who has the disk and not the token cannot write into it what the log does not say: a realm of
// their own, say. package token implements it.
type Keys interface {
	SealKey(key []byte) (sealed []byte, err error)
	OpenKey(sealed []byte) (key []byte, err error)
}

// DB is an open store. Its methods may be called from several goroutines at once; updates run one at a time.
type DB struct {
	path string
	keys Keys
	why  string

	mu      sync.RWMutex // held for reading by transactions, for writing while bolt is replaced
	bolt    *bbolt.DB    // nil once closed
	damaged bool         // guarded by dmu: a transaction only holds mu for reading
	dmu     sync.Mutex
	ahead   int64 // of the file, held back for what is written to it; guarded by bolt's one writer
}

// aheadSize is how much disk space the store holds back beyond its end, so that it can be written to on a disk that others have filled.
const aheadSize = 4 << 20

// holdBack holds that space back again when less than half is left. Where it cannot be had, writing takes what there is.
func (d *DB) holdBack(tx *bbolt.Tx) {
	end := tx.Size()
	if d.ahead-end >= aheadSize/2 {
		return
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for size := int64(aheadSize); size >= aheadSize/64 && end+size > d.ahead; size /= 2 {
		if durable.Ahead(f, end+size) == nil {
			d.ahead = end + size
		}
	}
}

// Open opens the store at path, which one process at a time may do, and makes an empty one when there is none, when the last user's writes may have
// been lost in a power cut, when it is damaged, or is not the one that was closed with these keys; Emptied then says why. The keys are used until Close.
func Open(path string, keys Keys) (*DB, error) {
	d, err := openStore(path, keys)
	var told *fault.Error
	if public, hint := durable.Explain(err); public != "" && !errors.As(err, &told) {
		return nil, fault.New(fault.Unavailable, public).WithHint(hint).WithCause(err)
	}
	return d, err
}

func openStore(path string, keys Keys) (*DB, error) {
	d := &DB{path: path, keys: keys}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	d.why, err = distrust(path, boot, keys)
	if err != nil {
		return nil, err
	}
	if d.why == "" {
		d.bolt, err = openBolt(path)
		if errors.Is(err, errBusy) {
			return nil, fault.New(fault.Unavailable, "another process has the index open").
				WithHint("only one signer may run; stop the other first").WithCause(err)
		}
		if err != nil {
			d.why = err.Error()
		}
	}
	if d.why != "" {
		if err := d.recreate(); err != nil {
			return nil, err
		}
	}
	// The marker is durable before the first write, so that a power cut never leaves "clean" beside a store that was written to.
	if err := openMarker(path, "open "+boot); err != nil {
		return nil, errors.Join(err, d.bolt.Close())
	}
	return d, nil
}

// Emptied returns why Open found the store unusable and emptied it, or "".
func (d *DB) Emptied() string { return d.why }

// Reset empties the store.
func (d *DB) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bolt == nil {
		return errClosed
	}
	if err := d.recreate(); err != nil {
		return err
	}
	d.dmu.Lock()
	d.damaged = false
	d.dmu.Unlock()
	return nil
}

// Close makes the store durable and marks it clean, so that the next Open can believe it whatever happens in between. A damaged store is left
// marked so that the next Open empties it.
func (d *DB) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bolt == nil {
		return nil
	}
	b := d.bolt
	d.bolt = nil
	if d.isDamaged() {
		return errors.Join(b.Close(), writeMarker(d.path, "damaged"))
	}
	if err := b.Sync(); err != nil {
		return errors.Join(fmt.Errorf("index: syncing %s: %w", d.path, err), b.Close())
	}
	if err := b.Close(); err != nil {
		return fmt.Errorf("index: closing %s: %w", d.path, err)
	}
	// A crash here leaves "open" with this boot's ID: believed until the next boot, then emptied. Never wrong, at worst slower.
	seal, err := sealFile(d.path, d.keys)
	if err != nil {
		return err
	}
	if err := writeMarker(d.path, clean+seal); !durable.Full(err) {
		return err
	}
	return nil // on a full disk it is as after a crash here
}

// Update runs fn over all that is in the store, with the right to change it. When fn returns an error nothing is changed and that error is returned.
func (d *DB) Update(fn func(*Tx) error) error { return d.run(fn, true) }

// View runs fn over the store as it is at one moment; a View does not wait for an Update, nor the other way round.
func (d *DB) View(fn func(*Tx) error) error { return d.run(fn, false) }

func (d *DB) run(fn func(*Tx) error, writable bool) (err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.bolt == nil {
		return errClosed
	}
	if d.isDamaged() {
		return ErrDamaged
	}
	defer func() {
		if errors.Is(err, ErrDamaged) {
			d.dmu.Lock()
			d.damaged = true
			d.dmu.Unlock()
		}
	}()
	return guard(fn, func(inner func(*bbolt.Tx) error) error {
		if writable {
			return d.bolt.Update(func(tx *bbolt.Tx) error {
				d.holdBack(tx)
				return inner(tx)
			})
		}
		return d.bolt.View(inner)
	}, writable)
}

func (d *DB) isDamaged() bool {
	d.dmu.Lock()
	defer d.dmu.Unlock()
	return d.damaged
}

// foreign carries a panic of the caller's own function through bbolt, so that it is not taken for damage.
type foreign struct{ value any }

// guard runs a transaction so that what bbolt does over a damaged file (it panics, or reads past the end of the mapping) becomes ErrDamaged, while
// a panic of fn itself goes on as it came.
func guard(fn func(*Tx) error, transact func(func(*bbolt.Tx) error) error, writable bool) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case foreign:
			panic(p.value)
		case damage:
			err = fmt.Errorf("%w: %s", ErrDamaged, p.what)
		default:
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return transact(func(t *bbolt.Tx) error {
		tx := &Tx{bolt: t, writable: writable}
		defer func() { tx.bolt = nil }()
		return callBack(tx, fn)
	})
}

// callBack runs fn and marks a panic that did not arise below this package's methods as foreign.
func callBack(tx *Tx, fn func(*Tx) error) error {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if _, ok := p.(damage); ok || tx.inside {
			panic(p)
		}
		panic(foreign{p})
	}()
	return fn(tx)
}

var (
	errClosed = errors.New("index: closed")
	errBusy   = errors.New("index: locked by another process")
)

// recreate removes the store and makes an empty one. d.mu is held, or d is not shared yet.
func (d *DB) recreate() error {
	if d.bolt != nil {
		_ = d.bolt.Close() // the file goes away: what closing it says is of no interest
		d.bolt = nil
	}
	d.ahead = 0
	if err := os.Remove(d.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("index: removing the old store: %w", err)
	}
	b, err := openBolt(d.path)
	if err != nil {
		return err
	}
	d.bolt = b
	return nil
}

// lockWait bounds the wait for the file lock that bbolt takes.
const lockWait = 200 * time.Millisecond

func openBolt(path string) (b *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	b, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockWait, NoSync: true, NoGrowSync: true, NoStatistics: true, FreelistType: bbolt.FreelistMapType,
		// Address space only: a read transaction never holds up an update that must map more.
		InitialMmapSize: 1 << 30,
	})
	if errors.Is(err, bbolt.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", errBusy, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: opening %s: %w", ErrDamaged, path, err)
	}
	return b, nil
}

func bootID() (string, error) {
	b, err := os.ReadFile(bootIDPath)
	if err != nil {
		return "", fmt.Errorf("index: reading the boot ID: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
