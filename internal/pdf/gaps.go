package pdf

import (
	"bytes"
	"slices"
)

// checkGaps refuses a file that has, between the objects and sections that any of its sections ever listed, what a repairing reader would
// take for an object, a section or a trailer. listed are the objects in use. Anything else may stand there.
func (f *File) checkGaps(listed []span) error {
	for _, s := range f.sections {
		spans, tail, err := f.extent(s)
		if err != nil {
			return err
		}
		listed = append(append(listed, spans...), tail)
	}
	eof := f.ends[len(f.ends)-1].eof
	listed = append(listed, span{int64(bytes.LastIndex(f.data[:eof], []byte("startxref"))), eof})
	listed = append(listed, f.superseded()...)
	slices.SortFunc(listed, byStart)
	at := int64(0)
	for _, s := range append(listed, span{int64(len(f.data)), 0}) {
		if s.start > at {
			if i, what, ok := repairable(f.data[:s.start], int(at)); ok {
				return invalid("at byte %d, in no object or section that the file lists, %s", i, what).
					WithHint("save it again with the program that made it, or with another")
			}
			if s.end > 0 && isDigit(f.data[s.start-1]) {
				return invalid("byte %d is in the middle of a number, and an object is said to begin there", s.start)
			}
		}
		at = max(at, s.end)
	}
	return nil
}

// superseded returns where the objects stand that older sections list and newer ones replace. One that cannot be read any more, because what
// its length refers to has been replaced too, is as long as its header here, and the rest is looked at like a gap.
func (f *File) superseded() []span {
	var old []entry
	for _, s := range f.sections[1:] {
		for _, e := range s.entries {
			if now, _ := f.table.find(e.num); e.off > 0 && !e.same(now) {
				old = append(old, e)
			}
		}
	}
	slices.SortFunc(old, func(a, b entry) int { return byStart(span{start: a.off}, span{start: b.off}) })
	old = slices.CompactFunc(old, func(a, b entry) bool { return a.off == b.off && a.same(b) && a.num == b.num })
	var out []span
	for i, e := range old {
		r, head, ok := headerAt(f.data, int(e.off))
		if !ok || r != e.ref() {
			continue
		}
		limit := f.limit(e.off)
		if i+1 < len(old) && old[i+1].off > e.off {
			limit = min(limit, old[i+1].off)
		}
		_, _, end, err := f.body(e, limit)
		if err != nil {
			end = int64(head)
		}
		out = append(out, span{e.off, end})
	}
	return out
}
