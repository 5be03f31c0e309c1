package fonts

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// GlyphID is a glyph's number within one face.
type GlyphID = sfnt.GlyphIndex

// Face is one font program. Measures are in thousandths of an em, the unit of PDF's glyph space.
type Face struct {
	name    string
	stem    int
	font    *sfnt.Font
	upem    int
	glyphs  int // number of glyphs
	metrics int // number of full hmtx records
	long    bool

	head, hhea, maxp, hmtx, loca, glyf []byte
}

// Box is a rectangle in thousandths of an em, y upwards from the baseline.
type Box struct{ MinX, MinY, MaxX, MaxY int }

// parseFace reads the table directory of a TrueType program (OpenType 1.9, "Font tables").
func parseFace(name string, stem int, ttf []byte) (*Face, error) {
	f := &Face{name: name, stem: stem}
	var err error
	if f.font, err = sfnt.Parse(ttf); err != nil {
		return nil, err
	}
	for tag, table := range map[string]*[]byte{"head": &f.head, "hhea": &f.hhea, "maxp": &f.maxp, "hmtx": &f.hmtx, "loca": &f.loca, "glyf": &f.glyf} {
		if *table, err = findTable(ttf, tag); err != nil {
			return nil, err
		}
	}
	if len(f.head) < 54 || len(f.hhea) < 36 || len(f.maxp) < 32 {
		return nil, errors.New("head, hhea or maxp is too short")
	}
	f.upem = int(binary.BigEndian.Uint16(f.head[18:]))
	f.long = binary.BigEndian.Uint16(f.head[50:]) == 1
	f.glyphs = int(binary.BigEndian.Uint16(f.maxp[4:]))
	f.metrics = int(binary.BigEndian.Uint16(f.hhea[34:]))
	entry := 2
	if f.long {
		entry = 4
	}
	if f.upem == 0 || f.metrics == 0 || len(f.hmtx) < 4*f.metrics || len(f.loca) < entry*(f.glyphs+1) {
		return nil, errors.New("hmtx or loca is too short for the number of glyphs")
	}
	return f, nil
}

func findTable(ttf []byte, tag string) ([]byte, error) {
	for i := range int(binary.BigEndian.Uint16(ttf[4:])) {
		rec := ttf[12+16*i:]
		if string(rec[:4]) != tag {
			continue
		}
		off, n := int(binary.BigEndian.Uint32(rec[8:])), int(binary.BigEndian.Uint32(rec[12:]))
		if off < 0 || n < 0 || off > len(ttf) || n > len(ttf)-off {
			return nil, fmt.Errorf("table %s reaches beyond the file", tag)
		}
		return ttf[off : off+n], nil
	}
	return nil, fmt.Errorf("table %s is missing", tag)
}

// Name is the PostScript name of the face.
func (f *Face) Name() string { return f.name }

// StemV is the thickness of vertical stems, for the font descriptor (ISO 32000-1, 9.8.1).
func (f *Face) StemV() int { return f.stem }

// Ascent and Descent (negative) are the typographic limits from hhea.
func (f *Face) Ascent() int  { return f.scale(int16At(f.hhea, 4)) }
func (f *Face) Descent() int { return f.scale(int16At(f.hhea, 6)) }

// CapHeight is the height of the capital H.
func (f *Face) CapHeight() int {
	id, ok := f.Glyph('H')
	if !ok {
		return f.Ascent()
	}
	return f.Bounds(id).MaxY
}

// BBox encloses every glyph of the face.
func (f *Face) BBox() Box { return f.box(f.head[36:]) }

// Glyph returns the glyph of r; false when the face has none.
func (f *Face) Glyph(r rune) (GlyphID, bool) {
	var buf sfnt.Buffer
	id, err := f.font.GlyphIndex(&buf, r)
	return id, err == nil && id != 0
}

// Advance is the width of a glyph as it goes into PDF's Widths, rounded to a thousandth of an em.
func (f *Face) Advance(id GlyphID) int {
	i := min(int(id), f.metrics-1)
	return f.scale(int(binary.BigEndian.Uint16(f.hmtx[4*i:])))
}

// Bounds is the box around a glyph's ink; the zero Box for one without ink.
func (f *Face) Bounds(id GlyphID) Box {
	g := f.program(id)
	if len(g) < 10 {
		return Box{}
	}
	return f.box(g[2:])
}

// Outline is a glyph's contours: a font unit (of UnitsPerEm) is one pixel of 26.6 fixed point, and y grows downwards as sfnt has it.
func (f *Face) Outline(id GlyphID) (sfnt.Segments, error) {
	var buf sfnt.Buffer
	segs, err := f.font.LoadGlyph(&buf, id, fixed.I(f.upem), nil)
	if err != nil {
		return nil, fmt.Errorf("fonts: outline of glyph %d of %s: %w", id, f.name, err)
	}
	return segs, nil
}

// UnitsPerEm is the number of font units in an em.
func (f *Face) UnitsPerEm() int { return f.upem }

// program is a glyph's bytes in the glyf table; empty for a glyph without ink.
func (f *Face) program(id GlyphID) []byte {
	i := int(id)
	if i >= f.glyphs {
		return nil
	}
	var from, to int
	if f.long {
		from, to = int(binary.BigEndian.Uint32(f.loca[4*i:])), int(binary.BigEndian.Uint32(f.loca[4*i+4:]))
	} else {
		from, to = 2*int(binary.BigEndian.Uint16(f.loca[2*i:])), 2*int(binary.BigEndian.Uint16(f.loca[2*i+2:]))
	}
	if from >= to || to > len(f.glyf) {
		return nil
	}
	return f.glyf[from:to]
}

func (f *Face) box(b []byte) Box {
	return Box{f.scale(int16At(b, 0)), f.scale(int16At(b, 2)), f.scale(int16At(b, 4)), f.scale(int16At(b, 6))}
}

// scale turns font units into thousandths of an em, rounding half away from zero.
func (f *Face) scale(v int) int {
	half := f.upem / 2
	if v < 0 {
		half = -half
	}
	return (v*1000 + half) / f.upem
}

func int16At(b []byte, i int) int { return int(int16(binary.BigEndian.Uint16(b[i:]))) }
