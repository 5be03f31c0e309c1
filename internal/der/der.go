// Package der writes DER (ITU-T X.690) whose lengths are known before it is written: each element once, in its place, without callbacks. Who writes
// adds the sizes up from the inside out. Reading, and writing where speed is nothing, are golang.org/x/crypto/cryptobyte's; what both write is the same.
package der

import (
	"encoding/asn1"
	"fmt"
	"math/big"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Size returns how many bytes an element has whose contents have n.
func Size(n int) int {
	size := 2 + n
	if n >= 0x80 {
		for rest := n; rest > 0; rest >>= 8 {
			size++
		}
	}
	return size
}

// AppendHeader appends tag and length of an element whose contents, of n bytes, are to follow. X.690 §8.1.3, §10.1: the shortest form.
func AppendHeader(b []byte, tag casn1.Tag, n int) []byte {
	b = append(b, byte(tag))
	if n < 0x80 {
		return append(b, byte(n))
	}
	count := Size(n) - n - 2
	b = append(b, 0x80|byte(count))
	for shift := 8 * (count - 1); shift >= 0; shift -= 8 {
		b = append(b, byte(n>>shift))
	}
	return b
}

// Append appends an element with these contents, one after another.
func Append(b []byte, tag casn1.Tag, contents ...[]byte) []byte {
	n := 0
	for _, c := range contents {
		n += len(c)
	}
	b = AppendHeader(b, tag, n)
	for _, c := range contents {
		b = append(b, c...)
	}
	return b
}

// AppendUnsigned appends the INTEGER whose value is v, big-endian, of any length.
func AppendUnsigned(b []byte, tag casn1.Tag, v []byte) []byte {
	for len(v) > 0 && v[0] == 0 {
		v = v[1:]
	}
	if len(v) > 0 && v[0] < 0x80 {
		return Append(b, tag, v)
	}
	return Append(b, tag, []byte{0}, v) // X.690 §8.3: a first bit of 1 would make it negative, and zero has one byte
}

// AppendInt appends an INTEGER.
func AppendInt(b []byte, v *big.Int) []byte {
	if v.Sign() >= 0 {
		return AppendUnsigned(b, casn1.INTEGER, v.Bytes())
	}
	// X.690 §8.3.3, two's complement: the bits of -v-1, turned over.
	bits := new(big.Int).Not(v).Bytes()
	for i := range bits {
		bits[i] = ^bits[i]
	}
	if len(bits) > 0 && bits[0] >= 0x80 {
		return Append(b, casn1.INTEGER, bits)
	}
	return Append(b, casn1.INTEGER, []byte{0xff}, bits)
}

// AppendOID appends an OBJECT IDENTIFIER. X.690 §8.19. It fails for arcs that there are not.
func AppendOID(b []byte, oid asn1.ObjectIdentifier) ([]byte, error) {
	bad := len(oid) < 2 || oid[0] < 0 || oid[0] > 2 || oid[0] < 2 && oid[1] >= 40 || oid[0] == 2 && oid[1] > maxArc-80
	for _, arc := range oid {
		bad = bad || arc < 0 || arc > maxArc
	}
	if bad {
		return nil, fmt.Errorf("der: %v is no object identifier", oid)
	}
	var room [32]byte
	arcs := appendArc(room[:0], uint64(oid[0])*40+uint64(oid[1]))
	for _, arc := range oid[2:] {
		arcs = appendArc(arcs, uint64(arc))
	}
	return Append(b, casn1.OBJECT_IDENTIFIER, arcs), nil
}

// maxArc is the largest that encoding/asn1 and cryptobyte read again.
const maxArc = 1<<31 - 1

// appendArc appends v in groups of seven bits, all but the last with the first bit set.
func appendArc(b []byte, v uint64) []byte {
	shift := 0
	for v>>shift >= 0x80 {
		shift += 7
	}
	for ; shift > 0; shift -= 7 {
		b = append(b, 0x80|byte(v>>shift))
	}
	return append(b, byte(v)&0x7f)
}
