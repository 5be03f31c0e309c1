package prescription

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"github.com/klauspost/compress/zlib"
	"golang.org/x/image/font/sfnt"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
)

// Renderer makes PDFs of prescriptions. It holds the parsed typefaces: make one and keep it. It is safe for concurrent use.
type Renderer struct {
	fonts       *fonts.Set
	compressors sync.Pool // of *zlib.Writer, whose tables cost more than what they compress here
}

// NewRenderer parses the built-in typefaces.
func NewRenderer() (*Renderer, error) {
	set, err := fonts.New()
	if err != nil {
		return nil, err
	}
	return &Renderer{fonts: set, compressors: sync.Pool{New: newCompressor}}, nil
}

// Page is a prescription that has its place on the sheet. Render may be called from several goroutines at once.
type Page struct {
	r            *Renderer
	prescription Prescription
	sheet        *sheet
}

// Lay puts p on a page, unless something keeps it from being signed at now: then everything that does comes back, what Validate finds and, when that
// is nothing, the characters that no typeface has and texts for which the page has no room. medicines is as for Validate.
func (r *Renderer) Lay(p Prescription, now time.Time, medicines Dictionary) (*Page, []Problem) {
	if problems := p.Validate(now, medicines); problems != nil {
		return nil, problems
	}
	page := &Page{r: r, prescription: p.Normalize()}
	if page.sheet = r.sheet(&page.prescription); page.sheet.problems != nil {
		return nil, page.sheet.problems
	}
	return page, nil
}

// Render returns the page as a PDF dated now, which need not be the time that it was laid for: the same page and now give the same bytes. The error is
// a fault of kind Invalid when the prescription is none at now, by Validate without a Dictionary.
func (p *Page) Render(now time.Time) ([]byte, error) {
	if problems := p.prescription.Validate(now, nil); problems != nil {
		return nil, Invalid(problems)
	}
	out, err := p.r.draw(p.sheet, &p.prescription, now.UTC().Truncate(time.Second))
	if err != nil {
		return nil, fmt.Errorf("prescription: render: %w", err)
	}
	return out, nil
}

// Render lays p and renders it, both at now and without a Dictionary. The error is a fault of kind Invalid that names every problem.
func (r *Renderer) Render(p Prescription, now time.Time) ([]byte, error) {
	page, problems := r.Lay(p, now, nil)
	if problems != nil {
		return nil, Invalid(problems)
	}
	return page.Render(now)
}

// Invalid is the fault for a list of problems.
func Invalid(problems []Problem) error {
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.String()
	}
	return fault.New(fault.Invalid, "the prescription cannot be signed: "+strings.Join(texts, "; "))
}

func (r *Renderer) sheet(p *Prescription) *sheet {
	s := &sheet{fonts: r.fonts}
	s.layout(p)
	var err error
	if s.encodings, err = encode(s.texts); err != nil {
		s.report(Problem{"dosage", Unprintable, "the texts hold " + err.Error() + ": write in one language"})
	}
	return s
}

// draw puts the sheet on the page of a new document.
func (r *Renderer) draw(s *sheet, p *Prescription, now time.Time) ([]byte, error) {
	f := fpdf.New("P", "pt", "A4", "")
	f.SetCatalogSort(true)
	f.SetAutoPageBreak(false, 0)
	f.SetCompression(false) // the page's few kilobytes cost less than the library's new compressor for each document
	describe(f, p, now)
	for i, e := range s.encodings {
		if err := r.embed(f, i, e); err != nil {
			return nil, err
		}
	}
	f.AddPage()
	for _, b := range s.boxes {
		drawBox(f, b)
	}
	for _, l := range s.rules {
		f.SetDrawColor(l.colour.r, l.colour.g, l.colour.b)
		f.SetLineWidth(l.width)
		f.Line(l.x1, l.y1, l.x2, l.y2)
	}
	for _, m := range s.marks {
		if err := drawOutlines(f, m); err != nil {
			return nil, err
		}
	}
	if err := drawTexts(f, s.texts, s.encodings); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(32 << 10)
	if err := f.Output(&out); err != nil {
		return nil, err
	}
	return finish(out.Bytes())
}

// describe sets the metadata. It names no patient: metadata is what indexers and mail gateways read.
func describe(f *fpdf.Fpdf, p *Prescription, now time.Time) {
	const producer = "VeriPath AES appliance"
	title := "Prescription " + p.PrescriptionID
	f.SetTitle(title, true)
	f.SetAuthor(p.ClinicianCN, true)
	subject := "Private prescription"
	if p.Demonstration {
		subject = demonstration
	}
	f.SetSubject(subject, true)
	f.SetCreator(producer, true)
	f.SetProducer(producer, true)
	f.SetCreationDate(now)
	f.SetModificationDate(now)
	f.SetLang("en-GB")
	f.SetXmpMetadata(xmp(title, p.ClinicianCN, producer, now))
}

func drawBox(f *fpdf.Fpdf, b box) {
	how := ""
	if b.fill != nil {
		f.SetFillColor(b.fill.r, b.fill.g, b.fill.b)
		how += "F"
	}
	if b.stroke != nil {
		f.SetDrawColor(b.stroke.r, b.stroke.g, b.stroke.b)
		f.SetLineWidth(0.8)
		how += "D"
	}
	f.RoundedRect(b.x, b.y, b.w, b.h, 5, "1234", how)
}

// drawOutlines fills the glyphs of m as paths.
func drawOutlines(f *fpdf.Fpdf, m placedText) error {
	f.SetFillColor(m.style.colour.r, m.style.colour.g, m.style.colour.b)
	for _, g := range m.line.Glyphs {
		segments, err := g.Face.Outline(g.ID)
		if err != nil {
			return err
		}
		k := m.style.size / float64(g.Face.UnitsPerEm()) / 64
		at := func(i int, s sfnt.Segment) (float64, float64) {
			return m.x + points(g.X, m.style.size) + float64(s.Args[i].X)*k, m.y - points(g.Y, m.style.size) + float64(s.Args[i].Y)*k
		}
		for _, s := range segments {
			x, y := at(0, s)
			switch s.Op {
			case sfnt.SegmentOpMoveTo:
				f.MoveTo(x, y)
			case sfnt.SegmentOpLineTo:
				f.LineTo(x, y)
			case sfnt.SegmentOpQuadTo:
				x1, y1 := at(1, s)
				f.CurveTo(x, y, x1, y1)
			default:
				return errors.New("cubic outline in a TrueType face")
			}
		}
	}
	f.DrawPath("F")
	return nil
}

// embed adds a face, cut to the characters in use, as a simple TrueType font. The library takes fonts made beforehand as a description
// in JSON and a compressed program.
func (r *Renderer) embed(f *fpdf.Fpdf, i int, e *encoding) error {
	program, err := e.face.Subset(e.runes)
	if err != nil {
		return err
	}
	var z bytes.Buffer
	w := r.compressors.Get().(*zlib.Writer)
	defer r.compressors.Put(w)
	w.Reset(&z)
	_, err = w.Write(program)
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	description, err := json.Marshal(fontDefinition(e, familyName(i), program))
	if err != nil {
		return err
	}
	f.AddFontFromBytes(familyName(i), "", description, z.Bytes())
	return f.Error()
}

// fontDefinition is the library's description of a font. Flags: nonsymbolic (ISO 32000-1, table 123).
func fontDefinition(e *encoding, file string, program []byte) map[string]any {
	box := e.face.BBox()
	return map[string]any{
		"Tp": "TrueType", "Name": subsetTag(program) + "+" + e.face.Name(), "Enc": "cp1252", "Diff": e.differences(),
		"Cw": e.widths(), "File": file + ".z", "OriginalSize": len(program),
		"Desc": map[string]any{
			"Ascent": e.face.Ascent(), "Descent": e.face.Descent(), "CapHeight": e.face.CapHeight(), "StemV": e.face.StemV(), "Flags": 1 << 5,
			"FontBBox": map[string]int{"Xmin": box.MinX, "Ymin": box.MinY, "Xmax": box.MaxX, "Ymax": box.MaxY},
		},
	}
}

func familyName(i int) string { return fmt.Sprintf("face%d", i) }

// subsetTag is six capitals that differ between subsets (ISO 32000-1, 9.6.4).
func subsetTag(program []byte) string {
	sum := sha256.Sum256(program)
	tag := make([]byte, 6)
	for i := range tag {
		tag[i] = 'A' + sum[i]%26
	}
	return string(tag)
}

// drawTexts writes each run of glyphs of one face as one string. A letter with combining marks is a string of its own that says what it
// is (ActualText, ISO 32000-1, 14.9.4), with the marks drawn as paths: text readers take a mark set by itself for the end of a word.
func drawTexts(f *fpdf.Fpdf, texts []placedText, enc []*encoding) error {
	family, size := -1, 0.0
	for _, t := range texts {
		f.SetTextColor(t.style.colour.r, t.style.colour.g, t.style.colour.b)
		for glyphs := t.line.Glyphs; len(glyphs) > 0; {
			letters, marks := run(glyphs)
			i := encodingOf(enc, glyphs[0].Face)
			if family != i || size != t.style.size {
				family, size = i, t.style.size
				f.SetFont(familyName(i), "", size)
			}
			if marks > 0 {
				f.RawWriteStr("/Span <</ActualText <" + utf16Hex(glyphs[:letters+marks]) + ">>> BDC")
			}
			f.Text(t.x+points(glyphs[0].X, size), t.y, enc[i].bytes(glyphs[:letters]))
			if marks > 0 {
				f.RawWriteStr("EMC")
				over := placedText{fonts.Line{Glyphs: glyphs[letters : letters+marks]}, t.style, t.x, t.y}
				if err := drawOutlines(f, over); err != nil {
					return err
				}
			}
			glyphs = glyphs[letters+marks:]
		}
	}
	return nil
}

// run is the number of letters that one string can hold, and of the marks on it when it is a single letter with marks.
func run(glyphs []fonts.Glyph) (letters, marks int) {
	marked := func(i int) bool { return i+1 < len(glyphs) && glyphs[i+1].Mark }
	if !marked(0) {
		for letters < len(glyphs) && !marked(letters) && glyphs[letters].Face == glyphs[0].Face {
			letters++
		}
		return letters, 0
	}
	for marked(marks) {
		marks++
	}
	return 1, marks
}

// utf16Hex is the characters of glyphs as a PDF text string in UTF-16 with a byte order mark, in hexadecimal. The faces have none beyond
// the Basic Multilingual Plane.
func utf16Hex(glyphs []fonts.Glyph) string {
	var b strings.Builder
	b.WriteString("FEFF")
	for _, g := range glyphs {
		fmt.Fprintf(&b, "%04X", g.Rune)
	}
	return b.String()
}

// newCompressor favours speed: a page grows by 300 bytes of 20,000 and takes a quarter less time.
func newCompressor() any {
	w, err := zlib.NewWriterLevel(nil, zlib.BestSpeed)
	if err != nil {
		panic("prescription: " + err.Error())
	}
	return w
}
