package panel

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
)

func newDrawer(t testing.TB) *Drawer {
	t.Helper()
	s, err := fonts.New()
	if err != nil {
		t.Fatal(err)
	}
	return NewDrawer(s)
}

func demo() Panel {
	return Panel{
		Width: 198.43, Height: 70.87,
		Heading: "Signed electronically by",
		Name:    "Doctor Clinician",
		Details: []string{"Doctor (general practitioner), GMC 7654321", "21 November 2026 at 19:33:05 GMT"},
		Note:    "Check the signature in the PDF file: a print does not carry it.",
	}
}

// page is a one-page PDF with the panels below each other, each as a form XObject without resources.
func page(panels []Panel, contents [][]byte) []byte {
	var b bytes.Buffer
	var at []int
	obj := func(format string, args ...any) {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n", len(at))
		fmt.Fprintf(&b, format, args...)
		b.WriteString("\nendobj\n")
	}
	b.WriteString("%PDF-1.7\n")
	obj("<</Type/Catalog/Pages 2 0 R>>")
	obj("<</Type/Pages/Kids[3 0 R]/Count 1>>")
	var names, draw strings.Builder
	y := 820.0
	for i, p := range panels {
		y -= p.Height + 10
		fmt.Fprintf(&names, "/P%d %d 0 R", i, 5+i)
		fmt.Fprintf(&draw, "q 1 0 0 1 40 %.2f cm /P%d Do Q\n", y, i)
	}
	obj("<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</XObject<<%s>>>>>>", names.String())
	back := ".9 .95 .9 rg 0 0 595 842 re f\n" + draw.String()
	obj("<</Length %d>>stream\n%s\nendstream", len(back), back)
	for i, c := range contents {
		obj("<</Type/XObject/Subtype/Form/BBox[0 0 %.2f %.2f]/Resources<<>>/Length %d>>stream\n%s\nendstream", panels[i].Width, panels[i].Height, len(c), c)
	}
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, o := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, xref)
	return b.Bytes()
}

func shapes() []Panel {
	base := demo()
	long := base
	long.Name = "Dr Oluwaṣẹ́gun Ọlábísí Ẹ̀kúndayọ̀ Nguyễn-Brzęczyszczykiewicz"
	small, wide, tall, bare := base, base, base, base
	small.Width, small.Height = 130, 46
	wide.Width, wide.Height = 500, 40
	tall.Width, tall.Height = 120, 160
	bare.Heading, bare.Details, bare.Note = "", nil, ""
	return []Panel{base, long, small, wide, tall, bare}
}

// A renderer that is not ours draws the panels, within their boxes and with no complaint, and no two lines run together.
func TestDraw(t *testing.T) {
	d := newDrawer(t)
	panels := shapes()
	var contents [][]byte
	for _, p := range panels {
		c, err := d.Draw(p)
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		again, err := d.Draw(p)
		if err != nil || !bytes.Equal(c, again) {
			t.Error("not deterministic")
		}
		if regexp.MustCompile(`-0[ \n]|NaN|Inf|e[-+]|\bTf\b|/`).Match(c) {
			t.Error("an operand is not a plain number, or the stream needs a resource")
		}
		if z := deflated(t, c); z > 14<<10 {
			t.Errorf("%.20s: %d bytes, %d compressed", p.Name, len(c), z)
		}
		t.Logf("%.0f x %.0f: %d bytes, %d compressed", p.Width, p.Height, len(c), deflated(t, c))
		contents = append(contents, c)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "panels.pdf")
	if err := os.WriteFile(file, page(panels, contents), 0o600); err != nil {
		t.Fatal(err)
	}
	for pkg, args := range map[string][]string{
		"qpdf":          {"qpdf", "--check", file},
		"poppler-utils": {"pdftoppm", "-r", "100", "-png", file, filepath.Join(dir, "panels")},
	} {
		path, err := exec.LookPath(args[0])
		if err != nil {
			t.Fatalf("%s is needed: apt-get install %s", args[0], pkg)
		}
		if out, err := exec.Command(path, args[1:]...).CombinedOutput(); err != nil || bytes.Contains(out, []byte("rror:")) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// In fonts that the document has, a line is text, which a program reads back, unless it holds a character that they lack.
func TestDrawInFonts(t *testing.T) {
	d := newDrawer(t)
	p := demo()
	p.Fonts = map[string]string{"LiberationSans": "R", "LiberationSans-Bold": "B"}
	p.Details = []string{`GMC 7654321 (a \ b)`, "Zoë"}
	c, err := d.Draw(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "panel.pdf")
	inFonts := bytes.Replace(page([]Panel{p}, [][]byte{c}), []byte("/Resources<<>>"),
		[]byte("/Resources<</Font<</R<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>/B<</Type/Font/Subtype/Type1/BaseFont/Helvetica-Bold>>>>>>"), 1)
	if err := os.WriteFile(file, inFonts, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pdftotext", "-raw", file, "-").Output()
	if err != nil {
		t.Fatal(err, "poppler-utils is needed")
	}
	got := strings.Join(strings.Fields(string(out)), " ")
	if want := p.Heading + " " + p.Name + " " + p.Details[0] + " " + p.Note; got != want {
		t.Errorf("reads %q, want %q", got, want)
	}
	if outlined := bytes.Count(c, []byte(" f Q\n")) + bytes.Count(c, []byte("\nf Q\n")); outlined != 3 {
		t.Errorf("%d outlines, want the three letters of Zoë", outlined)
	}
}

func deflated(t *testing.T, b []byte) int {
	t.Helper()
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return z.Len()
}

func TestDrawRefuses(t *testing.T) {
	d := newDrawer(t)
	for _, c := range []struct {
		name   string
		change func(*Panel)
		kind   fault.Kind
		want   string
	}{
		{"no width", func(p *Panel) { p.Width = 0 }, fault.Invalid, "sides must be between"},
		{"not a number", func(p *Panel) { p.Height = math.NaN() }, fault.Invalid, "sides must be between"},
		{"huge", func(p *Panel) { p.Height = 1e9 }, fault.Invalid, "sides must be between"},
		{"small", func(p *Panel) { p.Width, p.Height = 60, 20 }, fault.Invalid, "too small for its text"},
		{"narrow", func(p *Panel) { p.Width = 10 }, fault.Invalid, "too small for its text"},
		{"unprintable", func(p *Panel) { p.Name = "王" }, fault.Invalid, "U+738B"},
		{"two lines", func(p *Panel) { p.Name = "a\nb" }, fault.Invalid, "U+000A"},
		{"long", func(p *Panel) { p.Details = []string{strings.Repeat("a ", 501)} }, fault.TooLarge, "longer than 1000"},
	} {
		p := demo()
		c.change(&p)
		out, err := d.Draw(p)
		if out != nil || fault.KindOf(err) != c.kind || !strings.Contains(fault.PublicOf(err), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Whatever the text and the size, what is drawn fits: every line's right end and the height of all of them.
func FuzzDraw(f *testing.F) {
	d := newDrawer(f)
	f.Add(198.4, 70.9, "Doctor Clinician", "GMC 7654321")
	f.Add(12.0, 700.0, "ẹ́ẹ́ẹ́", "")
	f.Add(500.0, 11.0, "W", strings.Repeat("W ", 400))
	f.Fuzz(func(t *testing.T, w, h float64, name, line string) {
		p := Panel{Width: w, Height: h, Heading: "Signed electronically by", Name: name, Details: []string{line, line}, Note: "note"}
		out, err := d.Draw(p)
		if (out == nil) == (err == nil) {
			t.Fatal("neither or both of content and error")
		}
		if len(out) > 4<<20 {
			t.Fatalf("%d bytes", len(out))
		}
	})
}

func BenchmarkDraw(b *testing.B) {
	d := newDrawer(b)
	b.ReportAllocs()
	for b.Loop() {
		out, err := d.Draw(demo())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(out)), "bytes")
	}
}

func TestCompressIsFlate(t *testing.T) {
	d := newDrawer(t)
	content := bytes.Repeat([]byte("10 20 m 30 40 l "), 1000)
	for range 2 { // the second time with a writer that was used
		small := d.Compress(content)
		r, err := zlib.NewReader(bytes.NewReader(small))
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(back, content) || len(small) >= len(content)/2 {
			t.Fatalf("%d bytes became %d, error %v", len(content), len(small), err)
		}
	}
}
