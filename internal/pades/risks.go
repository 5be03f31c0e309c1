package pades

import (
	"fmt"
	"slices"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// Risk is something in a document that lets it show or do another thing than the pages a signer saw, without a byte being changed.
type Risk struct {
	Kind string `json:"kind"` // one of the Risk… constants
	Text string `json:"text"` // what and where, in words
}

// Kinds of Risk.
const (
	RiskJavaScript = "javascript" // code that runs in the viewer
	RiskAction     = "action"     // opening, a page, a field or an annotation starts something outside the document
	RiskLayer      = "layer"      // optional content, which is shown or not as the viewer is set
	RiskAttachment = "attachment" // a file within the file
	RiskMultimedia = "multimedia" // sound, film, 3D
	RiskForm       = "form"       // XFA, or fields that the viewer draws itself
)

// maxRisks and maxRiskVisits bound one survey. A document with more has been shown to be risky.
const (
	maxRisks      = 32
	maxRiskVisits = 1 << 20
)

// Risks returns what in the newest revision of f makes it unfit to be signed unseen, none for a document of plain pages. A document to be
// signed is refused for any of them; a signed one that has them is valid, with a warning.
//
// It looks where ISO 32000-2 lets such things be: catalog, name trees, form, pages and their annotations.
func Risks(f *pdf.File) ([]Risk, error) {
	s := &survey{f: f}
	catalog, _, err := f.Catalog()
	if err != nil {
		return nil, err
	}
	s.catalog(catalog)
	pages, err := f.Pages()
	if err != nil {
		return nil, err
	}
	for i, ref := range pages {
		if s.full() {
			break
		}
		s.page(s.dict(ref), fmt.Sprintf("page %d", i+1))
	}
	if s.err == nil && s.visits > maxRiskVisits {
		return nil, fault.New(fault.TooLarge, fmt.Sprintf("the document has more than %d annotations, fields and actions", maxRiskVisits))
	}
	return s.risks, s.err
}

type survey struct {
	f      *pdf.File
	risks  []Risk
	visits int
	err    error // the first; what follows finds nothing
}

func (s *survey) full() bool {
	return s.err != nil || len(s.risks) >= maxRisks || s.visits > maxRiskVisits
}

func (s *survey) add(kind, format string, args ...any) {
	r := Risk{kind, fmt.Sprintf(format, args...)}
	if len(s.risks) < maxRisks && !slices.Contains(s.risks, r) {
		s.risks = append(s.risks, r)
	}
}

func (s *survey) resolve(o pdf.Object) pdf.Object {
	if s.full() {
		return nil
	}
	s.visits++
	value, err := s.f.Resolve(o)
	if err != nil {
		s.err = err
		return nil
	}
	return value
}

func (s *survey) dict(o pdf.Object) pdf.Dict {
	switch value := s.resolve(o).(type) {
	case pdf.Dict:
		return value
	case *pdf.Stream:
		return value.Dict
	}
	return nil
}

func (s *survey) array(o pdf.Object) pdf.Array {
	list, _ := s.resolve(o).(pdf.Array)
	return list
}

func (s *survey) catalog(d pdf.Dict) {
	s.action(d["OpenAction"], "opening the document")
	s.actions(d["AA"], "the document")
	names := s.dict(d["Names"])
	if len(s.dict(names["JavaScript"])) > 0 {
		s.add(RiskJavaScript, "JavaScript runs when the document is opened")
	}
	if len(s.dict(names["EmbeddedFiles"])) > 0 || d["Collection"] != nil || d["AF"] != nil {
		s.add(RiskAttachment, "the document has a file attached to it")
	}
	s.layers(s.dict(d["OCProperties"]))
	form := s.dict(d["AcroForm"])
	if form["XFA"] != nil {
		s.add(RiskForm, "the document has an XFA form, which some viewers show instead of the pages")
	}
	if form["NeedAppearances"] == true {
		s.add(RiskForm, "viewers are told to draw the form's fields themselves")
	}
	s.fields(form["Fields"], 0)
}

func (s *survey) layers(d pdf.Dict) {
	if d == nil {
		return
	}
	config := s.dict(d["D"])
	switch {
	case len(s.array(config["OFF"])) > 0 || config["BaseState"] == pdf.Name("OFF"):
		s.add(RiskLayer, "the document has a hidden layer")
	case len(s.array(d["OCGs"])) > 0:
		s.add(RiskLayer, "the document has layers that can be hidden")
	}
}

func (s *survey) fields(o pdf.Object, depth int) {
	if depth > maxFieldDepth {
		return
	}
	for _, one := range s.array(o) {
		if s.full() {
			return
		}
		d := s.dict(one)
		s.actions(d["AA"], fmt.Sprintf("the form field %q", fieldTitle(d)))
		s.fields(d["Kids"], depth+1)
	}
}

func (s *survey) page(d pdf.Dict, where string) {
	s.actions(d["AA"], where)
	for _, one := range s.array(d["Annots"]) {
		if s.full() {
			return
		}
		annotation := s.dict(one)
		what := "an annotation on " + where
		switch subtype, _ := annotation["Subtype"].(pdf.Name); subtype {
		case "FileAttachment":
			s.add(RiskAttachment, "%s is a file attachment", what)
		case "Sound", "Movie", "Screen", "3D", "RichMedia":
			s.add(RiskMultimedia, "%s is of type %s", what, subtype)
		}
		if annotation["OC"] != nil {
			s.add(RiskLayer, "%s belongs to a layer that can be hidden", what)
		}
		s.action(annotation["A"], what)
		s.actions(annotation["AA"], what)
	}
}

// actions looks through an additional-actions dictionary (ISO 32000-2 §12.6.3).
func (s *survey) actions(o pdf.Object, where string) {
	for _, action := range s.dict(o) {
		s.action(action, where)
	}
}

// harmless are the types of action that stay within the pages, or only open a web page when asked to (ISO 32000-2 table 201).
var harmless = []pdf.Name{"GoTo", "Named", "URI", "Thread", "Trans"}

// action looks through an action and those that follow it. A destination is none.
func (s *survey) action(o pdf.Object, where string) {
	const mostInARow = 16
	for range mostInARow {
		d, ok := s.resolve(o).(pdf.Dict)
		if !ok {
			return
		}
		kind, named := d["S"].(pdf.Name)
		switch {
		case kind == "JavaScript" || d["JS"] != nil:
			s.add(RiskJavaScript, "%s runs JavaScript", where)
		case named && !slices.Contains(harmless, kind):
			s.add(RiskAction, "%s starts an action of type %s", where, kind)
		}
		if list := s.array(d["Next"]); len(list) > 0 {
			s.add(RiskAction, "%s starts several actions", where)
			return
		}
		o = d["Next"]
	}
	s.add(RiskAction, "%s starts many actions", where)
}
