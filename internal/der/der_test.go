package der_test

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/der"
)

func peer(f func(*cryptobyte.Builder)) []byte {
	b := cryptobyte.NewBuilder(nil)
	f(b)
	return b.BytesOrPanic()
}

// TestLengths: around each length at which the length itself grows.
func TestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 129, 255, 256, 257, 65535, 65536, 1 << 20, 1 << 24} {
		contents := bytes.Repeat([]byte{7}, n)
		want := peer(func(b *cryptobyte.Builder) { b.AddASN1OctetString(contents) })
		got := der.Append([]byte("x"), casn1.OCTET_STRING, contents[:n/3], contents[n/3:])
		if !bytes.Equal(got[1:], want) || got[0] != 'x' || der.Size(n) != len(want) {
			t.Errorf("%d bytes: %x…, Size %d; want %x…, %d", n, got[:min(len(got), 8)], der.Size(n), want[:min(len(want), 8)], len(want))
		}
		if h := der.AppendHeader(nil, casn1.OCTET_STRING, n); !bytes.HasPrefix(want, h) || len(h)+n != len(want) {
			t.Errorf("%d bytes: header %x", n, h)
		}
	}
}

// TestIntegers: numbers of every length, on both sides of each power of two, positive and negative, are as cryptobyte writes and reads them.
func TestIntegers(t *testing.T) {
	for bits := range 200 {
		for _, near := range []int64{-2, -1, 0, 1, 2} {
			v := new(big.Int).Lsh(big.NewInt(1), uint(bits))
			v.Add(v, big.NewInt(near))
			for _, v := range []*big.Int{v, new(big.Int).Neg(v)} {
				want := peer(func(b *cryptobyte.Builder) { b.AddASN1BigInt(v) })
				got := der.AppendInt(nil, v)
				if !bytes.Equal(got, want) {
					t.Errorf("%v: %x, want %x", v, got, want)
				}
				if v.Sign() < 0 {
					continue
				}
				if got := der.AppendUnsigned(nil, casn1.INTEGER, append(make([]byte, bits%3), v.Bytes()...)); !bytes.Equal(got, want) {
					t.Errorf("%v, unsigned: %x, want %x", v, got, want)
				}
			}
		}
	}
}

// TestIdentifiers: identifiers at random, and at the ends of what arcs can be, are as cryptobyte writes them and reads them again.
func TestIdentifiers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	oids := []asn1.ObjectIdentifier{{0, 0}, {0, 39}, {1, 0}, {1, 39}, {2, 0}, {2, 39}, {2, 40}, {2, 999}, {2, 1<<31 - 81}, {1, 2, 1<<31 - 1}, {1, 2, 127, 128, 16383, 16384}}
	for range 500 {
		oid := asn1.ObjectIdentifier{r.IntN(3), r.IntN(40)}
		for range r.IntN(12) {
			oid = append(oid, r.IntN(1<<31)>>r.IntN(31))
		}
		oids = append(oids, oid)
	}
	for _, oid := range oids {
		want := peer(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
		got, err := der.AppendOID(nil, oid)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %x, %v, want %x", oid, got, err, want)
		}
		var again asn1.ObjectIdentifier
		if in := cryptobyte.String(got); !in.ReadASN1ObjectIdentifier(&again) || !again.Equal(oid) {
			t.Errorf("%v is read as %v", oid, again)
		}
	}
	for _, oid := range []asn1.ObjectIdentifier{nil, {1}, {3, 1}, {-1, 1}, {0, 40}, {1, 40}, {1, -2}, {1, 2, -3}, {1, 2, 1 << 31}, {2, 1<<31 - 80}} {
		if got, err := der.AppendOID(nil, oid); err == nil {
			t.Errorf("%v was written: %x", oid, got)
		}
	}
}
