package pades

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// The difference analysis says what each revision after a signature did to the document. It is a whitelist: every object that a
// revision defines, redefines or frees must be one of a few that LTV, time-stamping, signing and form filling need to touch, and may have
// changed only in the way they need; whatever else the signed revision reaches must stay as it was. It compares objects by value as both
// revisions read them, so it does not matter how a change was written.
//
// Three sets, by object, for the revision that changes are judged against (see scope):
//
//	strict  what the document shows and does: reached from the trailer by any way that is not one of the following. No change. A missing
//	        object that is referred to is in it too: defining it later is a change.
//	pivots  catalog, pages, form, fields, their arrays, Info: each with its own rule
//	soft    DSS, Extensions, XMP, values and appearances of fillable fields: may change, where nothing strict reaches them
//
// An object that none of them holds was unreachable; it can only matter through a pivot, whose rule judges it.

// maxVisits bounds the work of one validation, in objects looked at.
const maxVisits = 8 << 20

// change is what one revision did, before it is asked for which signature.
type change struct {
	kind, text string
	field      string // fully qualified name, for form filling and signing
	placed     bool   // a new visible field: the signed document did not foresee it
}

// history is the difference analysis of one file.
type history struct {
	file       *pdf.File
	revisions  []pdf.Revision
	signatures []pdf.Signature
	changes    [][]change // by revision
	files      []*pdf.File
	tail       int // bytes after the newest revision's end marker that are not white space
	visits     int
}

// tailOf counts what follows the last "startxref N %%EOF". Readers that search for objects instead of following the tables find it.
func tailOf(data []byte) int {
	_, rest, _ := bytes.Cut(data[max(0, bytes.LastIndex(data, []byte("startxref"))):], []byte("%%EOF"))
	return len(bytes.Trim(rest, "\x00\t\n\f\r "))
}

// compareRevisions analyses every revision after the oldest signed one. Its error is that of a file that cannot be read at one of its
// revisions or costs too much to compare.
func compareRevisions(f *pdf.File, signatures []pdf.Signature) (*history, error) {
	h := &history{file: f, revisions: f.Revisions(), signatures: signatures}
	h.changes = make([][]change, len(h.revisions))
	h.files = make([]*pdf.File, len(h.revisions))
	h.tail = tailOf(f.Bytes())
	for base := h.nextSigned(0); base >= 0; {
		stopped, err := h.run(base)
		if err != nil {
			return nil, err
		}
		if stopped < 0 {
			break
		}
		base = h.nextSigned(stopped)
	}
	return h, nil
}

// run compares from revision base on, until a revision changes content: it is returned, for what follows it is compared with a later base.
// -1 when none does.
func (h *history) run(base int) (int, error) {
	if base >= len(h.revisions)-1 {
		return -1, nil
	}
	old, err := h.at(base)
	if err != nil {
		return -1, err
	}
	sc, err := newScope(h, old)
	if err != nil {
		return -1, err
	}
	for r := base + 1; r < len(h.revisions); r++ {
		now, err := h.at(r)
		if err != nil {
			return -1, err
		}
		diff := &comparison{h: h, scope: sc, old: sc.f, now: now, revision: r, widgets: map[pdf.Ref]string{}}
		if err := diff.compare(); err != nil {
			return -1, err
		}
		h.changes[r] = tidy(diff.changes)
		if diff.content {
			return r, nil
		}
		if err := sc.advance(now, diff); err != nil {
			return -1, err
		}
	}
	return -1, nil
}

// tidy puts changes in an order that does not depend on that of dictionaries, without repetition.
func tidy(list []change) []change {
	slices.SortFunc(list, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.text, b.text), cmp.Compare(a.field, b.field))
	})
	return slices.Compact(list)
}

// nextSigned returns the oldest revision from r on that a signature ends with, -1 when there is none.
func (h *history) nextSigned(r int) int {
	next := -1
	for i := range h.signatures {
		if s := h.signatures[i].Revision; s >= r && (next < 0 || s < next) {
			next = s
		}
	}
	return next
}

func (h *history) at(r int) (*pdf.File, error) {
	if h.files[r] == nil {
		f, err := h.file.At(r)
		if err != nil {
			return nil, fmt.Errorf("pades: revision %d: %w", r+1, err)
		}
		h.files[r] = f
	}
	return h.files[r], nil
}

// visit charges one object to the budget.
func (h *history) visit() error {
	if h.visits++; h.visits > maxVisits {
		return fault.New(fault.TooLarge, fmt.Sprintf("the document's revisions have more than %d objects to compare", maxVisits))
	}
	return nil
}

// comparison is of one revision with the one before it.
type comparison struct {
	h           *history
	scope       *scope
	old, now    *pdf.File
	revision    int
	changes     []change
	content     bool               // one of the changes is never allowed
	widgets     map[pdf.Ref]string // new ones, with the field's name: Annots may get them
	placed      map[pdf.Ref]bool   // those of widgets that were found in an Annots array
	touched     []pdf.Ref          // pivots and soft objects that changed
	filled      map[*field]bool    // fields whose value changed
	redrawn     map[*field]string  // fields whose appearance changed, with what to say of it
	pages       map[pdf.Ref]int    // index of each page, once asked for
	appearances map[pdf.Name]bool  // resources that default appearances of fields name, once asked for
	told        int                // changes of content that were named
}

// maxTold is how many changes of content of one revision are named.
const maxTold = 32

func (c *comparison) allow(kind, format string, args ...any) {
	c.changes = append(c.changes, change{kind: kind, text: fmt.Sprintf(format, args...)})
}

// forbid records a change of what was signed.
func (c *comparison) forbid(format string, args ...any) {
	c.content = true
	if c.told++; c.told > maxTold {
		return
	}
	c.changes = append(c.changes, change{kind: ChangeContent, text: fmt.Sprintf(format, args...)})
}

// compare fills changes. Its error is of reading, not of what was found.
func (c *comparison) compare() error {
	c.filled, c.redrawn, c.placed = map[*field]bool{}, map[*field]string{}, map[pdf.Ref]bool{}
	c.compareTrailers()
	c.compareForms()
	var byRole [roleCount][]pdf.Ref
	for _, ref := range c.h.revisions[c.revision].Objects {
		if err := c.h.visit(); err != nil {
			return err
		}
		before, err := c.old.Get(ref)
		if err != nil {
			return err
		}
		after, err := c.now.Get(ref)
		if err != nil {
			return err
		}
		if equal(before, after) {
			continue
		}
		role, isPivot := c.scope.pivots[ref]
		switch {
		case c.scope.strict[ref]:
			c.forbid("%s was %s", describe(ref, before), verb(before, after))
		case c.scope.isOther(ref):
			// Readers that leave the generation number out of account take it for the one that was there, or was missing.
			c.forbid("object %d was defined with another generation number", ref.Num)
		case isPivot:
			byRole[role] = append(byRole[role], ref)
			c.touched = append(c.touched, ref)
		default:
			c.compareSoft(ref, after)
		}
		if c.scope.fieldArrays[ref] { // which may be one with an array of annotations
			byRole[roleFields] = append(byRole[roleFields], ref)
		}
		if _, found := c.scope.annotArrays[ref]; found {
			byRole[roleAnnots] = append(byRole[roleAnnots], ref)
		}
	}
	return c.comparePivots(&byRole)
}

// comparePivots applies the rule of each role: fields before the pages that show them.
func (c *comparison) comparePivots(byRole *[roleCount][]pdf.Ref) error {
	rules := [roleCount]func(ref pdf.Ref, before, after pdf.Object) error{
		roleCatalog: c.compareCatalog, roleForm: c.compareForm, roleFields: c.compareFields, roleField: c.compareField,
		rolePage: c.comparePage, roleAnnots: c.compareAnnots, roleInfo: c.compareInfo,
	}
	for role, refs := range byRole {
		for _, ref := range refs {
			before, err := c.old.Get(ref)
			if err != nil {
				return err
			}
			after, err := c.now.Get(ref)
			if err != nil {
				return err
			}
			if err := rules[role](ref, before, after); err != nil {
				return err
			}
		}
	}
	for fl, text := range c.redrawn {
		if !c.filled[fl] {
			c.forbid("%s, though not its value", text)
		}
	}
	return nil
}

// volatile are the keys of a trailer that say how the file is written, not what it is (ISO 32000-2 §7.5.5, §7.5.8.2).
var volatile = map[pdf.Name]bool{"Size": true, "Prev": true, "XRefStm": true, "Type": true, "Index": true, "W": true, "Length": true,
	"Filter": true, "DecodeParms": true, "DL": true}

func (c *comparison) compareTrailers() {
	before, after := c.old.Trailer(), c.now.Trailer()
	for key := range merged(before, after) {
		b, a := before[key], after[key]
		switch {
		case volatile[key] || equal(b, a):
		case key == "ID":
			// ISO 32000-2 §14.4: the first half is the document's for ever, the second half changes with each update.
			old, _ := b.(pdf.Array)
			id, _ := a.(pdf.Array)
			if len(id) != 2 || len(old) == 2 && !equal(old[0], id[0]) {
				c.forbid("the file identifier was changed")
			}
		case key == "Info":
			c.compareResolved(b, a, c.compareInfo)
		default:
			c.forbid("entry %s of the trailer was %s", key, verb(b, a))
		}
	}
}

// compareResolved applies a rule to two values that need not be the same object. The rules' reading errors make it a change of content.
func (c *comparison) compareResolved(b, a pdf.Object, rule func(pdf.Ref, pdf.Object, pdf.Object) error) {
	before, err := c.old.Resolve(b)
	if err == nil {
		var after pdf.Object
		if after, err = c.now.Resolve(a); err == nil {
			err = rule(pdf.Ref{}, before, after)
		}
	}
	if err != nil {
		c.forbid("an entry cannot be read any more: %v", err)
	}
}

func (c *comparison) compareInfo(_ pdf.Ref, b, a pdf.Object) error {
	before, _ := b.(pdf.Dict)
	after, ok := a.(pdf.Dict)
	if !ok {
		c.forbid("the document information was removed")
		return nil
	}
	for key := range merged(before, after) {
		if equal(before[key], after[key]) {
			continue
		}
		// Writers of updates set these two. The others (title, author …) are the author's words.
		if key != "ModDate" && key != "Producer" {
			c.forbid("entry %s of the document information was %s", key, verb(before[key], after[key]))
			continue
		}
		if _, text := after[key].(pdf.String); !text {
			c.forbid("entry %s of the document information is no text any more", key)
		}
	}
	c.allow(ChangeMetadata, "modification date and producer")
	return nil
}

// compareSoft judges a changed object that only whitelisted places reach, or nothing.
func (c *comparison) compareSoft(ref pdf.Ref, after pdf.Object) {
	use, reached := c.scope.soft[ref]
	if !reached {
		return
	}
	c.touched = append(c.touched, ref)
	switch use.kind {
	case softValidation:
		c.allow(ChangeValidationData, "validation data was added")
	case softMetadata:
		if !isMetadata(after) {
			c.forbid("the XMP metadata became something else")
			return
		}
		c.allow(ChangeMetadata, "XMP metadata")
	case softValue:
		c.fill(use.field, nil)
	case softAppearance:
		c.redrawn[use.field] = fmt.Sprintf("the appearance of the form field %q was changed", use.field.name)
	}
}

func isMetadata(o pdf.Object) bool {
	s, ok := o.(*pdf.Stream)
	return ok && s.Dict["Type"] == pdf.Name("Metadata") && s.Dict["Subtype"] == pdf.Name("XML")
}

// compareForms judges how the revision is written. Readers that cannot follow its tables search the file for objects, and then find others.
func (c *comparison) compareForms() {
	if c.h.revisions[c.revision].Trailer["XRefStm"] != nil {
		c.forbid("a hybrid cross-reference section was added, which readers follow in two ways")
	}
	strays, err := c.h.file.Strays(c.revision)
	if err != nil {
		c.forbid("the update cannot be searched for hidden objects: %v", err)
	}
	for _, stray := range strays {
		c.forbid("byte %d belongs to nothing that the update lists: %s", stray.Offset, stray.Text)
	}
}
