package pdf

// unpredict removes a predictor (§7.4.4.4) from the output of FlateDecode or LZWDecode.
func (f *File) unpredict(parms Dict, data []byte) ([]byte, error) {
	var v [4]int64
	for i, p := range []struct {
		key      Name
		def, max int64
	}{{"Predictor", 1, 15}, {"Colors", 1, 256}, {"BitsPerComponent", 8, 16}, {"Columns", 1, 1 << 30}} {
		n, err := f.resolveInt(parms[p.key], "/"+string(p.key), p.def)
		if err != nil {
			return nil, err
		}
		if n < 1 || n > p.max {
			return nil, invalid("/%s is %d", p.key, n)
		}
		v[i] = n
	}
	predictor, colors, bits, columns := v[0], v[1], v[2], v[3]
	if bits&(bits-1) != 0 {
		return nil, invalid("/BitsPerComponent is %d", bits)
	}
	pixel := max(1, int(colors*bits/8))
	row := (colors*bits*columns + 7) / 8
	switch {
	case predictor == 1:
		return data, nil
	case predictor == 2:
		if int64(len(data))%row != 0 {
			return nil, invalid("the data ends within a row of %d bytes", row)
		}
		return untiff(data, int(row), int(colors), int(bits)), nil
	case predictor >= 10:
		if int64(len(data))%(row+1) != 0 {
			return nil, invalid("the data ends within a row of %d bytes", row+1)
		}
		return unpng(data, int(row), pixel)
	}
	return nil, invalid("/Predictor is %d", predictor)
}

// unpng removes PNG prediction: each row begins with a byte that names its filter, whatever Predictor says (RFC 2083 §6).
func unpng(data []byte, row, pixel int) ([]byte, error) {
	if len(data) == 0 {
		return nil, nil
	}
	out := make([]byte, 0, len(data)/(row+1)*row)
	above := make([]byte, row)
	for len(data) > 0 {
		tag, in := data[0], data[1:row+1]
		data = data[row+1:]
		at := len(out)
		out = append(out, in...)
		cur := out[at:]
		switch tag {
		case 0:
		case 1:
			for i := pixel; i < row; i++ {
				cur[i] += cur[i-pixel]
			}
		case 2:
			for i := range cur {
				cur[i] += above[i]
			}
		case 3:
			for i := range cur {
				left := 0
				if i >= pixel {
					left = int(cur[i-pixel])
				}
				cur[i] += byte((left + int(above[i])) / 2)
			}
		case 4:
			for i := range cur {
				var left, corner int
				if i >= pixel {
					left, corner = int(cur[i-pixel]), int(above[i-pixel])
				}
				cur[i] += paeth(left, int(above[i]), corner)
			}
		default:
			return nil, invalid("a row is of PNG filter %d", tag)
		}
		above = cur
	}
	return out, nil
}

func paeth(left, above, corner int) byte {
	p := left + above - corner
	a, b, c := abs(p-left), abs(p-above), abs(p-corner)
	switch {
	case a <= b && a <= c:
		return byte(left)
	case b <= c:
		return byte(above)
	}
	return byte(corner)
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

// untiff removes TIFF prediction (TIFF 6.0 section 14): each component is the difference to the same one of the pixel before it.
func untiff(data []byte, row, colors, bits int) []byte {
	out := append([]byte(nil), data...)
	for at := 0; at < len(out); at += row {
		r := out[at : at+row]
		switch bits {
		case 8:
			for i := colors; i < row; i++ {
				r[i] += r[i-colors]
			}
		case 16:
			for i := 2 * colors; i+1 < row; i += 2 {
				n := uint16(r[i])<<8 | uint16(r[i+1])
				n += uint16(r[i-2*colors])<<8 | uint16(r[i-2*colors+1])
				r[i], r[i+1] = byte(n>>8), byte(n)
			}
		default:
			untiffBits(r, colors, bits)
		}
	}
	return out
}

// untiffBits does a row whose components are 1, 2 or 4 bits.
func untiffBits(r []byte, colors, bits int) {
	mask := byte(1<<bits - 1)
	per := 8 / bits
	get := func(i int) byte { return r[i/per] >> (8 - bits - i%per*bits) & mask }
	for i := colors; i < len(r)*per; i++ {
		shift := 8 - bits - i%per*bits
		n := (get(i) + get(i-colors)) & mask
		r[i/per] = r[i/per]&^(mask<<shift) | n<<shift
	}
}
