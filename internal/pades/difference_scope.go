package pades

import (
	"github.com/veripath/aes-appliance/internal/pdf"
)

// role is what a pivot is; in the order in which their rules are applied.
type role int

const (
	roleCatalog role = iota
	roleForm         // AcroForm
	roleFields       // an indirect array of fields: Fields, or Kids of a field
	roleField        // a field or a widget of one
	rolePage
	roleAnnots // an indirect array of annotations
	roleInfo
	roleCount
)

type softKind int

const (
	softValidation softKind = iota // DSS, Extensions
	softMetadata
	softValue
	softAppearance
)

type softUse struct {
	kind  softKind
	field *field // for softValue and softAppearance
}

// scope is what the objects of a revision are for. See difference.go.
type scope struct {
	h      *history
	f      *pdf.File
	strict map[pdf.Ref]bool
	pivots map[pdf.Ref]role // dictionaries
	soft   map[pdf.Ref]softUse
	fields map[pdf.Ref]*field
	known  map[uint32]pdf.Ref // by number: an object that is strict, a pivot or soft

	fieldArrays map[pdf.Ref]bool    // indirect Fields and Kids of fields
	annotArrays map[pdf.Ref]pdf.Ref // indirect Annots, with the page

	fresh []pdf.Ref // fields that were not looked through yet
	stack []strict  // values to look through
}

// strict is a value that must not change, and by which entry it was reached: "" within an array.
type strict struct {
	by    pdf.Name
	value pdf.Object
}

// structural are the entries by which objects of the document's structure point to each other (ISO 32000-2 tables 29, 30, 31, 166, 226, 256, 359):
// what such an entry names stays a page, a field, the form or the catalog. By any other entry (of resources, above all) a dictionary is used as
// something else, for which the rules of pivots are not made.
var structural = map[pdf.Name]bool{"": true, "P": true, "Parent": true, "Pg": true, "Obj": true, "Root": true, "AcroForm": true, "Data": true, "T": true, "Page": true}

// isOther reports whether ref has the number of a known object, under another generation.
func (s *scope) isOther(ref pdf.Ref) bool {
	known, ok := s.known[ref.Num]
	return ok && known != ref
}

// pivot makes ref one.
func (s *scope) pivot(ref pdf.Ref, r role) {
	s.pivots[ref], s.known[ref.Num] = r, ref
}

// newScope surveys the document as f has it.
func newScope(h *history, f *pdf.File) (*scope, error) {
	s := &scope{h: h, f: f, strict: map[pdf.Ref]bool{}, pivots: map[pdf.Ref]role{}, soft: map[pdf.Ref]softUse{}, fields: map[pdf.Ref]*field{}, known: map[uint32]pdf.Ref{},
		fieldArrays: map[pdf.Ref]bool{}, annotArrays: map[pdf.Ref]pdf.Ref{}}
	catalog, root, err := f.Catalog()
	if err != nil {
		return nil, err
	}
	s.pivot(root, roleCatalog)
	pages, err := f.Pages()
	if err != nil {
		return nil, err
	}
	for _, ref := range pages {
		s.pivot(ref, rolePage)
	}
	for key, value := range f.Trailer() {
		if !volatile[key] && key != "Info" && key != "Root" {
			s.pushAt(key, value)
		}
	}
	return s, s.expand(catalog, pages)
}

// advance makes s the scope of the next revision, whose changes diff found to be allowed. What was strict stays strict.
func (s *scope) advance(f *pdf.File, diff *comparison) error {
	s.f = f
	catalog, _, err := f.Catalog()
	if err != nil {
		return err
	}
	var pages []pdf.Ref
	for _, ref := range diff.touched {
		if use, reached := s.soft[ref]; reached {
			value, err := f.Get(ref)
			if err != nil {
				return err
			}
			if err := s.soften(value, use); err != nil {
				return err
			}
		}
		switch s.pivots[ref] {
		case rolePage:
			pages = append(pages, ref)
		case roleField:
			s.fresh = append(s.fresh, ref)
		}
	}
	return s.expand(catalog, pages)
}

// expand looks through the catalog, the form with its fresh fields, and pages. Every pivot is known before anything is called strict.
func (s *scope) expand(catalog pdf.Dict, pages []pdf.Ref) error {
	form, err := s.enterForm(catalog["AcroForm"])
	if err != nil {
		return err
	}
	if ref, ok := s.f.Trailer()["Info"].(pdf.Ref); ok {
		s.pivot(ref, roleInfo)
	}
	if err := s.expandCatalog(catalog); err != nil {
		return err
	}
	for key, value := range form {
		if key != "Fields" {
			s.pushAt(key, value)
		}
	}
	for _, ref := range s.fresh {
		if err := s.expandField(ref); err != nil {
			return err
		}
	}
	s.fresh = nil
	for _, ref := range pages {
		if err := s.expandPage(ref); err != nil {
			return err
		}
	}
	return s.drain()
}

func (s *scope) expandCatalog(catalog pdf.Dict) error {
	for key, value := range catalog {
		var err error
		switch key {
		case "AcroForm":
		case "DSS", "Extensions":
			err = s.soften(value, softUse{kind: softValidation})
		case "Metadata":
			err = s.soften(value, softUse{kind: softMetadata})
		default:
			s.pushAt(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expandField looks through a field: all that a signature field has is strict; value and appearances of others may be filled in.
func (s *scope) expandField(ref pdf.Ref) error {
	fl := s.fields[ref]
	value, err := s.f.Get(ref)
	if err != nil {
		return err
	}
	dict, _ := value.(pdf.Dict)
	for key, value := range dict {
		switch {
		case key == "Kids":
		case fl.kind != "Sig" && (key == "V" || key == "RV"):
			err = s.soften(value, softUse{softValue, fl.owner})
		case fl.kind != "Sig" && key == "AP":
			err = s.soften(value, softUse{softAppearance, fl.owner})
		default:
			s.pushAt(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expandPage looks through a page; of its annotations, those that are no widgets of fields are strict.
func (s *scope) expandPage(ref pdf.Ref) error {
	value, err := s.f.Get(ref)
	if err != nil {
		return err
	}
	page, _ := value.(pdf.Dict)
	for key, value := range page {
		if key != "Annots" {
			s.pushAt(key, value)
			continue
		}
		if array, ok := value.(pdf.Ref); ok {
			if other, shared := s.annotArrays[array]; shared && other != ref {
				s.strict[array] = true // what is added to it would show on both pages
			}
			s.annotArrays[array] = ref
		}
		resolved, err := s.f.Resolve(value)
		if err != nil {
			return err
		}
		list, _ := resolved.(pdf.Array)
		for _, annotation := range list {
			s.pushAt("", annotation)
		}
	}
	return nil
}

// pushAt marks what o, reached by an entry, refers to as strict, in time.
func (s *scope) pushAt(by pdf.Name, o pdf.Object) {
	switch o.(type) {
	case pdf.Ref, pdf.Dict, pdf.Array, *pdf.Stream:
		s.stack = append(s.stack, strict{by, o})
	}
}

// drain looks through all that was pushed. Dictionaries among the pivots are looked through by their own functions where structural entries
// lead to them: Parent, P and destinations point to them all over a document.
func (s *scope) drain() error {
	for len(s.stack) > 0 {
		top := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		switch o := top.value.(type) {
		case pdf.Ref:
			if r, isPivot := s.pivots[o]; s.strict[o] || isPivot && r != roleInfo && structural[top.by] {
				continue
			}
			s.strict[o], s.known[o.Num] = true, o
			if err := s.h.visit(); err != nil {
				return err
			}
			value, err := s.f.Get(o)
			if err != nil {
				return err
			}
			s.pushAt(top.by, value)
		case pdf.Dict:
			for key, value := range o {
				s.pushAt(key, value)
			}
		case pdf.Array:
			for _, value := range o {
				s.pushAt("", value)
			}
		case *pdf.Stream:
			s.pushAt(top.by, o.Dict)
		}
	}
	return nil
}

// soften marks what o refers to, down to the leaves but not through pivots, as soft.
func (s *scope) soften(o pdf.Object, use softUse) error {
	stack := []pdf.Object{o}
	for len(stack) > 0 {
		o := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		switch o := o.(type) {
		case pdf.Ref:
			_, isPivot := s.pivots[o]
			old, seen := s.soft[o]
			if seen && old != use {
				s.pushAt("", o) // two uses: neither rule fits it
			}
			if isPivot || seen {
				continue
			}
			s.soft[o], s.known[o.Num] = use, o
			if err := s.h.visit(); err != nil {
				return err
			}
			value, err := s.f.Get(o)
			if err != nil {
				return err
			}
			stack = append(stack, value)
		case pdf.Dict:
			for _, value := range o {
				stack = append(stack, value)
			}
		case pdf.Array:
			stack = append(stack, o...)
		case *pdf.Stream:
			stack = append(stack, o.Dict)
		}
	}
	return nil
}
