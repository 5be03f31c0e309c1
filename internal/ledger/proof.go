package ledger

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Proof is a line with the proof that it is in a tree.
type Proof struct {
	Seq  uint64
	Line []byte       // as it is in the file, without its newline
	Path []chain.Hash // RFC 6962 §2.1.1
}

// Prove is ProveAt for the log as it is now.
func (l *Ledger) Prove(ctx context.Context, seqs ...uint64) (chain.Tree, []Proof, error) {
	return l.ProveAt(ctx, l.Tree().Size, seqs...)
}

// ProveAt returns the acknowledged lines with these numbers, each with its proof, and the tree that all proofs lead to: that over the first size
// lines. It reads the lines' own blocks of 256 and what the index has of the tree.
//
// NotFound: there are not so many lines. Corrupt: the file is not what the ledger wrote.
func (l *Ledger) ProveAt(ctx context.Context, size uint64, seqs ...uint64) (chain.Tree, []Proof, error) {
	p := l.prover(ctx)
	tree, err := p.tree(size)
	if err != nil {
		return tree, nil, err
	}
	proofs := make([]Proof, 0, len(seqs))
	for _, seq := range seqs {
		if seq >= size {
			return tree, nil, fault.New(fault.NotFound, fmt.Sprintf("line %d is not among the first %d", seq+1, size))
		}
		from, to, err := l.locate(seq)
		if err != nil {
			return tree, nil, err
		}
		line := make([]byte, to-from)
		if _, err := io.ReadFull(io.NewSectionReader(l.file, from, to-from), line); err != nil {
			return tree, nil, fmt.Errorf("ledger: reading line %d: %w", seq+1, err)
		}
		path, err := chain.ProveInclusion(seq, size, p.node)
		if err != nil {
			return tree, nil, err
		}
		if err := chain.VerifyInclusion(chain.LeafHash(line), seq, tree, path); err != nil {
			return tree, nil, changed(fmt.Sprintf("line %d of the log is not what was written", seq+1), err)
		}
		proofs = append(proofs, Proof{seq, line, path})
	}
	return tree, proofs, nil
}

// TreeAt returns the tree over the first size lines. NotFound: there are not so many.
func (l *Ledger) TreeAt(ctx context.Context, size uint64) (chain.Tree, error) {
	return l.prover(ctx).tree(size)
}

// ProveConsistency returns the RFC 6962 §2.1.2 proof that the tree over the first size lines begins with that over the first old ones. NotFound: there
// are not so many lines. Corrupt: the file is not what the ledger wrote.
func (l *Ledger) ProveConsistency(ctx context.Context, old, size uint64) ([]chain.Hash, error) {
	p := l.prover(ctx)
	from, err := p.tree(old)
	if err != nil {
		return nil, err
	}
	to, err := p.tree(size)
	if err != nil {
		return nil, err
	}
	proof, err := chain.ProveConsistency(old, size, p.node)
	if err != nil {
		return nil, err
	}
	if err := chain.VerifyConsistency(from, to, proof); err != nil {
		return nil, changed(fmt.Sprintf("the first %d lines of the log are not what was written", size), err)
	}
	return proof, nil
}

func changed(what string, cause error) error {
	return fault.New(fault.Corrupt, what).WithHint(`run "appliance audit verify", and compare with the backup's copy`).WithCause(cause)
}

// prover computes the nodes of the tree.
type prover struct {
	l         *Ledger
	ctx       context.Context
	cur, base chain.Frontier          // of the log when the prover was made
	lines     map[uint64][]chain.Hash // leaves of the blocks that were read
}

func (l *Ledger) prover(ctx context.Context) *prover {
	l.smu.RLock()
	defer l.smu.RUnlock()
	return &prover{l: l, ctx: ctx, cur: l.seen.cur.tree.Clone(), base: l.seen.base.tree.Clone(), lines: map[uint64][]chain.Hash{}}
}

// blockLevel is the level of the tree whose nodes are whole blocks.
const blockLevel = 8

// tree returns the tree over the first size lines.
func (p *prover) tree(size uint64) (chain.Tree, error) {
	if size > p.cur.Size() {
		return chain.Tree{}, fault.New(fault.NotFound, fmt.Sprintf("the log has %d lines", p.cur.Size()))
	}
	f, err := p.frontier(size)
	return f.Tree(), err
}

func (p *prover) frontier(size uint64) (chain.Frontier, error) {
	switch size {
	case 0:
		return chain.Frontier{}, nil
	case p.cur.Size():
		return p.cur.Clone(), nil
	case p.base.Size():
		return p.base.Clone(), nil
	}
	if rest := size % blockLines; rest > 0 {
		f, err := p.frontier(size - rest)
		if err != nil {
			return f, err
		}
		leaves, err := p.leaves(size / blockLines)
		if err != nil {
			return f, err
		}
		for _, leaf := range leaves[:rest] {
			f.Append(leaf)
		}
		return f, nil
	}
	b, err := p.l.block(size/blockLines - 1)
	return b.tree, err
}

// node returns the hash of a perfect subtree, as chain.ProveInclusion wants it.
func (p *prover) node(level int, n uint64) (chain.Hash, error) {
	if err := p.ctx.Err(); err != nil {
		return chain.Hash{}, err
	}
	if level > blockLevel || level == blockLevel && n%2 == 0 {
		return p.inner(level, n)
	}
	first, count := n<<level, uint64(1)<<level
	leaves, err := p.leaves(first / blockLines)
	if err != nil {
		return chain.Hash{}, err
	}
	var f chain.Frontier
	for _, leaf := range leaves[first%blockLines:][:count] {
		f.Append(leaf)
	}
	return f.Tree().Root, nil
}

// inner returns the hash of a subtree of whole blocks. Where a left child ends, it is one of those that the tree up to there consists of.
func (p *prover) inner(level int, n uint64) (chain.Hash, error) {
	if n%2 == 0 {
		f, err := p.frontier((n + 1) << level)
		if err != nil {
			return chain.Hash{}, err
		}
		h, ok := f.Perfect(level)
		if !ok {
			panic("ledger: a left subtree that the tree up to its end does not have")
		}
		return h, nil
	}
	left, err := p.node(level-1, 2*n)
	if err != nil {
		return chain.Hash{}, err
	}
	right, err := p.node(level-1, 2*n+1)
	return chain.NodeHash(left, right), err
}

func (p *prover) leaves(block uint64) ([]chain.Hash, error) {
	if got, ok := p.lines[block]; ok {
		return got, nil
	}
	leaves, err := p.l.readLeaves(block, min(blockLines, p.cur.Size()-block*blockLines))
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
		return nil, changed(fmt.Sprintf("%d lines stand where lines %d to %d were written", len(lines), first+1, first+count), nil)
	}
	leaves := make([]chain.Hash, count)
	var p chain.Parser
	for i, line := range lines {
		leaves[i] = p.LeafHash(line)
	}
	return leaves, nil
}
