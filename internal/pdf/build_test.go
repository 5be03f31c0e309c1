package pdf

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// builder writes small PDF files by hand, right ones and wrong ones.
type builder struct {
	b     []byte
	offs  map[int]int64  // objects since the last section: number -> offset
	inStm map[int][2]int // number -> object stream and index
	free  []int
	prev  int64
	size  int
	start int64 // position of the last section
}

func newBuilder() *builder {
	return &builder{b: []byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), offs: map[int]int64{}, inStm: map[int][2]int{}, size: 1}
}

func (d *builder) obj(n int, body string) *builder {
	d.offs[n] = int64(len(d.b))
	d.size = max(d.size, n+1)
	d.b = fmt.Appendf(d.b, "%d 0 obj\n%s\nendobj\n", n, body)
	return d
}

func (d *builder) stream(n int, dict string, data []byte) *builder {
	return d.obj(n, fmt.Sprintf("<< %s /Length %d >>\nstream\n%s\nendstream", dict, len(data), data))
}

// objStm writes an object stream of first, first+1, ...
func (d *builder) objStm(n, first int, bodies ...string) *builder {
	var head, body strings.Builder
	for i, s := range bodies {
		fmt.Fprintf(&head, "%d %d ", first+i, body.Len())
		body.WriteString(s + " ")
		d.inStm[first+i] = [2]int{n, i}
		d.size = max(d.size, first+i+1)
	}
	return d.stream(n, fmt.Sprintf("/Type /ObjStm /N %d /First %d /Filter /FlateDecode", len(bodies), head.Len()), deflate([]byte(head.String()+body.String())))
}

func deflate(b []byte) []byte {
	var out bytes.Buffer
	w, _ := zlib.NewWriterLevel(&out, zlib.DefaultCompression)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func (d *builder) nums() []int {
	var nums []int
	for n := range d.offs {
		nums = append(nums, n)
	}
	for n := range d.inStm {
		nums = append(nums, n)
	}
	nums = append(nums, d.free...)
	if d.prev == 0 {
		nums = append(nums, 0)
	}
	slices.Sort(nums)
	return nums
}

func (d *builder) reset() {
	d.prev, d.start = d.start, 0
	d.offs, d.inStm, d.free = map[int]int64{}, map[int][2]int{}, nil
}

func (d *builder) trailer(extra string) string {
	s := fmt.Sprintf("/Size %d ", d.size)
	if !strings.Contains(extra, "/Root") {
		s += "/Root 1 0 R "
	}
	if d.prev > 0 && !strings.Contains(extra, "/Prev") {
		s += fmt.Sprintf("/Prev %d ", d.prev)
	}
	return s + extra
}

// table ends a revision with a cross-reference table.
func (d *builder) table(extra string) *builder {
	d.start = int64(len(d.b))
	d.b = append(d.b, "xref\n"...)
	for _, n := range d.nums() {
		if off, ok := d.offs[n]; ok {
			d.b = fmt.Appendf(d.b, "%d 1\n%010d 00000 n \n", n, off)
		} else {
			d.b = fmt.Appendf(d.b, "%d 1\n0000000000 65535 f \n", n)
		}
	}
	d.b = fmt.Appendf(d.b, "trailer\n<< %s >>\n", d.trailer(extra))
	return d.tail()
}

func (d *builder) tail() *builder {
	d.b = fmt.Appendf(d.b, "startxref\n%d\n%%%%EOF\n", d.start)
	d.reset()
	return d
}

// xrefData returns the /Index and the data of a cross-reference stream, widths 1 4 2.
func (d *builder) xrefData() (index string, data []byte) {
	var pairs strings.Builder
	for _, n := range d.nums() {
		fmt.Fprintf(&pairs, "%d 1 ", n)
		if off, ok := d.offs[n]; ok {
			data = append(data, 1, byte(off>>24), byte(off>>16), byte(off>>8), byte(off), 0, 0)
		} else if s, ok := d.inStm[n]; ok {
			data = append(data, 2, byte(s[0]>>24), byte(s[0]>>16), byte(s[0]>>8), byte(s[0]), byte(s[1]>>8), byte(s[1]))
		} else {
			data = append(data, 0, 0, 0, 0, 0, 255, 255)
		}
	}
	return pairs.String(), data
}

// xrefStream ends a revision with a cross-reference stream, object n.
func (d *builder) xrefStream(n int, extra string) *builder {
	d.size = max(d.size, n+1)
	d.start = int64(len(d.b))
	d.offs[n] = d.start
	index, data := d.xrefData()
	start := d.start
	d.stream(n, fmt.Sprintf("/Type /XRef /W [1 4 2] /Index [%s] /Filter /FlateDecode %s", index, d.trailer(extra)), deflate(data))
	d.start = start
	return d.tail()
}

// page writes the three objects of a one-page document: catalog 1, page tree 2, page 3.
func (d *builder) page(catalog, page string) *builder {
	d.obj(1, "<< /Type /Catalog /Pages 2 0 R "+catalog+" >>")
	d.obj(2, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>")
	return d.obj(3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "+page+" >>")
}

// onePage is a whole file with a table.
func onePage(catalog, page string) []byte {
	return newBuilder().page(catalog, page).table("").b
}

// onePageStream is a whole file with an object stream and a cross-reference stream.
func onePageStream(catalog, page string) []byte {
	d := newBuilder()
	d.objStm(9, 1, "<< /Type /Catalog /Pages 2 0 R "+catalog+" >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "+page+" >>")
	return d.xrefStream(10, "").b
}

// hybrid is a file whose catalog is visible in the table and whose page is hidden in an object stream.
func hybrid() []byte {
	d := newBuilder()
	d.obj(1, "<< /Type /Catalog /Pages 2 0 R >>").obj(2, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>")
	visible := d.offs
	d.offs, d.prev = map[int]int64{}, 1
	d.objStm(9, 3, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>")
	index, data := d.xrefData()
	at := len(d.b)
	d.stream(10, "/Type /XRef /W [1 4 2] /Size 11 /Index ["+index+"]", data)
	d.offs, d.inStm, d.free, d.prev = visible, map[int][2]int{}, []int{3, 9, 10}, 0
	return d.table(fmt.Sprintf("/XRefStm %d", at)).b
}

func open(t testing.TB, data []byte) *File {
	t.Helper()
	f, err := Open(data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var testTime = time.Date(2026, 11, 21, 19, 25, 0, 0, time.UTC)

// sign signs f with something that is not a signature.
func sign(t testing.TB, f *File, o SignatureOptions) *File {
	t.Helper()
	if o.M.IsZero() && o.Type != "DocTimeStamp" {
		o.M = testTime
	}
	if o.ContentsSize == 0 {
		o.ContentsSize = 100
	}
	p, err := Prepare(f, o)
	if err != nil {
		t.Fatal(err)
	}
	g, err := p.Embed([]byte{0x30, 3, 2, 1, 7})
	if err != nil {
		t.Fatal(err)
	}
	return g
}
