package pades

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pdfcpu/pdfcpu/pkg/api"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/model"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
)

// renderer adds our own prescription.
func (m *maker) renderer() {
	m.t.Helper()
	r, err := prescription.NewRenderer()
	if err != nil {
		m.t.Fatal(err)
	}
	data, err := r.Render(prescription.Demo(labTime), labTime)
	if err != nil {
		m.t.Fatal(err)
	}
	m.add(file{name: "prescription", data: data})
}

const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="595" height="842"><rect x="20" y="20" width="200" height="90" fill="#123" opacity=".4"/>
<linearGradient id="g"><stop offset="0" stop-color="red"/><stop offset="1" stop-color="blue" stop-opacity=".3"/></linearGradient>
<circle cx="300" cy="300" r="120" fill="url(#g)"/><text x="40" y="70" font-family="DejaVu Sans" font-size="22">Prescription %d: Zoë</text></svg>`

// cairo adds what rsvg-convert makes: one page, and seven.
func (m *maker) cairo() {
	m.t.Helper()
	var all []string
	for i := range 7 {
		all = append(all, m.write(fmt.Sprintf("%d.svg", i), fmt.Appendf(nil, svg, i)))
	}
	m.run("rsvg-convert", "-f", "pdf", "-o", "cairo.pdf", all[0])
	m.keep("cairo", m.path("cairo.pdf"))
	m.run("rsvg-convert", append([]string{"-f", "pdf", "-o", "cairo7.pdf"}, all...)...)
	m.keep("cairo 7 pages", m.path("cairo7.pdf"))
}

const postscript = `%!PS-Adobe-3.0
1 1 5 { /n exch def
 /Helvetica findfont 24 scalefont setfont 72 700 moveto (Page ) show n 10 string cvs show
 /Times-Italic findfont 12 scalefont setfont 72 650 moveto (Take one capsule three times a day) show
 n 2 mod 0 eq { 0 0 1 setrgbcolor } { 1 0 0 setrgbcolor } ifelse 100 100 200 n 40 mul rectfill
 [ /Title (Page) /Page n /OUT pdfmark showpage } for
[ /Title (PostScript) /DOCINFO pdfmark
`

// ghostscript adds documents of pdfwrite at each of its settings and versions, and one distilled again from another writer's.
func (m *maker) ghostscript() {
	m.t.Helper()
	in := m.write("in.ps", []byte(postscript))
	distil := func(name, from string, options ...string) {
		args := append([]string{"-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", "-sDEVICE=pdfwrite", "-sOutputFile=gs.pdf"}, options...)
		m.run("gs", append(args, from)...)
		m.keep("ghostscript "+name, m.path("gs.pdf"))
	}
	for _, s := range []string{"screen", "ebook", "printer", "prepress", "default"} {
		distil(s, in, "-dPDFSETTINGS=/"+s)
	}
	for _, v := range []string{"1.3", "1.4", "1.5", "1.6", "1.7", "2.0"} {
		distil(v, in, "-dCompatibilityLevel="+v)
	}
	distil("uncompressed", in, "-dCompressPages=false", "-dCompressFonts=false")
	distil("linearized", in, "-dFastWebView=true")
	distil("from cairo", m.path("cairo7.pdf"))
}

const flatODT = `<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 xmlns:form="urn:oasis:names:tc:opendocument:xmlns:form:1.0" xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" xmlns:xlink="http://www.w3.org/1999/xlink"
 xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0" office:version="1.3" office:mimetype="application/vnd.oasis.opendocument.text">
<office:body><office:text>%s
<text:h text:outline-level="1">Prescription</text:h>%s
<text:p>Zoë Example <text:a xlink:href="https://example.org/" xlink:type="simple">a link</text:a></text:p>
</office:text></office:body></office:document>`

const formParts = `<office:forms form:automatic-focus="false" form:apply-design-mode="false"><form:form form:name="Form">
<form:text form:name="quantity" form:control-implementation="ooo:com.sun.star.form.component.TextField" xml:id="c1" form:id="c1" form:value="21"/>
<form:checkbox form:name="urgent" form:control-implementation="ooo:com.sun.star.form.component.CheckBox" xml:id="c2" form:id="c2" form:label="urgent"/>
</form:form></office:forms>`

const formPage = `<text:p><draw:control text:anchor-type="as-char" draw:control="c1" svg:width="5cm" svg:height="0.8cm"/>
<draw:control text:anchor-type="as-char" draw:control="c2" svg:width="4cm" svg:height="0.8cm"/></text:p>`

// libreOffice adds Writer's exports: plain, tagged, three kinds of PDF/A, a form, and a web page.
func (m *maker) libreOffice() {
	m.t.Helper()
	m.write("plain.fodt", fmt.Appendf(nil, flatODT, "", strings.Repeat("<text:p>Take one capsule three times a day.</text:p>", 120)))
	m.write("form.fodt", fmt.Appendf(nil, flatODT, formParts, formPage))
	m.write("web.html", []byte("<html><head><title>Web</title></head><body><h1>Prescription</h1><table border=1><tr><td>é<td>21</table></body></html>"))
	convert := func(name, in, options string) {
		m.run("soffice", "--headless", "-env:UserInstallation=file://"+m.path("office"), "--convert-to", "pdf:"+options, "--outdir", m.path("office-out"), m.path(in))
		m.keep("LibreOffice "+name, m.path("office-out/"+in[:strings.IndexByte(in, '.')]+".pdf"))
	}
	convert("plain", "plain.fodt", "writer_pdf_Export")
	for name, options := range map[string]string{
		"PDF/A-1": `"SelectPdfVersion":{"type":"long","value":"1"}`,
		"PDF/A-2": `"SelectPdfVersion":{"type":"long","value":"2"}`,
		"tagged":  `"UseTaggedPDF":{"type":"boolean","value":"true"},"PDFUACompliance":{"type":"boolean","value":"true"}`,
		"1.5":     `"SelectPdfVersion":{"type":"long","value":"15"},"ExportBookmarks":{"type":"boolean","value":"true"}`,
	} {
		convert(name, "plain.fodt", "writer_pdf_Export:{"+options+"}")
	}
	convert("form", "form.fodt", `writer_pdf_Export:{"ExportFormFields":{"type":"boolean","value":"true"}}`)
	convert("web page", "web.html", "writer_web_pdf_Export")
}

// mupdf adds documents that mutool made, cleaned and merged.
func (m *maker) mupdf() {
	m.t.Helper()
	m.write("content.txt", []byte("%%MediaBox 0 0 500 800\n%%Font Tm Times-Roman\nBT /Tm 24 Tf 50 700 Td (mutool) Tj ET\n"))
	m.run("mutool", "create", "-o", "created.pdf", "content.txt")
	m.keep("mutool create", m.path("created.pdf"))
	for name, options := range map[string]string{"clean": "", "garbage": "-gggg", "expanded": "-d", "linear": "-l", "ASCII": "-a", "compressed": "-z", "sanitized": "-s"} {
		args := []string{"clean"}
		if options != "" {
			args = append(args, options)
		}
		m.run("mutool", append(args, "cairo7.pdf", "cleaned.pdf")...)
		m.keep("mutool "+name, m.path("cleaned.pdf"))
	}
	m.run("mutool", "merge", "-o", "merged.pdf", "cairo7.pdf", "1,3", "created.pdf")
	m.keep("mutool merge", m.path("merged.pdf"))
}

// pdfcpu adds a document that it wrote anew, with and without object and cross-reference streams.
func (m *maker) pdfcpu() {
	m.t.Helper()
	api.DisableConfigDir()
	for name, streams := range map[string]bool{"pdfcpu streams": true, "pdfcpu table": false} {
		c := model.NewDefaultConfiguration()
		c.WriteObjectStream, c.WriteXRefStream = streams, streams
		var out bytes.Buffer
		if err := api.Optimize(bytes.NewReader(m.named("cairo 7 pages")), &out, c); err != nil {
			m.t.Fatal(err)
		}
		m.add(file{name: name, data: out.Bytes()})
	}
}

// groff adds a manual page by gropdf.
func (m *maker) groff() {
	m.t.Helper()
	in := m.write("page.1", []byte(".TH RX 1\n.SH NAME\nrx \\- a prescription\n.SH DESCRIPTION\n"+strings.Repeat("Take one capsule.\n.PP\n", 200)))
	m.write("groff.pdf", []byte(m.run("groff", "-Tpdf", "-man", in)))
	m.keep("groff", m.path("groff.pdf"))
}

// podofo adds documents by PoDoFo's tools.
func (m *maker) podofo() {
	m.t.Helper()
	m.write("text.txt", []byte(strings.Repeat("Take one capsule three times a day\n", 150)))
	m.run("podofotxt2pdf", "text.txt", "podofo.pdf")
	m.keep("PoDoFo text", m.path("podofo.pdf"))
	m.run("podofomerge", "podofo.pdf", "cairo.pdf", "podofo2.pdf")
	m.keep("PoDoFo merge", m.path("podofo2.pdf"))
	m.run("podofogc", "cairo7.pdf", "podofo3.pdf")
	m.keep("PoDoFo garbage collection", m.path("podofo3.pdf"))
}

const api2 = `use PDF::API2;
my $pdf = PDF::API2->new(); $pdf->preferences(-outlines => 1);
for my $i (1..3) { my $page = $pdf->page(); $page->mediabox('A4'); my $t = $page->text(); $t->font($pdf->corefont('Helvetica'), 20); $t->translate(80, 700);
  $t->text("Prescription $i"); my $a = $page->annotation(); $a->rect(10, 10, 50, 50); $a->text('note'); $pdf->outlines()->outline()->title("P$i"); }
$pdf->saveas('perl.pdf'); $pdf = PDF::API2->open('perl.pdf'); $pdf->page()->mediabox('A5'); $pdf->update();`

// perl adds a document by PDF::API2, updated in place.
func (m *maker) perl() {
	m.t.Helper()
	m.run("perl", m.write("api2.pl", []byte(api2)))
	m.keep("PDF::API2", m.path("perl.pdf"))
}

const reportlab = `
from reportlab.pdfgen.canvas import Canvas
from reportlab.lib.pagesizes import A4, landscape
c = Canvas("reportlab.pdf", pagesize=A4, pageCompression=1); c.setTitle("Prescription")
for i in range(3):
    c.setPageSize(landscape(A4) if i == 1 else A4); c.drawString(72, 500, "Zo\u00eb %d" % i); c.bookmarkPage(str(i)); c.addOutlineEntry(str(i), str(i)); c.showPage()
c.save()
c = Canvas("form.pdf", pagesize=A4); f = c.acroForm
f.textfield(name="quantity", x=100, y=600, width=200, height=20, value="21"); f.checkbox(name="urgent", x=100, y=500)
f.choice(name="form", options=["capsules", "tablets"], value="capsules", x=100, y=400, width=120, height=20); f.radio(name="r", value="a", x=100, y=350); f.radio(name="r", value="b", x=140, y=350); c.showPage(); c.save()
from PyPDF2 import PdfReader, PdfWriter, PdfMerger
r = PdfReader("form.pdf"); w = PdfWriter(); w.clone_document_from_reader(r); w.update_page_form_field_values(w.pages[0], {"quantity": "42"})
w.write("filled.pdf")
m = PdfMerger(); m.append("reportlab.pdf"); m.append("form.pdf"); m.write("merged-py.pdf")
w = PdfWriter(); w.append_pages_from_reader(PdfReader("reportlab.pdf")); [p.rotate(90) for p in w.pages]; [p.scale_by(0.5) for p in w.pages]; w.write("turned.pdf")
`

// python adds what Django applications write: ReportLab's documents and forms, and PyPDF2's of those.
func (m *maker) python() {
	m.t.Helper()
	m.run("/usr/bin/python3", m.write("make.py", []byte(reportlab)))
	for _, name := range []string{"reportlab", "form", "filled", "merged-py", "turned"} {
		m.keep("python "+name, m.path(name+".pdf"))
	}
}

func (m *maker) named(name string) []byte {
	m.t.Helper()
	for _, f := range m.files {
		if f.name == name {
			return f.data
		}
	}
	m.t.Fatalf("no file %q", name)
	return nil
}

// qpdf adds files written anew by qpdf: one in every mode, and each of the others in the three that change its structure most.
func (m *maker) qpdf(others []file) {
	m.t.Helper()
	m.write("base.pdf", m.named("ghostscript default"))
	m.write("other.pdf", m.named("LibreOffice form"))
	for _, mode := range []string{
		"--object-streams=generate", "--object-streams=preserve", "--object-streams=disable", "--linearize", "--linearize --object-streams=generate",
		"--linearize --object-streams=disable", "--qdf", "--qdf --object-streams=generate", "--compress-streams=n", "--stream-data=uncompress",
		"--recompress-flate --compression-level=9", "--newline-before-endstream", "--normalize-content=y", "--coalesce-contents", "--deterministic-id",
		"--remove-unreferenced-resources=yes", "--rotate=+90", "--rotate=+180:1", "--rotate=270 --flatten-rotation",
		"--force-version=1.3", "--force-version=1.4", "--force-version=1.5", "--force-version=1.6", "--force-version=1.7", "--force-version=2.0",
		"--min-version=1.7.8", "--force-version=1.3 --object-streams=disable", "--force-version=2.0 --object-streams=generate",
		"--pages . 2 --", "--pages . z-1 --", "--pages . 1-2 other.pdf --", "--overlay other.pdf --", "--generate-appearances", "--split-pages",
	} {
		args := append([]string{"--warning-exit-0", "base.pdf"}, strings.Fields(mode)...)
		out := "out.pdf"
		m.run("qpdf", append(args, out)...)
		if mode == "--split-pages" {
			out = "out-3.pdf"
		}
		m.keep("qpdf "+mode, m.path(out))
	}
	for _, f := range others {
		m.write("in.pdf", f.data)
		for _, mode := range []string{"--object-streams=generate", "--linearize", "--qdf"} {
			m.run("qpdf", "--warning-exit-0", "in.pdf", mode, "out.pdf")
			m.keep("qpdf "+mode+" of "+f.name, m.path("out.pdf"))
		}
	}
	for _, bits := range []string{"40", "128", "256"} {
		args := []string{"base.pdf", "--encrypt", "", "owner", bits, "--", "out.pdf"}
		if bits != "256" {
			args = append([]string{"--allow-weak-crypto"}, args...)
		}
		m.run("qpdf", args...)
		m.keep("qpdf encrypted "+bits, m.path("out.pdf"))
		m.files[len(m.files)-1].kind = fault.Unsupported
	}
}
