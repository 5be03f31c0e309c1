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

func (doc document) example() string { return doc.write("", nil, nil) }

// write returns the documented file, after first, of the keys that shown accepts (nil: all), with those set that have a value.
func (doc document) write(first string, shown func(key) bool, values map[ref]any) string {
	var b strings.Builder
	b.WriteString(first + doc.title + "# A key that is commented out has the value shown, except those marked \"Must be set\".\n")
	section := ""
	for _, k := range doc.keys {
		if shown != nil && !shown(k) {
			continue
		}
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
		value, mark := k.fallback, "#"
		if k.mandatory() {
			comment(&b, k.doc+" Must be set.")
			value = k.example
		} else if value == "" {
			comment(&b, k.doc+" For instance "+literal(k.example)+".")
		} else {
			comment(&b, k.doc)
		}
		if given, set := values[k.ref()]; set {
			value, mark = given, ""
		}
		fmt.Fprintf(&b, "%s%s = %s\n", mark, k.name, literal(value))
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
		return quote(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	}
	panic(fmt.Sprintf("config: a value of type %T in the table of keys", v))
}

// quote writes a basic string of TOML 1.0.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
