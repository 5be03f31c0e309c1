package pades

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
	"github.com/veripath/aes-appliance/internal/panel"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// file is a document that somebody else's program wrote, or that is put together by hand to be unusual and yet right.
type file struct {
	name  string
	data  []byte
	field string     // the empty signature field to sign; "" = a new one
	kind  fault.Kind // of the refusal that is wanted; Internal = it can be signed
	found bool       // on this machine: it may be broken

	// Poppler 22 (and MuPDF 1.21) do not look for the value of a field whose widget is a dictionary of its own where ISO 32000-1, 12.7.3.1
	// has it, in the field: pdfsig sees no signature there.
	unseen bool
}

// corpus collects the PDF files that this machine's Debian packages brought, makes others with every independent writer there is, and adds
// the hand-made ones. A writer that is missing fails the test.
func corpus(t *testing.T) []file {
	t.Helper()
	m := &maker{t: t, dir: t.TempDir()}
	m.renderer()
	m.cairo()
	m.ghostscript()
	m.libreOffice()
	m.mupdf()
	m.pdfcpu()
	m.groff()
	m.podofo()
	m.perl()
	m.python()
	m.qpdf(slices.Clone(m.files))
	m.byHand()
	m.debian()
	return m.files
}

// maker collects files.
type maker struct {
	t     *testing.T
	dir   string
	files []file
}

func (m *maker) add(f file) { m.files = append(m.files, f) }

// keep adds a file that a program wrote under dir.
func (m *maker) keep(name, path string) {
	m.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.add(file{name: name, data: data})
}

func (m *maker) path(name string) string { return filepath.Join(m.dir, name) }

func (m *maker) write(name string, data []byte) string {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), data, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return m.path(name)
}

// packageOf names what to install for a missing program.
var packageOf = map[string]string{
	"qpdf": "qpdf", "pdfsig": "poppler-utils", "gs": "ghostscript", "rsvg-convert": "librsvg2-bin", "mutool": "mupdf-tools",
	"soffice": "libreoffice-writer-nogui", "certutil": "libnss3-tools", "groff": "groff", "podofotxt2pdf": "libpodofo-utils",
	"podofomerge": "libpodofo-utils", "podofogc": "libpodofo-utils", "perl": "perl libpdf-api2-perl", "/usr/bin/python3": "python3-reportlab python3-pypdf2",
}

// run runs a program in m's folder and returns its output; a failure ends the test.
func (m *maker) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.try(name, args...)
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (m *maker) try(name string, args ...string) (string, error) {
	m.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		m.t.Fatalf("%s is needed: apt-get install %s", name, packageOf[name])
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "HOME="+m.dir, "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=1795262400")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// debian adds the documents among the installed packages' files: 40 at most, none above 4 MB.
func (m *maker) debian() {
	m.t.Helper()
	n := 0
	err := filepath.WalkDir("/usr/share", func(path string, d fs.DirEntry, err error) error {
		if err != nil || n >= 40 || d.IsDir() || !strings.HasSuffix(strings.TrimSuffix(path, ".gz"), ".pdf") {
			return nil // a folder that cannot be read is no concern of ours
		}
		if info, err := d.Info(); err != nil || !info.Mode().IsRegular() || info.Size() > 4<<20 {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.HasSuffix(path, ".gz") {
			data, err = gunzip(data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		n++
		m.add(file{name: "debian " + filepath.Base(path), data: data, found: true})
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Logf("%d files of Debian packages", n)
}

func gunzip(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, 16<<20))
}

// labAuthority signs with the lab's keys.
type labAuthority struct {
	l  *lab
	at time.Time
}

func (a labAuthority) SignatureSize() int { return 6000 }
func (a labAuthority) StampSize() int     { return 4000 }

func (a labAuthority) Sign(_ context.Context, digest []byte) (Signature, error) {
	certs, ocsps, crls := a.l.material(a.at.Add(2 * time.Second))
	return Signature{CMS: a.l.contents(digest, seal{at: a.at}), Material: Material{Certs: certs, OCSPs: ocsps, CRLs: crls}}, nil
}

func (a labAuthority) Stamp(_ context.Context, digest []byte) ([]byte, error) {
	return a.l.tokenOver(a.l.tsa, digest, a.at.Add(5*time.Second)), nil
}

// Every document of the corpus is signed to B-LTA with a visible panel; independent programs find the result sound, and the original is in
// it byte for byte. The document with the signature alone, as it is before DSS and time stamp, is one that pdfsig calls wholly signed.
func TestCorpus(t *testing.T) {
	files := corpus(t)
	dir, l := t.TempDir(), newLab(t)
	set, err := fonts.New()
	if err != nil {
		t.Fatal(err)
	}
	look, err := panel.NewDrawer(set).Draw(panel.Panel{Width: 198, Height: 71, Heading: "Signed electronically by", Name: "Doctor Lab",
		Details: []string{"GMC 1234567", "21 November 2026 at 12:00:00 GMT"}})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		if names[f.name] {
			t.Errorf("two files are named %q", f.name)
		}
		names[f.name] = true
		t.Run(f.name, func(t *testing.T) { signOne(t, &maker{t: t, dir: dir}, l, f, look) })
	}
	t.Logf("%d files", len(files))
}

func signOne(t *testing.T, m *maker, l *lab, f file, look []byte) {
	options := SignOptions{Field: f.field, Name: "Doctor Lab", Time: labTime}
	n, err := pages(f.data)
	if f.field == "" {
		options.Appearance = &pdf.Appearance{Page: n - 1, Rect: [4]float64{60, 60, 258, 131}, Content: look}
	}
	var signed Signed
	if err == nil {
		signed, err = Sign(t.Context(), f.data, labAuthority{l, labTime}, options)
	}
	switch {
	case f.kind != fault.Internal:
		if fault.KindOf(err) != f.kind || signed.PDF != nil {
			t.Errorf("wanted a refusal of kind %v, got %v", f.kind, err)
		}
		return
	case brokenToo(t, m, f, err):
		return
	case err != nil:
		t.Fatalf("%v (hint: %s)", err, fault.HintOf(err))
	}
	if !bytes.HasPrefix(signed.PDF, f.data) {
		t.Error("the original's bytes have changed")
	}
	agree(t, m, f, signed, n)
	report := validate(t, signed.PDF, l.roots(), labTime.Add(time.Hour))
	last := report.Signatures[len(report.Signatures)-2] // the very last is the document time stamp
	if last.Indication != TotalPassed || last.Level != LevelLTA || last.Modified {
		t.Errorf("our own verdict: %s %s at %s, modified %v\n%s", last.Indication, last.SubIndication, last.Level, last.Modified, report.Text())
	}
}

// brokenToo tells whether err is a refusal of a found file that qpdf complains of as well.
func brokenToo(t *testing.T, m *maker, f file, err error) bool {
	if !f.found || fault.KindOf(err) != fault.Invalid {
		return false
	}
	complaint := m.check(f.data)
	t.Logf("refused: %s; qpdf: %s", fault.PublicOf(err), complaint)
	return complaint != ""
}

func pages(data []byte) (int, error) {
	doc, err := pdf.Open(data, pdf.Limits{})
	if err != nil {
		return 0, err
	}
	list, err := doc.Pages()
	return len(list), err
}

// agree asks qpdf and pdfsig, and counts the pages.
func agree(t *testing.T, m *maker, f file, signed Signed, pages int) {
	t.Helper()
	before, after := m.check(f.data), m.check(signed.PDF)
	if after != "" && after != before {
		t.Errorf("qpdf --check:\n%s\nof the original:\n%s", after, before)
	}
	path := m.write("signed.pdf", signed.PDF)
	if got := strings.TrimSpace(m.run("qpdf", "--show-npages", path)); got != strconv.Itoa(pages) {
		t.Errorf("%s pages", got)
	}
	if f.unseen {
		return
	}
	if bad := badSignatures(m.signatures(path)); bad != "" {
		t.Errorf("pdfsig on the finished file:\n%s", bad)
	}
	r := signed.Signature
	out := m.signatures(m.write("alone.pdf", signed.PDF[:r[2]+r[3]]))
	last := out[strings.LastIndex(out, "Signature #"):]
	if !strings.Contains(last, "Signature Validation: Signature is Valid.") || !strings.Contains(last, "Total document signed") {
		t.Errorf("pdfsig on the signature alone:\n%s", out)
	}
}

// check is what qpdf complains of, less the file's name and positions; "" when it is clean.
func (m *maker) check(data []byte) string {
	path := m.write("check.pdf", data)
	out, err := m.try("qpdf", "--check", path)
	if err == nil && strings.Contains(out, "No syntax or stream encoding errors") && !strings.Contains(out, "WARNING") {
		return ""
	}
	return regexp.MustCompile(`(?m)^(checking |PDF Version|PDF Extension|File is).*\n|offset \d+|\d+ 0 obj`).ReplaceAllString(strings.ReplaceAll(out, path, ""), "")
}

// signatures is what pdfsig says; with a certificate database of its own, and not judging the certificate, which the lab's is unknown to.
func (m *maker) signatures(path string) string {
	m.t.Helper()
	return m.run("pdfsig", "-nssdir", m.nssdir(), "-nocert", path)
}

func (m *maker) nssdir() string {
	m.t.Helper()
	dir := m.path("nss")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		m.t.Fatal(err)
	}
	m.run("certutil", "-N", "--empty-password", "-d", "sql:"+dir)
	return dir
}

// badSignatures returns the parts of pdfsig's output about signatures that it calls other than valid. Poppler 22 has no verdict on document
// time stamps, whose type it does not know, and lists empty fields too.
func badSignatures(out string) string {
	var bad []string
	for _, part := range strings.Split(out, "Signature #")[1:] {
		if !regexp.MustCompile(`Signature is Valid\.|Signature Type: unknown|field is not signed`).MatchString(part) {
			bad = append(bad, part)
		}
	}
	return strings.Join(bad, "\n")
}
