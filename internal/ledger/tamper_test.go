package ledger

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// forge writes the lines anew with right hashes after changing one: what someone can do who has the file and no key.
func forge(t *testing.T, lines [][]byte, from int) [][]byte {
	t.Helper()
	var out [][]byte
	var head chain.Hash
	for i, raw := range lines {
		l, err := chain.ParseLine(bytes.TrimSuffix(raw, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		if i == from {
			l.Actor = "mallory"
		}
		b, h, err := chain.AppendLine(nil, head, l.Entry)
		if err != nil {
			t.Fatal(err)
		}
		head = h
		out = append(out, append(b, '\n'))
	}
	return out
}

// TestTampering: what Verify finds in the file alone, what it finds with a checkpoint, and what Open finds with and without its index.
func TestTampering(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	// More than MaxPending and more than a block of lines after the lines that are tampered with, so that nothing passes for a torn tail.
	const n = 300
	for i := range n {
		if _, err := l.Append(context.Background(), Event{Type: "tick", Actor: "test", Details: map[string]any{"n": i, "pad": strings.Repeat("x", 5000)}}); err != nil {
			t.Fatal(err)
		}
	}
	tree := l.Tree()
	closeBoth(t, l, db)
	whole, err := os.ReadFile(p.logPath())
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) < durable.MaxPending+100_000 {
		t.Fatalf("the log has only %d bytes", len(whole))
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))[:n]
	join := func(l ...[][]byte) []byte { return bytes.Join(slices.Concat(l...), nil) }
	edited := bytes.Replace(lines[5], []byte(`"n":5`), []byte(`"n":6`), 1)
	for _, c := range []struct {
		name   string
		data   []byte
		alone  bool   // found in the file alone
		atLine string // named in the error
		quick  bool   // Open finds it with its index
	}{
		{"edited", join(lines[:5], [][]byte{edited}, lines[6:]), true, "line 6 ", false},
		{"reordered", join(lines[:5], lines[6:7], lines[5:6], lines[7:]), true, "line 6 ", false},
		{"head cut", join(lines[3:]), true, "line 1 ", true},
		{"middle cut", join(lines[:5], lines[6:]), true, "line 6 ", true},
		{"inserted", join(lines[:5], lines[50:51], lines[5:]), true, "line 6 ", true},
		{"duplicated", join(lines[:6], lines[5:]), true, "line 7 ", true},
		{"last duplicated", join(lines, lines[n-1:]), true, "line 301 ", true},
		{"byte flipped", append(append(bytes.Clone(whole[:1000]), whole[1000]^1), whole[1001:]...), true, "line 1 ", false},
		{"newline added", append([]byte("\n"), whole...), true, "line 1 ", true},
		{"CRLF", bytes.ReplaceAll(whole, []byte("\n"), []byte("\r\n")), true, "line 1 ", true},
		{"line too long", append([]byte(strings.Repeat("x", 1<<20)), whole...), true, "line 1 ", true},
		{"tail cut", join(lines[:n-1]), false, "", true},
		{"tail cut far", join(lines[:10]), false, "", true},
		{"rewritten", join(forge(t, lines, 2)), false, "", true},
		{"last rewritten", join(forge(t, lines, n-1)), false, "", true},
		{"emptied", nil, false, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Verify(bytes.NewReader(c.data))
			if c.alone && (fault.KindOf(err) != fault.Corrupt || !strings.Contains(fault.PublicOf(err), c.atLine)) {
				t.Errorf("the file alone: %v", err)
			}
			if !c.alone && err != nil {
				t.Errorf("the file alone: %v: the table is wrong", err)
			}
			if _, err := Verify(bytes.NewReader(c.data), tree); fault.KindOf(err) != fault.Corrupt {
				t.Errorf("with a checkpoint: %v", err)
			}
			openTampered(t, p, c.data, true, c.quick)
			openTampered(t, p, c.data, false, c.alone)
		})
	}
}

// openTampered opens a tampered log with a copy of p's index or with none; found says whether Open must refuse it.
func openTampered(t *testing.T, p *place, data []byte, withIndex, found bool) {
	t.Helper()
	q := newPlace(t)
	if err := os.Mkdir(filepath.Join(q.dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(q.logPath(), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if withIndex {
		for _, suffix := range []string{"", ".state"} {
			b, err := os.ReadFile(p.indexPath() + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(q.indexPath()+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	l, db, err := q.tryOpen()
	if found {
		if fault.KindOf(err) != fault.Corrupt || fault.HintOf(err) == "" {
			t.Errorf("Open, index %v: %v", withIndex, err)
		}
		if now, err := os.ReadFile(q.logPath()); err != nil || !bytes.Equal(now, data) {
			t.Errorf("Open, index %v: changed the log that it refused: %v", withIndex, err)
		}
	} else if err != nil {
		t.Errorf("Open, index %v: %v: the table is wrong", withIndex, err)
	}
	if err == nil {
		// What the start does not look at, the whole verification finds.
		if _, verr := l.Verify(context.Background(), 0); withIndex && fault.KindOf(verr) != fault.Corrupt {
			t.Errorf("Ledger.Verify: %v", verr)
		}
		closeBoth(t, l, db)
	}
}

func TestVerifyTorn(t *testing.T) {
	data := bigLog(t, 10)
	rep, err := Verify(bytes.NewReader(data[:len(data)-5]))
	if fault.KindOf(err) != fault.Corrupt || !rep.Torn || rep.Size != 9 {
		t.Errorf("%+v %v", rep, err)
	}
	if rep, err := Verify(bytes.NewReader(nil)); err != nil || rep.Size != 0 {
		t.Errorf("an empty log: %+v %v", rep, err)
	}
	broken := errors.New("broken reader")
	if _, err := Verify(&failingReader{bytes.NewReader(data), broken}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	// A log larger than a batch, with lines across the edges of batches.
	data = bigLog(t, 5000)
	if rep, err := Verify(bytes.NewReader(data)); err != nil || rep.Size != 5000 {
		t.Errorf("%+v %v", rep, err)
	}
}

type failingReader struct {
	r   *bytes.Reader
	err error
}

func (f *failingReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil {
		err = f.err
	}
	return n, err
}

// verifyAlone is Verify in one goroutine: with more, what the fuzzer sees of the program's paths changes from run to run.
func verifyAlone(data []byte) (rep Report, err error) {
	var p chain.Parser
	var v verifier
	readErr := split(context.Background(), bytes.NewReader(data), nil, func(b *batch) bool {
		b.check(&p, true)
		if err = v.batch(b); err == nil {
			err = b.err
		}
		return err == nil
	})
	return v.report(), errors.Join(err, readErr)
}

func FuzzVerify(f *testing.F) {
	data := bigLog(f, 2) // short: the fuzzer spends its time on making inputs shorter
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rep, err := verifyAlone(b)
		if err == nil && int(rep.Bytes) != len(b) {
			t.Fatalf("%d of %d bytes verified, and no error", rep.Bytes, len(b))
		}
		if rep.Bytes > 0 {
			if again, err := verifyAlone(b[:rep.Bytes]); err != nil || again != rep {
				t.Fatalf("the good part is not good: %v", err)
			}
		}
	})
}

func TestVerifyAloneAgrees(t *testing.T) {
	data := bigLog(t, 3000)
	want, err := Verify(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := verifyAlone(data); err != nil || got != want {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
}
