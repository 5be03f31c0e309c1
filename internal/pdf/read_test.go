package pdf

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// kinds are the same document in each form that a file can have.
func kinds() map[string][]byte {
	junk := newBuilder()
	junk.page("", "").table("")
	return map[string][]byte{
		"table":        onePage("", ""),
		"stream":       onePageStream("", ""),
		"hybrid":       hybrid(),
		"updated":      newBuilder().page("", "/Old true").table("").obj(3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>").table("").b,
		"junk before":  append([]byte("HTTP/1.1 200 OK\r\n\r\n"), junk.b...),
		"junk behind":  append(onePage("", ""), "\x00\x00<html>"...),
		"no last EOL":  bytes.TrimSuffix(onePage("", ""), []byte("\n")),
		"crlf":         crlf(),
		"zero entry":   zeroEntry(),
		"linearized":   linearized(),
		"unclosed":     unclosed(),
		"header later": append([]byte("\xef\xbb\xbf"), onePage("", "")...),
	}
}

// crlf is a file with a table whose lines end in CR LF.
func crlf() []byte {
	b := bytes.Replace(onePage("", ""), []byte(" \n"), []byte("\r\n"), -1)
	return b
}

// zeroEntry has an entry in use at offset 0, as Quartz wrote for deleted objects.
func zeroEntry() []byte {
	d := newBuilder().page("", "")
	d.offs[4] = 0
	d.size = 5
	return d.table("").b
}

// linearized has the first-page section before the main one.
func linearized() []byte {
	d := newBuilder()
	d.obj(3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>").obj(1, "<< /Type /Catalog /Pages 2 0 R >>")
	d.size = 4
	first := len(d.b)
	d.free = []int{}
	d.prev = 99999
	d.table("")
	d.b = bytes.Replace(d.b, fmt.Appendf(nil, "startxref\n%d\n", first), []byte("startxref\n0\n"), 1)
	d.prev = 0
	d.obj(2, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>").table("")
	main := d.prev
	d.b = bytes.Replace(d.b, fmt.Appendf(nil, "startxref\n%d\n", main), fmt.Appendf(nil, "startxref\n%d\n", first), 1)
	return bytes.Replace(d.b, []byte("/Prev 99999"), fmt.Appendf(nil, "/Prev %05d", main), 1)
}

// unclosed has a first section without its own startxref.
func unclosed() []byte {
	d := newBuilder().page("", "").table("")
	i := bytes.Index(d.b, []byte("startxref"))
	d.b = d.b[:i]
	return d.obj(3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>").table("").b
}

func TestOpenKinds(t *testing.T) {
	for name, data := range kinds() {
		t.Run(name, func(t *testing.T) {
			before := bytes.Clone(data)
			f := open(t, data)
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			p, err := f.Page(0)
			if err != nil {
				t.Fatal(err)
			}
			want := Page{Ref: Ref{3, 0}, MediaBox: [4]float64{0, 0, 595, 842}, CropBox: [4]float64{0, 0, 595, 842},
				Dict: Dict{"Type": Name("Page"), "Parent": Ref{2, 0}, "MediaBox": Array{int64(0), int64(0), int64(595), int64(842)}}}
			if !reflect.DeepEqual(p, want) {
				t.Errorf("%+v", p)
			}
			if f.Version() != "1.7" || len(f.Refs()) < 3 || !bytes.Equal(f.Bytes(), before) {
				t.Error(f.Version(), f.Refs())
			}
			revs := f.Revisions()
			if want := map[string]int{"updated": 2}[name]; len(revs) != max(1, want) || revs[len(revs)-1].End != int64(len(data)) {
				t.Errorf("revisions %+v", revs)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for in, want := range map[string]string{"/Version /2.0": "2.0", "/Version /1.4": "1.7", "/Version /9x9": "1.7", "/Version 2": "1.7", "": "1.7"} {
		if got := open(t, onePage(in, "")).Version(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestGet(t *testing.T) {
	f := open(t, newBuilder().page("", "").obj(4, "5 0 R").obj(5, "[6 0 R]").obj(6, "6 0 R").obj(7, "8 0 R").obj(8, "7 0 R").table("").b)
	for in, want := range map[Ref]Object{{5, 0}: Array{Ref{6, 0}}, {99, 0}: nil, {0, 0}: nil, {99, 5}: nil} {
		if got, err := f.Resolve(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %v, %v", in, got, err)
		}
	}
	for _, r := range []Ref{{4, 0}, {6, 0}, {7, 0}} {
		_, err := f.Resolve(r)
		refused(t, err, rejection{"", nil, fault.Invalid, "nothing but a reference"})
	}
	_, err := f.Get(Ref{4, 2})
	refused(t, err, rejection{"", nil, fault.Invalid, "generation is 0"})
}

// The cache of parsed objects is bounded and makes no difference.
func TestGetManyTimes(t *testing.T) {
	d := newBuilder().page("", "")
	for i := 10; i < 40; i++ {
		d.obj(i, "["+strings.Repeat("0 ", 1000)+fmt.Sprint(i)+"]")
	}
	f := open(t, d.table("").b)
	for range 3 {
		for i := uint32(10); i < 40; i++ {
			o, err := f.Get(Ref{i, 0})
			if a, ok := o.(Array); err != nil || !ok || a[1000] != int64(i) {
				t.Fatal(i, err)
			}
		}
	}
	if len(f.objects) > 20 {
		t.Error(len(f.objects), "objects kept")
	}
}

func TestPageAttributes(t *testing.T) {
	d := newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>").
		obj(2, "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 3 /MediaBox [600 0 0 800.5] /Rotate 450 >>").
		obj(3, "<< /Type /Page /Parent 2 0 R /CropBox 7 0 R >>").
		obj(4, "<< /Type /Pages /Parent 2 0 R /Kids [5 0 R 6 0 R] /Count 2 /Rotate -90 >>").
		obj(5, "<< /Type /Page /Parent 4 0 R /MediaBox [1 2 3 4] /CropBox [50 50 60 60] >>").
		obj(6, "<< /Type /Page /Parent 4 0 R /Rotate 45 >>").
		obj(7, "[10 10 1000 20]")
	f := open(t, d.table("").b)
	p, err := f.Page(0)
	if err != nil || p.MediaBox != [4]float64{0, 0, 600, 800.5} || p.CropBox != [4]float64{10, 10, 600, 20} || p.Rotate != 90 {
		t.Errorf("%+v %v", p, err)
	}
	p, err = f.Page(1)
	if err != nil || p.Ref != (Ref{5, 0}) || p.MediaBox != [4]float64{1, 2, 3, 4} || p.CropBox != p.MediaBox || p.Rotate != 270 {
		t.Errorf("%+v %v", p, err)
	}
	_, err = f.Page(2)
	refused(t, err, rejection{"", nil, fault.Invalid, "/Rotate of page 3 is 45"})
	for _, i := range []int{-1, 3} {
		_, err = f.Page(i)
		refused(t, err, rejection{"", nil, fault.NotFound, "there is no page"})
	}
}

func TestRevisions(t *testing.T) {
	d := newBuilder()
	d.objStm(9, 1, "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>", "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>").obj(5, "(one)")
	d.xrefStream(10, "")
	one := len(d.b)
	d.obj(5, "(two)").obj(6, "(new)")
	five := d.offs[5]
	d.xrefStream(11, "")
	two := len(d.b)
	d.free = []int{6}
	d.offs[5] = five // restated, not changed
	d.objStm(9, 1, "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>", "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Hidden true >>")
	d.xrefStream(12, "")
	f := open(t, d.b)
	revs := f.Revisions()
	if len(revs) != 3 {
		t.Fatal(revs)
	}
	for i, want := range []struct {
		start, end int
		objects    string
	}{{0, one, "[1 0 2 0 3 0 5 0 9 0 10 0]"}, {one, two, "[5 0 6 0 11 0]"}, {two, len(d.b), "[1 0 2 0 3 0 6 0 9 0 12 0]"}} {
		r := revs[i]
		if r.Start != int64(want.start) || r.End != int64(want.end) || fmt.Sprint(r.Objects) != want.objects {
			t.Errorf("revision %d: %d to %d, %v; want %+v", i, r.Start, r.End, r.Objects, want)
		}
	}
	for i, want := range []string{"(one)", "(two)", "(two)"} {
		g, err := f.At(i)
		if err != nil {
			t.Fatal(err)
		}
		o, err := g.Get(Ref{5, 0})
		if err != nil || string(appendObject(nil, o)) != want || int64(len(g.Bytes())) != revs[i].End {
			t.Error(i, o, err)
		}
		six, err := g.Get(Ref{6, 0})
		if (six != nil) != (i == 1) || err != nil {
			t.Error(i, six, err)
		}
		p, err := g.Page(0)
		if (p.Dict["Hidden"] == true) != (i == 2) {
			t.Error(i, p, err)
		}
		again, err := Open(bytes.Clone(g.Bytes()), Limits{})
		if err != nil || !reflect.DeepEqual(again.Revisions(), g.Revisions()) || !reflect.DeepEqual(again.Refs(), g.Refs()) {
			t.Error("opening the bytes of revision", i, "gives another document:", err)
		}
	}
	for _, i := range []int{-1, 3} {
		_, err := f.At(i)
		refused(t, err, rejection{"", nil, fault.Invalid, "there is no revision"})
	}
}

// Every revision that follows the real end of a file with more bytes than an end of line still begins where that one ends.
func TestRevisionOfTheOddFile(t *testing.T) {
	for name, data := range kinds() {
		if strings.HasPrefix(name, "junk before") || name == "header later" {
			continue
		}
		f := open(t, data)
		g := sign(t, f, SignatureOptions{})
		h := open(t, bytes.Clone(g.Bytes()))
		if a, b := g.Revisions(), h.Revisions(); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: after an update %+v, opened again %+v", name, a, b)
		}
		at, err := g.At(len(g.ends) - 2)
		if err != nil || !reflect.DeepEqual(at.Refs(), f.Refs()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
