package pades

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/veripath/aes-appliance/internal/fault"
)

// byHand adds documents whose structure is right and that few programs write.
func (m *maker) byHand() {
	m.t.Helper()
	base := labDocument(labObjects())
	m.add(file{name: "hand: form", data: base})
	m.add(file{name: "hand: line ends are CR", data: oldMac(hand("<< /Type /Catalog /Pages 2 0 R >>", pageTree, nil))})
	m.add(file{name: "hand: no line at the end", data: bytes.TrimRight(base, "\n")})
	m.add(file{name: "hand: bytes behind EOF", data: append(bytes.Clone(base), "\n\n  \x00\x00 more\n"...)})
	m.add(file{name: "hand: version in the catalog", data: hand("<< /Type /Catalog /Pages 2 0 R /Version /1.4 >>", pageTree, nil)})
	m.add(file{name: "hand: inherited and rotated", data: hand("<< /Type /Catalog /Pages 2 0 R >>", inherited, nil)})
	for _, angle := range []int{90, 180, 270, -90, 450} {
		turned := strings.Replace(pageTree[3], "/Parent", fmt.Sprintf("/Rotate %d /CropBox [20 30 400 500] /UserUnit 1.5 /Parent", angle), 1)
		m.add(file{name: fmt.Sprintf("hand: rotated by %d", angle), data: hand("<< /Type /Catalog /Pages 2 0 R >>", objects{2: pageTree[2], 3: turned, 4: pageTree[4]}, nil)})
	}
	for name, annots := range map[string]objects{
		"indirect":         {3: "/Annots 10 0 R", 10: "[11 0 R]", 11: note},
		"null":             {3: "/Annots null"},
		"direct":           {3: "/Annots [" + note + "]"},
		"empty indirect":   {3: "/Annots 10 0 R", 10: "[]"},
		"without an array": {3: "/Annots 10 0 R", 10: "null"},
	} {
		objs := objects{2: pageTree[2], 3: strings.Replace(pageTree[3], "/Parent", annots[3]+" /Parent", 1), 4: pageTree[4], 10: annots[10], 11: annots[11]}
		m.add(file{name: "hand: annotations " + name, data: hand("<< /Type /Catalog /Pages 2 0 R >>", objs, nil)})
	}
	for name, form := range map[string]objects{
		"direct":          {1: "<< /Fields [] /DA (/Helv 0 Tf 0 g) >>"},
		"indirect fields": {1: "<< /Fields 10 0 R /NeedAppearances true >>", 10: "[]"},
		"without fields":  {1: "<< /DR << >> >>"},
		"empty":           {1: "<< >>"},
		"null":            {1: "null"},
	} {
		m.add(file{name: "hand: form " + name, data: hand("<< /Type /Catalog /Pages 2 0 R /AcroForm "+form[1]+" >>", pageTree, form)})
	}
	m.emptyFields()
	m.revisions(base)
	m.signedBefore()
}

// oldMac turns line ends into carriage returns, but for the one behind the keyword stream, which must be a line feed (ISO 32000-1, 7.3.8.1).
func oldMac(data []byte) []byte {
	return []byte(strings.NewReplacer("endstream\n", "endstream\r", "stream\n", "stream\n", "\n", "\r").Replace(string(data)))
}

const note = "<< /Type /Annot /Subtype /Text /Rect [10 10 30 30] /Contents (note \\) \\( of a pharmacist) >>"

var pageTree = objects{
	2: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
	3: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << >> >>",
	4: labStream("", "0 0 100 100 re f"),
}

// inherited is a tree of three levels whose pages have MediaBox, Resources and Rotate from above.
var inherited = objects{
	2: "<< /Type /Pages /Kids [5 0 R 6 0 R] /Count 3 /MediaBox [0 0 842 595] /Rotate 90 /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Courier >> >> >> >>",
	3: "<< /Type /Page /Parent 6 0 R /Contents [4 0 R 4 0 R] >>",
	4: labStream("", "BT /F1 12 Tf 50 50 Td (x) Tj ET"),
	5: "<< /Type /Pages /Parent 2 0 R /Kids [7 0 R 8 0 R] /Count 2 >>",
	6: "<< /Type /Pages /Parent 2 0 R /Kids [3 0 R] /Count 1 /Rotate 0 >>",
	7: "<< /Type /Page /Parent 5 0 R /Contents 4 0 R >>",
	8: "<< /Type /Page /Parent 5 0 R >>",
}

// hand writes a file with the given catalog and objects; those of more replace or complete them. Object 1 is always the catalog.
func hand(catalog string, objs, more objects) []byte {
	all := objects{}
	for _, from := range []objects{objs, more} {
		for n, body := range from {
			if body != "" {
				all[n] = body
			}
		}
	}
	all[1] = catalog
	return writeSection([]byte("%PDF-1.6\n%\xe2\xe3\xcf\xd3\n"), all, "/Root 1 0 R", 20, -1)
}

// emptyFields adds forms with signature fields that wait for a signature.
func (m *maker) emptyFields() {
	catalog := "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [10 0 R] /SigFlags 1 >> >>"
	page := strings.Replace(pageTree[3], "/Parent", "/Annots [10 0 R] /Parent", 1)
	tree := func(field objects) objects {
		objs := objects{2: pageTree[2], 3: page, 4: pageTree[4]}
		for n, body := range field {
			objs[n] = body
		}
		return objs
	}
	visible := "<< /Type /Annot /Subtype /Widget /FT /Sig /T (prescriber) /F 4 /P 3 0 R /Rect [50 50 250 120] >>"
	hidden := strings.Replace(visible, "[50 50 250 120]", "[0 0 0 0]", 1)
	m.add(file{name: "hand: empty field", field: "prescriber", data: hand(catalog, tree(objects{10: visible}), nil)})
	m.add(file{name: "hand: empty invisible field", field: "prescriber", data: hand(catalog, tree(objects{10: hidden}), nil)})
	m.add(file{name: "hand: empty field with widget apart", field: "prescriber", unseen: true, data: hand(catalog, objects{
		2: pageTree[2], 3: strings.Replace(page, "10 0 R", "11 0 R", 1), 4: pageTree[4],
		10: "<< /FT /Sig /T (prescriber) /Kids [11 0 R] >>",
		11: "<< /Type /Annot /Subtype /Widget /Parent 10 0 R /F 4 /P 3 0 R /Rect [50 50 250 120] >>",
	}, nil)})
	m.add(file{name: "hand: empty field of a field", field: "clinic.prescriber", data: hand(catalog, objects{
		2: pageTree[2], 3: strings.Replace(page, "10 0 R", "11 0 R", 1), 4: pageTree[4],
		10: "<< /T (clinic) /Kids [11 0 R] >>",
		11: "<< /Type /Annot /Subtype /Widget /Parent 10 0 R /FT /Sig /T (prescriber) /F 4 /P 3 0 R /Rect [50 50 250 120] >>",
	}, nil)})
	m.add(file{name: "hand: a new field beside an empty one", field: "nurse", data: hand(catalog, tree(objects{10: visible}), nil)})
	m.add(file{name: "hand: a text field of that name", field: "prescriber", kind: fault.Conflict,
		data: hand(catalog, tree(objects{10: strings.Replace(visible, "/Sig", "/Tx", 1)}), nil)})
}

// revisions adds files of several sections, of both kinds of cross-reference.
func (m *maker) revisions(base []byte) {
	data := labUpdate(m.t, base, objects{docContent: labStream("", "0 0 50 50 re f")})
	m.add(file{name: "hand: two revisions", data: data})
	data = labUpdate(m.t, data, objects{docOverlay: "", 12: "[1 2 3]"})
	m.add(file{name: "hand: three revisions, an object freed", data: data})
	for range 60 {
		data = labUpdate(m.t, data, objects{12: "[4 5 6]"})
	}
	m.add(file{name: "hand: 63 revisions", data: data})
	m.add(file{name: "hand: a table, then a stream", data: streamSection(base)})
	m.add(file{name: "hand: hybrid", data: hybrid()})
	linear := m.named("qpdf --linearize --object-streams=generate")
	m.add(file{name: "hand: update of a linearized file", data: streamSectionOf(linear, 900)})
	m.add(file{name: "hand: update of a file of streams", data: streamSectionOf(m.named("qpdf --object-streams=generate"), 900)})
}

// streamSection appends an update whose cross-reference is a stream (ISO 32000-1, 7.5.8) to a file of docSize objects.
func streamSection(data []byte) []byte { return streamSectionOf(data, docSize) }

// streamSectionOf adds the array [7] as object n and the stream as n+1, repeating the entries of the trailer before.
func streamSectionOf(data []byte, n int) []byte {
	b := bytes.NewBuffer(bytes.Clone(data))
	prev, root := lastXref(data), lastRoot(data)
	b.WriteString("\n")
	array := b.Len()
	fmt.Fprintf(b, "%d 0 obj\n[7]\nendobj\n", n)
	at := b.Len()
	rows := append(row(1, array), row(1, at)...)
	fmt.Fprintf(b, "%d 0 obj\n<< /Type /XRef /Size %d /Index [%d 2] /W [1 4 2] /Root %s /Prev %s /Length %d >>\nstream\n%s\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n",
		n+1, n+2, n, root, prev, len(rows), rows, at)
	return b.Bytes()
}

func row(kind byte, offset int) []byte {
	return []byte{kind, byte(offset >> 24), byte(offset >> 16), byte(offset >> 8), byte(offset), 0, 0}
}

// lastXref is the number behind the last startxref.
func lastXref(data []byte) string {
	tail := data[bytes.LastIndex(data, []byte("startxref"))+len("startxref"):]
	return string(bytes.Fields(tail)[0])
}

// lastRoot is the reference behind the last /Root.
func lastRoot(data []byte) string {
	tail := data[bytes.LastIndex(data, []byte("/Root"))+len("/Root"):]
	return string(bytes.Join(bytes.Fields(tail[:min(20, len(tail))])[:2], []byte(" "))) + " R"
}

// hybrid is a file with a table for old readers and, behind XRefStm, a stream that has more: an annotation in an object stream
// (ISO 32000-1, 7.5.8.4).
func hybrid() []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
	at := map[int]int{}
	for n, body := range []string{1: "<< /Type /Catalog /Pages 2 0 R >>", 2: pageTree[2], 3: strings.Replace(pageTree[3], "/Parent", "/Annots [6 0 R] /Parent", 1), 4: pageTree[4]} {
		if n > 0 {
			at[n] = b.Len()
			fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", n, body)
		}
	}
	at[5] = b.Len()
	inside := "6 0 " + note
	fmt.Fprintf(&b, "5 0 obj\n<< /Type /ObjStm /N 1 /First 4 /Length %d >>\nstream\n%s\nendstream\nendobj\n", len(inside), inside)
	at[7] = b.Len()
	rows := append(append(row(1, at[5]), 2, 0, 0, 0, 5, 0, 0), row(1, at[7])...) // 6 is the first object in stream 5
	fmt.Fprintf(&b, "7 0 obj\n<< /Type /XRef /Size 8 /Index [5 3] /W [1 4 2] /Length %d >>\nstream\n%s\nendstream\nendobj\n", len(rows), rows)
	xref := b.Len()
	b.WriteString("xref\n0 8\n0000000005 65535 f \n")
	for n := 1; n <= 7; n++ {
		switch n {
		case 5: // the objects that only readers of streams see are free for the others
			b.WriteString("0000000006 00000 f \n")
		case 6:
			b.WriteString("0000000007 00000 f \n")
		case 7:
			b.WriteString("0000000000 00000 f \n")
		default:
			fmt.Fprintf(&b, "%010d 00000 n \n", at[n])
		}
	}
	fmt.Fprintf(&b, "trailer\n<< /Size 8 /Root 1 0 R /XRefStm %d >>\nstartxref\n%d\n%%%%EOF\n", at[7], xref)
	return b.Bytes()
}

// signedBefore adds files that another implementation has signed, one of them certified to allow no change.
func (m *maker) signedBefore() {
	for _, name := range []string{"lta-two-tier", "lta-renewed", "lta-rsa3072", "lt-only"} {
		data, _ := readVector(m.t, name)
		m.add(file{name: "signed: " + name, data: data})
	}
	data, _ := readVector(m.t, "lta-certified-p1")
	m.add(file{name: "signed: certified, no changes", data: data, kind: fault.Forbidden})
}
