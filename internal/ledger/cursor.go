package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/index"
)

// blockLines is how many lines a block of the offset table covers: the width of a C2SP tlog-tiles tile.
const blockLines = 1 << blockLevel

// The ledger's own buckets and keys in the index.
const (
	bucketState  = "_ledger"
	bucketBlocks = "_blocks"
	stateFormat  = "2" // changed when anything below changes: an index of another format is rebuilt
)

var (
	keyFormat = []byte("format")
	keyFolds  = []byte("folds")
	keyCur    = []byte("cur")
	keyBase   = []byte("base")
)

// position is a place between two lines and all that is known there of the lines before.
type position struct {
	chain.State
	offset int64
	tree   chain.Frontier
}

func (p position) clone() position {
	p.tree = p.tree.Clone()
	return p
}

// cursor is a position with what is needed to find any line before it.
type cursor struct {
	cur  position
	base position // the last multiple of blockLines that is before the last line
	ends []uint32 // of the lines since base, with their newlines, relative to base.offset
	full []block  // completed since the last save
}

// block is the offset table of blockLines lines, and the tree at its end.
type block struct {
	number uint64
	start  int64
	ends   []uint32
	tree   chain.Frontier // over all lines up to the block's last; only of a block that is full
}

// clone returns a cursor that can be moved without c noticing.
func (c *cursor) clone() cursor {
	return cursor{cur: c.cur.clone(), base: c.base.clone(), ends: append(make([]uint32, 0, blockLines), c.ends...), full: append([]block(nil), c.full...)}
}

// add moves the cursor over a line of size bytes with its newline. On error it does not move.
func (c *cursor) add(l chain.Link, leaf chain.Hash, size int) error {
	// A full block is left only for the next line, so that base is always before the last line and Open always has a line to verify.
	if len(c.ends) == blockLines {
		c.full = append(c.full, block{c.base.Size / blockLines, c.base.offset, c.ends, c.cur.tree.Clone()})
		c.base, c.ends = c.cur.clone(), nil
	}
	if err := c.cur.Next(l); err != nil {
		return err
	}
	c.cur.tree.Append(leaf)
	c.cur.offset += int64(size)
	c.ends = append(c.ends, uint32(c.cur.offset-c.base.offset))
	return nil
}

// save writes the cursor to the index, in the transaction that folds the lines it moved over: one position holds for all folds.
func (c *cursor) save(tx *index.Tx) error {
	blocks := tx.Bucket(bucketBlocks)
	for _, b := range c.full {
		if err := blocks.Put(blockKey(b.number), b.encode()); err != nil {
			return err
		}
	}
	c.full = nil
	state := tx.Bucket(bucketState)
	if err := state.Put(keyCur, c.cur.encode()); err != nil {
		return err
	}
	return state.Put(keyBase, c.base.encode())
}

func blockKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (b block) encode() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 2048), uint64(b.start))
	for _, e := range b.ends {
		out = binary.BigEndian.AppendUint32(out, e)
	}
	return append(out, encodeTree(&b.tree)...)
}

func encodeTree(f *chain.Frontier) []byte {
	tree, err := f.MarshalBinary()
	if err != nil {
		panic("ledger: a frontier that cannot be encoded: " + err.Error())
	}
	return tree
}

func decodeBlock(number uint64, v []byte) (block, error) {
	const table = 8 + 4*blockLines
	if len(v) < table {
		return block{}, fmt.Errorf("%w: an offset table of %d bytes", index.ErrDamaged, len(v))
	}
	b := block{number: number, start: int64(binary.BigEndian.Uint64(v)), ends: make([]uint32, blockLines)}
	if err := b.tree.UnmarshalBinary(v[table:]); err != nil || b.tree.Size() != (number+1)*blockLines {
		return block{}, fmt.Errorf("%w: the tree after block %d cannot be read", index.ErrDamaged, number)
	}
	for i := range b.ends {
		b.ends[i] = binary.BigEndian.Uint32(v[8+4*i:])
	}
	return b, nil
}

// line returns where line i of the block begins and ends, without its newline.
func (b block) line(i int) (from, to int64) {
	from = b.start
	if i > 0 {
		from += int64(b.ends[i-1])
	}
	return from, b.start + int64(b.ends[i]) - 1
}

func (p *position) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Micros))
	b = append(b, p.Head[:]...)
	return append(b, encodeTree(&p.tree)...)
}

func decodePosition(b []byte) (position, error) {
	const fixed = 16 + chain.HashSize
	if len(b) < fixed {
		return position{}, fmt.Errorf("ledger: a position of %d bytes", len(b))
	}
	var p position
	p.offset = int64(binary.BigEndian.Uint64(b))
	p.Micros = int64(binary.BigEndian.Uint64(b[8:]))
	copy(p.Head[:], b[16:])
	if err := p.tree.UnmarshalBinary(b[fixed:]); err != nil {
		return position{}, err
	}
	p.Size = p.tree.Size()
	return p, nil
}

// foldNames returns what identifies the set of folds.
func foldNames(folds []Fold) string {
	var names []string
	for _, f := range folds {
		names = append(names, f.Name())
	}
	return strings.Join(names, "\n")
}

// load reads where the index has got to. why says why it cannot be used as it is, "" when it can.
func load(db *index.DB, folds string) (cur, base position, why string, err error) {
	err = db.View(func(tx *index.Tx) error {
		b := tx.Bucket(bucketState)
		format, names := b.Get(keyFormat), b.Get(keyFolds)
		switch {
		case format == nil:
			why = "it is empty"
		case string(format) != stateFormat:
			why = "it has another format"
		case string(names) != folds:
			why = "what is derived from the log has changed"
		}
		if why != "" {
			return nil
		}
		var err error
		if cur, err = decodePosition(b.Get(keyCur)); err == nil {
			base, err = decodePosition(b.Get(keyBase))
		}
		if err != nil || base.Size > cur.Size || base.offset > cur.offset {
			why = "its position cannot be read"
		}
		return nil
	})
	if errors.Is(err, index.ErrDamaged) {
		return position{}, position{}, err.Error(), nil
	}
	return cur, base, why, err
}

// begin writes what identifies an empty index as belonging to these folds.
func begin(db *index.DB, folds string) error {
	return db.Update(func(tx *index.Tx) error {
		b := tx.Bucket(bucketState)
		if err := b.Put(keyFormat, []byte(stateFormat)); err != nil {
			return err
		}
		if err := b.Put(keyFolds, []byte(folds)); err != nil {
			return err
		}
		var zero cursor
		return zero.save(tx)
	})
}
