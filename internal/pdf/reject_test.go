package pdf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// rejection is one input that is refused, and how.
type rejection struct {
	name string
	data []byte
	kind fault.Kind
	want string
}

// swap replaces old, which must be there once, by new of any length: xref tables written before stay right only when it follows them or
// keeps its length.
func swap(t *testing.T, b []byte, old, new string) []byte {
	t.Helper()
	if bytes.Count(b, []byte(old)) != 1 {
		t.Fatalf("%q is %d times in the file", old, bytes.Count(b, []byte(old)))
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

func structure(t *testing.T) []rejection {
	plain := onePage("", "")
	bad := func(old, new string) []byte { return swap(t, plain, old, new) }
	xref := fmt.Sprint(bytes.Index(plain, []byte("xref\n0")))
	two := newBuilder().page("", "").table("/Encrypt 5 0 R").obj(3, "<< /Type /Page >>").table("").b
	shifted := newBuilder()
	shifted.b = append([]byte("junk\n"), shifted.b...)
	shifted.page("", "").table("")
	return []rejection{
		{"empty", nil, fault.Invalid, "no %PDF- header"},
		{"text", []byte("hello"), fault.Invalid, "no %PDF- header"},
		{"header too late", append(bytes.Repeat([]byte{' '}, 1025), plain...), fault.Invalid, "no %PDF- header"},
		{"version", bad("%PDF-1.7", "%PDF-x.7"), fault.Invalid, "version"},
		{"cut off", plain[:len(plain)-20], fault.Invalid, "startxref"},
		{"no EOF mark", bad("%%EOF", "%EOF"), fault.Invalid, "not followed by a line with a number and a line with %%EOF"},
		{"no number", bad("startxref\n"+xref, "startxref\nabc"), fault.Invalid, "not followed by a line with a number"},
		{"much junk behind", append(bytes.Clone(plain), bytes.Repeat([]byte{' '}, 1030)...), fault.Invalid, "no startxref in the last 1024 bytes"},
		{"startxref beyond", bad("startxref\n"+xref, "startxref\n999999"), fault.Invalid, "points to byte 999999"},
		{"startxref off by one", bad("startxref\n"+xref, "startxref\n"+fmt.Sprint(bytes.Index(plain, []byte("xref\n0"))-1)), fault.Invalid, "no cross-reference section"},
		{"startxref to an object", bad("startxref\n"+xref, "startxref\n15"), fault.Invalid, "not a cross-reference stream"},
		{"junk before, offsets from the start", shifted.b, fault.Invalid, "no object at byte"},
		{"junk before, offsets from either", ambiguousBase(), fault.Invalid, "fit with and without"},
		{"entry off by one", bad("0000000015 00000 n", "0000000016 00000 n"), fault.Invalid, "object 1 0 is not at byte 16"},
		{"entry of another generation", bad("0000000015 00000 n", "0000000015 00001 n"), fault.Invalid, "object 1 1 is not at byte 15"},
		{"entry of 19 bytes", bad("0000000015 00000 n \n", "0000000015 00000 n\n"), fault.Invalid, "20 bytes"},
		{"entry with letters", bad("0000000015 00000 n", "00000000x5 00000 n"), fault.Invalid, "20 bytes"},
		{"entry of another type", bad("0000000015 00000 n", "0000000015 00000 x"), fault.Invalid, "20 bytes"},
		{"object 0 in use", bad("0000000000 65535 f", "0000000015 00000 n"), fault.Invalid, "object 0 is in use"},
		{"count lies", bad("1 1\n", "1 3\n"), fault.Invalid, "20 bytes"},
		{"count lies hugely", bad("1 1\n", "1 8388607\n"), fault.Invalid, "more than the file can hold"},
		{"two entries", bad("2 1\n", "1 1\n"), fault.Invalid, "two entries for object 1"},
		{"no trailer", bad("trailer", "xrailer"), fault.Invalid, "neither a subsection nor a trailer"},
		{"trailer no dictionary", bad("trailer\n<<", "trailer\n[]<<"), fault.Invalid, "not a dictionary"},
		{"no size", bad("/Size 4", "/Sizo 4"), fault.Invalid, "no /Size from 1"},
		{"size too small", bad("/Size 4", "/Size 3"), fault.Invalid, "object 3 is in use, but /Size is 3"},
		{"no root", bad("/Root 1 0 R", "/Rooo 1 0 R"), fault.Invalid, "no /Root"},
		{"root direct", bad("/Root 1 0 R", "/Root << >>"), fault.Invalid, "no /Root"},
		{"root no catalog", bad("/Root 1 0 R", "/Root 2 0 R"), fault.Invalid, "not of /Type /Catalog"},
		{"root missing", bad("/Root 1 0 R", "/Root 9 0 R"), fault.Invalid, "not a dictionary"},
		{"root of another generation", bad("/Root 1 0 R", "/Root 1 7 R"), fault.Invalid, "generation is 0"},
		{"root twice", bad("/Root 1 0 R", "/Root 1 0 R /Root 2 0 R"), fault.Invalid, "twice"},
		{"encrypted", bad("/Root 1 0 R", "/Root 1 0 R /Encrypt << /V 1 >>"), fault.Unsupported, "encrypted"},
		{"prev loop", bad("/Root 1 0 R", "/Root 1 0 R /Prev "+xref), fault.Invalid, "loops"},
		{"prev beyond", bad("/Root 1 0 R", "/Root 1 0 R /Prev 99999"), fault.Invalid, "outside of the file"},
		{"prev negative", bad("/Root 1 0 R", "/Root 1 0 R /Prev -5"), fault.Invalid, "outside of the file"},
		{"prev zero", bad("/Root 1 0 R", "/Root 1 0 R /Prev 0"), fault.Invalid, "outside of the file"},
		{"prev indirect", bad("/Root 1 0 R", "/Root 1 0 R /Prev 2 0 R"), fault.Invalid, "not an integer"},
		{"catalog cut", swap(t, plain, "/Type /Catalog /Pages 2 0 R  >>\nendobj", "/Type /Catalog /Pages 2 0 R  >>\nendob_"), fault.Invalid, "no endobj"},
		{"old section encrypted", two, fault.Unsupported, "encrypted"},
		{"XRefStm beyond", bad("/Root 1 0 R", "/Root 1 0 R /XRefStm 99999"), fault.Invalid, "/XRefStm"},
		{"XRefStm to nothing", bad("/Root 1 0 R", "/Root 1 0 R /XRefStm 15"), fault.Invalid, "XRefStm: object at byte 15 is not"},
		{"XRefStm contradicts", contradictingHybrid(), fault.Invalid, "differ about object 3"},
		{"object in the next revision", lookAhead(), fault.Invalid, "after the end of its revision"},
		{"sections out of order", outOfOrder(), fault.Invalid, "out of the order"},
		{"object stream replaced", replacedObjStm(), fault.Invalid, "replaced without restating object 1"},
	}
}

// contradictingHybrid has object 3 in the table and, elsewhere, in XRefStm.
func contradictingHybrid() []byte {
	d := newBuilder().page("", "")
	at := len(d.b)
	d.stream(10, "/Type /XRef /W [1 4 2] /Size 11 /Index [3 1]", []byte{1, 0, 0, 0, 15, 0, 0})
	return d.table(fmt.Sprintf("/XRefStm %d", at)).b
}

// ambiguousBase has 26 bytes before the header, and a cross-reference section wherever offsets count from.
func ambiguousBase() []byte {
	plain := onePage("", "")
	at := bytes.Index(plain, []byte("xref\n0"))
	b := append([]byte("25 characters and a break\n"), plain[:at-26]...)
	b = append(b, "xref\n                     "...) // where the table is for who counts from the start
	return append(b, plain[at:]...)
}

// lookAhead has a first revision whose object 3 stands in the second.
func lookAhead() []byte {
	d := newBuilder().page("", "")
	d.offs[3] = 1000
	d.table("")
	d.b = append(d.b, bytes.Repeat([]byte{'\n'}, 1000-len(d.b))...)
	d.obj(3, "<< /Type /Page /Parent 2 0 R >>").obj(4, "null")
	delete(d.offs, 3)
	return d.table("").b
}

// outOfOrder has an update whose Prev is a section behind it that closes itself.
func outOfOrder() []byte {
	d := newBuilder().page("", "")
	body := len(d.b)
	offs := d.offs
	first := fmt.Sprintf("xref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 4 /Root 1 0 R /Prev %d >>\nstartxref\n%d\n%%%%EOF\n", 99999, body)
	d.b = append(d.b, first...)
	d.offs = offs
	d.table("")
	second := d.prev
	d.b = append(d.b, fmt.Sprintf("startxref\n%d\n%%%%EOF\n", body)...)
	return bytes.Replace(d.b, []byte("/Prev 99999"), fmt.Appendf(nil, "/Prev %05d", second), 1)
}

// replacedObjStm replaces an object stream but states only the stream itself.
func replacedObjStm() []byte {
	d := newBuilder()
	d.objStm(9, 1, "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>", "<< /Type /Page /Parent 2 0 R >>")
	d.xrefStream(10, "")
	d.objStm(9, 1, "<< /Type /Catalog /Pages 2 0 R /Evil true >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>", "<< /Type /Page /Parent 2 0 R >>")
	clear(d.inStm)
	return d.xrefStream(11, "").b
}

func streams(t *testing.T) []rejection {
	plain := onePageStream("", "")
	bad := func(old, new string) []byte { return swap(t, plain, old, new) }
	raw := func(dict string, data ...byte) []byte {
		d := newBuilder().page("", "")
		d.start = int64(len(d.b))
		at := d.start
		d.stream(4, "/Type /XRef /Root 1 0 R "+dict, data)
		d.start = at
		return d.tail().b
	}
	in := func(dict, body string) []byte { // a catalog in a hand-made object stream
		d := newBuilder()
		d.obj(2, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>").obj(3, "<< /Type /Page /Parent 2 0 R >>")
		d.inStm[1] = [2]int{9, 0}
		d.stream(9, dict, []byte(body))
		return d.xrefStream(10, "").b
	}
	cat := "<< /Type /Catalog /Pages 2 0 R >>"
	return []rejection{
		{"no XRef type", bad("/Type /XRef", "/Type /XReg"), fault.Invalid, "not a cross-reference stream"},
		{"W too short", bad("/W [1 4 2]", "/W [1 4]"), fault.Invalid, "/W"},
		{"W huge", bad("/W [1 4 2]", "/W [1 400000000 2]"), fault.Invalid, "width 2 of /W is not 0 to 8"},
		{"W negative", bad("/W [1 4 2]", "/W [1 -4 2]"), fault.Invalid, "width 2 of /W is not 0 to 8"},
		{"W zero", bad("/W [1 4 2]", "/W [0 0 0]"), fault.Invalid, "second width"},
		{"W indirect", bad("/W [1 4 2]", "/W 5 0 R"), fault.Invalid, "/W is not direct"},
		{"W wrong", bad("/W [1 4 2]", "/W [1 4 1]"), fault.TooLarge, "decodes to more than"},
		{"W too wide", bad("/W [1 4 2]", "/W [1 4 3]"), fault.Invalid, "decodes to 42 bytes"},
		{"Index odd", bad("/Index [0 1", "/Index [0 1 7"), fault.Invalid, "array of pairs"},
		{"Index lies", bad("/Index [0 1", "/Index [0 8388607"), fault.TooLarge, "entries"},
		{"Index overflows", bad("/Index [0 1", "/Index [8388606 2"), fault.Invalid, "beyond the highest"},
		{"Index overlaps", raw("/Size 5 /W [1 1 0] /Index [1 2 2 1]", 1, 15, 1, 64, 1, 15), fault.Invalid, "two entries for object 2"},
		{"Size lies", raw("/Size 8388607 /W [1 1 0]", 1, 15), fault.TooLarge, "entries"},
		{"type 3", raw("/Size 2 /W [1 1 0]", 0, 0, 3, 15), fault.Unsupported, "type 3"},
		{"offset huge", raw("/Size 2 /W [1 8 0]", 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255), fault.Invalid, "out of range"},
		{"stream number huge", raw("/Size 2 /W [1 8 0]", 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 255, 255, 255, 255, 255, 255, 255, 255), fault.Invalid, "out of range"},
		{"no object stream", raw("/Size 2 /W [1 1 0]", 0, 0, 2, 7), fault.Invalid, "object stream 7, which does not exist"},
		{"Length wrong", bad("/Index [0 1 1 1 2 1 3 1 9 1 10 1 ] /Filter /FlateDecode /Size 11 /Root 1 0 R  /Length ", "/Index [0 1 1 1 2 1 3 1 9 1 10 1 ] /Filter /FlateDecode /Size 11 /Root 1 0 R  /Length 9"), fault.Invalid, "reaches beyond"},
		{"Length indirect", raw("/Size 2 /W [1 1 0] /Length 1 0 R"), fault.Invalid, "twice"},
		{"filter unknown", raw("/Size 2 /W [1 1 0] /Filter /Foo", 1), fault.Unsupported, "filter Foo"},
		{"data damaged", raw("/Size 2 /W [1 1 0] /Filter /FlateDecode", 1, 2, 3), fault.Invalid, "damaged"},
		{"predictor", raw("/Size 2 /W [1 1 0] /Filter /FlateDecode /DecodeParms << /Predictor 7 >>", deflate([]byte{1, 2, 3, 4})...), fault.Invalid, "/Predictor is 7"},
		{"object stream without type", in("/N 1 /First 4", "1 0 "+cat), fault.Invalid, "/Type /ObjStm"},
		{"object stream without N", in("/Type /ObjStm /First 4", "1 0 "+cat), fault.Invalid, "/N or /First"},
		{"N lies", in("/Type /ObjStm /N 400000000 /First 4", "1 0 "+cat), fault.Invalid, "do not fit"},
		{"First lies", in("/Type /ObjStm /N 1 /First 4000", "1 0 "+cat), fault.Invalid, "do not fit"},
		{"offset lies", in("/Type /ObjStm /N 1 /First 6", "1 900 "+cat), fault.Invalid, "pair 0"},
		{"not the object", in("/Type /ObjStm /N 1 /First 4", "7 0 "+cat), fault.Invalid, "it is not number 0"},
		{"an object twice", in("/Type /ObjStm /N 2 /First 9", "1 0 1 40  "+cat+"         "+cat), fault.Invalid, "in it twice"},
		{"offsets not ascending", in("/Type /ObjStm /N 2 /First 8", "1 5 2 0 "+cat), fault.Invalid, "not ascending"},
		{"two objects at once", in("/Type /ObjStm /N 1 /First 4", "1 0 "+cat+" 17"), fault.Invalid, "more than one object"},
		{"a stream within", in("/Type /ObjStm /N 1 /First 4", "1 0 "+cat+" stream"), fault.Invalid, "more than one object"},
		{"Extends no reference", in("/Type /ObjStm /N 1 /First 4 /Extends 7", "1 0 "+cat), fault.Invalid, "/Extends"},
		{"needs itself", in("/Type /ObjStm /N 1 /First 4 /Filter 1 0 R", "1 0 "+cat), fault.Invalid, "needs itself"},
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range append(structure(t), streams(t)...) {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.data, Limits{})
			refused(t, err, c)
		})
	}
}

func refused(t *testing.T, err error, c rejection) {
	t.Helper()
	if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(fault.PublicOf(err), c.want) {
		t.Errorf("%v error: %v; want %v with %q", fault.KindOf(err), err, c.kind, c.want)
	}
	if err != nil && !strings.HasPrefix(fault.PublicOf(err), "PDF: ") {
		t.Errorf("the text does not say what it is about: %q", fault.PublicOf(err))
	}
}

// What lies deeper than Open looks is refused by Check, so never signed.
func TestCheckRefuses(t *testing.T) {
	with := func(body string) []byte { return newBuilder().page("", "").obj(4, body).table("").b }
	for _, c := range []rejection{
		{"syntax", with("<< /A [1 2 >>"), fault.Invalid, "object 4 0: \">\""},
		{"key twice", with("<< /A 1 /A 2 >>"), fault.Invalid, "object 4 0: dictionary at byte"},
		{"no endobj", with("17 18"), fault.Invalid, "object 4 0: no endobj"},
		{"stream after an array", with("[1]\nstream\nx\nendstream"), fault.Invalid, "no endobj"},
		{"Length missing", with("<< >>\nstream\nx\nendstream"), fault.Invalid, "without a valid /Length"},
		{"Length too small", with("<< /Length 1 >>\nstream\nxyz\nendstream"), fault.Invalid, "no endstream after the 1 bytes"},
		{"Length too large", with("<< /Length 1000 >>\nstream\nxyz\nendstream"), fault.Invalid, "reaches beyond the object"},
		{"Length negative", with("<< /Length -1 >>\nstream\nxyz\nendstream"), fault.Invalid, "without a valid /Length"},
		{"Length of itself", with("<< /Length 4 0 R >>\nstream\nxyz\nendstream"), fault.Invalid, "/Length 4 0 R is not a number"},
		{"Length elsewhere", with("<< /Length 2 0 R >>\nstream\nxyz\nendstream"), fault.Invalid, "/Length 2 0 R is not a number"},
		{"Length nowhere", with("<< /Length 77 0 R >>\nstream\nxyz\nendstream"), fault.Invalid, "/Length 77 0 R does not exist"},
		{"carriage return", with("<< /Length 3 >>\nstream\rxyz\nendstream"), fault.Invalid, "not followed by a line feed"},
		{"data outside", with("<< /Length 0 /F (other.bin) >>\nstream\n\nendstream"), fault.Unsupported, "in another file"},
		{"wrong generation", with("[2 1 R]"), fault.Invalid, "reference 2 1 R, but the object's generation is 0"},
		{"extends itself", newBuilder().page("", "").stream(4, "/Type /ObjStm /N 0 /First 0 /Extends 5 0 R", nil).stream(5, "/Type /ObjStm /N 0 /First 0 /Extends 4 0 R", nil).table("").b, fault.Invalid, "extends itself"},
		{"objects overlap", overlapping(), fault.Invalid, "has no end"},
		{"startxref apart", bytes.Replace(onePage("", ""), []byte("startxref"), []byte("apart startxref"), 1), fault.Invalid, "does not follow a cross-reference section"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, c.data)
			if c.name != "startxref apart" { // only an update makes that matter
				refused(t, f.Check(), c)
			}
			_, err := Prepare(f, SignatureOptions{M: testTime, ContentsSize: 10})
			refused(t, err, c)
		})
	}
}

// overlapping has object 5 within a string of object 4.
func overlapping() []byte {
	d := newBuilder().page("", "").obj(4, "(5 0 obj null endobj)")
	d.offs[5] = d.offs[4] + int64(len("4 0 obj\n("))
	d.size = 6
	return d.table("").b
}

func TestPagesRefuses(t *testing.T) {
	tree := func(pages string, more ...string) []byte {
		d := newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>").obj(2, pages).obj(3, "<< /Type /Page /Parent 2 0 R >>")
		for i, m := range more {
			d.obj(4+i, m)
		}
		return d.table("").b
	}
	for _, c := range []rejection{
		{"none", newBuilder().obj(1, "<< /Type /Catalog >>").table("").b, fault.Invalid, "no /Pages"},
		{"missing", newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>").table("").b, fault.Invalid, "not a dictionary"},
		{"count lies", tree("<< /Type /Pages /Kids [3 0 R] /Count 1000000000 >>"), fault.Invalid, "says 1000000000 pages and has 1"},
		{"count missing", tree("<< /Type /Pages /Kids [3 0 R] >>"), fault.Invalid, "says -1 pages"},
		{"loop", tree("<< /Type /Pages /Kids [2 0 R] /Count 1 >>"), fault.Invalid, "twice in the page tree"},
		{"twice", tree("<< /Type /Pages /Kids [3 0 R 3 0 R] /Count 2 >>"), fault.Invalid, "twice in the page tree"},
		{"direct kid", tree("<< /Type /Pages /Kids [<< /Type /Page >>] /Count 1 >>"), fault.Invalid, "other than references"},
		{"dangling kid", tree("<< /Type /Pages /Kids [9 0 R] /Count 1 >>"), fault.Invalid, "9 0 of the page tree is not a dictionary"},
		{"kids of a page", tree("<< /Type /Page /Kids [3 0 R] /Count 1 >>"), fault.Invalid, "has /Kids"},
		{"no kids", tree("<< /Type /Pages /Count 0 >>"), fault.Invalid, "has no /Kids"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := open(t, c.data).Pages()
			refused(t, err, c)
		})
	}
	deep := newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>")
	for i := 2; i < 150; i++ {
		deep.obj(i, fmt.Sprintf("<< /Type /Pages /Kids [%d 0 R] /Count 1 >>", i+1))
	}
	_, err := open(t, deep.obj(150, "<< /Type /Page >>").table("").b).Pages()
	refused(t, err, rejection{"", nil, fault.TooLarge, "deeper than 100 levels"})
}

func TestLimits(t *testing.T) {
	plain := onePage("", "")
	for _, c := range []struct {
		lim  Limits
		want string
	}{
		{Limits{MaxSize: 100}, "at most 100 are read"},
		{Limits{MaxObjects: 3}, "more than 3 cross-reference entries"},
	} {
		_, err := Open(plain, c.lim)
		refused(t, err, rejection{"", nil, fault.TooLarge, c.want})
	}
	d := newBuilder().page("", "").table("")
	for range 5 {
		d.table("")
	}
	_, err := Open(d.b, Limits{MaxSections: 5})
	refused(t, err, rejection{"", nil, fault.TooLarge, "more than 5 cross-reference sections"})
	f := open(t, newBuilder().page("", "").obj(4, strings.Repeat("[", 60)+strings.Repeat("]", 60)).table("").b)
	if err := f.Check(); err != nil {
		t.Error(err)
	}
	f, err = Open(f.Bytes(), Limits{MaxDepth: 50})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, f.Check(), rejection{"", nil, fault.TooLarge, "deeper than 50"})
}
