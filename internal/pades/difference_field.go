package pades

import "github.com/veripath/aes-appliance/internal/pdf"

// field is a form field or a widget of one.
type field struct {
	name   string // fully qualified
	kind   pdf.Name
	owner  *field // the terminal field that a widget belongs to; itself when the two are one
	widget bool   // a Kid without a name of its own
}

// enterForm makes pivots of the form, its arrays and its fields, and returns the form's dictionary.
func (s *scope) enterForm(o pdf.Object) (pdf.Dict, error) {
	if ref, ok := o.(pdf.Ref); ok {
		s.pivot(ref, roleForm)
	}
	value, err := s.f.Resolve(o)
	if err != nil {
		return nil, err
	}
	form, _ := value.(pdf.Dict)
	return form, s.enterFields(form["Fields"], nil, 0)
}

// maxFieldDepth bounds the nesting of fields.
const maxFieldDepth = 32

// enterFields makes pivots of an array of fields and what is below them. A field that is met twice keeps its first place.
func (s *scope) enterFields(o pdf.Object, parent *field, depth int) error {
	if ref, ok := o.(pdf.Ref); ok {
		s.fieldArrays[ref] = true
	}
	value, err := s.f.Resolve(o)
	if err != nil || depth > maxFieldDepth {
		return err
	}
	list, _ := value.(pdf.Array)
	for _, one := range list {
		ref, ok := one.(pdf.Ref)
		if !ok {
			continue
		}
		if _, seen := s.fields[ref]; seen && parent != nil && s.fields[ref].owner != parent {
			continue
		}
		if err := s.h.visit(); err != nil {
			return err
		}
		value, err := s.f.Get(ref)
		if err != nil {
			return err
		}
		dict, ok := value.(pdf.Dict)
		if !ok {
			continue
		}
		if old, isPivot := s.pivots[ref]; isPivot && old != roleField {
			continue // a page that is a field as well keeps the stricter rule
		}
		fl := s.fields[ref]
		if fl == nil {
			fl = newField(dict, parent)
			s.fields[ref] = fl
			s.pivot(ref, roleField)
			s.fresh = append(s.fresh, ref)
		}
		if err := s.enterFields(dict["Kids"], fl, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// newField reads the name and the type of a field; both may come from above (ISO 32000-2 §12.7.4.1).
func newField(dict pdf.Dict, parent *field) *field {
	fl := &field{}
	fl.owner = fl
	if parent != nil {
		fl.name, fl.kind = parent.name, parent.kind
	}
	if kind, ok := dict["FT"].(pdf.Name); ok {
		fl.kind = kind
	}
	t, named := dict["T"].(pdf.String)
	switch {
	case named && fl.name != "":
		fl.name += "." + pdf.Text(t)
	case named:
		fl.name = pdf.Text(t)
	case parent != nil:
		fl.widget, fl.owner = true, parent.owner
	}
	return fl
}
