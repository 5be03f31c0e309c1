package pdf

import (
	"reflect"
	"strings"
	"testing"
)

func parseText(s string) (Object, error) {
	p := &parser{lexer: lexer{b: []byte(s)}, maxDepth: 10, nodes: 1000, names: map[string]Name{}}
	o, err := p.object(0)
	if err == nil {
		if p.skipSpace(); p.pos < len(p.b) {
			return nil, invalid("rest %q", p.b[p.pos:])
		}
	}
	return o, err
}

func TestObjects(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Object
	}{
		{"null", nil}, {"true", true}, {" %c\n false", false},
		{"0", int64(0)}, {"-17", int64(-17)}, {"+17", int64(17)}, {"007", int64(7)},
		{"1.50", Real("1.50")}, {"-.5", Real("-.5")}, {"4.", Real("4.")}, {"99999999999999999999", Real("99999999999999999999")},
		{"/A#42c", Name("ABc")}, {"/", Name("")}, {"/a.b-c", Name("a.b-c")},
		{"(a(b)c)", String("a(b)c")}, {`(\n\r\t\b\f\(\)\\\q)`, String("\n\r\t\b\f()\\q")}, {`(\0531\53\7x)`, String("+1+\ax")}, {"(a\\\r\nb\r\nc\rd)", String("ab\nc\nd")}, {`(\400)`, String("\x00")},
		{"<48 65 6C6C6f7>", String("Hellop")}, {"<>", String("")},
		{"[1 2 0 R 3]", Array{int64(1), Ref{2, 0}, int64(3)}}, {"[1 2 3 R]", Array{int64(1), Ref{2, 3}}}, {"[]", Array{}}, {"[1 0 Rx]", nil},
		{"<< /A 1 /B << /C null >> >>", Dict{"A": int64(1), "B": Dict{"C": nil}}}, {"<</A/B>>", Dict{"A": Name("B")}}, {"<</A<41>>>", Dict{"A": String("A")}},
		{"-1 0 R", Ref{}}, {"12 %x\n 0 R", Ref{12, 0}},
	} {
		got, err := parseText(c.in)
		if c.in == "[1 0 Rx]" {
			if err == nil {
				t.Errorf("%s: accepted as %v", c.in, got)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, %v; want %#v", c.in, got, err, c.want)
			continue
		}
		again, err := parseText(string(appendObject(nil, got)))
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%s: written as %s, read again as %#v, %v", c.in, appendObject(nil, got), again, err)
		}
	}
}

func TestObjectsRefused(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "cut off"}, {"nul", "not an object"}, {"endobj", "not an object"}, {")", "not an object"}, {"]", "not an object"}, {"{", "not an object"},
		{"1.2.3", "not a number"}, {"--5", "not a number"}, {"5-3", "not a number"}, {".", "not a number"}, {"+", "not a number"}, {"1e5", "not a number"},
		{"/A#4", "#"}, {"/A#zz", "#"}, {"/A#00b", "#00"},
		{"(a(b)", "no end"}, {`(a\)`, "no end"}, {"<41", "no end"}, {"<4x>", "holds"},
		{"[1", "no end"}, {"[1 >>", "not an object"}, {"<< /A 1", "no end"}, {"<< 1 2 >>", "should begin a name"}, {"<< /A >>", "not an object"},
		{"<< /A 1 /A 1 >>", "twice"}, {"<< /A 1 /#41 2 >>", "twice"}, {"<< /A null /A 1 >>", "twice"},
		{"5000000000 0 R", "too large"}, {"1 70000 R", "too large"},
		{strings.Repeat("[", 11) + strings.Repeat("]", 11), "deeper"}, {strings.Repeat("<</A", 11), "deeper"}, {"[" + strings.Repeat("0 ", 1001) + "]", "too many"},
	} {
		if o, err := parseText(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, %v; want an error with %q", c.in, o, err, c.want)
		}
	}
}

// Law: Text(encodeText(t)) == t for valid UTF-8.
func TestText(t *testing.T) {
	for _, s := range []string{"", "plain", "Müller £5", "Ω ☤ 𝒳", "•†€fi–", "\u02d8", "þÿx", "ï»¿y", "\u00ad", "a\nb\tc", "\x7f"} {
		if got := Text(encodeText(s)); got != s {
			t.Errorf("%q: %x read as %q", s, encodeText(s), got)
		}
	}
	for in, want := range map[string]string{"\xef\xbb\xbfn\xc3\xa9": "né", "\xfe\xff\x00A\xd8\x35\xdc\xb3\x00": "A\U0001d4b3", "\x80\x18": "•˘"} {
		if got := Text(String(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := date(testTime); string(got) != "D:20261121192500Z" {
		t.Error(string(got))
	}
}
