package pdf

import (
	"bytes"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// A file with something hidden between its objects can be read, not signed.
func TestCheckRefusesHidden(t *testing.T) {
	put := func(s string) []byte {
		d := newBuilder().page("", "").obj(4, "null")
		d.b = append(d.b, s...)
		return d.obj(5, "null").table("").b
	}
	after := func(d *builder, s string) []byte { return append(d.b, s...) }
	two := func() *builder { return newBuilder().page("", "").obj(4, "(old)").table("").obj(4, "(new)") }
	middle := newBuilder().page("", "")
	middle.b = append(middle.b, '1')
	middle.obj(4, "null")
	for _, c := range []rejection{
		{"object", put(evil), fault.Invalid, "at byte 214, in no object or section that the file lists, what looks like an object: 4 0 obj"},
		{"object in a comment", put("% " + strings.ReplaceAll(evil, "\n", " ") + "\n"), fault.Invalid, "what looks like an object"},
		{"object over comments", put("4 %\n0 % x\nobj null endobj\n"), fault.Invalid, "what looks like an object"},
		{"trailer", put("trailer << /Root 5 0 R >>\n"), fault.Invalid, "the keyword trailer"},
		{"startxref", put("startxref\n15\n%%EOF\n"), fault.Invalid, "the keyword startxref"},
		{"table", put("xref\n0 0\n"), fault.Invalid, "the keyword xref"},
		{"in front", newBuilderAfter(evil).page("", "").table("").b, fault.Invalid, "what looks like an object: 4 0 obj"},
		{"behind", after(newBuilder().page("", "").table(""), evil), fault.Invalid, "what looks like an object: 4 0 obj"},
		{"between revisions", after(newBuilder().page("", "").table("").obj(4, "null").table(""), "\n9 0 obj"), fault.Invalid, "what looks like an object: 9 0 obj"},
		{"behind an old object", func() []byte {
			d := newBuilder().page("", "").obj(4, "(old)")
			d.b = append(d.b, evil...)
			return d.table("").obj(4, "(new)").table("").b
		}(), fault.Invalid, "what looks like an object: 4 0 obj"},
		{"number cut in two", middle.table("").b, fault.Invalid, "in the middle of a number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, c.data)
			refused(t, f.Check(), c)
			_, err := Prepare(f, SignatureOptions{M: testTime, ContentsSize: 10})
			refused(t, err, c)
		})
	}
	relength := newBuilder().page("", "").obj(4, "<< /Length 5 0 R >>\nstream\nabc\nendstream").obj(5, "3").table("").
		obj(4, "<< /Length 5 0 R >>\nstream\nabcdef\nendstream").obj(5, "6").table("").b
	for name, data := range map[string][]byte{
		"comments":   put("% a writer's name, version 7.0\n"),
		"junk":       put("left over bytes << /Type /Nothing >> endobj\n"),
		"superseded": two().table("").b,
		"length":     relength,
		"attachment": newBuilder().page("", "").stream(4, "", onePage("", "")).table("").b,
		"end":        bytes.TrimSpace(two().table("").b),
	} {
		if err := open(t, data).Check(); err != nil {
			t.Error(name, err)
		}
	}
}

// newBuilderAfter has s between the header and the first object.
func newBuilderAfter(s string) *builder {
	d := newBuilder()
	d.b = append(d.b, s...)
	return d
}
