package chain

import (
	"fmt"
	"testing"
)

// perfect returns the node function of ProveInclusion over leaves.
func perfect(leaves []Hash) func(int, uint64) (Hash, error) {
	return func(level int, n uint64) (Hash, error) {
		from, to := n<<level, (n+1)<<level
		if to > uint64(len(leaves)) {
			return Hash{}, fmt.Errorf("subtree %d of level %d is not within %d leaves", n, level, len(leaves))
		}
		var f Frontier
		for _, l := range leaves[from:to] {
			f.Append(l)
		}
		return f.Tree().Root, nil
	}
}

// Every leaf is proven in every tree, and no other leaf, place, tree or path passes with its proof.
func TestInclusion(t *testing.T) {
	const most = 40
	var leaves []Hash
	var f Frontier
	for size := uint64(1); size <= most; size++ {
		leaves = append(leaves, LeafHash([]byte(fmt.Sprintf("line %d", size))))
		f.Append(leaves[size-1])
		tree := f.Tree()
		for seq := range size {
			proof, err := ProveInclusion(seq, size, perfect(leaves))
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyInclusion(leaves[seq], seq, tree, proof); err != nil {
				t.Fatalf("leaf %d of %d: %v", seq, size, err)
			}
			other := Tree{Size: size, Root: LeafHash(nil)}
			longer := append(append([]Hash(nil), proof...), Hash{})
			for what, bad := range map[string]error{
				"another leaf":   VerifyInclusion(LeafHash(nil), seq, tree, proof),
				"beyond the end": VerifyInclusion(leaves[seq], size, tree, proof),
				"another tree":   VerifyInclusion(leaves[seq], seq, other, proof),
				"a longer path":  VerifyInclusion(leaves[seq], seq, tree, longer),
			} {
				if bad == nil {
					t.Errorf("leaf %d of %d: %s passed", seq, size, what)
				}
			}
			if len(proof) > 0 && VerifyInclusion(leaves[seq], seq, tree, proof[:len(proof)-1]) == nil {
				t.Errorf("leaf %d of %d: a shorter path passed", seq, size)
			}
			if size > 1 && VerifyInclusion(leaves[seq], (seq+1)%size, tree, proof) == nil {
				t.Errorf("leaf %d of %d passed in another place", seq, size)
			}
		}
		if _, err := ProveInclusion(size, size, perfect(leaves)); err == nil {
			t.Error("a leaf beyond the end was proven")
		}
	}
}

// Every tree is proven to begin with every smaller one, and nothing else passes with the proof.
func TestConsistency(t *testing.T) {
	const most = 36
	var leaves []Hash
	var f Frontier
	trees := []Tree{f.Tree()}
	for size := range uint64(most) {
		leaves = append(leaves, LeafHash([]byte(fmt.Sprintf("line %d", size))))
		f.Append(leaves[size])
		trees = append(trees, f.Tree())
	}
	for size := range uint64(most + 1) {
		for old := range size + 1 {
			proof, err := ProveConsistency(old, size, perfect(leaves[:size]))
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyConsistency(trees[old], trees[size], proof); err != nil {
				t.Fatalf("%d to %d: %v", old, size, err)
			}
			fork, rewritten := trees[size], trees[old]
			fork.Root[0] ^= 1
			rewritten.Root[0] ^= 1
			bad := map[string]error{
				"a rewritten beginning": VerifyConsistency(rewritten, trees[size], proof),
				"a longer proof":        VerifyConsistency(trees[old], trees[size], append(append([]Hash(nil), proof...), Hash{})),
			}
			if old > 0 {
				bad["a fork"] = VerifyConsistency(trees[old], fork, proof)
			}
			if old < size {
				bad["a rollback"] = VerifyConsistency(trees[size], trees[old], proof)
			}
			for i := range proof {
				changed := append([]Hash(nil), proof...)
				changed[i][31] ^= 1
				bad[fmt.Sprintf("hash %d changed", i)] = VerifyConsistency(trees[old], trees[size], changed)
			}
			if len(proof) > 0 {
				bad["a shorter proof"] = VerifyConsistency(trees[old], trees[size], proof[1:])
			}
			for what, err := range bad {
				if err == nil {
					t.Errorf("%d to %d: %s passed", old, size, what)
				}
			}
		}
		if _, err := ProveConsistency(size+1, size, perfect(leaves)); err == nil {
			t.Error("a smaller tree was proven to begin with a larger one")
		}
	}
}
