package pades

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// attack makes a file that shows or claims something that was not signed.
type attack struct {
	name   string
	make   func() []byte
	reason string // in the error, a reason or a change that is not allowed
}

// run expects of every attack that the file is not valid, for the right reason.
func run(t *testing.T, l *lab, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			data := a.make()
			r, err := Validate(context.Background(), data, ValidateOptions{Roots: l.roots(), At: labTime.Add(time.Hour)})
			if err != nil {
				t.Log(err)
				if !strings.Contains(err.Error(), a.reason) {
					t.Errorf("error %q does not say %q", err, a.reason)
				}
				return
			}
			if r.Good() {
				t.Fatalf("valid\n%s", r.Text())
			}
			t.Log(r.Summary)
			if said := findings(r); !strings.Contains(said, a.reason) {
				t.Errorf("nothing says %q\n%s", a.reason, r.Text())
			}
		})
	}
}

func findings(r *Report) string {
	var b strings.Builder
	for _, s := range r.Signatures {
		fmt.Fprintln(&b, strings.Join(s.Reasons, "\n"))
		for _, c := range s.Changes {
			if !c.Allowed {
				fmt.Fprintln(&b, c.Text)
			}
		}
	}
	return b.String()
}

// amend returns data with an update that edits the dictionary of object n, and adds others.
func amend(t testing.TB, data []byte, n int, edit func(d pdf.Dict), others objects) []byte {
	t.Helper()
	f := labOpen(t, data)
	o, err := f.Get(pdf.Ref{Num: uint32(n)})
	if err != nil {
		t.Fatal(err)
	}
	d := pdf.Dict{}
	for k, v := range o.(pdf.Dict) {
		d[k] = v
	}
	edit(d)
	objs := objects{n: show(d)}
	for k, v := range others {
		objs[k] = v
	}
	return labUpdate(t, data, objs)
}

func set(key pdf.Name, value pdf.Object) func(pdf.Dict) {
	return func(d pdf.Dict) {
		if value == nil {
			delete(d, key)
			return
		}
		d[key] = value
	}
}

func ref(n uint32) pdf.Ref { return pdf.Ref{Num: n} }

const evil = "BT /F1 12 Tf 72 720 Td (Morphine 500 mg) Tj ET"

// Universal signature forgery: the signature is broken so that a careless viewer finds nothing to complain about.
// Mladenov et al., "1 Trillion Dollar Refund", CCS 2019, §4.1.
func TestUniversalSignatureForgery(t *testing.T) {
	l := newLab(t)
	// To B-LT only, so that no document time stamp notices what the signature itself must.
	certs, ocsps, crls := l.material(labTime.Add(2 * time.Second))
	signed := l.store(l.sign(labDocument(labObjects()), seal{field: "Signature1", at: labTime}), certs, ocsps, crls)
	if r := validate(t, signed, l.roots(), labTime.Add(time.Hour)); !r.Good() {
		t.Fatalf("not valid before the attack\n%s", r.Text())
	}
	f := labOpen(t, signed)
	signatures, err := f.Signatures()
	if err != nil {
		t.Fatal(err)
	}
	sig := signatures[0]
	br := fmt.Sprintf("[0 %-10d %-10d %-10d]", sig.ByteRange[1], sig.ByteRange[2], sig.ByteRange[3])
	if !bytes.Contains(signed, []byte(br)) {
		t.Fatalf("no %q", br)
	}
	inPlace := func(old, new string) func() []byte {
		return func() []byte {
			if len(new) > len(old) {
				t.Fatalf("%q is longer than %q", new, old)
			}
			return bytes.Replace(signed, []byte(old), []byte(new+strings.Repeat(" ", len(old)-len(new))), 1)
		}
	}
	a, b, c := sig.ByteRange[1], sig.ByteRange[2], sig.ByteRange[3]
	attacks := []attack{}
	for name, value := range map[string]string{
		"null": "null", "empty": "[]", "a number": "0", "a name": "/All", "three numbers": fmt.Sprintf("[0 %d %d]", a, b), "two numbers": fmt.Sprintf("[0 %d]", a),
		"six numbers": fmt.Sprintf("[0 %d %d %d 0 0]", a, b, c), "negative": fmt.Sprintf("[0 %d -%d %d]", a, b, c), "negative start": fmt.Sprintf("[-1 %d %d %d]", a, b, c),
		"huge": "[0 1 2 9223372036854775807]", "overflow": "[0 1 9223372036854775807 1]", "beyond 64 bits": "[0 1 2 99999999999999999999]",
		"not from the start": fmt.Sprintf("[1 %d %d %d]", a-1, b, c), "zeros": "[0 0 0 0]", "nothing but the end": fmt.Sprintf("[0 0 %d %d]", b, c),
		"no gap": fmt.Sprintf("[0 %d %d %d]", b, b, c), "gap too wide": fmt.Sprintf("[0 %d %d %d]", a, b+10, c-10), "gap too early": fmt.Sprintf("[0 %d %d %d]", a-10, b, c),
		"short of the end": fmt.Sprintf("[0 %d %d %d]", a, b, c-50), "past the end": fmt.Sprintf("[0 %d %d %d]", a, b, c+5000), "reals": fmt.Sprintf("[0 %d. %d %d]", a, b, c),
		"reversed": fmt.Sprintf("[%d %d 0 %d]", b, c, a), "strings": "[(0) (1) (2) (3)]", "a reference to nothing": "99 0 R",
	} {
		attacks = append(attacks, attack{"ByteRange " + name, inPlace(br, value), "ByteRange"})
	}
	hexContents := string(signed[sig.ContentsOffset:sig.ContentsEnd])
	for name, value := range map[string]string{
		"null": "null", "empty": "<>", "one zero": "<00>", "zeros": "<" + strings.Repeat("0", len(hexContents)-2) + ">", "a literal string": "(" + strings.Repeat("0", len(hexContents)-2) + ")",
		"no DER": "<" + strings.Repeat("ab", len(hexContents)/2-1) + ">", "a DER NULL": "<0500>", "an empty SEQUENCE": "<3000>", "a name": "/None", "a reference to nothing": "99 0 R",
		"indefinite length": "<3080" + hexContents[5:], "garbage in the padding": hexContents[:len(hexContents)-5] + "beef>",
	} {
		attacks = append(attacks, attack{"Contents " + name, func() []byte {
			return bytes.Replace(signed, []byte(hexContents), []byte(value+strings.Repeat(" ", len(hexContents)-len(value))), 1)
		}, ""})
	}
	attacks = append(attacks,
		attack{"ByteRange missing", inPlace("/ByteRange", "/ByteRang3"), "ByteRange"},
		attack{"Contents missing", inPlace("/Contents <3", "/Content5 <3"), "Contents"},
		attack{"Type missing", inPlace("/Type /Sig ", "/Typ3 /Sig "), "digest differs"},
		attack{"SubFilter unknown", inPlace("/ETSI.CAdES.detached", "/ETSI.CAdES.detache0"), "not judged"},
		attack{"SubFilter of a time stamp", inPlace("/ETSI.CAdES.detached", "/ETSI.RFC3161"), "contradict"},
		attack{"a signed byte changed", inPlace("Amoxicillin 500", "Amoxicillin 900"), "digest differs"},
		attack{"signature dictionary redefined without ByteRange", func() []byte {
			return amend(t, signed, int(sig.Ref.Num), set("ByteRange", nil), nil)
		}, ""},
		attack{"signature dictionary redefined with another signer's name", func() []byte {
			return amend(t, signed, int(sig.Ref.Num), set("Name", pdf.String("Doctor Evil")), nil)
		}, ""},
		attack{"field's value removed", func() []byte { return amend(t, signed, int(sig.FieldRef.Num), set("V", nil), nil) }, ""},
		attack{"two fields, one signature", func() []byte {
			return amend(t, amend(t, signed, docForm, func(d pdf.Dict) { d["Fields"] = append(d["Fields"].(pdf.Array), ref(60)) }, objects{60: fmt.Sprintf("<< /FT /Sig /T (Copy) /V %v R >>", sig.Ref)}), docFont, set("Evil", true), nil)
		}, ""},
	)
	run(t, l, attacks)
}

// Incremental saving attacks: something is appended. CCS 2019, §4.2.
func TestIncrementalSaving(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	content := objects{docContent: labStream("", evil)}
	body := fmt.Sprintf("4 0 obj\n%s\nendobj\n", content[docContent])
	f := labOpen(t, signed)
	revisions := f.Revisions()
	last := revisions[len(revisions)-1].XRef
	tail := fmt.Sprintf("startxref\n%d\n%%%%EOF\n", last)
	appendTo := func(parts ...string) func() []byte {
		return func() []byte { return append(bytes.Clone(signed), strings.Join(parts, "")...) }
	}
	trailer := fmt.Sprintf("trailer\n<< /Size 40 /Root 1 0 R /Prev %d >>\n", last)
	sigDict := signed[bytes.Index(signed, []byte("/Type /Sig"))-3 : bytes.Index(signed, []byte("/Type /Sig"))+100]
	update := func(objs objects) func() []byte { return func() []byte { return labUpdate(t, signed, objs) } }
	edit := func(n int, fn func(pdf.Dict), others objects) func() []byte {
		return func() []byte { return amend(t, signed, n, fn, others) }
	}
	run(t, l, []attack{
		{"content replaced", update(content), "object 4 0"},
		{"body alone", appendTo(body), ""},
		{"body and end marker", appendTo(body, "%%EOF\n"), ""},
		{"body and the old startxref", appendTo(body, tail), ""},
		{"body and trailer, no table", appendTo(body, trailer, tail), ""},
		{"body, table without trailer", appendTo(body, "xref\n4 1\n0000000000 00000 n \n", tail), ""},
		{"body, startxref to nowhere", appendTo(body, "startxref\n999999\n%%EOF\n"), ""},
		{"body, startxref 0", appendTo(body, "startxref\n0\n%%EOF\n"), ""},
		{"body with a copy of the signature", appendTo(body, "90 0 obj\n", string(sigDict), "\nendobj\n"), ""},
		{"the document once more", func() []byte { return append(bytes.Clone(signed), signed...) }, ""},
		{"another document", func() []byte { return append(bytes.Clone(signed), labDocument(labObjects())...) }, ""},
		{"another document before", func() []byte { return append(labDocument(labObjects()), signed...) }, ""},
		{"a few bytes", appendTo("hello"), "bytes follow"},
		{"a comment", appendTo("% hello\n"), "bytes follow"},
		{"without Prev", func() []byte {
			objs := labObjects()
			objs[docContent] = content[docContent]
			return writeSection(signed, objs, trailerEntries(f.Trailer()), 40, -1)
		}, ""},
		{"Prev leaves out the signed revision", func() []byte {
			return writeSection(signed, content, trailerEntries(f.Trailer()), 40, revisions[0].XRef)
		}, ""},
		{"Prev leaves out the DSS", func() []byte {
			return writeSection(signed, content, trailerEntries(f.Trailer()), 40, revisions[1].XRef)
		}, ""},
		{"another catalog", func() []byte {
			return labUpdateWith(t, signed, objects{70: "<< /Type /Catalog /Pages 71 0 R >>", 71: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>"}, "/Root 70 0 R")
		}, ""},
		{"file identifier", func() []byte { return labUpdateWith(t, signed, content, "/Root 1 0 R /Info 10 0 R /ID [<00> <11>]") }, "file identifier"},
		{"page: another content", edit(docPage, set("Contents", ref(70)), objects{70: labStream("", evil)}), "entry Contents of page 1"},
		{"page: more content", edit(docPage, set("Contents", pdf.Array{ref(4), ref(70)}), objects{70: labStream("", evil)}), "entry Contents of page 1"},
		{"page: resources", edit(docPage, set("Resources", pdf.Dict{}), nil), "entry Resources of page 1"},
		{"page: size", edit(docPage, set("MediaBox", pdf.Array{int64(0), int64(0), int64(100), int64(100)}), nil), "entry MediaBox of page 1"},
		{"page: turned", edit(docPage, set("Rotate", int64(180)), nil), "entry Rotate of page 1"},
		{"page: action", edit(docPage, set("AA", pdf.Dict{"O": pdf.Dict{"S": pdf.Name("JavaScript"), "JS": pdf.String("1")}}), nil), "entry AA of page 1"},
		{"page added", edit(docPages, func(d pdf.Dict) { d["Kids"], d["Count"] = pdf.Array{ref(3), ref(70)}, int64(2) }, objects{70: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"}), "object 2 0 (Pages)"},
		{"page replaced", edit(docPages, set("Kids", pdf.Array{ref(70)}), objects{70: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"}), "object 2 0 (Pages)"},
		{"page freed", update(objects{docPage: ""}), ""},
		{"font", edit(docFont, set("BaseFont", pdf.Name("Symbol")), nil), "object 5 0 (Font)"},
		{"overlay changed", update(objects{docOverlay: labStream("/Type /XObject /Subtype /Form /BBox [0 0 10 10]", "")}), "object 9 0"},
		{"overlay freed", update(objects{docOverlay: ""}), "object 9 0"},
		{"type changed", update(objects{docOverlay: labStream("/Type /Metadata /Subtype /XML", "")}), "object 9 0"},
		{"catalog: OpenAction", edit(docCatalog, set("OpenAction", pdf.Dict{"S": pdf.Name("JavaScript"), "JS": pdf.String("1")}), nil), "entry OpenAction of the catalog"},
		{"catalog: AA", edit(docCatalog, set("AA", pdf.Dict{}), nil), "entry AA of the catalog"},
		{"catalog: Names", edit(docCatalog, set("Names", pdf.Dict{}), nil), "entry Names of the catalog"},
		{"catalog: OCProperties", edit(docCatalog, set("OCProperties", pdf.Dict{}), nil), "entry OCProperties of the catalog"},
		{"catalog: Pages", edit(docCatalog, set("Pages", ref(70)), objects{70: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>"}), "entry Pages of the catalog"},
		{"catalog: Perms", edit(docCatalog, set("Perms", pdf.Dict{"DocMDP": ref(13)}), nil), "entry Perms of the catalog"},
		{"catalog: no form", edit(docCatalog, set("AcroForm", nil), nil), ""},
		{"catalog: XMP is none", edit(docCatalog, set("Metadata", ref(4)), nil), "XMP metadata"},
		{"XMP becomes content", update(objects{docXMP: labStream("", evil)}), "XMP metadata became something else"},
		{"title", edit(docInfo, set("Title", pdf.String("Invoice")), nil), "entry Title"},
		{"form: viewers draw", edit(docForm, set("NeedAppearances", true), nil), "draw the form's fields anew"},
		{"form: XFA", edit(docForm, set("XFA", pdf.String("x")), nil), "entry XFA of the form"},
		{"form: calculation order", edit(docForm, set("CO", pdf.Array{ref(7)}), nil), "entry CO of the form"},
		{"form: other default font", edit(docForm, set("DR", pdf.Dict{"Font": pdf.Dict{"F1": ref(70)}}), objects{70: "<< /Type /Font /Subtype /Type1 /BaseFont /Symbol >>"}), "resource Font F1"},
		{"form: default look", edit(docForm, set("DA", pdf.String("/F1 99 Tf")), nil), "entry DA of the form"},
		{"form: SigFlags cleared", edit(docForm, set("SigFlags", int64(0)), nil), "entry SigFlags"},
		{"form: a field removed", edit(docForm, func(d pdf.Dict) { d["Fields"] = d["Fields"].(pdf.Array)[1:] }, nil), "a form field was removed"},
		{"form: a text field added", edit(docForm, func(d pdf.Dict) { d["Fields"] = append(d["Fields"].(pdf.Array), ref(70)) }, objects{70: "<< /FT /Tx /T (x) >>"}), "not for a signature"},
		{"field moved", edit(docField, set("Rect", pdf.Array{int64(0), int64(0), int64(500), int64(800)}), nil), "entry Rect of the form field"},
		{"field: action", edit(docField, set("A", pdf.Dict{"S": pdf.Name("JavaScript"), "JS": pdf.String("1")}), nil), "entry A of the form field"},
		{"field: signature becomes text", edit(12, set("FT", pdf.Name("Tx")), nil), "entry FT of the form field"},
		{"field: signature shown elsewhere", edit(12, set("Rect", pdf.Array{int64(0), int64(0), int64(500), int64(800)}), nil), "entry Rect of the form field"},
		{"DSS with an action", edit(docCatalog, set("DSS", pdf.Dict{"AA": ref(4)}), nil), "document security store got an entry AA"},
		{"DSS removed", edit(docCatalog, set("DSS", nil), nil), "document security store was removed"},
	})
}

// Signature wrapping: what was signed is moved, and something else is put where it was. CCS 2019, §4.3. The vectors have their ByteRange
// behind Contents, which lets it go with what is moved.
func TestSignatureWrapping(t *testing.T) {
	data, roots := readVector(t, "lta-two-tier")
	f := labOpen(t, data)
	signatures, err := f.Signatures()
	if err != nil {
		t.Fatal(err)
	}
	sig := signatures[0]
	signed := data[:sig.ByteRange[2]+sig.ByteRange[3]]
	first, second := signed[:sig.ContentsEnd], signed[sig.ContentsEnd:]
	pages, err := f.Pages()
	if err != nil {
		t.Fatal(err)
	}
	old, err := f.At(sig.Revision)
	if err != nil {
		t.Fatal(err)
	}
	revision := f.Revisions()[sig.Revision]
	page, err := old.Get(pages[0])
	if err != nil {
		t.Fatal(err)
	}
	const room = 4000
	entries := "/Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached /M (D:20261121172209Z)"
	// wrap moves the second part behind an update of the attacker's, in which the signature has this ByteRange.
	wrap := func(byteRange string) []byte {
		b := bytes.NewBuffer(bytes.Clone(first))
		fmt.Fprintf(b, "\n%s %s >>\nendobj\n", byteRange, entries)
		at := map[pdf.Ref]int{pages[0]: b.Len()}
		d := pdf.Dict{}
		for k, v := range page.(pdf.Dict) {
			d[k] = v
		}
		d["MediaBox"] = pdf.Array{int64(0), int64(0), int64(9), int64(9)}
		fmt.Fprintf(b, "%v obj\n%s\nendobj\n", pages[0], show(d))
		for _, ref := range revision.Objects {
			if ref == pages[0] {
				continue
			}
			head := fmt.Appendf(nil, "\n%v obj", ref)
			if at[ref] = bytes.LastIndex(first, head) + 1; at[ref] == 0 {
				o, err := old.Get(ref)
				if err != nil {
					t.Fatal(err)
				}
				at[ref] = b.Len()
				fmt.Fprintf(b, "%v obj\n%s\nendobj\n", ref, show(o))
			}
		}
		start := b.Len()
		b.WriteString("xref\n")
		for _, ref := range revision.Objects {
			fmt.Fprintf(b, "%d 1\n%010d %05d n \n", ref.Num, at[ref], ref.Gen)
		}
		fmt.Fprintf(b, "trailer\n<< %s /Size %d /Prev %d >>\nstartxref\n%d\n%%%%EOF\n", trailerEntries(revision.Trailer), revision.Trailer["Size"], f.Revisions()[sig.Revision-1].XRef, start)
		if b.Len() > len(first)+room {
			t.Fatalf("%d bytes do not fit", b.Len())
		}
		b.WriteString(strings.Repeat(" ", len(first)+room-b.Len()))
		return append(b.Bytes(), second...)
	}
	atEnd := func(wrapped []byte) []byte {
		start := bytes.LastIndex(wrapped[:len(first)+room], []byte("xref\n"+fmt.Sprint(revision.Objects[0].Num)))
		return fmt.Appendf(wrapped, "startxref\n%d\n%%%%EOF\n", start)
	}
	moved := fmt.Sprintf("/ByteRange [0 %d %d %d]", sig.ByteRange[1], len(first)+room, len(second))
	for name, attack := range map[string][]byte{
		"the moved part at its new place":                  atEnd(wrap(moved)),
		"the moved part at its new place, no new end":      wrap(moved),
		"the moved part where it was":                      atEnd(wrap(fmt.Sprintf("/ByteRange [0 %d %d %d]", sig.ByteRange[1], sig.ByteRange[2], sig.ByteRange[3]))),
		"everything up to the new end":                     atEnd(wrap(fmt.Sprintf("/ByteRange [0 %d %d %d]", sig.ByteRange[1], sig.ByteRange[2], room+len(second)))),
		"three parts":                                      atEnd(wrap(fmt.Sprintf("/ByteRange [0 %d %d 0 %d %d]", sig.ByteRange[1], sig.ByteRange[2], len(first)+room, len(second)))),
		"the second ByteRange behind that of the signer's": atEnd(wrap(fmt.Sprintf("/ByteRange [0 %d %d %d] %s", sig.ByteRange[1], sig.ByteRange[2], sig.ByteRange[3], moved))),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Validate(context.Background(), attack, ValidateOptions{Roots: roots, At: judged})
			if err != nil {
				t.Log(err)
				return
			}
			t.Log(r.Summary)
			if r.Verdict != Invalid {
				t.Fatalf("%s\n%s", r.Verdict, r.Text())
			}
		})
	}
}

// Objects exchanged by a cross-reference section that readers without cross-reference streams do not see (hybrid files).
func TestHybridSwap(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	f := labOpen(t, signed)
	revisions := f.Revisions()
	hybrid := func(table string, stream func(at int) string) func() []byte {
		return func() []byte {
			b := bytes.NewBuffer(bytes.Clone(signed))
			at := b.Len()
			fmt.Fprintf(b, "4 0 obj\n%s\nendobj\n", labStream("", evil))
			xrefStream := b.Len()
			entries := stream(at)
			fmt.Fprintf(b, "80 0 obj\n<< /Type /XRef /Size 81 /W [1 4 2] /Index [4 1] /Length %d >>\nstream\n%s\nendstream\nendobj\n", len(entries), entries)
			start := b.Len()
			fmt.Fprintf(b, "xref\n"+table+"trailer\n<< /Size 81 %s /Prev %d /XRefStm %d >>\nstartxref\n%d\n%%%%EOF\n", trailerEntries(f.Trailer()), revisions[len(revisions)-1].XRef, xrefStream, start)
			return b.Bytes()
		}
	}
	entry := func(at int) string {
		return string([]byte{1, byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at), 0, 0})
	}
	content := bytes.Index(signed, []byte("4 0 obj"))
	run(t, l, []attack{
		{"only in the stream", hybrid("0 1\n0000000000 65535 f \n", entry), ""},
		{"free in the table", hybrid("4 1\n0000000000 00000 f \n", entry), ""},
		{"as it was in the table", hybrid(fmt.Sprintf("4 1\n%010d 00000 n \n", content), entry), ""},
		{"in the table, as it was in the stream", func() []byte {
			b := hybrid("4 1\nXXXXXXXXXX 00000 n \n", func(int) string { return entry(content) })()
			return bytes.Replace(b, []byte("XXXXXXXXXX"), fmt.Appendf(nil, "%010d", len(signed)), 1)
		}, ""},
	})
}
