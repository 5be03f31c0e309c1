package pdf

import "math"

// objStm is a decoded object stream (§7.5.7).
type objStm struct {
	num  uint32
	nums []uint32 // of the objects, in the order of their bytes
	offs []int64  // where each begins in body, ascending
	body []byte
}

// objStms are the decoded object streams that are kept. A nil one is being read.
type objStms struct {
	m    map[uint32]*objStm
	held int // bytes of all bodies
}

// add keeps s; when all together are too much, the others are forgotten and decoded again when asked for, which the budget bounds.
func (c *objStms) add(s *objStm, room int) {
	if c.held+len(s.body) > room {
		for num, o := range c.m {
			if o != nil {
				delete(c.m, num)
			}
		}
		c.held = 0
	}
	c.m[s.num] = s
	c.held += len(s.body)
}

// objStm returns object stream num.
func (f *File) objStm(num uint32) (*objStm, error) {
	if s, ok := f.streams.m[num]; ok {
		if s == nil {
			return nil, invalid("object stream %d needs itself to be read", num)
		}
		return s, nil
	}
	e, ok := f.table.find(num)
	if !ok || e.off <= 0 || e.gen != 0 {
		return nil, invalid("object stream %d does not exist", num)
	}
	f.streams.m[num] = nil
	room := holdBase + holdPer*len(f.data)
	s, err := f.readObjStm(e, int64(room))
	delete(f.streams.m, num)
	if err != nil {
		return nil, within("object stream "+e.ref().String(), err)
	}
	f.streams.add(s, room)
	return s, nil
}

func (f *File) readObjStm(e entry, room int64) (*objStm, error) {
	o, _, err := f.parse(e)
	if err != nil {
		return nil, err
	}
	st, ok := o.(*Stream)
	if !ok || st.Dict["Type"] != Name("ObjStm") {
		return nil, invalid("not a stream of /Type /ObjStm")
	}
	if ext := st.Dict["Extends"]; ext != nil {
		if _, ok := ext.(Ref); !ok {
			return nil, invalid("/Extends is not a reference")
		}
	}
	n, ok1 := st.Dict["N"].(int64)
	first, ok2 := st.Dict["First"].(int64)
	if !ok1 || !ok2 || n < 0 || first < 0 {
		return nil, invalid("/N or /First is missing or not a number")
	}
	data, err := f.decode(st, room)
	if err != nil {
		return nil, err
	}
	if first > int64(len(data)) || n > first/4+1 { // a pair of numbers takes four bytes
		return nil, invalid("/N %d and /First %d do not fit its %d bytes", n, first, len(data))
	}
	s := &objStm{num: e.num, nums: make([]uint32, n), offs: make([]int64, n), body: data[first:]}
	return s, s.readPairs(data[:first])
}

// readPairs reads object numbers and offsets. Readers differ in which object they take when offsets are not ascending or a number
// comes twice, so neither is let through.
func (s *objStm) readPairs(head []byte) error {
	l := lexer{b: head}
	seen := make(map[uint32]struct{}, len(s.nums))
	for i := range s.nums {
		l.skipSpace()
		num, ok1 := l.digits(math.MaxUint32)
		l.skipSpace()
		off, ok2 := l.digits(math.MaxInt32)
		if !ok1 || !ok2 || off >= int64(len(s.body)) {
			return invalid("pair %d of its header is not an object number and an offset", i)
		}
		if i > 0 && off <= s.offs[i-1] {
			return invalid("the offsets in its header are not ascending")
		}
		if _, twice := seen[uint32(num)]; twice {
			return invalid("object %d is in it twice", num)
		}
		seen[uint32(num)] = struct{}{}
		s.nums[i], s.offs[i] = uint32(num), off
	}
	return nil
}

// object parses the object that e points to.
func (s *objStm) object(f *File, e entry) (Object, int, error) {
	i := e.index()
	if i >= int64(len(s.nums)) || s.nums[i] != e.num {
		return nil, 0, invalid("it is not number %d in object stream %d, as its entry says", i, s.num)
	}
	end := int64(len(s.body))
	if i+1 < int64(len(s.offs)) {
		end = s.offs[i+1]
	}
	p := &parser{lexer: lexer{s.body[:end], int(s.offs[i])}, maxDepth: f.lim.MaxDepth, nodes: f.lim.MaxNodes, names: f.names}
	o, err := p.object(0)
	nodes := f.lim.MaxNodes - p.nodes
	if cost := f.budget.parsed(nodes, p.pos-int(s.offs[i])); cost != nil {
		return nil, 0, cost
	}
	if err != nil {
		return nil, 0, within("in object stream "+Ref{s.num, 0}.String(), err)
	}
	if p.skipSpace(); p.pos < len(p.b) {
		return nil, 0, invalid("in object stream %d, more than one object between its offset and the next", s.num)
	}
	return o, nodes, nil
}
