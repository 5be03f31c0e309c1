package pdf

import (
	"math"
	"strconv"
)

// Page is a page with the attributes that it may inherit (ISO 32000-2 §7.7.3.4).
type Page struct {
	Ref      Ref
	Dict     Dict
	MediaBox [4]float64 // normalized: left, bottom, right, top
	CropBox  [4]float64 // normalized and within MediaBox
	Rotate   int        // clockwise: 0, 90, 180 or 270
}

// Pages returns the page objects in order (§7.7.3). A node that is met twice, or that says another number of pages than it holds, is an
// error: readers would show other pages under the same number.
func (f *File) Pages() ([]Ref, error) {
	w, err := f.pageTree()
	if err != nil {
		return nil, err
	}
	return w.pages, nil
}

// pageTree walks the page tree.
func (f *File) pageTree() (*pageWalk, error) {
	c, _, err := f.Catalog()
	if err != nil {
		return nil, err
	}
	root, ok := c["Pages"].(Ref)
	if !ok {
		return nil, invalid("the catalog has no /Pages")
	}
	w := &pageWalk{f: f, parent: map[Ref]Ref{}}
	if _, err := w.node(root, Ref{}, 0); err != nil {
		return nil, err
	}
	return w, nil
}

type pageWalk struct {
	f      *File
	pages  []Ref
	parent map[Ref]Ref // of nodes that were met
	bare   Ref         // the first node without a /Type
}

// node walks the tree below r and returns the number of its pages.
func (w *pageWalk) node(r, parent Ref, depth int) (int64, error) {
	if depth > w.f.lim.MaxDepth {
		return 0, tooLarge("the page tree is deeper than %d levels", w.f.lim.MaxDepth)
	}
	if _, met := w.parent[r]; met {
		return 0, invalid("node %s is twice in the page tree", r)
	}
	w.parent[r] = parent
	o, err := w.f.Get(r)
	if err != nil {
		return 0, err
	}
	d, ok := o.(Dict)
	if !ok {
		return 0, invalid("node %s of the page tree is not a dictionary", r)
	}
	kids, err := w.f.resolveArray(d["Kids"], "/Kids")
	if err != nil {
		return 0, within("page tree node "+r.String(), err)
	}
	typ, err := w.f.resolveName(d["Type"], "/Type")
	if err != nil {
		return 0, within("page tree node "+r.String(), err)
	}
	if typ == "" && w.bare == (Ref{}) {
		w.bare = r
	}
	if kids == nil {
		if typ != "Page" && typ != "" {
			return 0, invalid("node %s of the page tree is of /Type /%s and has no /Kids", r, typ)
		}
		w.pages = append(w.pages, r)
		return 1, nil
	}
	if typ != "Pages" && typ != "" {
		return 0, invalid("node %s of the page tree is of /Type /%s and has /Kids", r, typ)
	}
	sum := int64(0)
	for _, k := range kids {
		kr, ok := k.(Ref)
		if !ok {
			return 0, invalid("/Kids of %s holds something other than references", r)
		}
		n, err := w.node(kr, r, depth+1)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	count, err := w.f.resolveInt(d["Count"], "/Count", -1)
	if err != nil {
		return 0, within("page tree node "+r.String(), err)
	}
	if count != sum {
		return 0, invalid("node %s of the page tree says %d pages and has %d", r, count, sum)
	}
	return sum, nil
}

// Page returns page i, counted from 0; fault.NotFound when there is none.
func (f *File) Page(i int) (Page, error) {
	w, err := f.pageTree()
	if err != nil {
		return Page{}, err
	}
	if i < 0 || i >= len(w.pages) {
		return Page{}, notFound("there is no page %d; the document has %d", i+1, len(w.pages))
	}
	p := Page{Ref: w.pages[i]}
	var media, crop, rotate Object
	for r := p.Ref; r != (Ref{}); r = w.parent[r] {
		o, err := f.Get(r)
		if err != nil {
			return Page{}, err
		}
		d := o.(Dict) // the walk saw that it is one
		if p.Dict == nil {
			p.Dict = d
		}
		media, crop, rotate = inherit(media, d["MediaBox"]), inherit(crop, d["CropBox"]), inherit(rotate, d["Rotate"])
	}
	if p.MediaBox, err = f.Rect(media); err != nil {
		return Page{}, within("MediaBox of page "+strconv.Itoa(i+1), err)
	}
	if p.CropBox = p.MediaBox; crop != nil {
		c, err := f.Rect(crop)
		if err != nil {
			return Page{}, within("CropBox of page "+strconv.Itoa(i+1), err)
		}
		p.CropBox = intersect(p.MediaBox, c)
	}
	turn, err := f.resolveInt(rotate, "/Rotate", 0)
	if err != nil {
		return Page{}, err
	}
	if turn%90 != 0 {
		return Page{}, invalid("/Rotate of page %d is %d", i+1, turn)
	}
	p.Rotate = int((turn%360 + 360) % 360)
	return p, nil
}

func inherit(own, above Object) Object {
	if own != nil {
		return own
	}
	return above
}

// intersect returns the part of b within a; a when there is none.
func intersect(a, b [4]float64) [4]float64 {
	c := [4]float64{max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])}
	if c[0] >= c[2] || c[1] >= c[3] {
		return a
	}
	return c
}

// Rect returns a rectangle (§7.9.5) as left, bottom, right, top, whichever corners o names.
func (f *File) Rect(o Object) ([4]float64, error) {
	var r [4]float64
	a, err := f.resolveArray(o, "a rectangle")
	if err != nil {
		return r, err
	}
	if len(a) != 4 {
		return r, invalid("a rectangle does not have four numbers")
	}
	for i := range r {
		if r[i], err = f.Number(a[i]); err != nil {
			return r, err
		}
	}
	return [4]float64{min(r[0], r[2]), min(r[1], r[3]), max(r[0], r[2]), max(r[1], r[3])}, nil
}

// Number returns an integer or a real as a finite number.
func (f *File) Number(o Object) (float64, error) {
	o, err := f.Resolve(o)
	if err != nil {
		return 0, err
	}
	switch v := o.(type) {
	case int64:
		return float64(v), nil
	case Real:
		n, err := strconv.ParseFloat(string(v), 64)
		if err == nil && !math.IsInf(n, 0) {
			return n, nil
		}
	}
	return 0, invalid("something other than a number where a number belongs")
}
