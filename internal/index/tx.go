package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"go.etcd.io/bbolt"
)

// Limits of keys and values, in bytes.
const (
	MaxKey   = 32768 // bbolt.MaxKeySize
	MaxValue = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sumSize = 4

// damage is what this package panics with when a checksum does not hold: Get has no error to return, and the transaction is over anyway.
type damage struct{ what string }

// Tx is one transaction; it and its buckets are of no use after the function that got it returned.
type Tx struct {
	bolt     *bbolt.Tx
	writable bool
	inside   bool // bbolt is running: a panic now is its own
}

// Bucket is a named, ordered set of keys with their values.
type Bucket struct {
	tx   *Tx
	name string
	bolt *bbolt.Bucket // nil: an empty bucket of a read-only transaction
}

// enter marks that bbolt runs until the returned function is called. When bbolt panics it is not called, and so the mark stays.
func (t *Tx) enter() func() {
	if t.bolt == nil {
		panic("index: transaction used after its end")
	}
	t.inside = true
	return t.leave
}

func (t *Tx) leave() { t.inside = false }

// Bucket returns the bucket of that name, which comes to be when first written to. Names beginning with "_" are for the store's owner, the ledger.
func (t *Tx) Bucket(name string) *Bucket {
	leave := t.enter()
	b := t.bolt.Bucket([]byte(name))
	leave()
	return &Bucket{tx: t, name: name, bolt: b}
}

// DropBucket removes a bucket with all that is in it; removing what is not there is no error.
func (t *Tx) DropBucket(name string) error {
	leave := t.enter()
	err := t.bolt.DeleteBucket([]byte(name))
	leave()
	if err != nil && !errors.Is(err, bbolt.ErrBucketNotFound) {
		return fmt.Errorf("index: dropping bucket %q: %w", name, err)
	}
	return nil
}

// Get returns the value of key, nil when there is none. The value is the caller's own and never nil for a key that exists.
func (b *Bucket) Get(key []byte) []byte {
	if b.bolt == nil {
		return nil
	}
	leave := b.tx.enter()
	raw := b.bolt.Get(key)
	var v []byte
	if raw != nil {
		v = b.open(key, raw)
	}
	leave()
	return v
}

// Put sets the value of key. Both may be reused by the caller as soon as it returns.
func (b *Bucket) Put(key, value []byte) error {
	if len(key) == 0 || len(key) > MaxKey || len(value) > MaxValue {
		return fmt.Errorf("index: bucket %q: a key of %d bytes with a value of %d: keys are 1 to %d bytes, values at most %d", b.name, len(key), len(value), MaxKey, MaxValue)
	}
	leave := b.tx.enter()
	err := b.put(key, value)
	leave()
	return err
}

func (b *Bucket) put(key, value []byte) error {
	if b.bolt == nil {
		made, err := b.tx.bolt.CreateBucketIfNotExists([]byte(b.name))
		if err != nil {
			return fmt.Errorf("index: making bucket %q: %w", b.name, err)
		}
		b.bolt = made
	}
	sealed := make([]byte, len(value)+sumSize)
	copy(sealed, value)
	binary.BigEndian.PutUint32(sealed[len(value):], checksum(key, value))
	// bbolt copies the key and keeps the value until commit, so the value is ours.
	if err := b.bolt.Put(key, sealed); err != nil {
		return fmt.Errorf("index: writing to bucket %q: %w", b.name, err)
	}
	return nil
}

// Delete removes key; removing what is not there is no error.
func (b *Bucket) Delete(key []byte) error {
	if b.bolt == nil {
		return nil
	}
	leave := b.tx.enter()
	err := b.bolt.Delete(key)
	leave()
	if err != nil {
		return fmt.Errorf("index: deleting from bucket %q: %w", b.name, err)
	}
	return nil
}

// Seek yields the keys ≥ from in ascending order with their values, all of them when from is empty. Keys and values are the caller's own. The
// bucket must not be changed during the iteration.
func (b *Bucket) Seek(from []byte) iter.Seq2[[]byte, []byte] {
	return b.walk(func(c *bbolt.Cursor) ([]byte, []byte) { return c.Seek(from) }, (*bbolt.Cursor).Next)
}

// Descend yields the keys < before in descending order with their values, from the last one when before is empty.
func (b *Bucket) Descend(before []byte) iter.Seq2[[]byte, []byte] {
	return b.walk(func(c *bbolt.Cursor) ([]byte, []byte) {
		if len(before) == 0 {
			return c.Last()
		}
		if k, _ := c.Seek(before); k == nil {
			return c.Last()
		}
		return c.Prev()
	}, (*bbolt.Cursor).Prev)
}

// Prefix yields the keys that begin with prefix in ascending order with their values.
func (b *Bucket) Prefix(prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		for k, v := range b.Seek(prefix) {
			if !bytes.HasPrefix(k, prefix) || !yield(k, v) {
				return
			}
		}
	}
}

func (b *Bucket) walk(first func(*bbolt.Cursor) ([]byte, []byte), next func(*bbolt.Cursor) ([]byte, []byte)) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		if b.bolt == nil {
			return
		}
		leave := b.tx.enter()
		c := b.bolt.Cursor()
		k, raw := first(c)
		for k != nil {
			key := bytes.Clone(k)
			value := b.open(key, raw)
			leave()
			if !yield(key, value) {
				return
			}
			b.tx.enter()
			k, raw = next(c)
		}
		leave()
	}
}

// open returns a copy of the value within raw after its checksum holds.
func (b *Bucket) open(key, raw []byte) []byte {
	n := len(raw) - sumSize
	if n < 0 || binary.BigEndian.Uint32(raw[n:]) != checksum(key, raw[:n]) {
		panic(damage{fmt.Sprintf("bucket %q, key %x: the checksum does not match", b.name, key)})
	}
	v := make([]byte, n)
	copy(v, raw)
	return v
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}
