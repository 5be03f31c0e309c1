package pdf

import (
	"cmp"
	"slices"
)

// Revision is one state that the file was saved in.
type Revision struct {
	Start   int64 // first byte: 0, or the previous revision's End
	End     int64 // after its %%EOF and one end-of-line marker; the newest one's is the size of the file
	XRef    int64 // position of its cross-reference section
	Trailer Dict
	Objects []Ref // what it defined, redefined or freed (also through a replaced object stream), by ascending number
}

// revisionEnd is where a revision ends.
type revisionEnd struct {
	eof int64 // after "%%EOF"
	end int64 // after one end-of-line marker more; the newest: all that follows
}

// findRevisions groups the sections into revisions: one ends with each section that "startxref POSITION %%EOF" closes. In a linearized
// file the first-page section near the front and the main one near the end (its Prev, although it stands later) are one.
func (f *File) findRevisions(newest, eof int64) error {
	closedAt := map[int64]int64{newest: eof}
	for _, s := range f.sections {
		if s.tailFor >= 0 {
			closedAt[s.tailFor] = max(closedAt[s.tailFor], s.tailEnd)
		}
	}
	start := int64(0)
	for i := len(f.sections) - 1; i >= 0; i-- { // oldest first
		s := f.sections[i]
		s.rev = len(f.ends)
		end, ok := closedAt[s.pos]
		if !ok {
			if s.pos < start {
				return f.badOrder(s)
			}
			continue // belongs to the next newer one
		}
		e := revisionEnd{end, end + int64(eolAt(f.data, end))}
		if i == 0 {
			e.end = int64(len(f.data))
		}
		for _, t := range f.sections[i:] {
			if t.rev == s.rev && (t.pos < start || t.pos >= end) {
				return f.badOrder(t)
			}
			if t.rev < s.rev {
				break
			}
		}
		f.ends = append(f.ends, e)
		start = e.end
	}
	return nil
}

func (f *File) badOrder(s *section) error {
	return invalid("the cross-reference section at byte %d is out of the order of updates", s.pos)
}

// eolAt returns the length of the end-of-line marker at pos.
func eolAt(b []byte, pos int64) int {
	b = b[pos:]
	switch {
	case len(b) >= 2 && b[0] == '\r' && b[1] == '\n':
		return 2
	case len(b) >= 1 && (b[0] == '\r' || b[0] == '\n'):
		return 1
	}
	return 0
}

// Revisions returns the file's revisions, oldest first. An update that was never closed by its own startxref and %%EOF belongs to the one after it.
func (f *File) Revisions() []Revision {
	out := make([]Revision, len(f.ends))
	for i := range out {
		if out[i].End = f.ends[i].end; i > 0 {
			out[i].Start = f.ends[i-1].end
		}
	}
	h := history{now: map[uint32]entry{}, holds: map[uint32][]uint32{}}
	for hi := len(f.sections); hi > 0; {
		rev := f.sections[hi-1].rev
		lo := hi
		for lo > 0 && f.sections[lo-1].rev == rev {
			lo--
		}
		out[rev].XRef, out[rev].Trailer = f.sections[lo].pos, f.sections[lo].trailer
		out[rev].Objects = h.advance(mergeSections(f.sections[lo:hi]))
		hi = lo
	}
	return out
}

// history is the table of objects as it grows from revision to revision.
type history struct {
	now   map[uint32]entry
	holds map[uint32][]uint32 // object stream -> objects in it, some of them no longer
}

// advance takes a revision's entries and returns what they change.
func (h *history) advance(entries []entry) []Ref {
	changed := map[uint32]Ref{}
	for _, e := range entries {
		old, known := h.now[e.num]
		if known && e.same(old) || !known && e.free() {
			continue
		}
		r := e.ref()
		if e.free() {
			r = old.ref()
		}
		changed[e.num] = r
	}
	for _, e := range entries {
		old := h.now[e.num]
		h.now[e.num] = e
		if e.compressed() && !(old.compressed() && old.stm() == e.stm()) {
			h.holds[e.stm()] = append(h.holds[e.stm()], e.num)
		}
	}
	// What lies in an object stream that changed has changed, even when its entry says the same again.
	for _, e := range entries {
		if _, ok := changed[e.num]; !ok || len(h.holds[e.num]) == 0 {
			continue
		}
		for _, num := range h.holds[e.num] {
			if in := h.now[num]; in.compressed() && in.stm() == e.num {
				changed[num] = in.ref()
			}
		}
	}
	out := make([]Ref, 0, len(changed))
	for _, r := range changed {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Ref) int { return cmp.Compare(a.Num, b.Num) })
	return out
}

// At returns the document as it stood at revision i of Revisions: what a reader sees who has the file up to that revision's End.
func (f *File) At(i int) (*File, error) {
	if i < 0 || i >= len(f.ends) {
		return nil, invalid("there is no revision %d; the file has %d", i, len(f.ends))
	}
	if i == len(f.ends)-1 {
		return f, nil
	}
	end := f.ends[i].end
	g := newFile(f.data[:end:end], f.lim)
	g.buf, g.base, g.version, g.budget = f.buf, f.base, f.version, f.budget
	g.ends = slices.Clone(f.ends[:i+1])
	for k, s := range f.sections {
		if s.rev <= i {
			g.sections = f.sections[k:]
			break
		}
	}
	if err := g.load(); err != nil {
		return nil, within("revision "+itoa(i), err)
	}
	return g, nil
}
