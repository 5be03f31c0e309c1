package pades

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// Shadow attacks: the document was prepared before it was signed. Mainka et al., "Shadow Attacks", NDSS 2021.
func TestShadow(t *testing.T) {
	l := newLab(t)
	// prepared returns a signed document whose objects were prepared, and a later update.
	prepared := func(before, after objects) func() []byte {
		return func() []byte {
			objs := labObjects()
			for n, body := range before {
				objs[n] = body
			}
			document := writeSection([]byte("%PDF-1.7\n"), objs, "/Root 1 0 R /Info 10 0 R /ID [<00> <00>]", 40, -1)
			return labUpdate(t, l.lta(document, seal{}), after)
		}
	}
	page := labObjects()[docPage]
	catalog := labObjects()[docCatalog]
	hidden := func() []byte {
		objs := labObjects()
		document := labDocument(objs)
		// The second 4 0 obj lies in the signed bytes, but no table points to it.
		at := bytes.Index(document, []byte("xref\n"))
		secret := fmt.Sprintf("4 0 obj\n%s\nendobj\n", labStream("", evil))
		document = append(append(bytes.Clone(document[:at]), secret...), document[at:]...)
		document = bytes.Replace(document, fmt.Appendf(nil, "startxref\n%d", at), fmt.Appendf(nil, "startxref\n%d", at+len(secret)), 1)
		signed := l.lta(document, seal{})
		f := labOpen(t, signed)
		revisions := f.Revisions()
		b := bytes.NewBuffer(bytes.Clone(signed))
		start := b.Len()
		fmt.Fprintf(b, "xref\n4 1\n%010d 00000 n \ntrailer\n<< /Size %d %s /Prev %d >>\nstartxref\n%d\n%%%%EOF\n", at, f.Trailer()["Size"], trailerEntries(f.Trailer()), revisions[len(revisions)-1].XRef, start)
		return b.Bytes()
	}
	run(t, l, []attack{
		{"hide: an overlay is taken away", prepared(nil, objects{docOverlay: ""}), "object 9 0"},
		{"hide: an annotation is taken away", prepared(objects{docPage: strings.Replace(page, "[7 0 R]", "[7 0 R 30 0 R]", 1), 30: "<< /Type /Annot /Subtype /Square /Rect [0 0 500 500] >>"},
			objects{30: "<< /Type /Annot /Subtype /Square /Rect [0 0 0 0] >>"}), "object 30 0"},
		{"hide: an annotation gets a flag", prepared(objects{docPage: strings.Replace(page, "[7 0 R]", "[7 0 R 30 0 R]", 1), 30: "<< /Type /Annot /Subtype /Square /Rect [0 0 500 500] >>"},
			objects{30: "<< /Type /Annot /Subtype /Square /F 2 /Rect [0 0 500 500] >>"}), "object 30 0"},
		{"replace: a field's look without its value", prepared(nil, objects{docFieldLook: labStream("/Type /XObject /Subtype /Form /BBox [0 0 128 20]", "BT /F1 12 Tf 2 5 Td (99) Tj ET")}), "though not its value"},
		{"replace: a field's look by another object", func() []byte {
			return amend(t, l.lta(labDocument(labObjects()), seal{}), docField, set("AP", pdf.Dict{"N": ref(70)}), objects{70: labStream("/Type /XObject /Subtype /Form /BBox [0 0 128 20]", "")})
		}, "though not its value"},
		{"replace: a font", prepared(nil, objects{docFont: "<< /Type /Font /Subtype /Type1 /BaseFont /Symbol >>"}), "object 5 0 (Font)"},
		{"hide and replace: another object of that number", hidden, "object 4 0"},
		{"hide and replace: an object that was missing", prepared(objects{docPage: strings.Replace(page, "/Contents 4 0 R", "/Contents [4 0 R 30 0 R]", 1)}, objects{30: labStream("", evil)}), "did not have"},
		{"content doubles as a certificate", prepared(objects{docCatalog: strings.Replace(catalog, "/Pages", "/DSS << /Certs [4 0 R] >> /Pages", 1)}, objects{docContent: labStream("", evil)}), "object 4 0"},
		{"content doubles as XMP", prepared(objects{docCatalog: strings.Replace(catalog, "11 0 R", "4 0 R", 1), docContent: labStream("/Type /Metadata", "f")}, objects{docContent: labStream("/Type /Metadata", evil)}), "object 4 0"},
		{"content doubles as a field's look", prepared(objects{docField: strings.Replace(labObjects()[docField], "8 0 R", "4 0 R", 1)}, objects{docContent: labStream("", evil), docField: strings.Replace(strings.Replace(labObjects()[docField], "8 0 R", "4 0 R", 1), "(10)", "(11)", 1)}), "object 4 0"},
		{"content doubles as a field's value", prepared(objects{docField: strings.Replace(labObjects()[docField], "(10)", "4 0 R", 1)}, objects{docContent: labStream("", evil)}), "object 4 0"},
		{"a page's annotations double as its contents", prepared(objects{docPage: strings.Replace(strings.Replace(page, "[7 0 R]", "30 0 R", 1), "/Contents 4 0 R", "/Contents 30 0 R", 1), 30: "[7 0 R]"}, objects{30: "[7 0 R 4 0 R]"}), "object 30 0"},
		{"two updates, the second takes the first back", func() []byte {
			signed := l.lta(labDocument(labObjects()), seal{})
			return labUpdate(t, labUpdate(t, signed, objects{docContent: labStream("", evil)}), objects{docContent: labObjects()[docContent]})
		}, "object 4 0"},
	})
}

// Attacks on certified documents: annotations and signatures that may be added can show anything. Rohlmann et al., "Breaking the
// Specification", S&P 2021: evil annotation (P 3) and sneaky signature (P 2).
func TestCertifiedDocuments(t *testing.T) {
	l := newLab(t)
	certified := func(p int) []byte { return l.lta(labDocument(labObjects()), seal{docMDP: p}) }
	annotate := func(data []byte) []byte {
		return amend(t, data, docPage, func(d pdf.Dict) { d["Annots"] = append(d["Annots"].(pdf.Array), ref(70)) },
			objects{70: "<< /Type /Annot /Subtype /FreeText /Rect [0 0 595 842] /Contents (Morphine) /DA (/F1 12 Tf) >>"})
	}
	later := labTime.Add(10 * time.Minute)
	fill := func(data []byte) []byte {
		return amend(t, data, docField, set("V", pdf.String("11")), objects{docFieldLook: labStream("/Type /XObject /Subtype /Form /BBox [0 0 128 20]", "BT /F1 12 Tf 2 5 Td (11) Tj ET")})
	}
	second := func(data []byte, s seal) []byte {
		s.field, s.at = "Second", later
		return l.lta(data, s)
	}
	attacks := []attack{
		{"form filled at P 1", func() []byte { return fill(certified(1)) }, `"quantity" was filled in`},
		{"signed at P 1", func() []byte { return second(certified(1), seal{}) }, `a signature "Second" was added`},
		{"visible signature at P 2", func() []byte { return second(certified(2), seal{rect: "[72 100 272 150]", look: evil}) }, "with a visible panel"},
		{"visible signature at P 3", func() []byte { return second(certified(3), seal{rect: "[72 100 272 150]", look: evil}) }, "with a visible panel"},
		{"certified once more", func() []byte { return second(certified(2), seal{docMDP: 3}) }, "entry Perms of the catalog"},
		{"certified after an approval signature", func() []byte { return second(l.lta(labDocument(labObjects()), seal{}), seal{docMDP: 3}) }, "entry Perms of the catalog"},
	}
	for p := range 4 {
		attacks = append(attacks, attack{fmt.Sprintf("annotation at P %d", p), func() []byte { return annotate(certified(p)) }, "an annotation was added to page 1"})
	}
	run(t, l, attacks)
}

// Fields that pretend to be a signature.
func TestSneakyFields(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	later := labTime.Add(10 * time.Minute)
	second := func(s seal) func() []byte {
		return func() []byte {
			if s.field == "" {
				s.field = "Second"
			}
			s.at = later
			return l.lta(signed, s)
		}
	}
	unsigned := func(field string) func() []byte {
		return func() []byte {
			data := amend(t, signed, docForm, func(d pdf.Dict) { d["Fields"] = append(d["Fields"].(pdf.Array), ref(70)) }, objects{70: field, 71: labStream("/Type /XObject /Subtype /Form /BBox [0 0 9 9]", evil)})
			return data
		}
	}
	run(t, l, []attack{
		{"empty but showing something", unsigned("<< /Type /Annot /Subtype /Widget /FT /Sig /T (X) /Rect [0 0 500 500] /P 3 0 R /AP << /N 71 0 R >> >>"), "shows something"},
		{"empty with an action", unsigned("<< /Type /Annot /Subtype /Widget /FT /Sig /T (X) /Rect [0 0 0 0] /P 3 0 R /A << /S /JavaScript /JS (1) >> >>"), "with an entry A"},
		{"with a signature of another revision", unsigned("<< /Type /Annot /Subtype /Widget /FT /Sig /T (X) /Rect [0 0 500 500] /V 13 0 R >>"), ""},
		{"of the same name", unsigned("<< /Type /Annot /Subtype /Widget /FT /Sig /T (Signature1) /Rect [0 0 0 0] >>"), "a second form field"},
		{"visible time stamp", second(seal{stamp: true, rect: "[0 0 500 500]", look: evil}), "and is visible"},
		{"over much of the page", second(seal{rect: "[0 0 595 842]", look: evil}), "covers much of page 1"},
		{"over a field", second(seal{rect: "[100 590 300 640]", look: evil}), `over the form field "quantity"`},
		{"with an action", second(seal{fieldKeys: "/AA << /E << /S /JavaScript /JS (1) >> >>"}), "with an entry AA"},
		{"with a changed content", second(seal{objects: objects{docContent: labStream("", evil)}}), "object 4 0"},
		{"placed twice", second(seal{objects: objects{docPage: strings.Replace(labObjects()[docPage], "[7 0 R]", "[7 0 R 12 0 R 23 0 R 24 0 R 24 0 R]", 1)}}), ""},
		{"in place of another", second(seal{objects: objects{docPage: strings.Replace(labObjects()[docPage], "[7 0 R]", "[7 0 R]", 1)}}), "an annotation was removed"},
	})
}

// What may follow a signature without harming it, and how the report names it.
func TestAllowedChanges(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	certified := func(p int) []byte { return l.lta(labDocument(labObjects()), seal{docMDP: p}) }
	later := labTime.Add(10 * time.Minute)
	fill := func(data []byte) []byte {
		return amend(t, data, docField, func(d pdf.Dict) { d["V"], d["AP"] = pdf.String("11"), pdf.Dict{"N": ref(70)} }, objects{70: labStream("/Type /XObject /Subtype /Form /BBox [0 0 128 20]", "BT /F1 12 Tf 2 5 Td (11) Tj ET")})
	}
	second := func(data []byte, s seal) []byte {
		s.field, s.at = "Second", later
		return l.lta(data, s)
	}
	empty := func() []byte {
		objs := labObjects()
		objs[docPage] = strings.Replace(objs[docPage], "[7 0 R]", "[7 0 R 30 0 R]", 1)
		objs[docForm] = strings.Replace(objs[docForm], "[7 0 R]", "[7 0 R 30 0 R]", 1)
		objs[30] = "<< /Type /Annot /Subtype /Widget /FT /Sig /T (Place) /F 4 /Rect [300 100 500 150] /P 3 0 R >>"
		return writeSection([]byte("%PDF-1.7\n"), objs, "/Root 1 0 R /Info 10 0 R /ID [<00> <00>]", 40, -1)
	}
	inPlace := func(p int) []byte {
		data := l.lta(empty(), seal{docMDP: p})
		size := labOpen(t, data).Trailer()["Size"].(int64)
		data = amend(t, data, 30, func(d pdf.Dict) { d["V"], d["AP"] = ref(uint32(size)), pdf.Dict{"N": ref(uint32(size) + 1)} }, objects{
			int(size):     fmt.Sprintf("<< /Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached /M (%s) /ByteRange [0 AAAAAAAAAA BBBBBBBBBB CCCCCCCCCC] /Contents <%s> >>", later.Format("D:20060102150405Z"), strings.Repeat("0", 12000)),
			int(size) + 1: labStream("/Type /XObject /Subtype /Form /BBox [0 0 200 50]", "0 0 1 rg 0 0 200 50 re f"),
		})
		data = l.fillIn(data, seal{at: later})
		certs, ocsps, crls := l.material(later.Add(2 * time.Second))
		return l.sign(l.store(data, certs, ocsps, crls), seal{field: "StampPlace", stamp: true, at: later.Add(5 * time.Second)})
	}
	for _, c := range []struct {
		name string
		data []byte
		kind string
		text string
	}{
		{"form filled", fill(signed), ChangeFormFilled, `the form field "quantity" was filled in with "11"`},
		{"form filled at P 2", fill(certified(2)), ChangeFormFilled, `was filled in with "11"`},
		{"signed again", second(signed, seal{}), ChangeSignature, `a signature "Second" was added`},
		{"signed again with a panel", second(signed, seal{rect: "[72 100 272 150]", look: "0 0 1 rg"}), ChangeSignature, "with a visible panel"},
		{"signed again at P 2", second(certified(2), seal{}), ChangeSignature, `a signature "Second" was added`},
		{"empty field signed", inPlace(0), ChangeSignature, `the empty field "Place" was signed`},
		{"empty field signed at P 2", inPlace(2), ChangeSignature, `the empty field "Place" was signed`},
		{"renewed at P 1", l.sign(certified(1), seal{field: "Again", stamp: true, at: later}), ChangeTimeStamp, `a document time stamp "Again" was added`},
		{"XMP", labUpdate(t, signed, objects{docXMP: labStream("/Type /Metadata /Subtype /XML", "<x/>")}), ChangeMetadata, "XMP metadata"},
		{"modification date", amend(t, signed, docInfo, set("ModDate", pdf.String("D:2027")), nil), ChangeMetadata, "modification date"},
		{"extensions", amend(t, signed, docCatalog, set("Extensions", pdf.Dict{"ESIC": pdf.Dict{"BaseVersion": pdf.Name("1.7"), "ExtensionLevel": int64(5)}}), nil), ChangeValidationData, "developer extensions"},
		{"the same again", labUpdate(t, signed, objects{docContent: labObjects()[docContent]}), "", ""},
		{"an object that nothing refers to", labUpdate(t, signed, objects{70: labStream("", evil)}), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := validate(t, c.data, l.roots(), labTime.Add(time.Hour))
			if !r.Good() {
				t.Fatalf("not valid\n%s", r.Text())
			}
			if c.kind == "" {
				return
			}
			if warned := strings.Contains(strings.Join(r.Signatures[0].Warnings, ";"), "covers what was signed"); warned != strings.Contains(c.name, "panel") {
				t.Errorf("warnings %q", r.Signatures[0].Warnings)
			}
			for _, change := range r.Signatures[0].Changes {
				if change.Kind == c.kind && strings.Contains(change.Text, c.text) {
					return
				}
			}
			t.Errorf("no %s %q among %+v", c.kind, c.text, r.Signatures[0].Changes)
		})
	}
}

// Fields that a signature locked (ISO 32000-2 §12.7.5.5, §12.8.2.4).
func TestLocks(t *testing.T) {
	l := newLab(t)
	reference := func(params string) seal {
		return seal{extra: "/Reference [<< /Type /SigRef /TransformMethod /FieldMDP /TransformParams << /Type /TransformParams /V /1.2 " + params + " >> >>]"}
	}
	for _, c := range []struct {
		name   string
		seal   seal
		locked bool
	}{
		{"all", reference("/Action /All"), true},
		{"this one", reference("/Action /Include /Fields [(quantity)]"), true},
		{"another", reference("/Action /Include /Fields [(name)]"), false},
		{"all but this one", reference("/Action /Exclude /Fields [(quantity)]"), false},
		{"all but another", reference("/Action /Exclude /Fields [(name)]"), true},
		{"by the field's lock", seal{fieldKeys: "/Lock << /Type /SigFieldLock /Action /All >>"}, true},
		{"by the field's lock with P 1", seal{fieldKeys: "/Lock << /Type /SigFieldLock /Action /Include /Fields [] /P 1 >>"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := amend(t, l.lta(labDocument(labObjects()), c.seal), docField, set("V", pdf.String("11")), nil)
			r := validate(t, data, l.roots(), labTime.Add(time.Hour))
			if r.Signatures[0].Modified != c.locked || r.Good() == c.locked {
				t.Errorf("modified: %v, want %v\n%s", r.Signatures[0].Modified, c.locked, r.Text())
			}
		})
	}
}
