package prescription

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/encoding/charmap"

	"github.com/veripath/aes-appliance/internal/fonts"
)

// encoding gives the characters that one face is used for their codes in a simple font: WinAnsiEncoding where it has the character, and
// codes that are free otherwise, listed as Differences by glyph name (ISO 32000-1, 9.6.6).
type encoding struct {
	face  *fonts.Face
	runes []rune // sorted
	codes map[rune]byte
	extra []rune // those that WinAnsiEncoding lacks, sorted
}

// encode makes an encoding for each face that the texts use, in the order of their first use.
func encode(texts []placedText) ([]*encoding, error) {
	var all []*encoding
	for _, t := range texts {
		for _, g := range t.line.Glyphs {
			if g.Mark { // drawn as a path
				continue
			}
			i := encodingOf(all, g.Face)
			if i < 0 {
				i = len(all)
				all = append(all, &encoding{face: g.Face, codes: map[rune]byte{}})
			}
			if _, known := all[i].codes[g.Rune]; !known {
				all[i].codes[g.Rune] = 0
				all[i].runes = append(all[i].runes, g.Rune)
			}
		}
	}
	for _, e := range all {
		if err := e.assign(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func encodingOf(all []*encoding, face *fonts.Face) int {
	return slices.IndexFunc(all, func(e *encoding) bool { return e.face == face })
}

// errTooVaried: the library's simple fonts have 224 codes for each face. No text of the lengths that Validate allows meets it in practice.
var errTooVaried = errors.New("more different characters than one font can hold")

func (e *encoding) assign() error {
	slices.Sort(e.runes)
	var used [256]bool
	for _, r := range e.runes {
		if c, ok := charmap.Windows1252.EncodeRune(r); ok && c >= 32 {
			e.codes[r] = c
			used[c] = true
			continue
		}
		e.extra = append(e.extra, r)
	}
	free := 128
	for _, r := range e.extra {
		for free < 256 && used[free] {
			free++
		}
		if free == 256 {
			return errTooVaried
		}
		e.codes[r] = byte(free)
		free++
	}
	return nil
}

func (e *encoding) widths() []int {
	w := make([]int, 256)
	for r, c := range e.codes {
		id, _ := e.face.Glyph(r)
		w[c] = e.face.Advance(id)
	}
	return w
}

// differences is the inside of a Differences array; empty when WinAnsiEncoding has every character.
func (e *encoding) differences() string {
	var b strings.Builder
	for _, r := range e.extra {
		fmt.Fprintf(&b, "%d /%s ", e.codes[r], fonts.GlyphName(r))
	}
	return strings.TrimSpace(b.String())
}

func (e *encoding) bytes(glyphs []fonts.Glyph) string {
	b := make([]byte, len(glyphs))
	for i, g := range glyphs {
		b[i] = e.codes[g.Rune]
	}
	return string(b)
}
