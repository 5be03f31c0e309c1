package pdf

import (
	"cmp"
	"slices"
	"strconv"
)

// Signature is a signed signature field (§12.8.1).
type Signature struct {
	Field          string // fully qualified name
	FieldRef       Ref
	Ref            Ref // of the signature dictionary; zero when it stands in the field itself
	Dict           Dict
	Type           Name // Sig when absent
	SubFilter      Name
	Filter         Name
	ByteRange      [4]int64
	ContentsOffset int64  // of '<'
	ContentsEnd    int64  // after '>'
	Contents       []byte // decoded, with padding
	Revision       int    // the revision that its ByteRange ends with; -1 when it ends with none
	DocMDP         int    // P of its DocMDP reference; 0 = none
	Problem        error  // why it cannot be valid whatever the keys say: ByteRange is not all but Contents, or malformed; nil otherwise
}

// Signatures returns the signed signature fields by ascending end of ByteRange, malformed ones last. An error means that the form
// itself cannot be read; what is wrong with one signature is its Problem.
func (f *File) Signatures() ([]Signature, error) {
	fm, err := f.form()
	if err != nil {
		return nil, err
	}
	return f.signatures(fm)
}

func (f *File) signatures(fm *form) ([]Signature, error) {
	out, err := f.signed(fm)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if s := &out[i]; s.Problem == nil {
			s.Problem = within("signature "+strconv.Quote(s.Field), f.readSignature(s))
		}
	}
	slices.SortStableFunc(out, func(a, b Signature) int {
		if bad := cmp.Compare(btoi(a.Problem != nil), btoi(b.Problem != nil)); bad != 0 {
			return bad
		}
		return cmp.Compare(a.ByteRange[2]+a.ByteRange[3], b.ByteRange[2]+b.ByteRange[3])
	})
	return out, nil
}

// signed lists the signed signature fields with their dictionaries, in the order of the form.
func (f *File) signed(fm *form) ([]Signature, error) {
	var out []Signature
	shared := map[Ref]bool{}
	for _, fd := range fm.fields {
		if fd.typ != "Sig" || fd.parent || fd.value == nil {
			continue
		}
		v, err := f.Resolve(fd.value)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		s := Signature{Field: fd.name, FieldRef: fd.ref, Type: "Sig", Revision: -1}
		s.Ref, _ = fd.value.(Ref)
		d, ok := v.(Dict)
		switch {
		case s.Ref != (Ref{}) && shared[s.Ref]:
			s.Problem = invalid("its dictionary %s is also another field's", s.Ref)
		case s.Ref == (Ref{}) && fd.dict["V"] == nil:
			s.Problem = invalid("it is inherited from another field")
		case !ok:
			s.Problem = invalid("its value is not a dictionary")
		default:
			s.Dict = d
			var t Name
			if t, s.Problem = f.resolveName(d["Type"], "/Type"); t != "" {
				s.Type = t
			}
		}
		shared[s.Ref] = true
		s.Problem = within("signature "+strconv.Quote(s.Field), s.Problem)
		out = append(out, s)
	}
	return out, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// readSignature fills s from its dictionary.
func (f *File) readSignature(s *Signature) error {
	var err error
	if s.SubFilter, err = f.resolveName(s.Dict["SubFilter"], "/SubFilter"); err != nil {
		return err
	}
	if s.Filter, err = f.resolveName(s.Dict["Filter"], "/Filter"); err != nil {
		return err
	}
	if s.DocMDP, err = f.docMDP(s.Dict); err != nil {
		return err
	}
	if err := f.findContents(s); err != nil {
		return err
	}
	return f.readByteRange(s)
}

// findContents records where Contents stands, from parsing the object that holds it.
func (f *File) findContents(s *Signature) error {
	holder := s.Ref
	if holder == (Ref{}) {
		holder = s.FieldRef
	}
	e, ok := f.table.find(holder.Num)
	if !ok || e.free() || e.compressed() {
		return invalid("its dictionary is in an object stream; ByteRange cannot leave out its Contents")
	}
	p, err := f.bodyAt(e)
	if err != nil {
		return err
	}
	p.skipSpace()
	return f.contentsAt(s, p)
}

// contentsAt reads Contents of the dictionary at p: a signature's, or a field's whose V is one.
func (f *File) contentsAt(s *Signature, p *parser) error {
	if s.Ref == (Ref{}) {
		start, _, ok, err := p.valueSpan(p.pos, "V")
		if err != nil {
			return err
		}
		if !ok {
			return invalid("its dictionary is not in its field")
		}
		p.pos = start
	}
	start, end, ok, err := p.valueSpan(p.pos, "Contents")
	if err != nil {
		return err
	}
	if !ok {
		return invalid("it has no /Contents")
	}
	if f.data[start] != '<' || f.data[start+1] == '<' {
		return invalid("/Contents is not a hexadecimal string")
	}
	s.ContentsOffset, s.ContentsEnd = int64(start), int64(end)
	c, ok := s.Dict["Contents"].(String)
	if !ok {
		return invalid("/Contents is not a string")
	}
	s.Contents = c
	return nil
}

// readByteRange reads ByteRange and checks that it is all of some revision but Contents (§12.8.1, EN 319 142-1 §5.3).
func (f *File) readByteRange(s *Signature) error {
	a, err := f.resolveArray(s.Dict["ByteRange"], "/ByteRange")
	if err != nil {
		return err
	}
	if len(a) != 4 {
		return invalid("/ByteRange does not have four numbers")
	}
	for i := range a {
		n, ok := a[i].(int64)
		if !ok || n < 0 || n > int64(len(f.data)) {
			return invalid("/ByteRange holds something other than positions in the file")
		}
		s.ByteRange[i] = n
	}
	end := s.ByteRange[2] + s.ByteRange[3]
	switch {
	case s.ByteRange[0] != 0:
		return invalid("/ByteRange does not begin at the start of the file")
	case s.ByteRange[1] != s.ContentsOffset || s.ByteRange[2] != s.ContentsEnd:
		return invalid("/ByteRange leaves out bytes %d to %d; its Contents are bytes %d to %d", s.ByteRange[1], s.ByteRange[2], s.ContentsOffset, s.ContentsEnd)
	case end > int64(len(f.data)):
		return invalid("/ByteRange reaches beyond the end of the file")
	}
	s.Revision = f.revisionEnding(end)
	return nil
}

// revisionEnding returns the revision that ends at pos, give or take white space after its %%EOF; -1 for none.
func (f *File) revisionEnding(pos int64) int {
	for i, e := range f.ends {
		if pos < e.eof || pos > e.eof+maxTail {
			continue
		}
		l := lexer{f.data[:pos], int(e.eof)}
		if l.skipBlank(); int64(l.pos) == pos || i == len(f.ends)-1 && pos == int64(len(f.data)) {
			return i
		}
	}
	return -1
}

// docMDP returns P of a signature's DocMDP reference (§12.8.2.2), 0 when it has none.
func (f *File) docMDP(sig Dict) (int, error) {
	p := 0
	err := f.references(sig, func(method Name, parms Dict) error {
		if method != "DocMDP" {
			return nil
		}
		n, err := f.resolveInt(parms["P"], "/P of DocMDP", 2)
		if err != nil {
			return err
		}
		if n < 1 || n > 3 || p != 0 {
			return invalid("its DocMDP reference is not one of P 1 to 3")
		}
		p = int(n)
		return nil
	})
	return p, err
}

// maxReferences bounds a signature's Reference array: there are four transform methods.
const maxReferences = 64

// references calls fn with each signature reference (§12.8.1 table 256).
func (f *File) references(sig Dict, fn func(method Name, parms Dict) error) error {
	refs, err := f.resolveArray(sig["Reference"], "/Reference")
	if err != nil {
		return err
	}
	if len(refs) > maxReferences {
		return tooLarge("a signature has %d signature references; at most %d are read", len(refs), maxReferences)
	}
	for _, o := range refs {
		d, err := f.resolveDict(o, "a signature reference")
		if err != nil {
			return err
		}
		method, err := f.resolveName(d["TransformMethod"], "/TransformMethod")
		if err != nil {
			return err
		}
		parms, err := f.resolveDict(d["TransformParams"], "/TransformParams")
		if err != nil {
			return err
		}
		if err := fn(method, parms); err != nil {
			return err
		}
	}
	return nil
}
