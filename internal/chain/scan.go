package chain

import (
	"bytes"
	"fmt"
)

// The strict scanner: it accepts canonical JSON (RFC 8785) within the limits of the format and nothing else. Each function takes the input and the
// position of a construct and returns the position after it. That the input is valid UTF-8 has been checked before.

var literals = [...]string{"null", "true", "false"}

func scanError(i int, format string, args ...any) error {
	return fmt.Errorf("chain: byte %d: %s", i, fmt.Sprintf(format, args...))
}

func scanValue(b []byte, i, depth int) (int, error) {
	if i >= len(b) {
		return 0, scanError(i, "no value")
	}
	switch c := b[i]; {
	case c == '"':
		return scanString(b, i)
	case c == '{' || c == '[':
		if depth >= MaxDepth {
			return 0, scanError(i, "more than %d levels of nesting", MaxDepth)
		}
		if c == '{' {
			return scanObject(b, i, depth+1)
		}
		return scanArray(b, i, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		return scanInteger(b, i)
	}
	for _, word := range literals {
		if bytes.HasPrefix(b[i:], []byte(word)) {
			return i + len(word), nil
		}
	}
	return 0, scanError(i, "no JSON value in canonical form")
}

func scanArray(b []byte, i, depth int) (int, error) {
	i++
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		var err error
		if i, err = scanValue(b, i, depth); err != nil {
			return 0, err
		}
		switch {
		case i < len(b) && b[i] == ',':
			i++
		case i < len(b) && b[i] == ']':
			return i + 1, nil
		default:
			return 0, scanError(i, "no comma or bracket after an array element")
		}
	}
}

func scanObject(b []byte, i, depth int) (int, error) {
	i++
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	var last []byte
	for {
		end, err := scanKey(b, i)
		if err != nil {
			return 0, err
		}
		key := b[i+1 : end-1]
		if bytes.Compare(last, key) >= 0 { // no key is empty
			return 0, scanError(i, "key %q after key %q: not in ascending order", key, last)
		}
		last = key
		if end >= len(b) || b[end] != ':' {
			return 0, scanError(end, "no colon after a key")
		}
		if i, err = scanValue(b, end+1, depth); err != nil {
			return 0, err
		}
		switch {
		case i < len(b) && b[i] == ',':
			i++
		case i < len(b) && b[i] == '}':
			return i + 1, nil
		default:
			return 0, scanError(i, "no comma or brace after an object member")
		}
	}
}

func scanKey(b []byte, i int) (int, error) {
	if i >= len(b) || b[i] != '"' {
		return 0, scanError(i, "no key where one is due")
	}
	for j := i + 1; j < len(b); j++ {
		c := b[j]
		if c == '"' {
			if j == i+1 || j > i+1+MaxKey {
				return 0, scanError(i, "a key of %d bytes, not 1 to %d", j-i-1, MaxKey)
			}
			return j + 1, nil
		}
		if c < 0x20 || c > 0x7e || c == '\\' {
			return 0, scanError(j, "%q in a key: not printable ASCII without \" and \\", c)
		}
	}
	return 0, scanError(i, "a key without end")
}

func scanString(b []byte, i int) (int, error) {
	for j := i + 1; j < len(b); j++ {
		c := b[j]
		switch {
		case c == '"':
			return j + 1, nil
		case c < 0x20:
			return 0, scanError(j, "control character %#02x in a string", c)
		case c == '\\':
			n := escapeLength(b[j:])
			if n == 0 {
				return 0, scanError(j, "an escape that the canonical form does not have")
			}
			j += n - 1
		}
	}
	return 0, scanError(i, "a string without end")
}

// escapeLength returns the length of the canonical escape that b begins with, 0 when there is none: \" \\ \b \t \n \f \r, and \u00xx in lower
// case for the other control characters.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', 'b', 't', 'n', 'f', 'r':
		return 2
	}
	if len(b) < 6 || string(b[1:4]) != "u00" || b[4] != '0' && b[4] != '1' {
		return 0
	}
	lo := bytes.IndexByte([]byte(hexDigits), b[5])
	if lo < 0 {
		return 0
	}
	if b[4] == '0' && (lo == '\b' || lo == '\t' || lo == '\n' || lo == '\f' || lo == '\r') {
		return 0
	}
	return 6
}

// scanInteger accepts what ECMAScript writes for a whole number within ±MaxInteger: no sign but a minus, no leading zero, no -0, no fraction, no
// exponent.
func scanInteger(b []byte, i int) (int, error) {
	j := i
	if b[j] == '-' {
		j++
	}
	digits := j
	var v uint64
	for j < len(b) && b[j] >= '0' && b[j] <= '9' {
		if v = v*10 + uint64(b[j]-'0'); v > MaxInteger {
			return 0, scanError(i, "a number beyond ±%d", uint64(MaxInteger))
		}
		j++
	}
	if j == digits {
		return 0, scanError(i, "a minus without a number")
	}
	if b[digits] == '0' && (j > digits+1 || digits > i) {
		return 0, scanError(i, "a leading zero or minus zero")
	}
	if j < len(b) && (b[j] == '.' || b[j] == 'e' || b[j] == 'E') {
		return 0, scanError(i, "a number that is not written as an integer")
	}
	return j, nil
}
