package pdf

import (
	"fmt"
	"slices"
	"strconv"
)

// appendObject appends o as PDF syntax: dictionary keys in order of their bytes, so that equal objects are equal bytes. Parsing it
// again gives an equal object. Stream lengths are the caller's: s.Dict["Length"] must be right.
func appendObject(b []byte, o Object) []byte {
	switch v := o.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case float64:
		return strconv.AppendFloat(b, v, 'f', -1, 64)
	case Real:
		return append(b, v...)
	case Name:
		return appendName(b, v)
	case String:
		return appendString(b, v)
	case Ref:
		return appendRef(b, v)
	case Array:
		return appendArray(b, v)
	case Dict:
		return appendDict(b, v)
	case *Stream:
		b = appendDict(b, v.Dict)
		b = append(b, "\nstream\n"...)
		b = append(b, v.Raw...)
		return append(b, "\nendstream"...)
	}
	panic(fmt.Sprintf("pdf: %T is not an object", o))
}

func appendRef(b []byte, r Ref) []byte {
	b = strconv.AppendUint(b, uint64(r.Num), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(r.Gen), 10)
	return append(b, " R"...)
}

func appendArray(b []byte, a Array) []byte {
	b = append(b, '[')
	for i, o := range a {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendObject(b, o)
	}
	return append(b, ']')
}

func appendDict(b []byte, d Dict) []byte {
	var room [24]Name
	keys := room[:0]
	for k := range d {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, "<<"...)
	for _, k := range keys {
		b = append(b, ' ')
		b = appendName(b, k)
		b = append(b, ' ')
		b = appendObject(b, d[k])
	}
	return append(b, " >>"...)
}

const hexDigits = "0123456789abcdef"

// appendName writes a name; whatever is not a plain printable character becomes #xx (§7.3.5).
func appendName(b []byte, n Name) []byte {
	b = append(b, '/')
	for i := range len(n) {
		c := n[i]
		if c <= ' ' || c > '~' || c == '#' || isDelim(c) {
			b = append(b, '#', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		b = append(b, c)
	}
	return b
}

// appendString writes printable ASCII as a literal string and anything else in hexadecimal, so that no byte in a string can be taken for
// an end-of-line marker or for syntax.
func appendString(b []byte, s String) []byte {
	for _, c := range s {
		if c < ' ' || c > '~' {
			b = append(b, '<')
			b = appendHex(b, s)
			return append(b, '>')
		}
	}
	b = append(b, '(')
	for _, c := range s {
		if c == '(' || c == ')' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, ')')
}

func appendHex(b, s []byte) []byte {
	for _, c := range s {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

func itoa(n int) string { return strconv.Itoa(n) }
