package pdf

// Check parses every object in use and refuses the file when one is broken: syntax, stream lengths, object streams and what they extend,
// references with a wrong generation, stream data outside of the file. What Open accepts and Check refuses can be looked at, not signed.
func (f *File) Check() error {
	if f.checked {
		return nil
	}
	extends := map[uint32]uint32{}
	err := f.table.each(func(e entry) error {
		if e.free() {
			return nil
		}
		o, _, err := f.parse(e)
		if err != nil {
			return within("object "+e.ref().String(), err)
		}
		if s, ok := o.(*Stream); ok {
			if s.Dict["F"] != nil {
				return unsupported("object %s: its data is in another file, which a signature would not cover", e.ref())
			}
			if r, ok := s.Dict["Extends"].(Ref); ok && s.Dict["Type"] == Name("ObjStm") {
				extends[e.num] = r.Num
			}
			o = s.Dict
		}
		if err := f.checkRefs(o); err != nil {
			return within("object "+e.ref().String(), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := checkExtends(extends); err != nil {
		return err
	}
	if err := f.checkPages(); err != nil {
		return err
	}
	f.checked = true
	return nil
}

// checkPages refuses nodes of the page tree without their /Type (§7.7.3.2 and §7.7.3.3: required); a tree that cannot be walked has no
// pages, which is another error, of who asks for them.
func (f *File) checkPages() error {
	w, err := f.pageTree()
	if err == nil && w.bare != (Ref{}) {
		return invalid("node %s of the page tree has no /Type", w.bare)
	}
	return nil
}

// checkRefs checks the generation numbers of all references in o.
func (f *File) checkRefs(o Object) error {
	switch v := o.(type) {
	case Ref:
		if e, ok := f.table.find(v.Num); ok && !e.free() && e.gen != v.Gen {
			return invalid("reference %s R, but the object's generation is %d", v, e.gen)
		}
	case Array:
		for _, x := range v {
			if err := f.checkRefs(x); err != nil {
				return err
			}
		}
	case Dict:
		for _, x := range v {
			if err := f.checkRefs(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkExtends refuses object streams that extend themselves (§7.5.7: the collection is a tree).
func checkExtends(extends map[uint32]uint32) error {
	done := map[uint32]uint32{} // object stream -> the walk that met it
	walk := uint32(0)
	for num := range extends {
		walk++
		for at, ok := num, true; ok; at, ok = extends[at] {
			if w := done[at]; w == walk {
				return invalid("object stream %d extends itself", at)
			} else if w != 0 {
				break
			}
			done[at] = walk
		}
	}
	return nil
}
