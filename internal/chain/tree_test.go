package chain

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func sum(b []byte) Hash { return sha256.Sum256(b) }

// The frontier must agree with tlog, which keeps every hash, at every size.
func TestFrontierAgreesWithTlog(t *testing.T) {
	var f Frontier
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = stored[x]
		}
		return out, nil
	})
	if f.Tree().Root != sum(nil) {
		t.Fatal("the root of the empty tree is not SHA-256 of nothing")
	}
	for i := range int64(600) {
		line := []byte(fmt.Sprintf("line %d", i))
		if LeafHash(line) != Hash(tlog.RecordHash(line)) {
			t.Fatal("leaf hash")
		}
		hashes, err := tlog.StoredHashes(i, line, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		f.Append(LeafHash(line))
		want, err := tlog.TreeHash(i+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Tree(); got.Root != Hash(want) || got.Size != uint64(i+1) {
			t.Fatalf("size %d: %x, want %x", i+1, got.Root, want)
		}
		b, err := f.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var g Frontier
		if err := g.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if g.Tree() != f.Tree() {
			t.Fatal("a frontier decoded has another root")
		}
		if g.UnmarshalBinary(b[:len(b)-1]) == nil || g.UnmarshalBinary(append(b, 0)) == nil {
			t.Fatal("a frontier of the wrong length was accepted")
		}
	}
	c := f.Clone()
	c.Append(Hash{})
	if f.Size() != 600 || c.Size() != 601 {
		t.Fatal("a clone shares its size")
	}
}

func testKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
}

func TestCheckpoint(t *testing.T) {
	key := testKey()
	c := Checkpoint{Origin: "aes.example/log", Tree: Tree{Size: 3, Root: Hash{7}}}
	signed, err := c.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := VerifierKey(c.Origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenCheckpoint(signed, c.Origin, vkey)
	if err != nil || got != c {
		t.Fatalf("%+v %v", got, err)
	}
	// tlog reads no other origin than its own: the note itself is judged by package note.
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(signed, "other", vkey); err == nil {
		t.Error("another origin was accepted")
	}
	other := ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32)))
	okey, err := VerifierKey(c.Origin, other.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(signed, c.Origin, okey); err == nil {
		t.Error("another key was accepted")
	}
	for i := range signed {
		b := []byte(string(signed))
		b[i] ^= 1
		if got, err := OpenCheckpoint(b, c.Origin, vkey); err == nil && got != c {
			t.Errorf("byte %d changed: %+v", i, got)
		}
	}
	if _, err := OpenCheckpoint(make([]byte, MaxNote+1), c.Origin, vkey); err == nil {
		t.Error("a huge note was accepted")
	}
}

type brokenKey struct{ ed25519.PrivateKey }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, ed25519.SignatureSize), nil
}

type deadKey struct{ ed25519.PrivateKey }

var errDead = errors.New("dead")

func (deadKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errDead }

func TestCheckpointSignRefuses(t *testing.T) {
	c := Checkpoint{Origin: "a", Tree: Tree{Size: 1}}
	if _, err := c.Sign(brokenKey{testKey()}); err == nil {
		t.Error("a signature that does not verify left")
	}
	if _, err := c.Sign(deadKey{testKey()}); !errors.Is(err, errDead) {
		t.Error(err)
	}
	for _, o := range []string{"", "a b", "a+b", "a\n", "é", strings.Repeat("a", 256)} {
		if _, err := (Checkpoint{Origin: o}).Sign(testKey()); err == nil {
			t.Errorf("origin %q was accepted", o)
		}
	}
}

func TestParseCheckpointRefuses(t *testing.T) {
	root := Checkpoint{Origin: "a"}.Text()[4:]
	for _, s := range []string{
		"", "a\n", "a\n1\n", "a\n1\n" + strings.TrimSuffix(root, "\n"), "a\n1\n" + root + "x\n", "\n1\n" + root, "a\n01\n" + root, "a\n-1\n" + root,
		"a\n+1\n" + root, "a\n1 \n" + root, "a\n9223372036854775808\n" + root, "a\n1\nAAAA\n", "a\n1\n" + strings.Replace(root, "A=", "B=", 1), "a b\n1\n" + root,
	} {
		if c, err := ParseCheckpoint(s); err == nil {
			t.Errorf("%q gave %+v", s, c)
		}
	}
	c := Checkpoint{Origin: "a/b", Tree: Tree{Size: 1<<63 - 1, Root: Hash{1}}}
	if got, err := ParseCheckpoint(c.Text()); err != nil || got != c {
		t.Errorf("%+v %v", got, err)
	}
}
