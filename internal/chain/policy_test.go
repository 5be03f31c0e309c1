package chain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	peer "github.com/transparency-dev/formats/witness"
)

// Whatever cosigns, this program and another implementation of tlog-policy agree on whether it is enough.
func TestPolicyWithPeer(t *testing.T) {
	signed, vkey := signedCheckpoint(t, cosignTree)
	cs, keys := cosigners(t, 6)
	for seed := range uint64(60) {
		text := randomPolicy(rand.New(rand.NewPCG(seed, 0)), keys)
		p, err := ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		theirs, err := peer.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("the peer says %v:\n%s", err, text)
		}
		for set := range 1 << len(cs) {
			note := slices.Clone(signed)
			for i, c := range cs {
				if set>>i&1 == 1 {
					line, err := c.Cosign(cosignTree, cosignTime)
					if err != nil {
						t.Fatal(err)
					}
					note = append(note, line...)
				}
			}
			_, found, err := p.Open(note, cosignTree.Origin, vkey)
			if (err == nil) != theirs.Satisfied(note) || err != nil && !errors.Is(err, ErrQuorum) {
				t.Fatalf("cosigned by %v: %v, the peer says %v:\n%s", found, err, theirs.Satisfied(note), text)
			}
		}
	}
}

// randomPolicy returns a policy over keys with groups of groups.
func randomPolicy(r *rand.Rand, keys []WitnessKey) string {
	var b strings.Builder
	var free []string
	for i, k := range keys {
		fmt.Fprintf(&b, "witness w%d %s https://w%d.example/\n", i, k, i)
		free = append(free, fmt.Sprint("w", i))
	}
	last := free[0]
	for g := range 1 + r.IntN(3) {
		n := 1 + r.IntN(len(free))
		r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
		need := []string{"any", "all", fmt.Sprint(1 + r.IntN(n))}[r.IntN(3)]
		last = fmt.Sprint("g", g)
		fmt.Fprintf(&b, "group\t%s %s  %s\n", last, need, strings.Join(free[:n], " "))
		free = append(free[n:], last)
	}
	return b.String() + "# enough\n\nquorum " + last + "\n"
}

func TestPolicyRejects(t *testing.T) {
	_, logKey := signedCheckpoint(t, cosignTree)
	_, keys := cosigners(t, 2)
	w := "witness a " + keys[0].String() + "\nwitness b " + keys[1].String() + " https://b.example/w\n"
	good := "log " + logKey + " https://log.example\n" + w + "group g 1 a b\nquorum g\n"
	p, err := ParsePolicy([]byte(good))
	if err != nil || len(p.Witnesses) != 2 || p.Witnesses[1].URL != "https://b.example/w" || !p.Covers(logKey) || p.Covers("x") {
		t.Fatal(p, err)
	}
	again, err := NewWitnessKey("other.example", keys[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty":                      "",
		"no quorum":                  w,
		"two quorums":                good + "quorum a\n",
		"quorum of nobody":           w + "quorum c\n",
		"quorum before":              "quorum a\n" + w,
		"two quorum names":           w + "quorum a b\n",
		"last line unended":          strings.TrimSuffix(good, "\n"),
		"unknown keyword":            good + "witnesses x\n",
		"carriage return":            strings.ReplaceAll(good, "\n", "\r\n"),
		"a witness twice":            w + w + "quorum a\n",
		"a key under another name":   w + "witness c " + again.String() + "\nquorum a\n",
		"a log's key as a witness":   "witness a " + logKey + "\nquorum a\n",
		"a witness' key as a log":    "log " + keys[0].String() + "\nquorum none\n",
		"a log twice":                "log " + logKey + "\nlog " + logKey + "\nquorum none\n",
		"a witness named none":       "witness none " + keys[0].String() + "\nquorum none\n",
		"a name twice":               w + "group a all b\nquorum a\n",
		"a member of two groups":     w + "group g all a\ngroup h all a b\nquorum g\n",
		"a member twice":             w + "group g 1 a a\nquorum g\n",
		"none as a member":           w + "group g 1 a none\nquorum g\n",
		"a member not yet defined":   "group g 1 a\n" + w + "quorum g\n",
		"a group of itself":          w + "group g 1 g\nquorum g\n",
		"need 0":                     w + "group g 0 a b\nquorum g\n",
		"need more than members":     w + "group g 3 a b\nquorum g\n",
		"need with zeros":            w + "group g 01 a b\nquorum g\n",
		"need negative":              w + "group g -1 a b\nquorum g\n",
		"need in words":              w + "group g most a b\nquorum g\n",
		"an empty group":             w + "group g all\nquorum g\n",
		"a file as an address":       "witness a " + keys[0].String() + " file:///etc/passwd\nquorum a\n",
		"an address with a password": "witness a " + keys[0].String() + " https://u:p@a.example\nquorum a\n",
		"an address with a query":    "witness a " + keys[0].String() + " https://a.example/?x\nquorum a\n",
		"a witness without a key":    "witness a\nquorum none\n",
		"too long":                   strings.Repeat("#\n", MaxPolicy),
	} {
		if p, err := ParsePolicy([]byte(bad)); err == nil {
			t.Errorf("%s: read as %+v", name, p)
		}
	}
	many := ""
	for i := range maxPolicyNames + 1 {
		k, err := NewWitnessKey(fmt.Sprint("w", i), append(make([]byte, 31), byte(i)))
		if err != nil {
			t.Fatal(err)
		}
		many += fmt.Sprintf("witness w%d %s\n", i, k)
	}
	if _, err := ParsePolicy([]byte(many + "quorum w0\n")); err == nil {
		t.Errorf("%d witnesses were read", maxPolicyNames+1)
	}
}

func FuzzParsePolicy(f *testing.F) {
	_, keys := cosigners(f, 2)
	f.Add([]byte("witness a " + keys[0].String() + "\nwitness b " + keys[1].String() + "\ngroup g any a b\nquorum g\n"))
	f.Add([]byte("# nobody\nquorum none\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		var all []Cosignature
		for _, w := range p.Witnesses {
			all = append(all, Cosignature{Key: w.Key})
		}
		// Whoever is asked for, all of them together are enough.
		if err := p.Check(all); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
