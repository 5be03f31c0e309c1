package pdf

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// update writes an incremental section (§7.5.6) behind a file. Nothing before its first byte is ever written to.
type update struct {
	f       *File
	b       []byte // the file and what is written so far
	entries []entry
	next    int64
	xref    int64
}

// slack is what a copy of the file leaves free, so that the usual three updates of one signature copy it once.
const slack = 192 << 10

// newUpdate begins a section that will take about room bytes.
func (f *File) newUpdate(room int) (*update, error) {
	if f.base != 0 {
		return nil, invalid("%d bytes stand before the header; readers disagree on what a signature's ByteRange counts from then", f.base).
			WithHint("remove them")
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	if len(f.sections) >= f.lim.MaxSections {
		return nil, tooLarge("the file has %d cross-reference sections; one more would not be read again", len(f.sections))
	}
	if !f.closed() {
		return nil, invalid("the last startxref does not follow a cross-reference section: with an update behind it, readers would differ in where the document ended")
	}
	u := &update{f: f, next: f.table.next()}
	if u.next >= maxSize {
		return nil, tooLarge("the file has no object numbers left")
	}
	b := f.buf.b
	if len(b) != len(f.data) || cap(b)-len(b) < room+4096 { // another update stands there, or it would not fit
		b = make([]byte, len(f.data), len(f.data)+room+slack)
		copy(b, f.data)
	}
	u.b = b
	if n := len(b); b[n-1] != '\n' && b[n-1] != '\r' {
		u.b = append(u.b, '\n')
	}
	return u, nil
}

// closed tells whether the file's last startxref and %%EOF follow one of its sections, so that they are found as a revision's end again when
// they are no longer the last.
func (f *File) closed() bool {
	return slices.ContainsFunc(f.sections, func(s *section) bool {
		return s.tailFor == f.sections[0].pos && s.tailEnd == f.ends[len(f.ends)-1].eof
	})
}

// alloc returns the reference of a new object. Numbers that were freed are not used again.
func (u *update) alloc() Ref {
	r := Ref{Num: uint32(u.next)}
	u.next++
	return r
}

// begin writes "12 0 obj" and notes where.
func (u *update) begin(r Ref) {
	u.entries = append(u.entries, entry{num: r.Num, gen: r.Gen, off: int64(len(u.b))})
	u.b = strconv.AppendUint(u.b, uint64(r.Num), 10)
	u.b = append(u.b, ' ')
	u.b = strconv.AppendUint(u.b, uint64(r.Gen), 10)
	u.b = append(u.b, " obj\n"...)
}

func (u *update) end() { u.b = append(u.b, "\nendobj\n"...) }

// write writes object r, new or redefined.
func (u *update) write(r Ref, o Object) {
	u.begin(r)
	u.b = appendObject(u.b, o)
	u.end()
}

// add writes o as a new object.
func (u *update) add(o Object) Ref {
	r := u.alloc()
	u.write(r, o)
	return r
}

// stream writes a stream without filters as a new object.
func (u *update) stream(d Dict, raw []byte) Ref {
	d = maps.Clone(d)
	if d == nil {
		d = Dict{}
	}
	d["Length"] = int64(len(raw))
	return u.add(&Stream{d, raw})
}

// finish writes the cross-reference section, of the kind that the last one is (a hybrid file's is a table), its trailer and the end.
func (u *update) finish() error {
	stream := u.f.sections[0].stream
	var self Ref
	if stream {
		self = u.alloc()
	}
	if u.next > maxSize {
		return tooLarge("the file has too few object numbers left")
	}
	u.xref = int64(len(u.b))
	if u.xref > 9999999999 {
		return tooLarge("the file does not fit a cross-reference table")
	}
	d := u.trailer()
	if stream {
		u.begin(self)
	}
	slices.SortFunc(u.entries, byNum)
	for i := 1; i < len(u.entries); i++ {
		if u.entries[i].num == u.entries[i-1].num {
			panic("pdf: object " + u.entries[i].ref().String() + " written twice in one update")
		}
	}
	if stream {
		u.writeXRefStream(d)
	} else {
		u.writeTable(d)
	}
	u.b = append(u.b, "startxref\n"...)
	u.b = strconv.AppendInt(u.b, u.xref, 10)
	u.b = append(u.b, "\n%%EOF\n"...)
	if n := int64(len(u.b)); n > u.f.lim.MaxSize {
		return tooLarge("the file would have %d bytes; at most %d are read again", n, u.f.lim.MaxSize)
	}
	if &u.f.buf.b[0] == &u.b[0] { // the next update of the same file must go elsewhere
		u.f.buf.b = u.b
	}
	return nil
}

// trailer returns the new trailer: all entries of the last one but those that are about its own section (§7.5.6).
func (u *update) trailer() Dict {
	d := maps.Clone(u.f.trailer)
	for _, k := range []Name{"XRefStm", "Type", "W", "Index", "Filter", "DecodeParms", "Length", "DL"} {
		delete(d, k)
	}
	d["Prev"] = u.f.sections[0].pos
	d["Size"] = u.next
	d["ID"] = u.id()
	return d
}

// id keeps the first half of the file identifier and makes the second from what the update holds (§14.4): no clock, no chance.
func (u *update) id() Array {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(u.f.data)))
	h.Write(n[:])
	old, _ := u.f.resolveArray(u.f.trailer["ID"], "/ID")
	var halves [2]String
	if len(old) == 2 {
		for i := range halves {
			o, _ := u.f.Resolve(old[i])
			halves[i], _ = o.(String)
		}
	}
	h.Write(halves[1])
	h.Write(u.b[len(u.f.data):])
	second := String(h.Sum(nil)[:16])
	if len(halves[0]) == 0 {
		halves[0] = second
	}
	return Array{halves[0], second}
}

func (u *update) writeTable(d Dict) {
	u.b = append(u.b, "xref\n"...)
	for i := 0; i < len(u.entries); {
		n := run(u.entries[i:])
		u.b = fmt.Appendf(u.b, "%d %d\n", u.entries[i].num, n)
		for _, e := range u.entries[i : i+n] {
			u.b = fmt.Appendf(u.b, "%010d %05d n \n", e.off, e.gen)
		}
		i += n
	}
	u.b = append(u.b, "trailer\n"...)
	u.b = append(appendDict(u.b, d), '\n')
}

// run returns how many entries from the first have consecutive numbers.
func run(e []entry) int {
	n := 1
	for n < len(e) && e[n].num == e[n-1].num+1 {
		n++
	}
	return n
}

// writeXRefStream writes the dictionary and data of the cross-reference stream whose "obj" is written; its own entry is among the others.
func (u *update) writeXRefStream(d Dict) {
	var index Array
	for i := 0; i < len(u.entries); {
		n := run(u.entries[i:])
		index = append(index, int64(u.entries[i].num), int64(n))
		i += n
	}
	raw := make([]byte, 0, 8*len(u.entries))
	for _, e := range u.entries {
		raw = append(raw, 1, byte(e.off>>32), byte(e.off>>24), byte(e.off>>16), byte(e.off>>8), byte(e.off), byte(e.gen>>8), byte(e.gen))
	}
	d["Type"], d["W"], d["Index"], d["Length"] = Name("XRef"), Array{int64(1), int64(5), int64(2)}, index, int64(len(raw))
	u.b = appendObject(u.b, &Stream{d, raw})
	u.end()
}

// extend returns the file with the update that ends at len(b), which must be what an update of f wrote: the section is read back, what
// lies before it is known.
func (f *File) extend(u *update) (*File, error) {
	n := len(u.b)
	g := &File{data: u.b[:n:n], lim: f.lim, base: f.base, version: f.version, streams: f.streams, names: f.names, budget: f.budget, checked: true, starts: f.starts}
	if g.buf = f.buf; &f.buf.b[0] != &u.b[0] {
		g.buf = &buffer{b: u.b}
	}
	s, err := g.readSection(u.xref, len(u.entries))
	if err != nil || s.tailFor != u.xref || s.prev != f.sections[0].pos {
		return nil, fmt.Errorf("pdf: reading back the section written at %d: %w", u.xref, err)
	}
	s.rev = len(f.ends)
	for i := range s.entries {
		s.entries[i].rev = uint16(s.rev)
	}
	g.sections = append([]*section{s}, f.sections...)
	g.trailer = s.trailer
	last := f.ends[s.rev-1]
	last.end = last.eof + int64(eolAt(g.data, last.eof))
	g.ends = append(append(slices.Clone(f.ends[:s.rev-1]), last), revisionEnd{s.tailEnd, int64(n)})
	g.table = f.table.with(s.entries)
	g.more = slices.Clone(f.more)
	for _, e := range u.entries {
		g.more = append(g.more, e.off)
	}
	g.more = append(g.more, u.xref)
	slices.Sort(g.more)
	// What f has parsed is still so, but for what is redefined. f parses anew when asked.
	g.objects, g.nodes = f.objects, f.nodes
	f.objects, f.nodes = map[uint32]Object{}, cacheBase+len(f.data)/cachePer
	for _, e := range s.entries {
		delete(g.objects, e.num)
	}
	return g, nil
}
