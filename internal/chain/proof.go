package chain

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ProveInclusion returns the RFC 6962 §2.1.1 audit path of leaf seq in the tree over the first size leaves. node returns the hash of the perfect
// subtree over leaves n·2^level to (n+1)·2^level−1, all of which are below size; level 0 is the leaves.
//
//	VerifyInclusion(leaf(seq), seq, tree(size), ProveInclusion(seq, size, node)) == nil
func ProveInclusion(seq, size uint64, node func(level int, n uint64) (Hash, error)) ([]Hash, error) {
	if seq >= size || size > 1<<62 {
		return nil, fmt.Errorf("chain: no proof of leaf %d in a tree of %d leaves", seq, size)
	}
	proof, err := tlog.ProveRecord(int64(size), int64(seq), nodes(node))
	if err != nil {
		return nil, fmt.Errorf("chain: proving leaf %d of %d: %w", seq, size, err)
	}
	return hashes(proof), nil
}

// nodes reads hashes by node, as tlog numbers them.
func nodes(node func(level int, n uint64) (Hash, error)) tlog.HashReaderFunc {
	return func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			level, n := tlog.SplitStoredHashIndex(x)
			h, err := node(level, uint64(n))
			if err != nil {
				return nil, err
			}
			out[i] = h
		}
		return out, nil
	}
}

func hashes(path []tlog.Hash) []Hash {
	out := make([]Hash, len(path))
	for i, h := range path {
		out[i] = h
	}
	return out
}

func path(proof []Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(proof))
	for i, h := range proof {
		out[i] = h
	}
	return out
}

// VerifyInclusion returns what keeps proof from showing that leaf stands at seq in the tree.
func VerifyInclusion(leaf Hash, seq uint64, tree Tree, proof []Hash) error {
	if seq >= tree.Size || tree.Size > 1<<62 {
		return fmt.Errorf("chain: leaf %d is not in a tree of %d leaves", seq, tree.Size)
	}
	if err := tlog.CheckRecord(path(proof), int64(tree.Size), tree.Root, int64(seq), leaf); err != nil {
		return fmt.Errorf("chain: the proof does not show that leaf %d is in the tree of %d leaves", seq, tree.Size)
	}
	return nil
}

// MaxConsistency is the most hashes that a consistency proof has (C2SP tlog-witness: the client MUST NOT send more than 63).
const MaxConsistency = 63

// ProveConsistency returns the RFC 6962 §2.1.2 proof that the tree over the first old leaves is the beginning of that over the first size leaves. node
// is as for ProveInclusion. The proof is empty when old is 0 or size.
//
//	VerifyConsistency(tree(old), tree(size), ProveConsistency(old, size, node)) == nil
func ProveConsistency(old, size uint64, node func(level int, n uint64) (Hash, error)) ([]Hash, error) {
	if old > size || size > 1<<62 {
		return nil, fmt.Errorf("chain: no proof from a tree of %d leaves to one of %d", old, size)
	}
	if old == 0 || old == size {
		return nil, nil
	}
	proof, err := tlog.ProveTree(int64(size), int64(old), nodes(node))
	if err != nil {
		return nil, fmt.Errorf("chain: proving %d leaves in %d: %w", old, size, err)
	}
	return hashes(proof), nil
}

// VerifyConsistency returns what keeps proof from showing that old is the beginning of tree. Every tree begins with the empty one.
func VerifyConsistency(old, tree Tree, proof []Hash) error {
	if old.Size > tree.Size || tree.Size > 1<<62 {
		return fmt.Errorf("chain: a tree of %d leaves cannot begin with one of %d", tree.Size, old.Size)
	}
	if old.Size == 0 {
		// C2SP tlog-witness: the proof MUST be empty if the old size is zero.
		if len(proof) > 0 || old != (&Frontier{}).Tree() || tree.Size == 0 && tree != old {
			return errors.New("chain: a proof from an empty tree with hashes, or an empty tree with another root")
		}
		return nil
	}
	if err := tlog.CheckTree(path(proof), int64(tree.Size), tree.Root, int64(old.Size), old.Root); err != nil {
		return fmt.Errorf("chain: the proof does not show that the tree of %d leaves begins with that of %d", tree.Size, old.Size)
	}
	return nil
}
