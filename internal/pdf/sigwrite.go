package pdf

import (
	"bytes"
	"maps"
	"slices"
)

// byteRangeWidth is the room for "[0 a b c": three numbers of ten digits.
const byteRangeWidth = len("[0 4294967296 4294967296 4294967296")

// zeros is what empty Contents are made of.
const zeros = "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

// write writes the signature and everything that leads to it.
func (w *signing) write(p *Prepared) error {
	w.sig = w.u.alloc()
	w.writeSignature(p)
	fieldRef := Ref{}
	if w.field != nil {
		if err := w.fillField(); err != nil {
			return err
		}
	} else {
		var err error
		if fieldRef, err = w.newField(); err != nil {
			return err
		}
	}
	return w.writeForm(fieldRef)
}

// writeSignature writes the signature dictionary (§12.8.1 table 255, EN 319 142-1 §5.3) and records where ByteRange and Contents stand.
func (w *signing) writeSignature(p *Prepared) {
	u, o := w.u, w.o
	u.begin(w.sig)
	u.b = append(u.b, "<< /Type "...)
	u.b = appendName(u.b, o.Type)
	u.b = append(u.b, " /Filter "...)
	u.b = appendName(u.b, sigFilter)
	u.b = append(u.b, " /SubFilter "...)
	u.b = appendName(u.b, o.SubFilter)
	u.b = append(u.b, " /ByteRange "...)
	w.rangeAt = len(u.b)
	u.b = append(u.b, bytes.Repeat([]byte{' '}, byteRangeWidth)...)
	u.b = append(u.b, "] /Contents "...)
	p.contents = len(u.b)
	u.b = append(u.b, '<')
	for n := 2 * o.ContentsSize; n > 0; n -= len(zeros) {
		u.b = append(u.b, zeros[:min(n, len(zeros))]...)
	}
	u.b = append(u.b, '>')
	if o.Type == "Sig" {
		u.b = append(u.b, " /M "...)
		u.b = appendString(u.b, date(o.M))
	}
	for _, t := range []struct {
		key Name
		v   string
	}{{"Name", o.Name}, {"Reason", o.Reason}, {"Location", o.Location}, {"ContactInfo", o.ContactInfo}} {
		if t.v != "" {
			u.b = append(u.b, ' ')
			u.b = appendName(u.b, t.key)
			u.b = append(u.b, ' ')
			u.b = appendString(u.b, encodeText(t.v))
		}
	}
	if refs := w.sigReferences(); refs != nil {
		u.b = append(u.b, " /Reference "...)
		u.b = appendArray(u.b, refs)
	}
	u.b = append(u.b, " >>"...)
	u.end()
}

// sigReferences returns the signature references: DocMDP when certifying, FieldMDP when the field has a lock (§12.8.1 table 256).
func (w *signing) sigReferences() Array {
	var refs Array
	if w.o.Certify > 0 {
		refs = append(refs, Dict{"Type": Name("SigRef"), "TransformMethod": Name("DocMDP"),
			"TransformParams": Dict{"Type": Name("TransformParams"), "P": int64(w.o.Certify), "V": Name("1.2")}})
	}
	if w.lock != nil {
		parms := Dict{"Type": Name("TransformParams"), "V": Name("1.2"), "Action": w.lock["Action"]}
		if fields := w.lock["Fields"]; fields != nil {
			parms["Fields"] = fields
		}
		refs = append(refs, Dict{"Type": Name("SigRef"), "TransformMethod": Name("FieldMDP"), "Data": w.f.trailer["Root"], "TransformParams": parms})
	}
	return refs
}

// fillField puts the signature into an existing field, and the appearance into its widget.
func (w *signing) fillField() error {
	d := maps.Clone(w.field.dict)
	d["V"] = w.sig
	a := w.o.Appearance
	if a == nil {
		w.u.write(w.field.ref, d)
		return nil
	}
	ap := Dict{"N": w.u.form(a)}
	if widget := w.field.widgets[0]; widget != w.field.ref {
		wd, err := w.f.resolveDict(widget, "widget "+widget.String())
		if err != nil {
			return err
		}
		wd = maps.Clone(wd)
		wd["AP"] = ap
		w.u.write(widget, wd)
	} else {
		d["AP"] = ap
	}
	w.u.write(w.field.ref, d)
	return nil
}

// newField writes a field that is its own widget, and puts it on its page (§12.7.5.5, §12.5.6.19).
func (w *signing) newField() (Ref, error) {
	const printLocked = 1<<2 | 1<<7 // §12.5.3 table 167
	d := Dict{"Type": Name("Annot"), "Subtype": Name("Widget"), "FT": Name("Sig"), "T": encodeText(w.name), "V": w.sig,
		"F": int64(printLocked), "P": w.page.Ref, "Rect": Array{int64(0), int64(0), int64(0), int64(0)}}
	if a := w.o.Appearance; a != nil {
		d["Rect"] = rectArray(a.Rect)
		d["AP"] = Dict{"N": w.u.form(a)}
	}
	r := w.u.add(d)
	annots, err := w.f.resolveArray(w.page.Dict["Annots"], "/Annots")
	if err != nil {
		return r, err
	}
	longer := append(slices.Clone(annots), r)
	if at, ok := w.page.Dict["Annots"].(Ref); ok && annots != nil && w.holds(at) {
		w.u.write(at, longer)
		return r, nil
	}
	page := maps.Clone(w.page.Dict)
	page["Annots"] = longer
	w.u.write(w.page.Ref, page)
	return r, nil
}

// holds tells whether r is an array itself, not a reference to one, so that it can be redefined as a longer one.
func (w *signing) holds(r Ref) bool {
	o, err := w.f.Get(r)
	_, ok := o.(Array)
	return err == nil && ok
}

// writeForm adds a new field to the form, sets SigFlags, and redefines the catalog when it must.
func (w *signing) writeForm(field Ref) error {
	fm := w.form
	catalog, root, err := w.f.Catalog()
	if err != nil {
		return err
	}
	catalog = maps.Clone(catalog)
	form, changed := maps.Clone(fm.dict), false
	if field != (Ref{}) {
		longer := append(slices.Clone(fm.roots), field)
		if fm.fieldsRef != (Ref{}) && w.holds(fm.fieldsRef) {
			w.u.write(fm.fieldsRef, longer)
		} else {
			form["Fields"], changed = longer, true
		}
	}
	const existAppendOnly = 3 // §12.7.3 table 225
	flags, err := w.f.resolveInt(form["SigFlags"], "/SigFlags", 0)
	if err != nil {
		return err
	}
	if flags&existAppendOnly != existAppendOnly {
		form["SigFlags"], changed = flags|existAppendOnly, true
	}
	certified, err := w.certify(catalog)
	if err != nil {
		return err
	}
	inCatalog := false
	if o, err := w.f.Get(fm.ref); changed && fm.ref != (Ref{}) && err == nil && isDict(o) {
		w.u.write(fm.ref, form)
	} else if changed && len(fm.dict) == 0 && fm.ref == (Ref{}) {
		catalog["AcroForm"], inCatalog = w.u.add(form), true
	} else if changed {
		catalog["AcroForm"], inCatalog = form, true
	}
	if certified || inCatalog {
		w.u.write(root, catalog)
	}
	return nil
}

func isDict(o Object) bool {
	_, ok := o.(Dict)
	return ok
}

// certify enters the signature in the catalog's Perms (§12.8.6), which stands in the catalog or in an object of its own.
func (w *signing) certify(catalog Dict) (bool, error) {
	if w.o.Certify == 0 {
		return false, nil
	}
	perms, err := w.f.resolveDict(catalog["Perms"], "/Perms")
	if err != nil {
		return false, err
	}
	if perms = maps.Clone(perms); perms == nil {
		perms = Dict{}
	}
	perms["DocMDP"] = w.sig
	catalog["Perms"] = perms
	return true, nil
}

// form writes an appearance as a form XObject (§8.10.2).
func (u *update) form(a *Appearance) Ref {
	res, _ := u.lift(a.Resources, 0).(Dict)
	if res == nil {
		res = Dict{}
	}
	d := Dict{"Type": Name("XObject"), "Subtype": Name("Form"), "BBox": rectArray(a.BBox), "Resources": res}
	if a.Flate {
		d["Filter"] = Name("FlateDecode")
	}
	return u.stream(d, a.Content)
}

// lift writes streams and font descriptors within o as objects of their own, which they must be, and returns o with references to them.
func (u *update) lift(o Object, depth int) Object {
	if depth > 32 {
		panic("pdf: the appearance's resources nest deeper than 32 levels")
	}
	switch v := o.(type) {
	case *Stream:
		d, _ := u.liftDict(v.Dict, depth+1)
		return u.stream(d, v.Raw)
	case Dict:
		d, descriptor := u.liftDict(v, depth+1)
		if descriptor {
			return u.add(d)
		}
		return d
	case Array:
		out := make(Array, len(v))
		for i := range v {
			out[i] = u.lift(v[i], depth+1)
		}
		return out
	}
	return o
}

func (u *update) liftDict(v Dict, depth int) (d Dict, descriptor bool) {
	d = make(Dict, len(v))
	for _, k := range sortedKeys(v) {
		d[k] = u.lift(v[k], depth)
	}
	return d, v["Type"] == Name("FontDescriptor")
}

func sortedKeys(d Dict) []Name { return slices.Sorted(maps.Keys(d)) }

func rectArray(r [4]float64) Array { return Array{r[0], r[1], r[2], r[3]} }
