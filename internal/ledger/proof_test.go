package ledger

import (
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
		report, err := l.Verify(context.Background())
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
