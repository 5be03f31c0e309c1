// Package tsp turns the messages of the Time-Stamp Protocol (RFC 3161, updated by RFC 5816) into types and back: TimeStampReq, TSTInfo
// and TimeStampResp. It is strict DER in both directions and does no cryptography: a TimeStampToken is opaque here, package cms opens it.
package tsp

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/der"
)

// Limits on what is read, in bytes. A request of this service is under 300 bytes.
const (
	MaxRequest  = 16 << 10
	MaxTSTInfo  = 64 << 10
	MaxResponse = 1 << 20
	MaxNonce    = 64 // a nonce is to be unlikely to repeat (RFC 3161 §2.4.1), for which 8 do
	MaxSerial   = 20 // 160 bits, RFC 3161 §2.4.2
)

// Imprint is a MessageImprint: a digest and the algorithm that made it.
type Imprint struct {
	Hash   crypto.Hash // SHA-256, SHA-384 or SHA-512
	Digest []byte      // Hash.Size() bytes

	bare bool // read without parameters instead of NULL; kept so that a token repeats the request's imprint byte for byte
}

// Equal reports whether a and b are the same digest under the same algorithm.
func (a Imprint) Equal(b Imprint) bool { return a.Hash == b.Hash && bytes.Equal(a.Digest, b.Digest) }

// Check returns nil when the imprint is one that can be time-stamped; the error is a *Failure.
func (a Imprint) Check() error {
	if hashOID(a.Hash) == nil {
		return &Failure{Info: BadAlg, Text: fmt.Sprintf("hash algorithm %v is not accepted, use SHA-256, SHA-384 or SHA-512", a.Hash)}
	}
	if len(a.Digest) != a.Hash.Size() {
		// RFC 3161 §2.4.2: badDataFormat is for data of the wrong format, and the length of a digest is its format.
		return &Failure{Info: BadDataFormat, Text: fmt.Sprintf("imprint of %d bytes, %v has %d", len(a.Digest), a.Hash, a.Hash.Size())}
	}
	return nil
}

var hashes = []struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
	name string
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256, "SHA-256"},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384, "SHA-384"},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512, "SHA-512"},
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, 0, "SHA-1"}, // named only to be refused by name
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}, 0, "MD5"},
}

// Hashes returns the names of the hash algorithms of imprints that are stamped.
func Hashes() (names []string) {
	for _, h := range hashes {
		if h.hash != 0 {
			names = append(names, h.name)
		}
	}
	return names
}

// ContentType returns id-ct-TSTInfo, the eContentType of a time-stamp token (RFC 3161 §2.4.2).
func ContentType() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
}

func hashOID(h crypto.Hash) asn1.ObjectIdentifier {
	for _, e := range hashes {
		if h != 0 && e.hash == h {
			return e.oid
		}
	}
	return nil
}

// readImprint reads a MessageImprint; the error is a *Failure.
func readImprint(in *cryptobyte.String) (Imprint, error) {
	var seq, alg, digest, params cryptobyte.String
	var oid asn1.ObjectIdentifier
	var tag casn1.Tag
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !seq.ReadASN1(&alg, casn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
		!seq.ReadASN1(&digest, casn1.OCTET_STRING) || !seq.Empty() {
		return Imprint{}, malformed("messageImprint")
	}
	imprint := Imprint{Digest: digest, bare: alg.Empty()}
	if !imprint.bare && (!alg.ReadAnyASN1Element(&params, &tag) || !alg.Empty()) {
		return Imprint{}, malformed("hashAlgorithm")
	}
	name := "of the request"
	if len(oid) <= 16 { // a name, not an echo of whatever was sent
		name = oid.String()
	}
	for _, e := range hashes {
		if oid.Equal(e.oid) {
			imprint.Hash, name = e.hash, e.name
		}
	}
	if imprint.Hash == 0 {
		return Imprint{}, &Failure{Info: BadAlg, Text: fmt.Sprintf("hash algorithm %s is not accepted, use SHA-256, SHA-384 or SHA-512", name)}
	}
	if !imprint.bare && string(params) != null { // RFC 5754 §2: absent or NULL
		return Imprint{}, malformed("parameters of hashAlgorithm")
	}
	return imprint, imprint.Check()
}

// append writes a, which was checked.
func (a Imprint) append(b []byte) []byte {
	var room [32]byte
	algorithm, err := der.AppendOID(room[:0], hashOID(a.Hash))
	if err != nil {
		panic("tsp: " + err.Error())
	}
	if !a.bare {
		algorithm = append(algorithm, null...)
	}
	b = der.AppendHeader(b, casn1.SEQUENCE, der.Size(len(algorithm))+der.Size(len(a.Digest)))
	b = der.Append(b, casn1.SEQUENCE, algorithm)
	return der.Append(b, casn1.OCTET_STRING, a.Digest)
}

// Elements that are always the same: NULL, TRUE and the version 1 of every message.
const (
	null     = "\x05\x00"
	isTrue   = "\x01\x01\xff"
	version1 = "\x02\x01\x01"
)

// readNonce reads an INTEGER of at most MaxNonce bytes.
func readNonce(in *cryptobyte.String) (*big.Int, error) {
	peek := *in
	var raw cryptobyte.String
	nonce := new(big.Int)
	if !peek.ReadASN1(&raw, casn1.INTEGER) || len(raw) > MaxNonce {
		return nil, &Failure{Info: BadRequest, Text: fmt.Sprintf("nonce longer than %d bytes", MaxNonce)}
	}
	if !in.ReadASN1Integer(nonce) {
		return nil, malformed("nonce")
	}
	return nonce, nil
}

// checkNonce reports whether nonce fits in MaxNonce bytes of DER.
func checkNonce(nonce *big.Int) error {
	if nonce != nil && nonce.BitLen() >= 8*MaxNonce {
		return fmt.Errorf("tsp: nonce of %d bits, at most %d bytes are possible", nonce.BitLen(), MaxNonce)
	}
	return nil
}

// explicit is the tag [n], constructed.
func explicit(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }
