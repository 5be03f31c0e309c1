package pdf

import (
	"bytes"
	"math"
)

// Character classes of ISO 32000-2 §7.2.3.
func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f' || c == 0
}

func isDelim(c byte) bool {
	switch c {
	case '(', ')', '<', '>', '[', ']', '{', '}', '/', '%':
		return true
	}
	return false
}

func isRegular(c byte) bool { return !isSpace(c) && !isDelim(c) }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// lexer reads tokens from b; pos counts from the start of b, which for a file's own bytes is a file position.
type lexer struct {
	b   []byte
	pos int
}

// skipSpace passes over white space and comments (§7.2.4).
func (l *lexer) skipSpace() {
	for l.pos < len(l.b) {
		c := l.b[l.pos]
		if c == '%' {
			for l.pos < len(l.b) && l.b[l.pos] != '\n' && l.b[l.pos] != '\r' {
				l.pos++
			}
			continue
		}
		if !isSpace(c) {
			return
		}
		l.pos++
	}
}

// skipBlank passes over white space but not comments.
func (l *lexer) skipBlank() {
	for l.pos < len(l.b) && isSpace(l.b[l.pos]) {
		l.pos++
	}
}

// peek returns the byte at pos, 0 at the end: a 0 is white space, so no token starts with it.
func (l *lexer) peek() byte {
	if l.pos < len(l.b) {
		return l.b[l.pos]
	}
	return 0
}

// literal passes over s when it stands at pos.
func (l *lexer) literal(s string) bool {
	if len(l.b)-l.pos < len(s) || string(l.b[l.pos:l.pos+len(s)]) != s {
		return false
	}
	l.pos += len(s)
	return true
}

// keyword passes over s when it stands at pos as a whole token.
func (l *lexer) keyword(s string) bool {
	if end := l.pos + len(s); end < len(l.b) && isRegular(l.b[end]) {
		return false
	}
	return l.literal(s)
}

// digits reads an unsigned decimal number of at most max.
func (l *lexer) digits(max int64) (int64, bool) {
	start, n := l.pos, int64(0)
	for l.pos < len(l.b) && isDigit(l.b[l.pos]) {
		d := int64(l.b[l.pos] - '0')
		if n > (max-d)/10 {
			return 0, false
		}
		n = n*10 + d
		l.pos++
	}
	return n, l.pos > start
}

// regular reads a run of regular characters.
func (l *lexer) regular() []byte {
	start := l.pos
	for l.pos < len(l.b) && isRegular(l.b[l.pos]) {
		l.pos++
	}
	return l.b[start:l.pos]
}

// number reads an integer or a real (§7.3.3): a sign, digits, at most one point, at least one digit.
func (l *lexer) number() (Object, error) {
	start := l.pos
	t := l.regular()
	i := 0
	if t[0] == '+' || t[0] == '-' {
		i++
	}
	var n int64
	digits, points, overflow := 0, 0, false
	for ; i < len(t); i++ {
		switch c := t[i]; {
		case isDigit(c):
			digits++
			if n > (math.MaxInt64-9)/10 {
				overflow = true
			} else {
				n = n*10 + int64(c-'0')
			}
		case c == '.' && points == 0:
			points++
		default:
			return nil, invalid("%q at byte %d is not a number", clip(t), start)
		}
	}
	if digits == 0 {
		return nil, invalid("%q at byte %d is not a number", clip(t), start)
	}
	if points > 0 || overflow {
		return Real(t), nil
	}
	if t[0] == '-' {
		n = -n
	}
	return n, nil
}

// name reads a name's bytes after its solidus (§7.3.5); scratch is used when it holds escapes.
func (l *lexer) name(scratch []byte) ([]byte, error) {
	start := l.pos
	raw := l.regular()
	escaped := false
	for _, c := range raw {
		if c == '#' {
			escaped = true
			break
		}
	}
	if !escaped {
		return raw, nil
	}
	out := scratch[:0]
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '#' {
			if i+2 >= len(raw) {
				return nil, invalid("name at byte %d: # without two hexadecimal digits", start)
			}
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi < 0 || lo < 0 {
				return nil, invalid("name at byte %d: # without two hexadecimal digits", start)
			}
			if c = byte(hi<<4 | lo); c == 0 {
				return nil, invalid("name at byte %d holds #00", start)
			}
			i += 2
		}
		out = append(out, c)
	}
	return out, nil
}

// unhex returns the value of a hexadecimal digit, -1 for anything else.
func unhex(c byte) int { return int(int8(hexValues[c])) }

// hexValues is what unhex looks up: a string, so that nothing can change it.
const hexValues = noHex + noHex + noHex + "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\xff\xff\xff\xff\xff\xff" +
	aToF + noHex + aToF + noHex + noHex + noHex + noHex + noHex + noHex + noHex + noHex + noHex

const (
	noHex = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
	aToF  = "\xff\x0a\x0b\x0c\x0d\x0e\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff"
)

// hexString reads after '<' up to and over '>' (§7.3.4.3).
func (l *lexer) hexString() (String, error) {
	start := l.pos
	n := bytes.IndexByte(l.b[start:], '>')
	if n < 0 {
		return nil, invalid("hexadecimal string at byte %d has no end", start-1)
	}
	end := start + n
	out := make(String, 0, (n+1)/2)
	in := l.b[start:end]
	for len(in) >= 2 { // pairs of digits, as far as they go
		hi, lo := unhex(in[0]), unhex(in[1])
		if hi|lo < 0 {
			break
		}
		out = append(out, byte(hi<<4|lo))
		in = in[2:]
	}
	high := -1
	for _, c := range in {
		v := unhex(c)
		switch {
		case v < 0 && isSpace(c):
		case v < 0:
			return nil, invalid("hexadecimal string at byte %d holds %q", start-1, c)
		case high < 0:
			high = v
		default:
			out = append(out, byte(high<<4|v))
			high = -1
		}
	}
	if high >= 0 {
		out = append(out, byte(high<<4))
	}
	l.pos = end + 1
	return out, nil
}

// literalString reads after '(' up to and over the ')' that balances it (§7.3.4.2).
func (l *lexer) literalString() (String, error) {
	start := l.pos
	depth, plain := 1, true
	end := start
scan:
	for ; end < len(l.b); end++ {
		switch l.b[end] {
		case '\\':
			plain = false
			end++
		case '\r':
			plain = false
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				break scan
			}
		}
	}
	if end >= len(l.b) {
		return nil, invalid("string at byte %d has no end", start-1)
	}
	raw := l.b[start:end]
	l.pos = end + 1
	if plain {
		return append(make(String, 0, len(raw)), raw...), nil
	}
	return unescape(raw), nil
}

// unescape resolves the escapes of a literal string's inside (§7.3.4.2 table 3).
func unescape(raw []byte) String {
	out := make(String, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\r' { // any end-of-line marker is a line feed
			out = append(out, '\n')
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
			continue
		}
		if c != '\\' {
			out = append(out, c)
			continue
		}
		i++ // the scan for the end passed over whatever follows a backslash, so it is there
		switch c = raw[i]; c {
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case '\r':
			if i+1 < len(raw) && raw[i+1] == '\n' {
				i++
			}
		case '\n':
		case '0', '1', '2', '3', '4', '5', '6', '7':
			v := int(c - '0')
			for n := 0; n < 2 && i+1 < len(raw) && raw[i+1] >= '0' && raw[i+1] <= '7'; n++ {
				i++
				v = v<<3 | int(raw[i]-'0')
			}
			out = append(out, byte(v)) // high-order overflow is ignored
		default:
			out = append(out, c)
		}
	}
	return out
}

// clip shortens what came from a file for an error message.
func clip(b []byte) string {
	if len(b) > 24 {
		return string(b[:24]) + "…"
	}
	return string(b)
}
