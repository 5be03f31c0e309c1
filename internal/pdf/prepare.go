package pdf

import (
	"crypto"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// sigFilter is the signature handler that readers know (§12.8.1 table 255).
const sigFilter Name = "Adobe.PPKLite"

// SignatureOptions say what Prepare adds.
type SignatureOptions struct {
	Field        string // an existing empty signature field, or the name of a new one; "" = the next free "SignatureN"
	Type         Name   // Sig (also when empty) or DocTimeStamp
	SubFilter    Name   // ETSI.CAdES.detached for Sig, ETSI.RFC3161 for DocTimeStamp; may be empty
	Name         string
	Reason       string
	Location     string
	ContactInfo  string
	M            time.Time   // signing time; mandatory for Sig (EN 319 142-1 §6.3), not written for DocTimeStamp
	ContentsSize int         // bytes of DER to leave room for
	Appearance   *Appearance // nil = invisible
	Certify      int         // DocMDP P 1..3 makes it the certification signature; 0 = approval
}

// Appearance is what a visible signature shows.
type Appearance struct {
	Page      int        // counted from 0; not used with an existing field, which has its page and Rect
	Rect      [4]float64 // in the page's default user space: left, bottom, right, top
	BBox      [4]float64 // the form's; zero = 0 0 width height of Rect
	Content   []byte     // content stream
	Flate     bool       // Content is compressed: zlib, as FlateDecode reads it
	Resources Dict       // a *Stream (or a FontDescriptor dictionary) anywhere in it becomes an object of its own
}

// Prepared is a file with a signature whose Contents are still empty.
type Prepared struct {
	u        *update
	contents int // position of '<'
	size     int // bytes of DER that fit
	br       [4]int64
	digests  []crypto.Hash // nil = any
	mid      map[crypto.Hash]midstate
	done     bool
}

// maxContents bounds ContentsSize: no signature with its revocation data comes near.
const maxContents = 4 << 20

// Prepare appends an incremental section with a signature field, or an existing empty one filled, and a signature dictionary with empty
// Contents. The bytes of f stay as they are.
//
// Errors: what Check says of f; fault.Forbidden when signatures already there (DocMDP, FieldMDP, Lock) or the field (SV, read-only) do not
// permit it; fault.Conflict when the field is signed or is no signature field; fault.NotFound for a page that is not there;
// fault.Unsupported for XFA forms; fault.Invalid for options that contradict each other.
func Prepare(f *File, o SignatureOptions) (*Prepared, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	u, err := f.newUpdate(o.room())
	if err != nil {
		return nil, err
	}
	w := &signing{u: u, f: f, o: o}
	if err := w.plan(); err != nil {
		return nil, err
	}
	p := &Prepared{u: u, size: o.ContentsSize, digests: w.digests}
	if err := w.write(p); err != nil {
		return nil, err
	}
	if err := u.finish(); err != nil {
		return nil, err
	}
	p.setByteRange(w.rangeAt)
	return p, nil
}

// check refuses options that contradict each other and fills in those that follow from Type.
func (o *SignatureOptions) check() error {
	if o.Type == "" {
		o.Type = "Sig"
	}
	want := Name("ETSI.CAdES.detached")
	switch o.Type {
	case "Sig":
		if y := o.M.UTC().Year(); o.M.IsZero() || y < 1 || y > 9999 {
			return invalid("a signature needs its time, M")
		}
	case "DocTimeStamp":
		want = "ETSI.RFC3161"
		if o.Name != "" || o.Reason != "" || o.Location != "" || o.ContactInfo != "" || o.Certify != 0 {
			return invalid("a document time stamp has no name, reason, place or contact, and does not certify")
		}
	default:
		return unsupported("signatures of /Type /%s", o.Type)
	}
	if o.SubFilter == "" {
		o.SubFilter = want
	}
	if o.SubFilter != want { // EN 319 142-1 §6.3
		return unsupported("/Type /%s with /SubFilter /%s; it is /%s", o.Type, o.SubFilter, want)
	}
	if o.Certify < 0 || o.Certify > 3 {
		return invalid("DocMDP P is %d; it is 1, 2 or 3", o.Certify)
	}
	if o.ContentsSize < 1 || o.ContentsSize > maxContents {
		return invalid("room for a signature of %d bytes; it is 1 to %d", o.ContentsSize, maxContents)
	}
	return nil
}

// room returns about how many bytes the update takes.
func (o *SignatureOptions) room() int {
	n := 2*o.ContentsSize + len(o.Name) + len(o.Reason) + len(o.Location) + len(o.ContactInfo) + 8192
	if o.Appearance != nil {
		n += len(o.Appearance.Content) + 4096
	}
	return n
}

// signing is one Prepare: first everything that can be refused is, then it is written.
type signing struct {
	u       *update
	f       *File
	o       SignatureOptions
	form    *form
	field   *field // nil = a new one
	name    string
	page    Page // where a new field goes
	lock    Dict // of the existing field
	digests []crypto.Hash
	sig     Ref
	rangeAt int // position of ByteRange's '['
}

// plan decides what is written, and refuses what is not allowed.
func (w *signing) plan() error {
	var err error
	if w.form, err = w.f.form(); err != nil {
		return err
	}
	if w.form.dict["XFA"] != nil {
		return unsupported("the document has an XFA form, which viewers show instead of the pages that would be signed")
	}
	sigs, err := w.f.signed(w.form)
	if err != nil {
		return err
	}
	pm, err := w.f.permissions(w.form, sigs)
	if err != nil {
		return err
	}
	if err := w.findField(pm); err != nil {
		return err
	}
	if err := pm.allow(w.o, w.name, w.field == nil); err != nil {
		return err
	}
	if a := w.o.Appearance; a != nil {
		if err := a.check(); err != nil {
			return err
		}
	}
	if w.field != nil {
		return w.planExisting()
	}
	i := 0
	if w.o.Appearance != nil {
		i = w.o.Appearance.Page
	}
	w.page, err = w.f.Page(i)
	return err
}

// findField finds the field by its name, or a name for a new one.
func (w *signing) findField(pm *permissions) error {
	if w.name = w.o.Field; w.name == "" {
		w.name = w.form.free(func(name string) bool { return pm.lockedBy(name) != "" })
		return nil
	}
	fd, err := w.form.named(w.name)
	if err != nil {
		return err
	}
	if fd == nil {
		if strings.Contains(w.name, ".") {
			return notFound("there is no form field %q, and a new one's name has no period", w.name)
		}
		return nil
	}
	if fd.typ != "Sig" || fd.parent {
		return conflict("the form field %q is not a signature field", w.name)
	}
	v, err := w.f.Resolve(fd.value)
	if err != nil {
		return err
	}
	if v != nil {
		return conflict("the field %q is already signed", w.name)
	}
	w.field = fd
	return nil
}

// planExisting checks what an existing field demands.
func (w *signing) planExisting() error {
	const readOnly = 1 // §12.7.4.2 table 227
	if w.field.flags&readOnly != 0 {
		return forbidden("the field %q is read-only", w.name)
	}
	var err error
	if w.digests, err = w.f.seed(w.field.dict["SV"], w.o); err != nil {
		return within("field \""+w.name+"\"", err)
	}
	if w.lock, err = w.f.resolveDict(w.field.dict["Lock"], "/Lock of field "+w.name); err != nil {
		return err
	}
	if w.o.Appearance != nil && len(w.field.widgets) == 0 {
		return conflict("the field %q has no place on a page to show an appearance", w.name)
	}
	return nil
}

// check refuses boxes without an area.
func (a *Appearance) check() error {
	if a.BBox == ([4]float64{}) {
		a.BBox = [4]float64{0, 0, a.Rect[2] - a.Rect[0], a.Rect[3] - a.Rect[1]}
	}
	for _, r := range [][4]float64{a.Rect, a.BBox} {
		for _, v := range r {
			if !(v >= -1e6 && v <= 1e6) { // neither infinite nor not a number
				return invalid("the appearance has a coordinate out of range")
			}
		}
	}
	if a.BBox[0] >= a.BBox[2] || a.BBox[1] >= a.BBox[3] {
		return invalid("the appearance has no area")
	}
	return nil
}

// setByteRange writes ByteRange into the room left for it: the whole file but Contents (§12.8.1).
func (p *Prepared) setByteRange(at int) {
	end := p.contents + 2*p.size + 2
	p.br = [4]int64{0, int64(p.contents), int64(end), int64(len(p.u.b) - end)}
	s := fmt.Appendf(nil, "[0 %d %d %d", p.br[1], p.br[2], p.br[3])
	copy(p.u.b[at:at+byteRangeWidth], s)
}

// ByteRange returns the four numbers that were written.
func (p *Prepared) ByteRange() [4]int64 { return p.br }

// Digest returns the hash over ByteRange, for the signature or the time stamp that Embed takes. h is SHA-256, SHA-384 or SHA-512, and
// one that the field accepts (fault.Forbidden). The base file is read once, however many updates of it are signed.
func (p *Prepared) Digest(h crypto.Hash) ([]byte, error) {
	if err := usable(h); err != nil {
		return nil, err
	}
	if p.digests != nil && !slices.Contains(p.digests, h) {
		return nil, forbidden("the field does not accept %v", h)
	}
	f := p.u.f
	prefix(f.mid, h, f.data) // the state at the end of the base stays with it
	if p.mid == nil {
		p.mid = map[crypto.Hash]midstate{}
	}
	if m, ok := f.mid[h]; ok && m.n <= p.br[1] && p.mid[h].state == nil {
		p.mid[h] = m
	}
	w := prefix(p.mid, h, p.u.b[:p.br[1]])
	w.Write(p.u.b[p.br[2] : p.br[2]+p.br[3]])
	return w.Sum(nil), nil
}

// Embed writes der into Contents and returns the signed file. It can be called once: the memory is the new file's from then on.
func (p *Prepared) Embed(der []byte) (*File, error) {
	if p.done {
		return nil, conflict("this signature has been embedded already")
	}
	if len(der) == 0 || len(der) > p.size {
		return nil, tooLarge("a signature of %d bytes; there is room for %d", len(der), p.size)
	}
	p.done = true
	at := p.contents + 1
	appendHex(p.u.b[at:at:at+2*len(der)], der)
	g, err := p.u.f.extend(p.u)
	if err != nil {
		return nil, err
	}
	if g.mid = maps.Clone(p.mid); g.mid == nil {
		g.mid = maps.Clone(p.u.f.mid)
	}
	return g, nil
}
