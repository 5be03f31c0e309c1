package chain

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Limits of what an entry's details may hold. They are part of the format.
const (
	MaxDepth   = 32        // nesting of objects and arrays, the details object itself being the first level
	MaxKey     = 128       // bytes of an object key
	MaxInteger = 1<<53 - 1 // RFC 7493 §2.2: what every JSON implementation can hold exactly
	hexDigits  = "0123456789abcdef"
)

// Canonical appends the canonical form (RFC 8785) of the JSON object src to dst. What JSON allows beyond the log's format is refused: a number that
// is not whole or beyond ±MaxInteger, a key that is not 1 to MaxKey bytes of printable ASCII without " and \, a key twice, a lone surrogate, bytes
// that are not UTF-8, nesting beyond MaxDepth.
//
//	Canonical(Canonical(x)) == Canonical(x), and the strict scanner accepts exactly what Canonical returns.
func Canonical(dst, src []byte) ([]byte, error) {
	if !utf8.Valid(src) {
		return nil, fmt.Errorf("chain: details are not valid UTF-8")
	}
	c := canonicalizer{src: src, dst: dst}
	c.space()
	if c.pos >= len(src) || src[c.pos] != '{' {
		return nil, fmt.Errorf("chain: details are not a JSON object")
	}
	if err := c.value(0); err != nil {
		return nil, err
	}
	c.space()
	if c.pos != len(src) {
		return nil, c.errorf("data after the details object")
	}
	return c.dst, nil
}

type canonicalizer struct {
	src, dst []byte
	pos      int
}

func (c *canonicalizer) errorf(format string, args ...any) error {
	return fmt.Errorf("chain: details, byte %d: %s", c.pos, fmt.Sprintf(format, args...))
}

func (c *canonicalizer) space() {
	for c.pos < len(c.src) && (c.src[c.pos] == ' ' || c.src[c.pos] == '\n' || c.src[c.pos] == '\t' || c.src[c.pos] == '\r') {
		c.pos++
	}
}

// next returns the next byte that is no white space, 0 at the end.
func (c *canonicalizer) next() byte {
	c.space()
	if c.pos == len(c.src) {
		return 0
	}
	return c.src[c.pos]
}

func (c *canonicalizer) value(depth int) error {
	switch b := c.next(); {
	case b == '{' || b == '[':
		if depth >= MaxDepth {
			return c.errorf("more than %d levels of nesting", MaxDepth)
		}
		if b == '{' {
			return c.object(depth + 1)
		}
		return c.array(depth + 1)
	case b == '"':
		return c.string()
	case b == '-' || b >= '0' && b <= '9':
		n, err := scanInteger(c.src, c.pos)
		if err != nil {
			return err
		}
		c.dst = append(c.dst, c.src[c.pos:n]...)
		c.pos = n
		return nil
	}
	for _, word := range literals {
		if bytes.HasPrefix(c.src[c.pos:], []byte(word)) {
			c.dst = append(c.dst, word...)
			c.pos += len(word)
			return nil
		}
	}
	return c.errorf("no JSON value")
}

func (c *canonicalizer) array(depth int) error {
	c.pos++
	c.dst = append(c.dst, '[')
	if c.next() == ']' {
		c.pos++
		c.dst = append(c.dst, ']')
		return nil
	}
	for {
		if err := c.value(depth); err != nil {
			return err
		}
		switch c.next() {
		case ',':
			c.pos++
			c.dst = append(c.dst, ',')
		case ']':
			c.pos++
			c.dst = append(c.dst, ']')
			return nil
		default:
			return c.errorf("no comma or bracket after an array element")
		}
	}
}

// member is where a member of an object lies in dst: key between from+1 and keyEnd, the whole up to to.
type member struct{ from, keyEnd, to int }

func (c *canonicalizer) object(depth int) error {
	c.pos++
	c.dst = append(c.dst, '{')
	if c.next() == '}' {
		c.pos++
		c.dst = append(c.dst, '}')
		return nil
	}
	start := len(c.dst)
	var few [16]member
	members := few[:0]
	for {
		m := member{from: len(c.dst)}
		if err := c.key(); err != nil {
			return err
		}
		m.keyEnd = len(c.dst) - 1
		if c.next() != ':' {
			return c.errorf("no colon after a key")
		}
		c.pos++
		c.dst = append(c.dst, ':')
		if err := c.value(depth); err != nil {
			return err
		}
		m.to = len(c.dst)
		members = append(members, m)
		b := c.next()
		if b != ',' && b != '}' {
			return c.errorf("no comma or brace after an object member")
		}
		c.pos++
		c.dst = append(c.dst, b)
		if b == '}' {
			return c.sort(start, members)
		}
	}
}

// sort brings the members, which dst holds from start on, into ascending order of their keys. RFC 8785 §3.2.3 sorts by UTF-16 code units; for keys
// in ASCII that is the order of their bytes.
func (c *canonicalizer) sort(start int, members []member) error {
	order := func(a, b member) int {
		return bytes.Compare(c.dst[a.from+1:a.keyEnd], c.dst[b.from+1:b.keyEnd])
	}
	sorted := slices.IsSortedFunc(members, order)
	if !sorted {
		slices.SortFunc(members, order)
	}
	for i := 1; i < len(members); i++ {
		if order(members[i-1], members[i]) == 0 {
			return c.errorf("key %q twice in one object", c.dst[members[i].from+1:members[i].keyEnd])
		}
	}
	if sorted {
		return nil
	}
	old := bytes.Clone(c.dst[start : len(c.dst)-1])
	out := c.dst[:start]
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, old[m.from-start:m.to-start]...)
	}
	c.dst = append(out, '}')
	return nil
}

func (c *canonicalizer) key() error {
	if c.next() != '"' {
		return c.errorf("no key where one is due")
	}
	from := len(c.dst)
	if err := c.string(); err != nil {
		return err
	}
	_, err := scanKey(c.dst, from)
	if err != nil {
		return c.errorf("key %q is not 1 to %d bytes of printable ASCII without \" and \\", c.dst[from+1:len(c.dst)-1], MaxKey)
	}
	return nil
}

// string appends the string at pos with RFC 8785 §3.2.2.2 escapes and no others.
func (c *canonicalizer) string() error {
	c.pos++
	c.dst = append(c.dst, '"')
	for c.pos < len(c.src) {
		b := c.src[c.pos]
		switch {
		case b == '"':
			c.pos++
			c.dst = append(c.dst, '"')
			return nil
		case b < 0x20:
			return c.errorf("control character %#02x in a string", b)
		case b == '\\':
			r, err := c.escape()
			if err != nil {
				return err
			}
			c.dst = appendRune(c.dst, r)
		default:
			c.pos++
			c.dst = append(c.dst, b)
		}
	}
	return c.errorf("a string without end")
}

// escape reads the escape at pos (RFC 8259 §7).
func (c *canonicalizer) escape() (rune, error) {
	if c.pos+1 >= len(c.src) {
		return 0, c.errorf("a string without end")
	}
	kind := c.src[c.pos+1]
	if i := bytes.IndexByte([]byte(`"\/bfnrt`), kind); i >= 0 {
		c.pos += 2
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if kind != 'u' {
		return 0, c.errorf("escape \\%c", kind)
	}
	hi, err := c.unit()
	if err != nil {
		return 0, err
	}
	if hi < 0xD800 || hi > 0xDFFF {
		return hi, nil
	}
	if hi > 0xDBFF || c.pos+1 >= len(c.src) || c.src[c.pos] != '\\' || c.src[c.pos+1] != 'u' {
		return 0, c.errorf("a lone surrogate")
	}
	lo, err := c.unit()
	if err != nil {
		return 0, err
	}
	if lo < 0xDC00 || lo > 0xDFFF {
		return 0, c.errorf("a lone surrogate")
	}
	return 0x10000 + (hi-0xD800)<<10 + (lo - 0xDC00), nil
}

// unit reads \uXXXX at pos.
func (c *canonicalizer) unit() (rune, error) {
	if c.pos+6 > len(c.src) {
		return 0, c.errorf("a cut \\u escape")
	}
	var r rune
	for _, b := range c.src[c.pos+2 : c.pos+6] {
		switch {
		case b >= '0' && b <= '9':
			r = r<<4 | rune(b-'0')
		case b >= 'a' && b <= 'f':
			r = r<<4 | rune(b-'a'+10)
		case b >= 'A' && b <= 'F':
			r = r<<4 | rune(b-'A'+10)
		default:
			return 0, c.errorf("%q in a \\u escape", b)
		}
	}
	c.pos += 6
	return r, nil
}

// appendRune appends a character of a string as RFC 8785 §3.2.2.2 writes it.
func appendRune(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, `\b`...)
	case '\t':
		return append(dst, `\t`...)
	case '\n':
		return append(dst, `\n`...)
	case '\f':
		return append(dst, `\f`...)
	case '\r':
		return append(dst, `\r`...)
	}
	if r < 0x20 {
		return append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// appendString appends s, which is valid UTF-8, as a canonical JSON string.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if b := s[i]; b >= 0x20 && b != '"' && b != '\\' {
			dst = append(dst, b)
		} else {
			dst = appendRune(dst, rune(b))
		}
	}
	return append(dst, '"')
}
