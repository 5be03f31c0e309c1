package pdf

import (
	"bytes"
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdfcpu/pdfcpu/pkg/api"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/model"
)

// peer runs a program that is not ours. A program that is not there fails the test with the Debian package that has it.
func peer(t testing.TB, pkg string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Fatalf("%s is missing: apt install %s", args[0], pkg)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// openssl signs with a certificate that it made itself.
type openssl struct{ dir, key, cert string }

func newOpenSSL(t testing.TB) *openssl {
	dir := t.TempDir()
	s := &openssl{dir, filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")}
	peer(t, "openssl", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Peer", "-days", "2", "-keyout", s.key, "-out", s.cert)
	return s
}

// sign makes the CMS of a prepared file, without this project's own.
func (s *openssl) sign(t testing.TB, p *Prepared) []byte {
	t.Helper()
	in, out := filepath.Join(s.dir, "in"), filepath.Join(s.dir, "out.der")
	br := p.ByteRange()
	data := append(bytes.Clone(p.u.b[:br[1]]), p.u.b[br[2]:]...)
	if err := os.WriteFile(in, data, 0o600); err != nil {
		t.Fatal(err)
	}
	peer(t, "openssl", "openssl", "cms", "-sign", "-binary", "-cades", "-md", "sha256", "-in", in, "-signer", s.cert, "-inkey", s.key, "-outform", "DER", "-out", out)
	der, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// corpus makes files with independent writers.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	out := map[string][]byte{}
	keep := func(name string) {
		b, err := os.ReadFile(at(name + ".pdf"))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = b
	}
	write := func(name, text string) {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.svg", `<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300"><circle cx="90" cy="90" r="50" fill="red" opacity=".5"/><text x="20" y="200" font-size="24">Prescription</text></svg>`)
	peer(t, "librsvg2-bin", "rsvg-convert", "-f", "pdf", "-o", at("cairo.pdf"), at("a.svg"))
	keep("cairo")
	for _, v := range []string{"1.3", "1.4", "1.7", "2.0"} {
		peer(t, "ghostscript", "gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=pdfwrite", "-dCompatibilityLevel="+v, "-sOutputFile="+at("gs-"+v+".pdf"), "-c",
			"/Helvetica findfont 24 scalefont setfont 72 720 moveto (Page one) show showpage 72 720 moveto (Page two) show showpage")
		keep("gs-" + v)
	}
	write("a.html", "<html><body><h1>Prescription</h1><p>Amoxicillin 500 mg</p><p><input type='text' name='a'></p></body></html>")
	peer(t, "libreoffice-writer-nogui", "soffice", "-env:UserInstallation=file://"+at("profile"), "--headless", "--convert-to", "pdf:writer_web_pdf_Export", "--outdir", dir, at("a.html"))
	if err := os.Rename(at("a.pdf"), at("libreoffice.pdf")); err != nil {
		t.Fatal(err)
	}
	keep("libreoffice")
	write("form.pdf", string(newBuilder().page("/AcroForm << /Fields [4 0 R] /DA (/Helv 0 Tf 0 g) /DR << /Font << /Helv 5 0 R >> >> >>", "/Annots 6 0 R").
		obj(4, "<< /FT /Tx /T (patient) /V (x) /Type /Annot /Subtype /Widget /Rect [10 10 100 30] /P 3 0 R /F 4 >>").
		obj(5, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>").obj(6, "[4 0 R]").table("/ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>]").b))
	write("hybrid.pdf", string(hybrid()))
	for _, base := range []string{"gs-1.4", "libreoffice", "form"} {
		for name, opt := range map[string][]string{"objstm": {"--object-streams=generate"}, "plain": {"--object-streams=disable"}, "linear": {"--linearize"}, "linear-objstm": {"--linearize", "--object-streams=generate"},
			"min17": {"--min-version=1.7"}, "force13": {"--force-version=1.3", "--object-streams=disable"}, "force20": {"--force-version=2.0"}, "qdf": {"--qdf"}, "nl": {"--newline-before-endstream"}} {
			n := base + "-qpdf-" + name
			peer(t, "qpdf", append(append([]string{"qpdf"}, opt...), at(base+".pdf"), at(n+".pdf"))...)
			keep(n)
		}
	}
	keep("form")
	keep("hybrid")
	return out
}

// TestPeers signs every file twice with openssl's CMS, visibly the second time, adds material and a document time stamp; each state is
// read by programs that are not ours, without a warning.
func TestPeers(t *testing.T) {
	signer := newOpenSSL(t)
	for name, data := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			f := open(t, data)
			for i := range 2 {
				o := SignatureOptions{M: testTime, ContentsSize: 3000, Name: "Dr Ω", Reason: "(x)"}
				if i == 1 {
					o.Appearance = &Appearance{Rect: [4]float64{20, 20, 120, 60}, Content: []byte("0.9 g 0 0 100 40 re f")}
				}
				before := f.Bytes()
				p, err := Prepare(f, o)
				if err != nil {
					t.Fatal(err)
				}
				if f, err = p.Embed(signer.sign(t, p)); err != nil {
					t.Fatal(err)
				}
				checkLast(t, before, f)
				accepted(t, f, i+1)
				if f, err = AppendDSS(f, DSS{Certs: [][]byte{{byte(i)}}}); err != nil {
					t.Fatal(err)
				}
			}
			f = sign(t, f, SignatureOptions{Type: "DocTimeStamp"})
			accepted(t, f, 0)
			if !bytes.HasPrefix(f.Bytes(), data) {
				t.Error("bytes that were there have changed")
			}
		})
	}
}

// accepted has a file read by others. When signed > 0, its last signature is the signed-th and covers all of it.
func accepted(t *testing.T, f *File, signed int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signed.pdf")
	if err := os.WriteFile(path, f.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := peer(t, "qpdf", "qpdf", "--check", path); strings.Contains(out, "WARNING") {
		t.Errorf("qpdf: %s", out)
	}
	if out := peer(t, "mupdf-tools", "mutool", "info", path); strings.Contains(out, "warning") || strings.Contains(out, "error") {
		t.Errorf("mutool: %s", out)
	}
	if out := peer(t, "poppler-utils", "pdfinfo", path); strings.Contains(out, "Error") || strings.Contains(out, "Warning") {
		t.Errorf("pdfinfo: %s", out)
	}
	conf := model.NewDefaultConfiguration()
	conf.Offline = true
	if _, err := api.ReadContext(bytes.NewReader(f.Bytes()), conf); err != nil {
		t.Errorf("pdfcpu: %v", err)
	}
	if signed == 0 {
		return
	}
	out := peer(t, "poppler-utils", "pdfsig", "-nocert", path)
	if strings.Count(out, "Signature Validation: Signature is Valid.") != signed || strings.Count(out, "Total document signed") != 1 {
		t.Errorf("pdfsig: %s", out)
	}
}

// Certification and an existing field, as pdfsig sees them.
func TestPeersCertified(t *testing.T) {
	signer := newOpenSSL(t)
	data := newBuilder().page("/AcroForm << /Fields [4 0 R] >>", "/Annots [4 0 R]").
		obj(4, "<< /FT /Sig /T (pharmacist) /Type /Annot /Subtype /Widget /Rect [10 10 100 30] /P 3 0 R /F 4 /Lock << /Type /SigFieldLock /Action /All >> >>").table("").b
	f := open(t, data)
	for i, o := range []SignatureOptions{{Certify: 2}, {Field: "pharmacist"}} {
		o.M, o.ContentsSize = testTime, 3000
		p, err := Prepare(f, o)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := p.Digest(crypto.SHA256)
		if err != nil || !bytes.Equal(digest, hashRange(p.u.b, p.br)) {
			t.Fatal(err)
		}
		if f, err = p.Embed(signer.sign(t, p)); err != nil {
			t.Fatal(err)
		}
		accepted(t, f, i+1)
	}
	_, err := Prepare(f, SignatureOptions{M: testTime, ContentsSize: 3000})
	if err == nil {
		t.Error("all fields are locked, but another signature was prepared")
	}
}
