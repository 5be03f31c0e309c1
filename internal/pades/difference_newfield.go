package pades

import (
	"fmt"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// newFieldKeys are what a new signature field and its widget may hold (ISO 32000-2 tables 166, 168, 191, 226, 233). There are no actions among them.
var newFieldKeys = map[pdf.Name]bool{"Type": true, "Subtype": true, "FT": true, "T": true, "TU": true, "TM": true, "F": true, "Ff": true,
	"Rect": true, "P": true, "V": true, "AP": true, "AS": true, "MK": true, "DA": true, "Q": true, "BS": true, "Border": true, "Lock": true,
	"SV": true, "Parent": true, "Kids": true, "M": true, "NM": true, "H": true, "StructParent": true, "Contents": true}

// newField judges a field that a revision added: only a signature or time stamp that this very revision carries, or an empty signature
// field that shows nothing.
func (c *comparison) newField(ref pdf.Ref) error {
	value, err := c.now.Get(ref)
	if err != nil {
		return err
	}
	dict, ok := value.(pdf.Dict)
	if !ok || dict["FT"] != pdf.Name("Sig") {
		c.forbid("form field %v was added that is not for a signature", ref)
		return nil
	}
	full := newField(dict, c.parentOf(dict)).name
	for _, old := range c.scope.fields {
		if old.name == full { // ISO 32000-2 §12.7.4.2: they would be one field
			c.forbid("a second form field %q was added", full)
			return nil
		}
	}
	sig := c.signatureOf(ref)
	title := fmt.Sprintf("an empty signature field %q", fieldTitle(dict))
	kind := ChangeSignature
	switch {
	case dict["V"] != nil && sig == nil:
		c.forbid("a signature field %q was added whose signature does not cover this revision", fieldTitle(dict))
		return nil
	case sig != nil && isTimeStamp(sig):
		kind, title = ChangeTimeStamp, fmt.Sprintf("a document time stamp %q", sig.Field)
	case sig != nil:
		title = fmt.Sprintf("a signature %q", sig.Field)
	}
	placed, err := c.newWidgets(ref, dict, title, sig != nil)
	if err != nil {
		return err
	}
	if placed && kind == ChangeTimeStamp {
		c.forbid("%s was added, and is visible", title)
		return nil
	}
	if placed && sig == nil {
		c.forbid("%s was added, and shows something", title)
		return nil
	}
	text := title + " was added"
	if placed {
		text += " with a visible panel"
	}
	c.changes = append(c.changes, change{kind: kind, text: text, placed: placed})
	return nil
}

// parentOf returns the field that a new field says it is below, nil for one at the top.
func (c *comparison) parentOf(dict pdf.Dict) *field {
	ref, _ := dict["Parent"].(pdf.Ref)
	return c.scope.fields[ref]
}

// newWidgets judges the widgets of a new field: itself, or its Kids. It reports whether one is visible.
func (c *comparison) newWidgets(ref pdf.Ref, dict pdf.Dict, title string, signed bool) (bool, error) {
	if len(c.widgets) > MaxSignatures {
		c.forbid("more than %d fields were added", MaxSignatures)
		return false, nil
	}
	c.checkNewField(dict, title)
	kids, err := c.now.Resolve(dict["Kids"])
	if err != nil {
		return false, err
	}
	list, _ := kids.(pdf.Array)
	if len(list) == 0 {
		c.widgets[ref] = title
		return c.newWidget(dict, title, signed)
	}
	shown := false
	for _, one := range list {
		kid, ok := one.(pdf.Ref)
		if !ok || c.scope.fields[kid] != nil || c.scope.strict[kid] {
			c.forbid("%s was added with a widget that was there before", title)
			continue
		}
		value, err := c.now.Get(kid)
		if err != nil {
			return false, err
		}
		widget, ok := value.(pdf.Dict)
		if !ok || widget["Subtype"] != pdf.Name("Widget") || widget["Kids"] != nil || widget["T"] != nil {
			c.forbid("%s was added with other fields below it", title)
			continue
		}
		for _, key := range []pdf.Name{"FT", "Ff", "V", "DA", "Q"} {
			if widget[key] != nil {
				c.forbid("%s was added with a widget that has an entry %s of its own", title, key)
			}
		}
		c.checkNewField(widget, title)
		c.widgets[kid] = title
		visible, err := c.newWidget(widget, title, signed)
		if err != nil {
			return false, err
		}
		shown = shown || visible
	}
	return shown, nil
}

// newWidget judges one new widget and reports whether it shows anything. It must be one that every reader takes for the same.
func (c *comparison) newWidget(widget pdf.Dict, title string, signed bool) (bool, error) {
	if widget["Subtype"] != pdf.Name("Widget") {
		c.forbid("%s was added with an annotation that is no widget", title)
	}
	if flags, ok := widget["F"].(int64); widget["F"] != nil && (!ok || flags < 0 || flags > maxFlags) {
		c.forbid("%s was added with flags that readers take for different ones", title)
	}
	if _, ok := rectangle(c.now, widget["Rect"]); !ok {
		c.forbid("%s was added without a place", title)
	}
	appearance, err := c.now.Resolve(widget["AP"])
	if err != nil {
		return false, err
	}
	if _, ok := appearance.(pdf.Dict); widget["AP"] != nil && !ok {
		c.forbid("%s was added with an appearance that is missing", title)
	}
	// What a reader draws of its own accord where there is no appearance.
	for _, key := range []pdf.Name{"BS", "Border", "Contents"} {
		if widget[key] != nil && widget["AP"] == nil {
			c.forbid("%s was added with an entry %s", title, key)
		}
	}
	if signed {
		return shows(c.now, widget), nil
	}
	return visible(c.now, widget) || widget["AP"] != nil || widget["MK"] != nil, nil
}

func (c *comparison) checkNewField(dict pdf.Dict, title string) {
	for key := range dict {
		if !newFieldKeys[key] {
			c.forbid("%s was added with an entry %s", title, key)
		}
	}
}
