package pdf

import (
	"math"
	"slices"
)

// readXRefStream reads the cross-reference stream at s.pos (§7.5.8).
func (f *File) readXRefStream(s *section, maxEntries int) error {
	st, end, err := f.directStream(s.pos)
	if err != nil {
		return err
	}
	s.trailer, s.end = st.Dict, end
	w, err := xrefWidths(st.Dict["W"], s.pos)
	if err != nil {
		return err
	}
	width := w[0] + w[1] + w[2]
	index, total, err := xrefIndex(st.Dict, s.pos)
	if err != nil {
		return err
	}
	if total > int64(maxEntries) {
		return tooLarge("more than %d cross-reference entries", f.lim.MaxObjects)
	}
	// The dictionary says how long the data must be, so that much is decoded and not more.
	data, err := f.decode(st, total*width)
	if err != nil {
		return within("cross-reference stream", err)
	}
	if int64(len(data)) != total*width {
		return invalid("cross-reference stream at byte %d decodes to %d bytes; /W and /Index say %d", s.pos, len(data), total*width)
	}
	entries := make([]entry, 0, total)
	for i := 0; i < len(index); i += 2 {
		for num := index[i]; num < index[i]+index[i+1]; num++ {
			e, err := f.streamEntry(data[:width], w, num, s.pos)
			if err != nil {
				return err
			}
			entries = append(entries, e)
			data = data[width:]
		}
	}
	s.entries, err = sortSection(s.pos, entries)
	return err
}

// xrefWidths reads /W (§7.5.8.2). Some readers repair a file with wider fields than these instead of reading them.
func xrefWidths(o Object, pos int64) (w [3]int64, err error) {
	most := [3]int64{2, 8, 4}
	a, ok := o.(Array)
	if !ok || len(a) != 3 {
		return w, invalid("cross-reference stream at byte %d: /W is not an array of three integers", pos)
	}
	for i := range w {
		n, ok := a[i].(int64)
		if !ok || n < 0 || n > most[i] {
			return w, invalid("cross-reference stream at byte %d: width %d of /W is not 0 to %d", pos, i+1, most[i])
		}
		w[i] = n
	}
	if w[1] == 0 {
		return w, invalid("cross-reference stream at byte %d: the second width of /W is 0", pos)
	}
	return w, nil
}

// xrefIndex returns pairs of first number and count, by default all numbers below Size.
func xrefIndex(d Dict, pos int64) (index []int64, total int64, err error) {
	if d["Index"] == nil {
		size, ok := d["Size"].(int64)
		if !ok || size < 0 || size > maxSize {
			return nil, 0, invalid("cross-reference stream at byte %d has no valid /Size", pos)
		}
		return []int64{0, size}, size, nil
	}
	a, ok := d["Index"].(Array)
	if !ok || len(a)%2 != 0 {
		return nil, 0, invalid("cross-reference stream at byte %d: /Index is not an array of pairs", pos)
	}
	index = make([]int64, len(a))
	for i := range a {
		n, ok := a[i].(int64)
		if !ok || n < 0 || n > maxSize {
			return nil, 0, invalid("cross-reference stream at byte %d: /Index holds something other than object numbers", pos)
		}
		index[i] = n
		if i%2 == 1 {
			if n += index[i-1]; n > maxSize {
				return nil, 0, invalid("cross-reference stream at byte %d: /Index goes beyond the highest object number", pos)
			}
			total += index[i] // at most maxSize for each of at most MaxNodes pairs
		}
	}
	return index, total, nil
}

// streamEntry reads one entry (§7.5.8.3).
func (f *File) streamEntry(b []byte, w [3]int64, num, pos int64) (entry, error) {
	var v [3]uint64
	at := int64(0)
	for i, n := range w {
		for range n {
			v[i] = v[i]<<8 | uint64(b[at])
			at++
		}
	}
	if w[0] == 0 {
		v[0] = 1 // table 17: the default type
	}
	e := entry{num: uint32(num)}
	switch v[0] {
	case 0:
		e.gen = uint16(min(v[2], math.MaxUint16))
		return e, nil
	case 1:
		if v[1] > math.MaxInt64/2 || v[2] > math.MaxUint16 {
			return e, invalid("cross-reference stream at byte %d: the entry for object %d is out of range", pos, num)
		}
		if e.gen = uint16(v[2]); v[1] > 0 {
			e.off = int64(v[1]) + f.base
		}
		return e, nil
	case 2:
		if v[1] >= maxSize || v[2] >= 1<<31 || v[1] == 0 {
			return e, invalid("cross-reference stream at byte %d: the entry for object %d is out of range", pos, num)
		}
		return compressedEntry(uint32(num), uint32(v[1]), int64(v[2])), nil
	}
	return e, unsupported("cross-reference stream at byte %d: the entry for object %d is of type %d", pos, num, v[0])
}

// directStream reads the stream object at pos, for which no cross-reference is at hand yet: its dictionary must not need one.
func (f *File) directStream(pos int64) (*Stream, int64, error) {
	_, start, ok := headerAt(f.data, int(pos))
	if !ok {
		return nil, 0, invalid("no object at byte %d", pos)
	}
	p := f.parserAt(start, len(f.data))
	o, err := p.object(0)
	if err != nil {
		return nil, 0, err
	}
	d, ok := o.(Dict)
	if !ok || d["Type"] != Name("XRef") {
		return nil, 0, invalid("object at byte %d is not a cross-reference stream", pos)
	}
	n, ok := d["Length"].(int64)
	if !ok {
		return nil, 0, invalid("cross-reference stream at byte %d has no direct /Length", pos)
	}
	for _, k := range []Name{"Filter", "DecodeParms", "W", "Index", "Size"} {
		if hasRef(d[k]) { // §7.5.8.2: direct objects
			return nil, 0, invalid("cross-reference stream at byte %d: /%s is not direct", pos, k)
		}
	}
	raw, err := p.streamData(n)
	if err != nil {
		return nil, 0, err
	}
	return &Stream{d, raw}, int64(p.pos), nil
}

func hasRef(o Object) bool {
	switch v := o.(type) {
	case Ref:
		return true
	case Array:
		return slices.ContainsFunc(v, hasRef)
	case Dict:
		for _, e := range v {
			if hasRef(e) {
				return true
			}
		}
	}
	return false
}
