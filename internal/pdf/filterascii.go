package pdf

// unASCIIHex removes ASCIIHexDecode (§7.4.2).
func unASCIIHex(data []byte) ([]byte, error) {
	out := make([]byte, 0, len(data)/2+1)
	high := -1
	for i, c := range data {
		v := unhex(c)
		switch {
		case c == '>':
			if high >= 0 {
				out = append(out, byte(high<<4))
			}
			return out, nil
		case v < 0 && isSpace(c):
		case v < 0:
			return nil, invalid("%q at byte %d", c, i)
		case high < 0:
			high = v
		default:
			out = append(out, byte(high<<4|v))
			high = -1
		}
	}
	return nil, invalid("the end mark > is missing")
}

// unASCII85 removes ASCII85Decode (§7.4.3).
func unASCII85(data []byte) ([]byte, error) {
	out := make([]byte, 0, len(data)*4/5+4)
	var group uint64
	n := 0
	for i, c := range data {
		switch {
		case isSpace(c):
		case c == 'z' && n == 0:
			out = append(out, 0, 0, 0, 0)
		case c >= '!' && c <= 'u':
			group = group*85 + uint64(c-'!')
			if n++; n < 5 {
				continue
			}
			if group > 1<<32-1 {
				return nil, invalid("a group before byte %d is out of range", i+1)
			}
			out = append(out, byte(group>>24), byte(group>>16), byte(group>>8), byte(group))
			group, n = 0, 0
		case c == '~':
			if i+1 >= len(data) || data[i+1] != '>' {
				return nil, invalid("the end mark ~> is missing")
			}
			return endASCII85(out, group, n)
		default:
			return nil, invalid("%q at byte %d", c, i)
		}
	}
	return nil, invalid("the end mark ~> is missing")
}

// endASCII85 writes the last group of n < 5 characters, which stand for n-1 bytes.
func endASCII85(out []byte, group uint64, n int) ([]byte, error) {
	if n == 0 {
		return out, nil
	}
	if n == 1 {
		return nil, invalid("the last group has one character")
	}
	for i := n; i < 5; i++ {
		group = group*85 + 84
	}
	if group > 1<<32-1 {
		return nil, invalid("the last group is out of range")
	}
	last := [4]byte{byte(group >> 24), byte(group >> 16), byte(group >> 8), byte(group)}
	return append(out, last[:n-1]...), nil
}

// unRunLength removes RunLengthDecode (§7.4.5).
func unRunLength(data []byte, limit int64) ([]byte, error) {
	var out []byte
	for i := 0; i < len(data); {
		n := int(data[i])
		i++
		switch {
		case n == 128:
			return out, nil
		case n < 128:
			if i+n+1 > len(data) {
				return nil, invalid("a run at byte %d is cut off", i-1)
			}
			out = append(out, data[i:i+n+1]...)
			i += n + 1
		default:
			if i >= len(data) {
				return nil, invalid("a run at byte %d is cut off", i-1)
			}
			for range 257 - n {
				out = append(out, data[i])
			}
			i++
		}
		if int64(len(out)) > limit {
			return nil, tooLarge("it decodes to more than %d bytes", limit)
		}
	}
	return nil, invalid("the end mark is missing")
}
