package pdf

import (
	"crypto"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"hash"
)

// DigestRange returns the hash of the two spans of a ByteRange. Digests of ranges in ascending order read the file once: the
// state at the end of each first span is kept.
func (f *File) DigestRange(h crypto.Hash, br [4]int64) ([]byte, error) {
	if err := usable(h); err != nil {
		return nil, err
	}
	n := int64(len(f.data))
	for _, v := range br {
		if v < 0 || v > n {
			return nil, invalid("a ByteRange reaches beyond the file")
		}
	}
	if br[0]+br[1] > br[2] || br[2]+br[3] > n {
		return nil, invalid("a ByteRange overlaps itself, or reaches beyond the file")
	}
	if br[0] != 0 {
		w := h.New()
		w.Write(f.data[br[0] : br[0]+br[1]])
		w.Write(f.data[br[2] : br[2]+br[3]])
		return w.Sum(nil), nil
	}
	w := prefix(f.mid, h, f.data[:br[1]])
	w.Write(f.data[br[2] : br[2]+br[3]])
	return w.Sum(nil), nil
}

func usable(h crypto.Hash) error {
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
		return nil
	}
	return unsupported("digest algorithm %v", h)
}

// prefix returns the state of h after b, which begins a file whose mid-states are in mid; it goes on from the one there, and leaves a later one.
func prefix(mid map[crypto.Hash]midstate, h crypto.Hash, b []byte) hash.Hash {
	n := int64(len(b))
	m, ok := mid[h]
	if !ok || m.n > n {
		w := h.New()
		w.Write(b)
		if !ok {
			keepState(mid, h, w, n)
		}
		return w
	}
	c, err := m.state.Clone()
	if err != nil {
		panic("pdf: " + h.String() + " cannot be cloned: " + err.Error())
	}
	c.Write(b[m.n:])
	if n > m.n {
		keepState(mid, h, c, n)
	}
	return c
}

// keepState notes a copy of w as the state after n bytes.
func keepState(mid map[crypto.Hash]midstate, h crypto.Hash, w hash.Hash, n int64) {
	if c, ok := w.(hash.Cloner); ok {
		if c, err := c.Clone(); err == nil {
			mid[h] = midstate{n, c}
		}
	}
}
