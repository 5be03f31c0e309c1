package prescription

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// Objects of the file. Each font is three, from firstFont on: its dictionary, its descriptor, its program.
const (
	catalogObject = 1 + iota
	pagesObject
	pageObject
	contentObject
	metadataObject
	infoObject
	firstFont
)

func fontObject(i int) int { return firstFont + 3*i }

// file is a document of one page that shows the sheet. The same sheet and time give the same bytes.
func (s *sheet) file(p *Prescription, now time.Time) ([]byte, error) {
	embedded := make([]*font, len(s.encodings))
	size := 16 << 10
	for i, e := range s.encodings {
		if embedded[i] = e.font; e.font == nil {
			var err error
			if embedded[i], err = e.embed(); err != nil { // a few glyphs: compressing them would take longer than drawing the page
				return nil, err
			}
		}
		size += len(embedded[i].program) + 2048
	}
	content, err := s.content()
	if err != nil {
		return nil, err
	}
	// ISO 32000-1, 7.5.2: the line after the header says that the file is binary.
	w := &writer{b: append(make([]byte, 0, size+len(content)), "%PDF-1.7\n%\xb5\xb6\xb7\xb8\n"...)}
	w.object(catalogObject, "<< /Type /Catalog /Pages %d 0 R /Lang (en-GB) /Metadata %d 0 R >>", pagesObject, metadataObject)
	w.object(pagesObject, "<< /Type /Pages /Kids [%d 0 R] /Count 1 >>", pageObject)
	var names strings.Builder
	for i := range embedded {
		fmt.Fprintf(&names, "/F%d %d 0 R ", i, fontObject(i))
	}
	w.object(pageObject, "<< /Type /Page /Parent %d 0 R /MediaBox [0 0 %v %v] /Resources << /Font << %s>> >> /Contents %d 0 R >>",
		pagesObject, pageWidth, pageHeight, names.String(), contentObject)
	w.stream(contentObject, "", content)
	w.about(p, now)
	for i, f := range embedded {
		n := fontObject(i)
		w.object(n, "%s%d 0 R >>", f.dict, n+1)
		w.object(n+1, "%s%d 0 R >>", f.descriptor, n+2)
		w.stream(n+2, f.entries, f.program)
	}
	return w.finish(), nil
}

// writer appends objects to a file, in the order of their numbers.
type writer struct {
	b  []byte
	at []int // of object 1 and the following
}

func (w *writer) begin(n int) {
	if n != len(w.at)+1 {
		panic(fmt.Sprintf("prescription: object %d is written after %d others", n, len(w.at)))
	}
	w.at = append(w.at, len(w.b))
	w.b = append(strconv.AppendInt(w.b, int64(n), 10), " 0 obj\n"...)
}

func (w *writer) object(n int, format string, args ...any) {
	w.begin(n)
	w.b = append(fmt.Appendf(w.b, format, args...), "\nendobj\n"...)
}

func (w *writer) stream(n int, entries string, data []byte) {
	w.begin(n)
	w.b = fmt.Appendf(w.b, "<< /Length %d%s >>\nstream\n", len(data), entries)
	w.b = append(append(w.b, data...), "\nendstream\nendobj\n"...)
}

// about writes the metadata. It names no patient: metadata is what indexers and mail gateways read.
func (w *writer) about(p *Prescription, now time.Time) {
	const producer = "VeriPath AES appliance"
	title, subject := "Prescription "+p.PrescriptionID, "Private prescription"
	if p.Demonstration {
		subject = demonstration
	}
	w.stream(metadataObject, " /Type /Metadata /Subtype /XML", xmp(title, p.ClinicianCN, producer, now))
	date := now.Format("(D:20060102150405Z)")
	w.object(infoObject, "<< /Title %s /Author %s /Subject %s /Creator %s /Producer %[4]s /CreationDate %s /ModDate %[5]s >>",
		textString(title), textString(p.ClinicianCN), textString(subject), textString(producer), date)
}

// finish writes the table of objects and the trailer, with the ID that ISO 32000-1, 14.4 recommends, derived from the document.
func (w *writer) finish() []byte {
	id := sha256.Sum256(w.b)
	start := len(w.b)
	w.b = fmt.Appendf(w.b, "xref\n0 %d\n0000000000 65535 f \n", len(w.at)+1)
	for _, at := range w.at {
		w.b = fmt.Appendf(w.b, "%010d 00000 n \n", at)
	}
	return fmt.Appendf(w.b, "trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R /ID [<%x> <%[4]x>] >>\nstartxref\n%[5]d\n%%%%EOF\n",
		len(w.at)+1, catalogObject, infoObject, id[:16], start)
}

// textString is a PDF text string in UTF-16 with a byte order mark (ISO 32000-1, 7.9.2.2), in hexadecimal.
func textString(s string) string {
	b := []byte("<FEFF")
	for _, u := range utf16.Encode([]rune(s)) {
		b = appendHex(b, u)
	}
	return string(append(b, '>'))
}

func appendHex(b []byte, u uint16) []byte {
	const digits = "0123456789ABCDEF"
	return append(b, digits[u>>12], digits[u>>8&15], digits[u>>4&15], digits[u&15])
}

// xmp is the metadata packet (ISO 16684-1).
func xmp(title, author, producer string, now time.Time) []byte {
	escape := func(s string) string {
		var b strings.Builder
		xml.EscapeText(&b, []byte(s)) // a strings.Builder takes every write
		return b.String()
	}
	date := now.Format(time.RFC3339)
	return fmt.Appendf(nil, `<?xpacket begin="%s" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:pdf="http://ns.adobe.com/pdf/1.3/">
<dc:format>application/pdf</dc:format>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">%s</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>%s</rdf:li></rdf:Seq></dc:creator>
<dc:language><rdf:Bag><rdf:li>en-GB</rdf:li></rdf:Bag></dc:language>
<xmp:CreateDate>%s</xmp:CreateDate>
<xmp:ModifyDate>%[4]s</xmp:ModifyDate>
<xmp:CreatorTool>%[5]s</xmp:CreatorTool>
<pdf:Producer>%[5]s</pdf:Producer>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>`, "\ufeff", escape(title), escape(author), date, escape(producer))
}
