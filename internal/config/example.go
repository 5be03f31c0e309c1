package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Example returns a documented configuration file with every key, each commented out: those that have a value when absent show it, those
// that must be set show an example. Parse refuses it until the latter are set.
func Example() string { return appliance().example() }

// ReceiverExample is Example for the backup host's file, which LoadReceiver takes.
func ReceiverExample() string { return receiver().example() }

func (doc document) example() string {
	var b strings.Builder
	b.WriteString(doc.title + "# A key that is commented out has the value shown, except those marked \"Must be set\".\n")
	section := ""
	for _, k := range doc.keys {
		if k.section != section {
			section = k.section
			fmt.Fprintf(&b, "\n[%s]\n", section)
			for _, s := range doc.sections {
				if s.name == section {
					comment(&b, s.doc)
				}
			}
		}
		b.WriteString("\n")
		value := k.fallback
		if k.mandatory() {
			comment(&b, k.doc+" Must be set.")
			value = k.example
		} else if value == "" {
			comment(&b, k.doc+" For instance "+literal(k.example)+".")
		} else {
			comment(&b, k.doc)
		}
		fmt.Fprintf(&b, "#%s = %s\n", k.name, literal(value))
	}
	return b.String()
}

// comment writes text in lines of at most 100 characters.
func comment(b *strings.Builder, text string) {
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 100 {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// literal returns v, a string, an int64 or a bool, as TOML.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v) // the table holds printable ASCII, which Go and TOML quote alike
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	}
	panic(fmt.Sprintf("config: a value of type %T in the table of keys", v))
}
