package pdf

import (
	"cmp"
	"slices"
)

// entry is a cross-reference entry. off > 0: in use at that position of the file; off == 0: free; off < 0: in an object stream.
type entry struct {
	num uint32
	gen uint16
	rev uint16 // the revision whose section it comes from, 0 = oldest
	off int64
}

func compressedEntry(num, stm uint32, index int64) entry {
	return entry{num: num, off: ^(int64(stm)<<31 | index)}
}

func (e entry) free() bool       { return e.off == 0 }
func (e entry) compressed() bool { return e.off < 0 }
func (e entry) stm() uint32      { return uint32(^e.off >> 31) }
func (e entry) index() int64     { return ^e.off & (1<<31 - 1) }
func (e entry) ref() Ref         { return Ref{e.num, e.gen} }

// same tells whether two entries say the same of one object number, wherever they come from.
func (e entry) same(o entry) bool { return e.off == o.off && (e.gen == o.gen || e.free()) }

// table is what the cross-reference sections up to some revision say together: at most one entry for a number. Updates made here are
// few objects over a base that is shared and not copied.
type table struct {
	main []entry // ascending numbers
	over []entry // ascending numbers; it goes before main
}

func byNum(a, b entry) int { return cmp.Compare(a.num, b.num) }

func find(s []entry, num uint32) (entry, bool) {
	if int(num) < len(s) && s[num].num == num { // numbers without gaps from 0, as most files have
		return s[num], true
	}
	i, ok := slices.BinarySearchFunc(s, num, func(e entry, n uint32) int { return cmp.Compare(e.num, n) })
	if !ok {
		return entry{}, false
	}
	return s[i], true
}

// find returns the entry for an object number.
func (t table) find(num uint32) (entry, bool) {
	if e, ok := find(t.over, num); ok {
		return e, true
	}
	return find(t.main, num)
}

// next returns one more than the highest number that any entry has.
func (t table) next() int64 {
	n := int64(1)
	if len(t.main) > 0 {
		n = max(n, int64(t.main[len(t.main)-1].num)+1)
	}
	if len(t.over) > 0 {
		n = max(n, int64(t.over[len(t.over)-1].num)+1)
	}
	return n
}

// each calls fn with every entry, ascending, until fn fails.
func (t table) each(fn func(entry) error) error {
	i := 0
	for _, e := range t.main {
		for i < len(t.over) && t.over[i].num < e.num {
			if err := fn(t.over[i]); err != nil {
				return err
			}
			i++
		}
		if i < len(t.over) && t.over[i].num == e.num {
			e = t.over[i]
			i++
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	for ; i < len(t.over); i++ {
		if err := fn(t.over[i]); err != nil {
			return err
		}
	}
	return nil
}

// maxOver is how many entries of own updates lie over the base before they are merged into it.
const maxOver = 4096

// with returns t after an update with newer entries.
func (t table) with(newer []entry) table {
	over := mergeEntries(newer, t.over)
	if len(over) > maxOver {
		return table{main: mergeEntries(over, t.main)}
	}
	return table{main: t.main, over: over}
}

// mergeEntries merges two ascending lists; newer wins.
func mergeEntries(newer, older []entry) []entry {
	if len(newer) == 0 {
		return older
	}
	if len(older) == 0 {
		return newer
	}
	out := make([]entry, 0, len(newer)+len(older))
	for len(newer) > 0 && len(older) > 0 {
		switch {
		case newer[0].num < older[0].num:
			out = append(out, newer[0])
			newer = newer[1:]
		case newer[0].num > older[0].num:
			out = append(out, older[0])
			older = older[1:]
		default:
			out = append(out, newer[0])
			newer, older = newer[1:], older[1:]
		}
	}
	out = append(out, newer...)
	return append(out, older...)
}

// mergeSections merges sections, newest first, halving: n entries in k sections cost n log k.
func mergeSections(s []*section) []entry {
	switch len(s) {
	case 0:
		return nil
	case 1:
		return s[0].entries
	}
	m := len(s) / 2
	return mergeEntries(mergeSections(s[:m]), mergeSections(s[m:]))
}

// checkObjStms checks that no entry points into an object stream that a later revision replaced: readers would differ in whether
// the objects in it have changed, and a comparison of revisions would miss that they did.
func (t table) checkObjStms() error {
	return t.each(func(e entry) error {
		if !e.compressed() {
			return nil
		}
		s, ok := t.find(e.stm())
		if !ok || s.off <= 0 {
			return invalid("object %d is said to be in object stream %d, which does not exist", e.num, e.stm())
		}
		if s.gen != 0 {
			return invalid("object stream %d has generation %d; it must be 0", e.stm(), s.gen) // §7.5.7
		}
		if s.rev > e.rev {
			return invalid("object stream %d was replaced without restating object %d in it", e.stm(), e.num)
		}
		return nil
	})
}
