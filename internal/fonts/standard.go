package fonts

import (
	"strings"

	"golang.org/x/text/encoding/charmap"
)

// beyondASCII is what prescriptions in English are written with besides ASCII. Liberation Sans has all of it.
const beyondASCII = "£°±µ·¼½¾×–—‘’“”•…"

// StandardCode is the code that WinAnsiEncoding (ISO 32000-1, annex D) has for a standard character: one that nearly every document is content with, so
// that a face is cut to these once, and not for each document. False for any other.
func StandardCode(r rune) (byte, bool) {
	if r >= ' ' && r <= '~' {
		return byte(r), true
	}
	if !strings.ContainsRune(beyondASCII, r) {
		return 0, false
	}
	return charmap.Windows1252.EncodeRune(r)
}

// StandardRunes are the standard characters, sorted.
func StandardRunes() []rune {
	var all []rune
	for r := ' '; r <= '~'; r++ {
		all = append(all, r)
	}
	return append(all, []rune(beyondASCII)...)
}
