package fonts

// Wrap breaks the line into lines no wider than limit, in thousandths of an em: at spaces, which are dropped there, and within a word that is
// too long for a line by itself. Marks stay with their letter, and a line holds at least one letter however small the limit. An empty line
// gives none.
func (l Line) Wrap(limit int) []Line {
	var out []Line
	for l.Width > limit && len(l.Glyphs) > 0 {
		var first Line
		first, l = l.split(limit)
		out = append(out, first)
	}
	if len(l.Glyphs) > 0 {
		out = append(out, l)
	}
	return out
}

// split cuts before the last space that lets the first part fit, or failing that before the last letter that does.
func (l Line) split(limit int) (first, rest Line) {
	cut, space := 0, 0
	for i, g := range l.Glyphs {
		if g.Mark || i == 0 {
			continue
		}
		if g.X <= limit && g.Rune == ' ' {
			space = i
		}
		if g.X > limit { // the glyphs before this one reach beyond the limit
			break
		}
		cut = i
	}
	if cut == 0 {
		for cut = 1; cut < len(l.Glyphs) && l.Glyphs[cut].Mark; cut++ {
		}
	}
	skip := 0
	if space > 0 {
		cut, skip = space, 1
	}
	if cut+skip >= len(l.Glyphs) {
		return Line{Glyphs: l.Glyphs[:cut], Width: l.Width}, Line{}
	}
	first = Line{Glyphs: l.Glyphs[:cut], Width: l.Glyphs[cut].X}
	start := l.Glyphs[cut+skip].X
	rest = Line{Glyphs: append([]Glyph(nil), l.Glyphs[cut+skip:]...), Width: l.Width - start}
	for i := range rest.Glyphs {
		rest.Glyphs[i].X -= start
	}
	return first, rest
}
