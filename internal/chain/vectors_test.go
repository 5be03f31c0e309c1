package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The published vectors (docs/vectors/audit-log). They are what other people's verifiers were tested with: this program changes to agree with them,
// never the other way round.
type vectors struct {
	Lines []struct {
		Entry string `json:"canonical_entry"`
		Prev  string `json:"prev_hash"`
		Hash  string `json:"hash"`
		Leaf  string `json:"leaf_hash"`
	}
	Trees []struct {
		Size uint64
		Root string
	}
	Checkpoint struct {
		Origin, Seed, Note string
		Key                string `json:"verifier_key"`
	}
	Rejected []struct{ Why, Line string }
}

const vectorsDir = "../../docs/vectors/audit-log"

func readVectors(t *testing.T) (v vectors, log []byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(vectorsDir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if log, err = os.ReadFile(filepath.Join(vectorsDir, "audit_chain.jsonl")); err != nil {
		t.Fatal(err)
	}
	// The hash that the format was frozen with.
	const frozen = "866c53b564c94ea106fdf0c1fbc170b9fb2f48abfaa6a336ac749072c5084283"
	if got := sum(log); hex.EncodeToString(got[:]) != frozen {
		t.Fatalf("docs/vectors/audit-log/audit_chain.jsonl was changed: %x", got)
	}
	return v, log
}

func TestVectors(t *testing.T) {
	v, log := readVectors(t)
	lines := bytes.Split(bytes.TrimSuffix(log, []byte("\n")), []byte("\n"))
	if len(lines) != len(v.Lines) || len(v.Trees) != len(lines)+1 {
		t.Fatalf("%d lines, %d described, %d trees", len(lines), len(v.Lines), len(v.Trees))
	}
	var f Frontier
	var s State
	checkTree := func() {
		t.Helper()
		want := v.Trees[f.Size()]
		if got := f.Tree(); got.Size != want.Size || hex.EncodeToString(got.Root[:]) != want.Root {
			t.Errorf("tree of %d: %x, want %s", got.Size, got.Root, want.Root)
		}
	}
	checkTree()
	for i, raw := range lines {
		want := v.Lines[i]
		l, err := ParseLine(raw)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if err := s.Next(Link{l.Prev, l.Hash, l.Time.UnixMicro()}); err != nil {
			t.Fatal(err)
		}
		leaf := LeafHash(raw)
		if hex.EncodeToString(l.Prev[:]) != want.Prev || hex.EncodeToString(l.Hash[:]) != want.Hash || hex.EncodeToString(leaf[:]) != want.Leaf {
			t.Errorf("line %d: %x %x %x, want %+v", i+1, l.Prev, l.Hash, leaf, want)
		}
		if sum(append(bytes.Clone(l.Prev[:]), want.Entry...)) != l.Hash {
			t.Errorf("line %d: the hash is not over %s", i+1, want.Entry)
		}
		if again, _, err := AppendLine(nil, l.Prev, l.Entry); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("line %d: written again: %s, %v", i+1, again, err)
		}
		f.Append(leaf)
		checkTree()
	}
	for _, r := range v.Rejected {
		if _, err := ParseLine([]byte(r.Line)); err == nil {
			t.Errorf("%s: accepted %s", r.Why, r.Line)
		}
	}
	c := Checkpoint{Origin: v.Checkpoint.Origin, Tree: f.Tree()}
	if got, err := OpenCheckpoint([]byte(v.Checkpoint.Note), c.Origin, v.Checkpoint.Key); err != nil || got != c {
		t.Errorf("checkpoint: %+v, %v", got, err)
	}
	seed, err := hex.DecodeString(v.Checkpoint.Seed)
	if err != nil {
		t.Fatal(err)
	}
	if note, err := c.Sign(ed25519.NewKeyFromSeed(seed)); err != nil || string(note) != v.Checkpoint.Note {
		t.Errorf("signed again: %s, %v", note, err)
	}
	if file, err := os.ReadFile(filepath.Join(vectorsDir, "checkpoint.txt")); err != nil || string(file) != v.Checkpoint.Note {
		t.Errorf("checkpoint.txt: %v", err)
	}
}

// TestIndependentVerifier runs the verifier in docs/vectors/audit-log, which was written from the description of the format in another language: it
// accepts the published log and refuses what it must.
func TestIndependentVerifier(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is missing: apt-get install python3")
	}
	v, log := readVectors(t)
	run := func(log []byte, args ...string) ([]byte, error) {
		name := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(name, log, 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(python, append([]string{"-B", filepath.Join(vectorsDir, "verify.py"), name}, args...)...).CombinedOutput()
	}
	checkpoint := []string{filepath.Join(vectorsDir, "checkpoint.txt"), v.Checkpoint.Key}
	out, err := run(log, checkpoint...)
	var got struct {
		Size       uint64
		Head, Root string
	}
	if jerr := json.Unmarshal(out, &got); err != nil || jerr != nil {
		t.Fatalf("%v %v: %s", err, jerr, out)
	}
	n := len(v.Lines)
	if got.Size != uint64(n) || got.Head != v.Lines[n-1].Hash || got.Root != v.Trees[n].Root {
		t.Errorf("%+v", got)
	}
	lines := bytes.SplitAfter(log, []byte("\n"))
	for name, bad := range map[string][]byte{
		"edit": bytes.Replace(log, []byte("RX-134"), []byte("RX-135"), 1), "torn": log[:len(log)-1], "no first line": bytes.Join(lines[1:], nil),
		"duplicate": append(bytes.Clone(log), lines[n-1]...), "swapped": bytes.Join([][]byte{lines[1], lines[0]}, nil),
	} {
		if out, err := run(bad); err == nil {
			t.Errorf("%s: accepted: %s", name, out)
		}
	}
	if out, err := run(bytes.Join(lines[:n-1], nil), checkpoint...); err == nil {
		t.Errorf("a cut tail with the checkpoint: accepted: %s", out)
	}
	if out, err := run(bytes.Join(lines[:n-1], nil)); err != nil {
		t.Errorf("a cut tail without a checkpoint cannot be seen: %s", out)
	}
	// Every rejected line is refused for its form: by parse_line, before anything else is looked at.
	script := `
import json, sys
sys.path.insert(0, sys.argv[1])
import verify
with open(sys.argv[1] + "/vectors.json", encoding="utf-8") as f:
    vectors = json.load(f)
for r in vectors["rejected"]:
    try:
        verify.parse_line(r["line"].encode("utf-8"))
        print("accepted:", r["why"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        if "the hash does not match" in str(e):
            print("refused for its hash only:", r["why"])
print("done")
`
	out, err = exec.Command(python, "-B", "-c", script, vectorsDir).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "done" {
		t.Errorf("%v: %s", err, out)
	}
}
