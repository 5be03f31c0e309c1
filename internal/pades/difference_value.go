package pades

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// equal reports whether two objects, as they stand, have the same value: references by their numbers, streams by their bytes.
func equal(a, b pdf.Object) bool {
	switch a := a.(type) {
	case pdf.Dict:
		b, ok := b.(pdf.Dict)
		return ok && equalDicts(a, b)
	case *pdf.Stream:
		b, ok := b.(*pdf.Stream)
		return ok && equalDicts(a.Dict, b.Dict) && bytes.Equal(a.Raw, b.Raw)
	case pdf.Array:
		b, ok := b.(pdf.Array)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case pdf.String:
		b, ok := b.(pdf.String)
		return ok && bytes.Equal(a, b)
	case int64, pdf.Real:
		if _, whole := b.(int64); whole && a != b {
			if _, whole = a.(int64); whole { // as integers: a float64 has not room for all of them
				return false
			}
		}
		if x, ok := number(a); ok {
			y, ok := number(b)
			return ok && x == y
		}
	}
	return a == b // what is left of a is comparable
}

// equalDicts compares entries; one whose value is null is the same as none (ISO 32000-2 §7.3.7).
func equalDicts(a, b pdf.Dict) bool {
	for key, value := range a {
		if !equal(value, b[key]) {
			return false
		}
	}
	for key, value := range b {
		if value != nil && a[key] == nil {
			return false
		}
	}
	return true
}

// merged returns the keys of both.
func merged(a, b pdf.Dict) map[pdf.Name]struct{} {
	keys := make(map[pdf.Name]struct{}, len(a)+len(b))
	for k := range a {
		keys[k] = struct{}{}
	}
	for k := range b {
		keys[k] = struct{}{}
	}
	return keys
}

// number returns the value of a numeric object.
func number(o pdf.Object) (float64, bool) {
	switch o := o.(type) {
	case int64:
		return float64(o), true
	case pdf.Real:
		x, err := strconv.ParseFloat(string(o), 64)
		return x, err == nil
	}
	return 0, false
}

// describe names an object for a person.
func describe(ref pdf.Ref, o pdf.Object) string {
	d, _ := o.(pdf.Dict)
	if s, ok := o.(*pdf.Stream); ok {
		d = s.Dict
	}
	for _, key := range []pdf.Name{"Type", "Subtype", "S"} {
		if n, ok := d[key].(pdf.Name); ok {
			return fmt.Sprintf("object %v (%s)", ref, n)
		}
	}
	switch o.(type) {
	case nil:
		return fmt.Sprintf("object %v (which the signed document refers to but did not have)", ref)
	case *pdf.Stream:
		return fmt.Sprintf("object %v (a content or data stream)", ref)
	}
	return fmt.Sprintf("object %v", ref)
}

// verb says what became of a value.
func verb(before, after pdf.Object) string {
	switch {
	case before == nil:
		return "added"
	case after == nil:
		return "removed"
	}
	return "changed"
}

func shorten(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
