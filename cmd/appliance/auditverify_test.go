package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// auditor is what somebody has who has no appliance: a file, a checkpoint that was kept, the log's key, and whom to ask for as witnesses.
type auditor struct {
	dir     string
	lines   [][]byte // each with its newline
	log     ed25519.PrivateKey
	witness *chain.Cosigner
}

const auditOrigin = "aes.example/log"

func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

// newAuditor writes a log of n lines that say who.
func newAuditor(t *testing.T, n int, who string) *auditor {
	t.Helper()
	witness, err := chain.NewCosigner("witness.example/w", seeded(2))
	if err != nil {
		t.Fatal(err)
	}
	a := &auditor{dir: t.TempDir(), log: seeded(1), witness: witness}
	var head chain.Hash
	for i := range n {
		line, hash, err := chain.AppendLine(nil, head, chain.Entry{
			Time: time.Date(2026, 3, 1, 9, 30, i, 0, time.UTC), EventType: "tick", Actor: who, Details: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i)),
		})
		if err != nil {
			t.Fatal(err)
		}
		head = hash
		a.lines = append(a.lines, append(line, '\n'))
	}
	return a
}

// write writes a file into the auditor's folder and returns its path.
func (a *auditor) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkpoint is the signed checkpoint of the first size lines, cosigned or not.
func (a *auditor) checkpoint(t *testing.T, origin string, size int, cosigned bool) []byte {
	t.Helper()
	var f chain.Frontier
	for _, line := range a.lines[:size] {
		f.Append(chain.LeafHash(bytes.TrimSuffix(line, []byte("\n"))))
	}
	c := chain.Checkpoint{Origin: origin, Tree: f.Tree()}
	note, err := c.Sign(a.log)
	if err != nil {
		t.Fatal(err)
	}
	if cosigned {
		line, err := a.witness.Cosign(c, time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		note = append(note, line...)
	}
	return note
}

func (a *auditor) logKey(t *testing.T, origin string) []byte {
	t.Helper()
	key, err := chain.VerifierKey(origin, a.log.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(key + "\n")
}

func (a *auditor) policy(key chain.WitnessKey) []byte {
	return []byte("witness w " + key.String() + "\nquorum w\n")
}

// verify runs "audit verify" in a folder without an appliance.
func (a *auditor) verify(args ...string) (code int, out string) {
	var stdout, stderr bytes.Buffer
	code = Main(context.Background(), append([]string{"audit", "verify"}, args...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

// forgedFrom writes every line from some line on anew, with right hashes and other words: what somebody can do who has the file.
func forgedFrom(t *testing.T, lines [][]byte, from int) [][]byte {
	t.Helper()
	out := slices.Clone(lines[:from])
	var head chain.Hash
	for i, raw := range lines {
		l, err := chain.ParseLine(bytes.TrimSuffix(raw, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		if i >= from {
			l.Actor += " x"
			line, hash, err := chain.AppendLine(nil, head, l.Entry)
			if err != nil {
				t.Fatal(err)
			}
			out, head = append(out, append(line, '\n')), hash
			continue
		}
		head = l.Hash
	}
	return out
}

// TestAuditorFindsTampering: with the file and a cosigned checkpoint alone, whatever was done to the lines that the checkpoint covers is found.
func TestAuditorFindsTampering(t *testing.T) {
	const covered, n = 40, 50
	a := newAuditor(t, n, "a")
	other := newAuditor(t, n, "b")
	join := func(parts ...[][]byte) []byte { return bytes.Join(slices.Concat(parts...), nil) }
	l := a.lines
	edited := bytes.Replace(l[20], []byte(`"n":20`), []byte(`"n":21`), 1)
	flags := []string{
		"--checkpoint", a.write(t, "checkpoint.txt", a.checkpoint(t, auditOrigin, covered, true)),
		"--log-key", a.write(t, "log-key.txt", a.logKey(t, auditOrigin)), "--witness-keys", a.write(t, "policy.txt", a.policy(a.witness.Key())),
	}
	for name, c := range map[string]struct {
		data []byte
		code int
		text string
	}{
		"as it is":                      {join(l), 0, "the last 10 lines came after the checkpoint"},
		"as it was then":                {join(l[:covered]), 0, "cosigned   by witness.example/w at 2026-03-01T10:00:00Z"},
		"cut after the checkpoint":      {join(l[:45]), 0, "the last 5 lines"}, // a later checkpoint shows it
		"cut tail":                      {join(l[:covered-1]), 1, "the log ends after 39 lines: at least 40 were known"},
		"an old file":                   {join(l[:3]), 1, "the log ends after 3 lines"},
		"cut head":                      {join(l[2:]), 1, "line 1 "},
		"cut head, written anew":        {join(forgedFrom(t, l, 0)[2:]), 1, "line 1 "},
		"edited":                        {join(l[:20], [][]byte{edited}, l[21:]), 1, "line 21 "},
		"edited, written anew":          {join(forgedFrom(t, l, 20)), 1, "the first 40 lines are not those that were known"},
		"the last covered written anew": {join(forgedFrom(t, l, covered-1)), 1, "the first 40 lines are not those that were known"},
		"reordered":                     {join(l[:20], l[21:22], l[20:21], l[22:]), 1, "line 21 "},
		"inserted":                      {join(l[:20], l[5:6], l[20:]), 1, "line 21 "},
		"removed":                       {join(l[:20], l[21:]), 1, "line 21 "},
		"repeated":                      {join(l[:20], l[19:]), 1, "line 21 "},
		"ends within a line":            {join(l)[:len(join(l))-5], 1, "line 50 "},
		"another origin's file":         {join(other.lines), 1, "the first 40 lines are not those that were known"},
		"another origin's tail":         {join(l[:20], other.lines[20:]), 1, "line 21 "},
		"empty":                         {nil, 1, "at least 40 were known"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := a.verify(append([]string{a.write(t, "log", c.data)}, flags...)...)
			if code != c.code || !strings.Contains(out, c.text) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.text, out)
			}
			if _, out := a.verify(a.write(t, "log", c.data)); c.code == 1 && strings.Contains(out, "not those that were known") {
				t.Errorf("found without a checkpoint: what was it for?\n%s", out)
			}
		})
	}
}

// TestAuditorJudgesCheckpoints: what a checkpoint must be to be relied on.
func TestAuditorJudgesCheckpoints(t *testing.T) {
	a := newAuditor(t, 12, "a")
	stranger, err := chain.NewCosigner("stranger.example/w", seeded(9))
	if err != nil {
		t.Fatal(err)
	}
	good := a.checkpoint(t, auditOrigin, 10, true)
	log := a.write(t, "log", bytes.Join(a.lines, nil))
	key := a.logKey(t, auditOrigin)
	mallory := &auditor{lines: a.lines, log: seeded(7), witness: a.witness}
	for name, c := range map[string]struct {
		checkpoint, key, policy []byte
		code                    int
		text                    string
	}{
		"good":                          {good, key, a.policy(a.witness.Key()), 0, "cosigned   by witness.example/w"},
		"no policy":                     {good, key, nil, 0, "cosignatures were not judged"},
		"not cosigned":                  {a.checkpoint(t, auditOrigin, 10, false), key, a.policy(a.witness.Key()), 2, "too few cosignatures"},
		"cosigned by another":           {good, key, a.policy(stranger.Key()), 2, "too few cosignatures"},
		"signed by another key":         {mallory.checkpoint(t, auditOrigin, 10, true), key, nil, 1, "no checkpoint that a log you trust has signed"},
		"another origin":                {a.checkpoint(t, "b.example/log", 10, true), key, nil, 1, "no checkpoint that a log you trust has signed"},
		"a changed size":                {bytes.Replace(good, []byte("\n10\n"), []byte("\n11\n"), 1), key, nil, 1, "no checkpoint that a log you trust has signed"},
		"a broken cosignature":          {append(good[:len(good)-6:len(good)-6], "AAA==\n"...), key, a.policy(a.witness.Key()), 1, "one of its cosignatures is wrong"},
		"no checkpoint":                 {[]byte("hello\n"), key, nil, 1, "no checkpoint that a log you trust has signed"},
		"no log key":                    {good, []byte("hello\n"), nil, 2, "holds no key of a log"},
		"no policy file":                {good, key, []byte("witness\n"), 2, "line 1 of the policy"},
		"a policy of another log":       {good, key, append([]byte("log "+string(mallory.logKey(t, auditOrigin))), a.policy(a.witness.Key())...), 1, "no checkpoint that a log you trust"},
		"a policy that asks for no one": {good, key, []byte("quorum none\n"), 0, "signed by the log's key"},
		"too long":                      {make([]byte, chain.MaxNote+1), key, nil, 2, "more than 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{log, "--checkpoint", a.write(t, "c", c.checkpoint), "--log-key", a.write(t, "k", c.key)}
			if c.policy != nil {
				args = append(args, "--witness-keys", a.write(t, "p", c.policy))
			}
			if code, out := a.verify(args...); code != c.code || !strings.Contains(out, c.text) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.text, out)
			}
		})
	}
	if code, out := a.verify(log, "--witness-keys", "p"); code != 64 {
		t.Errorf("a policy without a checkpoint: exit code %d\n%s", code, out)
	}
}
