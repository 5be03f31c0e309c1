package pdf

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// hashRange is DigestRange from first principles.
func hashRange(b []byte, br [4]int64) []byte {
	h := sha256.New()
	h.Write(b[:br[1]])
	h.Write(b[br[2] : br[2]+br[3]])
	return h.Sum(nil)
}

// checkLast checks what every signing must keep: the bytes before it, a ByteRange over all but Contents, a file that opens again as the same.
func checkLast(t testing.TB, before []byte, g *File) Signature {
	t.Helper()
	data := g.Bytes()
	if !bytes.HasPrefix(data, before) {
		t.Fatal("bytes that were there have changed")
	}
	h := open(t, bytes.Clone(data))
	if err := h.Check(); err != nil {
		t.Fatal(err)
	}
	if a, b := g.Refs(), h.Refs(); !reflect.DeepEqual(a, b) {
		t.Fatalf("objects %v, opened again %v", a, b)
	}
	if a, b := g.Revisions(), h.Revisions(); !reflect.DeepEqual(a, b) {
		t.Fatalf("revisions %v, opened again %v", a, b)
	}
	if g.sections[0].stream != g.sections[1].stream {
		t.Fatal("the update's cross-reference section is of another kind than the last one")
	}
	sigs, err := h.Signatures()
	if err != nil || len(sigs) == 0 {
		t.Fatal("no signatures:", err)
	}
	s := sigs[len(sigs)-1]
	br := s.ByteRange
	if s.Problem != nil || br[0] != 0 || br[2]+br[3] != int64(len(data)) || data[br[1]] != '<' || data[br[2]-1] != '>' || s.Revision != len(h.Revisions())-1 {
		t.Fatalf("%+v of %d bytes", s, len(data))
	}
	return s
}

func TestSignKinds(t *testing.T) {
	for name, data := range kinds() {
		t.Run(name, func(t *testing.T) {
			f := open(t, data)
			p, err := Prepare(f, SignatureOptions{M: testTime, ContentsSize: 50, Name: "Dr Ω", Reason: "rx (1)", Location: "Köln", ContactInfo: "x@y"})
			if f.base > 0 {
				refused(t, err, rejection{"", nil, fault.Invalid, "before the header"})
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			digest, err := p.Digest(crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			g, err := p.Embed([]byte("signature"))
			if err != nil {
				t.Fatal(err)
			}
			s := checkLast(t, data, g)
			if !bytes.Equal(digest, hashRange(g.Bytes(), s.ByteRange)) || s.ByteRange != p.ByteRange() {
				t.Error("digest or ByteRange differ from the file's")
			}
			if want := append([]byte("signature"), make([]byte, 41)...); !bytes.Equal(s.Contents, want) {
				t.Errorf("contents %q", s.Contents)
			}
			want := Dict{"Type": Name("Sig"), "Filter": Name("Adobe.PPKLite"), "SubFilter": Name("ETSI.CAdES.detached"), "M": String("D:20261121192500Z"),
				"Name": encodeText("Dr Ω"), "Reason": String("rx (1)"), "Location": String("K\xf6ln"), "ContactInfo": String("x@y"),
				"ByteRange": s.Dict["ByteRange"], "Contents": s.Dict["Contents"]}
			if !reflect.DeepEqual(s.Dict, want) {
				t.Errorf("%v", s.Dict)
			}
			if s.Field != "Signature1" || s.Type != "Sig" || s.SubFilter != "ETSI.CAdES.detached" || s.Filter != "Adobe.PPKLite" || s.DocMDP != 0 {
				t.Errorf("%+v", s)
			}
			form, err := g.form()
			if err != nil || form.dict["SigFlags"] != int64(3) || len(form.fields) != 1 {
				t.Error(form, err)
			}
		})
	}
}

// A whole B-LTA life: three signatures by name, material, two document time stamps. Each state is a revision; one prefix is hashed once.
func TestSignSeveralTimes(t *testing.T) {
	for name, data := range map[string][]byte{"table": onePage("", ""), "stream": onePageStream("", ""), "hybrid": hybrid()} {
		t.Run(name, func(t *testing.T) {
			f := open(t, append(make([]byte, 0, 1<<20), data...))
			for i := range 3 {
				g := sign(t, f, SignatureOptions{})
				checkLast(t, f.Bytes(), g)
				g, err := AppendDSS(g, DSS{Certs: [][]byte{{1}, {byte(10 + i)}, {1}}, OCSPs: [][]byte{{byte(20 + i)}}, CRLs: [][]byte{{3}}})
				if err != nil {
					t.Fatal(err)
				}
				p, err := Prepare(g, SignatureOptions{Type: "DocTimeStamp", ContentsSize: 20})
				if err != nil {
					t.Fatal(err)
				}
				digest, err := p.Digest(crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				h, err := p.Embed([]byte{1})
				if err != nil {
					t.Fatal(err)
				}
				s := checkLast(t, g.Bytes(), h)
				if !bytes.Equal(digest, hashRange(h.Bytes(), s.ByteRange)) || s.Type != "DocTimeStamp" || s.SubFilter != "ETSI.RFC3161" || s.Dict["M"] != nil {
					t.Errorf("%+v", s)
				}
				if &h.Bytes()[0] != &f.Bytes()[0] {
					t.Error("the file was copied though there was room")
				}
				f = h
			}
			d, err := ReadDSS(f)
			if want := (DSS{Certs: [][]byte{{1}, {10}, {11}, {12}}, OCSPs: [][]byte{{20}, {21}, {22}}, CRLs: [][]byte{{3}}}); err != nil || !reflect.DeepEqual(d, want) {
				t.Error(d, err)
			}
			if same, err := AppendDSS(f, d); err != nil || same != f {
				t.Error("nothing new, but another file:", err)
			}
			again := open(t, bytes.Clone(f.Bytes()))
			sigs, err := again.Signatures()
			if err != nil || len(sigs) != 6 || len(again.Revisions()) != 10 {
				t.Fatal(len(sigs), err)
			}
			for i, s := range sigs {
				digest, err := again.DigestRange(crypto.SHA256, s.ByteRange)
				if s.Problem != nil || err != nil || !bytes.Equal(digest, hashRange(again.Bytes(), s.ByteRange)) || s.Field != fmt.Sprint("Signature", i+1) {
					t.Errorf("%d %+v %v", i, s, err)
				}
				at, err := again.At(s.Revision)
				if err != nil {
					t.Fatal(err)
				}
				if then, err := at.Signatures(); err != nil || len(then) != i+1 {
					t.Error(i, then, err)
				}
			}
			c, _, _ := again.Catalog()
			if ext := string(appendObject(nil, c["Extensions"])); ext != "<< /ESIC << /BaseVersion /1.7 /ExtensionLevel 1 /Type /DeveloperExtensions >> >>" {
				t.Error(ext)
			}
		})
	}
}

// Two updates prepared from one file do not write over each other, and no file changes after it was made.
func TestUpdatesOfOneFile(t *testing.T) {
	data := onePage("", "")
	f := open(t, append(make([]byte, 0, 1<<20), data...))
	p1, err1 := Prepare(f, SignatureOptions{M: testTime, ContentsSize: 10, Name: "one"})
	p2, err2 := Prepare(f, SignatureOptions{M: testTime, ContentsSize: 10, Name: "two"})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	d1, _ := p1.Digest(crypto.SHA256)
	d2, _ := p2.Digest(crypto.SHA256)
	g2, err2 := p2.Embed([]byte{2})
	g1, err1 := p1.Embed([]byte{1})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	g3 := sign(t, g1, SignatureOptions{})
	for i, c := range []struct {
		f      *File
		digest []byte
		name   string
	}{{g1, d1, "one"}, {g2, d2, "two"}} {
		s := checkLast(t, data, c.f)
		if string(s.Dict["Name"].(String)) != c.name || s.Contents[0] != byte(i+1) || !bytes.Equal(c.digest, hashRange(c.f.Bytes(), s.ByteRange)) {
			t.Errorf("%+v", s)
		}
	}
	checkLast(t, g1.Bytes(), g3)
	if _, err := p1.Embed([]byte{3}); fault.KindOf(err) != fault.Conflict {
		t.Error("embedded twice:", err)
	}
	if again := sign(t, f, SignatureOptions{}); !bytes.HasPrefix(again.Bytes(), data) {
		t.Error("the first file has changed")
	}
	// Bytes has no room to append over what follows.
	if b := g1.Bytes(); cap(b) != len(b) {
		t.Error("Bytes can be appended to in place")
	}
}

func TestSignIsDeterministic(t *testing.T) {
	data := onePageStream("", "")
	a := sign(t, open(t, data), SignatureOptions{Name: "x"})
	b := sign(t, open(t, data), SignatureOptions{Name: "x"})
	c := sign(t, open(t, data), SignatureOptions{Name: "y"})
	if !bytes.Equal(a.Bytes(), b.Bytes()) || reflect.DeepEqual(a.Trailer()["ID"], c.Trailer()["ID"]) {
		t.Error("equal signings differ, or unequal ones have one ID")
	}
}

// The trailer keeps what it has; the first half of ID stays, the second changes.
func TestTrailerCarriedOver(t *testing.T) {
	data := newBuilder().page("", "").obj(4, "<< /Title (T) >>").table("/Info 4 0 R /ID [<aa> <bb>] /DocChecksum /F00").b
	g := sign(t, open(t, data), SignatureOptions{})
	tr := g.Trailer()
	id := tr["ID"].(Array)
	if tr["Info"] != (Ref{4, 0}) || tr["Root"] != (Ref{1, 0}) || tr["DocChecksum"] != Name("F00") || string(id[0].(String)) != "\xaa" || len(id[1].(String)) != 16 || tr["Size"] != int64(8) {
		t.Error(tr)
	}
}

func TestFormsKept(t *testing.T) {
	field := "<< /FT /Tx /T (text) /V (v) >>"
	for name, c := range map[string]struct {
		data    []byte
		touched string // objects of the update: signature, field and what had to change
	}{
		"no form":         {onePage("", ""), "[1 0 3 0 4 0 5 0 6 0]"},
		"direct":          {newBuilder().page("/AcroForm << /Fields [4 0 R] /DA (/Helv 0 Tf) /DR << /Font << >> >> >>", "").obj(4, field).table("").b, "[1 0 3 0 5 0 6 0]"},
		"indirect":        {newBuilder().page("/AcroForm 5 0 R", "/Annots [4 0 R]").obj(4, field).obj(5, "<< /Fields [4 0 R] /DA (/Helv 0 Tf) /DR << /Font << >> >> >>").table("").b, "[3 0 5 0 6 0 7 0]"},
		"indirect arrays": {newBuilder().page("/AcroForm 5 0 R", "/Annots 7 0 R").obj(4, field).obj(5, "<< /Fields 6 0 R /SigFlags 3 /DA (/Helv 0 Tf) /DR << /Font << >> >> >>").obj(6, "[4 0 R]").obj(7, "[]").table("").b, "[6 0 7 0 8 0 9 0]"},
		"null":            {newBuilder().page("/AcroForm 5 0 R", "/Annots null").obj(5, "null").table("").b, "[1 0 3 0 6 0 7 0 8 0]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, c.data)
			before, err := f.form()
			if err != nil {
				t.Fatal(err)
			}
			g := sign(t, f, SignatureOptions{})
			s := checkLast(t, c.data, g)
			revs := g.Revisions()
			if got := fmt.Sprint(revs[len(revs)-1].Objects); got != c.touched {
				t.Errorf("objects %s, want %s", got, c.touched)
			}
			after, err := g.form()
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range []Name{"DA", "DR"} {
				if !reflect.DeepEqual(before.dict[k], after.dict[k]) {
					t.Errorf("/%s is %v", k, after.dict[k])
				}
			}
			if len(after.roots) != len(before.roots)+1 || after.dict["SigFlags"] != int64(3) {
				t.Error(after.roots, after.dict)
			}
			p, err := g.Page(0)
			if err != nil {
				t.Fatal(err)
			}
			annots, err := g.resolveArray(p.Dict["Annots"], "")
			if err != nil || annots[len(annots)-1] != Object(s.FieldRef) {
				t.Error(annots, err)
			}
		})
	}
}

func TestExistingField(t *testing.T) {
	doc := func(field, kid string) []byte {
		d := newBuilder().page("/AcroForm << /Fields [4 0 R 7 0 R] >>", "/Annots [4 0 R 5 0 R]").
			obj(4, "<< /T (a) /Kids [5 0 R] /FT /Sig >>").obj(5, "<< /T (b) /Parent 4 0 R /Lock << /Action /Include /Fields [(text)] >> "+field+" >>").
			obj(7, "<< /FT /Tx /T (text) >>")
		if kid != "" {
			d.obj(6, kid)
		}
		return d.table("").b
	}
	ap := &Appearance{Rect: [4]float64{0, 0, 50, 20}, Content: []byte("0 0 50 20 re f")}
	for name, c := range map[string]struct {
		data    []byte
		widget  Ref
		touched string
	}{
		"merged": {doc("/Subtype /Widget /Rect [1 2 3 4] /P 3 0 R /F 4", ""), Ref{5, 0}, "[1 0 5 0 8 0 9 0]"},
		"kid":    {doc("/Kids [6 0 R]", "<< /Subtype /Widget /Parent 5 0 R /Rect [1 2 3 4] >>"), Ref{6, 0}, "[1 0 5 0 6 0 8 0 9 0]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, c.data)
			g := sign(t, f, SignatureOptions{Field: "a.b", Appearance: ap})
			s := checkLast(t, c.data, g)
			if s.Field != "a.b" || s.FieldRef != (Ref{5, 0}) {
				t.Errorf("%+v", s)
			}
			if got := fmt.Sprint(g.Revisions()[1].Objects); got != c.touched {
				t.Error(got)
			}
			ref := string(appendObject(nil, s.Dict["Reference"]))
			if want := "[<< /Data 1 0 R /TransformMethod /FieldMDP /TransformParams << /Action /Include /Fields [(text)] /Type /TransformParams /V /1.2 >> /Type /SigRef >>]"; ref != want {
				t.Error(ref)
			}
			w, err := g.resolveDict(c.widget, "")
			if err != nil || !reflect.DeepEqual(w["Rect"], Array{int64(1), int64(2), int64(3), int64(4)}) || w["AP"] == nil {
				t.Error(w, err)
			}
			_, err = Prepare(g, SignatureOptions{Field: "a.b", M: testTime, ContentsSize: 10})
			refused(t, err, rejection{"", nil, fault.Conflict, "already signed"})
			_, err = Prepare(g, SignatureOptions{Field: "text", M: testTime, ContentsSize: 10})
			refused(t, err, rejection{"", nil, fault.Conflict, "not a signature field"})
			sign(t, g, SignatureOptions{Field: "other"})
		})
	}
}

func TestVisible(t *testing.T) {
	image := &Stream{Dict{"Type": Name("XObject"), "Subtype": Name("Image"), "Width": int64(1), "Height": int64(1), "ColorSpace": Name("DeviceGray"), "BitsPerComponent": int64(8), "Length": int64(77)}, []byte{7}}
	font := Dict{"Type": Name("Font"), "FontDescriptor": Dict{"Type": Name("FontDescriptor"), "FontFile2": &Stream{Raw: []byte("font")}}, "Widths": Array{1.5, 2}}
	a := &Appearance{Page: 1, Rect: [4]float64{10, 20.5, 110, 70.5}, Content: []byte("/I Do"), Resources: Dict{"XObject": Dict{"I": image}, "Font": Dict{"F": font}}}
	data := newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>").obj(2, "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 /MediaBox [0 0 9 9] >>").
		obj(3, "<< /Type /Page /Parent 2 0 R >>").obj(4, "<< /Type /Page /Parent 2 0 R >>").table("").b
	g := sign(t, open(t, data), SignatureOptions{Appearance: a})
	s := checkLast(t, data, g)
	field, err := g.resolveDict(s.FieldRef, "")
	if err != nil || field["P"] != (Ref{4, 0}) || string(appendObject(nil, field["Rect"])) != "[10 20.5 110 70.5]" || field["F"] != int64(132) {
		t.Fatal(field, err)
	}
	o, err := g.Resolve(field["AP"].(Dict)["N"])
	form := o.(*Stream)
	if err != nil || string(form.Raw) != "/I Do" || string(appendObject(nil, form.Dict["BBox"])) != "[0 0 100 50]" || form.Dict["Subtype"] != Name("Form") {
		t.Fatal(form, err)
	}
	res := form.Dict["Resources"].(Dict)
	o, err = g.Resolve(res["XObject"].(Dict)["I"])
	if im, ok := o.(*Stream); err != nil || !ok || string(im.Raw) != "\x07" || im.Dict["Width"] != int64(1) {
		t.Error(o, err)
	}
	fd, err := g.resolveDict(res["Font"].(Dict)["F"].(Dict)["FontDescriptor"], "")
	if _, ok := fd["FontFile2"].(Ref); err != nil || !ok {
		t.Error(fd, err)
	}
	if image.Dict["Length"] != int64(77) {
		t.Error("the caller's resources were changed")
	}
}

func TestPrepareRefusesOptions(t *testing.T) {
	ok := SignatureOptions{M: testTime, ContentsSize: 10}
	for _, c := range []struct {
		change func(*SignatureOptions)
		kind   fault.Kind
		want   string
	}{
		{func(o *SignatureOptions) { o.Type = "Foo" }, fault.Unsupported, "/Type /Foo"},
		{func(o *SignatureOptions) { o.SubFilter = "adbe.pkcs7.detached" }, fault.Unsupported, "it is /ETSI.CAdES.detached"},
		{func(o *SignatureOptions) { o.M = o.M.AddDate(9000, 0, 0) }, fault.Invalid, "its time"},
		{func(o *SignatureOptions) { *o = SignatureOptions{ContentsSize: 10} }, fault.Invalid, "its time"},
		{func(o *SignatureOptions) { o.ContentsSize = 0 }, fault.Invalid, "room for"},
		{func(o *SignatureOptions) { o.ContentsSize = maxContents + 1 }, fault.Invalid, "room for"},
		{func(o *SignatureOptions) { o.Certify = 4 }, fault.Invalid, "DocMDP P is 4"},
		{func(o *SignatureOptions) { o.Type, o.Reason = "DocTimeStamp", "x" }, fault.Invalid, "document time stamp"},
		{func(o *SignatureOptions) { o.Field = "a.b" }, fault.NotFound, "no form field \"a.b\""},
		{func(o *SignatureOptions) { o.Appearance = &Appearance{Page: 7, Rect: [4]float64{0, 0, 1, 1}} }, fault.NotFound, "there is no page 8"},
		{func(o *SignatureOptions) { o.Appearance = &Appearance{} }, fault.Invalid, "no area"},
		{func(o *SignatureOptions) { o.Appearance = &Appearance{Rect: [4]float64{0, 0, 1, 1e300}} }, fault.Invalid, "out of range"},
	} {
		o := ok
		c.change(&o)
		_, err := Prepare(open(t, onePage("", "")), o)
		refused(t, err, rejection{"", nil, c.kind, c.want})
	}
	p, err := Prepare(open(t, onePage("", "")), ok)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Embed(make([]byte, 11))
	refused(t, err, rejection{"", nil, fault.TooLarge, "room for 10"})
	_, err = p.Embed(nil)
	refused(t, err, rejection{"", nil, fault.TooLarge, "0 bytes"})
	_, err = p.Digest(crypto.SHA1)
	refused(t, err, rejection{"", nil, fault.Unsupported, "SHA-1"})
	_, err = Prepare(open(t, onePage("/AcroForm << /Fields [] /XFA [] >>", "")), ok)
	refused(t, err, rejection{"", nil, fault.Unsupported, "XFA"})
	if !strings.HasSuffix(string(p.u.b), "%%EOF\n") {
		t.Error("no end of file")
	}
}
