package pades

import (
	"fmt"
	"strings"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// since returns what revisions after s did, and whether any of it is not allowed after s.
//
// A certification signature says itself what may follow (DocMDP, ISO 32000-2 table 257): 1 nothing but validation data and document time
// stamps, 2 also form filling and signing, 3 also annotations. An approval signature says nothing, or names locked fields (FieldMDP,
// Lock); form filling and signing are taken as allowed after it. Annotations count as a modification even at 3: they can show anything,
// anywhere. So does a visible field that the certified document did not foresee.
func (h *history) since(s *pdf.Signature) ([]Change, bool) {
	p := newPermissions(h.file, s)
	var list []Change
	modified := false
	for r := s.Revision + 1; r < len(h.changes); r++ {
		for _, c := range h.changes[r] {
			allowed := p.allow(c)
			modified = modified || !allowed
			one := Change{Revision: r + 1, Kind: c.kind, Text: c.text, Allowed: allowed}
			if n := len(list); n == 0 || list[n-1] != one {
				list = append(list, one)
			}
		}
	}
	if h.tail > 0 && s.ByteRange[2]+s.ByteRange[3] < int64(len(h.file.Bytes())) {
		list = append(list, Change{Revision: len(h.changes), Kind: ChangeContent, Text: fmt.Sprintf("%d bytes follow the end of the document", h.tail), tail: true})
		modified = true
	}
	return list, modified
}

// panelAfter returns what is said of the first visible signature that was added after s, "" when there is none.
func (h *history) panelAfter(s *pdf.Signature) string {
	for r := s.Revision + 1; r < len(h.changes); r++ {
		for _, c := range h.changes[r] {
			if c.placed {
				return c.text
			}
		}
	}
	return ""
}

// permissions are what a signature allows afterwards.
type permissions struct {
	level int // DocMDP or the lock's P; 0 = not said
	locks []lock
}

// lock is a FieldMDP transform or a signature field lock (ISO 32000-2 tables 236, 258).
type lock struct {
	action pdf.Name
	fields []string
}

func newPermissions(f *pdf.File, s *pdf.Signature) permissions {
	p := permissions{level: s.DocMDP}
	resolve := func(o pdf.Object) pdf.Object {
		value, err := f.Resolve(o)
		if err != nil {
			return nil
		}
		return value
	}
	add := func(d pdf.Dict) {
		l := lock{}
		l.action, _ = resolve(d["Action"]).(pdf.Name)
		fields, _ := resolve(d["Fields"]).(pdf.Array)
		for _, one := range fields {
			if t, ok := resolve(one).(pdf.String); ok {
				l.fields = append(l.fields, pdf.Text(t))
			}
		}
		if l.action != "" {
			p.locks = append(p.locks, l)
		}
	}
	references, _ := resolve(s.Dict["Reference"]).(pdf.Array)
	for _, one := range references {
		if ref, ok := resolve(one).(pdf.Dict); ok && resolve(ref["TransformMethod"]) == pdf.Name("FieldMDP") {
			params, _ := resolve(ref["TransformParams"]).(pdf.Dict)
			add(params)
		}
	}
	field, _ := resolve(s.FieldRef).(pdf.Dict)
	if d, ok := resolve(field["Lock"]).(pdf.Dict); ok {
		add(d)
		if level, ok := resolve(d["P"]).(int64); ok && level >= 1 && level <= 3 && (p.level == 0 || int(level) < p.level) {
			p.level = int(level)
		}
	}
	return p
}

func (p permissions) allow(c change) bool {
	switch c.kind {
	case ChangeValidationData, ChangeTimeStamp, ChangeMetadata, ChangeForm:
		return true
	case ChangeFormFilled:
		return p.level != 1 && !p.locked(c.field)
	case ChangeSignature:
		return p.level != 1 && (p.level == 0 || !c.placed) && (c.field == "" || !p.locked(c.field))
	}
	return false
}

// locked reports whether the field, or one above it, may not change any more.
func (p permissions) locked(field string) bool {
	for _, l := range p.locks {
		named := false
		for _, f := range l.fields {
			if field == f || strings.HasPrefix(field, f+".") {
				named = true
			}
		}
		if l.action == "All" || l.action == "Include" && named || l.action == "Exclude" && !named {
			return true
		}
	}
	return false
}
