package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
)

var testTime = time.Date(2026, 3, 1, 9, 30, 0, 123456000, time.UTC)

func details(t testing.TB, v any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Canonical(nil, raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testEntry(t testing.TB) Entry {
	return Entry{Time: testTime, EventType: "prescription_signed", Actor: "Zoë \"Q\" O’Brien\n", Details: details(t, map[string]any{
		"prescription_id": "RX-134", "n": 42, "neg": -7, "ok": true, "none": nil, "list": []any{1, "zwei", map[string]any{"b": 1, "a": 2}},
		"text": "tab\tquote\"back\\slash/\u0001\u007f\u2028😀<&>",
	})}
}

func TestLineRoundTrip(t *testing.T) {
	e := testEntry(t)
	prev := Hash{1, 2, 3}
	b, h, err := AppendLine(nil, prev, e)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseLine(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if l.Prev != prev || l.Hash != h || !reflect.DeepEqual(l.Entry, e) {
		t.Fatalf("got %+v, want %+v", l, e)
	}
	if !strings.HasPrefix(string(b), `{"prev_hash":"0102030000`) || !json.Valid(b) {
		t.Fatalf("line: %s", b)
	}
}

// What an implementation of RFC 8785 not ours makes of the entry must be what the hash is over.
func TestHashIsOverRFC8785(t *testing.T) {
	e := testEntry(t)
	b, h, err := AppendLine(nil, Hash{}, e)
	if err != nil {
		t.Fatal(err)
	}
	var line struct{ Entry json.RawMessage }
	if err := json.Unmarshal(b, &line); err != nil {
		t.Fatal(err)
	}
	canonical, err := jcs.Transform(line.Entry)
	if err != nil {
		t.Fatal(err)
	}
	if got := sum(append(make([]byte, HashSize), canonical...)); got != h {
		t.Fatalf("hash %x, over the canonical form %x", h, got)
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{}`, `{}`},
		{" { \"b\" : 1 , \"a\" : [ ] }\n", `{"a":[],"b":1}`},
		{`{"a":"\u0041\/\u00e9\ud83d\ude00"}`, `{"a":"A/é😀"}`},
		{`{"a":"\u0000\u0008\u0009\u000a\u000b\u000c\u000d\u001F\u0022\u005c"}`, `{"a":"\u0000\b\t\n\u000b\f\r\u001f\"\\"}`},
		{`{"z":{"b":{"d":1,"c":2},"a":null},"y":false}`, `{"y":false,"z":{"a":null,"b":{"c":2,"d":1}}}`},
		{`{"a":9007199254740991,"b":-9007199254740991,"c":0}`, `{"a":9007199254740991,"b":-9007199254740991,"c":0}`},
		{`{"\u0061":1}`, `{"a":1}`},
		{`{"aa":1,"a":2,"a b":3,"A":4}`, `{"A":4,"a":2,"a b":3,"aa":1}`},
	} {
		got, err := Canonical(nil, []byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if string(got) != c.want {
			t.Errorf("%s: got %s, want %s", c.in, got, c.want)
		}
		peer, err := jcs.Transform([]byte(c.in))
		if err != nil || !bytes.Equal(peer, got) {
			t.Errorf("%s: got %s, another implementation says %s (%v)", c.in, got, peer, err)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1)
	for _, in := range []string{
		``, ` `, `1`, `null`, `[]`, `"a"`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{"a":1}}`, `{"a":1} x`, `{a:1}`,
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"":1}`, `{"é":1}`, `{"a\"":1}`, `{"a\\":1}`, `{"a\n":1}`, `{"` + strings.Repeat("k", MaxKey+1) + `":1}`,
		`{"a":1.0}`, `{"a":1e3}`, `{"a":1E3}`, `{"a":-0}`, `{"a":01}`, `{"a":-}`, `{"a":+1}`, `{"a":9007199254740992}`, `{"a":-9007199254740992}`,
		`{"a":99999999999999999999999999}`, `{"a":NaN}`, `{"a":nul}`, `{"a":TRUE}`,
		`{"a":"\ud800"}`, `{"a":"\ud800x"}`, `{"a":"\udc00"}`, `{"a":"\ud800\u0041"}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12G4"}`, `{"a":"\`, `{"a":"`,
		"{\"a\":\"\xff\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\n\"}", "\xef\xbb\xbf{}", deep, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[`,
	} {
		if got, err := Canonical(nil, []byte(in)); err == nil {
			t.Errorf("%.60q gave %s", in, got)
		}
	}
	ok := strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth)
	if _, err := Canonical(nil, []byte(ok)); err != nil {
		t.Errorf("%d levels: %v", MaxDepth, err)
	}
}

func TestAppendLineRefuses(t *testing.T) {
	for name, change := range map[string]func(*Entry){
		"no type":         func(e *Entry) { e.EventType = "" },
		"type upper":      func(e *Entry) { e.EventType = "Sign" },
		"type quote":      func(e *Entry) { e.EventType = `a"` },
		"type digit":      func(e *Entry) { e.EventType = "1a" },
		"type long":       func(e *Entry) { e.EventType = strings.Repeat("a", MaxEventType+1) },
		"no actor":        func(e *Entry) { e.Actor = "" },
		"actor long":      func(e *Entry) { e.Actor = strings.Repeat("a", MaxActor+1) },
		"actor not UTF-8": func(e *Entry) { e.Actor = "\xff" },
		"nanoseconds":     func(e *Entry) { e.Time = e.Time.Add(1) },
		"before 1970":     func(e *Entry) { e.Time = time.Unix(-1, 0) },
		"after 9999":      func(e *Entry) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no details":      func(e *Entry) { e.Details = nil },
		"array":           func(e *Entry) { e.Details = []byte("[]") },
		"order":           func(e *Entry) { e.Details = []byte(`{"b":1,"a":1}`) },
		"space":           func(e *Entry) { e.Details = []byte(`{ }`) },
		"rest":            func(e *Entry) { e.Details = []byte(`{}}`) },
		"not UTF-8":       func(e *Entry) { e.Details = []byte("{\"a\":\"\xff\"}") },
		"too long":        func(e *Entry) { e.Details = []byte(`{"a":"` + strings.Repeat("a", MaxLine) + `"}`) },
	} {
		e := testEntry(t)
		change(&e)
		if b, _, err := AppendLine([]byte("kept"), Hash{}, e); err == nil || string(b) != "kept" {
			t.Errorf("%s: err %v, %q", name, err, b)
		}
	}
}

// rehash puts the right hash into a line whose entry was changed, so that only the form is at fault.
func rehash(t *testing.T, line string) string {
	t.Helper()
	var l struct {
		Prev  string `json:"prev_hash"`
		Entry json.RawMessage
	}
	if err := json.Unmarshal([]byte(line), &l); err != nil {
		return line
	}
	c, err := jcs.Transform(l.Entry)
	if err != nil {
		return line
	}
	h := sum(append(make([]byte, HashSize), c...))
	i := strings.Index(line, `"hash":"`) + len(`"hash":"`)
	return line[:i] + fmt.Sprintf("%x", h) + line[i+hexHash:]
}

func TestParseLineRefuses(t *testing.T) {
	e := Entry{Time: testTime, EventType: "a_b", Actor: "me", Details: []byte(`{"k":"v","n":1}`)}
	raw, _, err := AppendLine(nil, Hash{}, e)
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	if _, err := ParseLine([]byte(rehash(t, good))); err != nil {
		t.Fatalf("the control is refused: %v", err)
	}
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the line", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	cases := map[string]string{
		"empty":               "",
		"newline":             good + "\n",
		"space before":        " " + good,
		"space after":         good + " ",
		"space inside":        replace(`"n":1`, `"n": 1`),
		"envelope order":      replace(`{"prev_hash":"`+strings.Repeat("0", 64)+`","hash"`, `{"hash"`),
		"upper hex":           strings.Replace(good, `"hash":"`, `"hash":"A`, 1)[:len(good)],
		"unknown key":         replace(`"entry":{`, `"x":1,"entry":{`),
		"unknown entry key":   replace(`"actor"`, `"x":1,"actor"`),
		"duplicate entry key": replace(`"actor":"me"`, `"actor":"me","actor":"me"`),
		"duplicate key":       replace(`"k":"v"`, `"k":"v","k":"v"`),
		"key order":           replace(`"k":"v","n":1`, `"n":1,"k":"v"`),
		"fraction":            replace(`"n":1`, `"n":1.5`),
		"exponent":            replace(`"n":1`, `"n":1e1`),
		"big number":          replace(`"n":1`, `"n":9007199254740992`),
		"leading zero":        replace(`"n":1`, `"n":01`),
		"minus zero":          replace(`"n":1`, `"n":-0`),
		"escape":              replace(`"v"`, `"\u0076"`),
		"escaped slash":       replace(`"v"`, `"\/"`),
		"long escape":         replace(`"v"`, `"\u000a"`),
		"upper escape":        replace(`"v"`, `"\u001F"`),
		"raw control":         replace(`"v"`, "\"\x01\""),
		"not UTF-8":           replace(`"v"`, "\"\xff\""),
		"surrogate":           replace(`"v"`, `"\ud83d\ude00"`),
		"details array":       replace(`{"k":"v","n":1}`, `[]`),
		"details null":        replace(`{"k":"v","n":1}`, `null`),
		"actor empty":         replace(`"me"`, `""`),
		"actor number":        replace(`"me"`, `1`),
		"actor long":          replace(`"me"`, `"`+strings.Repeat("a", MaxActor+1)+`"`),
		"type empty":          replace(`"a_b"`, `""`),
		"type upper":          replace(`"a_b"`, `"A"`),
		"type escape":         replace(`"a_b"`, `"\u0061"`),
		"time zone":           replace(`123456Z`, `123456+00:00`),
		"milliseconds":        replace(`.123456Z`, `.123Z`),
		"no such day":         replace(`2026-03-01`, `2026-02-29`),
		"no such month":       replace(`2026-03-01`, `2026-13-01`),
		"leap second":         replace(`09:30:00`, `09:30:60`),
		"hour 24":             replace(`09:30:00`, `24:00:00`),
		"1969":                replace(`2026`, `1969`),
		"trailing brace":      good + "}",
		"cut":                 good[:len(good)-1],
		"too long":            replace(`"v"`, `"`+strings.Repeat("v", MaxLine)+`"`),
		"deep":                replace(`"n":1`, `"n":`+strings.Repeat("[", MaxDepth)+strings.Repeat("]", MaxDepth)),
	}
	for name, line := range cases {
		line := rehash(t, line)
		if _, err := ParseLine([]byte(line)); err == nil {
			t.Errorf("%s: accepted %s", name, line)
		} else if errors.Is(err, ErrHash) {
			t.Errorf("%s: refused for the hash only: the case does not test what it is named for", name)
		}
		var p Parser
		if _, err := p.Link([]byte(line)); err == nil {
			t.Errorf("%s: Link accepted %s", name, line)
		}
	}
	// And a byte changed anywhere is refused.
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 1
		if _, err := ParseLine(b); err == nil {
			t.Errorf("byte %d changed: accepted %s", i, b)
		}
	}
}

func TestState(t *testing.T) {
	var s State
	if err := s.Next(Link{Prev: Hash{1}}); !errors.Is(err, ErrPrev) {
		t.Fatalf("first line with a prev_hash: %v", err)
	}
	if err := s.Next(Link{Hash: Hash{1}, Micros: 5}); err != nil {
		t.Fatal(err)
	}
	err := s.Next(Link{Prev: Hash{1}, Hash: Hash{2}, Micros: 4})
	var b *BreakError
	if !errors.Is(err, ErrTime) || !errors.As(err, &b) || b.Seq != 1 {
		t.Fatalf("time backwards: %v", err)
	}
	if err := s.Next(Link{Prev: Hash{1}, Hash: Hash{2}, Micros: 5}); err != nil || s.Size != 2 || s.Head != (Hash{2}) {
		t.Fatalf("%+v %v", s, err)
	}
}
