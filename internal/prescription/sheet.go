package prescription

import (
	"errors"
	"strings"

	"github.com/veripath/aes-appliance/internal/fonts"
)

// Lengths are in points (1/72 inch), y grows downwards from the top of the page, as the PDF library has it.

type colour struct{ r, g, b int }

type style struct {
	weight fonts.Weight
	size   float64
	colour colour
}

func (s style) scaled(by float64) style { return style{s.weight, s.size * by, s.colour} }

// sheet collects what goes on the page before any of it is drawn, so that the fonts can be cut to what is used.
type sheet struct {
	fonts     *fonts.Set
	texts     []placedText
	boxes     []box
	rules     []rule
	marks     []placedText // drawn as outlines rather than as text
	encodings []*encoding  // of the texts
	problems  []Problem
}

type placedText struct {
	line  fonts.Line
	style style
	x, y  float64 // of the baseline
}

type box struct {
	x, y, w, h   float64
	fill, stroke *colour
}

type rule struct {
	x1, y1, x2, y2, width float64
	colour                colour
}

// text is a string with the field that it came from; constant text has none.
type text struct{ field, value string }

// report notes that a field cannot be shown. The same field is often set in two places: one report is enough.
func (s *sheet) report(p Problem) {
	for _, q := range s.problems {
		if p == q {
			return
		}
	}
	s.problems = append(s.problems, p)
}

// set puts t on one line.
func (s *sheet) set(t text, st style) fonts.Line {
	line, err := s.fonts.Shape(st.weight, t.value)
	var u *fonts.UnsupportedError
	switch {
	case errors.As(err, &u):
		s.report(Problem{t.field, Unprintable, u.Error() + "; give it in Latin letters, as in the patient's or the register's record"})
	case err != nil:
		panic("prescription: " + err.Error())
	}
	return line
}

// at draws one line with its baseline at y and returns its width.
func (s *sheet) at(t text, st style, x, y float64) float64 {
	line := s.set(t, st)
	s.texts = append(s.texts, placedText{line, st, x, y})
	return points(line.Width, st.size)
}

// right draws one line that ends at x.
func (s *sheet) right(t text, st style, x, y float64) {
	line := s.set(t, st)
	s.texts = append(s.texts, placedText{line, st, x - points(line.Width, st.size), y})
}

// centred draws one line around x.
func (s *sheet) centred(t text, st style, x, y float64) {
	line := s.set(t, st)
	s.texts = append(s.texts, placedText{line, st, x - points(line.Width, st.size)/2, y})
}

// leading is the distance between baselines, in sizes of the type.
const leading = 1.3

// flow draws t within width, each of its lines wrapped, from a first baseline at y. It returns the baseline for what comes next.
func (s *sheet) flow(t text, st style, x, y, width float64) float64 {
	for _, line := range s.wrap(t, st, width) {
		s.texts = append(s.texts, placedText{line, st, x, y})
		y += st.size * leading
	}
	return y
}

// height is what flow would add to y.
func (s *sheet) height(t text, st style, width float64) float64 {
	return float64(len(s.wrap(t, st, width))) * st.size * leading
}

// wrap breaks t into lines that fit width, at its line breaks and where need be.
func (s *sheet) wrap(t text, st style, width float64) []fonts.Line {
	var lines []fonts.Line
	for _, paragraph := range strings.Split(t.value, "\n") {
		lines = append(lines, s.set(text{t.field, paragraph}, st).Wrap(int(width/st.size*1000))...)
	}
	return lines
}

func points(thousandths int, size float64) float64 { return float64(thousandths) * size / 1000 }
