package pdf

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
)

// maxFilters bounds the chain of filters of one stream.
const maxFilters = 8

// Decode removes the filters from a stream (§7.4). Image filters (DCTDecode, JPXDecode, CCITTFaxDecode, JBIG2Decode), Crypt and data in
// another file are fault.Unsupported; more than Limits.MaxDecoded bytes, or more in sum than a multiple of the file's size, fault.TooLarge.
func (f *File) Decode(s *Stream) ([]byte, error) {
	return f.decode(s, f.lim.MaxDecoded)
}

// decode removes the filters; the result has at most limit bytes.
func (f *File) decode(s *Stream, limit int64) ([]byte, error) {
	if s.Dict["F"] != nil {
		return nil, unsupported("a stream's data is in another file")
	}
	filters, parms, err := f.filters(s.Dict)
	if err != nil {
		return nil, err
	}
	limit = min(limit, f.lim.MaxDecoded)
	data := s.Raw
	for i, name := range filters {
		// A stage before the last may hold what the last removes: predictor tags, two hexadecimal digits for a byte.
		stage := min(2*limit+1024, f.lim.MaxDecoded)
		if data, err = f.unfilter(name, parms[i], data, stage); err != nil {
			return nil, within(string("filter "+name), err)
		}
		if err := f.budget.decoded(len(data)); err != nil {
			return nil, err
		}
	}
	if len(filters) == 0 {
		if err := f.budget.decoded(len(data)); err != nil {
			return nil, err
		}
	}
	if int64(len(data)) > limit {
		return nil, tooLarge("a stream decodes to more than %d bytes", limit)
	}
	return data, nil
}

// filters returns the names of a stream's filters and their parameters.
func (f *File) filters(d Dict) ([]Name, []Dict, error) {
	o, err := f.Resolve(d["Filter"])
	if err != nil {
		return nil, nil, err
	}
	parm, err := f.Resolve(d["DecodeParms"])
	if err != nil {
		return nil, nil, err
	}
	var names, parms Array
	switch v := o.(type) {
	case nil:
		return nil, nil, nil
	case Name:
		names, parms = Array{v}, Array{parm}
		if a, ok := parm.(Array); ok && len(a) == 1 {
			parms = a
		}
	case Array:
		names = v
		var ok bool
		if parms, ok = parm.(Array); !ok && parm != nil {
			if parms = (Array{parm}); len(names) != 1 {
				return nil, nil, invalid("/DecodeParms is not an array, /Filter is")
			}
		}
	default:
		return nil, nil, invalid("/Filter is neither a name nor an array")
	}
	if len(names) > maxFilters {
		return nil, nil, tooLarge("a stream has %d filters; at most %d are removed", len(names), maxFilters)
	}
	if parms != nil && len(parms) != len(names) {
		return nil, nil, invalid("%d filters, but parameters for %d", len(names), len(parms))
	}
	outN, outP := make([]Name, len(names)), make([]Dict, len(names))
	for i := range names {
		if outN[i], err = f.resolveName(names[i], "a filter"); err != nil {
			return nil, nil, err
		}
		if parms != nil {
			if outP[i], err = f.resolveDict(parms[i], "an entry of /DecodeParms"); err != nil {
				return nil, nil, err
			}
		}
	}
	return outN, outP, nil
}

func (f *File) unfilter(name Name, parms Dict, data []byte, limit int64) ([]byte, error) {
	var err error
	switch name {
	case "FlateDecode":
		data, err = inflate(data, limit)
	case "LZWDecode":
		var early int64
		if early, err = f.resolveInt(parms["EarlyChange"], "/EarlyChange", 1); err == nil {
			data, err = unLZW(data, early != 0, limit)
		}
	case "ASCIIHexDecode":
		return unASCIIHex(data)
	case "ASCII85Decode":
		return unASCII85(data)
	case "RunLengthDecode":
		return unRunLength(data, limit)
	case "DCTDecode", "JPXDecode", "CCITTFaxDecode", "JBIG2Decode":
		return nil, unsupported("images are not decoded")
	default:
		return nil, unsupported("it is not known")
	}
	if err != nil || parms == nil {
		return data, err
	}
	return f.unpredict(parms, data)
}

// inflate removes FlateDecode (§7.4.4). Bytes after the compressed data's end are passed over, as every reader does.
func inflate(data []byte, limit int64) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, invalid("the compressed data is damaged (%v)", err)
	}
	out := bytes.NewBuffer(make([]byte, 0, min(limit, 4*int64(len(data))+512)))
	_, err = io.Copy(out, io.LimitReader(r, limit+1))
	if int64(out.Len()) > limit {
		return nil, tooLarge("it decodes to more than %d bytes", limit)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, invalid("the compressed data is cut off")
	}
	if err != nil {
		return nil, invalid("the compressed data is damaged (%v)", err)
	}
	return out.Bytes(), nil
}
