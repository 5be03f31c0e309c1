package pdf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Files that some readers take as they are and others repair, and so show differently.
func TestOpenRefusesWhatSomeReaderRepairs(t *testing.T) {
	plain := onePage("", "")
	bad := func(old, new string) []byte { return swap(t, plain, old, new) }
	xref := bytes.Index(plain, []byte("xref\n0"))
	tail := fmt.Sprintf("startxref\n%d\n%%%%EOF\n", xref)
	wide := func(w string, data ...byte) []byte {
		d := newBuilder().page("", "")
		at := int64(len(d.b))
		d.stream(4, "/Type /XRef /Root 1 0 R "+w, data)
		d.start = at
		return d.tail().b
	}
	for _, c := range []rejection{
		{"startxref too early", bad(tail, "startxref\n"+fmt.Sprint(xref)+"\n%%EOF"+strings.Repeat("\n", 1024)), fault.Invalid, "no startxref in the last 1024 bytes"},
		{"startxref just outside", bad(tail, tail+strings.Repeat(" ", 1025-len(tail))), fault.Invalid, "no startxref in the last 1024 bytes"},
		{"blanks after startxref", bad(tail, "startxref"+strings.Repeat("\n", 900)+tail[10:]), fault.Invalid, "not followed by a line"},
		{"blanks before EOF", bad("%%EOF", strings.Repeat("\n", 20)+"%%EOF"), fault.Invalid, "not followed by a line"},
		{"startxref on one line", bad("startxref\n", "startxref "), fault.Invalid, "not followed by a line"},
		{"glued EOF", bad("\n%%EOF", "%%EOF"), fault.Invalid, "not followed by a line"},
		{"NUL after startxref", bad("startxref\n", "startxref\n\x00"), fault.Invalid, "not followed by a line"},
		{"tab before EOF", bad("\n%%EOF", "\n\t%%EOF"), fault.Invalid, "not followed by a line"},
		{"subsection on xref's line", bad("xref\n0 1", "xref 0 1"), fault.Invalid, "cross-reference table"},
		{"form feed after xref", bad("xref\n0 1", "xref\f0 1"), fault.Invalid, "cross-reference table"},
		{"NUL in a subsection", bad("\n0 1\n", "\n0\x001\n"), fault.Invalid, "cross-reference table"},
		{"NUL after a subsection", bad("\n0 1\n", "\n0 1\x00"), fault.Invalid, "cross-reference table"},
		{"subsection on two lines", bad("\n0 1\n", "\n0\n1\n"), fault.Invalid, "cross-reference table"},
		{"subsection with zeros", bad("\n0 1\n", "\n"+strings.Repeat("0", 40)+" 1\n"), fault.Invalid, "cross-reference table"},
		{"NUL before trailer", bad("trailer", "\x00trailer"), fault.Invalid, "cross-reference table"},
		{"size", bad("/Size 4", "/Size 8388608"), fault.Invalid, "/Size from 1 to 8388607"},
		{"size of 31 bits", bad("/Size 4", "/Size 2147483648"), fault.Invalid, "/Size from 1 to 8388607"},
		{"free number", bad("trailer", "8388607 1\n0000000000 00000 f \ntrailer"), fault.Invalid, "object 8388607"},
		{"free number of 32 bits", bad("trailer", "4294967290 1\n0000000000 00000 f \ntrailer"), fault.Invalid, "cross-reference table"},
		{"wide type", wide("/Size 1 /W [5 1 1]", 0, 0, 0, 0, 0, 0, 0), fault.Invalid, "width 1 of /W is not 0 to 2"},
		{"wide offset", wide("/Size 1 /W [1 9 0]", make([]byte, 10)...), fault.Invalid, "width 2 of /W is not 0 to 8"},
		{"wide generation", wide("/Size 1 /W [1 1 8]", make([]byte, 10)...), fault.Invalid, "width 3 of /W is not 0 to 4"},
		{"stream's size", wide("/Size 9000000 /Index [0 1] /W [1 1 1]", 0, 0, 0), fault.Invalid, "/Size from 1 to 8388607"},
		{"stream's free number", wide("/Size 4 /Index [0 1 9000000 1] /W [1 1 1]", 0, 0, 0, 0, 0, 0), fault.Invalid, "object numbers"},
		{"stream's last number", wide("/Size 4 /Index [8388607 1] /W [1 1 1]", 0, 0, 0), fault.Invalid, "beyond the highest"},
		{"in a stream of a high number", wide("/Size 1 /W [1 4 1]", 2, 0, 128, 0, 0, 0), fault.Invalid, "out of range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.data, Limits{})
			refused(t, err, c)
		})
	}
	open(t, bad(tail, tail+strings.Repeat(" ", 1024-len(tail))))
	open(t, bad(tail, strings.ReplaceAll(tail, "\n", " \r\n")))
}

// A file whose numbers are almost used up can be read, not signed.
func TestPrepareLeavesNumbers(t *testing.T) {
	for num, want := range map[int]string{8388606: "no object numbers left", 8388605: "too few object numbers left"} {
		data := newBuilder().page("", "").obj(num, "null").table("").b
		_, err := Prepare(open(t, data), SignatureOptions{M: testTime, ContentsSize: 10})
		refused(t, err, rejection{"", nil, fault.TooLarge, want})
	}
	sign(t, open(t, newBuilder().page("", "").obj(8388600, "null").table("").b), SignatureOptions{})
}

// A hybrid section may hide new objects from readers of tables, not change old ones for some readers only.
func TestHybridOverOlderObject(t *testing.T) {
	hide := func(d *builder) []byte {
		prev := d.prev
		d.obj(4, "(new)")
		d.prev = 1 // no entry for object 0
		index, data := d.xrefData()
		at := len(d.b)
		d.stream(10, "/Type /XRef /W [1 4 2] /Size 11 /Index ["+index+"]", data)
		d.offs, d.free, d.prev = map[int]int64{}, []int{4}, prev
		return d.table(fmt.Sprintf("/XRefStm %d", at)).b
	}
	_, err := Open(hide(newBuilder().page("", "").obj(4, "(old)").table("")), Limits{})
	refused(t, err, rejection{"", nil, fault.Invalid, "object 4 is free in the table and in use in XRefStm, and an older section has it"})
	freed := newBuilder().page("", "").obj(4, "(old)").table("")
	freed.free = []int{4}
	for _, d := range []*builder{newBuilder().page("", "").table(""), freed.table("")} {
		f := open(t, hide(d))
		if o, err := f.Get(Ref{4, 0}); err != nil || string(o.(String)) != "new" {
			t.Error(o, err)
		}
	}
}

// An indirect object is no reference, packed or not.
func TestCheckRefusesReferences(t *testing.T) {
	want := rejection{"", nil, fault.Invalid, "object 4 0: it is nothing but a reference, 2 0 R"}
	refused(t, open(t, newBuilder().page("", "").obj(4, "2 0 R").table("").b).Check(), want)
	refused(t, open(t, newBuilder().page("", "").objStm(9, 4, "2 0 R ").xrefStream(10, "").b).Check(), want)
	_, err := Open(newBuilder().obj(1, "2 0 R").obj(2, "<< /Type /Catalog >>").table("").b, Limits{})
	refused(t, err, rejection{"", nil, fault.Invalid, "nothing but a reference"})
}

// What is signed says of its pages that they are pages; what is only read need not.
func TestCheckRefusesPagesWithoutType(t *testing.T) {
	tree := func(node, page string) *File {
		return open(t, newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>").obj(2, "<< "+node+" /Kids [3 0 R] /Count 1 >>").obj(3, "<< "+page+" /Parent 2 0 R >>").table("").b)
	}
	for want, f := range map[string]*File{"node 2 0 of the page tree has no /Type": tree("", "/Type /Page"), "node 3 0 of the page tree has no /Type": tree("/Type /Pages", "")} {
		if _, err := f.Pages(); err != nil {
			t.Error(err)
		}
		refused(t, f.Check(), rejection{"", nil, fault.Invalid, want})
	}
}

// A DSS of a few bytes does not take a hundred megabytes.
func TestReadDSSBounds(t *testing.T) {
	store := func(kind string, filter string, data ...[]byte) *File {
		d := newBuilder().page("/DSS << /"+kind+" 9 0 R >>", "")
		var refs strings.Builder
		for i, b := range data {
			d.stream(10+i, filter, b)
			fmt.Fprintf(&refs, "%d 0 R ", 10+i)
		}
		return open(t, d.obj(9, "["+refs.String()+"]").table("").b)
	}
	twice := func(n int, first byte) []byte {
		b := make([]byte, n)
		b[0] = first
		return deflate(deflate(b))
	}
	const two = "/Filter [/FlateDecode /FlateDecode]"
	for _, kind := range []string{"Certs", "OCSPs"} {
		_, err := ReadDSS(store(kind, two, twice(maxDSSItem+1, 0)))
		refused(t, err, rejection{"", nil, fault.TooLarge, "decodes to more than 1048576 bytes"})
		_, err = ReadDSS(store(kind, "", make([]byte, maxDSSItem+1)))
		refused(t, err, rejection{"", nil, fault.TooLarge, "decodes to more than 1048576 bytes"})
	}
	_, err := ReadDSS(store("CRLs", two, twice(maxDSSCRL+1, 0)))
	refused(t, err, rejection{"", nil, fault.TooLarge, "decodes to more than"})
	crls := [][]byte{twice(12<<20, 1), twice(12<<20, 2), twice(12<<20, 3)}
	_, err = ReadDSS(store("CRLs", two, crls...))
	refused(t, err, rejection{"", nil, fault.TooLarge, "decodes to more than 33554432 bytes"})
	if d, err := ReadDSS(store("CRLs", two, crls[0], crls[0], crls[1])); err != nil || len(d.CRLs) != 2 {
		t.Error(len(d.CRLs), err)
	}
	_, err = AppendDSS(open(t, onePage("", "")), DSS{Certs: [][]byte{make([]byte, maxDSSItem+1)}})
	refused(t, err, rejection{"", nil, fault.TooLarge, "at most 1048576 are read again"})
	f := store("Certs", two, twice(19<<20, 1), twice(19<<20, 2), twice(19<<20, 3))
	if live := watch(func() { ReadDSS(f) }); live > 16<<20 {
		t.Errorf("%d MB", live>>20)
	}
}
