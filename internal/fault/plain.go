package fault

import (
	"strings"
	"unicode"
)

// Plain is s for one line of a terminal, a journal or a mail, whoever wrote it: line ends and tabs become spaces, and everything else that is not to be seen (the sequences that a
// terminal obeys, the marks that turn the direction of writing) a question mark.
//
//	Plain(Plain(s)) == Plain(s), and it has no control character.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// PlainLines is Plain for each line of s.
func PlainLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = Plain(lines[i])
	}
	return strings.Join(lines, "\n")
}
