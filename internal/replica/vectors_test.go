package replica

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

var writeVectors = flag.Bool("write-vectors", false, "write docs/vectors/replication/vectors.json anew")

const (
	vectorsFolder = "../../docs/vectors/replication"
	vectorsLog    = "../../docs/vectors/audit-log/audit_chain.jsonl"
)

// vectors is what other people's receivers and verifiers are tested with (docs/replication.md).
type vectors struct {
	Origin      string `json:"origin"`
	LogID       string `json:"log_id"`
	LogSeed     string `json:"log_seed"`
	LogKey      string `json:"log_key"`
	Append      []byte `json:"append"`
	Heartbeat   []byte `json:"heartbeat"`
	Cosigner    string `json:"cosigner"`
	Seed        string `json:"cosigner_seed"`
	CosignerKey string `json:"cosigner_key"`
	Time        int64  `json:"time"`
	Cosignature string `json:"cosignature"`
	Cosigned    string `json:"cosigned"`
	Redeem      struct {
		Secret   string `json:"secret"`
		Exporter string `json:"exporter"`
		Kind     string `json:"kind"`
		Payload  []byte `json:"payload"`
		Client   string `json:"client_proof"`
		Answer   []byte `json:"answer"`
		Server   string `json:"server_proof"`
	} `json:"redeem"`
	Objects  []objectCase `json:"objects"`
	Rejected []struct {
		Why    string `json:"why"`
		Append []byte `json:"append"`
	} `json:"rejected_appends"`
}

type objectCase struct {
	Line  string   `json:"line"`
	Names []string `json:"names"`
}

// makeVectors makes them from two seeds and the log of docs/vectors/audit-log.
func makeVectors(t *testing.T) vectors {
	t.Helper()
	v := vectors{Origin: "aes.example/audit", LogSeed: strings.Repeat("00", 32), Cosigner: "backup.example", Seed: strings.Repeat("01", 32), Time: 1767225600}
	v.LogID = LogID(v.Origin)
	key := func(seed string) ed25519.PrivateKey {
		raw, err := hex.DecodeString(seed)
		if err != nil {
			t.Fatal(err)
		}
		return ed25519.NewKeyFromSeed(raw)
	}
	log, err := os.ReadFile(vectorsLog)
	if err != nil {
		t.Fatal(err)
	}
	var w walk
	if err := w.lines(log); err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(log, []byte("\n"))
	cp := chain.Checkpoint{Origin: v.Origin, Tree: w.tree.Tree()}
	signed, err := cp.Sign(key(v.LogSeed))
	if err != nil {
		t.Fatal(err)
	}
	if v.LogKey, err = chain.VerifierKey(v.Origin, key(v.LogSeed).Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	v.Append = Append{Old: 3, Lines: bytes.Join(lines[3:], nil), Checkpoint: signed}.Marshal()
	v.Heartbeat = Append{Old: cp.Size, Checkpoint: signed}.Marshal()
	cosigner, err := chain.NewCosigner(v.Cosigner, key(v.Seed))
	if err != nil {
		t.Fatal(err)
	}
	line, err := cosigner.Cosign(cp, time.Unix(v.Time, 0))
	if err != nil {
		t.Fatal(err)
	}
	v.CosignerKey, v.Cosignature, v.Cosigned = cosigner.Key().String(), string(line), string(signed)+string(line)
	r := &v.Redeem
	r.Secret, r.Exporter, r.Kind, r.Payload, r.Answer = strings.Repeat("07", 16), strings.Repeat("0a", 32), "join", []byte("hello"), []byte("welcome")
	r.Client, r.Server = redeemProof(t, v, roleClient, r.Payload), redeemProof(t, v, roleServer, r.Answer)
	a, b := strings.Repeat("ab", 32), strings.Repeat("01", 32)
	for _, c := range []struct {
		details string
		names   []string
	}{
		{`{"document_object":"` + a + `","evidence_object":"` + b + `"}`, []string{a, b}},
		{`{"list":[{"object":"` + b + `"}],"n":{"key_object":"` + a + `"}}`, []string{b, a}},
		{`{"object":["` + a + `"],"objects":"` + a + `","x":"object\":\"` + a + `","y_object":"` + a[:62] + `AB"}`, []string{}},
	} {
		line, _, err := chain.AppendLine(nil, chain.Hash{}, chain.Entry{Time: time.Unix(v.Time, 0), EventType: "x", Actor: "a", Details: []byte(c.details)})
		if err != nil {
			t.Fatal(err)
		}
		v.Objects = append(v.Objects, objectCase{string(line), c.names})
	}
	for _, r := range [][2]string{
		{"another version", "aes-append/2\nold 0\nlines 0\n\nc"},
		{"a leading zero", "aes-append/1\nold 00\nlines 0\n\nc"},
		{"a size of 2^63", "aes-append/1\nold 9223372036854775808\nlines 0\n\nc"},
		{"fewer lines than it says", "aes-append/1\nold 0\nlines 5\n\na\n"},
		{"lines that end in a line", "aes-append/1\nold 0\nlines 1\n\nac"},
		{"no checkpoint", "aes-append/1\nold 0\nlines 2\n\na\n"},
		{"a checkpoint of 2,049", "aes-append/1\nold 0\nlines 0\n\n" + strings.Repeat("c", MaxCheckpoint+1)},
		{"no empty line in its head", "aes-append/1\nold 0\nlines 0\nc"},
	} {
		v.Rejected = append(v.Rejected, struct {
			Why    string `json:"why"`
			Append []byte `json:"append"`
		}{r[0], []byte(r[1])})
	}
	return v
}

// redeemProof computes a proof as docs/replication.md says it, apart from the program's own.
func redeemProof(t *testing.T, v vectors, role string, payload []byte) string {
	t.Helper()
	secret, err := hex.DecodeString(v.Redeem.Secret)
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s\n\"%s\"\n%x\n%s\n", role, v.Redeem.Kind, sha256.Sum256(payload), v.Redeem.Exporter)
	return hex.EncodeToString(h.Sum(nil))
}

// TestVectors: the published vectors are what this program makes and reads, and what a verifier written from the description alone agrees with.
func TestVectors(t *testing.T) {
	path := filepath.Join(vectorsFolder, "vectors.json")
	want := makeVectors(t)
	if *writeVectors {
		b, err := json.MarshalIndent(want, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got vectors
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	rejected := got.Rejected
	got.Rejected, want.Rejected = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the vectors are not what this program makes:\n%+v\n%+v", got, want)
	}
	if len(rejected) < 8 {
		t.Error("rejected appends are missing")
	}
	for _, r := range rejected {
		if _, err := ParseAppend(r.Append); err == nil {
			t.Errorf("taken: %s", r.Why)
		}
	}
	for _, o := range got.Objects {
		if ids := AppendObjects([]string{}, []byte(o.Line)); !reflect.DeepEqual(ids, o.Names) {
			t.Errorf("%s: %v", o.Line, ids)
		}
	}
	secret, err := hex.DecodeString(got.Redeem.Secret)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := hex.DecodeString(got.Redeem.Exporter)
	if err != nil {
		t.Fatal(err)
	}
	if p := proofOver(secret, bound, roleClient, got.Redeem.Kind, got.Redeem.Payload); hex.EncodeToString(p) != got.Redeem.Client {
		t.Errorf("the client's proof: %x", p)
	}
	if p := proofOver(secret, bound, roleServer, got.Redeem.Kind, got.Redeem.Answer); hex.EncodeToString(p) != got.Redeem.Server {
		t.Errorf("the server's proof: %x", p)
	}
	runVerifier(t, path, raw)
}

// runVerifier runs verify.py over the vectors as they are, and over some that were changed.
func runVerifier(t *testing.T, path string, raw []byte) {
	t.Helper()
	verify := func(path, log string) error {
		out, err := exec.Command("python3", "-B", filepath.Join(vectorsFolder, "verify.py"), path, log).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := verify(path, vectorsLog); err != nil {
		t.Errorf("verify.py: %v", err)
	}
	for name, change := range map[string]func(v *vectors){
		"another time":        func(v *vectors) { v.Time++ },
		"another cosignature": func(v *vectors) { v.Cosignature = strings.Replace(v.Cosignature, "A", "B", 1) },
		"another cosigner":    func(v *vectors) { v.CosignerKey = v.LogKey },
		"another origin":      func(v *vectors) { v.Origin += "x" },
	} {
		var v vectors
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		change(&v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "vectors.json")
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if verify(bad, vectorsLog) == nil {
			t.Errorf("verify.py takes %s", name)
		}
	}
	log, err := os.ReadFile(vectorsLog)
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(short, log[:bytes.LastIndexByte(log[:len(log)-1], '\n')+1], 0o600); err != nil {
		t.Fatal(err)
	}
	if verify(path, short) == nil {
		t.Error("verify.py takes a log without its last line")
	}
}
