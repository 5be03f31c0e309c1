package pades

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// Further kinds of Risk, which Objections finds in a document that is to be signed.
const (
	RiskAnnotation   = "annotation"          // something that lies over a page and can be shown, hidden or changed apart from it
	RiskExternal     = "external_reference"  // what is shown is partly in another file
	RiskUnreferenced = "unreferenced_object" // an object that nothing shows: a later update can bring it up
	RiskRevision     = "earlier_revision"    // the file holds an older state of the document, or two states for different readers
	RiskOutside      = "bytes_outside"       // bytes before the header or after the end, which belong to no document
)

// Acceptable returns an error, of kind fault.Invalid or what pdf.File.Check gives for a broken document, unless f is a document of plain pages that can be signed unseen: one whose later
// appearance nobody has prepared. The error's text names every objection (at most 32) with its reason.
//
// Refused are JavaScript, every action (also links to the web and jumps), XFA and every form field, embedded files, streams and
// XObjects that lie in other files, optional content, alternate images, PostScript, annotations other than links within the document,
// pages outside the page tree, objects that nothing refers to, linearization, hybrid and earlier revisions, and bytes outside header and
// EOF. Fonts that are not embedded are no objection: which of them a viewer has, it shows to everyone alike.
func Acceptable(f *pdf.File) error {
	risks, err := Objections(f)
	if err != nil {
		return err
	}
	if len(risks) == 0 {
		return nil
	}
	texts := make([]string, len(risks))
	for i, r := range risks {
		texts[i] = r.Text
	}
	return fault.New(fault.Invalid, "the document cannot be signed: "+strings.Join(texts, "; ")).
		WithHint("print it to a new PDF without links, forms, layers and attachments, or let the appliance render the prescription")
}

// Objections returns what Acceptable refuses f for, none for a document that can be signed. An error means that f is broken; a stream whose data
// lies in another file is.
func Objections(f *pdf.File) ([]Risk, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	risks, err := Risks(f)
	if err != nil {
		return nil, err
	}
	in := &inspection{survey: survey{f: f, risks: risks}, pages: map[pdf.Ref]bool{}, seen: map[visit]bool{}, reached: map[pdf.Ref]bool{}}
	in.container()
	if err := in.content(); err != nil {
		return nil, err
	}
	return in.risks, nil
}

// inspection is one call of Objections.
type inspection struct {
	survey
	pages   map[pdf.Ref]bool // those of the page tree
	queue   []visit
	seen    map[visit]bool
	reached map[pdf.Ref]bool
}

// visit is an object and how it is read there: one object can be reached as several things, and viewers take it for each.
type visit struct {
	ref     pdf.Ref
	reading reading
}

// reading says whether the keys of a dictionary mean something, or are names that a writer chose.
type reading uint8

const (
	asItem      reading = iota // its keys are the standard's
	asResources                // its keys are kinds of resource, its values have names for keys
	asNames                    // its keys are names
)

// container objects to the file around the document.
func (in *inspection) container() {
	data := in.f.Bytes()
	if !bytes.HasPrefix(data, []byte("%PDF-")) {
		in.add(RiskOutside, "bytes stand before the header")
	}
	end := bytes.LastIndex(data, []byte("%%EOF"))
	// ISO 32000-2 §7.5.5: %%EOF is the last line.
	if rest := string(data[end+len("%%EOF"):]); rest != "" && rest != "\n" && rest != "\r" && rest != "\r\n" {
		in.add(RiskOutside, "%d bytes stand after the end of the document", len(rest))
	}
	if n := len(in.f.Revisions()); n > 1 {
		in.add(RiskRevision, "the file holds %d revisions of the document", n)
	}
	if in.f.Trailer()["XRefStm"] != nil {
		in.add(RiskRevision, "older and newer readers find different objects in the file (hybrid cross-reference)")
	}
}

// content objects to what the document holds.
func (in *inspection) content() error {
	catalog, _, err := in.f.Catalog()
	if err != nil {
		return err
	}
	pages, err := in.f.Pages()
	if err != nil {
		return err
	}
	for i, ref := range pages {
		in.pages[ref] = true
		in.annotations(in.dict(ref), i+1)
	}
	if len(in.array(in.dict(catalog["AcroForm"])["Fields"])) > 0 {
		in.add(RiskForm, "the document has form fields, which can be filled in after signing")
	}
	for _, name := range sortedKeys(in.dict(catalog["Names"])) {
		if !slices.Contains([]pdf.Name{"Dests", "JavaScript", "EmbeddedFiles"}, name) { // Risks names the latter two
			in.add(RiskAction, "the document has a name tree %s", name)
		}
	}
	if in.err != nil {
		return in.err
	}
	trailer := in.f.Trailer()
	for _, key := range []pdf.Name{"Root", "Info", "ID"} {
		in.walk(trailer[key], asItem)
	}
	for len(in.queue) > 0 && !in.full() {
		v := in.queue[len(in.queue)-1]
		in.queue = in.queue[:len(in.queue)-1]
		object, err := in.f.Get(v.ref)
		if err != nil {
			return err
		}
		in.object(v, object)
	}
	switch {
	case !in.full():
		return in.unreferenced()
	case in.err == nil && len(in.risks) < maxRisks: // not looked through: never taken for good
		return fault.New(fault.TooLarge, fmt.Sprintf("the document has more than %d annotations, fields and actions", maxRiskVisits))
	}
	return in.err
}

// annotations objects to those of a page that are not links within the document.
func (in *inspection) annotations(page pdf.Dict, number int) {
	for _, one := range in.array(page["Annots"]) {
		d := in.dict(one)
		subtype, _ := d["Subtype"].(pdf.Name)
		if subtype != "Link" || d["AP"] != nil {
			in.add(RiskAnnotation, "page %d has an annotation of type %s, which can cover what is signed", number, orNone(subtype))
		}
	}
}

func orNone(n pdf.Name) string {
	if n == "" {
		return "none"
	}
	return string(n)
}

// object walks through an indirect object.
func (in *inspection) object(v visit, o pdf.Object) {
	where := fmt.Sprintf("object %s", v.ref)
	if d, ok := o.(pdf.Dict); ok && v.reading == asItem && d["Type"] == pdf.Name("Page") && !in.pages[v.ref] {
		in.add(RiskUnreferenced, "%s is a page that is not among the document's pages", where)
	}
	in.inside(o, v.reading, where)
}

// walk notes a reference, or walks through a direct object.
func (in *inspection) walk(o pdf.Object, r reading) {
	if ref, ok := o.(pdf.Ref); ok {
		v := visit{ref, r}
		if !in.seen[v] {
			in.seen[v], in.reached[ref] = true, true
			in.queue = append(in.queue, v)
		}
		return
	}
	in.inside(o, r, "a direct object")
}

// inside walks through the parts of an object.
func (in *inspection) inside(o pdf.Object, r reading, where string) {
	switch o := o.(type) {
	case pdf.Array:
		for _, one := range o {
			in.part(one, asItem, where)
		}
	case pdf.Dict:
		in.members(o, r, where)
	case *pdf.Stream:
		in.members(o.Dict, r, where)
	}
}

// part is walk for a part of where.
func (in *inspection) part(o pdf.Object, r reading, where string) {
	if _, ok := o.(pdf.Ref); ok {
		in.walk(o, r)
		return
	}
	in.inside(o, r, where)
}

func (in *inspection) members(d pdf.Dict, r reading, where string) {
	if r == asItem {
		in.judge(d, where)
	}
	for key, value := range d {
		next := asItem
		switch {
		case r == asResources:
			next = asNames
		case r == asItem && (key == "Resources" || key == "DR"):
			next = asResources
		case r == asItem && slices.Contains(mapped, key):
			next = asNames
		}
		in.part(value, next, where)
	}
}

// mapped are the keys, besides resources, whose values are dictionaries with names for keys (ISO 32000-2 §9.6.4, §8.6.6.5, §14.7.2, §12.3.2.4).
var mapped = []pdf.Name{"CharProcs", "Colorants", "RoleMap", "ClassMap", "Dests"}

// actionTypes are all of ISO 32000-2 table 201, and those of its extensions.
var actionTypes = []pdf.Name{
	"GoTo", "GoToR", "GoToE", "GoToDp", "Launch", "Thread", "URI", "Sound", "Movie", "Hide", "Named", "SubmitForm", "ResetForm", "ImportData",
	"SetOCGState", "Rendition", "Trans", "GoTo3DView", "JavaScript", "RichMediaExecute",
}

// judge objects to what a dictionary is, or has.
func (in *inspection) judge(d pdf.Dict, where string) {
	kind, _ := d["Type"].(pdf.Name)
	subtype, _ := d["Subtype"].(pdf.Name)
	action, _ := d["S"].(pdf.Name)
	// An element of the logical structure has a type of the writer's choice under the same key.
	isAction := kind == "Action" || kind != "StructElem" && slices.Contains(actionTypes, action)
	switch {
	case action == "JavaScript" || d["JS"] != nil:
		in.add(RiskJavaScript, "%s is JavaScript", where)
	case isAction:
		in.add(RiskAction, "%s is an action of type %s", where, orNone(action))
	}
	if d["AA"] != nil {
		in.add(RiskAction, "%s starts actions (AA)", where)
	}
	if d["EF"] != nil || d["AF"] != nil || kind == "EmbeddedFile" || kind == "Filespec" || kind == "F" {
		in.add(RiskAttachment, "%s is, names or has a file", where)
	}
	if d["OC"] != nil || d["OCProperties"] != nil || kind == "OCG" || kind == "OCMD" {
		in.add(RiskLayer, "%s is optional content, which is shown or not as the viewer is set", where)
	}
	if d["XFA"] != nil {
		in.add(RiskForm, "%s has an XFA form", where)
	}
	if d["OPI"] != nil || subtype == "Form" && d["Ref"] != nil {
		in.add(RiskExternal, "%s stands for something in another file", where)
	}
	if d["Alternates"] != nil {
		in.add(RiskExternal, "%s has alternate images, of which a viewer picks one", where)
	}
	if subtype == "PS" || d["Subtype2"] == pdf.Name("PS") || d["PS"] != nil && subtype == "Form" {
		in.add(RiskAction, "%s is PostScript, which printers run", where)
	}
}

// unreferenced objects to objects that the walk did not reach.
func (in *inspection) unreferenced() error {
	var first []string
	count, linearized := 0, false
	for _, ref := range in.f.Refs() {
		if in.reached[ref] {
			continue
		}
		o, err := in.f.Get(ref)
		if err != nil {
			return err
		}
		switch o := o.(type) {
		case *pdf.Stream:
			if t := o.Dict["Type"]; t == pdf.Name("XRef") || t == pdf.Name("ObjStm") {
				continue // of the file itself (§7.5.7, §7.5.8)
			}
		case pdf.Dict:
			if o["Linearized"] != nil {
				linearized = true
				continue
			}
		case nil:
			continue
		}
		if count++; len(first) < 5 {
			first = append(first, ref.String())
		}
	}
	switch {
	case linearized: // Annex F: its hint stream is reached by position only
		in.add(RiskUnreferenced, "the document is linearized (saved for fast web view), with %d objects that nothing refers to", count+1)
	case count > 0:
		in.add(RiskUnreferenced, "nothing refers to %d of its objects: %s", count, strings.Join(first, ", "))
	case in.f.Trailer()["Prev"] != nil && len(in.f.Revisions()) == 1:
		in.add(RiskRevision, "the file holds an earlier revision that was never closed")
	}
	return nil
}

func sortedKeys(d pdf.Dict) []pdf.Name {
	keys := make([]pdf.Name, 0, len(d))
	for key := range d {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
