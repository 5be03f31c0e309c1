package pdf

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exercise does everything with a file that a stranger's file goes through. It may fail; it may not panic, hang or take much memory.
func exercise(data []byte) {
	f, err := Open(data, Limits{})
	if err != nil {
		return
	}
	walk(f)
	f.Check()
	revs := f.Revisions()
	for i := range revs[:min(len(revs), 20)] {
		f.Strays(i)
		if g, err := f.At(i); err == nil && i < len(revs)-1 {
			walk(g)
		}
	}
	if g, err := AppendDSS(f, DSS{Certs: [][]byte{[]byte("x")}}); err == nil {
		f = g
	}
	p, err := Prepare(f, SignatureOptions{M: testTime, ContentsSize: 10})
	if err != nil {
		return
	}
	p.Embed([]byte{1})
}

func walk(f *File) {
	f.Version()
	f.Pages()
	f.Page(0)
	f.Signatures()
	ReadDSS(f)
	for _, r := range f.Refs() {
		if o, err := f.Get(r); err == nil {
			if s, ok := o.(*Stream); ok {
				f.Decode(s)
			}
		}
	}
}

// chain is a file of n bytes with as many tiny revisions as fit.
func chain(n int) []byte {
	d := newBuilder().page("", "").table("")
	for i := 4; len(d.b) < n-300; i++ {
		d.table("")
	}
	return d.b
}

// nested is a form whose names grow with its depth.
func nested() []byte {
	d := newBuilder().page("/AcroForm << /Fields [10 0 R] >>", "")
	for i := 10; i < 100; i++ {
		d.obj(i, fmt.Sprintf("<< /T (%s) /Kids [%d 0 R] >>", strings.Repeat("n", 200), i+1))
	}
	return d.obj(100, "<< /T (x) /FT /Sig /V 3 0 R >>").table("").b
}

// sameSignature has many fields with one big signature dictionary.
func sameSignature() []byte {
	d := newBuilder()
	var kids, fields []string
	for i := range 1500 {
		kids = append(kids, fmt.Sprintf("%d 0 R", 100+i))
		fields = append(fields, fmt.Sprintf("<< /FT /Sig /T (%d) /V 5 0 R >>", i))
	}
	d.page("/AcroForm << /Fields ["+strings.Join(kids, " ")+"] >>", "").obj(5, "<< /Contents <00> /X ["+strings.Repeat("[]", 12000)+"] /ByteRange [0 1 2 3] >>")
	d.objStm(9, 100, fields...)
	return d.xrefStream(10, "").b
}

// nestedStrings has objects each within the string that is the one before.
func nestedStrings(n int) []byte {
	d := newBuilder().page("", "")
	for i := 4; len(d.b) < n/2; i++ {
		d.offs[i] = int64(len(d.b))
		d.size = i + 1
		d.b = fmt.Appendf(d.b, "%d 0 obj (", i)
	}
	d.b = append(d.b, bytes.Repeat([]byte{')'}, len(d.offs))...)
	return d.table("").b
}

// nestedSections has cross-reference tables each within the trailer of the one before.
func nestedSections(n int) []byte {
	var b []byte
	b = append(b, "%PDF-1.7\n"...)
	var at []int
	for i := 0; len(b) < n; i++ {
		at = append(at, len(b))
		b = fmt.Appendf(b, "xref\n0 0\ntrailer\n<< /Size 1 /Root 1 0 R /Prev %07d /S (", len(b)+64)
		for len(b) < at[i]+64 {
			b = append(b, ' ')
		}
	}
	b = append(b, bytes.Repeat([]byte(") >>\n"), len(at))...)
	return fmt.Appendf(b, "startxref\n%d\n%%%%EOF\n", at[0])
}

// xrefBomb is a cross-reference stream that says a very large number of entries, and has them.
func xrefBomb() []byte {
	d := newBuilder().page("", "")
	d.start = int64(len(d.b))
	at := d.start
	n := 12 << 20
	d.stream(4, fmt.Sprintf("/Type /XRef /Root 1 0 R /Size %d /W [0 1 0] /Filter /FlateDecode", n), deflate(make([]byte, n)))
	d.start = at
	return d.tail().b
}

// objStmBombs are object streams that decode to much more than the file has, each object tiny and made of many values.
func objStmBombs(n int) []byte {
	d := newBuilder().page("", "")
	body := strings.Repeat("[]", 2<<20)
	for i := 10; len(d.b) < n; i += 2 {
		d.objStm(i, i+1, "["+body+"]")
	}
	return d.xrefStream(5, "").b
}

// flateChain is a stream with filters that each blow up what the one before gave.
func flateChain() []byte {
	raw := make([]byte, 30<<20)
	for range 3 {
		raw = deflate(raw)
	}
	return newBuilder().page("", "").stream(4, "/Filter [/FlateDecode /FlateDecode /FlateDecode]", raw).table("").b
}

// manyBombs is 64 KB of small streams that each decode to a megabyte.
func manyBombs() []byte {
	raw := deflate(make([]byte, 1<<20))
	d := newBuilder().page("", "")
	for i := 4; len(d.b) < 60<<10; i++ {
		d.stream(i, "/Filter /FlateDecode", raw)
	}
	return d.table("").b
}

// thrash has two large objects, and a great many references to them in turn through small ones.
func thrash() []byte {
	d := newBuilder()
	var alias, refs []string
	for i := range 2200 {
		alias = append(alias, fmt.Sprintf("%d 0 R", 5+i%2))
		refs = append(refs, fmt.Sprintf("%d 0 R", 100+i))
	}
	list := strings.Join(refs, " ")
	big := strings.Repeat("[]", 8000)
	d.page("/AcroForm 7 0 R /DSS << /Certs 8 0 R >>", "").obj(5, "<< /X ["+big+"] >>").obj(6, "<< /X ["+big+"] >>")
	d.objStm(9, 7, "<< /Fields ["+list+"] >>", "["+list+"]")
	d.objStm(11, 100, alias...)
	return d.xrefStream(10, "").b
}

// locked has many signed fields that share a lock of many names.
func locked() []byte {
	d := newBuilder()
	var fields, names, refs []string
	for i := range 1500 {
		fields = append(fields, fmt.Sprintf("<< /FT /Sig /T (%d) /V %d 0 R /Lock 7 0 R >>", i, 3000+i))
		refs = append(refs, fmt.Sprintf("%d 0 R", 100+i))
		names = append(names, fmt.Sprintf("(%d)", i))
	}
	sigs := make([]string, 1500)
	for i := range sigs {
		sigs[i] = "<</Reference 8 0 R>>"
	}
	d.page("/AcroForm << /Fields 12 0 R >>", "")
	d.objStm(9, 7, "<< /Action /Exclude /Fields ["+strings.Join(names, "")+"] >>", "["+strings.Repeat("<</TransformMethod /FieldMDP /TransformParams 7 0 R>>", 60)+"]")
	d.objStm(11, 100, fields...).objStm(13, 3000, sigs...).objStm(14, 12, "["+strings.Join(refs, " ")+"]")
	return d.xrefStream(10, "").b
}

// hostile are files of at most 64 KB that ask for much more than they are.
func hostile() map[string][]byte {
	big := 60 << 10
	wide := newBuilder().page("", "").obj(4, "["+strings.Repeat("[]", big/2)+"]").table("").b
	dict := newBuilder().page("", "").obj(4, "<<"+strings.Repeat("/A<<>>", 1)+strings.Repeat(" ", 9)+">>").obj(5, "["+strings.Repeat("<<>>", big/4)+"]").table("").b
	comments := newBuilder().page("", "").obj(4, "["+strings.Repeat("1 %"+strings.Repeat("x", 50)+"\n", big/55)+"]").table("").b
	loops := newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R /AcroForm 3 0 R /DSS 4 0 R /Perms 5 0 R >>").obj(2, "2 0 R").obj(3, "4 0 R").obj(4, "5 0 R").obj(5, "3 0 R").table("").b
	return map[string][]byte{
		"thrash": thrash(), "locked": locked(), "wide": wide, "dictionaries": dict, "comments": comments, "loops": loops, "revisions": chain(64 << 10), "nested names": nested(),
		"one signature": sameSignature(), "nested strings": nestedStrings(36 << 10), "nested sections": nestedSections(60 << 10),
		"xref bomb": xrefBomb(), "object stream bombs": objStmBombs(50 << 10), "filter chain": flateChain(), "many bombs": manyBombs(),
		"brackets":  newBuilder().page("", "").obj(4, strings.Repeat("[", big)).table("").b,
		"parens":    newBuilder().page("", "").obj(4, strings.Repeat("(", big)).table("").b,
		"names":     newBuilder().page("", "").obj(4, "["+strings.Repeat("/#41", big/4)+"]").table("").b,
		"startxref": append(bytes.Repeat([]byte("startxref\n1\n%%EOF\n"), 3000), onePage("", "")...),
	}
}

// No file of 64 KB takes a second, or 64 MB.
func TestHostileFilesAreCheap(t *testing.T) {
	for name, data := range hostile() {
		t.Run(name, func(t *testing.T) {
			if len(data) > 66<<10 {
				t.Fatal(len(data), "bytes")
			}
			live := watch(func() {
				if d := cpu(func() { exercise(data) }); d > time.Second {
					t.Errorf("%v", d)
				}
			})
			if live > 64<<20 {
				t.Errorf("%d MB", live>>20)
			}
		})
	}
}

// cpu returns the processor time of fn, which other work on the machine hardly changes.
func cpu(fn func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const thread = 1 // RUSAGE_THREAD
	var a, b syscall.Rusage
	if err := syscall.Getrusage(thread, &a); err != nil {
		panic(err)
	}
	fn()
	if err := syscall.Getrusage(thread, &b); err != nil {
		panic(err)
	}
	return time.Duration(b.Utime.Nano() + b.Stime.Nano() - a.Utime.Nano() - a.Stime.Nano())
}

// watch returns by how much the heap grew at most while fn ran, with little room for garbage: what fn needs, not when it is collected.
func watch(fn func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, peak := m.HeapAlloc, uint64(0)
	done, seen := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(seen)
		for {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc-min(before, m.HeapAlloc))
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	fn()
	close(done)
	<-seen
	return peak
}

// Twice the file costs about twice the time: nothing is quadratic.
func TestLinear(t *testing.T) {
	grow := map[string]func(n int) []byte{
		"tiny objects": func(n int) []byte {
			d := newBuilder().page("", "")
			for i := 4; len(d.b) < n/2; i++ {
				d.obj(i, "0")
			}
			return d.table("").b
		},
		"compressed": func(n int) []byte {
			d := newBuilder().page("", "")
			var bodies []string
			for i := range n / 16 {
				bodies = append(bodies, fmt.Sprintf("<</A %d>>", i*2654435761%(1<<32)))
			}
			return d.objStm(9, 100, bodies...).xrefStream(10, "").b
		},
		"pages": func(n int) []byte {
			d := newBuilder().obj(1, "<< /Type /Catalog /Pages 2 0 R >>")
			var kids strings.Builder
			i := 10
			for ; len(d.b) < n/2; i++ {
				d.obj(i, "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>")
				fmt.Fprintf(&kids, "%d 0 R ", i)
			}
			return d.obj(2, fmt.Sprintf("<< /Type /Pages /Kids [%s] /Count %d >>", kids.String(), i-10)).table("").b
		},
		"nested strings":  nestedStrings,
		"nested sections": nestedSections,
	}
	for name, make := range grow {
		t.Run(name, func(t *testing.T) {
			small, large := make(256<<10), make(2<<20)
			ratio := float64(len(large)) / float64(len(small))
			a, b := time.Hour, time.Hour
			for range 3 { // the best of three
				a = min(a, cpu(func() { exercise(small) }))
				b = min(b, cpu(func() { exercise(large) }))
			}
			if b > 4*time.Duration(ratio)*a+50*time.Millisecond {
				t.Errorf("%d bytes take %v, %d take %v", len(small), a, len(large), b)
			}
		})
	}
}

// A million tiny objects in 40 MB open, and are signed.
func TestMillionObjects(t *testing.T) {
	d := newBuilder().page("", "")
	b := d.b
	offs := make([]int, 1<<20)
	for i := 4; i < len(offs); i++ {
		offs[i] = len(b)
		b = fmt.Appendf(b, "%d 0 obj\n0\nendobj\n", i)
	}
	at := len(b)
	b = fmt.Appendf(b, "xref\n0 %d\n0000000000 65535 f \n", len(offs))
	for i := 1; i < len(offs); i++ {
		if i < 4 {
			offs[i] = int(d.offs[i])
		}
		b = fmt.Appendf(b, "%010d 00000 n \n", offs[i])
	}
	b = fmt.Appendf(b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(offs), at)
	start := time.Now()
	f := open(t, b)
	opened := time.Since(start)
	checkBytes := sign(t, f, SignatureOptions{}).Bytes()
	t.Logf("%d MB with %d objects: opened in %v, signed in %v", len(b)>>20, len(offs), opened, time.Since(start)-opened)
	if !bytes.HasPrefix(checkBytes, b) || time.Since(start) > 10*time.Second {
		t.Error(time.Since(start))
	}
}
