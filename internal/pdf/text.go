package pdf

import (
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// docHigh is PDFDocEncoding (ISO 32000-2 annex D.3) from 0x80 to 0xA0, docLow from 0x18 to 0x1F; 0 is undefined. The rest is Latin-1.
const (
	docLow  = "\u02d8\u02c7\u02c6\u02d9\u02dd\u02db\u02da\u02dc"
	docHigh = "\u2022\u2020\u2021\u2026\u2014\u2013\u0192\u2044\u2039\u203a\u2212\u2030\u201e\u201c\u201d\u2018\u2019\u201a\u2122\ufb01\ufb02\u0141\u0152\u0160\u0178\u017d\u0131\u0142\u0153\u0161\u017e\ufffd\u20ac"
)

// Text returns a text string (§7.9.2.2): UTF-16BE or UTF-8 when marked so, else PDFDocEncoding.
func Text(s String) string {
	switch {
	case len(s) >= 2 && s[0] == 0xfe && s[1] == 0xff:
		u := make([]uint16, 0, len(s)/2)
		for i := 2; i+1 < len(s); i += 2 {
			u = append(u, uint16(s[i])<<8|uint16(s[i+1]))
		}
		return string(utf16.Decode(u))
	case len(s) >= 3 && s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf:
		return strings.ToValidUTF8(string(s[3:]), "\ufffd")
	}
	for _, c := range s {
		if c < ' ' || c > '~' {
			return docText(s)
		}
	}
	return string(s)
}

func docText(s String) string {
	low, high := []rune(docLow), []rune(docHigh)
	var b strings.Builder
	for _, c := range s {
		switch {
		case c >= 0x18 && c < 0x20:
			b.WriteRune(low[c-0x18])
		case c >= 0x80 && c <= 0xa0:
			b.WriteRune(high[c-0x80])
		default:
			b.WriteRune(rune(c))
		}
	}
	return b.String()
}

// encodeText returns t as a text string: PDFDocEncoding when that has every character, UTF-16BE otherwise. Text(encodeText(t)) == t
// for valid UTF-8.
func encodeText(t string) String {
	if out, ok := encodeDoc(t); ok {
		return out
	}
	out := String{0xfe, 0xff}
	for _, u := range utf16.Encode([]rune(t)) {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}

func encodeDoc(t string) (String, bool) {
	out := make(String, 0, len(t))
	for _, r := range t {
		switch {
		case r < 0x18, r >= ' ' && r < 0x7f, r > 0xa0 && r <= 0xff && r != 0xad:
			out = append(out, byte(r))
		case r == utf8.RuneError:
			return nil, false
		default:
			c, ok := docByte(r)
			if !ok {
				return nil, false
			}
			out = append(out, c)
		}
	}
	// What begins like a mark of another encoding must be in UTF-16.
	if s := string(out); strings.HasPrefix(s, "\xfe\xff") || strings.HasPrefix(s, "\xef\xbb\xbf") || strings.HasPrefix(s, "\xff\xfe") {
		return nil, false
	}
	return out, true
}

func docByte(r rune) (byte, bool) {
	for i, c := range []rune(docLow) {
		if c == r {
			return byte(0x18 + i), true
		}
	}
	for i, c := range []rune(docHigh) {
		if c == r {
			return byte(0x80 + i), true
		}
	}
	return 0, false
}

// date returns t as a date string in UTC (§7.9.4).
func date(t time.Time) String {
	return String(t.UTC().Format("D:20060102150405Z"))
}
