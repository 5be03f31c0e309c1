package ledger

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/bits"
	"sync"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Proof is a line with the proof that it is in a tree.
type Proof struct {
	Seq  uint64
	Line []byte       // as it is in the file, without its newline
	Path []chain.Hash // RFC 6962 §2.1.1
}

// roots keeps the tree hashes of whole blocks, which never change. They are computed when first needed.
type roots struct {
	mu     sync.Mutex
	blocks []chain.Hash
}

// Prove returns the acknowledged lines with these numbers, each with its proof, and the tree that all proofs lead to: that of the log as it is now.
//
// The first call after Open reads the whole log; later ones read what came since, and the lines' own blocks of 256. NotFound: the log is not that
// long. Corrupt: the file is not what the ledger wrote.
func (l *Ledger) Prove(ctx context.Context, seqs ...uint64) (chain.Tree, []Proof, error) {
	tree := l.Tree()
	proofs := make([]Proof, 0, len(seqs))
	p := prover{l: l, ctx: ctx, size: tree.Size, lines: map[uint64][]chain.Hash{}}
	for _, seq := range seqs {
		if seq >= tree.Size {
			return tree, nil, fault.New(fault.NotFound, fmt.Sprintf("the log has %d lines", tree.Size))
		}
		from, to, err := l.locate(seq)
		if err != nil {
			return tree, nil, err
		}
		line := make([]byte, to-from)
		if _, err := io.ReadFull(io.NewSectionReader(l.file, from, to-from), line); err != nil {
			return tree, nil, fmt.Errorf("ledger: reading line %d: %w", seq+1, err)
		}
		path, err := chain.ProveInclusion(seq, tree.Size, p.node)
		if err != nil {
			return tree, nil, err
		}
		if err := chain.VerifyInclusion(chain.LeafHash(line), seq, tree, path); err != nil {
			return tree, nil, fault.New(fault.Corrupt, fmt.Sprintf("line %d of the log is not what was written", seq+1)).
				WithHint(`run "appliance audit verify", and compare with the backup's copy`).WithCause(err)
		}
		proofs = append(proofs, Proof{seq, line, path})
	}
	return tree, proofs, nil
}

// prover computes the nodes of one tree.
type prover struct {
	l     *Ledger
	ctx   context.Context
	size  uint64
	lines map[uint64][]chain.Hash // leaves of the blocks that were read
}

// node returns the hash of a perfect subtree, as chain.ProveInclusion wants it.
func (p *prover) node(level int, n uint64) (chain.Hash, error) {
	blockLevel := bits.TrailingZeros(blockLines)
	var f chain.Frontier
	if level < blockLevel {
		first := n << level
		leaves, err := p.leaves(first / blockLines)
		if err != nil {
			return chain.Hash{}, err
		}
		at := first % blockLines
		if at+1<<level > uint64(len(leaves)) {
			panic("ledger: a subtree beyond the end of the log")
		}
		for _, leaf := range leaves[at : at+1<<level] {
			f.Append(leaf)
		}
		return f.Tree().Root, nil
	}
	first, count := n<<(level-blockLevel), uint64(1)<<(level-blockLevel)
	blocks, err := p.blocks(first + count)
	if err != nil {
		return chain.Hash{}, err
	}
	for _, root := range blocks[first : first+count] {
		f.Append(root) // perfect: the frontier's inner nodes are those of the tree
	}
	return f.Tree().Root, nil
}

// blocks returns the roots of at least the first count blocks, all of them whole.
func (p *prover) blocks(count uint64) ([]chain.Hash, error) {
	r := &p.l.roots
	r.mu.Lock()
	defer r.mu.Unlock()
	for uint64(len(r.blocks)) < count {
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		leaves, err := p.l.readLeaves(uint64(len(r.blocks)), blockLines)
		if err != nil {
			return nil, err
		}
		var f chain.Frontier
		for _, leaf := range leaves {
			f.Append(leaf)
		}
		r.blocks = append(r.blocks, f.Tree().Root)
	}
	return r.blocks, nil
}

func (p *prover) leaves(block uint64) ([]chain.Hash, error) {
	if got, ok := p.lines[block]; ok {
		return got, nil
	}
	leaves, err := p.l.readLeaves(block, min(blockLines, p.size-block*blockLines))
	if err != nil {
		return nil, err
	}
	p.lines[block] = leaves
	return leaves, nil
}

// readLeaves returns the leaf hashes of the first count lines of a block, as they are in the file.
func (l *Ledger) readLeaves(block, count uint64) ([]chain.Hash, error) {
	first := block * blockLines
	from, _, err := l.locate(first)
	if err != nil {
		return nil, err
	}
	_, to, err := l.locate(first + count - 1)
	if err != nil {
		return nil, err
	}
	if to < from || to-from > blockLines*(chain.MaxLine+1) {
		return nil, fault.New(fault.Unavailable, "the index is damaged").WithHint("restart: it is rebuilt from the log")
	}
	data := make([]byte, to-from)
	if _, err := io.ReadFull(io.NewSectionReader(l.file, from, to-from), data); err != nil {
		return nil, fmt.Errorf("ledger: reading lines %d to %d: %w", first+1, first+count, err)
	}
	lines := bytes.Split(data, []byte{'\n'})
	if uint64(len(lines)) != count {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("%d lines stand where lines %d to %d were written", len(lines), first+1, first+count)).
			WithHint(`run "appliance audit verify", and compare with the backup's copy`)
	}
	leaves := make([]chain.Hash, count)
	var p chain.Parser
	for i, line := range lines {
		leaves[i] = p.LeafHash(line)
	}
	return leaves, nil
}
