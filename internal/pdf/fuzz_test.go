package pdf

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"testing"
)

// mend gives each revision of data (what ends in %%EOF) a cross-reference table for the objects that stand in it, so that a mutated file is
// not merely refused for its offsets.
func mend(data []byte) []byte {
	header := regexp.MustCompile(`(?:^|[\r\n])([1-9][0-9]{0,3}) 0 obj`)
	var out []byte
	d := &builder{offs: map[int]int64{}, inStm: map[int][2]int{}}
	for _, part := range bytes.Split(data, []byte("%%EOF")) {
		if i := bytes.LastIndex(part, []byte("\nxref")); i >= 0 {
			part = part[:i]
		}
		if len(part) < 8 {
			continue
		}
		d.b = append(d.b, part...)
		for _, m := range header.FindAllSubmatchIndex(part, -1) {
			n, _ := strconv.Atoi(string(part[m[2]:m[3]]))
			d.offs[n] = int64(len(d.b) - len(part) + m[2])
			d.size = max(d.size, n+1)
		}
		d.b = append(d.b, '\n')
		d.table("")
		out = d.b
	}
	return out
}

// mended is mend with the ByteRange of a last signature put right again.
func mended(data []byte) []byte {
	b := mend(data)
	at, end := bytes.LastIndex(b, []byte("/Contents <")), 0
	if at >= 0 {
		at += len("/Contents ")
		if end = bytes.IndexByte(b[at:], '>'); end > 0 {
			end += at + 1
			re := regexp.MustCompile(`/ByteRange \[[0-9 ]*\]`)
			if m := re.FindAllIndex(b, -1); len(m) > 0 {
				last := m[len(m)-1]
				s := fmt.Sprintf("/ByteRange [0 %d %d %d", at, end, len(b)-end)
				if len(s) < last[1]-last[0] {
					copy(b[last[0]:last[1]-1], fmt.Sprintf("%-*s", last[1]-last[0]-1, s))
				}
			}
		}
	}
	return b
}

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
		readAll(t, data)
		readAll(t, mended(data))
	})
}

func readAll(t *testing.T, data []byte) {
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
}

// FuzzUpdate signs whatever can be signed: what was there stays, ByteRange is all but Contents, and the result opens as what Embed says.
func FuzzUpdate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		signAll(t, data)
		signAll(t, mended(data))
	})
}

func signAll(t *testing.T, data []byte) {
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

// FuzzObject: what is parsed and written again is the same object.
func FuzzObject(f *testing.F) {
	for _, s := range []string{"<< /A#42 [1 -2.5 (a\\)b) <00ff> null true 3 0 R -1 0 R] /B << >> >>", "(\\400\\r\n)", "[[[]]]", "/", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := parseText(s)
		if err != nil {
			return
		}
		again, err := parseText(string(appendObject(nil, o)))
		if err != nil || !reflect.DeepEqual(o, again) {
			t.Fatalf("%q: %#v written as %q, read again as %#v, %v", s, o, appendObject(nil, o), again, err)
		}
	})
}

// FuzzDecode: any filters with any parameters on any data.
func FuzzDecode(f *testing.F) {
	f.Add("/Filter [/ASCIIHexDecode /FlateDecode]", []byte("00>"))
	f.Add("/Filter /FlateDecode /DecodeParms << /Predictor 15 /Columns 3 /Colors 3 /BitsPerComponent 4 >>", deflate(sample))
	f.Add("/Filter /FlateDecode /DecodeParms << /Predictor 2 /Columns 3 /Colors 3 /BitsPerComponent 2 >>", deflate(sample))
	f.Add("/Filter /LZWDecode", []byte{0x80, 0x0B, 0x60, 0x50, 0x22, 0x0C, 0x0C, 0x85, 0x01})
	f.Add("/Filter /LZWDecode /DecodeParms << /EarlyChange 0 >>", unearly(sample))
	f.Add("/Filter [/ASCII85Decode /RunLengthDecode]", a85(runLength(sample)))
	file := onePage("", "")
	f.Fuzz(func(t *testing.T, dict string, raw []byte) {
		d, err := Open(file, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		o, err := parseText("<< " + dict + " >>")
		if v, ok := o.(Dict); ok && err == nil {
			if out, err := d.Decode(&Stream{v, raw}); err == nil && int64(len(out)) > d.lim.MaxDecoded {
				t.Fatal(len(out), "bytes")
			}
		}
	})
}
