package pades

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// FuzzValidate: whatever the bytes, an answer or an error, no panic, and never a good verdict without a trust anchor.
func FuzzValidate(f *testing.F) {
	names, err := filepath.Glob("testdata/vectors/*.pdf")
	if err != nil || len(names) == 0 {
		f.Fatalf("no vectors: %v", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	l := newLab(f)
	signed := l.lta(labDocument(labObjects()), seal{})
	f.Add(signed)
	f.Add(l.lta(signed, seal{field: "Second", at: labTime.Add(time.Minute), rect: "[72 100 272 150]", look: evil}))
	f.Add(amend(f, signed, docField, set("V", pdf.String("11")), nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Validate(context.Background(), data, ValidateOptions{At: judged})
		if err != nil {
			return
		}
		if r.Good() {
			t.Fatalf("valid without a trust anchor\n%s", r.Text())
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
		r.Text()
	})
}

// No byte can be changed but those of the last Contents, which nothing covers: what matters of them is verified, but not the hints and the
// spare certificates in it.
func TestEveryByte(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	roots, at := l.roots(), labTime.Add(time.Hour)
	signatures, err := labOpen(t, signed).Signatures()
	if err != nil {
		t.Fatal(err)
	}
	last := signatures[len(signatures)-1]
	for i := 0; i < len(signed); i += 23 { // a prime: every alignment
		if int64(i) > last.ContentsOffset && int64(i) < last.ContentsEnd-1 {
			continue
		}
		data := bytes.Clone(signed)
		data[i] ^= 1
		r, err := Validate(context.Background(), data, ValidateOptions{Roots: roots, At: at})
		if err == nil && r.Good() {
			t.Fatalf("byte %d of %d (%q) changed, still valid", i, len(signed), signed[max(0, i-20):min(len(signed), i+20)])
		}
	}
}

func TestReportJSON(t *testing.T) {
	data, roots := readVector(t, "lta-renewed-three-tier")
	r := validate(t, data, roots, judged)
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/report.json", append(got, '\n'))
	golden(t, "testdata/report.txt", []byte(r.Text()))
	var back Report
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.MarshalIndent(back, "", "  ")
	if err != nil || !bytes.Equal(again, got) {
		t.Errorf("read and written again it differs (%v)", err)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s", name, got)
	}
}

func TestRefusals(t *testing.T) {
	l := newLab(t)
	for name, c := range map[string]struct {
		data []byte
		at   time.Time
		kind fault.Kind
	}{
		"no time":     {labDocument(labObjects()), time.Time{}, fault.Invalid},
		"no document": {[]byte("hello"), labTime, fault.Invalid},
		"empty":       {nil, labTime, fault.Invalid},
	} {
		_, err := Validate(context.Background(), c.data, ValidateOptions{Roots: l.roots(), At: c.at})
		if err == nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Validate(ctx, l.lta(labDocument(labObjects()), seal{}), ValidateOptions{At: labTime}); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

// A file with too many signatures is refused; one with many takes time in proportion.
func TestManySignatures(t *testing.T) {
	l := newLab(t)
	data := labDocument(labObjects())
	for i := range MaxSignatures + 1 {
		data = l.sign(data, seal{field: fmt.Sprintf("S%d", i), at: labTime, bare: true})
		if i == MaxSignatures-1 {
			r := validate(t, data, l.roots(), labTime.Add(time.Hour))
			if len(r.Signatures) != MaxSignatures || len(r.Signatures[0].Changes) != MaxSignatures-1 || r.Signatures[0].Modified {
				t.Errorf("%d signatures, %d changes", len(r.Signatures), len(r.Signatures[0].Changes))
			}
		}
	}
	if _, err := Validate(context.Background(), data, ValidateOptions{At: labTime}); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("%d signatures: %v", MaxSignatures+1, err)
	}
}

func TestRisks(t *testing.T) {
	plain := labObjects()
	with := func(n int, old, new string) objects {
		objs := labObjects()
		objs[n] = strings.Replace(objs[n], old, new, 1)
		if objs[n] == plain[n] {
			t.Fatalf("no %q in %q", old, plain[n])
		}
		return objs
	}
	catalog := func(entries string) objects { return with(docCatalog, "/Pages", entries+" /Pages") }
	annotation := func(a string) objects { return with(docPage, "/Annots [7 0 R]", "/Annots [7 0 R "+a+"]") }
	const js = "<< /S /JavaScript /JS (app.alert\\(1\\)) >>"
	for _, c := range []struct {
		objs       objects
		kind, text string
	}{
		{plain, "", ""},
		{catalog("/OpenAction " + js), RiskJavaScript, "opening the document runs JavaScript"},
		{catalog("/OpenAction [3 0 R /Fit]"), "", ""},
		{catalog("/OpenAction << /S /GoTo /D [3 0 R /Fit] /Next " + js + " >>"), RiskJavaScript, "opening the document runs JavaScript"},
		{catalog("/OpenAction << /S /Launch /F (x.exe) >>"), RiskAction, "of type Launch"},
		{catalog("/AA << /WC " + js + " >>"), RiskJavaScript, "the document runs JavaScript"},
		{catalog("/Names << /JavaScript << /Names [(a) " + js + "] >> >>"), RiskJavaScript, "when the document is opened"},
		{catalog("/Names << /EmbeddedFiles << /Names [(a) << /Type /Filespec >>] >> >>"), RiskAttachment, "a file attached"},
		{catalog("/AF [<< /Type /Filespec >>]"), RiskAttachment, "a file attached"},
		{catalog("/OCProperties << /OCGs [4 0 R] /D << /OFF [4 0 R] >> >>"), RiskLayer, "hidden layer"},
		{catalog("/OCProperties << /OCGs [4 0 R] /D << >> >>"), RiskLayer, "layers that can be hidden"},
		{with(docForm, "/DR", "/XFA (x) /DR"), RiskForm, "XFA"},
		{with(docForm, "/DR", "/NeedAppearances true /DR"), RiskForm, "draw the form's fields"},
		{with(docField, "/FT", "/AA << /F "+js+" >> /FT"), RiskJavaScript, `the form field "quantity" runs JavaScript`},
		{with(docPage, "/Type /Page", "/Type /Page /AA << /O "+js+" >>"), RiskJavaScript, "page 1 runs JavaScript"},
		{annotation("<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A << /S /URI /URI (http://example.com) >> >>"), "", ""},
		{annotation("<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A " + js + " >>"), RiskJavaScript, "an annotation on page 1 runs JavaScript"},
		{annotation("<< /Type /Annot /Subtype /FileAttachment /Rect [0 0 9 9] >>"), RiskAttachment, "file attachment"},
		{annotation("<< /Type /Annot /Subtype /RichMedia /Rect [0 0 9 9] >>"), RiskMultimedia, "RichMedia"},
		{annotation("<< /Type /Annot /Subtype /Stamp /Rect [0 0 9 9] /OC 4 0 R >>"), RiskLayer, "belongs to a layer"},
	} {
		risks, err := Risks(labOpen(t, labDocument(c.objs)))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, r := range risks {
			found = found || r.Kind == c.kind && strings.Contains(r.Text, c.text)
		}
		if c.kind == "" && len(risks) > 0 || c.kind != "" && !found {
			t.Errorf("%+v, want %s %q", risks, c.kind, c.text)
		}
	}
}

func TestParseDate(t *testing.T) {
	for s, want := range map[string]string{
		"D:20261121120000Z": "2026-11-21T12:00:00Z", "D:20261121120000+01'00'": "2026-11-21T11:00:00Z", "D:20261121120000-0530": "2026-11-21T17:30:00Z",
		"D:20261121120000+01'00": "2026-11-21T11:00:00Z", "D:20261121120000Z00'00'": "2026-11-21T12:00:00Z", "20261121": "2026-11-21T00:00:00Z", "D:2026": "2026-01-01T00:00:00Z",
		"": "", "D:": "", "D:202": "", "yesterday": "", "D:20261321": "", "D:20261121120000X": "",
	} {
		got, ok := parseDate(s)
		if ok != (want != "") || ok && got.Format(time.RFC3339) != want {
			t.Errorf("parseDate(%q) = %v, %v, want %q", s, got, ok, want)
		}
	}
}

// One signature to B-LTA: what the appliance makes, with a root of P-384 as it has.
func BenchmarkValidate(b *testing.B) {
	for _, name := range []string{"lta-two-tier", "lta-renewed-three-tier", "lta-rsa3072"} {
		data, roots := readVector(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r, err := Validate(context.Background(), data, ValidateOptions{Roots: roots, At: judged}); err != nil || !r.Good() {
					b.Fatal(err)
				}
			}
		})
	}
}

// A document of 50 MB, signed to B-LTA: the time is that of reading and hashing it.
func BenchmarkValidateLarge(b *testing.B) {
	l := newLab(b)
	objs := labObjects()
	objs[docOverlay] = labStream("/Type /XObject /Subtype /Form /BBox [0 0 10 10]", strings.Repeat("0 0 10 10 re f\n", 50<<20/15))
	data := l.lta(labDocument(objs), seal{})
	roots := l.roots()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if r, err := Validate(context.Background(), data, ValidateOptions{Roots: roots, At: labTime.Add(time.Hour)}); err != nil || !r.Good() {
			b.Fatal(err)
		}
	}
}
