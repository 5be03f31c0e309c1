package fonts

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// Glyph is a placed glyph: its origin lies X to the right of the line's start and Y above the baseline, in thousandths of an em.
type Glyph struct {
	Face *Face
	ID   GlyphID
	Rune rune // the one character that it stands for
	X, Y int
	Mark bool // a combining mark: it takes no room of its own
}

// Line is text set on one baseline. Width is in thousandths of an em.
type Line struct {
	Glyphs []Glyph
	Width  int
}

// Shape sets text, put in NFC first, on one line. The error is an *UnsupportedError for a character that cannot be printed.
func (s *Set) Shape(w Weight, text string) (Line, error) {
	text = norm.NFC.String(text)
	line := Line{Glyphs: make([]Glyph, 0, len(text))}
	for len(text) > 0 {
		if s.letter(w, text, &line) { // nearly every one
			text = text[1:]
			continue
		}
		n := clusterLen(text)
		if err := s.cluster(w, text[:n], &line); err != nil {
			return Line{}, err
		}
		text = text[n:]
	}
	return line, nil
}

// letter appends the first character of text when it is one of ASCII without marks; false when it is not, or the first face lacks it.
func (s *Set) letter(w Weight, text string, line *Line) bool {
	if text[0] < ' ' || text[0] > '~' || len(text) > 1 && text[1] >= utf8.RuneSelf {
		return false
	}
	f, r := s.faces[w][0], rune(text[0])
	id, ok := f.Glyph(r)
	if ok {
		line.Glyphs = append(line.Glyphs, Glyph{Face: f, ID: id, Rune: r, X: line.Width})
		line.Width += f.Advance(id)
	}
	return ok
}

// clusterLen is the length in bytes of the first character of text with the marks that follow it.
func clusterLen(text string) int {
	_, n := utf8.DecodeRuneInString(text)
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if r < 0x300 || !unicode.Is(unicode.M, r) {
			break
		}
		n += size
	}
	return n
}

// cluster appends one letter and its marks, all from the first face that has them all.
func (s *Set) cluster(w Weight, text string, line *Line) error {
	for i, r := range text {
		if why := refusal(r, i == 0); why != "" {
			return &UnsupportedError{Rune: r, Why: why}
		}
	}
	var missing rune
	for _, f := range s.faces[w] {
		missing = f.lacks(text)
		if missing == 0 {
			f.place(text, line)
			return nil
		}
	}
	return &UnsupportedError{Rune: missing, Why: "no built-in typeface has it"}
}

// lacks returns the first character of text that f has no glyph for, 0 when it has them all.
func (f *Face) lacks(text string) rune {
	for _, r := range text {
		if _, ok := f.Glyph(r); !ok {
			return r
		}
	}
	return 0
}

// Gap is the space between a letter and a mark, and between two marks.
const gap = 40

// place appends the letter and centres each mark over or under the ink so far.
func (f *Face) place(text string, line *Line) {
	var ink Box
	for i, r := range text {
		id, _ := f.Glyph(r)
		if i == 0 {
			ink = f.Bounds(id)
			line.Glyphs = append(line.Glyphs, Glyph{Face: f, ID: id, Rune: r, X: line.Width})
			continue
		}
		// The origin of the letter is where the next glyph starts, less the letter's width: it is added after the loop.
		mark := f.Bounds(id)
		g := Glyph{Face: f, ID: id, Rune: r, Mark: true}
		g.X = line.Width + (ink.MinX+ink.MaxX)/2 - (mark.MinX+mark.MaxX)/2
		if combiningClass(r) == above {
			g.Y = max(0, ink.MaxY+gap-mark.MinY)
			ink.MaxY = mark.MaxY + g.Y
		} else {
			g.Y = min(0, ink.MinY-gap-mark.MaxY)
			ink.MinY = mark.MinY + g.Y
		}
		line.Glyphs = append(line.Glyphs, g)
	}
	line.Width += f.Advance(line.Glyphs[len(line.Glyphs)-utf8.RuneCountInString(text)].ID)
}

// Canonical combining classes that are placed (UAX #44, table 15).
const (
	attachedBelow = 202
	below         = 220
	above         = 230
)

func combiningClass(r rune) uint8 { return norm.NFC.PropertiesString(string(r)).CCC() }

// refusal says why r cannot be set from left to right, one glyph per character; "" when it can.
func refusal(r rune, first bool) string {
	if r >= ' ' && r < 0x7f { // the common case
		return ""
	}
	switch {
	case r == utf8.RuneError:
		return "it stands for text that was damaged"
	case unicode.In(r, unicode.C) || unicode.In(r, unicode.Zl, unicode.Zp):
		return "it is invisible"
	case r > 0xffff:
		return "no built-in typeface has it"
	}
	if unicode.Is(unicode.M, r) {
		if first {
			return "it is a mark without a letter to stand on"
		}
		switch combiningClass(r) {
		case above, below, attachedBelow:
			return ""
		}
		return "the placing of this mark is not supported"
	}
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return "text that runs from right to left is not supported"
	}
	return ""
}

// shown tells whether r may be shown in an error message.
func shown(r rune) bool {
	return unicode.IsPrint(r) && !unicode.Is(unicode.M, r) && r != utf8.RuneError
}
