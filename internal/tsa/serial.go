package tsa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync/atomic"
)

// serials makes serial numbers that never repeat (RFC 3161 §2.4.2: also not after an interruption of service), 160 bits long:
//
//	01 | 62 random bits of this start | 48 bits that count | 48 random bits of this number
//
// The count keeps one start's numbers apart, the first random part those of different starts and processes, the second those of a machine
// that was copied or set back while it ran.
type serials struct {
	rand  io.Reader
	start [8]byte
	count atomic.Uint64
}

// maxCount is a thousand tokens a second for 8,900 years.
const maxCount = 1<<48 - 1

func newSerials(rand io.Reader) (*serials, error) {
	s := &serials{rand: rand}
	if _, err := io.ReadFull(rand, s.start[:]); err != nil {
		return nil, fmt.Errorf("tsa: randomness for serial numbers: %w", err)
	}
	s.start[0] = s.start[0]&0x3f | 0x40 // positive, and all of one length
	return s, nil
}

func (s *serials) next() (*big.Int, error) {
	n := s.count.Add(1)
	if n > maxCount {
		return nil, errors.New("tsa: serial numbers are used up")
	}
	var b [24]byte
	copy(b[:], s.start[:])
	binary.BigEndian.PutUint64(b[8:], n<<16) // 6 bytes of count; what follows is overwritten
	if _, err := io.ReadFull(s.rand, b[14:20]); err != nil {
		return nil, fmt.Errorf("tsa: randomness for a serial number: %w", err)
	}
	return new(big.Int).SetBytes(b[:20]), nil
}
