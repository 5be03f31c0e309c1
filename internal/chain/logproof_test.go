package chain

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	peer "github.com/transparency-dev/formats/proof"
)

// provenLog returns the lines of a small log, a cosigned checkpoint of it, and a policy that wants that cosignature.
func provenLog(t testing.TB) (lines [][]byte, leaves []Hash, signed []byte, vkey string, policy *Policy) {
	t.Helper()
	var f Frontier
	for i := range 11 {
		lines = append(lines, fmt.Appendf(nil, "line %d", i))
		leaves = append(leaves, LeafHash(lines[i]))
		f.Append(leaves[i])
	}
	c := Checkpoint{Origin: cosignTree.Origin, Tree: f.Tree()}
	signed, vkey = signedCheckpoint(t, c)
	cs, keys := cosigners(t, 1)
	line, err := cs[0].Cosign(c, cosignTime)
	if err != nil {
		t.Fatal(err)
	}
	policy, err = ParsePolicy([]byte("witness w " + keys[0].String() + "\nquorum w\n"))
	if err != nil {
		t.Fatal(err)
	}
	return lines, leaves, append(signed, line...), vkey, policy
}

// A proof is written as another implementation of tlog-proof writes it, is read back, and shows its line and no other.
func TestLogProof(t *testing.T) {
	lines, leaves, signed, vkey, policy := provenLog(t)
	for seq := range uint64(len(lines)) {
		path, err := ProveInclusion(seq, uint64(len(lines)), perfect(leaves))
		if err != nil {
			t.Fatal(err)
		}
		p := LogProof{Seq: seq, Path: path, Checkpoint: signed}
		if seq%2 == 1 {
			p.Extra = fmt.Appendf(nil, "extra %d", seq)
		}
		raw := p.Marshal()
		theirs := peer.TLogProof{Index: seq, Checkpoint: signed, ExtraData: p.Extra}
		for _, h := range path {
			theirs.Hashes = append(theirs.Hashes, h)
		}
		if !bytes.Equal(raw, theirs.Marshal()) {
			t.Fatalf("the peer writes\n%s\nnot\n%s", theirs.Marshal(), raw)
		}
		back, err := ParseLogProof(raw)
		if err != nil || back.Seq != seq || !slices.Equal(back.Path, path) || !bytes.Equal(back.Extra, p.Extra) {
			t.Fatalf("%+v, %v", back, err)
		}
		c, found, err := back.Verify(lines[seq], cosignTree.Origin, vkey, policy)
		if err != nil || c.Size != uint64(len(lines)) || len(found) != 1 {
			t.Fatalf("line %d: %+v %v %v", seq, c, found, err)
		}
		if _, _, err := back.Verify(lines[(seq+1)%11], cosignTree.Origin, vkey, policy); err == nil {
			t.Errorf("line %d: another line was shown", seq)
		}
		back.Seq = (seq + 1) % 11
		if _, _, err := back.Verify(lines[seq], cosignTree.Origin, vkey, policy); err == nil {
			t.Errorf("line %d was shown in another place", seq)
		}
	}
	_, others := cosigners(t, 2)
	stranger, err := ParsePolicy([]byte("witness w " + others[1].String() + "\nquorum w\n"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := ProveInclusion(0, 11, perfect(leaves))
	if err != nil {
		t.Fatal(err)
	}
	p := LogProof{Path: path, Checkpoint: signed}
	if c, _, err := p.Verify(lines[0], cosignTree.Origin, vkey, stranger); !errors.Is(err, ErrQuorum) || c.Size != 11 {
		t.Errorf("without the cosignature that the policy wants: %v", err)
	}
	if _, _, err := p.Verify(lines[1], cosignTree.Origin, vkey, stranger); err == nil || errors.Is(err, ErrQuorum) {
		t.Errorf("another line, without the cosignature: %v", err)
	}
	if c, found, err := p.Verify(lines[0], cosignTree.Origin, vkey, nil); err != nil || c.Size != 11 || len(found) != 0 {
		t.Errorf("without a policy: %+v %v %v", c, found, err)
	}
}

func TestLogProofRejects(t *testing.T) {
	h := strings.Repeat("A", 43) + "=\n"
	good := logProofHeader + "\nextra eA==\nindex 3\n" + h + h + "\nnote\n"
	if p, err := ParseLogProof([]byte(good)); err != nil || string(p.Marshal()) != good || string(p.Extra) != "x" || len(p.Path) != 2 {
		t.Fatal(p, err)
	}
	for name, bad := range map[string]string{
		"empty":                "",
		"another version":      strings.Replace(good, "@v1", "@v2", 1),
		"no index":             strings.Replace(good, "index 3\n", "", 1),
		"index with zeros":     strings.Replace(good, "index 3", "index 03", 1),
		"negative index":       strings.Replace(good, "index 3", "index -3", 1),
		"index of 2^64":        strings.Replace(good, "index 3", "index 18446744073709551616", 1),
		"extra after index":    logProofHeader + "\nindex 3\nextra eA==\n\nnote\n",
		"extra twice":          strings.Replace(good, "index", "extra eA==\nindex", 1),
		"extra not base64":     strings.Replace(good, "eA==", "eA=", 1),
		"extra in another way": strings.Replace(good, "eA==", "eB==", 1),
		"extra alone":          logProofHeader + "\nextra eA==\n\nnote\n",
		"a return":             strings.Replace(good, "eA==", "eA==\r", 1),
		"a short hash":         strings.Replace(good, h, "AAAA\n", 1),
		"a hash with a return": strings.Replace(good, h, strings.Repeat("A", 43)+"\r=\n", 1),
		"no empty line":        strings.Replace(good, "\n\n", "\n", 1),
		"65 hashes":            logProofHeader + "\nindex 3\n" + strings.Repeat(h, 65) + "\nnote\n",
		"too long":             good + strings.Repeat("x", 1<<18),
	} {
		if p, err := ParseLogProof([]byte(bad)); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
}

func TestAddCheckpointRejects(t *testing.T) {
	h := strings.Repeat("A", 43) + "=\n"
	good := "old 20852014\n" + h + h + "\nexample.com/log\n"
	if r, err := ParseAddCheckpoint([]byte(good)); err != nil || string(r.Marshal()) != good || r.Old != 20852014 || len(r.Proof) != 2 {
		t.Fatal(r, err)
	}
	for name, bad := range map[string]string{
		"empty": "", "no old": good[4:], "capital": "O" + good[1:], "no size": strings.Replace(good, "20852014", "", 1),
		"zeros": strings.Replace(good, "old 2", "old 02", 1), "negative": strings.Replace(good, "old 2", "old -2", 1),
		"two spaces": strings.Replace(good, "old ", "old  ", 1), "no empty line": strings.Replace(good, "\n\n", "\n", 1),
		"a return": strings.ReplaceAll(good, "\n", "\r\n"), "64 hashes": "old 1\n" + strings.Repeat(h, 64) + "\nx\n",
		"no hash": strings.Replace(good, h, "x\n", 1), "too long": good + strings.Repeat("x", MaxAddCheckpoint),
	} {
		if r, err := ParseAddCheckpoint([]byte(bad)); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
	for _, bad := range []string{"", "7", "07\n", "-7\n", "7\n\n", "7 \n", "x\n", strings.Repeat("9", 40) + "\n"} {
		if n, err := ParseWitnessSize([]byte(bad)); err == nil {
			t.Errorf("%q: read as %d", bad, n)
		}
	}
	if n, err := ParseWitnessSize([]byte("20852014\n")); err != nil || n != 20852014 {
		t.Error(n, err)
	}
}

func FuzzProofFiles(f *testing.F) {
	lines, leaves, signed, vkey, policy := provenLog(f)
	path, err := ProveInclusion(4, 11, perfect(leaves))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(LogProof{Seq: 4, Path: path, Checkpoint: signed}.Marshal(), []byte("11\n"))
	f.Add(AddCheckpoint{Old: 4, Proof: path, Checkpoint: signed}.Marshal(), []byte("0\n"))
	f.Fuzz(func(t *testing.T, b, size []byte) {
		if p, err := ParseLogProof(b); err == nil {
			if !bytes.Equal(p.Marshal(), b) {
				t.Fatalf("%q is a second form of %q", b, p.Marshal())
			}
			for seq, line := range lines {
				if _, _, err := p.Verify(line, cosignTree.Origin, vkey, policy); err == nil && p.Seq != uint64(seq) {
					t.Fatalf("line %d is shown in place %d", seq, p.Seq)
				}
			}
			if _, _, err := p.Verify([]byte("forged"), cosignTree.Origin, vkey, nil); err == nil {
				t.Fatal("a forged line is shown")
			}
		}
		if r, err := ParseAddCheckpoint(b); err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Fatalf("%q is a second form of %q", b, r.Marshal())
		}
		if n, err := ParseWitnessSize(size); err == nil && fmt.Sprintln(n) != string(size) {
			t.Fatalf("%q is a second form of %d", size, n)
		}
	})
}
