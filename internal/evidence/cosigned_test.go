package evidence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/tsp"
)

func policyOf(t testing.TB, quorum string, keys ...chain.WitnessKey) *chain.Policy {
	t.Helper()
	var text, names string
	for i, k := range keys {
		name := string(rune('a' + i))
		text += "witness " + name + " " + k.String() + "\n"
		names += " " + name
	}
	return must[*chain.Policy](t)(chain.ParsePolicy([]byte(text + "group g " + quorum + names + "\nquorum g\n")))
}

// What a pack is worth to whom: by whom its checkpoint is cosigned, and whom the reader trusts.
func TestPackCosigned(t *testing.T) {
	f := newFixture(t)
	witness := must[*chain.Cosigner](t)(chain.NewCosigner("witness.example", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))))
	both := []*chain.Cosigner{f.cosigners[0], witness}
	for name, c := range map[string]struct {
		by      []*chain.Cosigner
		policy  *chain.Policy
		verdict Verdict
		result  Result
		text    string
	}{
		"nobody asked for, nobody did":  {nil, nil, Valid, NotJudged, "Not cosigned: nobody but the appliance itself"},
		"nobody asked for":              {both, nil, Valid, NotJudged, "cosigned by backup.example/mirror at 2026-11-21T20:01:00Z, and by witness.example at"},
		"both":                          {both, policyOf(t, "all", both[0].Key(), both[1].Key()), Valid, Pass, "enough of those whom you trust"},
		"one of two is enough":          {both[1:], policyOf(t, "any", both[0].Key(), both[1].Key()), Valid, Pass, "cosigned by witness.example"},
		"one of two is not":             {both[:1], policyOf(t, "all", both[0].Key(), both[1].Key()), CouldNotJudge, Unknown, "too few cosignatures: by a, not by b"},
		"a stranger only":               {both[:1], policyOf(t, "all", both[1].Key()), CouldNotJudge, Unknown, "by none of a"},
		"not cosigned at all":           {nil, policyOf(t, "any", both[0].Key()), CouldNotJudge, Unknown, "by none of a"},
		"a policy that asks for nobody": {nil, must[*chain.Policy](t)(chain.ParsePolicy([]byte("quorum none\n"))), Valid, Pass, "Not cosigned"},
		"a policy about some other log": {both, must[*chain.Policy](t)(chain.ParsePolicy([]byte("log " + otherLog(t) + "\nquorum none\n"))), Invalid, Fail, "about other logs"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.cosigners = c.by
			f.finish(t)
			var b bytes.Buffer
			if err := WritePack(context.Background(), &b, f.pack); err != nil {
				t.Fatal(err)
			}
			o := f.trusting()
			o.Policy = c.policy
			r := verify(t, b.Bytes(), o)
			if r.Verdict != c.verdict || result(r, "cosignatures") != c.result || !strings.Contains(r.Text(), c.text) {
				t.Errorf("want %s, %s, %q\n%s", c.verdict, c.result, c.text, r.Text())
			}
			if readme := string(must[[]entry](t)(f.pack.files())[0].data); strings.Contains(readme, "--witness-keys") != (len(c.by) > 0) ||
				!strings.Contains(strings.Join(strings.Fields(readme), " "), f.live.Checkpoint.Statement) {
				t.Errorf("the README does not say what the cosignatures amount to:\n%s", readme)
			}
		})
	}
}

func otherLog(t testing.TB) string {
	return must[string](t)(chain.VerifierKey("other.example", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)).Public().(ed25519.PublicKey)))
}

func result(r *PackReport, name string) Result {
	for _, c := range r.Checks {
		if c.Name == name {
			return c.Result
		}
	}
	return ""
}

// The proofs are of a public format: each stands by itself, for whoever has the line, the log's key and the cosigners' keys.
func TestProofsStandAlone(t *testing.T) {
	f := newFixture(t)
	policy := policyOf(t, "all", f.cosigners[0].Key())
	found := 0
	for _, e := range must[[]entry](t)(f.pack.files()) {
		if !strings.HasSuffix(e.name, proofSuffix) {
			continue
		}
		found++
		p := must[chain.LogProof](t)(chain.ParseLogProof(e.data))
		if _, by, err := p.Verify(f.log[p.Seq], origin, f.pack.LogKey, policy); err != nil || len(by) != 1 {
			t.Errorf("%s: %v", e.name, err)
		}
	}
	if found != len(f.pack.Lines) {
		t.Errorf("%d proofs of %d lines", found, len(f.pack.Lines))
	}
}

// stamp has openssl time-stamp the log's state when it had size lines, and puts that into the pack.
func (f *fixture) stamp(t *testing.T, size int) {
	t.Helper()
	tree := func(n int) chain.Tree {
		var all chain.Frontier
		for _, line := range f.log[:n] {
			all.Append(chain.LeafHash(line))
		}
		return all.Tree()
	}
	note := must[[]byte](t)(chain.Checkpoint{Origin: origin, Tree: tree(size)}.Sign(f.key))
	growth := must[[]chain.Hash](t)(chain.ProveConsistency(uint64(size), uint64(len(f.log)), func(level int, n uint64) (chain.Hash, error) {
		var sub chain.Frontier
		for _, line := range f.log[n<<level : (n+1)<<level] {
			sub.Append(chain.LeafHash(line))
		}
		return sub.Tree().Root, nil
	}))
	token := opensslToken(t, note)
	signed := must[*cms.SignedData](t)(cms.Parse(token))
	info := must[tsp.TSTInfo](t)(tsp.ParseTSTInfo(signed.Content))
	root := tree(size).Root
	f.live.Stamped = &CheckpointTime{Size: uint64(size), Root: hex.EncodeToString(root[:]), Time: info.GenTime, Serial: info.Serial.Text(16),
		Policy: info.Policy.String(), Authority: "Test TSA"}
	f.pack.Stamped = &Stamped{Note: note, Token: token, Growth: growth}
	f.finish(t)
}

// opensslToken returns a token of a time-stamping authority that openssl is.
func opensslToken(t *testing.T, data []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) {
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v (Debian's openssl is needed)\n%s", strings.Join(args, " "), err, out)
		}
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tsa.cnf", "[tsa]\ndefault_tsa=t\n[t]\ndir=.\nserial=./serial\nsigner_cert=./tsa.pem\nsigner_key=./tsa.key\nsigner_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\nordering=no\ness_cert_id_alg=sha256\n")
	write("serial", "0A\n")
	write("note", string(data))
	run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem", "-subj", "/CN=Test TSA",
		"-days", "30", "-addext", "extendedKeyUsage=critical,timeStamping", "-addext", "keyUsage=critical,digitalSignature")
	run("ts", "-query", "-data", "note", "-sha256", "-cert", "-out", "query")
	run("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-token_out", "-out", "token")
	return must[[]byte](t)(os.ReadFile(filepath.Join(dir, "token")))
}

// A checkpoint that another authority time-stamped joins the pack, and is held against it.
func TestPackTimeStamped(t *testing.T) {
	f := newFixture(t)
	f.stamp(t, 6)
	var b bytes.Buffer
	if err := WritePack(context.Background(), &b, f.pack); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, b.Bytes(), f.trusting()); r.Verdict != Valid || result(r, "time_stamp") != NotJudged || !strings.Contains(r.Text(), "Test TSA had time-stamped the log's state of 6 lines") {
		t.Fatal(r.Text())
	}
	for _, want := range []Result{Pass, Fail, Unknown} {
		o := f.trusting()
		o.JudgeStamp = func(token, note []byte) (Result, string) {
			if !bytes.Equal(token, f.pack.Stamped.Token) || !bytes.Equal(note, f.pack.Stamped.Note) {
				t.Error("another token was judged")
			}
			return want, "judged"
		}
		if r := verify(t, b.Bytes(), o); result(r, "time_stamp") != want || (r.Verdict == Valid) != (want == Pass) {
			t.Errorf("%s: %s", want, r.Text())
		}
	}
	for name, c := range map[string]struct {
		change func(*fixture)
		text   string
	}{
		"another time":            {func(f *fixture) { f.live.Stamped.Time = judged }, "not the one that the summary names"},
		"another authority":       {func(f *fixture) { f.live.Stamped.Authority = "Another" }, `is of "Test TSA"`},
		"another tree":            {func(f *fixture) { f.live.Stamped.Root = SHA256(nil) }, "not the one that the summary names"},
		"a token of other data":   {func(f *fixture) { f.pack.Stamped.Token = opensslToken(t, []byte("x")) }, "over something else"},
		"no token":                {func(f *fixture) { f.pack.Stamped.Token = []byte("x") }, nameStamp},
		"no growth":               {func(f *fixture) { f.pack.Stamped.Growth = nil }, "begins with that of"},
		"not in the summary":      {func(f *fixture) { f.live.Stamped = nil }, "disagree on whether there is one"},
		"not in the pack":         {func(f *fixture) { f.pack.Stamped = nil }, "disagree on whether there is one"},
		"a changed note":          {func(f *fixture) { f.pack.Stamped.Note[0] ^= 1 }, "checkpoint"},
		"from before the signing": {func(f *fixture) { f.stamp(t, 3) }, "from before the signing"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.stamp(t, 6)
			c.change(f)
			f.finish(t)
			r := verify(t, f.archive(t), f.trusting())
			if r.Verdict != Invalid || !strings.Contains(failed(r, "time_stamp"), c.text) {
				t.Errorf("want %q\n%s", c.text, r.Text())
			}
		})
	}
}
