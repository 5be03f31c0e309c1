package cms

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// TimeStampOverhead is what WithTimeStamp adds at most, in bytes, to a SignedData with one signer, besides the token itself.
const TimeStampOverhead = 64

// WithTimeStamp returns a copy of s whose signer 0 carries token, a TimeStampToken, in one more id-aa-timeStampToken attribute
// (RFC 3161 appendix A, EN 319 122-1 §5.3). The token and all that is signed stay byte for byte; s does not change.
func (s *SignedData) WithTimeStamp(token []byte) (*SignedData, error) {
	if len(s.Signers) == 0 {
		return nil, errors.New("cms: no signer to time-stamp")
	}
	in := cryptobyte.String(token)
	if !in.SkipASN1(casn1.SEQUENCE) || !in.Empty() {
		return nil, fmt.Errorf("%w: the time-stamp token is not one DER SEQUENCE", ErrMalformed)
	}
	attr := Attribute{Type: oidTimeStampToken, Values: [][]byte{token}}
	infos := make([][]byte, len(s.Signers))
	for i := range s.Signers {
		unsigned := s.Signers[i].UnsignedAttrs
		if i == 0 {
			unsigned = append(unsigned[:len(unsigned):len(unsigned)], attr)
		}
		var err error
		if infos[i], err = s.Signers[i].encode(unsigned); err != nil {
			return nil, err
		}
	}
	der, err := encode(func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidSignedData)
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddBytes(s.head)
					b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(infos, nil)) })
				})
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return parse(der, append([]*x509.Certificate(nil), s.Certificates...))
}

// encode returns the SignerInfo with unsigned as its unsigned attributes.
func (si *SignerInfo) encode(unsigned []Attribute) ([]byte, error) {
	set := make([][]byte, len(unsigned))
	for i, a := range unsigned {
		var err error
		if set[i], err = encodeAttribute(a.Type, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(a.Values, nil)) }); err != nil {
			return nil, err
		}
	}
	return encode(func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(si.head)
			if len(set) > 0 {
				b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddBytes(setOf(set...)) })
			}
		})
	})
}

// TimeStamps returns the signature time-stamp tokens of signer i, in the order in which they stand there.
func (s *SignedData) TimeStamps(i int) ([][]byte, error) {
	si, err := s.signer(i)
	if err != nil {
		return nil, err
	}
	var tokens [][]byte
	for _, a := range si.UnsignedAttrs {
		if a.Type.Equal(oidTimeStampToken) {
			tokens = append(tokens, a.Values...)
		}
	}
	return tokens, nil
}
