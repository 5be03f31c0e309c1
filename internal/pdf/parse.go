package pdf

// parser builds objects from tokens; one serves one indirect object.
type parser struct {
	lexer
	maxDepth int
	nodes    int // values that may still be made
	names    map[string]Name
	scratch  []byte
}

// maxInterned bounds the names that a file's table of names holds.
const maxInterned = 4096

// intern returns b as a Name, the same memory for the same name.
func (p *parser) intern(b []byte) Name {
	if n, ok := p.names[string(b)]; ok {
		return n
	}
	n := Name(b)
	if p.names != nil && len(p.names) < maxInterned && len(b) <= 64 {
		p.names[string(n)] = n
	}
	return n
}

// object reads one object, without a stream's data: "stream" is left where it stands.
func (p *parser) object(depth int) (Object, error) {
	p.skipSpace()
	if p.pos >= len(p.b) {
		return nil, invalid("an object is cut off at byte %d", p.pos)
	}
	if p.nodes--; p.nodes < 0 {
		return nil, tooLarge("an object holds too many values, at byte %d", p.pos)
	}
	c := p.b[p.pos]
	switch {
	case isDigit(c), c == '-':
		if r, ok, err := p.reference(); ok || err != nil {
			return r, err
		}
		return p.number()
	case c == '+' || c == '.':
		return p.number()
	case c == '/':
		p.pos++
		n, err := p.lexer.name(p.scratch)
		if err != nil {
			return nil, err
		}
		return p.intern(n), nil
	case c == '(':
		p.pos++
		return nonNil(p.literalString())
	case c == '<' && p.pos+1 < len(p.b) && p.b[p.pos+1] == '<':
		p.pos += 2
		return p.dict(depth + 1)
	case c == '<':
		p.pos++
		return nonNil(p.hexString())
	case c == '[':
		p.pos++
		return p.array(depth + 1)
	}
	switch {
	case p.keyword("null"):
		return nil, nil
	case p.keyword("true"):
		return true, nil
	case p.keyword("false"):
		return false, nil
	}
	start := p.pos
	t := p.regular()
	if len(t) == 0 {
		t = p.b[start : start+1]
	}
	return nil, invalid("%q at byte %d is not an object", clip(t), start)
}

// nonNil makes sure that an error does not come with a typed nil.
func nonNil(s String, err error) (Object, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// reference reads "12 0 R"; ok is false, and nothing read, when something else stands there. Some writers have "-1 0 R" where they
// mean nothing; it becomes 0 0 R, which always is null.
func (p *parser) reference() (r Ref, ok bool, err error) {
	l := lexer{p.b, p.pos}
	negative := l.literal("-")
	start := l.pos
	for l.pos < len(l.b) && isDigit(l.b[l.pos]) {
		l.pos++
	}
	numEnd := l.pos
	l.skipSpace()
	gen := l.pos
	for l.pos < len(l.b) && isDigit(l.b[l.pos]) {
		l.pos++
	}
	genEnd := l.pos
	if numEnd == start || gen == numEnd || genEnd == gen {
		return Ref{}, false, nil
	}
	l.skipSpace()
	if l.pos == genEnd || !l.keyword("R") {
		return Ref{}, false, nil
	}
	n, ok1 := (&lexer{p.b[:numEnd], start}).digits(1<<32 - 1)
	g, ok2 := (&lexer{p.b[:genEnd], gen}).digits(1<<16 - 1)
	if !ok1 || !ok2 {
		return Ref{}, false, invalid("reference at byte %d: object or generation number is too large", start)
	}
	if p.pos = l.pos; negative {
		return Ref{}, true, nil
	}
	return Ref{uint32(n), uint16(g)}, true, nil
}

func (p *parser) array(depth int) (Object, error) {
	start := p.pos - 1
	if depth > p.maxDepth {
		return nil, tooLarge("objects nest deeper than %d levels at byte %d", p.maxDepth, start)
	}
	a := Array{}
	for {
		p.skipSpace()
		if p.pos >= len(p.b) {
			return nil, invalid("array at byte %d has no end", start)
		}
		if p.b[p.pos] == ']' {
			p.pos++
			return a, nil
		}
		o, err := p.object(depth)
		if err != nil {
			return nil, err
		}
		a = append(a, o)
	}
}

func (p *parser) dict(depth int) (Object, error) {
	start := p.pos - 2
	if depth > p.maxDepth {
		return nil, tooLarge("objects nest deeper than %d levels at byte %d", p.maxDepth, start)
	}
	d := Dict{}
	for {
		p.skipSpace()
		if p.pos >= len(p.b) {
			return nil, invalid("dictionary at byte %d has no end", start)
		}
		if p.literal(">>") {
			return d, nil
		}
		at := p.pos
		if p.b[p.pos] != '/' {
			return nil, invalid("dictionary at byte %d: byte %d should begin a name", start, at)
		}
		p.pos++
		raw, err := p.lexer.name(p.scratch)
		if err != nil {
			return nil, err
		}
		key := p.intern(raw)
		// §7.3.7 forbids the same key twice; readers differ in which one they take.
		if _, twice := d[key]; twice {
			return nil, invalid("dictionary at byte %d has the key /%s twice", start, clip([]byte(key)))
		}
		v, err := p.object(depth)
		if err != nil {
			return nil, err
		}
		d[key] = v // a null stays in the map, so that the key twice is seen; readers of it find nil either way
	}
}

// valueSpan returns where the value of key stands in the dictionary whose "<<" is at pos: recorded by the parser, not searched for.
func (p *parser) valueSpan(pos int, key Name) (start, end int, ok bool, err error) {
	p.pos = pos
	if !p.literal("<<") {
		return 0, 0, false, invalid("no dictionary at byte %d", pos)
	}
	for {
		p.skipSpace()
		if p.pos >= len(p.b) || p.b[p.pos] != '/' {
			return 0, 0, false, nil
		}
		p.pos++
		raw, err := p.lexer.name(p.scratch)
		if err != nil {
			return 0, 0, false, err
		}
		found := Name(raw) == key
		p.skipSpace()
		start = p.pos
		if _, err := p.object(1); err != nil {
			return 0, 0, false, err
		}
		if found {
			return start, p.pos, true, nil
		}
	}
}
