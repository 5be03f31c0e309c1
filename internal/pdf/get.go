package pdf

import (
	"cmp"
	"math"
	"slices"
)

// Get returns the object that r refers to; nil (null) when there is none (§7.3.10). A generation number other than the object's is an error:
// readers differ in whether they care.
func (f *File) Get(r Ref) (Object, error) {
	e, ok := f.table.find(r.Num)
	if !ok || e.free() {
		return nil, nil
	}
	if e.gen != r.Gen {
		return nil, invalid("reference %s R, but the object's generation is %d", r, e.gen)
	}
	if o, ok := f.objects[r.Num]; ok {
		return o, nil
	}
	o, nodes, err := f.parse(e)
	if err != nil {
		return nil, within("object "+r.String(), err)
	}
	f.keep(r.Num, o, nodes)
	return o, nil
}

// keep remembers a parsed object; when there is no more room, the others are forgotten.
func (f *File) keep(num uint32, o Object, nodes int) {
	if nodes++; nodes > f.nodes {
		clear(f.objects)
		f.nodes = cacheBase + len(f.data)/cachePer
	}
	f.nodes -= nodes
	f.objects[num] = o
}

// parse reads an entry's object anew and counts its values. An object that is nothing but a reference is refused: it is no object
// (§7.3.10), some readers follow it and others see null.
func (f *File) parse(e entry) (o Object, nodes int, err error) {
	if e.compressed() {
		s, err := f.objStm(e.stm())
		if err != nil {
			return nil, 0, err
		}
		o, nodes, err = s.object(f, e)
		return o, nodes, cmp.Or(err, notReference(o))
	}
	o, nodes, _, err = f.body(e, f.limit(e.off))
	return o, nodes, cmp.Or(err, notReference(o))
}

func notReference(o Object) error {
	if r, ok := o.(Ref); ok {
		return invalid("it is nothing but a reference, %s R", r)
	}
	return nil
}

// body parses the object at e.off, which ends before limit; end is where it does.
func (f *File) body(e entry, limit int64) (o Object, nodes int, end int64, err error) {
	r, pos, ok := headerAt(f.data, int(e.off))
	if !ok || r != e.ref() {
		return nil, 0, 0, invalid("not at byte %d", e.off)
	}
	p := f.parserAt(pos, int(limit))
	o, err = p.object(0)
	nodes = f.lim.MaxNodes - p.nodes
	if cost := f.budget.parsed(nodes, p.pos-pos); cost != nil {
		return nil, 0, 0, cost
	}
	if err != nil {
		return nil, 0, 0, err
	}
	o, err = f.finish(p, o)
	return o, nodes, int64(p.pos), err
}

// bodyAt returns a parser after the "obj" of an entry's object, which ends where the next object begins.
func (f *File) bodyAt(e entry) (*parser, error) {
	r, pos, ok := headerAt(f.data, int(e.off))
	if !ok || r != e.ref() {
		return nil, invalid("not at byte %d", e.off)
	}
	return f.parserAt(pos, int(f.limit(e.off))), nil
}

// limit returns where the next object or section after pos begins. No object reaches over it: so reading every object costs no more
// than the file's size, and none is hidden in another.
func (f *File) limit(pos int64) int64 {
	s := f.starts
	if len(f.more) > 0 && pos >= f.more[0] {
		s = f.more
	}
	i, found := slices.BinarySearch(s, pos)
	for found && i < len(s) && s[i] == pos {
		i++
	}
	switch {
	case i < len(s):
		return s[i]
	case len(f.more) > 0 && pos < f.more[0]:
		return f.more[0]
	}
	return int64(len(f.data))
}

// finish reads what follows an indirect object's value: "endobj", or the data of a stream and "endobj".
func (f *File) finish(p *parser, o Object) (Object, error) {
	p.skipSpace()
	if p.keyword("endobj") {
		return o, nil
	}
	d, ok := o.(Dict)
	if !ok || len(p.b)-p.pos < 6 || string(p.b[p.pos:p.pos+6]) != "stream" {
		return nil, invalid("no endobj at byte %d", p.pos)
	}
	n, err := f.length(d["Length"])
	if err != nil {
		return nil, err
	}
	raw, err := p.streamData(n)
	if err != nil {
		return nil, err
	}
	return &Stream{d, raw}, nil
}

// length resolves a stream's Length. The object that it refers to is an integer, never a stream, so this does not recurse, except
// through an object stream, which notices.
func (f *File) length(o Object) (int64, error) {
	if r, ok := o.(Ref); ok {
		e, found := f.table.find(r.Num)
		if !found || e.free() || e.gen != r.Gen {
			return 0, invalid("a stream's /Length %s R does not exist", r)
		}
		if !e.compressed() {
			return f.integerAt(e)
		}
		var err error
		if o, _, err = f.parse(e); err != nil {
			return 0, within("a stream's /Length "+r.String(), err)
		}
	}
	n, ok := o.(int64)
	if !ok || n < 0 {
		return 0, invalid("stream without a valid /Length")
	}
	return n, nil
}

// integerAt reads an object that is an unsigned integer.
func (f *File) integerAt(e entry) (int64, error) {
	p, err := f.bodyAt(e)
	if err != nil {
		return 0, err
	}
	p.skipSpace()
	n, ok := p.digits(math.MaxInt64)
	if p.skipSpace(); !ok || !p.keyword("endobj") {
		return 0, invalid("a stream's /Length %s R is not a number", e.ref())
	}
	return n, nil
}

// streamData reads "stream", an end of line, n bytes, "endstream" and "endobj" (§7.3.8.1).
func (p *parser) streamData(n int64) ([]byte, error) {
	p.skipSpace()
	at := p.pos
	if !p.literal("stream") {
		return nil, invalid("no stream at byte %d", at)
	}
	if !p.literal("\r\n") && !p.literal("\n") { // a carriage return alone is not enough: it may be data
		return nil, invalid("stream at byte %d: the keyword is not followed by a line feed", at)
	}
	if n < 0 || n > int64(len(p.b)-p.pos) {
		return nil, invalid("stream at byte %d: /Length %d reaches beyond the object", at, n)
	}
	raw := p.b[p.pos : p.pos+int(n) : p.pos+int(n)]
	p.pos += int(n)
	p.skipBlank()
	if !p.keyword("endstream") {
		return nil, invalid("stream at byte %d: no endstream after the %d bytes that /Length says", at, n)
	}
	p.skipSpace()
	if !p.keyword("endobj") {
		return nil, invalid("stream at byte %d: no endobj after it", at)
	}
	return raw, nil
}

// Resolve returns what o refers to when it is a reference, else o. One step is enough: no object is a reference itself.
func (f *File) Resolve(o Object) (Object, error) {
	if r, ok := o.(Ref); ok {
		return f.Get(r)
	}
	return o, nil
}

// resolveDict returns o as a dictionary; nil when o is null. what names it in errors.
func (f *File) resolveDict(o Object, what string) (Dict, error) {
	o, err := f.Resolve(o)
	if err != nil || o == nil {
		return nil, err
	}
	d, ok := o.(Dict)
	if !ok {
		return nil, invalid("%s is not a dictionary", what)
	}
	return d, nil
}

// resolveArray returns o as an array; nil when o is null.
func (f *File) resolveArray(o Object, what string) (Array, error) {
	o, err := f.Resolve(o)
	if err != nil || o == nil {
		return nil, err
	}
	a, ok := o.(Array)
	if !ok {
		return nil, invalid("%s is not an array", what)
	}
	return a, nil
}

// resolveInt returns o as an integer; def when o is null.
func (f *File) resolveInt(o Object, what string, def int64) (int64, error) {
	o, err := f.Resolve(o)
	if err != nil || o == nil {
		return def, err
	}
	n, ok := o.(int64)
	if !ok {
		return 0, invalid("%s is not an integer", what)
	}
	return n, nil
}

// resolveName returns o as a name; "" when o is null.
func (f *File) resolveName(o Object, what string) (Name, error) {
	o, err := f.Resolve(o)
	if err != nil || o == nil {
		return "", err
	}
	n, ok := o.(Name)
	if !ok {
		return "", invalid("%s is not a name", what)
	}
	return n, nil
}
