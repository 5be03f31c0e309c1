package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/vectors/audit-log/cosigned.json anew")

// cosignedVectors is docs/vectors/audit-log/cosigned.json: what others vouch for of the published log.
type cosignedVectors struct {
	LogKey      string            `json:"log_key"`
	Cosigners   []cosignerVector  `json:"cosigners"`
	Policy      string            `json:"policy"` // wants both cosigners
	Note        string            `json:"note"`   // cosigned by both
	Half        string            `json:"note_with_too_few"`
	Proofs      map[string]string `json:"proofs"`      // C2SP tlog-proof by line, counted from 0
	Consistency []growthVector    `json:"consistency"` // RFC 6962 §2.1.2
	Request     string            `json:"add_checkpoint"`
	Rejected    []rejectedVector  `json:"rejected_notes"` // the first cosigner has not cosigned these
}

type cosignerVector struct {
	Seed string `json:"seed"`
	Key  string `json:"verifier_key"`
	Time int64  `json:"time"`
	Line string `json:"signature_line"`
}

type growthVector struct {
	Old   uint64   `json:"old"`
	Size  uint64   `json:"size"`
	Proof []string `json:"proof"`
}

type rejectedVector struct {
	Why  string `json:"why"`
	Note string `json:"note"`
}

// makeCosigned makes the vectors from the published log and seeds.
func makeCosigned(t *testing.T, v vectors, log []byte) cosignedVectors {
	t.Helper()
	var leaves []Hash
	var f Frontier
	for _, line := range bytes.Split(bytes.TrimSuffix(log, []byte("\n")), []byte("\n")) {
		leaves = append(leaves, LeafHash(line))
		f.Append(leaves[len(leaves)-1])
	}
	c := Checkpoint{Origin: v.Checkpoint.Origin, Tree: f.Tree()}
	out := cosignedVectors{LogKey: v.Checkpoint.Key, Proofs: map[string]string{}, Note: v.Checkpoint.Note}
	for i, name := range []string{"backup.example/mirror", "witness.example/w1"} {
		seed := bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize)
		who, err := NewCosigner(name, ed25519.NewKeyFromSeed(seed))
		if err != nil {
			t.Fatal(err)
		}
		at := testTime.Unix() + int64(i)
		line, err := who.Cosign(c, time.Unix(at, 0))
		if err != nil {
			t.Fatal(err)
		}
		out.Cosigners = append(out.Cosigners, cosignerVector{hex.EncodeToString(seed), who.Key().String(), at, string(line)})
		out.Half, out.Note = out.Note, out.Note+string(line)
		out.Policy += fmt.Sprintf("witness w%d %s\n", i+1, who.Key())
	}
	out.Policy += "group both all w1 w2\nquorum both\n"
	for _, line := range []uint64{0, 3, c.Size - 1} {
		path, err := ProveInclusion(line, c.Size, perfect(leaves))
		if err != nil {
			t.Fatal(err)
		}
		out.Proofs[fmt.Sprint(line)] = string(LogProof{Seq: line, Path: path, Checkpoint: []byte(out.Note)}.Marshal())
	}
	out.grow(t, c, leaves, v.Checkpoint.Note)
	line := out.Cosigners[0].Line
	out.Rejected = []rejectedVector{
		{"over another checkpoint", strings.Replace(v.Checkpoint.Note, "\n8\n", "\n7\n", 1) + line},
		{"cut", v.Checkpoint.Note + line[:len(line)-5] + "\n"},
		{"another name", v.Checkpoint.Note + strings.Replace(line, "backup", "backuq", 1)},
		{"nothing but the log's signature", v.Checkpoint.Note},
	}
	return out
}

// grow adds the consistency proofs between all sizes, and a request to a witness.
func (v *cosignedVectors) grow(t *testing.T, c Checkpoint, leaves []Hash, note string) {
	t.Helper()
	for size := range c.Size + 1 {
		for old := range size + 1 {
			proof, err := ProveConsistency(old, size, perfect(leaves))
			if err != nil {
				t.Fatal(err)
			}
			g := growthVector{old, size, []string{}}
			for _, h := range proof {
				g.Proof = append(g.Proof, hex.EncodeToString(h[:]))
			}
			v.Consistency = append(v.Consistency, g)
			if old == 5 && size == c.Size {
				v.Request = string(AddCheckpoint{Old: old, Proof: proof, Checkpoint: []byte(note)}.Marshal())
			}
		}
	}
}

// verifyCosigned is the same checked by docs/vectors/audit-log/verify.py.
const verifyCosigned = `
import json, sys
sys.path.insert(0, sys.argv[1])
import verify
read = lambda name: open(sys.argv[1] + "/" + name, encoding="utf-8", newline="").read()
v = json.loads(read("cosigned.json"))
lines = read("audit_chain.jsonl").encode().split(b"\n")[:-1]
roots = [bytes.fromhex(t["root"]) for t in json.loads(read("vectors.json"))["trees"]]
keys = [c["verifier_key"] for c in v["cosigners"]]
assert verify.open_checkpoint(v["note"], v["log_key"], *keys) == (len(lines), roots[-1])
for c in v["cosigners"]:
    assert verify.cosigned_at(v["note"], c["verifier_key"]) == c["time"]
def refused(f, *args):
    try:
        f(*args)
    except (ValueError, IndexError):
        return True
assert refused(verify.open_checkpoint, v["note_with_too_few"], v["log_key"], *keys)
for r in v["rejected_notes"]:
    assert refused(verify.open_checkpoint, r["note"], v["log_key"], *keys), r["why"]
for n, proof in v["proofs"].items():
    assert verify.open_proof(lines[int(n)], proof, v["log_key"], *keys) == (len(lines), roots[-1])
    assert refused(verify.open_proof, lines[(int(n) + 1) % len(lines)], proof, v["log_key"])
for g in v["consistency"]:
    proof = [bytes.fromhex(h) for h in g["proof"]]
    if g["old"]:
        assert verify.roots_of(g["old"], g["size"], proof, roots[g["old"]]) == (roots[g["old"]], roots[g["size"]]), g
    else:
        assert not proof
print("done")
`

// TestCosignedVectors: the published cosignatures, proofs and requests are what this program makes, and what another in another language accepts.
func TestCosignedVectors(t *testing.T) {
	v, log := readVectors(t)
	var made bytes.Buffer
	e := json.NewEncoder(&made)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(makeCosigned(t, v, log)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(vectorsDir, "cosigned.json")
	if *update {
		if err := os.WriteFile(name, made.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	published, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(published, made.Bytes()) {
		t.Fatalf("%s is not what this program makes: %v", name, err)
	}
	var got cosignedVectors
	if err := json.Unmarshal(published, &got); err != nil {
		t.Fatal(err)
	}
	policy, err := ParsePolicy([]byte(got.Policy))
	if err != nil {
		t.Fatal(err)
	}
	if _, by, err := policy.Open([]byte(got.Note), v.Checkpoint.Origin, got.LogKey); err != nil || len(by) != 2 || by[0].Time.Unix() != got.Cosigners[0].Time {
		t.Errorf("%v, %v", by, err)
	}
	if _, _, err := policy.Open([]byte(got.Half), v.Checkpoint.Origin, got.LogKey); !errors.Is(err, ErrQuorum) {
		t.Errorf("with one of two: %v", err)
	}
	for _, r := range got.Rejected {
		if _, _, err := policy.Open([]byte(r.Note), v.Checkpoint.Origin, got.LogKey); err == nil {
			t.Errorf("%s: accepted", r.Why)
		}
	}
	out, err := exec.Command("python3", "-B", "-c", verifyCosigned, vectorsDir).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "done" {
		t.Errorf("%v: %s", err, out)
	}
	runVerifier(t, got, log)
}

// runVerifier runs verify.py as a person would.
func runVerifier(t *testing.T, v cosignedVectors, log []byte) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	lines := strings.SplitAfter(string(log), "\n")
	file := filepath.Join(vectorsDir, "audit_chain.jsonl")
	for i, c := range []struct {
		good bool
		args []string
	}{
		{true, []string{file, write("note", v.Note), v.LogKey, v.Cosigners[0].Key, v.Cosigners[1].Key}},
		{false, []string{file, write("half", v.Half), v.LogKey, v.Cosigners[0].Key, v.Cosigners[1].Key}},
		{true, []string{"--proof", write("line", lines[3]), write("proof", v.Proofs["3"]), v.LogKey, v.Cosigners[0].Key}},
		{false, []string{"--proof", write("other", lines[2]), write("proof", v.Proofs["3"]), v.LogKey}},
	} {
		out, err := exec.Command("python3", append([]string{"-B", filepath.Join(vectorsDir, "verify.py")}, c.args...)...).CombinedOutput()
		if (err == nil) != c.good {
			t.Errorf("%d: %v\n%s", i, err, out)
		}
	}
}
