package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
)

func TestParseAppend(t *testing.T) {
	for _, a := range []Append{
		{Old: 0, Lines: []byte{}, Checkpoint: []byte("c")},
		{Old: 1<<63 - 1, Lines: []byte("a\nb\n"), Checkpoint: []byte("checkpoint\n")},
		{Old: 7, Lines: append(bytes.Repeat([]byte("x"), MaxLines-1), '\n'), Checkpoint: bytes.Repeat([]byte("c"), MaxCheckpoint)},
	} {
		got, err := ParseAppend(a.Marshal())
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%d %d %d: %v", got.Old, len(got.Lines), len(got.Checkpoint), err)
		}
	}
	for name, body := range map[string]string{
		"empty":                      "",
		"another version":            "aes-append/2\nold 0\nlines 0\n\nc",
		"no old size":                "aes-append/1\nlines 0\n\nc",
		"no lines":                   "aes-append/1\nold 0\n\nc",
		"a leading zero":             "aes-append/1\nold 00\nlines 0\n\nc",
		"a plus":                     "aes-append/1\nold +1\nlines 0\n\nc",
		"negative":                   "aes-append/1\nold -1\nlines 0\n\nc",
		"2^63":                       "aes-append/1\nold 9223372036854775808\nlines 0\n\nc",
		"a number too long":          "aes-append/1\nold " + strings.Repeat("1", 100) + "\nlines 0\n\nc",
		"carriage return":            "aes-append/1\nold 0\r\nlines 0\n\nc",
		"no empty line":              "aes-append/1\nold 0\nlines 0\nc",
		"fewer lines than said":      "aes-append/1\nold 0\nlines 5\n\na\n",
		"more lines than allowed":    "aes-append/1\nold 0\nlines 1048577\n\n" + strings.Repeat("\n", MaxLines+1) + "c",
		"lines that end in a line":   "aes-append/1\nold 0\nlines 1\n\nac",
		"no checkpoint":              "aes-append/1\nold 0\nlines 2\n\na\n",
		"a checkpoint that is large": "aes-append/1\nold 0\nlines 0\n\n" + strings.Repeat("c", MaxCheckpoint+1),
		"too long":                   strings.Repeat("a", MaxAppend+1),
	} {
		if a, err := ParseAppend([]byte(body)); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func FuzzParseAppend(f *testing.F) {
	f.Add([]byte("aes-append/1\nold 12\nlines 4\n\na\nb\ncheckpoint\n"))
	f.Add([]byte("aes-append/1\nold 0\nlines 0\n\nc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAppend(b)
		if err == nil && !bytes.Equal(a.Marshal(), b) {
			t.Errorf("%q is read and not written so", b)
		}
	})
}

func stateOf(t testing.TB, lines int) held {
	t.Helper()
	w := &walk{}
	b := written(t, foreign(lines))
	if err := w.lines(b); err != nil {
		t.Fatal(err)
	}
	h := held{State: w.State, offset: w.offset, tree: w.tree, table: hashBlocks(chain.Hash{}, w.full)}
	if lines > 0 {
		h.note = []byte("a checkpoint\n")
	}
	return h
}

func TestParseSlot(t *testing.T) {
	for _, lines := range []int{0, 1, 255, 256, 1000} {
		h := stateOf(t, lines)
		counter, got, err := parseSlot(h.marshal(42))
		if err != nil || counter != 42 || !reflect.DeepEqual(got.marshal(42), h.marshal(42)) || got.State != h.State || got.table != h.table {
			t.Errorf("%d lines: %d %+v %v", lines, counter, got, err)
		}
	}
	good := stateOf(t, 3).marshal(1)
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		if _, _, err := parseSlot(bad); err == nil {
			t.Errorf("byte %d changed", at)
		}
	}
	for name, bad := range map[string][]byte{"empty": nil, "short": good[:slotSize-1], "long": append(bytes.Clone(good), 0), "zeros": make([]byte, slotSize)} {
		if _, _, err := parseSlot(bad); err == nil {
			t.Error(name)
		}
	}
	// Well-formed, with a right sum, and impossible.
	noNote, noLines := stateOf(t, 3), stateOf(t, 0)
	noNote.note, noLines.note = nil, []byte("x")
	negative := stateOf(t, 3)
	negative.offset = -1
	for name, h := range map[string]held{"lines without a checkpoint": noNote, "a checkpoint without lines": noLines, "a negative offset": negative} {
		if _, _, err := parseSlot(h.marshal(1)); err == nil {
			t.Error(name)
		}
	}
}

// FuzzParseSlot gives each payload its right sum: a hash is not guessed.
func FuzzParseSlot(f *testing.F) {
	for _, n := range []int{0, 3, 300} {
		slot := stateOf(f, n).marshal(1)
		f.Add(uint64(1), slot[slotFixed:slotFixed+int(binary.BigEndian.Uint32(slot[slotFixed-4:]))])
	}
	f.Fuzz(func(t *testing.T, counter uint64, payload []byte) {
		if slotFixed+len(payload)+sha256.Size > slotSize {
			return
		}
		b := append([]byte(nil), stateMagic...)
		b = binary.BigEndian.AppendUint64(b, counter)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(payload))), payload...)
		sum := sha256.Sum256(b)
		b = append(b, sum[:]...)
		b = append(b, make([]byte, slotSize-len(b))...)
		got, h, err := parseSlot(b)
		if err == nil && (got != counter || !bytes.Equal(h.marshal(counter), b)) {
			t.Errorf("a state is read and not written so: %x", b)
		}
	})
}

// TestStateTorn: whatever part of a slot's write got to the disk, the state is the one before or the one after.
func TestStateTorn(t *testing.T) {
	for from := 0; from < slotSize; from += 100 {
		disk := durable.NewSim("/s")
		s, _, err := openState(disk, "/s/state")
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 3; n++ {
			if err := s.save(stateOf(t, n)); err != nil {
				t.Fatal(err)
			}
		}
		next := stateOf(t, 4).marshal(4)
		if _, err := s.file.WriteAt(next[from:min(from+300, slotSize)], 4%2*slotSize+int64(from)); err != nil {
			t.Fatal(err)
		}
		s, h, err := openState(disk, "/s/state")
		if err != nil || h.Size != 3 && h.Size != 4 || s.counter != h.Size {
			t.Errorf("torn at %d: %d lines, counter %d, %v", from, h.Size, s.counter, err)
		}
	}
}

func TestAppendObjects(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("0", 64)
	for details, want := range map[string][]string{
		`{}`:                       nil,
		`{"object":"` + a + `"}`:   {a},
		`{"x_object":"` + a + `"}`: {a},
		`{"_object":"` + a + `"}`:  {a},
		`{"a":[{"k_object":"` + a + `"},{"object":"` + b + `"}],"object":"` + a + `"}`: {a, b, a},
		`{"xobject":"` + a + `"}`:                       nil, // no such key
		`{"object_id":"` + a + `"}`:                     nil,
		`{"object":["` + a + `"]}`:                      nil, // an array is no string
		`{"object":"` + a[:63] + `"}`:                   nil,
		`{"object":"` + a + `0"}`:                       nil,
		`{"object":"` + strings.ToUpper(a) + `"}`:       nil,
		`{"text":"object\":\"` + a + `"}`:               nil, // within a string
		`{"text":"\"object\":\"` + a + `\""}`:           nil,
		`{"object":"` + a[:40] + `\n` + a[:22] + `"}`:   nil,
		`{"object":"x","y_object":"` + b + `","z":"_"}`: {b},
	} {
		line, _, err := chain.AppendLine(nil, chain.Hash{}, chain.Entry{EventType: "x", Actor: `object":"`, Details: []byte(details), Time: foreign(1)[0].Time})
		if err != nil {
			t.Fatal(details, err)
		}
		if got := AppendObjects(nil, line); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", details, got)
		}
	}
}

// FuzzAppendObjects holds the scan against a JSON decoder.
func FuzzAppendObjects(f *testing.F) {
	f.Add([]byte(`{"a":[{"k_object":"` + strings.Repeat("a", 64) + `"}],"object":"` + strings.Repeat("1", 64) + `","t":"object\":\""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		details, err := chain.Canonical(nil, raw)
		if err != nil {
			return
		}
		line, _, err := chain.AppendLine(nil, chain.Hash{}, chain.Entry{EventType: "x", Actor: "a", Details: details, Time: foreign(1)[0].Time})
		if err != nil {
			return
		}
		if got, want := AppendObjects(nil, line), decodedObjects(t, details); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", details, got, want)
		}
	})
}

// decodedObjects finds objects as docs/replication.md says it, in the order of the text.
func decodedObjects(t *testing.T, details []byte) (ids []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(details))
	var walk func(key string)
	walk = func(key string) {
		tok, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch v := tok.(type) {
		case string:
			if (key == "object" || strings.HasSuffix(key, "_object")) && isID(v) {
				ids = append(ids, v)
			}
		case json.Delim:
			for d.More() {
				k := ""
				if v == '{' {
					tok, err := d.Token()
					if err != nil {
						t.Fatal(err)
					}
					k = tok.(string)
				}
				walk(k)
			}
			if _, err := d.Token(); err != nil {
				t.Fatal(err)
			}
		}
	}
	walk("")
	return ids
}

func TestPin(t *testing.T) {
	p := identityOf(t, "x").Pin()
	if got, err := ParsePin(p.String()); err != nil || got != p {
		t.Error(got, err)
	}
	s := p.String()
	for _, bad := range []string{"", s[1:], s + "0", s[:len(s)-1], strings.ToUpper(s), strings.TrimPrefix(s, pinPrefix), "ed25519:" + s, " " + s} {
		if _, err := ParsePin(bad); err == nil {
			t.Errorf("%q is a pin", bad)
		}
	}
}
