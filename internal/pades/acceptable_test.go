package pades

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// plainObjects is a page of text as a document of its own: nothing of labObjects that Acceptable refuses.
func plainObjects() objects {
	return objects{
		1: "<< /Type /Catalog /Pages 2 0 R >>",
		2: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		3: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
		4: labStream("", "BT /F1 12 Tf 72 720 Td (Amoxicillin 500 mg) Tj ET"),
		5: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
		6: "<< /Title (Prescription) >>",
	}
}

func plainDocument(objs objects) []byte {
	size := 0
	for n := range objs {
		size = max(size, n+1)
	}
	return writeSection([]byte("%PDF-1.7\n"), objs, "/Root 1 0 R /Info 6 0 R /ID [<00> <00>]", size, -1)
}

// with returns the plain document with further entries in its catalog and page, and further objects.
func with(catalog, page string, more objects) []byte {
	objs := plainObjects()
	objs[1] = strings.Replace(objs[1], ">>", catalog+" >>", 1)
	objs[3] = strings.TrimSuffix(objs[3], ">>") + page + " >>"
	for n, body := range more {
		objs[n] = body
	}
	return plainDocument(objs)
}

const form = "/Type /XObject /Subtype /Form /BBox [0 0 9 9]"

// Each thing that is refused, alone in an otherwise plain document, with its kind and its reason.
func TestAcceptableRefuses(t *testing.T) {
	plain := plainDocument(plainObjects())
	cases := map[string]struct {
		data []byte
		kind string
		text string
	}{
		"JavaScript at opening":      {with("/OpenAction << /S /JavaScript /JS (app.alert(1)) >>", "", nil), RiskJavaScript, "opening the document runs JavaScript"},
		"JavaScript by name":         {with("/Names << /JavaScript << /Names [(a) 7 0 R] >> >>", "", objects{7: "<< /S /JavaScript /JS (1) >>"}), RiskJavaScript, "object 7 0 is JavaScript"},
		"JavaScript of a page":       {with("", "/AA << /O << /S /JavaScript /JS (1) >> >>", nil), RiskJavaScript, "page 1 runs JavaScript"},
		"JavaScript after a jump":    {with("/OpenAction 7 0 R", "", objects{7: "<< /S /GoTo /D [3 0 R /Fit] /Next << /S /JavaScript /JS (1) >> >>"}), RiskJavaScript, "JavaScript"},
		"JavaScript in a rendition":  {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Screen /Rect [0 0 9 9] /A << /S /Rendition /JS (1) >> >>"}), RiskJavaScript, "JavaScript"},
		"launch":                     {with("/OpenAction << /S /Launch /F (calc.exe) >>", "", nil), RiskAction, "starts an action of type Launch"},
		"an unknown action":          {with("/OpenAction << /Type /Action /S /Own >>", "", nil), RiskAction, "an action of type Own"},
		"an action for the document": {with("/AA << /WP << /S /Named /N /Print >> >>", "", nil), RiskAction, "starts actions (AA)"},
		"submit":                     {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A << /S /SubmitForm /F (http://x) >> >>"}), RiskAction, "SubmitForm"},
		"link to the web":            {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A << /S /URI /URI (http://x) >> >>"}), RiskAction, "is an action of type URI"},
		"jump by action":             {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A << /S /GoTo /D [3 0 R /Fit] >> >>"}), RiskAction, "is an action of type GoTo"},
		"action of a bookmark":       {with("/Outlines 7 0 R", "", objects{7: "<< /First 8 0 R /Last 8 0 R >>", 8: "<< /Title (a) /Parent 7 0 R /A << /S /GoToR /F (b.pdf) /D [0 /Fit] >> >>"}), RiskAction, "GoToR"},
		"action under resources":     {with("", "/AA 7 0 R /X << /Resources << /Y 7 0 R >> >>", objects{7: "<< /C 8 0 R >>", 8: "<< /S /Hide /T (a) >>"}), RiskAction, "object 8 0 is an action of type Hide"},
		"another name tree":          {with("/Names << /Renditions << /Names [] >> >>", "", nil), RiskAction, "name tree Renditions"},
		"PostScript":                 {with("", "/X 7 0 R", objects{7: labStream("/Type /XObject /Subtype /PS", "showpage")}), RiskAction, "is PostScript"},
		"XFA":                        {with("/AcroForm << /Fields [] /XFA 7 0 R >>", "", objects{7: labStream("", "<xdp/>")}), RiskForm, "XFA"},
		"a form field":               {with("/AcroForm << /Fields [7 0 R] >>", "", objects{7: "<< /FT /Tx /T (a) >>"}), RiskForm, "form fields"},
		"fields drawn by the viewer": {with("/AcroForm << /Fields [] /NeedAppearances true >>", "", nil), RiskForm, "draw the form's fields themselves"},
		"an embedded file":           {with("/Names << /EmbeddedFiles << /Names [(a) 7 0 R] >> >>", "", objects{7: "<< /Type /Filespec /F (a) /EF << /F 8 0 R >> >>", 8: labStream("/Type /EmbeddedFile", "x")}), RiskAttachment, "a file attached"},
		"an associated file":         {with("", "/AF [7 0 R]", objects{7: "<< /Type /Filespec /F (a) >>"}), RiskAttachment, "object 7 0 is, names or has a file"},
		"a portfolio":                {with("/Collection << /View /D >>", "", nil), RiskAttachment, "a file attached"},
		"a file in an annotation":    {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /FileAttachment /Rect [0 0 9 9] >>"}), RiskAttachment, "file attachment"},
		"a page elsewhere":           {with("", "/X 7 0 R", objects{7: labStream(form+" /Ref << /F (b.pdf) /Page 0 >>", "")}), RiskExternal, "stands for something in another file"},
		"a picture elsewhere":        {with("", "/X 7 0 R", objects{7: labStream(form+" /OPI << /2.0 << /F (b) >> >>", "")}), RiskExternal, "stands for something in another file"},
		"alternate images":           {with("", "/X 7 0 R", objects{7: labStream("/Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8 /ColorSpace /DeviceGray /Alternates []", "x")}), RiskExternal, "alternate images"},
		"layers":                     {with("/OCProperties << /OCGs [7 0 R] /D << >> >>", "", objects{7: "<< /Type /OCG /Name (a) >>"}), RiskLayer, "layers that can be hidden"},
		"a layered picture":          {with("", "/X 7 0 R", objects{7: labStream(form+" /OC << /Type /OCMD >>", "")}), RiskLayer, "optional content"},
		"a note":                     {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /FreeText /Rect [0 0 9 9] /Contents (take ten) >>"}), RiskAnnotation, "page 1 has an annotation of type FreeText"},
		"a stamp":                    {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Stamp /Rect [0 0 9 9] >>"}), RiskAnnotation, "of type Stamp"},
		"a widget of no form":        {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Widget /Rect [0 0 9 9] >>"}), RiskAnnotation, "of type Widget"},
		"a link that looks":          {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /Dest [3 0 R /Fit] /AP << /N 8 0 R >> >>", 8: labStream(form, "")}), RiskAnnotation, "of type Link"},
		"sound":                      {with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Sound /Rect [0 0 9 9] >>"}), RiskMultimedia, "of type Sound"},
		"a dormant object":           {with("", "", objects{7: labStream(form, "0 0 9 9 re f")}), RiskUnreferenced, "nothing refers to 1 of its objects: 7 0"},
		"a ring of objects":          {with("", "", objects{7: "[8 0 R]", 8: "[7 0 R]"}), RiskUnreferenced, "nothing refers to 2 of its objects: 7 0, 8 0"},
		"a page kept back":           {with("/X 7 0 R", "", objects{7: "<< /Type /Page /MediaBox [0 0 9 9] >>"}), RiskUnreferenced, "object 7 0 is a page that is not among"},
		"an update":                  {labUpdate(t, plain, objects{4: labStream("", "BT /F1 12 Tf 72 720 Td (Amoxicillin 5 mg) Tj ET")}), RiskRevision, "2 revisions"},
		"a hybrid file":              {hybrid(), RiskRevision, "hybrid"},
		"junk before":                {append([]byte("junk\n"), plain...), RiskOutside, "before the header"},
		"junk behind":                {append(bytes.Clone(plain), "%%more\n"...), RiskOutside, "bytes stand after the end"},
		"blank lines behind":         {append(bytes.Clone(plain), "\n\n"...), RiskOutside, "bytes stand after the end"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := labOpen(t, c.data)
			risks, err := Objections(f)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(risks, func(r Risk) bool { return r.Kind == c.kind && strings.Contains(r.Text, c.text) }) {
				t.Errorf("no %s with %q in %+v", c.kind, c.text, risks)
			}
			err = Acceptable(f)
			if fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.PublicOf(err), c.text) {
				t.Errorf("acceptable: %v", err)
			}
		})
	}
}

// A stream whose data lies in another file makes the document broken for signing.
func TestAcceptableRefusesBroken(t *testing.T) {
	err := Acceptable(labOpen(t, with("", "/X 7 0 R", objects{7: labStream("/F (other.bin)", "")})))
	if fault.KindOf(err) != fault.Unsupported || !strings.Contains(fault.PublicOf(err), "its data is in another file") {
		t.Error(err)
	}
}

// Plain documents pass, also with names of resources that mean something elsewhere, links within and what metadata there is.
func TestAcceptableAccepts(t *testing.T) {
	for name, data := range map[string][]byte{
		"plain":              plainDocument(plainObjects()),
		"no newline at end":  bytes.TrimSuffix(plainDocument(plainObjects()), []byte("\n")),
		"an empty form":      with("/AcroForm << /Fields [] >>", "", nil),
		"a link within":      with("", "/Annots [7 0 R]", objects{7: "<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /Dest [3 0 R /Fit] >>"}),
		"opening at a page":  with("/OpenAction [3 0 R /Fit]", "", nil),
		"names of resources": with("", "/X << /Resources << /Font << /AA 5 0 R /JS 5 0 R /OC 5 0 R /EF 5 0 R >> >> >>", nil),
		"named places":       with("/Dests << /AA << /D [3 0 R /Fit] >> >>", "", nil),
		"glyph names":        with("", "/X << /CharProcs << /AF 4 0 R >> >>", nil),
		"structure":          with("/StructTreeRoot << /Type /StructTreeRoot /K << /Type /StructElem /S /Sound >> >>", "", nil),
		"page labels":        with("/PageLabels << /Nums [0 << /S /D >>] >>", "", nil),
		"object streams":     streamSectionPlain(),
	} {
		if err := Acceptable(labOpen(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// streamSectionPlain is the plain document with a cross-reference stream.
func streamSectionPlain() []byte {
	b := []byte("%PDF-1.7\n")
	objs := plainObjects()
	table := row(0, 0)
	for n := 1; n <= 6; n++ {
		table = append(table, row(1, len(b))...)
		b = fmt.Appendf(b, "%d 0 obj\n%s\nendobj\n", n, objs[n])
	}
	at := len(b)
	table = append(table, row(1, at)...)
	b = fmt.Appendf(b, "7 0 obj\n<< /Type /XRef /W [1 %d 2] /Size 8 /Root 1 0 R /Info 6 0 R /Length %d >>\nstream\n%s\nendstream\nendobj\n", len(row(0, 0))-3, len(table), table)
	return fmt.Appendf(b, "startxref\n%d\n%%%%EOF\n", at)
}

// All objections come at once.
func TestAcceptableSaysAll(t *testing.T) {
	data := append([]byte("junk\n"), with("/OpenAction << /S /JavaScript /JS (1) >> /AcroForm << /Fields [] /XFA [] >>", "/Annots [7 0 R]",
		objects{7: "<< /Type /Annot /Subtype /Stamp /Rect [0 0 9 9] >>", 8: "[]"})...)
	risks, err := Objections(labOpen(t, data))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{RiskJavaScript, RiskForm, RiskAnnotation, RiskUnreferenced, RiskOutside} {
		if !slices.ContainsFunc(risks, func(r Risk) bool { return r.Kind == kind }) {
			t.Errorf("no objection of kind %s in %+v", kind, risks)
		}
	}
}

// What was validly signed with tricky content is refused for signing, and so is every signed document: it has revisions and a form.
func TestAcceptableAndSigned(t *testing.T) {
	for name, kinds := range map[string][]string{
		"lta-tricky-content": {RiskJavaScript, RiskLayer, RiskAttachment, RiskRevision, RiskForm},
		"lta-two-tier":       {RiskRevision, RiskForm, RiskAnnotation},
	} {
		data, _ := readVector(t, name)
		risks, err := Objections(labOpen(t, data))
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range kinds {
			if !slices.ContainsFunc(risks, func(r Risk) bool { return r.Kind == kind }) {
				t.Errorf("%s: no objection of kind %s in %+v", name, kind, risks)
			}
		}
	}
}

// What the usual programs write passes; what does not has a link to the web (LibreOffice's), or is saved for fast web view.
func TestAcceptableWriters(t *testing.T) {
	m := &maker{t: t, dir: t.TempDir()}
	m.renderer()
	m.cairo()
	m.ghostscript()
	letter := fmt.Sprintf(flatODT, "", "")
	m.write("link.fodt", []byte(letter))
	m.write("letter.fodt", []byte(strings.ReplaceAll(letter, `<text:a xlink:href="https://example.org/" xlink:type="simple">a link</text:a>`, "")))
	for _, name := range []string{"link", "letter"} {
		m.run("soffice", "--headless", "-env:UserInstallation=file://"+m.path("office"), "--convert-to", "pdf", "--outdir", m.path("office-out"), m.path(name+".fodt"))
		m.keep("LibreOffice "+name, m.path("office-out/"+name+".pdf"))
	}
	for _, f := range m.files {
		want := ""
		switch f.name {
		case "ghostscript linearized":
			want = "linearized"
		case "LibreOffice link":
			want = "is an action of type URI"
		}
		err := Acceptable(labOpen(t, f.data))
		if want == "" && err != nil || want != "" && !strings.Contains(fault.PublicOf(err), want) {
			t.Errorf("%s: %v, want %q", f.name, err, want)
		}
	}
}

// FuzzAcceptable holds that judging ends, whatever the document is.
func FuzzAcceptable(f *testing.F) {
	f.Add(plainDocument(plainObjects()))
	f.Add(with("/OpenAction << /S /JavaScript /JS (1) >>", "/Annots [7 0 R]", objects{7: "<< /Subtype /Link >>"}))
	f.Add(hybrid())
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := pdf.Open(data, pdf.Limits{})
		if err != nil {
			return
		}
		risks, err := Objections(doc)
		if err == nil && len(risks) > maxRisks {
			t.Errorf("%d objections", len(risks))
		}
	})
}
