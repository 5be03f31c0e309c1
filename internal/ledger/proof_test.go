package ledger

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Lines are proven whatever block they are in, in a log that grows and after a restart; what the proofs lead to is the tree that Verify computes.
func TestProve(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	appended := 0
	for _, size := range []int{1, 2, 255, 256, 257, 700, 1025} {
		appendN(t, l, appended, size-appended)
		appended = size
		if size == 700 {
			closeBoth(t, l, db)
			l, db = p.open()
		}
		var seqs []uint64
		for _, s := range []int{0, 1, 254, 255, 256, 511, 512, 699, 1024, size - 1} {
			if s < size {
				seqs = append(seqs, uint64(s))
			}
		}
		tree, proofs, err := l.Prove(context.Background(), seqs...)
		if err != nil {
			t.Fatalf("%d lines: %v", size, err)
		}
		report, err := l.Verify(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Root != report.Root || tree.Size != uint64(size) {
			t.Fatalf("%d lines: the tree is %d:%x, not %x", size, tree.Size, tree.Root, report.Root)
		}
		for i, one := range proofs {
			if _, err := chain.ParseLine(one.Line); err != nil || one.Seq != seqs[i] {
				t.Errorf("line %d of %d: got line %d, %v", seqs[i], size, one.Seq, err)
			}
			if err := chain.VerifyInclusion(chain.LeafHash(one.Line), one.Seq, tree, one.Path); err != nil {
				t.Errorf("line %d of %d: %v", seqs[i], size, err)
			}
		}
		if _, _, err := l.Prove(context.Background(), uint64(size)); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%d lines: proving the next: %v", size, err)
		}
	}
	// What was changed in the file since is found rather than proven.
	data, err := os.ReadFile(p.logPath())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(p.logPath(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), int64(len(data)-20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Prove(context.Background(), 1024); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a changed line was proven: %v", err)
	}
	closeBoth(t, l, db)
}

// Between any two sizes, before and after a restart, the larger tree is proven to begin with the smaller, and each line to be in every tree that has
// it; the trees are those that are computed from the file alone.
func TestProveConsistency(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	const lines = 2100
	appendN(t, l, 0, lines)
	trees := treesOf(t, p.logPath())
	sizes := []uint64{0, 1, 2, 255, 256, 257, 511, 512, 513, 768, 1000, 1024, 1280, 1536, 1792, 2047, 2048, 2049, 2099, lines}
	for restarted := range 2 {
		for i, size := range sizes {
			tree, err := l.TreeAt(context.Background(), size)
			if err != nil || tree != trees[size] {
				t.Fatalf("the tree of %d: %x, %v, not %x", size, tree.Root, err, trees[size].Root)
			}
			for _, old := range sizes[:i+1] {
				proof, err := l.ProveConsistency(context.Background(), old, size)
				if err != nil {
					t.Fatalf("%d to %d: %v", old, size, err)
				}
				if err := chain.VerifyConsistency(trees[old], trees[size], proof); err != nil {
					t.Fatalf("%d to %d: %v", old, size, err)
				}
				if old == 0 {
					continue
				}
				at, proofs, err := l.ProveAt(context.Background(), size, old-1)
				if err != nil || at != tree {
					t.Fatalf("line %d in %d: %v", old-1, size, err)
				}
				if err := chain.VerifyInclusion(chain.LeafHash(proofs[0].Line), old-1, trees[size], proofs[0].Path); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := l.ProveAt(context.Background(), size, size); fault.KindOf(err) != fault.NotFound {
				t.Errorf("line %d in a tree of %d: %v", size, size, err)
			}
		}
		if _, err := l.ProveConsistency(context.Background(), 1, lines+1); fault.KindOf(err) != fault.NotFound {
			t.Errorf("a tree of more lines than there are: %v", err)
		}
		if _, err := l.ProveConsistency(context.Background(), 2, 1); err == nil {
			t.Error("a tree was proven to begin with a larger one")
		}
		if restarted == 0 {
			closeBoth(t, l, db)
			l, db = p.open()
		}
	}
	// A file that was changed gives no proof.
	f, err := os.OpenFile(p.logPath(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 40); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ProveConsistency(context.Background(), 1, lines); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a changed log was proven to be consistent: %v", err)
	}
	closeBoth(t, l, db)
}

// treesOf returns the tree over the first n lines of a file at n.
func treesOf(t *testing.T, path string) []chain.Tree {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f chain.Frontier
	trees := []chain.Tree{f.Tree()}
	for _, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		f.Append(chain.LeafHash(line))
		trees = append(trees, f.Tree())
	}
	return trees
}
