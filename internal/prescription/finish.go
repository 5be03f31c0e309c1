package prescription

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"time"
)

// emptyNames is what the library puts into every catalog: a name dictionary without names. Software that looks for embedded files by
// the key would find one.
var emptyNames = []byte("/Names <<\n/EmbeddedFiles << /Names [\n  \n] >>\n>>")

// finish makes the four amends that the library has no call for, none of which moves an object: the header says PDF 1.7, whose features
// are used and on which PAdES builds; the empty name dictionary is blanked out; the dates say that they are in UTC; and the trailer gets
// the ID that ISO 32000-1, 14.4 recommends, derived from the document so that the same input gives the same file.
func finish(pdf []byte) ([]byte, error) {
	names := bytes.LastIndex(pdf, emptyNames)
	trailer := bytes.LastIndex(pdf, []byte("trailer\n<<\n"))
	if names < 0 || trailer < names || !bytes.HasPrefix(pdf, []byte("%PDF-1.")) {
		return nil, errors.New("the PDF library wrote another header, catalog or trailer than expected")
	}
	for i := range emptyNames {
		pdf[names+i] = ' '
	}
	copy(pdf, "%PDF-1.7")
	if err := datesInUTC(pdf); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(pdf)
	id := fmt.Sprintf("/ID [<%x> <%[1]x>]\n", sum[:16])
	at := trailer + len("trailer\n<<\n")
	out := make([]byte, 0, len(pdf)+len(id))
	out = append(out, pdf[:at]...)
	out = append(out, id...)
	return append(out, pdf[at:]...), nil
}

// datesInUTC adds the Z without which the relation of a date to UTC is unknown (ISO 32000-1, 7.9.4), so that the information dictionary
// says what the metadata packet says. Its room is the space before the string, which no reader needs.
func datesInUTC(pdf []byte) error {
	for _, key := range []string{"/CreationDate", "/ModDate"} {
		const digits = len("20060102150405")
		at := bytes.LastIndex(pdf, []byte(key+" (D:"))
		if end := at + len(key) + len(" (D:") + digits; at < 0 || end >= len(pdf) || pdf[end] != ')' {
			return fmt.Errorf("the PDF library wrote %s in another form than expected", key)
		}
		value := pdf[at+len(key):][:len(" (D:")+digits]
		copy(value, value[1:])
		value[len(value)-1] = 'Z'
	}
	return nil
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
