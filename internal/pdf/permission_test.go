package pdf

import (
	"bytes"
	"crypto"
	"fmt"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

func TestCertify(t *testing.T) {
	for p := 1; p <= 3; p++ {
		for name, perms := range map[string]string{"none": "", "direct": "/Perms << /Other 1 >>", "indirect": "/Perms 8 0 R"} {
			data := newBuilder().page(perms, "").obj(8, "<< /Other 1 >>").table("").b
			g := sign(t, open(t, data), SignatureOptions{Certify: p})
			s := checkLast(t, data, g)
			c, _, _ := g.Catalog()
			got, err := g.resolveDict(c["Perms"], "")
			if err != nil || s.DocMDP != p || got["DocMDP"] != s.Ref || (got["Other"] == nil) != (name == "none") {
				t.Errorf("%s %d: %+v %v %v", name, p, s.DocMDP, got, err)
			}
			ref := fmt.Sprintf("[<< /TransformMethod /DocMDP /TransformParams << /P %d /Type /TransformParams /V /1.2 >> /Type /SigRef >>]", p)
			if string(appendObject(nil, s.Dict["Reference"])) != ref {
				t.Error(s.Dict["Reference"])
			}
		}
	}
}

// What each state of a document permits: an approval, a visible one, another certification, a document time stamp, the DSS.
func TestPermissions(t *testing.T) {
	sigField := func(name, field, sig string) []byte {
		if !strings.Contains(sig, "/DocTimeStamp") {
			sig += " /Type /Sig"
		}
		return newBuilder().page("/AcroForm << /Fields [4 0 R 6 0 R] >>", "").
			obj(4, "<< /FT /Sig /T ("+name+") /V 5 0 R "+field+" >>").obj(5, "<< /Contents <00> /ByteRange [0 1 2 3] "+sig+" >>").
			obj(6, "<< /FT /Sig /T (empty) /Subtype /Widget /Rect [0 0 9 9] >>").table("").b
	}
	mdp := func(method, parms string) string {
		return "/Reference [<< /Type /SigRef /TransformMethod /" + method + " /TransformParams << " + parms + " >> >>]"
	}
	certified := func(p int) []byte {
		return sign(t, open(t, onePage("", "")), SignatureOptions{Certify: p}).Bytes()
	}
	visible := &Appearance{Rect: [4]float64{0, 0, 9, 9}}
	asks := []SignatureOptions{{M: testTime}, {M: testTime, Appearance: visible}, {M: testTime, Certify: 2}, {M: testTime, Field: "empty"}, {Type: "DocTimeStamp"}, {Type: "DocTimeStamp", Appearance: visible}}
	for _, c := range []struct {
		name string
		data []byte
		want string // y or n for each of asks; - when the document has no such field
		text string
	}{
		{"plain", onePage("", ""), "yyyyyy", ""},
		{"certified P 1", certified(1), "nnnnyn", "permits no changes since it was certified (P 1, by Signature1)"},
		{"certified P 2", certified(2), "ynnyyn", "permits no new visible fields since it was certified (P 2"},
		{"certified P 3", certified(3), "yynyyy", "cannot be certified: it is signed already (Signature1)"},
		{"approved", sigField("s", "", ""), "yynyyy", "cannot be certified: it is signed already (s)"},
		{"time-stamped", sigField("s", "", "/Type /DocTimeStamp"), "yyyyyy", ""},
		{"P missing is 2", sigField("s", "", mdp("DocMDP", "")), "ynnyyn", "P 2, by s"},
		{"P unknown is 1", sigField("s", "", mdp("DocMDP", "/P 9")), "nnnnyn", "P 1, by s"},
		{"P in Lock", sigField("s", "/Lock << /Action /Include /Fields [(x)] /P 1 >>", ""), "nnnnyn", "P 1, by s"},
		{"Lock all", sigField("s", "/Lock << /Action /All >>", ""), "nnnnyy", "is locked by the signature \"s\""},
		{"FieldMDP all", sigField("s", "", mdp("FieldMDP", "/Action /All")), "nnnnyy", "is locked by the signature \"s\""},
		{"FieldMDP includes", sigField("s", "", mdp("FieldMDP", "/Action /Include /Fields [(empty)]")), "yynnyy", ""},
		{"FieldMDP excludes", sigField("s", "", mdp("FieldMDP", "/Action /Exclude /Fields [(empty)]")), "nnnyyy", ""},
		{"FieldMDP unknown", sigField("s", "", mdp("FieldMDP", "/Action /Some")), "nnnnyy", "is locked"},
		{"Perms alone", newBuilder().page("/Perms << /DocMDP 4 0 R >>", "").obj(4, "<< "+mdp("DocMDP", "/P 1")+" >>").table("").b, "nnnnyn", "P 1, by the certification"},
		{"usage rights", newBuilder().page("/Perms << /UR3 4 0 R >>", "").obj(4, "<< "+mdp("UR3", "/P true /Signature []")+" >>").table("").b, "nnnnyy", "usage rights"},
		{"usage rights to sign", newBuilder().page("/Perms << /UR3 4 0 R >>", "").obj(4, "<< "+mdp("UR3", "/P true /Signature [/Modify]")+" >>").table("").b, "yyyyyy", ""},
	} {
		f, err := Open(c.data, Limits{})
		if err != nil {
			t.Fatal(c.name, err)
		}
		texts := ""
		for i, o := range asks {
			o.ContentsSize = 10
			_, err := Prepare(f, o)
			if got := map[bool]string{true: "y", false: "n"}[err == nil]; got != c.want[i:i+1] || err != nil && fault.KindOf(err) != fault.Forbidden {
				t.Errorf("%s: %+v: %v", c.name, o, err)
			}
			texts += fmt.Sprint(err)
		}
		if !strings.Contains(texts, c.text) {
			t.Errorf("%s: %q does not say %q", c.name, texts, c.text)
		}
		if _, err := AppendDSS(f, DSS{CRLs: [][]byte{{1}}}); err != nil {
			t.Errorf("%s: DSS: %v", c.name, err)
		}
	}
}

// A new field gets a name that is not locked.
func TestFreeNameIsNotLocked(t *testing.T) {
	data := newBuilder().page("/AcroForm << /Fields [4 0 R] >>", "").
		obj(4, "<< /FT /Sig /T (Signature1) /V 5 0 R /Lock << /Action /Include /Fields [(Signature2) (Signature3)] >> >>").obj(5, "<< /Contents <00> >>").table("").b
	g := sign(t, open(t, data), SignatureOptions{})
	if sigs, err := g.Signatures(); err != nil || sigs[0].Field != "Signature4" {
		t.Error(sigs, err)
	}
}

func TestSeedValues(t *testing.T) {
	for _, c := range []struct {
		sv   string
		o    SignatureOptions
		kind fault.Kind
		want string // "" = allowed
	}{
		{"", SignatureOptions{}, 0, ""},
		{"/Filter /Foo /SubFilter [/x] /Reasons [(y)] /DigestMethod [(MD5)]", SignatureOptions{}, 0, ""}, // wishes
		{"/Ff 1 /Filter /Adobe.PPKLite", SignatureOptions{}, 0, ""},
		{"/Ff 1 /Filter /Foo", SignatureOptions{}, fault.Forbidden, "handler /Foo"},
		{"/Ff 2 /SubFilter [/ETSI.CAdES.detached /x]", SignatureOptions{}, 0, ""},
		{"/Ff 2 /SubFilter [/adbe.pkcs7.detached]", SignatureOptions{}, fault.Forbidden, "/SubFilter /ETSI.CAdES.detached"},
		{"/Ff 4 /V 2", SignatureOptions{}, 0, ""},
		{"/Ff 4 /V 4.5", SignatureOptions{}, fault.Unsupported, "version 4.5"},
		{"/Ff 8 /Reasons [(a) (b)]", SignatureOptions{Reason: "b"}, 0, ""},
		{"/Ff 8 /Reasons [(a) (b)]", SignatureOptions{Reason: "c"}, fault.Forbidden, "own reasons"},
		{"/Ff 8 /Reasons [(.)]", SignatureOptions{}, 0, ""},
		{"/Ff 8 /Reasons [(.)]", SignatureOptions{Reason: "c"}, fault.Forbidden, "no reason"},
		{"/Ff 16", SignatureOptions{}, fault.Unsupported, "/Ff 16"},
		{"/Ff 32", SignatureOptions{}, fault.Unsupported, "/Ff 32"},
		{"/Ff 128", SignatureOptions{}, fault.Unsupported, "/Ff 128"},
		{"/Ff 1024", SignatureOptions{}, fault.Unsupported, "/Ff 1024"},
		{"/MDP << /P 0 >>", SignatureOptions{}, 0, ""},
		{"/MDP << /P 2 >>", SignatureOptions{}, fault.Forbidden, "DocMDP P 2"},
		{"/MDP << /P 2 >>", SignatureOptions{Certify: 2}, 0, ""},
		{"/MDP << /P 0 >>", SignatureOptions{Certify: 2}, fault.Forbidden, "DocMDP P 0"},
		{"/Cert << /Ff 0 /Subject [] >>", SignatureOptions{}, 0, ""},
		{"/Cert << /Ff 1 /Subject [] >>", SignatureOptions{}, fault.Unsupported, "/SV /Cert /Ff 1"},
		{"/TimeStamp << /Ff 1 /URL (x) >>", SignatureOptions{}, fault.Unsupported, "/SV /TimeStamp"},
		{"/Ff 64 /DigestMethod [(MD5)]", SignatureOptions{}, fault.Forbidden, "digest algorithm"},
		{"/Ff 64 /DigestMethod [(SHA512) (SHA384)]", SignatureOptions{}, 0, "no 256"},
	} {
		data := newBuilder().page("/AcroForm << /Fields [4 0 R] >>", "").obj(4, "<< /FT /Sig /T (s) /SV << "+c.sv+" >> >>").table("").b
		c.o.M, c.o.Field, c.o.ContentsSize = testTime, "s", 10
		p, err := Prepare(open(t, data), c.o)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.sv, err)
		case c.kind != 0:
			refused(t, err, rejection{"", nil, c.kind, c.want})
		case c.want == "no 256":
			_, err := p.Digest(crypto.SHA256)
			refused(t, err, rejection{"", nil, fault.Forbidden, "does not accept SHA-256"})
			if _, err := p.Digest(crypto.SHA384); err != nil {
				t.Error(err)
			}
		}
	}
	_, err := Prepare(open(t, newBuilder().page("/AcroForm << /Fields [4 0 R] >>", "").obj(4, "<< /FT /Sig /T (s) /Ff 1 >>").table("").b), SignatureOptions{M: testTime, Field: "s", ContentsSize: 1})
	refused(t, err, rejection{"", nil, fault.Forbidden, "read-only"})
}

// Each malformed signature is listed with its problem, and does not hide the good one before it.
func TestSignatureProblems(t *testing.T) {
	good := sign(t, open(t, onePage("", "")), SignatureOptions{}).Bytes()
	two := func(field, sig string) []byte {
		d := &builder{b: bytes.Clone(good), offs: map[int]int64{}, inStm: map[int][2]int{}, size: 7}
		d.prev = open(t, good).sections[0].pos
		d.obj(6, "<< /Fields [5 0 R 8 0 R 10 0 R] /SigFlags 3 >>").obj(8, "<< /FT /Sig /T (bad) "+field+" >>")
		if strings.HasPrefix(sig, "stm ") {
			d.objStm(11, 9, sig[4:])
		} else {
			d.obj(9, sig)
		}
		d.obj(10, "<< /FT /Sig /T (empty) /V null >>")
		if bytes.Contains(good, []byte("/XRef")) {
			return d.xrefStream(12, "").b
		}
		if len(d.inStm) > 0 {
			return d.xrefStream(12, "").b
		}
		return d.table("").b
	}
	for _, c := range []struct{ field, sig, want string }{
		{"/V 9 0 R", "17", "not a dictionary"},
		{"/V 9 0 R", "<< >>", "no /Contents"},
		{"/V 9 0 R", "<< /Contents null /ByteRange [0 1 2 3] >>", "not a hexadecimal string"},
		{"/V 9 0 R", "<< /Contents (00) /ByteRange [0 1 2 3] >>", "not a hexadecimal string"},
		{"/V 9 0 R", "<< /Contents << >> /ByteRange [0 1 2 3] >>", "not a hexadecimal string"},
		{"/V 9 0 R", "<< /Contents 8 0 R /ByteRange [0 1 2 3] >>", "not a hexadecimal string"},
		{"/V 9 0 R", "<< /Contents <00> >>", "four numbers"},
		{"/V 9 0 R", "<< /Contents <00> /ByteRange [0 1 2] >>", "four numbers"},
		{"/V 9 0 R", "<< /Contents <00> /ByteRange [0 1 2 -3] >>", "other than positions"},
		{"/V 9 0 R", "<< /Contents <00> /ByteRange [0 1 2 3.5] >>", "other than positions"},
		{"/V 9 0 R", "<< /Contents <00> /ByteRange [0 1 2 99999999] >>", "other than positions"},
		{"/V 9 0 R", "<< /Contents <00> /ByteRange [5 1 2 3] >>", "begin at the start"},
		{"/V 9 0 R", "<< /Contents <00> /ByteRange [0 1 2 3] >>", "leaves out bytes 1 to 2"},
		{"/V 9 0 R", "stm << /Contents <00> /ByteRange [0 1 2 3] >>", "in an object stream"},
		{"/V 9 0 R", "<< /Type 7 >>", "/Type is not a name"},
		{"/V 9 0 R", "<< /Reference [<< /TransformMethod /DocMDP /TransformParams << /P 7 >> >>] >>", "P 1 to 3"},
		{"/V << /Contents <00> >>", "null", "four numbers"},
		{"/V << /ByteRange [0 1 2 3] >>", "null", "no /Contents"},
		{"/V 4 0 R", "null", "also another field's"},
	} {
		f := open(t, two(c.field, c.sig))
		sigs, err := f.Signatures()
		if err != nil || len(sigs) != 2 {
			t.Errorf("%s %s: %v, %v", c.field, c.sig, sigs, err)
			continue
		}
		if s := sigs[0]; s.Problem != nil || s.Field != "Signature1" || s.Revision != 1 {
			t.Errorf("the good one: %+v", s)
		}
		s := sigs[1]
		refused(t, s.Problem, rejection{"", nil, fault.Invalid, c.want})
		if s.Field != "bad" || s.Revision != -1 {
			t.Errorf("%+v", s)
		}
	}
}

// A ByteRange that ends elsewhere than a revision does is no problem of its own, but says so.
func TestSignatureRevision(t *testing.T) {
	d := newBuilder().page("/AcroForm << /Fields [4 0 R] >>", "")
	d.obj(4, "<< /FT /Sig /T (s) /V << /Contents <0011> /ByteRange [0 AAAA BBBB CCCC] >> >>")
	plain := d.table("").b
	at := bytes.Index(plain, []byte("<0011>"))
	for _, c := range []struct {
		end, want int
		tail      string
	}{{0, 0, ""}, {-1, 0, ""}, {-2, -1, ""}, {0, 0, "\n\n"}, {2, 0, "\n\n"}, {3, 0, " xy"}, {2, -1, " xy"}, {-300, -1, ""}} {
		b := append(bytes.Clone(plain), c.tail...)
		end := len(plain) + c.end
		for _, n := range []struct {
			old string
			n   int
		}{{"AAAA", at}, {"BBBB", at + 6}, {"CCCC", end - at - 6}} {
			b = bytes.Replace(b, []byte(n.old), fmt.Appendf(nil, "%-4d", n.n), 1)
		}
		if c.end == -300 {
			continue
		}
		sigs, err := open(t, b).Signatures()
		if err != nil || len(sigs) != 1 || sigs[0].Problem != nil || sigs[0].Revision != c.want || sigs[0].Ref != (Ref{}) {
			t.Errorf("%+v: %+v, %v", c, sigs, err)
		}
	}
}

func TestFormRefuses(t *testing.T) {
	form := func(fields string, more ...string) []byte {
		d := newBuilder().page("/AcroForm << /Fields "+fields+" >>", "")
		for i, m := range more {
			d.obj(4+i, m)
		}
		return d.table("").b
	}
	for _, c := range []rejection{
		{"no array", form("7"), fault.Invalid, "/Fields is not an array"},
		{"direct field", form("[<< /T (x) >>]"), fault.Invalid, "other than references"},
		{"loop", form("[4 0 R]", "<< /T (a) /Kids [5 0 R] >>", "<< /T (b) /Kids [4 0 R] >>"), fault.Invalid, "twice in the form"},
		{"twice", form("[4 0 R 4 0 R]", "<< /T (a) >>"), fault.Invalid, "twice in the form"},
		{"name no string", form("[4 0 R]", "<< /T /a >>"), fault.Invalid, "/T is not a string"},
		{"type no name", form("[4 0 R]", "<< /T (a) /FT (Sig) >>"), fault.Invalid, "/FT is not a name"},
		{"kids direct", form("[4 0 R]", "<< /T (a) /Kids [<< >>] >>"), fault.Invalid, "other than references"},
		{"long name", form("[4 0 R]", "<< /T ("+strings.Repeat("x", 1025)+") >>"), fault.TooLarge, "too long"},
	} {
		_, err := open(t, c.data).Signatures()
		refused(t, err, c)
	}
	_, err := Prepare(open(t, form("[4 0 R 5 0 R]", "<< /T (a) /FT /Sig >>", "<< /T (a) /FT /Sig >>")), SignatureOptions{Field: "a", M: testTime, ContentsSize: 1})
	refused(t, err, rejection{"", nil, fault.Invalid, "two form fields are called \"a\""})
	if s, err := open(t, form("[9 0 R]")).Signatures(); err != nil || len(s) != 0 {
		t.Error("a field that was removed:", s, err)
	}
}

func TestDSS(t *testing.T) {
	store := func(catalog, dss string) []byte {
		return newBuilder().page(catalog, "").obj(4, dss).stream(5, "/Filter /FlateDecode", deflate([]byte("cert"))).stream(6, "", []byte("crl")).obj(7, "[5 0 R 5 0 R]").table("").b
	}
	dss := "<< /Certs 7 0 R /CRLs [6 0 R] /VRI << /AB << >> >> >>"
	for name, data := range map[string][]byte{"indirect": store("/DSS 4 0 R", dss), "direct": store("/DSS "+dss, "null"), "2.0": store("/Version /2.0 /DSS 4 0 R", dss),
		"extended": store("/DSS 4 0 R /Extensions << /ADBE << /BaseVersion /1.7 /ExtensionLevel 3 >> /ESIC << /BaseVersion /1.7 /ExtensionLevel 5 >> >>", dss)} {
		f := open(t, data)
		g, err := AppendDSS(f, DSS{Certs: [][]byte{[]byte("cert"), []byte("new")}, OCSPs: [][]byte{[]byte("ocsp")}})
		if err != nil {
			t.Fatal(name, err)
		}
		if !bytes.HasPrefix(g.Bytes(), data) || len(g.Revisions()) != 2 {
			t.Error(name, g.Revisions())
		}
		h := open(t, bytes.Clone(g.Bytes()))
		d, err := ReadDSS(h)
		if err != nil || fmt.Sprintf("%s", d) != "{[cert new] [ocsp] [crl]}" {
			t.Errorf("%s: %s %v", name, d, err)
		}
		c, _, _ := h.Catalog()
		st, err := h.resolveDict(c["DSS"], "")
		if err != nil || st["VRI"] == nil {
			t.Error(name, st, err)
		}
		ext, _ := c["Extensions"].(Dict)
		switch esic, _ := ext["ESIC"].(Dict); name {
		case "2.0":
			if ext != nil {
				t.Error(name, ext)
			}
		case "extended":
			if esic["ExtensionLevel"] != int64(5) || ext["ADBE"] == nil {
				t.Error(name, ext)
			}
		default:
			if esic["BaseVersion"] != Name("1.7") || esic["ExtensionLevel"] != int64(1) {
				t.Error(name, ext)
			}
		}
	}
	old := bytes.Replace(onePage("", ""), []byte("%PDF-1.7"), []byte("%PDF-1.3"), 1)
	g, err := AppendDSS(open(t, old), DSS{Certs: [][]byte{{1}}})
	if err != nil || g.Version() != "1.7" {
		t.Error("BaseVersion 1.7 above the document's version:", g.Version(), err)
	}
	for _, c := range []rejection{
		{"no dictionary", onePage("/DSS []", ""), fault.Invalid, "/DSS is not a dictionary"},
		{"no array", onePage("/DSS << /Certs 7 >>", ""), fault.Invalid, "/Certs is not an array"},
		{"no stream", onePage("/DSS << /Certs [7] >>", ""), fault.Invalid, "other than streams"},
	} {
		_, err := ReadDSS(open(t, c.data))
		refused(t, err, c)
		_, err = AppendDSS(open(t, c.data), DSS{Certs: [][]byte{{1}}})
		refused(t, err, c)
	}
	if d, err := ReadDSS(open(t, onePage("", ""))); err != nil || d.Certs != nil {
		t.Error(d, err)
	}
}
