package pades

import (
	"fmt"
	"slices"
	"strings"

	"github.com/veripath/aes-appliance/internal/pdf"
)

func (c *comparison) compareCatalog(_ pdf.Ref, b, a pdf.Object) error {
	before, _ := b.(pdf.Dict)
	after, _ := a.(pdf.Dict)
	for key := range merged(before, after) {
		old, now := before[key], after[key]
		if equal(old, now) {
			continue
		}
		switch key {
		case "DSS":
			c.compareResolved(old, now, c.compareDSS)
		case "Extensions":
			c.compareResolved(old, now, c.compareExtensions)
		case "Version":
			version, ok := now.(pdf.Name)
			if !ok || len(version) != 3 || version[1] != '.' {
				c.forbid("entry Version of the catalog is no version any more")
			}
		case "Metadata":
			c.compareResolved(old, now, c.compareMetadata)
		case "AcroForm":
			c.compareResolved(old, now, c.compareForm)
		default:
			c.forbid("entry %s of the catalog was %s", key, verb(old, now))
		}
	}
	return nil
}

// compareExtensions allows developer extensions to be declared: names of features, without effect of their own (ISO 32000-2 §7.12).
func (c *comparison) compareExtensions(_ pdf.Ref, _, a pdf.Object) error {
	extensions, ok := a.(pdf.Dict)
	if !ok {
		c.forbid("the developer extensions became something else")
		return nil
	}
	for prefix, value := range extensions {
		resolved, err := c.now.Resolve(value)
		if err != nil {
			return err
		}
		list, isArray := resolved.(pdf.Array) // one prefix can have several (PDF 2.0)
		if !isArray {
			list = pdf.Array{resolved}
		}
		for _, one := range list {
			if one, err = c.now.Resolve(one); err != nil {
				return err
			}
			d, isDict := one.(pdf.Dict)
			if one == pdf.Name("Extensions") && prefix == "Type" {
				continue
			}
			if !isDict || !onlySimple(d, "Type", "BaseVersion", "ExtensionLevel", "URL", "ExtensionRevision") {
				c.forbid("developer extension %s is not of the form that these have", prefix)
			}
		}
	}
	c.allow(ChangeValidationData, "developer extensions were declared")
	return nil
}

// onlySimple reports whether d has none but these entries, none of them of a kind that holds others.
func onlySimple(d pdf.Dict, keys ...pdf.Name) bool {
	for key, value := range d {
		switch value.(type) {
		case pdf.Name, pdf.String, int64:
		default:
			return false
		}
		if !slices.Contains(keys, key) {
			return false
		}
	}
	return true
}

// compareDSS allows any change within the form of a DSS dictionary (ISO 32000-2 table 261): it holds certificates and what was said of
// them, all signed by others, and taking some away cannot make a signature pass.
func (c *comparison) compareDSS(_ pdf.Ref, _, a pdf.Object) error {
	dss, ok := a.(pdf.Dict)
	if !ok {
		c.forbid("the document security store was removed")
		return nil
	}
	for key := range dss {
		if !slices.Contains([]pdf.Name{"Type", "Certs", "OCSPs", "CRLs", "VRI"}, key) {
			c.forbid("the document security store got an entry %s", key)
		}
	}
	c.allow(ChangeValidationData, "validation data was added")
	return nil
}

func (c *comparison) compareMetadata(_ pdf.Ref, _, a pdf.Object) error {
	if !isMetadata(a) {
		c.forbid("the XMP metadata was removed")
		return nil
	}
	c.allow(ChangeMetadata, "XMP metadata")
	return nil
}

// compareForm judges the AcroForm dictionary (ISO 32000-2 table 224).
func (c *comparison) compareForm(_ pdf.Ref, b, a pdf.Object) error {
	before, _ := b.(pdf.Dict)
	after, ok := a.(pdf.Dict)
	if !ok {
		c.forbid("the form was removed")
		return nil
	}
	for key := range merged(before, after) {
		old, now := before[key], after[key]
		if equal(old, now) {
			continue
		}
		switch key {
		case "Fields":
			c.compareResolved(old, now, c.compareFields)
		case "SigFlags":
			was, _ := old.(int64)
			is, ok := now.(int64)
			if !ok || was&^is != 0 || is&^was&^3 != 0 { // ISO 32000-2 table 225 has two flags, both set by signing
				c.forbid("entry SigFlags of the form was %s", verb(old, now))
			}
		case "NeedAppearances":
			if now != nil && now != false {
				c.forbid("viewers are told to draw the form's fields anew")
			}
		case "DR":
			c.compareResolved(old, now, c.compareResources)
		case "DA":
			if old != nil {
				c.forbid("entry DA of the form was %s", verb(old, now))
			}
			c.allow(ChangeForm, "the form got a default appearance")
		default:
			c.forbid("entry %s of the form was %s", key, verb(old, now))
		}
	}
	return nil
}

// compareResources allows fonts and the like to be added to those that fields are drawn with.
func (c *comparison) compareResources(_ pdf.Ref, b, a pdf.Object) error {
	before, _ := b.(pdf.Dict)
	after, _ := a.(pdf.Dict)
	for kind := range merged(before, after) {
		if equal(before[kind], after[kind]) {
			continue
		}
		if !slices.Contains([]pdf.Name{"Font", "Encoding", "XObject", "ProcSet"}, kind) {
			c.forbid("entry %s of the form's resources was %s", kind, verb(before[kind], after[kind]))
			continue
		}
		c.compareResolved(before[kind], after[kind], func(_ pdf.Ref, b, a pdf.Object) error {
			old, _ := b.(pdf.Dict)
			now, ok := a.(pdf.Dict)
			if !ok && kind != "ProcSet" {
				c.forbid("resource %s of the form was removed", kind)
			}
			for key, value := range old {
				if !equal(value, now[key]) {
					c.forbid("resource %s %s of the form was %s", kind, key, verb(value, now[key]))
				}
			}
			for key := range now {
				// A field without an appearance is drawn with the font that its DA names.
				if old[key] == nil && c.inUse(key) {
					c.forbid("resource %s %s was added to the form, which a field is drawn with", kind, key)
				}
			}
			return nil
		})
		c.allow(ChangeForm, "the form got resources of kind %s", kind)
	}
	return nil
}

// inUse reports whether a default appearance of a field that was there before names this resource.
func (c *comparison) inUse(name pdf.Name) bool {
	if c.appearances == nil {
		c.appearances = map[pdf.Name]bool{}
		for ref := range c.scope.fields {
			value, err := c.old.Get(ref)
			dict, _ := value.(pdf.Dict)
			if da, err2 := c.old.Resolve(dict["DA"]); err == nil && err2 == nil {
				text, _ := da.(pdf.String)
				for _, word := range strings.Fields(string(text)) {
					if used, ok := strings.CutPrefix(word, "/"); ok {
						c.appearances[pdf.Name(used)] = true
					}
				}
			}
		}
	}
	return c.appearances[name]
}

// compareFields judges an array of fields: the old ones in their order, and new signature fields among them.
func (c *comparison) compareFields(_ pdf.Ref, b, a pdf.Object) error {
	before, _ := b.(pdf.Array)
	after, ok := a.(pdf.Array)
	if !ok && a != nil {
		c.forbid("the array of form fields became something else")
		return nil
	}
	next := 0
	for _, one := range after {
		if next < len(before) && equal(before[next], one) {
			next++
			continue
		}
		ref, ok := one.(pdf.Ref)
		if !ok || c.scope.fields[ref] != nil {
			c.forbid("the form fields were put in another order, or one twice")
			continue
		}
		if err := c.newField(ref); err != nil {
			return err
		}
	}
	if next < len(before) {
		c.forbid("a form field was removed")
	}
	return nil
}

// signatureOf returns the signature that the field holds, if its ByteRange ends with the revision that is compared.
func (c *comparison) signatureOf(ref pdf.Ref) *pdf.Signature {
	for i := range c.h.signatures {
		if s := &c.h.signatures[i]; s.FieldRef == ref && s.Revision == c.revision && s.Problem == nil {
			return s
		}
	}
	return nil
}

// compareField judges a field, or a widget of one, that was there before.
func (c *comparison) compareField(ref pdf.Ref, b, a pdf.Object) error {
	fl := c.scope.fields[ref]
	before, _ := b.(pdf.Dict)
	after, ok := a.(pdf.Dict)
	if !ok {
		c.forbid("the form field %q was removed", fl.name)
		return nil
	}
	signs := fl.kind == "Sig" && before["V"] == nil && after["V"] != nil
	for key := range merged(before, after) {
		old, now := before[key], after[key]
		switch {
		case equal(old, now):
		case key == "Kids":
			if err := c.compareKids(fl, old, now); err != nil {
				return err
			}
		case signs && (key == "V" || key == "AP" || key == "AS" || key == "M" && isText(now)):
		case fl.kind == "Sig" || fl.kind == "":
			c.forbid("entry %s of the form field %q was %s", key, fl.name, verb(old, now))
		case key == "V" || key == "RV" || key == "I":
			c.fill(fl.owner, after["V"])
		case key == "AP" || key == "AS":
			c.redrawn[fl.owner] = fmt.Sprintf("the appearance of the form field %q was %s", fl.name, verb(old, now))
		case key == "M" && isText(now):
		default:
			c.forbid("entry %s of the form field %q was %s", key, fl.name, verb(old, now))
		}
	}
	if !signs {
		return nil
	}
	sig := c.signatureOf(ref)
	switch {
	case sig == nil:
		c.forbid("the empty signature field %q got a signature that does not cover this revision", fl.name)
	case isTimeStamp(sig) && shows(c.now, after):
		c.forbid("the empty signature field %q got a document time stamp that is visible", fl.name)
	case isTimeStamp(sig):
		c.changes = append(c.changes, change{kind: ChangeTimeStamp, text: fmt.Sprintf("a document time stamp was put in the field %q", fl.name)})
	default:
		c.changes = append(c.changes, change{kind: ChangeSignature, field: fl.name, text: fmt.Sprintf("the empty field %q was signed", fl.name)})
	}
	return nil
}

func isText(o pdf.Object) bool {
	_, ok := o.(pdf.String)
	return ok
}

// compareKids judges the Kids of a field: those of a terminal field are its widgets and stay.
func (c *comparison) compareKids(fl *field, old, now pdf.Object) error {
	if fl.kind != "" {
		c.forbid("the widgets of the form field %q were %s", fl.name, verb(old, now))
		return nil
	}
	c.compareResolved(old, now, c.compareFields)
	return nil
}

// fill records a new value of a field.
func (c *comparison) fill(fl *field, value pdf.Object) {
	if c.filled[fl] {
		return
	}
	c.filled[fl] = true
	what := "was filled in"
	if resolved, err := c.now.Resolve(value); err == nil {
		switch v := resolved.(type) {
		case pdf.String:
			what += fmt.Sprintf(" with %q", shorten(pdf.Text(v)))
		case pdf.Name:
			what += fmt.Sprintf(" with %q", shorten(string(v)))
		}
	}
	c.changes = append(c.changes, change{kind: ChangeFormFilled, field: fl.name, text: fmt.Sprintf("the form field %q %s", fl.name, what)})
}

func fieldTitle(dict pdf.Dict) string {
	t, _ := dict["T"].(pdf.String)
	return pdf.Text(t)
}

// isTimeStamp reports whether a signature dictionary is a document time stamp (ISO 32000-2 §12.8.5).
func isTimeStamp(s *pdf.Signature) bool { return s.SubFilter == "ETSI.RFC3161" }
