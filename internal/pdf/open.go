package pdf

import (
	"bytes"
	"crypto"
	"hash"
	"slices"
	"strconv"
)

// File is a PDF document at one of its revisions.
type File struct {
	data    []byte // nothing beyond its length is looked at
	buf     *buffer
	lim     Limits
	base    int64 // position of "%PDF-": what offsets in the file count from
	version string

	sections []*section // newest first
	trailer  Dict
	table    table
	starts   []int64 // where objects and sections begin, ascending: no object reaches over one
	more     []int64 // the same of own updates, all after starts
	ends     []revisionEnd

	objects map[uint32]Object // parsed ones, while nodes lasts
	nodes   int
	streams *objStms
	names   map[string]Name
	budget  *budget
	checked bool
	mid     map[crypto.Hash]midstate
}

// buffer is the memory that a file and its updates share. Only who stands at its end may append in place, so that
// two updates of one file never write over each other.
type buffer struct {
	b []byte
}

// midstate is the hash of the first n bytes of the file.
type midstate struct {
	n     int64
	state hash.Cloner
}

// Open reads the newest revision of the document in data. It keeps data and never changes data[:len(data)]; updates of the file may use the
// capacity beyond (give some, and signing need not copy: append(make([]byte, 0, n+slack), ...)).
//
// Errors: fault.Invalid (not a PDF, or one that would need repair), fault.Unsupported (encrypted), fault.TooLarge.
func Open(data []byte, lim Limits) (*File, error) {
	n := int64(len(data))
	f := newFile(data[:n:n], lim.resolve(n))
	f.buf, f.budget = &buffer{b: data}, newBudget(n)
	if n > f.lim.MaxSize {
		return nil, tooLarge("the file has %d bytes; at most %d are read", n, f.lim.MaxSize)
	}
	f.lim.MaxObjects = min(f.lim.MaxObjects, 1<<16+len(data)/2) // an object takes some bytes, even compressed
	if err := f.readHeader(); err != nil {
		return nil, err
	}
	newest, eof, err := f.findTail()
	if err != nil {
		return nil, err
	}
	if err := f.readSections(newest); err != nil {
		return nil, err
	}
	if err := f.checkBase(newest); err != nil {
		return nil, err
	}
	if err := f.findRevisions(newest, eof); err != nil {
		return nil, err
	}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

func newFile(data []byte, lim Limits) *File {
	return &File{data: data, lim: lim, objects: map[uint32]Object{}, streams: &objStms{m: map[uint32]*objStm{}}, names: map[string]Name{},
		nodes: cacheBase + len(data)/cachePer, mid: map[crypto.Hash]midstate{}}
}

// maxJunk is how far into the file the header may stand (ISO 32000-1 Annex H.3 note 13).
const maxJunk = 1024

// readHeader finds "%PDF-1.7" (§7.5.2).
func (f *File) readHeader() error {
	i := bytes.Index(f.data[:min(len(f.data), maxJunk+5)], []byte("%PDF-"))
	if i < 0 {
		return invalid("no %%PDF- header in the first %d bytes", maxJunk)
	}
	v := f.data[i+5 : min(len(f.data), i+8)]
	if len(v) < 3 || (v[0] != '1' && v[0] != '2') || v[1] != '.' || !isDigit(v[2]) {
		return invalid("the header says version %q", v)
	}
	f.base, f.version = int64(i), string(v)
	return nil
}

// checkBase refuses a file with bytes before the header whose offsets could also count from the start of the file: a reader that does
// so would see another document.
func (f *File) checkBase(newest int64) error {
	if f.base == 0 {
		return nil
	}
	l := lexer{f.data, int(newest - f.base)}
	if l.keyword("xref") {
		return invalid("%d bytes stand before the header, and offsets fit with and without them", f.base)
	}
	if _, _, ok := headerAt(f.data, int(newest-f.base)); ok {
		return invalid("%d bytes stand before the header, and offsets fit with and without them", f.base)
	}
	return nil
}

// load makes the table of objects from the sections and checks each entry in use against the file.
func (f *File) load() error {
	f.trailer = f.sections[0].trailer
	for _, s := range f.sections {
		for i := range s.entries {
			s.entries[i].rev = uint16(s.rev)
		}
	}
	f.table = table{main: mergeSections(f.sections)}
	for _, s := range f.sections {
		f.starts = append(f.starts, s.pos)
		if s.stmPos > 0 {
			f.starts = append(f.starts, s.stmPos)
		}
	}
	if err := f.table.each(f.checkEntry); err != nil {
		return err
	}
	slices.Sort(f.starts)
	if err := f.table.checkObjStms(); err != nil {
		return err
	}
	_, _, err := f.Catalog()
	return err
}

// checkEntry checks one entry against the file and notes where its object begins.
func (f *File) checkEntry(e entry) error {
	if e.free() {
		return nil
	}
	// §7.5.5: a number that is not below Size is undefined, whatever the section says.
	if size := f.sections[0].size; int64(e.num) >= size {
		return invalid("object %d is in use, but /Size is %d", e.num, size)
	}
	if e.compressed() {
		return nil
	}
	if e.off >= f.ends[e.rev].end {
		return invalid("object %d should be at byte %d, after the end of its revision", e.num, e.off)
	}
	if r, _, ok := headerAt(f.data, int(e.off)); !ok || r != e.ref() {
		return invalid("object %s is not at byte %d, where the cross-reference section says", e.ref(), e.off).WithHint("the file needs repair; save it again with the program that made it")
	}
	f.starts = append(f.starts, e.off)
	return nil
}

// headerAt reads "12 0 obj" at pos, after a little white space.
func headerAt(b []byte, pos int) (r Ref, end int, ok bool) {
	l := lexer{b[:min(len(b), pos+64)], pos}
	l.skipBlank()
	num, ok1 := l.digits(1<<32 - 1)
	numEnd := l.pos
	l.skipBlank()
	gen := l.pos
	g, ok2 := l.digits(1<<16 - 1)
	genEnd := l.pos
	l.skipBlank()
	if !ok1 || !ok2 || gen == numEnd || l.pos == genEnd || !l.keyword("obj") {
		return Ref{}, 0, false
	}
	return Ref{uint32(num), uint16(g)}, l.pos, true
}

// parserAt returns a parser at pos that sees nothing from end on.
func (f *File) parserAt(pos, end int) *parser {
	return &parser{lexer: lexer{f.data[:end], pos}, maxDepth: f.lim.MaxDepth, nodes: f.lim.MaxNodes, names: f.names}
}

// Bytes returns the file's bytes: at a past revision, up to its end. They are shared: read them, never change them.
func (f *File) Bytes() []byte { return f.data }

// Trailer returns the newest trailer dictionary (of a cross-reference stream, its whole dictionary).
func (f *File) Trailer() Dict { return f.trailer }

// Version returns the document's version, "1.7": the header's or the catalog's, whichever is later (§7.5.2).
func (f *File) Version() string {
	c, _, err := f.Catalog()
	if err != nil {
		return f.version
	}
	v, _ := f.Resolve(c["Version"])
	if n, ok := v.(Name); ok && len(n) == 3 && string(n) > f.version {
		if _, err := strconv.ParseFloat(string(n), 64); err == nil {
			return string(n)
		}
	}
	return f.version
}

// Catalog returns the document catalog and the reference to it.
func (f *File) Catalog() (Dict, Ref, error) {
	r, ok := f.trailer["Root"].(Ref)
	if !ok {
		return nil, Ref{}, invalid("the trailer has no /Root")
	}
	o, err := f.Get(r)
	if err != nil {
		return nil, Ref{}, err
	}
	d, ok := o.(Dict)
	if !ok {
		return nil, Ref{}, invalid("the catalog, object %s, is not a dictionary", r)
	}
	t, err := f.Resolve(d["Type"])
	if err != nil {
		return nil, Ref{}, err
	}
	if t != Name("Catalog") {
		return nil, Ref{}, invalid("object %s is the trailer's /Root, but not of /Type /Catalog", r)
	}
	return d, r, nil
}

// Refs returns every object in use, by ascending number.
func (f *File) Refs() []Ref {
	out := make([]Ref, 0, len(f.table.main)+len(f.table.over))
	f.table.each(func(e entry) error {
		if !e.free() {
			out = append(out, e.ref())
		}
		return nil
	})
	return out
}
