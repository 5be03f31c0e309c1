package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"
)

func FuzzParseLine(f *testing.F) {
	b, _, err := AppendLine(nil, Hash{}, testEntry(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"prev_hash":"` + strings.Repeat("0", 64) + `","hash":"` + strings.Repeat("0", 64) + `","entry":{"timestamp":"2026-01-01T00:00:00.000000Z","event_type":"a","actor":"a","details":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Parser
		_, lerr := p.Link(b)
		l, err := ParseLine(b)
		if (err == nil) != (lerr == nil) {
			t.Fatalf("Parse says %v, Link says %v", err, lerr)
		}
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatal("accepted what is no JSON")
		}
		back, h, err := AppendLine(nil, l.Prev, l.Entry)
		if err != nil || h != l.Hash || !bytes.Equal(back, b) {
			t.Fatalf("%v: a second form of the same line\n%s\n%s", err, b, back)
		}
	})
}

// FuzzScan gives the fuzzer what FuzzParseLine hides behind the hash: the details alone.
func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2,null,true,"x\u0001\n\\"],"b":{}}`))
	f.Add([]byte(` { "b" : "\ud83d\ude00" , "a" : 9007199254740991 } `))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Canonical(nil, b)
		scanned := Entry{Time: testTime, EventType: "a", Actor: "a", Details: b}.check() == nil
		if scanned && (err != nil || !bytes.Equal(b, c)) {
			t.Fatalf("%q is scanned as canonical, its canonical form is %q, %v", b, c, err)
		}
		if err != nil {
			return
		}
		if again, err := Canonical(nil, c); err != nil || !bytes.Equal(again, c) {
			t.Fatalf("%q: canonical form %q becomes %q, %v", b, c, again, err)
		}
		if err := (Entry{Time: testTime, EventType: "a", Actor: "a", Details: c}).check(); err != nil {
			t.Fatalf("%q: canonical form %q: %v", b, c, err)
		}
		if peer, err := jcs.Transform(b); err == nil && !bytes.Equal(peer, c) {
			t.Fatalf("%q: canonical form %q, another implementation says %q", b, c, peer)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	c := Checkpoint{Origin: "a", Tree: Tree{Size: 1}}
	signed, err := c.Sign(testKey())
	if err != nil {
		f.Fatal(err)
	}
	vkey, err := VerifierKey("a", testKey().Public().(ed25519.PublicKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(signed), c.Text())
	// Go's base64 passes over line ends, also where it is strict: found by fuzzing.
	f.Add(string(signed), "a\n0\n0000000000000000000000000\r\r\r\r\r000000000000000000=\n")
	f.Fuzz(func(t *testing.T, signed, text string) {
		if got, err := OpenCheckpoint([]byte(signed), "a", vkey); err == nil && got != c {
			t.Fatalf("%q is forged: %+v", signed, got)
		}
		if c, err := ParseCheckpoint(text); err == nil && c.Text() != text {
			t.Fatalf("%q is a second form of %q", text, c.Text())
		}
	})
}
