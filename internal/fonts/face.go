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
	cmap    [256]*[256]GlyphID // by the character's two bytes: the Basic Multilingual Plane

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
	table, err := findTable(ttf, "cmap")
	if err != nil {
		return nil, err
	}
	return f, f.readCmap(table)
}

// readCmap takes the Unicode subtable of format 4 apart (OpenType 1.9, cmap).
func (f *Face) readCmap(b []byte) error {
	u16 := func(i int) int {
		if i+2 > len(b) {
			return 0
		}
		return int(binary.BigEndian.Uint16(b[i:]))
	}
	for rec := 4; rec < 4+8*u16(2); rec += 8 {
		t := u16(rec+4)<<16 | u16(rec+6)
		if u16(rec) != 3 || u16(rec+2) != 1 || u16(t) != 4 {
			continue
		}
		n := u16(t + 6) // twice the number of segments
		for s := t + 14; s < t+14+n; s += 2 {
			first, last, delta, at := u16(s+n+2), u16(s), u16(s+2*n+2), s+3*n+2
			for r := first; r <= last && r < 0xffff; r++ {
				id := r
				if off := u16(at); off != 0 {
					id = u16(at + off + 2*(r-first))
					if id == 0 {
						continue
					}
				}
				f.setGlyph(r, GlyphID(id+delta))
			}
		}
		return nil
	}
	return errors.New("no cmap for the Basic Multilingual Plane")
}

func (f *Face) setGlyph(r int, id GlyphID) {
	page := &f.cmap[r>>8]
	if *page == nil {
		*page = new([256]GlyphID)
	}
	(*page)[r&0xff] = id
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

// Glyph returns the glyph of r; false when the face has none, or r lies beyond the Basic Multilingual Plane.
func (f *Face) Glyph(r rune) (GlyphID, bool) {
	if r < 0 || r > 0xffff || f.cmap[r>>8] == nil {
		return 0, false
	}
	id := f.cmap[r>>8][r&0xff]
	return id, id != 0
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
