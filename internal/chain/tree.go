package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree is the state of a log as a Merkle tree: how many lines it has and the RFC 6962 hash over them.
type Tree struct {
	Size uint64
	Root Hash
}

// LeafHash returns the RFC 6962 leaf hash of a line without its newline.
func LeafHash(line []byte) Hash {
	// RFC 6962 §2.1: MTH({d(0)}) = SHA-256(0x00 ‖ d(0)).
	var p Parser
	return p.LeafHash(line)
}

// LeafHash is LeafHash in p's working memory.
func (p *Parser) LeafHash(line []byte) Hash {
	if cap(p.scratch) < len(line)+1 {
		p.scratch = make([]byte, 0, max(4096, len(line)+1))
	}
	b := append(p.scratch[:0], 0)
	b = append(b, line...)
	return sha256.Sum256(b)
}

// NodeHash returns the RFC 6962 hash of an inner node.
func NodeHash(left, right Hash) Hash { return tlog.NodeHash(left, right) }

// Frontier holds what is needed of a Merkle tree to append to it and to know its root: the roots of the perfect subtrees that it consists of, at
// most one for each bit of its size. The zero Frontier is the empty tree.
type Frontier struct {
	size  uint64
	roots []Hash // largest subtree first; len(roots) == OnesCount(size)
}

// Size returns the number of leaves.
func (f *Frontier) Size() uint64 { return f.size }

// Append adds a leaf.
func (f *Frontier) Append(leaf Hash) {
	h := leaf
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.roots) - 1
		h = NodeHash(f.roots[last], h)
		f.roots = f.roots[:last]
	}
	f.roots = append(f.roots, h)
	f.size++
}

// Tree returns the size and the root.
func (f *Frontier) Tree() Tree {
	if f.size == 0 {
		// RFC 6962 §2.1: the hash of an empty list is the hash of an empty string.
		return Tree{Root: sha256.Sum256(nil)}
	}
	h := f.roots[len(f.roots)-1]
	for i := len(f.roots) - 2; i >= 0; i-- {
		h = NodeHash(f.roots[i], h)
	}
	return Tree{Size: f.size, Root: h}
}

// Perfect returns the root of the subtree over 2^level leaves that f consists of, among others; false when it has none of that size.
func (f *Frontier) Perfect(level int) (Hash, bool) {
	if level < 0 || level > 63 || f.size>>level&1 == 0 {
		return Hash{}, false
	}
	return f.roots[bits.OnesCount64(f.size>>level)-1], true
}

// Clone returns a Frontier that does not change with f.
func (f *Frontier) Clone() Frontier {
	return Frontier{size: f.size, roots: append([]Hash(nil), f.roots...)}
}

// MarshalBinary encodes f: the size as 8 bytes big-endian, then the subtree roots, the largest first.
func (f *Frontier) MarshalBinary() ([]byte, error) {
	b := binary.BigEndian.AppendUint64(nil, f.size)
	for _, h := range f.roots {
		b = append(b, h[:]...)
	}
	return b, nil
}

// UnmarshalBinary is the inverse of MarshalBinary.
func (f *Frontier) UnmarshalBinary(b []byte) error {
	if len(b) < 8 {
		return errors.New("chain: a frontier of less than 8 bytes")
	}
	size := binary.BigEndian.Uint64(b)
	n := bits.OnesCount64(size)
	if len(b) != 8+n*HashSize {
		return fmt.Errorf("chain: a frontier of size %d in %d bytes, not %d", size, len(b), 8+n*HashSize)
	}
	f.size, f.roots = size, make([]Hash, n)
	for i := range f.roots {
		copy(f.roots[i][:], b[8+i*HashSize:])
	}
	return nil
}

// BreakError says at which line a log stops being what it claims.
type BreakError struct {
	Seq  uint64 // the line, counted from 0
	What error
}

// Error counts lines from 1, as editors and sed do.
func (e *BreakError) Error() string { return fmt.Sprintf("line %d: %v", e.Seq+1, e.What) }

// Unwrap returns what is wrong with the line.
func (e *BreakError) Unwrap() error { return e.What }

// What links two lines that do not belong together.
var (
	ErrPrev = errors.New("chain: prev_hash is not the hash of the line before")
	ErrTime = errors.New("chain: the timestamp is before that of the line before")
)

// State is where a log has got to. The zero State is the empty log's.
type State struct {
	Size   uint64
	Head   Hash
	Micros int64 // of the last line, microseconds since 1970
}

// Next takes the line after s: its prev_hash must be s.Head and its time not before s's. On error s does not change.
func (s *State) Next(l Link) error {
	if l.Prev != s.Head {
		return &BreakError{s.Size, ErrPrev}
	}
	if s.Size > 0 && l.Micros < s.Micros {
		return &BreakError{s.Size, ErrTime}
	}
	s.Size++
	s.Head, s.Micros = l.Hash, l.Micros
	return nil
}
