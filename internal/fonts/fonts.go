// Package fonts holds the typefaces that documents are set in and turns text into placed glyphs.
//
// Liberation Sans (metrically Arial; SIL OFL 1.1) comes first, DejaVu Sans (Bitstream Vera licence) fills in what it lacks. Text is set
// from left to right, one glyph per character, with combining marks placed over or under their letter: enough for the Latin script in
// every language that writes it (Vietnamese and Yoruba too), Greek, Cyrillic, Armenian, Georgian and a few more. What would need
// reordering or shaping to be legible (Arabic, Hebrew, the scripts of India) and what no face has is refused with an UnsupportedError:
// never a box, never a letter in the wrong place.
//
// The package is pure: the font programs are in the binary. A Set is safe for concurrent use.
package fonts

import (
	"fmt"

	"github.com/go-fonts/dejavu/dejavusans"
	"github.com/go-fonts/dejavu/dejavusansbold"
	"github.com/go-fonts/liberation/liberationsansbold"
	"github.com/go-fonts/liberation/liberationsansregular"
)

// Weight chooses between the two weights that every face has.
type Weight uint8

const (
	Regular Weight = iota
	Bold
)

// Set is the faces in order of preference, for each weight.
type Set struct {
	faces [2][]*Face
}

// New parses the built-in faces, about a tenth of a millisecond's work: make one Set and keep it.
func New() (*Set, error) {
	programs := [2][]struct {
		name string
		stem int
		ttf  []byte
	}{
		Regular: {{"LiberationSans", 80, liberationsansregular.TTF}, {"DejaVuSans", 80, dejavusans.TTF}},
		Bold:    {{"LiberationSans-Bold", 140, liberationsansbold.TTF}, {"DejaVuSans-Bold", 140, dejavusansbold.TTF}},
	}
	var s Set
	for w, list := range programs {
		for _, p := range list {
			f, err := parseFace(p.name, p.stem, p.ttf)
			if err != nil {
				return nil, fmt.Errorf("fonts: %s: %w", p.name, err)
			}
			s.faces[w] = append(s.faces[w], f)
		}
	}
	return &s, nil
}

// First is the face that a text of that weight is set in where it has the characters.
func (s *Set) First(w Weight) *Face { return s.faces[w][0] }

// UnsupportedError says which character cannot be set, and why.
type UnsupportedError struct {
	Rune rune
	Why  string
}

// Error names the character by its code point, and shows it when it is one that can be shown.
func (e *UnsupportedError) Error() string {
	if shown(e.Rune) {
		return fmt.Sprintf("character %q (U+%04X) cannot be printed: %s", e.Rune, e.Rune, e.Why)
	}
	return fmt.Sprintf("character U+%04X cannot be printed: %s", e.Rune, e.Why)
}
