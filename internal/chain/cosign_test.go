package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	peer "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// cosigners returns n cosigners with keys of their own.
func cosigners(t testing.TB, n int) ([]*Cosigner, []WitnessKey) {
	t.Helper()
	var cs []*Cosigner
	var keys []WitnessKey
	for i := range n {
		seed := bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize)
		c, err := NewCosigner(fmt.Sprintf("witness.example/w%d", i+1), ed25519.NewKeyFromSeed(seed))
		if err != nil {
			t.Fatal(err)
		}
		cs, keys = append(cs, c), append(keys, c.Key())
	}
	return cs, keys
}

func signedCheckpoint(t testing.TB, c Checkpoint) (signed []byte, vkey string) {
	t.Helper()
	signed, err := c.Sign(testKey())
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = VerifierKey(c.Origin, testKey().Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	return signed, vkey
}

var (
	cosignTime = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	cosignTree = Checkpoint{Origin: "aes.example/audit", Tree: Tree{Size: 7, Root: LeafHash([]byte("x"))}}
)

// What a cosigner signs, another implementation of tlog-cosignature accepts, and the other way round.
func TestCosignWithPeer(t *testing.T) {
	signed, vkey := signedCheckpoint(t, cosignTree)
	cs, keys := cosigners(t, 2)
	line, err := cs[0].Cosign(cosignTree, cosignTime.Add(999*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := peer.NewVerifierForCosignatureV1(keys[0].String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(append(bytes.Clone(signed), line...), note.VerifierList(theirs))
	if err != nil {
		t.Fatalf("the peer says: %v", err)
	}
	if at, err := peer.CoSigV1Timestamp(n.Sigs[0]); err != nil || !at.Equal(cosignTime) {
		t.Errorf("the peer reads the time %v, %v", at, err)
	}

	skey, noteKey, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{9}, 64)), "other.example/w")
	if err != nil {
		t.Fatal(err)
	}
	s, err := peer.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	peerKey, err := peer.VKeyToCosignatureV1(noteKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseWitnessKey(peerKey)
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(&note.Note{Text: cosignTree.Text()}, s)
	if err != nil {
		t.Fatal(err)
	}
	_, answer, _ := bytes.Cut(both, []byte("\n\n"))
	with, found, err := AddCosignatures(append(signed, line...), answer, key)
	if err != nil || len(found) != 1 || found[0].Key != key {
		t.Fatalf("%v, %v", found, err)
	}
	c, all, err := OpenCosigned(with, cosignTree.Origin, vkey, keys[0], keys[1], key)
	if err != nil || c != cosignTree || len(all) != 2 || all[0].Key != keys[0] || !all[0].Time.Equal(cosignTime) || all[1].Key != key {
		t.Errorf("%+v %+v %v", c, all, err)
	}
}

// A newer cosignature takes the place of the older one; unknown keys' lines are dropped; the log's own signature stays first.
func TestAddCosignatures(t *testing.T) {
	signed, vkey := signedCheckpoint(t, cosignTree)
	cs, keys := cosigners(t, 3)
	for i, at := range []time.Duration{0, time.Hour} {
		var lines []byte
		for _, c := range cs {
			line, err := c.Cosign(cosignTree, cosignTime.Add(at))
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line...)
		}
		var found []Cosignature
		var err error
		if signed, found, err = AddCosignatures(signed, lines, keys[:2]...); err != nil || len(found) != 2 {
			t.Fatalf("round %d: %v, %v", i, found, err)
		}
		if n := bytes.Count(signed, []byte("— ")); n != 3 || bytes.Contains(signed, []byte("/w3")) {
			t.Fatalf("round %d: %d signatures:\n%s", i, n, signed)
		}
	}
	_, found, err := OpenCosigned(signed, cosignTree.Origin, vkey, keys...)
	if err != nil || len(found) != 2 || !found[0].Time.Equal(cosignTime.Add(time.Hour)) {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := OpenCheckpoint(signed, cosignTree.Origin, vkey); err != nil {
		t.Errorf("the log's own signature: %v", err)
	}
}

// Everything that is no cosignature of the key over this checkpoint is refused.
func TestCosignatureRejects(t *testing.T) {
	signed, vkey := signedCheckpoint(t, cosignTree)
	cs, keys := cosigners(t, 2)
	line, err := cs[0].Cosign(cosignTree, cosignTime)
	if err != nil {
		t.Fatal(err)
	}
	other := cosignTree
	other.Size++
	raw, err := base64.StdEncoding.DecodeString(strings.Fields(string(line))[2])
	if err != nil {
		t.Fatal(err)
	}
	encode := func(name string, raw []byte) []byte {
		return []byte("— " + name + " " + base64.StdEncoding.EncodeToString(raw) + "\n")
	}
	changed := func(f func([]byte) []byte) []byte { return encode(keys[0].Name(), f(bytes.Clone(raw))) }
	elsewhere, err := cs[0].Cosign(other, cosignTime)
	if err != nil {
		t.Fatal(err)
	}
	// The same key, and a signature over the bare note: what the log's type 0x01 would be.
	bare := ed25519.Sign(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), []byte(cosignTree.Text()))
	for name, lines := range map[string][]byte{
		"of another tree":       elsewhere,
		"of another time":       changed(func(b []byte) []byte { b[11]++; return b }),
		"a changed signature":   changed(func(b []byte) []byte { b[20] ^= 1; return b }),
		"cut":                   changed(func(b []byte) []byte { return b[:len(b)-1] }),
		"longer":                changed(func(b []byte) []byte { return append(b, 0) }),
		"only the key ID":       changed(func(b []byte) []byte { return b[:4] }),
		"a time past 2^63":      changed(func(b []byte) []byte { b[4] |= 0x80; return b }),
		"a log's signature":     changed(func(b []byte) []byte { return append(b[:4], bare...) }),
		"with time zero prefix": changed(func(b []byte) []byte { return append(append(b[:4], make([]byte, 8)...), bare...) }),
		"under another name":    encode("witness.example/w9", raw),
		"nothing":               nil,
		"an empty line":         []byte("\n"),
		"a second note":         append([]byte("\n"), line...),
		"no dash":               line[len("— "):],
		"without its newline":   line[:len(line)-1],
		"not base64":            []byte("— " + keys[0].Name() + " ?\n"),
	} {
		if _, found, err := AddCosignatures(signed, lines, keys...); err == nil {
			t.Errorf("%s: added %v", name, found)
		}
		if _, found, err := OpenCosigned(append(bytes.Clone(signed), lines...), cosignTree.Origin, vkey, keys...); err == nil && len(found) > 0 {
			t.Errorf("%s: opened %v", name, found)
		}
	}
	if _, found, err := OpenCosigned(append(bytes.Clone(signed), line...), cosignTree.Origin, vkey, keys[1]); err != nil || len(found) != 0 {
		t.Errorf("a cosignature of a key that is not asked for: %v, %v", found, err)
	}
	if _, err := cs[0].Cosign(cosignTree, time.Unix(-1, 0)); err == nil {
		t.Error("cosigned before 1970")
	}
	if _, _, err := AddCosignatures(signed, make([]byte, MaxNote), keys...); err == nil {
		t.Error("64 KiB of signatures were read")
	}
}

func TestParseWitnessKeyRejects(t *testing.T) {
	_, keys := cosigners(t, 1)
	good := keys[0].String()
	if k, err := ParseWitnessKey(good); err != nil || k != keys[0] {
		t.Fatal(k, err)
	}
	_, logKey := signedCheckpoint(t, cosignTree)
	parts := strings.SplitN(good, "+", 3)
	mldsa := binary.BigEndian.AppendUint32(nil, 0)
	for name, bad := range map[string]string{
		"empty": "", "a log's key": logKey, "no hash": parts[0] + "+" + parts[2], "another hash": parts[0] + "+00000000+" + parts[2],
		"upper-case hash": parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + parts[2], "another name": "x" + good, "no name": good[len(parts[0]):],
		"a space": " " + good, "a newline": good + "\n", "short": good[:len(good)-4], "no material": parts[0] + "+" + parts[1] + "+",
		"ML-DSA": parts[0] + "+" + parts[1] + "+" + base64.StdEncoding.EncodeToString(append([]byte{6}, mldsa...)),
	} {
		if k, err := ParseWitnessKey(bad); err == nil {
			t.Errorf("%s: %q was read as %s", name, bad, k)
		}
	}
}

func FuzzCosignatures(f *testing.F) {
	signed, vkey := signedCheckpoint(f, cosignTree)
	cs, keys := cosigners(f, 2)
	line, err := cs[0].Cosign(cosignTree, cosignTime)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line, keys[0].String())
	f.Add(append(line, line...), vkey)
	f.Fuzz(func(t *testing.T, lines []byte, key string) {
		if with, found, err := AddCosignatures(signed, lines, keys...); err == nil {
			for _, c := range found {
				if c.Key != keys[0] || !c.Time.Equal(cosignTime) {
					t.Fatalf("forged: %+v from %q", c, lines)
				}
			}
			if _, again, err := OpenCosigned(with, cosignTree.Origin, vkey, keys...); err != nil || len(again) != len(found) {
				t.Fatalf("%v, %v after adding %v", again, err, found)
			}
		}
		if k, err := ParseWitnessKey(key); err == nil && k.String() != key {
			t.Fatalf("%q is a second form of %q", key, k)
		}
	})
}

// TestStrip: what is left of a checkpoint is verified, and what was not is gone; one that its own log has not signed is none, whoever else did.
func TestStrip(t *testing.T) {
	key := func(n byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	}
	log, err := VerifierKey("log.example/x", key(1).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{Origin: "log.example/x", Tree: Tree{Size: 3}}
	signed, err := c.Sign(key(1))
	if err != nil {
		t.Fatal(err)
	}
	var lines [2]string
	var keys [2]WitnessKey
	for i := range lines {
		w, err := NewCosigner(fmt.Sprintf("w%d.example", i), key(byte(10+i)))
		if err != nil {
			t.Fatal(err)
		}
		line, err := w.Cosign(c, time.Unix(1e9, 0))
		if err != nil {
			t.Fatal(err)
		}
		lines[i], keys[i] = string(line), w.Key()
	}
	text, own, _ := strings.Cut(string(signed), "\n\n")
	text += "\n\n"
	wrong := lines[1][:30] + "AAAA" + lines[1][34:]
	for name, row := range map[string]struct {
		note string
		keys []WitnessKey
		want string // "" = refused
	}{
		"as signed":                {text + own, keys[:], text + own},
		"a cosigner that is known": {text + own + lines[0], keys[:1], text + own + lines[0]},
		"and one that is not":      {text + lines[1] + own + lines[0], keys[:1], text + own + lines[0]},
		"a false one, not known":   {text + wrong + own, keys[:1], text + own},
		"a false one, known":       {text + wrong + own, keys[1:], ""},
		"not by the log":           {text + lines[0], keys[:1], ""},
		"by nobody":                {text, keys[:1], ""},
		"another text":             {strings.Replace(text, "3", "4", 1) + own, nil, ""},
	} {
		got, plain, err := Strip([]byte(row.note), "log.example/x", log, row.keys...)
		if string(plain) != row.want || (err == nil) != (row.want != "") || err == nil && got != c {
			t.Errorf("%s: %v\n%s", name, err, plain)
		}
	}
	if _, _, err := Strip(signed, "log.example/y", log); err == nil {
		t.Error("another origin")
	}
}
