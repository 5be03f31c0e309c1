package pades

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// The lab writes PDF files by hand, so that it can write those that no decent writer would.

// objects are the bodies of indirect objects by number; "" frees one.
type objects map[int]string

// labDocument is one page with a font, a form with a text field, and an image-like overlay. Its numbers are known to the attacks.
const (
	docCatalog = 1 + iota
	docPages
	docPage
	docContent
	docFont
	docForm
	docField
	docFieldLook
	docOverlay
	docInfo
	docXMP
	docSize
)

func labObjects() objects {
	return objects{
		docCatalog:   "<< /Type /Catalog /Pages 2 0 R /AcroForm 6 0 R /Metadata 11 0 R >>",
		docPages:     "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		docPage:      "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> /XObject << /X1 9 0 R >> >> /Annots [7 0 R] >>",
		docContent:   labStream("", "BT /F1 12 Tf 72 720 Td (Amoxicillin 500 mg) Tj ET /X1 Do"),
		docFont:      "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
		docForm:      "<< /Fields [7 0 R] /DR << /Font << /F1 5 0 R >> >> /DA (/F1 12 Tf 0 g) >>",
		docField:     "<< /Type /Annot /Subtype /Widget /FT /Tx /T (quantity) /V (10) /Rect [72 600 200 620] /P 3 0 R /AP << /N 8 0 R >> >>",
		docFieldLook: labStream("/Type /XObject /Subtype /Form /BBox [0 0 128 20]", "BT /F1 12 Tf 2 5 Td (10) Tj ET"),
		docOverlay:   labStream("/Type /XObject /Subtype /Form /BBox [0 0 10 10]", "0 0 10 10 re f"),
		docInfo:      "<< /Title (Prescription) /Producer (lab) >>",
		docXMP:       labStream("/Type /Metadata /Subtype /XML", "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
	}
}

func labStream(entries, body string) string {
	return fmt.Sprintf("<< %s /Length %d >>\nstream\n%s\nendstream", entries, len(body), body)
}

// labDocument writes objs as a file.
func labDocument(objs objects) []byte {
	return writeSection([]byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), objs, "/Root 1 0 R /Info 10 0 R /ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>]", docSize, -1)
}

// labUpdate appends an incremental update.
func labUpdate(t testing.TB, data []byte, objs objects) []byte {
	t.Helper()
	f := labOpen(t, data)
	return labUpdateWith(t, data, objs, trailerEntries(f.Trailer()))
}

func labUpdateWith(t testing.TB, data []byte, objs objects, trailer string) []byte {
	t.Helper()
	f := labOpen(t, data)
	revisions := f.Revisions()
	size := int(f.Trailer()["Size"].(int64))
	for n := range objs {
		size = max(size, n+1)
	}
	return writeSection(data, objs, trailer, size, revisions[len(revisions)-1].XRef)
}

func trailerEntries(d pdf.Dict) string {
	keep := pdf.Dict{}
	for _, key := range []pdf.Name{"Root", "Info", "ID"} {
		if d[key] != nil {
			keep[key] = d[key]
		}
	}
	return strings.TrimSuffix(strings.TrimPrefix(show(keep), "<<"), ">>")
}

func labOpen(t testing.TB, data []byte) *pdf.File {
	t.Helper()
	f, err := pdf.Open(data, pdf.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// writeSection appends objects, a cross-reference table, a trailer; prev < 0 for the first.
func writeSection(data []byte, objs objects, trailer string, size int, prev int64) []byte {
	b := bytes.NewBuffer(slices.Clone(data))
	if n := b.Len(); data[n-1] != '\n' {
		b.WriteByte('\n')
	}
	numbers := make([]int, 0, len(objs))
	for n := range objs {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var table strings.Builder
	if prev < 0 {
		table.WriteString("0 1\n0000000000 65535 f \n")
	}
	for _, n := range numbers {
		if objs[n] == "" {
			fmt.Fprintf(&table, "%d 1\n0000000000 00001 f \n", n)
			continue
		}
		fmt.Fprintf(&table, "%d 1\n%010d 00000 n \n", n, b.Len())
		fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", n, objs[n])
	}
	start := b.Len()
	fmt.Fprintf(b, "xref\n%strailer\n<< /Size %d %s", table.String(), size, trailer)
	if prev >= 0 {
		fmt.Fprintf(b, " /Prev %d", prev)
	}
	fmt.Fprintf(b, " >>\nstartxref\n%d\n%%%%EOF\n", start)
	return b.Bytes()
}

// show writes an object.
func show(o pdf.Object) string {
	switch o := o.(type) {
	case nil:
		return "null"
	case pdf.Name:
		return "/" + string(o)
	case pdf.String:
		return "<" + hex.EncodeToString(o) + ">"
	case pdf.Array:
		parts := make([]string, len(o))
		for i := range o {
			parts[i] = show(o[i])
		}
		return "[" + strings.Join(parts, " ") + "]"
	case pdf.Dict:
		keys := make([]string, 0, len(o))
		for k := range o {
			keys = append(keys, string(k))
		}
		slices.Sort(keys)
		var b strings.Builder
		for _, k := range keys {
			b.WriteString("/" + k + " " + show(o[pdf.Name(k)]) + " ")
		}
		return "<<" + b.String() + ">>"
	case *pdf.Stream:
		return show(o.Dict) + "\nstream\n" + string(o.Raw) + "\nendstream"
	case pdf.Ref:
		return o.String() + " R"
	}
	return fmt.Sprint(o)
}

// seal says how the lab signs.
type seal struct {
	field     string
	stamp     bool   // a document time stamp
	rect      string // default: invisible
	look      string // an appearance stream's content
	docMDP    int
	extra     string // entries of the signature dictionary
	fieldKeys string // entries of the field
	subFilter string
	at        time.Time
	by        *holder
	bare      bool                       // no signature time stamp
	tokenAt   time.Time                  // of the signature time stamp, default at
	objects   objects                    // written besides
	cms       func(digest []byte) []byte // instead of all that
}

// sign appends a signature.
func (l *lab) sign(data []byte, s seal) []byte {
	l.t.Helper()
	f := labOpen(l.t, data)
	size := int(f.Trailer()["Size"].(int64))
	for n := range s.objects {
		size = max(size, n+1)
	}
	field, value, look := size, size+1, size+2
	objs := objects{}
	for n, body := range s.objects {
		objs[n] = body
	}
	l.enterField(f, objs, field, s.docMDP, value)
	typ, filter := "/Sig", s.subFilter
	if filter == "" {
		filter = "/ETSI.CAdES.detached"
	}
	if s.stamp {
		typ, filter = "/DocTimeStamp", "/ETSI.RFC3161"
	}
	if s.rect == "" {
		s.rect = "[0 0 0 0]"
	}
	if s.look != "" {
		objs[look] = labStream("/Type /XObject /Subtype /Form /BBox [0 0 200 50]", s.look)
		s.fieldKeys += fmt.Sprintf(" /AP << /N %d 0 R >>", look)
	}
	objs[field] = fmt.Sprintf("<< /Type /Annot /Subtype /Widget /FT /Sig /T (%s) /F 132 /Rect %s /P 3 0 R /V %d 0 R %s >>", s.field, s.rect, value, s.fieldKeys)
	if s.docMDP > 0 {
		s.extra += fmt.Sprintf(" /Reference [<< /Type /SigRef /TransformMethod /DocMDP /TransformParams << /Type /TransformParams /V /1.2 /P %d >> >>]", s.docMDP)
	}
	m := ""
	if !s.stamp {
		m = " /M (" + s.at.Format("D:20060102150405Z") + ")"
	}
	const room = 6000
	objs[value] = fmt.Sprintf("<< /Type %s /Filter /Adobe.PPKLite /SubFilter %s%s %s /ByteRange [0 AAAAAAAAAA BBBBBBBBBB CCCCCCCCCC] /Contents <%s> >>", typ, filter, m, s.extra, strings.Repeat("0", 2*room))
	return l.fillIn(labUpdate(l.t, data, objs), s)
}

// enterField writes catalog, form and page with one more field.
func (l *lab) enterField(f *pdf.File, objs objects, field, docMDP, value int) {
	l.t.Helper()
	edit := func(n int, change func(d pdf.Dict)) {
		o, err := f.Get(pdf.Ref{Num: uint32(n)})
		if err != nil {
			l.t.Fatal(err)
		}
		d := pdf.Dict{}
		for k, v := range o.(pdf.Dict) {
			d[k] = v
		}
		change(d)
		objs[n] = show(d)
	}
	ref := pdf.Ref{Num: uint32(field)}
	with := func(o pdf.Object) pdf.Array {
		list, _ := o.(pdf.Array)
		return append(slices.Clone(list), ref)
	}
	edit(docForm, func(d pdf.Dict) { d["Fields"], d["SigFlags"] = with(d["Fields"]), int64(3) })
	if _, own := objs[docPage]; !own {
		edit(docPage, func(d pdf.Dict) { d["Annots"] = with(d["Annots"]) })
	}
	if docMDP > 0 {
		edit(docCatalog, func(d pdf.Dict) { d["Perms"] = pdf.Dict{"DocMDP": pdf.Ref{Num: uint32(value)}} })
	}
}

// fillIn completes ByteRange and Contents of the last signature in data.
func (l *lab) fillIn(data []byte, s seal) []byte {
	l.t.Helper()
	from := bytes.LastIndex(data, []byte("/Contents <0000")) + len("/Contents ")
	to := from + bytes.IndexByte(data[from:], '>') + 1
	for mark, n := range map[string]int{"AAAAAAAAAA": from, "BBBBBBBBBB": to, "CCCCCCCCCC": len(data) - to} {
		at := bytes.LastIndex(data, []byte(mark))
		copy(data[at:], fmt.Sprintf("%-10d", n))
	}
	h := crypto.SHA256.New()
	h.Write(data[:from])
	h.Write(data[to:])
	copy(data[from+1:], hex.EncodeToString(l.contents(h.Sum(nil), s)))
	return data
}

func (l *lab) contents(digest []byte, s seal) []byte {
	l.t.Helper()
	switch {
	case s.cms != nil:
		return s.cms(digest)
	case s.stamp:
		by := s.by
		if by == nil {
			by = l.tsa
		}
		return l.tokenOver(by, digest, s.at)
	}
	by := s.by
	if by == nil {
		by = l.signer
	}
	signed, err := cms.Sign(rand.Reader, cms.SignParams{MessageDigest: digest, Hash: crypto.SHA256, Certificate: by.Certificate, Chain: []*x509.Certificate{by.issuer.Certificate}}, by.key)
	if err != nil {
		l.t.Fatal(err)
	}
	if !s.bare {
		at := s.tokenAt
		if at.IsZero() {
			at = s.at
		}
		if signed, err = signed.WithTimeStamp(l.token(l.tsa, signed.Signers[0].Signature, at)); err != nil {
			l.t.Fatal(err)
		}
	}
	return signed.Bytes()
}

// store appends a DSS with this material and that of the DSS before it.
func (l *lab) store(data []byte, certs, ocsps, crls [][]byte) []byte {
	l.t.Helper()
	f := labOpen(l.t, data)
	catalog, _, err := f.Catalog()
	if err != nil {
		l.t.Fatal(err)
	}
	old, err := f.Resolve(catalog["DSS"])
	if err != nil {
		l.t.Fatal(err)
	}
	dss, _ := old.(pdf.Dict)
	next := int(f.Trailer()["Size"].(int64))
	objs := objects{}
	fresh := pdf.Dict{"Type": pdf.Name("DSS")}
	for key, list := range map[pdf.Name][][]byte{"Certs": certs, "OCSPs": ocsps, "CRLs": crls} {
		refs, _ := dss[key].(pdf.Array)
		refs = slices.Clone(refs)
		for _, der := range list {
			objs[next] = labStream("", string(der))
			refs = append(refs, pdf.Ref{Num: uint32(next)})
			next++
		}
		fresh[key] = refs
	}
	objs[next] = show(fresh)
	changed := pdf.Dict{}
	for k, v := range catalog {
		changed[k] = v
	}
	changed["DSS"] = pdf.Ref{Num: uint32(next)}
	objs[docCatalog] = show(changed)
	return labUpdate(l.t, data, objs)
}

// lta returns a document signed at labTime to B-LTA.
func (l *lab) lta(document []byte, s seal) []byte {
	l.t.Helper()
	if s.field == "" {
		s.field = "Signature1"
	}
	if s.at.IsZero() {
		s.at = labTime
	}
	data := l.sign(document, s)
	certs, ocsps, crls := l.material(s.at.Add(2 * time.Second))
	data = l.store(data, certs, ocsps, crls)
	return l.sign(data, seal{field: "Stamp" + s.field, stamp: true, at: s.at.Add(5 * time.Second)})
}
