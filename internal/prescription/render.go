package prescription

import (
	"fmt"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
)

// Renderer makes PDFs of prescriptions. It holds the parsed typefaces, and those that nearly every page needs cut and compressed: make one and keep it.
// It is safe for concurrent use.
type Renderer struct {
	fonts    *fonts.Set
	standard []*encoding
}

// NewRenderer parses the built-in typefaces.
func NewRenderer() (*Renderer, error) {
	set, err := fonts.New()
	if err != nil {
		return nil, err
	}
	r := &Renderer{fonts: set}
	for _, w := range []fonts.Weight{fonts.Regular, fonts.Bold} {
		e, err := standardEncoding(set.First(w))
		if err != nil {
			return nil, err
		}
		r.standard = append(r.standard, e)
	}
	return r, nil
}

// Fonts are the fonts with every standard character (fonts.StandardCode) that each rendered page has, by the name of their face: the number of the object
// that each is in the file.
func (r *Renderer) Fonts() map[string]uint32 {
	out := make(map[string]uint32, len(r.standard))
	for i, e := range r.standard {
		out[e.face.Name()] = uint32(fontObject(i))
	}
	return out
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
	out, err := p.sheet.file(&p.prescription, now.UTC().Truncate(time.Second))
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
	if s.encodings, err = encode(s.texts, r.standard); err != nil {
		s.report(Problem{"dosage", Unprintable, "the texts hold " + err.Error() + ": write in one language"})
	}
	return s
}
