package prescription

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/encoding/charmap"

	"github.com/veripath/aes-appliance/internal/fonts"
)

// encoding gives characters of one face their codes in a simple font: WinAnsiEncoding where it has the character, and codes that are free otherwise,
// listed as Differences by glyph name (ISO 32000-1, 9.6.6).
type encoding struct {
	face     *fonts.Face
	standard bool   // it holds the standard characters of its face, and is shared; another one holds what a page needs besides
	runes    []rune // sorted
	codes    map[rune]byte
	extra    []rune // those that WinAnsiEncoding lacks, sorted
	font     *font  // of a standard one
}

// font is what an encoding is in a file (ISO 32000-1, 9.6.3 and 9.8): two dictionaries that lack the reference to the next object and their end, and the
// program.
type font struct {
	dict, descriptor string
	program          []byte
	entries          string // of the program's stream
}

// standardEncoding cuts a face to the standard characters, and compresses that as well as can be.
func standardEncoding(face *fonts.Face) (*encoding, error) {
	e := &encoding{face: face, standard: true, runes: fonts.StandardRunes(), codes: map[rune]byte{}}
	if err := e.assign(); err != nil {
		return nil, err
	}
	f, err := e.embed()
	if err != nil {
		return nil, err
	}
	var z bytes.Buffer
	w, err := zlib.NewWriterLevel(&z, zlib.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(f.program)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	f.program, f.entries = z.Bytes(), f.entries+" /Filter /FlateDecode"
	e.font = f
	return e, nil
}

// encode gives each glyph of the texts an encoding: a standard one, or for the other characters of a face one of the page's own, in the order of their
// first use after the standard ones.
func encode(texts []placedText, standard []*encoding) ([]*encoding, error) {
	all := slices.Clone(standard)
	for _, t := range texts {
		for _, g := range t.line.Glyphs {
			if g.Mark { // drawn as a path
				continue
			}
			i := encodingOf(all, g)
			if i < 0 {
				i = len(all)
				all = append(all, &encoding{face: g.Face, codes: map[rune]byte{}})
			}
			e := all[i]
			if e.standard {
				continue
			}
			if _, known := e.codes[g.Rune]; !known {
				e.codes[g.Rune] = 0
				e.runes = append(e.runes, g.Rune)
			}
		}
	}
	for _, e := range all[len(standard):] {
		if err := e.assign(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// encodingOf finds the encoding that is for g: the first of its face that can have it.
func encodingOf(all []*encoding, g fonts.Glyph) int {
	return slices.IndexFunc(all, func(e *encoding) bool {
		if e.face != g.Face {
			return false
		}
		_, ok := fonts.StandardCode(g.Rune)
		return ok || !e.standard
	})
}

// errTooVaried: a simple font has 224 codes. No text of the lengths that Validate allows meets it in practice.
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

// embed cuts the face to the characters in use and writes what a file says of it. Flags: nonsymbolic (ISO 32000-1, table 123).
func (e *encoding) embed() (*font, error) {
	program, err := e.face.Subset(e.runes)
	if err != nil {
		return nil, err
	}
	name, box := subsetTag(program)+"+"+e.face.Name(), e.face.BBox()
	return &font{
		dict: fmt.Sprintf("<< /Type /Font /Subtype /TrueType /BaseFont /%s /Encoding %s %s /FontDescriptor ", name, e.winAnsi(), e.widths()),
		descriptor: fmt.Sprintf("<< /Type /FontDescriptor /FontName /%s /Flags 32 /FontBBox [%d %d %d %d] /ItalicAngle 0 /Ascent %d /Descent %d /CapHeight %d /StemV %d /FontFile2 ",
			name, box.MinX, box.MinY, box.MaxX, box.MaxY, e.face.Ascent(), e.face.Descent(), e.face.CapHeight(), e.face.StemV()),
		program: program, entries: fmt.Sprintf(" /Length1 %d", len(program)),
	}, nil
}

// subsetTag is six capitals that differ between subsets (ISO 32000-1, 9.6.4).
func subsetTag(program []byte) string {
	sum := sha256.Sum256(program)
	tag := make([]byte, 6)
	for i := range tag {
		tag[i] = 'A' + sum[i]%26
	}
	return string(tag)
}

// widths are the advances of the codes in use, from the first to the last.
func (e *encoding) widths() string {
	var w [256]int
	first, last := 255, 0
	for r, c := range e.codes {
		id, _ := e.face.Glyph(r)
		w[c] = e.face.Advance(id)
		first, last = min(first, int(c)), max(last, int(c))
	}
	return fmt.Sprintf("/FirstChar %d /LastChar %d /Widths %d", first, last, w[first:last+1])
}

// winAnsi is an Encoding: WinAnsiEncoding, and what was put at codes that are free.
func (e *encoding) winAnsi() string {
	if len(e.extra) == 0 {
		return "/WinAnsiEncoding"
	}
	var b strings.Builder
	b.WriteString("<< /Type /Encoding /BaseEncoding /WinAnsiEncoding /Differences [")
	for _, r := range e.extra {
		fmt.Fprintf(&b, "%d /%s ", e.codes[r], fonts.GlyphName(r))
	}
	return strings.TrimSpace(b.String()) + "] >>"
}

// appendText appends the codes of glyphs as a literal string (ISO 32000-1, 7.3.4.2). No code is below 32.
func (e *encoding) appendText(b []byte, glyphs []fonts.Glyph) []byte {
	b = append(b, '(')
	for _, g := range glyphs {
		c := e.codes[g.Rune]
		if c == '(' || c == ')' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, ')')
}
