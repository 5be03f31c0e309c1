package cms

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxOID bounds an object identifier in bytes, and with it the error texts that name one.
const maxOID = 64

// take reads the element with tag from in and returns its contents; what names it in the error.
func take(in *cryptobyte.String, tag casn1.Tag, what string) (cryptobyte.String, error) {
	var out cryptobyte.String
	if in.ReadASN1(&out, tag) {
		return out, nil
	}
	if indefinite(*in) {
		return nil, fmt.Errorf("%w: %s has BER's indefinite length, and only DER is read (ISO 32000-1 §12.8.3.3.1)", ErrUnsupported, what)
	}
	return nil, fmt.Errorf("%w: %s is missing or not DER", ErrMalformed, what)
}

// indefinite reports whether in begins with a constructed element of indefinite length.
func indefinite(in []byte) bool { return len(in) > 1 && in[0]&0x20 != 0 && in[1] == 0x80 }

func takeOID(in *cryptobyte.String, what string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	var raw cryptobyte.String
	if peek := *in; peek.ReadASN1(&raw, casn1.OBJECT_IDENTIFIER) && len(raw) > maxOID {
		return nil, fmt.Errorf("%w: %s is an object identifier of %d bytes", ErrLimit, what, len(raw))
	}
	if !in.ReadASN1ObjectIdentifier(&oid) {
		return nil, fmt.Errorf("%w: %s is not an object identifier", ErrMalformed, what)
	}
	return oid, nil
}

// readAlgorithm reads an AlgorithmIdentifier.
func readAlgorithm(in *cryptobyte.String) (AlgorithmIdentifier, error) {
	seq, err := take(in, casn1.SEQUENCE, "AlgorithmIdentifier")
	if err != nil {
		return AlgorithmIdentifier{}, err
	}
	return readAlgorithmBody(seq)
}

// readAlgorithmBody reads the contents of an AlgorithmIdentifier, as they stand under an implicit tag too.
func readAlgorithmBody(seq cryptobyte.String) (AlgorithmIdentifier, error) {
	var a AlgorithmIdentifier
	var err error
	if a.OID, err = takeOID(&seq, "algorithm"); err != nil {
		return AlgorithmIdentifier{}, err
	}
	if seq.Empty() {
		return a, nil
	}
	var params cryptobyte.String
	var tag casn1.Tag
	if !seq.ReadAnyASN1Element(&params, &tag) || !seq.Empty() {
		return AlgorithmIdentifier{}, fmt.Errorf("%w: parameters of algorithm %v", ErrMalformed, a.OID)
	}
	a.Parameters = params
	return a, nil
}

// addAlgorithm writes an AlgorithmIdentifier.
func addAlgorithm(b *cryptobyte.Builder, a AlgorithmIdentifier) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.OID)
		b.AddBytes(a.Parameters)
	})
}

// encode returns what f writes.
func encode(f func(b *cryptobyte.Builder)) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	f(b)
	return b.Bytes()
}

// encodeAttribute returns an Attribute with one value, which f writes.
func encodeAttribute(oid asn1.ObjectIdentifier, f func(b *cryptobyte.Builder)) ([]byte, error) {
	return encode(func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1(casn1.SET, f)
		})
	})
}

// setOf returns the elements in the order that DER gives a SET OF (X.690 §11.6), joined. It sorts elements in place.
func setOf(elements ...[]byte) []byte {
	// Two DER elements never are a prefix of one another, so plain byte order is the order with zero padding.
	slices.SortFunc(elements, bytes.Compare)
	return bytes.Join(elements, nil)
}
