package pdf

import "strconv"

// Object is a PDF object (ISO 32000-2 §7.3): nil, bool, int64, Real, Name, String, Array, Dict, *Stream or Ref. Objects that a File
// returns are shared with it: read them, never change them.
type Object any

// Real is a real number as it was written, so that writing it again changes nothing. An integer beyond 64 bits is one too.
type Real string

// Name is a name without its solidus and with #xx sequences decoded.
type Name string

// String is the bytes of a literal or hexadecimal string. Text has its encoding still on it: see Text.
type String []byte

// Array is an array object.
type Array []Object

// Dict is a dictionary. A key whose value is null is the same as no key (§7.3.7).
type Dict map[Name]Object

// Stream is a stream object: its dictionary and its bytes as they stand in the file, filters not removed (File.Decode does that).
type Stream struct {
	Dict Dict
	Raw  []byte
}

// Ref is an indirect reference, and the identity of an indirect object.
type Ref struct {
	Num uint32
	Gen uint16
}

// String returns "12 0", the way error messages name an object.
func (r Ref) String() string {
	return strconv.FormatUint(uint64(r.Num), 10) + " " + strconv.FormatUint(uint64(r.Gen), 10)
}
