package prescription

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/image/font/sfnt"

	"github.com/veripath/aes-appliance/internal/fonts"
)

// canvas is a content stream (ISO 32000-1, 8 and 9) as it is written. What it is told has y growing downwards from the top of the page.
type canvas struct {
	b            []byte
	fill, stroke colour // as they are now
	width        float64
}

// content draws the sheet.
func (s *sheet) content() ([]byte, error) {
	c := &canvas{b: make([]byte, 0, 12<<10), width: 1} // black, and lines of 1: what a page begins with
	for _, b := range s.boxes {
		c.box(b)
	}
	for _, l := range s.rules {
		c.pen(l.colour, l.width)
		c.op("m", l.x1, pageHeight-l.y1)
		c.op("l", l.x2, pageHeight-l.y2)
		c.op("S")
	}
	for _, m := range s.marks {
		if err := c.outlines(m); err != nil {
			return nil, err
		}
	}
	if err := c.texts(s.texts, s.encodings); err != nil {
		return nil, err
	}
	return c.b, nil
}

// op writes operands, rounded to hundredths, and an operator.
func (c *canvas) op(operator string, operands ...float64) {
	for _, v := range operands {
		c.b = append(appendNumber(c.b, v, 100), ' ')
	}
	c.b = append(append(c.b, operator...), '\n')
}

// appendNumber appends v rounded to one part in parts, a power of ten, without an exponent.
func appendNumber(b []byte, v float64, parts int64) []byte {
	n := int64(math.Round(v * float64(parts)))
	if n < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendInt(b, n/parts, 10)
	if n %= parts; n == 0 {
		return b
	}
	b = append(b, '.')
	for n > 0 {
		parts /= 10
		b = append(b, '0'+byte(n/parts))
		n %= parts
	}
	return b
}

func (c *canvas) colour(operator string, to colour) {
	for _, v := range []int{to.r, to.g, to.b} {
		c.b = append(appendNumber(c.b, float64(v)/255, 1000), ' ')
	}
	c.b = append(append(c.b, operator...), '\n')
}

func (c *canvas) brush(to colour) {
	if to != c.fill {
		c.colour("rg", to)
		c.fill = to
	}
}

func (c *canvas) pen(to colour, width float64) {
	if to != c.stroke {
		c.colour("RG", to)
		c.stroke = to
	}
	if width != c.width {
		c.op("w", width)
		c.width = width
	}
}

// box draws a rectangle with round corners.
func (c *canvas) box(b box) {
	const radius = 5
	const pull = radius * 0.4477 // of a curve's control points from the corner: a quarter of a circle
	how := "n"
	if b.fill != nil {
		c.brush(*b.fill)
		how = "f"
	}
	if b.stroke != nil {
		c.pen(*b.stroke, 0.8)
		how = map[string]string{"n": "S", "f": "B"}[how]
	}
	left, right, top, bottom := b.x, b.x+b.w, pageHeight-b.y, pageHeight-b.y-b.h
	c.op("m", left+radius, top)
	c.op("l", right-radius, top)
	c.op("c", right-pull, top, right, top-pull, right, top-radius)
	c.op("l", right, bottom+radius)
	c.op("c", right, bottom+pull, right-pull, bottom, right-radius, bottom)
	c.op("l", left+radius, bottom)
	c.op("c", left+pull, bottom, left, bottom+pull, left, bottom+radius)
	c.op("l", left, top-radius)
	c.op("c", left, top-pull, left+pull, top, left+radius, top)
	c.op("h")
	c.op(how)
}

// outlines fills the glyphs of m as paths.
func (c *canvas) outlines(m placedText) error {
	c.brush(m.style.colour)
	for _, g := range m.line.Glyphs {
		segments, err := g.Face.Outline(g.ID)
		if err != nil {
			return err
		}
		k := m.style.size / float64(g.Face.UnitsPerEm()) / 64
		at := func(i int, s sfnt.Segment) (float64, float64) {
			return m.x + points(g.X, m.style.size) + float64(s.Args[i].X)*k, pageHeight - (m.y - points(g.Y, m.style.size) + float64(s.Args[i].Y)*k)
		}
		var x, y float64 // the current point
		for _, s := range segments {
			x1, y1 := at(0, s)
			switch s.Op {
			case sfnt.SegmentOpMoveTo:
				c.op("m", x1, y1)
			case sfnt.SegmentOpLineTo:
				c.op("l", x1, y1)
			case sfnt.SegmentOpQuadTo: // raised to a cubic, the only curve that PDF has
				x2, y2 := at(1, s)
				c.op("c", (x+2*x1)/3, (y+2*y1)/3, (x2+2*x1)/3, (y2+2*y1)/3, x2, y2)
				x1, y1 = x2, y2
			default:
				return errors.New("cubic outline in a TrueType face")
			}
			x, y = x1, y1
		}
	}
	c.op("f")
	return nil
}

// texts writes each run of glyphs of one font as one string. A letter with combining marks is a string of its own that says what it
// is (ActualText, ISO 32000-1, 14.9.4), with the marks drawn as paths: text readers take a mark set by itself for the end of a word.
func (c *canvas) texts(texts []placedText, enc []*encoding) error {
	family, size := -1, 0.0
	for _, t := range texts {
		for glyphs := t.line.Glyphs; len(glyphs) > 0; {
			i := encodingOf(enc, glyphs[0])
			letters, marks := run(glyphs, func(g fonts.Glyph) bool { return encodingOf(enc, g) == i })
			if marks > 0 {
				c.b = append(c.b, "/Span << /ActualText <FEFF"...)
				for _, g := range glyphs[:letters+marks] { // the faces have nothing beyond the Basic Multilingual Plane
					c.b = appendHex(c.b, uint16(g.Rune))
				}
				c.b = append(c.b, "> >> BDC\n"...)
			}
			c.brush(t.style.colour)
			if family != i || size != t.style.size {
				family, size = i, t.style.size
				c.b = fmt.Appendf(c.b, "/F%d ", i)
				c.op("Tf", size)
			}
			c.op("BT")
			c.op("Td", t.x+points(glyphs[0].X, size), pageHeight-t.y)
			c.b = append(enc[i].appendText(c.b, glyphs[:letters]), " Tj\nET\n"...)
			if marks > 0 {
				c.op("EMC")
				over := placedText{fonts.Line{Glyphs: glyphs[letters : letters+marks]}, t.style, t.x, t.y}
				if err := c.outlines(over); err != nil {
					return err
				}
			}
			glyphs = glyphs[letters+marks:]
		}
	}
	return nil
}

// run is the number of letters that one string of the first one's font can hold, and of the marks on it when it is a single letter with marks.
func run(glyphs []fonts.Glyph, same func(fonts.Glyph) bool) (letters, marks int) {
	marked := func(i int) bool { return i+1 < len(glyphs) && glyphs[i+1].Mark }
	if !marked(0) {
		for letters < len(glyphs) && !marked(letters) && same(glyphs[letters]) {
			letters++
		}
		return letters, 0
	}
	for marked(marks) {
		marks++
	}
	return 1, marks
}
