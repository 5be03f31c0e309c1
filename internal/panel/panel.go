// Package panel draws what a visible signature shows: a PDF content stream for an appearance XObject (ISO 32000-1, 12.5.5), the same for the same input. It
// is set in the fonts that the document has for it; with none of them every letter is an outline, which needs no resource of any kind. The package is pure.
package panel

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"sync"
	"unicode/utf8"

	"github.com/klauspost/compress/zlib"
	"golang.org/x/image/font/sfnt"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
)

// Panel is the text of a signature panel and its size in points. Texts are set as large as fits, and wrapped.
type Panel struct {
	Width, Height float64
	Heading       string   // small, at the top: "Signed electronically by"
	Name          string   // large
	Details       []string // what identifies the signer and the time, a line each
	Note          string   // small, at the bottom
	// Fonts are the names that the XObject's resources have for simple fonts with WinAnsiEncoding and all of fonts.StandardCode, by the name of their face.
	// A line of one of these faces and those characters is text; any other is drawn as outlines.
	Fonts map[string]string
}

// Limits of a panel: points, and characters of all texts together.
const (
	minSide, maxSide = 10, 5000
	maxText          = 1000
)

type colour string // operands of rg

const (
	navy colour = ".07 .21 .36 rg\n"
	ink  colour = ".08 .1 .13 rg\n"
	grey colour = ".34 .39 .45 rg\n"
)

type role struct {
	weight fonts.Weight
	size   float64 // in points at the scale of a panel of 25 mm
	before float64 // room above it
	colour colour
}

var (
	heading = role{fonts.Regular, 6.6, 0, grey}
	name    = role{fonts.Bold, 11.5, 1.5, navy}
	detail  = role{fonts.Regular, 7.8, 0.8, ink}
	note    = role{fonts.Regular, 6, 2.4, grey}
)

const (
	leading  = 1.22
	smallest = 3.5 // points of the smallest type that is still legible in print
)

type block struct {
	role
	line fonts.Line // unwrapped
}

// Drawer draws panels. It keeps the outlines that it has drawn (a few kilobytes in practice, 5 MB if every glyph were asked for): make one and
// keep it. It is safe for concurrent use.
type Drawer struct {
	fonts    *fonts.Set
	outlines sync.Map  // of glyphKey to []byte
	deflate  sync.Pool // of *zlib.Writer, which is large
}

type glyphKey struct {
	face *fonts.Face
	id   fonts.GlyphID
}

// NewDrawer returns a Drawer that sets text in set.
func NewDrawer(set *fonts.Set) *Drawer { return &Drawer{fonts: set} }

// Compress returns a content stream as FlateDecode reads it (ISO 32000-1, 7.4.4): outlines shrink to a fifth.
func (d *Drawer) Compress(content []byte) []byte {
	w, _ := d.deflate.Get().(*zlib.Writer)
	var b bytes.Buffer
	if w == nil {
		w, _ = zlib.NewWriterLevel(&b, zlib.BestSpeed) // the level is valid
	} else {
		w.Reset(&b)
	}
	w.Write(content) // a bytes.Buffer takes everything
	w.Close()
	d.deflate.Put(w)
	return b.Bytes()
}

// Draw returns the content stream for p, whose BBox is [0 0 Width Height] and whose Resources are Fonts. Errors are faults of kind Invalid: a
// character that cannot be printed, or a panel too small for its text.
func (d *Drawer) Draw(p Panel) ([]byte, error) {
	if !(p.Width >= minSide && p.Width <= maxSide && p.Height >= minSide && p.Height <= maxSide) {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("a signature panel's sides must be between %d and %d points", minSide, maxSide))
	}
	blocks, err := shape(d.fonts, p)
	if err != nil {
		return nil, err
	}
	// The size follows the panel's height, within reason, and gives way where the text is long.
	for scale := min(max(p.Height/70.87, 0.7), 2.5); scale*note.size >= smallest; scale *= 0.94 {
		c := canvas{drawer: d, scale: scale, width: p.Width}
		if texts, height := c.wrap(blocks); height <= p.Height-2*c.pad() {
			return c.draw(p, texts, height)
		}
	}
	return nil, fault.New(fault.Invalid, "the signature panel is too small for its text").WithHint("make the rectangle larger, 70 by 25 mm, say")
}

type item struct {
	role
	text string
}

// shape sets each text on one line.
func shape(set *fonts.Set, p Panel) ([]block, error) {
	items := []item{{heading, p.Heading}, {name, p.Name}}
	for _, d := range p.Details {
		items = append(items, item{detail, d})
	}
	items = append(items, item{note, p.Note})
	var blocks []block
	total := 0
	for _, it := range items {
		if total += utf8.RuneCountInString(it.text); total > maxText {
			return nil, fault.New(fault.TooLarge, fmt.Sprintf("a signature panel's text is longer than %d characters", maxText))
		}
		line, err := set.Shape(it.weight, it.text)
		if err != nil {
			return nil, fault.New(fault.Invalid, "signature panel: "+err.Error())
		}
		if len(line.Glyphs) > 0 {
			blocks = append(blocks, block{it.role, line})
		}
	}
	return blocks, nil
}

// canvas is the panel at one scale.
type canvas struct {
	drawer       *Drawer
	scale, width float64
	out          []byte
}

func (c *canvas) pad() float64 { return 5 * c.scale }

// bar is the coloured edge on the left.
func (c *canvas) bar() float64 { return 2.4 * c.scale }

type placed struct {
	role
	line fonts.Line
	down float64 // of the baseline from the top of the text
}

// wrap breaks the blocks into lines and returns them with the height of it all.
func (c *canvas) wrap(blocks []block) (lines []placed, height float64) {
	room := c.width - c.bar() - 2*c.pad()
	for _, b := range blocks {
		size := b.size * c.scale
		if len(lines) > 0 {
			height += b.before * c.scale
		}
		for _, l := range b.line.Wrap(int(room / size * 1000)) {
			lines = append(lines, placed{b.role, l, height + 0.95*size})
			height += leading * size
			if float64(l.Width)*size/1000 > room { // not even a letter fits
				height = math.Inf(1)
			}
		}
	}
	return lines, height
}

// draw writes a white ground, the bar and the lines, which stand in the middle of the height.
func (c *canvas) draw(p Panel, lines []placed, height float64) ([]byte, error) {
	room := 200
	for _, l := range lines {
		if fontOf(l.line, p.Fonts) != "" {
			room += 80 + len(l.line.Glyphs)
		} else {
			room += 400 * len(l.line.Glyphs) // an outline takes about 330 bytes
		}
	}
	c.out = make([]byte, 0, room)
	c.op("1 g\n", "re f\n", 0, 0, p.Width, p.Height)
	c.op(string(navy), "re f\n", 0, 0, c.bar(), p.Height)
	top := p.Height - (p.Height-height)/2
	var last colour
	for _, l := range lines {
		if l.colour != last {
			c.out = append(c.out, l.colour...)
			last = l.colour
		}
		x, y := c.bar()+c.pad(), top-l.down
		if font := fontOf(l.line, p.Fonts); font != "" {
			c.text(font, l, x, y)
			continue
		}
		k := l.size * c.scale / 1000
		c.op("q", "cm\n", k, 0, 0, k, x, y)
		for _, g := range l.line.Glyphs {
			if err := c.glyph(g); err != nil {
				return nil, err
			}
		}
		c.out = append(c.out, "Q\n"...)
	}
	return c.out, nil
}

// fontOf is the name of the font that has all of a line, "" when there is none.
func fontOf(line fonts.Line, named map[string]string) string {
	if len(named) == 0 || len(line.Glyphs) == 0 {
		return ""
	}
	face := line.Glyphs[0].Face
	for _, g := range line.Glyphs {
		if _, ok := fonts.StandardCode(g.Rune); !ok || g.Face != face || g.Mark {
			return ""
		}
	}
	return named[face.Name()]
}

// text shows a line as a string (ISO 32000-1, 9.4.3).
func (c *canvas) text(font string, l placed, x, y float64) {
	c.out = append(append(append(c.out, "BT /"...), font...), ' ')
	c.op("", "Tf ", l.size*c.scale)
	c.op("", "Td (", x, y)
	for _, g := range l.line.Glyphs {
		code, _ := fonts.StandardCode(g.Rune) // fontOf has seen to it
		if code == '(' || code == ')' || code == '\\' {
			c.out = append(c.out, '\\')
		}
		c.out = append(c.out, code)
	}
	c.out = append(c.out, ") Tj ET\n"...)
}

// glyph fills one outline, in thousandths of an em. The outline's own numbers do not depend on where it stands, so that it is made once
// and a compressor finds each letter again.
func (c *canvas) glyph(g fonts.Glyph) error {
	path, err := c.drawer.outline(g)
	if err != nil || len(path) == 0 {
		return err
	}
	c.op("q", "cm\n", 1, 0, 0, 1, float64(g.X), float64(g.Y))
	c.out = append(append(c.out, path...), "f Q\n"...)
	return nil
}

// outline returns the path of a glyph, empty for a space.
func (d *Drawer) outline(g fonts.Glyph) ([]byte, error) {
	key := glyphKey{g.Face, g.ID}
	if path, ok := d.outlines.Load(key); ok {
		return path.([]byte), nil
	}
	segments, err := g.Face.Outline(g.ID)
	if err != nil {
		return nil, err
	}
	var c canvas
	k := 1000 / float64(g.Face.UnitsPerEm()) / 64
	at := func(s sfnt.Segment, i int) (x, y float64) { return float64(s.Args[i].X) * k, -float64(s.Args[i].Y) * k }
	var x, y float64 // the current point
	for _, s := range segments {
		switch s.Op {
		case sfnt.SegmentOpMoveTo:
			x, y = at(s, 0)
			c.op("", "m\n", math.Round(x), math.Round(y))
		case sfnt.SegmentOpLineTo:
			x, y = at(s, 0)
			c.op("", "l\n", math.Round(x), math.Round(y))
		case sfnt.SegmentOpQuadTo: // raised to a cubic, the only curve that PDF has
			x1, y1 := at(s, 0)
			x2, y2 := at(s, 1)
			c.op("", "c\n", math.Round((x+2*x1)/3), math.Round((y+2*y1)/3), math.Round((x2+2*x1)/3), math.Round((y2+2*y1)/3), math.Round(x2), math.Round(y2))
			x, y = x2, y2
		default:
			return nil, fmt.Errorf("panel: glyph %d of %s has a cubic outline", g.ID, g.Face.Name())
		}
	}
	d.outlines.Store(key, c.out)
	return c.out, nil
}

// op writes operands between two pieces of text, with at most five decimals.
func (c *canvas) op(before, after string, operands ...float64) {
	c.out = append(c.out, before...)
	for _, v := range operands { // + 0 turns a negative zero into zero
		if n := len(c.out); n > 0 && c.out[n-1] != '\n' && c.out[n-1] != ' ' {
			c.out = append(c.out, ' ')
		}
		c.out = strconv.AppendFloat(c.out, math.Round(v*1e5)/1e5+0, 'f', -1, 64)
	}
	c.out = append(append(c.out, ' '), after...)
}
