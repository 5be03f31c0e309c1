package pdf

import (
	"bytes"
	"math"
	"slices"
)

// section is one cross-reference section: a table with its trailer (and its XRefStm), or a stream.
type section struct {
	pos      int64 // of "xref" or of "N G obj"
	end      int64 // after the trailer dictionary or "endobj"
	stream   bool
	stmPos   int64 // of the XRefStm; 0 = none
	trailer  Dict
	entries  []entry // ascending numbers
	prev     int64   // position of the section before; -1 = none
	size     int64
	hidden   []uint32 // numbers that the table says are free and XRefStm says are in use
	rev      int
	tailFor  int64 // what the startxref that follows it says, as a position; -1 = none follows
	tailEnd  int64 // after that one's %%EOF
	consumed int64 // bytes read for it
}

// maxTail is how far from the end of the file the last "startxref" may begin: readers search no more than that, and one that does not
// find it repairs the file instead (ISO 32000-1 Annex H.3 note 18).
const maxTail = 1024

// maxBlank is how many bytes of line ends and spaces may stand between the parts of "startxref 123 %%EOF".
const maxBlank = 16

// findTail reads the last "startxref" of the file.
func (f *File) findTail() (pos, end int64, err error) {
	from := max(0, len(f.data)-maxTail)
	i := bytes.LastIndex(f.data[from:], []byte("startxref"))
	if i < 0 {
		return 0, 0, invalid("no startxref in the last %d bytes: the file is cut off, has much behind its end, or is no PDF", maxTail)
	}
	pos, end, ok := f.tailAt(from + i)
	if !ok {
		return 0, 0, invalid("startxref at byte %d is not followed by a line with a number and a line with %%%%EOF", from+i)
	}
	return pos, end, nil
}

// tailAt reads "startxref", a line end, a number, a line end and "%%EOF" at pos (§7.5.5).
func (f *File) tailAt(pos int) (value, end int64, ok bool) {
	l := lexer{f.data, pos}
	if !l.literal("startxref") || !l.lineEnd() {
		return 0, 0, false
	}
	v, ok := l.digits(math.MaxInt64 / 2)
	if !ok || !l.lineEnd() || !l.literal("%%EOF") {
		return 0, 0, false
	}
	return v + f.base, int64(l.pos), true
}

// lineEnd passes over spaces and line ends, no other white space, at least one line end and at most maxBlank bytes.
func (l *lexer) lineEnd() bool {
	n := l.skipLines()
	return n > 0 && n <= maxBlank && bytes.ContainsAny(l.b[l.pos-n:l.pos], "\r\n")
}

// skipLines passes over spaces and line ends and returns how many bytes they were. Around a cross-reference table, readers differ in what
// other white space they pass over.
func (l *lexer) skipLines() int {
	start := l.pos
	for l.pos < len(l.b) && (l.b[l.pos] == ' ' || l.b[l.pos] == '\n' || l.b[l.pos] == '\r') {
		l.pos++
	}
	return l.pos - start
}

// readSections follows the chain of sections from the newest.
func (f *File) readSections(newest int64) error {
	seen := map[int64]bool{}
	entries, consumed := 0, int64(0)
	for pos := newest; pos >= 0; {
		if seen[pos] {
			return invalid("the chain of cross-reference sections loops at byte %d", pos)
		}
		seen[pos] = true
		if len(f.sections) == f.lim.MaxSections {
			return tooLarge("more than %d cross-reference sections", f.lim.MaxSections)
		}
		s, err := f.readSection(pos, f.lim.MaxObjects-entries)
		if err != nil {
			return err
		}
		// Sections of an honest file do not overlap, so that reading them all costs no more than its size.
		if consumed += s.consumed; consumed > int64(len(f.data)) {
			return invalid("cross-reference sections overlap")
		}
		entries += len(s.entries)
		f.sections = append(f.sections, s)
		pos = s.prev
	}
	return f.checkHidden()
}

// checkHidden refuses objects that a hybrid section frees in its table, uses in its XRefStm, and that an older section has in use: readers
// differ in whether such an object is free, new or as it was. Those of no older section are what hybrid files are for (§7.5.8.4).
func (f *File) checkHidden() error {
	used := map[uint32]bool{}
	for _, s := range f.sections {
		for _, num := range s.hidden {
			used[num] = false
		}
	}
	if len(used) == 0 {
		return nil
	}
	for _, s := range slices.Backward(f.sections) { // oldest first
		for _, num := range s.hidden {
			if used[num] {
				return invalid("hybrid section at byte %d: object %d is free in the table and in use in XRefStm, and an older section has it", s.pos, num)
			}
		}
		for _, e := range s.entries {
			if _, watched := used[e.num]; watched {
				used[e.num] = !e.free()
			}
		}
	}
	return nil
}

// readSection reads the section at pos, with at most maxEntries entries.
func (f *File) readSection(pos int64, maxEntries int) (*section, error) {
	if pos >= int64(len(f.data)) {
		return nil, invalid("startxref or Prev points to byte %d of %d", pos, len(f.data))
	}
	s := &section{pos: pos, prev: -1, tailFor: -1}
	l := lexer{f.data, int(pos)}
	var err error
	switch {
	case l.keyword("xref"):
		err = f.readTable(s, maxEntries)
	case isDigit(l.peek()):
		s.stream = true
		err = f.readXRefStream(s, maxEntries)
	default:
		err = invalid("no cross-reference section at byte %d", pos)
	}
	if err != nil {
		return nil, err
	}
	l.pos = int(s.end)
	l.skipSpace()
	if v, end, ok := f.tailAt(l.pos); ok {
		s.tailFor, s.tailEnd = v, end
	}
	s.consumed += int64(l.pos) - pos
	return s, f.checkTrailer(s)
}

// checkTrailer reads what every trailer says of its section.
func (f *File) checkTrailer(s *section) error {
	if s.trailer["Encrypt"] != nil {
		return unsupported("the file is encrypted").WithHint("remove the password and the restrictions first")
	}
	size, ok := s.trailer["Size"].(int64)
	if !ok || size < 1 || size > maxSize {
		return invalid("the trailer of the section at byte %d has no /Size from 1 to %d", s.pos, maxSize)
	}
	s.size = size
	switch prev := s.trailer["Prev"].(type) {
	case nil:
	case int64:
		if prev <= 0 || prev > int64(len(f.data)) {
			return invalid("/Prev of the section at byte %d is %d, outside of the file", s.pos, prev)
		}
		s.prev = prev + f.base
	default:
		return invalid("/Prev of the section at byte %d is not an integer", s.pos)
	}
	return nil
}

// readTable reads "xref", its subsections and its trailer (§7.5.4, §7.5.5), and the XRefStm of a hybrid file (§7.5.8.4).
func (f *File) readTable(s *section, maxEntries int) error {
	p := f.parserAt(int(s.pos)+len("xref"), len(f.data))
	var table []entry
	start := p.pos
	p.skipLines()
	broken := !bytes.ContainsAny(p.b[start:p.pos], "\r\n") // no line end after "xref"
	for {
		p.skipLines()
		if p.keyword("trailer") {
			break
		}
		num, count, ok := p.subsection()
		if !ok || broken {
			return invalid("cross-reference table at byte %d: neither a subsection nor a trailer at byte %d", s.pos, p.pos)
		}
		if count > int64(len(f.data)-p.pos)/20 {
			return invalid("cross-reference table at byte %d says %d entries at byte %d, more than the file can hold", s.pos, count, p.pos)
		}
		if int64(len(table))+count > int64(maxEntries) {
			return tooLarge("more than %d cross-reference entries", f.lim.MaxObjects)
		}
		table = slices.Grow(table, int(count))
		for i := range count {
			e, err := f.tableEntry(p, num+i)
			if err != nil {
				return err
			}
			table = append(table, e)
		}
	}
	o, err := p.object(0)
	if err != nil {
		return within("trailer", err)
	}
	d, ok := o.(Dict)
	if !ok {
		return invalid("the trailer of the table at byte %d is not a dictionary", s.pos)
	}
	s.trailer, s.end = d, int64(p.pos)
	if table, err = sortSection(s.pos, table); err != nil {
		return err
	}
	s.entries = table
	return f.readHybrid(s, maxEntries-len(table))
}

// subsection reads the line "28 5": a number, one space, a number, perhaps a space, a line end (§7.5.4).
func (p *parser) subsection() (first, count int64, ok bool) {
	start := p.pos
	first, ok1 := p.digits(maxSize)
	ok2 := p.literal(" ")
	count, ok3 := p.digits(maxSize)
	p.literal(" ")
	if !ok1 || !ok2 || !ok3 || p.pos-start > maxBlank+8 {
		p.pos = start
		return 0, 0, false
	}
	if !p.literal("\r\n") && !p.literal("\n") && !p.literal("\r") {
		p.pos = start
		return 0, 0, false
	}
	return first, count, true
}

// tableEntry reads one entry of exactly 20 bytes: ten digits, a space, five digits, a space, n or f, two characters of line end (§7.5.4).
func (f *File) tableEntry(p *parser, num int64) (entry, error) {
	b := p.b[p.pos:min(p.pos+20, len(p.b))]
	bad := func() (entry, error) {
		return entry{}, invalid("cross-reference entry for object %d at byte %d is not of the form \"nnnnnnnnnn ggggg n\" in 20 bytes", num, p.pos)
	}
	if len(b) < 20 || b[10] != ' ' || b[16] != ' ' || num >= maxSize {
		return bad()
	}
	if (b[18] != ' ' && b[18] != '\r') || (b[19] != '\n' && b[19] != '\r') || (b[18] == '\r' && b[19] == '\r') {
		return bad()
	}
	var off, gen int64
	for i, c := range b[:16] {
		switch {
		case i == 10:
		case !isDigit(c):
			return bad()
		case i < 10:
			off = off*10 + int64(c-'0')
		default:
			gen = gen*10 + int64(c-'0')
		}
	}
	if b[17] == 'f' { // of no consequence, and 65536 occurs
		gen = min(gen, math.MaxUint16)
	}
	if gen > math.MaxUint16 {
		return bad()
	}
	e := entry{num: uint32(num), gen: uint16(gen)}
	switch b[17] {
	case 'n':
		if off > 0 {
			e.off = off + f.base
		}
	case 'f':
	default:
		return bad()
	}
	p.pos += 20
	return e, nil
}

// sortSection orders a section's entries by number and refuses a number twice with different entries.
func sortSection(pos int64, e []entry) ([]entry, error) {
	if !slices.IsSortedFunc(e, byNum) {
		slices.SortStableFunc(e, byNum)
	}
	if len(e) > 0 && e[0].num == 0 && !e[0].free() {
		return nil, invalid("cross-reference section at byte %d: object 0 is in use", pos)
	}
	twice := 0
	for i := 1; i < len(e); i++ {
		if e[i].num != e[i-1].num {
			continue
		}
		if !e[i].same(e[i-1]) {
			return nil, invalid("cross-reference section at byte %d has two entries for object %d", pos, e[i].num)
		}
		twice++
	}
	if twice > 0 {
		e = slices.CompactFunc(e, func(a, b entry) bool { return a.num == b.num })
	}
	return e, nil
}

// readHybrid adds the entries of the XRefStm that a hybrid file's trailer names.
func (f *File) readHybrid(s *section, maxEntries int) error {
	o := s.trailer["XRefStm"]
	if o == nil {
		return nil
	}
	at, ok := o.(int64)
	if !ok || at <= 0 || at+f.base >= int64(len(f.data)) {
		return invalid("/XRefStm of the section at byte %d is not a position in the file", s.pos)
	}
	h := &section{pos: at + f.base}
	if err := f.readXRefStream(h, maxEntries); err != nil {
		return within("XRefStm", err)
	}
	s.stmPos = h.pos
	s.consumed += h.end - h.pos
	merged := make([]entry, 0, len(s.entries)+len(h.entries))
	table, stm := s.entries, h.entries
	for len(table) > 0 && len(stm) > 0 {
		t, x := table[0], stm[0]
		switch {
		case t.num < x.num:
			merged, table = append(merged, t), table[1:]
			continue
		case t.num > x.num:
			merged, stm = append(merged, x), stm[1:]
			continue
		case !t.free() && !x.free() && !t.same(x):
			return invalid("hybrid section at byte %d: the table and XRefStm differ about object %d", s.pos, t.num)
		case t.free() && !x.free(): // hidden from readers of tables only
			s.hidden = append(s.hidden, t.num)
			t = x
		}
		merged, table, stm = append(merged, t), table[1:], stm[1:]
	}
	s.entries = append(append(merged, table...), stm...)
	return nil
}
