package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// The state file, version 1: two slots of 8 KiB, written in turn, so that a torn write damages only the one that is being replaced. The slot with the
// larger counter is the state. All numbers are big-endian:
//
//	magic     8 bytes  "AESRCV1\n"
//	counter   8 bytes
//	length    4 bytes  of the payload
//	payload            offset (8), time of the last line in microseconds (8), hash of the last line (32), hash of the table of blocks (32),
//	                   length (2) of the frontier and the frontier, length (2) of the note and the note
//	sum      32 bytes  SHA-256 of all before it
const (
	stateMagic = "AESRCV1\n"
	slotSize   = 8 << 10
	slotFixed  = len(stateMagic) + 8 + 4
	maxHeld    = 6 << 10 // of a checkpoint with its cosignature
)

// held is what the receiver holds of a log: the lines that it cosigned, where they end in its file, and the checkpoint.
type held struct {
	chain.State
	offset int64
	tree   chain.Frontier
	table  chain.Hash // over the blocks that are complete, see block.hash
	note   []byte     // the checkpoint with the log's signature and the last cosignature; nil for the empty log
}

func (h held) clone() held {
	h.tree = h.tree.Clone()
	return h
}

// marshal returns a slot.
//
//	parseSlot(h.marshal(n)) == (n, h)
func (h held) marshal(counter uint64) []byte {
	tree, err := h.tree.MarshalBinary()
	if err != nil {
		panic("replica: a frontier that cannot be encoded: " + err.Error())
	}
	p := binary.BigEndian.AppendUint64(nil, uint64(h.offset))
	p = binary.BigEndian.AppendUint64(p, uint64(h.Micros))
	p = append(append(p, h.Head[:]...), h.table[:]...)
	p = binary.BigEndian.AppendUint16(p, uint16(len(tree)))
	p = append(p, tree...)
	p = binary.BigEndian.AppendUint16(p, uint16(len(h.note)))
	p = append(p, h.note...)
	b := append([]byte(nil), stateMagic...)
	b = binary.BigEndian.AppendUint64(b, counter)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
	b = append(b, p...)
	sum := sha256.Sum256(b)
	b = append(b, sum[:]...)
	if len(b) > slotSize {
		panic(fmt.Sprintf("replica: a state of %d bytes", len(b)))
	}
	return append(b, make([]byte, slotSize-len(b))...)
}

var errSlot = errors.New("replica: not a state")

// stateFamily is the part of stateMagic that every version has.
const stateFamily = "AESRCV"

// newerState reports whether a slot is of a later version of the format: taken for none, it would be written over.
func newerState(b []byte) bool {
	return len(b) >= len(stateMagic) && string(b[:len(stateFamily)]) == stateFamily && string(b[:len(stateMagic)]) != stateMagic
}

// parseSlot reads a slot; what follows its sum must be zeros.
func parseSlot(b []byte) (counter uint64, h held, err error) {
	if len(b) != slotSize || string(b[:len(stateMagic)]) != stateMagic {
		return 0, held{}, errSlot
	}
	counter = binary.BigEndian.Uint64(b[len(stateMagic):])
	n := int(binary.BigEndian.Uint32(b[len(stateMagic)+8:]))
	if n > slotSize-slotFixed-sha256.Size {
		return 0, held{}, errSlot
	}
	sum := sha256.Sum256(b[:slotFixed+n])
	tail := b[slotFixed+n:]
	if !bytes.Equal(tail[:sha256.Size], sum[:]) || len(bytes.Trim(tail[sha256.Size:], "\x00")) > 0 {
		return 0, held{}, errSlot
	}
	p := b[slotFixed : slotFixed+n]
	const fixed = 16 + 2*chain.HashSize
	if len(p) < fixed {
		return 0, held{}, errSlot
	}
	h.offset, h.Micros = int64(binary.BigEndian.Uint64(p)), int64(binary.BigEndian.Uint64(p[8:]))
	copy(h.Head[:], p[16:])
	copy(h.table[:], p[16+chain.HashSize:])
	tree, rest, ok := cutBytes(p[fixed:])
	if !ok || h.tree.UnmarshalBinary(tree) != nil {
		return 0, held{}, errSlot
	}
	note, rest, ok := cutBytes(rest)
	if !ok || len(rest) > 0 || h.offset < 0 || len(note) > maxHeld {
		return 0, held{}, errSlot
	}
	h.Size = h.tree.Size()
	if (h.Size == 0) != (len(note) == 0) || (h.Size == 0) != (h.offset == 0) {
		return 0, held{}, errSlot
	}
	if len(note) > 0 {
		h.note = bytes.Clone(note)
	}
	return counter, h, nil
}

// cutBytes takes bytes that follow their length (2) from the beginning of b.
func cutBytes(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// stateFile is an open state file.
type stateFile struct {
	file    durable.File
	counter uint64
}

// openState opens the state file at path. A file without a state in it is a new one: whether that may be is for the caller to say, who knows the log.
func openState(fsys durable.FS, path string) (*stateFile, held, error) {
	f, err := fsys.Open(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, held{}, fmt.Errorf("replica: opening %s: %w", path, err)
	}
	s := &stateFile{file: f}
	var best held
	for slot := range int64(2) {
		b := make([]byte, slotSize)
		n, err := f.ReadAt(b, slot*slotSize)
		if err != nil && err != io.EOF {
			return nil, held{}, errors.Join(fmt.Errorf("replica: reading %s: %w", path, err), f.Close())
		}
		if newerState(b[:n]) {
			return nil, held{}, errors.Join(fault.New(fault.Unsupported, "the copy in "+filepath.Dir(path)+" was written by a later version of this program").
				WithHint("install that version, or a later one, on this host, and change nothing else"), f.Close())
		}
		if counter, h, err := parseSlot(b[:n]); err == nil && counter > s.counter {
			s.counter, best = counter, h
		}
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return nil, held{}, errors.Join(fmt.Errorf("replica: syncing the folder of %s: %w", path, err), f.Close())
	}
	return s, best, nil
}

// save makes h durable, in the slot that does not hold the state.
func (s *stateFile) save(h held) error {
	next := s.counter + 1
	// A crash in here leaves the state as it was, whatever the half-written slot holds.
	if _, err := s.file.WriteAt(h.marshal(next), int64(next%2)*slotSize); err != nil {
		return fmt.Errorf("replica: writing the state: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("replica: syncing the state: %w", err)
	}
	s.counter = next
	return nil
}

// storage gives an error of the disk a text for the other side; those that have one stay as they are.
func storage(err error) error {
	var told *fault.Error
	if errors.As(err, &told) {
		return err
	}
	public, hint := durable.Explain(err)
	if public == "" {
		public, hint = "the backup's disk failed", "see the receiver's log"
	}
	return fault.New(fault.Unavailable, public).WithHint(hint).WithCause(err)
}
