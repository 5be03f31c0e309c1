package pdf

import "strings"

// form is the document's interactive form (§12.7.3) and where its parts are written.
type form struct {
	ref       Ref // of the AcroForm dictionary; zero when it stands in the catalog, or there is none
	dict      Dict
	fieldsRef Ref // of the Fields array; zero when it stands in dict
	roots     Array
	fields    []field // terminal and intermediate ones, in order of the tree
}

// field is one field with what it inherits (§12.7.4).
type field struct {
	ref     Ref
	dict    Dict
	name    string // fully qualified
	typ     Name
	flags   int64
	value   Object
	widgets []Ref // its annotations: itself, or kids without a name
	parent  bool  // has fields below it
}

// form reads the interactive form; an empty one when there is none.
func (f *File) form() (*form, error) {
	c, _, err := f.Catalog()
	if err != nil {
		return nil, err
	}
	fm := &form{}
	fm.ref, _ = c["AcroForm"].(Ref)
	if fm.dict, err = f.resolveDict(c["AcroForm"], "/AcroForm"); err != nil {
		return nil, err
	}
	if fm.dict == nil {
		return &form{dict: Dict{}}, nil
	}
	fm.fieldsRef, _ = fm.dict["Fields"].(Ref)
	if fm.roots, err = f.resolveArray(fm.dict["Fields"], "/Fields"); err != nil {
		return nil, err
	}
	if fm.roots == nil {
		fm.fieldsRef = Ref{}
	}
	w := &fieldWalk{f: f, form: fm, met: map[Ref]bool{}}
	for _, o := range fm.roots {
		if err := w.node(o, field{}, 0); err != nil {
			return nil, err
		}
	}
	return fm, nil
}

type fieldWalk struct {
	f    *File
	form *form
	met  map[Ref]bool
	text int // bytes of qualified names so far
}

// node reads the field at o and those below it.
func (w *fieldWalk) node(o Object, above field, depth int) error {
	r, d, err := w.dict(o, depth)
	if err != nil || d == nil {
		return err
	}
	fd := field{ref: r, dict: d, name: above.name, typ: above.typ, flags: above.flags, value: above.value}
	if err := w.own(&fd, above); err != nil {
		return within("field "+r.String(), err)
	}
	kids, err := w.f.resolveArray(d["Kids"], "/Kids")
	if err != nil {
		return within("field "+r.String(), err)
	}
	at := len(w.form.fields)
	w.form.fields = append(w.form.fields, fd)
	for _, k := range kids {
		kr, ok := k.(Ref)
		if !ok {
			return invalid("/Kids of field %s holds something other than references", r)
		}
		kd, err := w.f.resolveDict(kr, "it")
		if err != nil {
			return within("kid "+kr.String()+" of field "+r.String(), err)
		}
		if kd["T"] == nil { // an annotation of this field
			if w.met[kr] {
				return invalid("widget %s is twice in the form", kr)
			}
			if w.met[kr] = true; kd != nil {
				fd.widgets = append(fd.widgets, kr)
			}
			continue
		}
		fd.parent = true
		if err := w.node(kr, fd, depth+1); err != nil {
			return err
		}
	}
	if len(kids) == 0 {
		fd.widgets = []Ref{r}
	}
	w.form.fields[at] = fd
	return nil
}

// dict returns a node's dictionary; nil when the reference leads nowhere, as happens to fields that were removed.
func (w *fieldWalk) dict(o Object, depth int) (Ref, Dict, error) {
	r, ok := o.(Ref)
	if !ok {
		return r, nil, invalid("/Fields holds something other than references")
	}
	if depth > w.f.lim.MaxDepth {
		return r, nil, tooLarge("form fields nest deeper than %d levels", w.f.lim.MaxDepth)
	}
	if w.met[r] {
		return r, nil, invalid("field %s is twice in the form", r)
	}
	w.met[r] = true
	d, err := w.f.resolveDict(r, "it")
	return r, d, within("field "+r.String(), err)
}

// own reads what the field says itself.
func (w *fieldWalk) own(fd *field, above field) error {
	t, err := w.f.Resolve(fd.dict["T"])
	if err != nil {
		return err
	}
	if t != nil {
		s, ok := t.(String)
		if !ok {
			return invalid("/T is not a string")
		}
		if fd.name = Text(s); above.name != "" {
			fd.name = above.name + "." + fd.name
		}
		if w.text += len(fd.name); len(fd.name) > maxFieldName || w.text > 1<<20+len(w.f.data) {
			return tooLarge("the names of the form's fields are too long")
		}
	}
	typ, err := w.f.resolveName(fd.dict["FT"], "/FT")
	if err != nil {
		return err
	}
	if typ != "" {
		fd.typ = typ
	}
	if fd.flags, err = w.f.resolveInt(fd.dict["Ff"], "/Ff", above.flags); err != nil {
		return err
	}
	if v := fd.dict["V"]; v != nil {
		fd.value = v
	}
	return nil
}

// maxFieldName bounds a qualified name in bytes: it grows with depth.
const maxFieldName = 1024

// named returns the field called name. Two of them are an error: readers differ in which one they mean.
func (fm *form) named(name string) (*field, error) {
	var found *field
	for i := range fm.fields {
		if fm.fields[i].name != name {
			continue
		}
		if found != nil {
			return nil, invalid("two form fields are called %q", name)
		}
		found = &fm.fields[i]
	}
	return found, nil
}

// free returns the first "SignatureN" that no field is called and, where there is one, that no signature locks.
func (fm *form) free(locked func(name string) bool) string {
	taken := map[string]bool{}
	for _, fd := range fm.fields {
		if strings.HasPrefix(fd.name, "Signature") {
			taken[fd.name] = true
		}
	}
	first := ""
	for n := 1; n <= len(taken)+maxFieldName; n++ {
		s := "Signature" + itoa(n)
		if taken[s] {
			continue
		}
		if !locked(s) {
			return s
		}
		if first == "" {
			first = s
		}
	}
	return first
}
