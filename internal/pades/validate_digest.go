package pades

import (
	"crypto"
	"encoding"
	"errors"
	"hash"
)

// prefix hashes a file from its start, as far as was asked for, so that the next ByteRange starts where the last one stopped.
type prefix struct {
	algorithm crypto.Hash
	data      []byte
	state     hash.Hash
	hashed    int64
}

func newPrefix(h crypto.Hash, data []byte) *prefix {
	return &prefix{algorithm: h, data: data, state: h.New()}
}

// digest returns the hash of the two spans of br, which is known to lie within the file. ByteRanges come with ascending gaps.
func (p *prefix) digest(br [4]int64) ([]byte, error) {
	if br[1] < p.hashed { // never with signatures that end with successive revisions
		p.state, p.hashed = p.algorithm.New(), 0
	}
	p.state.Write(p.data[p.hashed:br[1]])
	p.hashed = br[1]
	h, err := clone(p.algorithm, p.state)
	if err != nil {
		return nil, err
	}
	h.Write(p.data[br[2] : br[2]+br[3]])
	return h.Sum(nil), nil
}

// clone copies the state of a SHA-2 hash.
func clone(algorithm crypto.Hash, h hash.Hash) (hash.Hash, error) {
	m, ok := h.(encoding.BinaryMarshaler)
	if !ok {
		return nil, errors.New("pades: " + algorithm.String() + " cannot be copied")
	}
	state, err := m.MarshalBinary()
	if err != nil {
		return nil, err
	}
	c := algorithm.New()
	return c, c.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}
