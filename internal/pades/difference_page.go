package pades

import (
	"fmt"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// maxPanel is how much of a page a new signature's panel may cover. A larger one hides what was signed.
const maxPanel = 0.25

// comparePage judges a page object: only its annotations may grow, by the widgets of new signatures.
func (c *comparison) comparePage(ref pdf.Ref, b, a pdf.Object) error {
	before, _ := b.(pdf.Dict)
	after, ok := a.(pdf.Dict)
	if !ok {
		c.forbid("%s was removed", c.pageName(ref))
		return nil
	}
	for key := range merged(before, after) {
		if equal(before[key], after[key]) {
			continue
		}
		if key != "Annots" {
			c.forbid("entry %s of %s was %s", key, c.pageName(ref), verb(before[key], after[key]))
			continue
		}
		c.compareResolved(before[key], after[key], func(_ pdf.Ref, b, a pdf.Object) error { return c.compareAnnotations(ref, b, a) })
	}
	return nil
}

// compareAnnots judges an array of annotations that is an object of its own.
func (c *comparison) compareAnnots(array pdf.Ref, b, a pdf.Object) error {
	return c.compareAnnotations(c.scope.annotArrays[array], b, a)
}

// compareAnnotations judges the annotations of a page: the old ones in their order, and among them new widgets.
func (c *comparison) compareAnnotations(page pdf.Ref, b, a pdf.Object) error {
	before, _ := b.(pdf.Array)
	after, ok := a.(pdf.Array)
	if !ok && a != nil {
		c.forbid("the annotations of %s became something else", c.pageName(page))
		return nil
	}
	next := 0
	for _, one := range after {
		if next < len(before) && equal(before[next], one) {
			next++
			continue
		}
		ref, _ := one.(pdf.Ref)
		title, isNew := c.widgets[ref]
		switch {
		case !isNew:
			c.forbid("an annotation was added to %s, or their order changed", c.pageName(page))
		case c.placed[ref]:
			c.forbid("%s was placed twice", title)
		default:
			c.placed[ref] = true
			if err := c.checkPanel(page, ref, title, before); err != nil {
				return err
			}
		}
	}
	if next < len(before) {
		c.forbid("an annotation was removed from %s", c.pageName(page))
	}
	return nil
}

// checkPanel judges where a new widget is: a panel must not lie over another signature's or a form field, nor over much of the page.
func (c *comparison) checkPanel(page, ref pdf.Ref, title string, others pdf.Array) error {
	value, err := c.now.Get(ref)
	if err != nil {
		return err
	}
	widget, _ := value.(pdf.Dict)
	if !shows(c.now, widget) {
		return nil
	}
	r, ok := rectangle(c.now, widget["Rect"])
	if !ok {
		c.forbid("%s was added without a place", title)
		return nil
	}
	for _, other := range others {
		if err := c.h.visit(); err != nil {
			return err
		}
		value, err := c.now.Resolve(other)
		if err != nil {
			return err
		}
		annotation, _ := value.(pdf.Dict)
		if annotation["Subtype"] != pdf.Name("Widget") || !visible(c.now, annotation) {
			continue
		}
		if o, ok := rectangle(c.now, annotation["Rect"]); ok && area(intersection(r, o)) > 0 {
			c.forbid("%s was added over the form field %q", title, fieldTitle(annotation))
		}
	}
	number := c.pageNumber(page)
	if number < 0 {
		c.forbid("%s was added to a page that is not in the document", title)
		return nil
	}
	p, err := c.now.Page(number)
	if err != nil {
		return err
	}
	if whole := area(p.CropBox); whole > 0 && area(intersection(r, p.CropBox)) > maxPanel*whole {
		c.forbid("%s was added with a panel that covers much of page %d", title, number+1)
	}
	return nil
}

// pageNumber returns the index of a page, -1 when it is none.
func (c *comparison) pageNumber(ref pdf.Ref) int {
	if c.pages == nil {
		c.pages = map[pdf.Ref]int{}
		pages, err := c.now.Pages()
		if err != nil {
			return -1
		}
		for i, p := range pages {
			c.pages[p] = i
		}
	}
	if i, ok := c.pages[ref]; ok {
		return i
	}
	return -1
}

func (c *comparison) pageName(ref pdf.Ref) string {
	if i := c.pageNumber(ref); i >= 0 {
		return fmt.Sprintf("page %d", i+1)
	}
	return fmt.Sprintf("page object %v", ref)
}

// Annotation flags (ISO 32000-2 table 167): Hidden is the only one that hides on the screen and on paper. Readers keep flags in a machine
// word, so that a larger number means different things to them.
const (
	flagHidden = 1 << 1
	maxFlags   = 1<<10 - 1
)

// shows reports whether a new widget can hide or add anything: it is visible and says what to draw there. Some signers give the fields of
// their time stamps an area, but nothing to draw.
func shows(f *pdf.File, widget pdf.Dict) bool {
	return (widget["AP"] != nil || widget["MK"] != nil) && visible(f, widget)
}

// visible reports whether an annotation takes up room: it has an area and is not hidden.
func visible(f *pdf.File, widget pdf.Dict) bool {
	if flags, _ := widget["F"].(int64); flags >= 0 && flags <= maxFlags && flags&flagHidden != 0 {
		return false
	}
	r, ok := rectangle(f, widget["Rect"])
	return !ok || r[0] != r[2] && r[1] != r[3]
}

// maxCoordinate bounds where a new widget can be: beyond it readers disagree on what a number is.
const maxCoordinate = 1e6

// rectangle reads an array of four numbers.
func rectangle(f *pdf.File, o pdf.Object) ([4]float64, bool) {
	var r [4]float64
	value, err := f.Resolve(o)
	list, ok := value.(pdf.Array)
	if err != nil || !ok || len(list) != 4 {
		return r, false
	}
	for i := range r {
		item, err := f.Resolve(list[i])
		if err != nil {
			return r, false
		}
		if r[i], ok = number(item); !ok || !(r[i] >= -maxCoordinate && r[i] <= maxCoordinate) {
			return r, false
		}
	}
	return [4]float64{min(r[0], r[2]), min(r[1], r[3]), max(r[0], r[2]), max(r[1], r[3])}, true
}

func intersection(a, b [4]float64) [4]float64 {
	return [4]float64{max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])}
}

// area is 0 for a rectangle that is none.
func area(r [4]float64) float64 {
	if r[2] <= r[0] || r[3] <= r[1] {
		return 0
	}
	return (r[2] - r[0]) * (r[3] - r[1])
}
