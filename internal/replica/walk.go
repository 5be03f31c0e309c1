package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
)

// blockLines is how many lines a block covers: the width of a C2SP tlog-tiles tile.
const blockLines = 256

// block is what is kept of blockLines lines to find them and to know the tree before and after them.
type block struct {
	end  int64 // offset after the last line
	root chain.Hash
}

const blockSize = 8 + chain.HashSize

// hash returns the hash of a table that b is added to: SHA-256(hash before ‖ b), from zeros.
func (b block) hash(table chain.Hash) chain.Hash { return sha256.Sum256(b.append(table[:])) }

func hashBlocks(table chain.Hash, blocks []block) chain.Hash {
	for _, b := range blocks {
		table = b.hash(table)
	}
	return table
}

func (b block) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.end))
	return append(dst, b.root[:]...)
}

func parseBlocks(b []byte) []block {
	out := make([]block, len(b)/blockSize)
	for i := range out {
		rec := b[i*blockSize:]
		out[i].end = int64(binary.BigEndian.Uint64(rec))
		copy(out[i].root[:], rec[8:])
	}
	return out
}

// walk goes over lines and keeps what is known at the place it has reached.
type walk struct {
	chain.State
	offset int64
	tree   chain.Frontier
	cur    chain.Frontier // over the lines of the block that is not complete
	full   []block        // completed on the way
	ids    []string       // of the objects named on the way, when wanted
	names  bool
	parser chain.Parser
}

// errTorn says that lines end within a line.
var errTorn = errors.New("replica: the lines end within a line")

// lines walks over whole lines, each with its newline. What is wrong is a *chain.BreakError; the walk has then not moved over that line.
func (w *walk) lines(b []byte) error {
	for len(b) > 0 {
		n := bytes.IndexByte(b, '\n')
		if n < 0 {
			return &chain.BreakError{Seq: w.Size, What: errTorn}
		}
		line := b[:n]
		link, err := w.parser.Link(line)
		if err != nil {
			return &chain.BreakError{Seq: w.Size, What: err}
		}
		if err := w.Next(link); err != nil {
			return err
		}
		leaf := w.parser.LeafHash(line)
		w.tree.Append(leaf)
		w.cur.Append(leaf)
		w.offset += int64(n + 1)
		if w.names {
			w.ids = AppendObjects(w.ids, line)
		}
		if w.cur.Size() == blockLines {
			w.full = append(w.full, block{w.offset, w.cur.Tree().Root})
			w.cur = chain.Frontier{}
		}
		b = b[n+1:]
	}
	return nil
}

// file walks over the lines in f from the walk's offset to end.
func (w *walk) file(f io.ReaderAt, end int64) error {
	buf := make([]byte, min(MaxLines, max(0, end-w.offset)))
	for w.offset < end {
		b := buf[:min(int64(len(buf)), end-w.offset)]
		if _, err := f.ReadAt(b, w.offset); err != nil {
			return fmt.Errorf("replica: reading the log: %w", err)
		}
		// A line is shorter than the buffer; a part of one is read again with the next.
		if n := bytes.LastIndexByte(b, '\n') + 1; n > 0 {
			b = b[:n]
		}
		if err := w.lines(b); err != nil {
			return err
		}
	}
	return nil
}

// joined returns the tree whose leaves are those of whole blocks and then those of part, which are fewer than a block.
func joined(blocks []block, part *chain.Frontier) chain.Frontier {
	var roots chain.Frontier
	for _, b := range blocks {
		roots.Append(b.root) // perfect subtrees: its nodes are those of the tree, eight levels up
	}
	high, err := roots.MarshalBinary()
	low, err2 := part.MarshalBinary()
	if err := errors.Join(err, err2); err != nil {
		panic("replica: a frontier that cannot be encoded: " + err.Error())
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(len(blocks))*blockLines+part.Size())
	b = append(append(b, high[8:]...), low[8:]...)
	var f chain.Frontier
	if err := f.UnmarshalBinary(b); err != nil {
		panic("replica: blocks do not make a tree: " + err.Error())
	}
	return f
}

// readRange reads a part of a file that is known to be there.
func readRange(f io.ReaderAt, from, to int64) ([]byte, error) {
	b := make([]byte, to-from)
	if _, err := f.ReadAt(b, from); err != nil {
		return nil, fmt.Errorf("replica: reading bytes %d to %d of the log: %w", from, to, err)
	}
	return b, nil
}

// sizeOf is the size of a file as an error that says which.
func sizeOf(f durable.File, path string) (int64, error) {
	n, err := f.Size()
	if err != nil {
		return 0, fmt.Errorf("replica: size of %s: %w", path, err)
	}
	return n, nil
}
