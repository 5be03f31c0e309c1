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
