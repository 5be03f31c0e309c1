package pades

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// Attacks that need no key: an update that a strict reader finds harmless and that another reader, or the same one on paper, shows.
func TestFieldsThatReadersShow(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	field := func(dict string, others objects) func() []byte {
		return func() []byte {
			objs := objects{70: dict, 71: labStream("/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources << /Font << /F1 5 0 R >> >>", evil)}
			for n, o := range others {
				objs[n] = o
			}
			data := amend(t, signed, docForm, func(d pdf.Dict) { d["Fields"] = append(d["Fields"].(pdf.Array), ref(70)) }, objs)
			shown := ref(70)
			if others[72] != "" {
				shown = ref(72)
			}
			return amend(t, data, docPage, func(d pdf.Dict) { d["Annots"] = append(d["Annots"].(pdf.Array), shown) }, nil)
		}
	}
	const begin = "<< /Type /Annot /FT /Sig /T (X) /P 3 0 R "
	run(t, l, []attack{
		{"free text", field(begin+"/Subtype /FreeText /Rect [0 0 500 500] /Contents (Morphine) /DA (/F1 40 Tf) >>", nil), "no widget"},
		{"a square with a thick border", field(begin+"/Subtype /Square /Rect [0 0 0 0] /BS << /W 200 >> >>", nil), "no widget"},
		{"a link with a border", field(begin+"/Subtype /Link /Rect [0 0 500 500] /Border [0 0 50] >>", nil), "no widget"},
		{"a widget with a border", field(begin+"/Subtype /Widget /Rect [0 0 0 0] /BS << /W 200 >> >>", nil), "with an entry BS"},
		{"a place and nothing in it", field(begin+"/Subtype /Widget /Rect [0 0 500 500] >>", nil), "shows something"},
		{"a text field below it", field("<< /FT /Sig /T (X) /Kids [72 0 R] >>",
			objects{72: "<< /Type /Annot /Subtype /Widget /Parent 70 0 R /P 3 0 R /Rect [0 0 0 0] /FT /Tx /V (Morphine) /DA (/F1 40 Tf) >>"}), "an entry FT of its own"},
		{"flags beyond 32 bits", field(begin+"/Subtype /Widget /Rect [0 0 595 842] /F 4294967298 /AP << /N 71 0 R >> >>", nil), "flags that readers take"},
		{"seen only on paper", field(begin+"/Subtype /Widget /Rect [0 0 595 842] /F 36 /AP << /N 71 0 R >> >>", nil), "shows something"},
		{"a place beyond 64 bits", field(begin+"/Subtype /Widget /Rect [18446744073709551616 0 18446744073709552211 841] /F 4 >>", nil), "without a place"},
		{"an appearance that is missing", field(begin+"/Subtype /Widget /Rect [0 0 0 0] /AP 90 0 R >>", nil), "appearance that is missing"},
	})
}

// Dictionaries of the structure that resources use as well: what may be added to them would be shown.
func TestStructureUsedAsResources(t *testing.T) {
	l := newLab(t)
	document := func(change func(objects)) []byte {
		objs := labObjects()
		change(objs)
		return l.lta(labDocument(objs), seal{})
	}
	form := labStream("/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources << /Font << /F1 5 0 R >> >>", evil)
	draws := func(resources, content string) func(objects) {
		return func(o objects) {
			o[docPage] = strings.Replace(o[docPage], "/XObject << /X1 9 0 R >>", resources, 1)
			o[docContent] = labStream("", content)
		}
	}
	run(t, l, []attack{
		{"a field's modification date", func() []byte {
			return amend(t, document(draws("/XObject 7 0 R", "/M Do")), docField, set("M", ref(70)), objects{70: form})
		}, "object 7 0"},
		{"the catalog's extensions", func() []byte {
			return amend(t, document(draws("/XObject 1 0 R", "/Extensions Do")), docCatalog, set("Extensions", ref(70)), objects{70: form})
		}, "object 1 0"},
		{"metadata that is a form", func() []byte {
			return labUpdate(t, l.lta(labDocument(labObjects()), seal{}), objects{docXMP: labStream("/Type /Metadata /Subtype /Form /BBox [0 0 9 9]", evil)})
		}, "metadata"},
		{"extensions that are a form", func() []byte {
			return amend(t, l.lta(labDocument(labObjects()), seal{}), docCatalog, set("Extensions", ref(70)), objects{70: form})
		}, "developer extensions"},
		{"a font for an old field", func() []byte {
			signed := document(func(o objects) {
				o[docField] = "<< /Type /Annot /Subtype /Widget /FT /Tx /T (quantity) /V (10) /DA (/Evil 12 Tf) /Rect [72 600 200 620] /P 3 0 R >>"
			})
			return amend(t, signed, docForm, func(d pdf.Dict) {
				d["DR"] = pdf.Dict{"Font": pdf.Dict{"F1": ref(docFont), "Evil": ref(70)}}
			}, objects{70: "<< /Type /Font /Subtype /Type1 /BaseFont /ZapfDingbats >>"})
		}, "which a field is drawn with"},
	})
}

// Bytes that no table lists, for readers that give the tables up and search.
func TestHiddenObjects(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	hidden := []byte("4 0 obj\n" + labStream("", evil) + "\nendobj\n")
	behind := func(data, what []byte) []byte { // before the section's cross-reference table, whose offset follows
		at := bytes.LastIndex(data, []byte("\nxref\n")) + 1
		moved := append(append(append([]byte{}, data[:at]...), what...), data[at:]...)
		i := bytes.LastIndex(moved, []byte("startxref\n")) + len("startxref\n")
		return fmt.Appendf(append([]byte{}, moved[:i]...), "%d\n%%%%EOF\n", at+len(what))
	}
	run(t, l, []attack{
		{"between the objects", func() []byte { return behind(labUpdate(t, signed, objects{70: "null"}), hidden) }, "belongs to nothing that the update lists"},
		{"in a stream that nothing uses", func() []byte { return labUpdate(t, signed, objects{70: labStream("", string(hidden))}) }, ""},
		{"in the past, under another generation", func() []byte {
			objs := labObjects()
			objs[docPage] = strings.Replace(objs[docPage], "/Contents 4 0 R", "/Contents [4 0 R 69 0 R]", 1)
			data := labUpdate(t, l.lta(labDocument(objs), seal{}), objects{69: labStream("", evil)})
			data = bytes.Replace(data, []byte("\n69 0 obj"), []byte("\n69 1 obj"), 1)
			i := bytes.LastIndex(data, []byte("\nxref\n"))
			return append(data[:i:i], bytes.Replace(data[i:], []byte(" 00000 n"), []byte(" 00001 n"), 1)...)
		}, ""},
	})
}

// A certificate for TLS under the same root is not one for documents.
func TestPurposesOfCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		mod  func(*x509.Certificate)
		good bool
	}{
		"none named": {func(*x509.Certificate) {}, true},
		"e-mail":     {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }, true},
		"TLS client": {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, false},
		"TLS server": {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false},
		"programs":   {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, false},
		"documents":  {func(c *x509.Certificate) { c.UnknownExtKeyUsage = documentPurposes[:1] }, true},
		"any":        {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, true},
		"TLS and a CA of it": {func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		}, false},
	} {
		l := newLab(t)
		l.signer = l.issue(l.clinicians, "Doctor Lab", labTime.Add(-time.Hour), labTime.Add(year), func(crt *x509.Certificate) {
			crt.KeyUsage = x509.KeyUsageDigitalSignature
			c.mod(crt)
		})
		r, err := Validate(context.Background(), l.lta(labDocument(labObjects()), seal{}), ValidateOptions{Roots: l.roots(), At: labTime.Add(time.Hour)})
		if err != nil || r.Good() != c.good {
			t.Errorf("%s: %v\n%s", name, err, r.Text())
		}
	}
}
