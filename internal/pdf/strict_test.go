package pdf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Files that some readers take as they are and others repair, and so show differently.
func TestOpenRefusesWhatSomeReaderRepairs(t *testing.T) {
	plain := onePage("", "")
	bad := func(old, new string) []byte { return swap(t, plain, old, new) }
	xref := bytes.Index(plain, []byte("xref\n0"))
	tail := fmt.Sprintf("startxref\n%d\n%%%%EOF\n", xref)
	wide := func(w string, data ...byte) []byte {
		d := newBuilder().page("", "")
		at := int64(len(d.b))
		d.stream(4, "/Type /XRef /Root 1 0 R "+w, data)
		d.start = at
		return d.tail().b
	}
	for _, c := range []rejection{
		{"startxref too early", bad(tail, "startxref\n"+fmt.Sprint(xref)+"\n%%EOF"+strings.Repeat("\n", 1024)), fault.Invalid, "no startxref in the last 1024 bytes"},
		{"startxref just outside", bad(tail, tail+strings.Repeat(" ", 1025-len(tail))), fault.Invalid, "no startxref in the last 1024 bytes"},
		{"blanks after startxref", bad(tail, "startxref"+strings.Repeat("\n", 900)+tail[10:]), fault.Invalid, "not followed by a line"},
		{"blanks before EOF", bad("%%EOF", strings.Repeat("\n", 20)+"%%EOF"), fault.Invalid, "not followed by a line"},
		{"startxref on one line", bad("startxref\n", "startxref "), fault.Invalid, "not followed by a line"},
		{"glued EOF", bad("\n%%EOF", "%%EOF"), fault.Invalid, "not followed by a line"},
		{"NUL after startxref", bad("startxref\n", "startxref\n\x00"), fault.Invalid, "not followed by a line"},
		{"tab before EOF", bad("\n%%EOF", "\n\t%%EOF"), fault.Invalid, "not followed by a line"},
		{"subsection on xref's line", bad("xref\n0 1", "xref 0 1"), fault.Invalid, "cross-reference table"},
		{"form feed after xref", bad("xref\n0 1", "xref\f0 1"), fault.Invalid, "cross-reference table"},
		{"NUL in a subsection", bad("\n0 1\n", "\n0\x001\n"), fault.Invalid, "cross-reference table"},
		{"NUL after a subsection", bad("\n0 1\n", "\n0 1\x00"), fault.Invalid, "cross-reference table"},
		{"subsection on two lines", bad("\n0 1\n", "\n0\n1\n"), fault.Invalid, "cross-reference table"},
		{"subsection with zeros", bad("\n0 1\n", "\n"+strings.Repeat("0", 40)+" 1\n"), fault.Invalid, "cross-reference table"},
		{"NUL before trailer", bad("trailer", "\x00trailer"), fault.Invalid, "cross-reference table"},
		{"size", bad("/Size 4", "/Size 8388608"), fault.Invalid, "/Size from 1 to 8388607"},
		{"size of 31 bits", bad("/Size 4", "/Size 2147483648"), fault.Invalid, "/Size from 1 to 8388607"},
		{"free number", bad("trailer", "8388607 1\n0000000000 00000 f \ntrailer"), fault.Invalid, "object 8388607"},
		{"free number of 32 bits", bad("trailer", "4294967290 1\n0000000000 00000 f \ntrailer"), fault.Invalid, "cross-reference table"},
		{"wide type", wide("/Size 1 /W [5 1 1]", 0, 0, 0, 0, 0, 0, 0), fault.Invalid, "width 1 of /W is not 0 to 2"},
		{"wide offset", wide("/Size 1 /W [1 9 0]", make([]byte, 10)...), fault.Invalid, "width 2 of /W is not 0 to 8"},
		{"wide generation", wide("/Size 1 /W [1 1 8]", make([]byte, 10)...), fault.Invalid, "width 3 of /W is not 0 to 4"},
		{"stream's size", wide("/Size 9000000 /Index [0 1] /W [1 1 1]", 0, 0, 0), fault.Invalid, "/Size from 1 to 8388607"},
		{"stream's free number", wide("/Size 4 /Index [0 1 9000000 1] /W [1 1 1]", 0, 0, 0, 0, 0, 0), fault.Invalid, "object numbers"},
		{"stream's last number", wide("/Size 4 /Index [8388607 1] /W [1 1 1]", 0, 0, 0), fault.Invalid, "beyond the highest"},
		{"in a stream of a high number", wide("/Size 1 /W [1 4 1]", 2, 0, 128, 0, 0, 0), fault.Invalid, "out of range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.data, Limits{})
			refused(t, err, c)
		})
	}
	open(t, bad(tail, tail+strings.Repeat(" ", 1024-len(tail))))
	open(t, bad(tail, strings.ReplaceAll(tail, "\n", " \r\n")))
}

// A file whose numbers are almost used up can be read, not signed.
func TestPrepareLeavesNumbers(t *testing.T) {
	for num, want := range map[int]string{8388606: "no object numbers left", 8388605: "too few object numbers left"} {
		data := newBuilder().page("", "").obj(num, "null").table("").b
		_, err := Prepare(open(t, data), SignatureOptions{M: testTime, ContentsSize: 10})
		refused(t, err, rejection{"", nil, fault.TooLarge, want})
	}
	sign(t, open(t, newBuilder().page("", "").obj(8388600, "null").table("").b), SignatureOptions{})
}
