package fonts

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/image/font/sfnt"
)

func newSet(t testing.TB) *Set {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestShapeTakesTheFirstFaceThatHasAll(t *testing.T) {
	s := newSet(t)
	for _, c := range []struct{ text, face string }{
		{"Doctor Clinician", "LiberationSans"},
		{"Zoë Nguyễn Łukasz Şahin Ћирић Παπαδόπουλος", "LiberationSans"},
		{"Անահիտ", "DejaVuSans"},
		{"თამარ", "DejaVuSans"},
		{"ꜥ", "DejaVuSans"},
	} {
		line, err := s.Shape(Regular, c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		for _, g := range line.Glyphs {
			if g.Rune != ' ' && g.Face.Name() != c.face {
				t.Errorf("%q: %q is set in %s, want %s", c.text, g.Rune, g.Face.Name(), c.face)
			}
		}
	}
}

func TestShapeComposes(t *testing.T) {
	s := newSet(t)
	a, _ := s.Shape(Bold, "Zo\u0065\u0308 A\u030a")
	b, _ := s.Shape(Bold, "Zoë Å")
	if !reflect.DeepEqual(a, b) {
		t.Error("decomposed and composed text are set differently")
	}
}

func TestMarksAreCentredAndStacked(t *testing.T) {
	s := newSet(t)
	for _, text := range []string{"ọ́", "Ẹ̀", "m̀", "i̊̃", "s̩"} {
		line, err := s.Shape(Regular, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		base := line.Glyphs[0]
		if line.Width != base.Face.Advance(base.ID) {
			t.Errorf("%q: marks take room: width %d", text, line.Width)
		}
		ink := base.Face.Bounds(base.ID)
		for _, g := range line.Glyphs[1:] {
			b := g.Face.Bounds(g.ID)
			if !g.Mark || abs((b.MinX+b.MaxX)/2+g.X-(ink.MinX+ink.MaxX)/2) > 1 {
				t.Errorf("%q: mark U+%04X is off centre", text, g.Rune)
			}
			if low, high := b.MinY+g.Y, b.MaxY+g.Y; low < ink.MaxY && high > ink.MinY {
				t.Errorf("%q: mark U+%04X overlaps its letter", text, g.Rune)
			}
			ink.MaxY, ink.MinY = max(ink.MaxY, b.MaxY+g.Y), min(ink.MinY, b.MinY+g.Y)
		}
	}
}

func TestShapeRefuses(t *testing.T) {
	s := newSet(t)
	for _, c := range []struct {
		text string
		r    rune
		why  string
	}{
		{"王伟", '王', "no built-in typeface"},
		{"محمد", 'م', "right to left"},
		{"דוד", 'ד', "right to left"},
		{"अमित", 'अ', "no built-in typeface"},
		{"ກະ", 'ກ', ""}, // Lao letters stand alone, its vowel signs do not
		{"a\u200bb", 0x200b, "invisible"},
		{"a\u202eb", 0x202e, "invisible"},
		{"a\tb", '\t', "invisible"},
		{"a\nb", '\n', "invisible"},
		{"a\x00b", 0, "invisible"},
		{"a\xffb", 0xfffd, "damaged"},
		{"\u0301a", 0x301, "without a letter"},
		{"a\u0489", 0x489, "placing of this mark"},
		{"😀", '😀', "no built-in typeface"},
		{"\ue000", 0xe000, "invisible"},
	} {
		_, err := s.Shape(Regular, c.text)
		if c.why == "" {
			if err != nil {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		var u *UnsupportedError
		if !errors.As(err, &u) || u.Rune != c.r || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q: got %v, want U+%04X %q", c.text, err, c.r, c.why)
		}
	}
}

func TestWidths(t *testing.T) {
	line, err := newSet(t).Shape(Regular, "Hi.")
	if err != nil {
		t.Fatal(err)
	}
	// Arial's published widths: H 722, i 222, period 278.
	if line.Width != 722+222+278 || line.Glyphs[2].X != 944 {
		t.Errorf("width %d, last glyph at %d", line.Width, line.Glyphs[2].X)
	}
}

// A subset holds the same outlines and widths as the face that it was cut from, and only those.
func TestSubset(t *testing.T) {
	s := newSet(t)
	runes := []rune(" -0123456789ABCabcijéạọử–ﬁ")
	for _, list := range s.faces {
		for _, f := range list {
			program, err := f.Subset(runes)
			if err != nil {
				t.Fatal(err)
			}
			if checksum(program) != 0xb1b0afba {
				t.Errorf("%s: checksum of the file is %#x", f.name, checksum(program))
			}
			cut, err := parseFace("cut", 0, program)
			if err != nil {
				t.Fatal(err)
			}
			if len(program) > 14000 {
				t.Errorf("%s: %d bytes", f.name, len(program))
			}
			for _, r := range runes {
				id, _ := f.Glyph(r)
				got, ok := cut.Glyph(r)
				if !ok || cut.Advance(got) != f.Advance(id) || cut.Bounds(got) != f.Bounds(id) {
					t.Fatalf("%s: %q: glyph %d, advance %d, bounds %v", f.name, r, got, cut.Advance(got), cut.Bounds(got))
				}
				want, err := f.Outline(id)
				if err != nil {
					t.Fatal(err)
				}
				have, err := cut.Outline(got)
				if err != nil || !reflect.DeepEqual(have, want) {
					t.Fatalf("%s: %q: other outline (%v)", f.name, r, err)
				}
				var buf sfnt.Buffer
				if name, err := cut.font.GlyphName(&buf, got); err != nil || (name != GlyphName(r)) {
					t.Errorf("%s: %q is named %q (%v)", f.name, r, name, err)
				}
			}
			if _, ok := cut.Glyph('Z'); ok {
				t.Errorf("%s: the subset has a Z", f.name)
			}
		}
	}
}

// The cmap read here and the one that sfnt reads are the same.
func TestGlyph(t *testing.T) {
	var buf sfnt.Buffer
	for _, list := range newSet(t).faces {
		for _, f := range list {
			for r := rune(0); r < 0xffff; r++ {
				want, err := f.font.GlyphIndex(&buf, r)
				if got, ok := f.Glyph(r); err != nil || got != want || ok != (want != 0) {
					t.Fatalf("%s: U+%04X: glyph %d, want %d (%v)", f.name, r, got, want, err)
				}
			}
		}
	}
}

func TestSubsetOfUnknownCharacter(t *testing.T) {
	if _, err := newSet(t).faces[0][0].Subset([]rune{'王'}); err == nil {
		t.Error("no error")
	}
}

func FuzzShape(f *testing.F) {
	s := newSet(f)
	for _, seed := range []string{"Doctor Clinician", "ọ́ Ẹ̀", "محمد", "e\u0301\u0301\u0301", "\xff\xfe", strings.Repeat("a\u0323", 50)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line, err := s.Shape(Regular, text)
		if err != nil {
			return
		}
		for _, g := range line.Glyphs {
			if g.ID == 0 {
				t.Fatalf("%q: %U is set as a box", text, g.Rune)
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		newSet(b)
	}
}

func BenchmarkShape(b *testing.B) {
	s := newSet(b)
	for b.Loop() {
		if _, err := s.Shape(Regular, "Take ONE capsule THREE times a day for seven days"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSubset(b *testing.B) {
	f := newSet(b).faces[0][0]
	for b.Loop() {
		if _, err := f.Subset([]rune(" ,-./0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")); err != nil {
			b.Fatal(err)
		}
	}
}

func abs(v int) int { return max(v, -v) }
