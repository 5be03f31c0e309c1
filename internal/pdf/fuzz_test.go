package pdf

import (
	"bytes"
	"reflect"
	"testing"
)

func seeds(f *testing.F) {
	for _, data := range kinds() {
		f.Add(data)
	}
	for _, c := range [][]byte{contradictingHybrid(), lookAhead(), outOfOrder(), replacedObjStm(), overlapping(), nested(), nestedSections(2000), nestedStrings(2000), chain(3000)} {
		f.Add(c)
	}
	for _, data := range [][]byte{onePage("", ""), onePageStream("", "")} {
		g := sign(f, open(f, data), SignatureOptions{Certify: 2})
		g, err := AppendDSS(g, DSS{Certs: [][]byte{{1}}, CRLs: [][]byte{{2}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sign(f, g, SignatureOptions{Type: "DocTimeStamp"}).Bytes())
	}
	f.Add(newBuilder().page("/AcroForm << /Fields [4 0 R] >>", "/Annots 6 0 R").obj(4, "<< /FT /Sig /T (s) /Kids [5 0 R] /Lock << /Action /Exclude /Fields [(a)] >> /SV << /Ff 66 /SubFilter [/ETSI.CAdES.detached] /DigestMethod [(SHA256)] >> >>").
		obj(5, "<< /Subtype /Widget /Parent 4 0 R >>").obj(6, "[5 0 R]").table("").b)
}

// FuzzOpen opens a file and does everything that reads: nothing may panic, and what is read twice is the same.
func FuzzOpen(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		exercise(data)
		if !bytes.Equal(before, data) {
			t.Fatal("the file's bytes were changed")
		}
		d, err := Open(data, Limits{})
		if err != nil {
			return
		}
		revs := d.Revisions()
		for i, r := range revs {
			if r.Start >= r.End || r.XRef < 0 || r.XRef >= r.End || i > 0 && r.Start != revs[i-1].End || i == len(revs)-1 && r.End != int64(len(data)) {
				t.Fatalf("revisions %+v", revs)
			}
		}
		sigs, err := d.Signatures()
		if err != nil {
			return
		}
		for _, s := range sigs {
			if s.Problem == nil && (s.ByteRange[0] != 0 || s.ByteRange[1] != s.ContentsOffset || s.ByteRange[2] != s.ContentsEnd || s.ContentsEnd > int64(len(data))) {
				t.Fatalf("%+v", s)
			}
		}
	})
}

// FuzzUpdate signs whatever can be signed: what was there stays, ByteRange is all but Contents, and the result opens as what Embed says.
func FuzzUpdate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Open(data, Limits{})
		if err != nil {
			return
		}
		for _, o := range []SignatureOptions{{M: testTime, ContentsSize: 10}, {M: testTime, ContentsSize: 10, Field: "s", Appearance: &Appearance{Rect: [4]float64{0, 0, 9, 9}}}, {M: testTime, ContentsSize: 10, Certify: 1}, {Type: "DocTimeStamp", ContentsSize: 10}} {
			p, err := Prepare(d, o)
			if err != nil {
				continue
			}
			g, err := p.Embed([]byte{0x30, 0})
			if err != nil {
				t.Fatal("prepared, but not embedded:", err)
			}
			reopened(t, data, g, p.ByteRange())
			if h, err := AppendDSS(g, DSS{Certs: [][]byte{[]byte("fuzz")}}); err == nil {
				reopened(t, g.Bytes(), h, [4]int64{})
			}
		}
	})
}

func reopened(t *testing.T, before []byte, g *File, br [4]int64) {
	if !bytes.HasPrefix(g.Bytes(), before) {
		t.Fatal("bytes that were there have changed")
	}
	h, err := Open(bytes.Clone(g.Bytes()), Limits{})
	if err != nil {
		t.Fatal("what was written does not open:", err)
	}
	if err := h.Check(); err != nil {
		t.Fatal("what was written is broken:", err)
	}
	if !reflect.DeepEqual(g.Refs(), h.Refs()) || !reflect.DeepEqual(g.Revisions(), h.Revisions()) {
		t.Fatal("what was written opens as another document")
	}
	if br == ([4]int64{}) {
		return
	}
	sigs, err := h.Signatures()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sigs {
		if s.Problem == nil && s.ByteRange == br && br[2]+br[3] == int64(len(h.Bytes())) && s.Revision == len(h.Revisions())-1 {
			return
		}
	}
	t.Fatalf("the signature over %v is not found: %+v", br, sigs)
}
