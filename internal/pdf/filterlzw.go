package pdf

// Codes of LZWDecode (§7.4.4.2).
const (
	lzwClear = 256
	lzwEOD   = 257
	lzwFirst = 258
	lzwMax   = 4096
)

// unLZW removes LZWDecode. early: the code length grows one code earlier than it must (EarlyChange 1, the default).
func unLZW(data []byte, early bool, limit int64) ([]byte, error) {
	// Table entry i is the byte last[i] after entry prefix[i]: length[i] bytes that begin with first[i].
	var prefix, length [lzwMax]uint16
	var first, last [lzwMax]byte
	for i := range 256 {
		first[i], last[i], length[i] = byte(i), byte(i), 1
	}
	lead := 0
	if early {
		lead = 1
	}
	var out []byte
	next, width, prev := lzwFirst, 9, -1
	acc, bits := uint32(0), 0
	for _, b := range data {
		acc, bits = acc<<8|uint32(b), bits+8
		if bits < width {
			continue
		}
		bits -= width
		code := int(acc >> bits & (1<<width - 1))
		switch {
		case code == lzwClear:
			next, width, prev = lzwFirst, 9, -1
			continue
		case code == lzwEOD:
			return out, nil
		case code > next, code == next && (prev < 0 || next == lzwMax), prev < 0 && code > 255:
			return nil, invalid("code %d before its time", code)
		}
		if prev >= 0 && next < lzwMax {
			prefix[next], length[next], first[next] = uint16(prev), length[prev]+1, first[prev]
			if last[next] = first[prev]; code != next {
				last[next] = first[code]
			}
			next++
		}
		n := int(length[code])
		if int64(len(out)+n) > limit {
			return nil, tooLarge("it decodes to more than %d bytes", limit)
		}
		at := len(out)
		out = append(out, make([]byte, n)...)
		for c, i := code, at+n-1; i >= at; i-- {
			out[i] = last[c]
			c = int(prefix[c])
		}
		prev = code
		if next+lead >= 1<<width && width < 12 {
			width++
		}
	}
	return nil, invalid("the end mark is missing")
}
