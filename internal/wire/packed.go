package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// Bodies that are DER and nothing else are not JSON: base64 in JSON is written once and scanned three times. A packed body is one list or more; a list is a
// count and as many values, a value its length and its bytes. Counts and lengths are four bytes, big-endian.
type (
	packer   interface{ pack() []byte }
	unpacker interface{ unpack([]byte) error }
)

var errPacked = errors.New("wire: the body is not the lists that it should be")

// encodeBody writes a body in the form of its type.
func encodeBody(v any) ([]byte, error) {
	if p, ok := v.(packer); ok {
		return p.pack(), nil
	}
	return json.Marshal(v)
}

// decodeBody reads exactly one body into v.
func decodeBody(raw []byte, v any) error {
	if u, ok := v.(unpacker); ok {
		return u.unpack(raw)
	}
	return Decode(raw, v)
}

func (s Signature) pack() []byte { return packLists([][]byte{s.CMS}, s.Certs, s.OCSPs, s.CRLs) }

func (s *Signature) unpack(raw []byte) error {
	var cms [][]byte
	if err := unpackLists(raw, &cms, &s.Certs, &s.OCSPs, &s.CRLs); err != nil {
		return err
	}
	if len(cms) != 1 {
		return fmt.Errorf("%w: %d signatures", errPacked, len(cms))
	}
	s.CMS = cms[0]
	return nil
}

func (s Stamped) pack() []byte { return packLists([][]byte{s.Token}) }

func (s *Stamped) unpack(raw []byte) error {
	var tokens [][]byte
	if err := unpackLists(raw, &tokens); err != nil {
		return err
	}
	if len(tokens) != 1 {
		return fmt.Errorf("%w: %d tokens", errPacked, len(tokens))
	}
	s.Token = tokens[0]
	return nil
}

func packLists(lists ...[][]byte) []byte {
	size := 0
	for _, list := range lists {
		size += 4
		for _, value := range list {
			size += 4 + len(value)
		}
	}
	b := make([]byte, 0, size)
	for _, list := range lists {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		for _, value := range list {
			b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
			b = append(b, value...)
		}
	}
	return b
}

// unpackLists reads as many lists as there are places for them. The values are parts of raw.
func unpackLists(raw []byte, lists ...*[][]byte) error {
	number := func(most int) (int, error) {
		if len(raw) < 4 || uint64(binary.BigEndian.Uint32(raw)) > uint64(most) {
			return 0, errPacked
		}
		n := int(binary.BigEndian.Uint32(raw))
		raw = raw[4:]
		return n, nil
	}
	for _, list := range lists {
		count, err := number(len(raw) / 4) // each value has a length
		if err != nil {
			return err
		}
		for range count {
			n, err := number(len(raw) - 4)
			if err != nil {
				return err
			}
			*list = append(*list, raw[:n:n])
			raw = raw[n:]
		}
	}
	if len(raw) != 0 {
		return fmt.Errorf("%w: %d bytes behind them", errPacked, len(raw))
	}
	return nil
}
