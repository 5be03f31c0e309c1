package pdf

import (
	"bytes"
	"cmp"
	"slices"
)

// Stray is something in a revision that the revision's own cross-reference sections do not account for. Readers that trust the sections
// pass over it; those that repair, because something else in the file is not to their liking, may take it for an object.
type Stray struct {
	Offset int64  // of its first byte
	Text   string // what it is, for people
}

// maxStrays is how many are reported of a revision.
const maxStrays = 16

// span is a stretch of the file: [start, end).
type span struct{ start, end int64 }

// Strays returns what revision i of Revisions holds besides the objects that its sections list, the sections themselves, its startxref and
// %%EOF lines, white space and plain comments; and what looks like an object, a trailer or a startxref within the bytes of a listed
// object; and objects in its object streams that no entry points to. An update that a signer made has none.
func (f *File) Strays(i int) ([]Stray, error) {
	g, err := f.At(i)
	if err != nil {
		return nil, err
	}
	w := &strayWalk{f: g, rev: i, end: g.ends[i].end}
	if i > 0 {
		w.start = g.ends[i-1].end
	}
	if err := w.collect(); err != nil {
		return nil, err
	}
	w.gaps()
	for _, s := range w.spans {
		w.within(s)
	}
	slices.SortStableFunc(w.found, func(a, b Stray) int { return cmp.Compare(a.Offset, b.Offset) })
	return w.found, nil
}

type strayWalk struct {
	f          *File // at the revision
	rev        int
	start, end int64
	spans      []span // of objects and sections
	tails      []span // of "startxref 123 %%EOF"
	found      []Stray
}

func (w *strayWalk) add(at int64, text string) {
	if len(w.found) < maxStrays {
		w.found = append(w.found, Stray{at, text})
	}
}

// collect notes where everything stands that the revision's sections list.
func (w *strayWalk) collect() error {
	var own []*section
	for _, s := range w.f.sections {
		if s.rev == w.rev {
			own = append(own, s)
		}
	}
	for _, s := range own {
		w.spans = append(w.spans, span{s.pos, s.end})
		if s.stmPos > 0 {
			_, end, err := w.f.directStream(s.stmPos)
			if err != nil {
				return err
			}
			w.spans = append(w.spans, span{s.stmPos, end})
		}
		if s.tailFor >= 0 {
			at := bytes.LastIndex(w.f.data[s.end:s.tailEnd], []byte("startxref"))
			w.tails = append(w.tails, span{s.end + int64(at), s.tailEnd})
		}
	}
	for _, e := range mergeSections(own) {
		if e.free() || e.off < w.start || e.off >= w.end { // nowhere, or in older bytes
			continue
		}
		o, _, end, err := w.f.body(e, w.f.limit(e.off))
		if err != nil {
			return within("object "+e.ref().String(), err)
		}
		w.spans = append(w.spans, span{e.off, end})
		if s, ok := o.(*Stream); ok && s.Dict["Type"] == Name("ObjStm") {
			if err := w.packed(e); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(w.spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	return nil
}

// packed reports what object stream e holds that no entry says is there.
func (w *strayWalk) packed(e entry) error {
	s, err := w.f.objStm(e.num)
	if err != nil {
		return err
	}
	for i, num := range s.nums {
		in, ok := w.f.table.find(num)
		if !ok || !in.compressed() || in.stm() != e.num || in.index() != int64(i) {
			w.add(e.off, "object stream "+e.ref().String()+" holds object "+itoa(int(num))+", which no cross-reference entry says")
			return nil
		}
	}
	return nil
}

// gaps looks at the bytes that are of nothing listed.
func (w *strayWalk) gaps() {
	all := append(slices.Clone(w.spans), w.tails...)
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	at := w.start
	if w.rev == 0 {
		at = w.afterHeader()
	}
	for _, s := range append(all, span{w.end, w.end}) {
		if s.start > at {
			w.gap(at, s.start)
		}
		at = max(at, s.end)
	}
}

// afterHeader returns where the header line and the comment of binary bytes after it end (§7.5.2).
func (w *strayWalk) afterHeader() int64 {
	l := lexer{w.f.data, int(w.f.base)}
	for range 2 {
		if l.peek() == '%' {
			for l.pos < len(l.b) && l.b[l.pos] != '\n' && l.b[l.pos] != '\r' {
				l.pos++
			}
			l.skipBlank()
		}
	}
	return int64(l.pos)
}

// maxComment is how long a comment between objects may be: some writers put their name before startxref.
const maxComment = 128

// gap passes over white space and plain comments, and reports the first byte of anything else.
func (w *strayWalk) gap(from, to int64) {
	l := lexer{w.f.data[:to], int(from)}
	for {
		l.skipBlank()
		at := l.pos
		switch {
		case at >= int(to):
			return
		case l.b[at] != '%':
			w.add(int64(at), "bytes that belong to no listed object: "+quote(l.b[at:]))
			return
		}
		l.skipSpace()
		if c := comment(l.b[at:]); len(c) > maxComment || !plain(c) {
			w.add(int64(at), "a comment that holds more than plain text: "+quote(c))
			return
		}
		l.pos = at + len(comment(l.b[at:]))
	}
}

// comment returns what of b is before the end of its line.
func comment(b []byte) []byte {
	if i := bytes.IndexAny(b, "\r\n"); i >= 0 {
		return b[:i]
	}
	return b
}

// plain tells whether a comment is printable and holds nothing that a repairing reader looks for.
func plain(c []byte) bool {
	for _, b := range c {
		if b < ' ' && b != '\t' || b > '~' {
			return false
		}
	}
	for _, k := range []string{"obj", "trailer", "xref", "stream", "<<"} {
		if bytes.Contains(c, []byte(k)) {
			return false
		}
	}
	return true
}

// within reports what looks like an object or a trailer inside of s, after its own first token.
func (w *strayWalk) within(s span) {
	b := w.f.data[:s.end]
	from := int(s.start)
	if _, end, ok := headerAt(b, from); ok {
		from = end
	} else {
		from += len("xref")
		if i := bytes.Index(b[from:], []byte("trailer")); i >= 0 {
			from += i + len("trailer")
		}
	}
	if at, what, ok := repairable(b, from); ok {
		w.add(int64(at), "inside of a listed object, "+what)
	}
}

// repairable finds the first thing from pos on that a repairing reader would act on: "12 0 obj", "trailer", "startxref" or "xref".
func repairable(b []byte, pos int) (at int, what string, ok bool) {
	at = len(b)
	for from := pos; from < len(b); {
		i := bytes.Index(b[from:], []byte("obj"))
		if i < 0 {
			break
		}
		if start, found := headerBefore(b, pos, from+i); found {
			at, what, ok = start, "what looks like an object: "+quote(b[start:]), true
			break
		}
		from += i + len("obj")
	}
	for _, k := range []string{"trailer", "startxref", "xref"} {
		if i := word(b, pos, k); i >= 0 && i < at {
			at, what, ok = i, "the keyword "+k, true
		}
	}
	return at, what, ok
}

// word returns where k stands in b[pos:] as a token of its own, or glued to what follows as readers accept it; -1 = nowhere.
func word(b []byte, pos int, k string) int {
	for from := pos; from < len(b); {
		i := bytes.Index(b[from:], []byte(k))
		if i < 0 {
			return -1
		}
		at := from + i
		from = at + len(k)
		if (at == pos || !isRegular(b[at-1])) && (k != "xref" || from == len(b) || !isRegular(b[from])) {
			return at
		}
	}
	return -1
}

// headerBefore returns where the two numbers before "obj" at pos begin, white space and comments between, if they are there. Readers
// differ in how much they need between them and "obj".
func headerBefore(b []byte, low, pos int) (start int, ok bool) {
	i := skipBack(b, low, pos)
	gen := digitsBack(b, low, i)
	num := skipBack(b, low, gen)
	if gen == i || num == gen {
		return 0, false
	}
	start = digitsBack(b, low, num)
	return start, start < num
}

func digitsBack(b []byte, low, i int) int {
	for i > low && isDigit(b[i-1]) {
		i--
	}
	return i
}

// skipBack passes over white space and comments that end at i, backwards.
func skipBack(b []byte, low, i int) int {
	for {
		line := false
		for i > low && isSpace(b[i-1]) {
			i--
			line = line || b[i] == '\n' || b[i] == '\r'
		}
		if !line {
			return i
		}
		start := low + bytes.LastIndexAny(b[low:i], "\r\n") + 1
		c := bytes.IndexByte(b[start:i], '%')
		if c < 0 {
			return i
		}
		i = start + c
	}
}

// quote shortens bytes for a message.
func quote(b []byte) string {
	s := []byte(clip(b))
	for i, c := range s {
		if c < ' ' || c == 0x7f {
			s[i] = ' '
		}
	}
	return string(bytes.ToValidUTF8(s, []byte("?")))
}
