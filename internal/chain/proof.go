package chain

import (
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
	path, err := tlog.ProveRecord(int64(size), int64(seq), tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
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
	}))
	if err != nil {
		return nil, fmt.Errorf("chain: proving leaf %d of %d: %w", seq, size, err)
	}
	proof := make([]Hash, len(path))
	for i, h := range path {
		proof[i] = h
	}
	return proof, nil
}

// VerifyInclusion returns what keeps proof from showing that leaf stands at seq in the tree.
func VerifyInclusion(leaf Hash, seq uint64, tree Tree, proof []Hash) error {
	if seq >= tree.Size || tree.Size > 1<<62 {
		return fmt.Errorf("chain: leaf %d is not in a tree of %d leaves", seq, tree.Size)
	}
	path := make(tlog.RecordProof, len(proof))
	for i, h := range proof {
		path[i] = h
	}
	if err := tlog.CheckRecord(path, int64(tree.Size), tree.Root, int64(seq), leaf); err != nil {
		return fmt.Errorf("chain: the proof does not show that leaf %d is in the tree of %d leaves", seq, tree.Size)
	}
	return nil
}
