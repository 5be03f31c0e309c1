package statement

import (
	"fmt"
	"io"
	"text/template"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Fill writes a template with the values in it. Errors: Invalid, with the template's line, for one that is no template or names what there is not.
func Fill(w io.Writer, name, text string, v Values) error {
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err == nil {
		err = t.Execute(w, v)
	}
	if err != nil {
		return fault.New(fault.Invalid, fmt.Sprintf("%s cannot be filled in", name)).WithCause(err).
			WithHint("begin with a copy of /usr/share/doc/aes-appliance/cps.md or tsa-policy.md: " + err.Error())
	}
	return nil
}
