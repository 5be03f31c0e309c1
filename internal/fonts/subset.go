package fonts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Subset returns a TrueType program that holds the glyphs of the given characters and nothing else: no hinting (print and modern
// screens use none), a Unicode cmap (platform 3, encoding 1), and glyph names in the form uniXXXX, so that a simple PDF font with
// Differences finds each glyph by either way of ISO 32000-1, 9.6.6.4. The same characters give the same bytes.
// runes is sorted and within the Basic Multilingual Plane; a character that the face lacks is an error.
func (f *Face) Subset(runes []rune) ([]byte, error) {
	s := subset{face: f, index: map[GlyphID]int{}}
	s.add(0) // .notdef
	for _, r := range runes {
		id, ok := f.Glyph(r)
		if !ok || r > 0xffff {
			return nil, fmt.Errorf("fonts: %s: no glyph for U+%04X", f.name, r)
		}
		s.add(id)
	}
	glyf, loca, err := s.outlines()
	if err != nil {
		return nil, err
	}
	n := len(s.ids)
	head := slices.Clone(f.head)
	binary.BigEndian.PutUint32(head[8:], 0)  // checkSumAdjustment is set by assemble
	binary.BigEndian.PutUint16(head[50:], 1) // indexToLocFormat: long
	hhea := slices.Clone(f.hhea)
	binary.BigEndian.PutUint16(hhea[34:], uint16(n))
	maxp := slices.Clone(f.maxp)
	binary.BigEndian.PutUint16(maxp[4:], uint16(n))
	clear(maxp[14:28]) // no zones, storage, functions, stack or instructions: the glyphs carry no program
	binary.BigEndian.PutUint16(maxp[14:], 1)
	return assemble([]table{
		{"cmap", s.cmap(runes)}, {"glyf", glyf}, {"head", head}, {"hhea", hhea}, {"hmtx", s.hmtx()},
		{"loca", loca}, {"maxp", maxp}, {"post", s.post(runes)},
	}), nil
}

// subset numbers the glyphs that go into the new program, in the order in which they are first needed.
type subset struct {
	face  *Face
	ids   []GlyphID
	index map[GlyphID]int
}

func (s *subset) add(id GlyphID) int {
	if i, ok := s.index[id]; ok {
		return i
	}
	s.index[id] = len(s.ids)
	s.ids = append(s.ids, id)
	return len(s.ids) - 1
}

// outlines returns glyf and a long loca. Components of composite glyphs join the list while it is walked.
func (s *subset) outlines() (glyf, loca []byte, err error) {
	for i := 0; i < len(s.ids); i++ {
		loca = binary.BigEndian.AppendUint32(loca, uint32(len(glyf)))
		g := s.face.program(s.ids[i])
		switch {
		case len(g) < 10:
		case int16At(g, 0) >= 0:
			glyf, err = appendSimple(glyf, g)
		default:
			glyf, err = s.appendComposite(glyf, g)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("fonts: glyph %d of %s: %w", s.ids[i], s.face.name, err)
		}
		for len(glyf)%4 != 0 {
			glyf = append(glyf, 0)
		}
	}
	return glyf, binary.BigEndian.AppendUint32(loca, uint32(len(glyf))), nil
}

var errShort = errors.New("outline ends early")

// appendSimple copies a simple glyph without its instructions.
func appendSimple(out, g []byte) ([]byte, error) {
	ends := 10 + 2*int16At(g, 0)
	if len(g) < ends+2 {
		return nil, errShort
	}
	program := int(binary.BigEndian.Uint16(g[ends:]))
	if len(g) < ends+2+program {
		return nil, errShort
	}
	out = append(append(out, g[:ends]...), 0, 0)
	return append(out, g[ends+2+program:]...), nil
}

// Flags of composite glyphs (OpenType 1.9, glyf).
const (
	argsAreWords   = 1 << 0
	haveScale      = 1 << 3
	moreComponents = 1 << 5
	haveXYScale    = 1 << 6
	haveTwoByTwo   = 1 << 7
	haveProgram    = 1 << 8
)

// appendComposite copies a composite glyph with its components renumbered and without instructions.
func (s *subset) appendComposite(out, g []byte) ([]byte, error) {
	out = append(out, g[:10]...)
	for p := 10; ; {
		if len(g) < p+4 {
			return nil, errShort
		}
		flags := binary.BigEndian.Uint16(g[p:])
		size := 6
		if flags&argsAreWords != 0 {
			size += 2
		}
		switch {
		case flags&haveScale != 0:
			size += 2
		case flags&haveXYScale != 0:
			size += 4
		case flags&haveTwoByTwo != 0:
			size += 8
		}
		if len(g) < p+size {
			return nil, errShort
		}
		out = binary.BigEndian.AppendUint16(out, flags&^haveProgram)
		out = binary.BigEndian.AppendUint16(out, uint16(s.add(GlyphID(binary.BigEndian.Uint16(g[p+2:])))))
		out = append(out, g[p+4:p+size]...)
		if flags&moreComponents == 0 {
			return out, nil
		}
		p += size
	}
}

func (s *subset) hmtx() []byte {
	f := s.face
	var out []byte
	for _, id := range s.ids {
		i := int(id)
		full := min(i, f.metrics-1)
		out = append(out, f.hmtx[4*full:4*full+2]...)
		bearing := 4*full + 2
		if i >= f.metrics {
			bearing = 4*f.metrics + 2*(i-f.metrics)
		}
		out = append(out, f.hmtx[bearing:bearing+2]...)
	}
	return out
}

// cmap is one format 4 subtable with a segment for each run of consecutive characters and glyphs.
func (s *subset) cmap(runes []rune) []byte {
	type segment struct{ first, last, delta int }
	var segs []segment
	for _, r := range runes {
		id, _ := s.face.Glyph(r)
		delta := s.index[id] - int(r)
		if n := len(segs); n > 0 && segs[n-1].last == int(r)-1 && segs[n-1].delta == delta {
			segs[n-1].last = int(r)
			continue
		}
		segs = append(segs, segment{int(r), int(r), delta})
	}
	if n := len(segs); n == 0 || segs[n-1].last != 0xffff {
		segs = append(segs, segment{0xffff, 0xffff, 1})
	}
	n := len(segs)
	search, log := powerBelow(n)
	u16 := binary.BigEndian.AppendUint16
	out := []byte{0, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0, 12, 0, 4}
	out = u16(out, uint16(16+8*n))
	out = u16(out, 0)
	for _, v := range []int{2 * n, 2 * search, log, 2*n - 2*search} {
		out = u16(out, uint16(v))
	}
	for _, g := range segs {
		out = u16(out, uint16(g.last))
	}
	out = u16(out, 0)
	for _, g := range segs {
		out = u16(out, uint16(g.first))
	}
	for _, g := range segs {
		out = u16(out, uint16(g.delta))
	}
	for range segs {
		out = u16(out, 0)
	}
	return out
}

// post is version 2.0: .notdef, then a name of its own for each glyph (258 and up are the strings that follow).
func (s *subset) post(runes []rune) []byte {
	names := make([]string, len(s.ids))
	for _, r := range runes {
		id, _ := s.face.Glyph(r)
		names[s.index[id]] = GlyphName(r)
	}
	out := make([]byte, 32)
	binary.BigEndian.PutUint32(out, 0x00020000)
	out = binary.BigEndian.AppendUint16(out, uint16(len(s.ids)))
	var strings []byte
	for i, name := range names {
		switch {
		case i == 0:
			out = append(out, 0, 0)
			continue
		case name == "":
			name = fmt.Sprintf("part%d", i)
		}
		out = binary.BigEndian.AppendUint16(out, uint16(257+i))
		strings = append(append(strings, byte(len(name))), name...)
	}
	return append(out, strings...)
}

// GlyphName is the name that the Adobe Glyph List specification gives any character of the Basic Multilingual Plane.
func GlyphName(r rune) string { return fmt.Sprintf("uni%04X", r) }

type table struct {
	tag  string
	data []byte
}

// assemble writes the table directory and the tables, which come sorted by tag, with checksums (OpenType 1.9, "Calculating checksums").
func assemble(tables []table) []byte {
	n := len(tables)
	search, log := powerBelow(n)
	out := []byte{0, 1, 0, 0}
	for _, v := range []int{n, 16 * search, log, 16 * (n - search)} {
		out = binary.BigEndian.AppendUint16(out, uint16(v))
	}
	at, head := len(out)+16*n, 0
	for _, t := range tables {
		if t.tag == "head" {
			head = at
		}
		out = append(out, t.tag...)
		out = binary.BigEndian.AppendUint32(out, checksum(t.data))
		out = binary.BigEndian.AppendUint32(out, uint32(at))
		out = binary.BigEndian.AppendUint32(out, uint32(len(t.data)))
		at += (len(t.data) + 3) &^ 3
	}
	for _, t := range tables {
		out = append(out, t.data...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	binary.BigEndian.PutUint32(out[head+8:], 0xb1b0afba-checksum(out))
	return out
}

// powerBelow is the largest power of two that is not above n, and its logarithm: what binary searches start from.
func powerBelow(n int) (power, log int) {
	log = bits.Len(uint(n)) - 1
	return 1 << log, log
}

func checksum(b []byte) (sum uint32) {
	for len(b) >= 4 {
		sum += binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	var last [4]byte
	copy(last[:], b)
	return sum + binary.BigEndian.Uint32(last[:])
}
