package cert

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OCSPTemplate is what a responder says.
type OCSPTemplate struct {
	ProducedAt time.Time
	Singles    []SingleResponse // at least one; every one with a NextUpdate
	Nonce      []byte           // echoed from the request, nil for none
}

// OCSPSigner signs answers for one issuing CA with its delegated responder certificate. It is safe for concurrent use when its key is.
type OCSPSigner struct {
	cert      *x509.Certificate
	key       crypto.Signer
	hash      crypto.Hash
	keyHash   []byte // SHA-1 of the subjectPublicKey
	algorithm []byte // AlgorithmIdentifier
}

// NewOCSPSigner returns a signer for the certificate's holder. The key is given digests only.
func NewOCSPSigner(certificate *x509.Certificate, key crypto.Signer) (*OCSPSigner, error) {
	alg, hash, err := AlgorithmFor(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	if !samePublicKey(certificate.PublicKey, key.Public()) {
		return nil, fmt.Errorf("cert: the key is not the one of %q", certificate.Subject)
	}
	bits, err := subjectPublicKey(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("cert: %q: %w", certificate.Subject, err)
	}
	return &OCSPSigner{cert: certificate, key: key, hash: hash, keyHash: digest(crypto.SHA1, bits), algorithm: algorithmIdentifier(alg)}, nil
}

// Certificate returns the responder's certificate.
func (s *OCSPSigner) Certificate() *x509.Certificate { return s.cert }

// Sign returns a successful OCSPResponse over t, with the responder's certificate embedded. The same t gives the same bytes but for
// the signature.
func (s *OCSPSigner) Sign(rand io.Reader, t OCSPTemplate) ([]byte, error) {
	if err := t.check(s.cert); err != nil {
		return nil, fmt.Errorf("cert: OCSP response: %w", err)
	}
	var b cryptobyte.Builder
	s.addResponseData(&b, t)
	tbs, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cert: OCSP response: %w", err)
	}
	sig, err := s.key.Sign(rand, digest(s.hash, tbs), s.hash)
	if err != nil {
		return nil, fmt.Errorf("cert: signing an OCSP response: %w", err)
	}
	var out cryptobyte.Builder
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(OCSPSuccessful)
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { s.addBasic(b, tbs, sig) })
			})
		})
	})
	return out.Bytes()
}

func (t OCSPTemplate) check(responder *x509.Certificate) error {
	if len(t.Singles) == 0 || len(t.Singles) > MaxOCSPSingles || len(t.Nonce) > maxNonce {
		return fmt.Errorf("%d answers with a nonce of %d bytes", len(t.Singles), len(t.Nonce))
	}
	if t.ProducedAt.Before(responder.NotBefore) || t.ProducedAt.After(responder.NotAfter) {
		return fmt.Errorf("responder %q is not valid at %s", responder.Subject, t.ProducedAt.UTC().Format(time.RFC3339))
	}
	for i, one := range t.Singles {
		if one.CertID.raw == nil && (hashOID(one.CertID.Hash) == nil || one.CertID.Serial == nil) {
			return fmt.Errorf("answer %d: CertID is incomplete", i)
		}
		// nextUpdate is optional in RFC 6960; validators of documents reject an answer without it.
		if one.NextUpdate.IsZero() || one.NextUpdate.Before(one.ThisUpdate) || one.ThisUpdate.After(t.ProducedAt) {
			return fmt.Errorf("answer %d: thisUpdate, nextUpdate and producedAt are out of order", i)
		}
		if one.Status == OCSPRevoked && one.RevokedAt.IsZero() {
			return fmt.Errorf("answer %d: revoked without a time", i)
		}
	}
	return nil
}

// addResponseData writes ResponseData; version v1 is the default and so left out.
func (s *OCSPSigner) addResponseData(b *cryptobyte.Builder, t OCSPTemplate) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(s.keyHash) })
		b.AddASN1GeneralizedTime(t.ProducedAt.UTC())
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, one := range t.Singles {
				one.add(b)
			}
		})
		if t.Nonce != nil {
			b.AddASN1(cbasn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { addNonce(b, t.Nonce) })
		}
	})
}

func (one SingleResponse) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		one.CertID.add(b)
		switch one.Status {
		case OCSPGood:
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
		case OCSPUnknown:
			b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
		case OCSPRevoked:
			b.AddASN1(cbasn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1GeneralizedTime(one.RevokedAt.UTC())
				if one.Reason != 0 { // RFC 5280 §5.3.1: unspecified is said by saying nothing
					b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(one.Reason)) })
				}
			})
		default:
			b.SetError(errors.New("unknown OCSPStatus"))
		}
		b.AddASN1GeneralizedTime(one.ThisUpdate.UTC())
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(one.NextUpdate.UTC()) })
		if !one.ArchiveCutoff.IsZero() {
			b.AddASN1(cbasn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addExtension(b, oidOCSPArchiveCutoff, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(one.ArchiveCutoff.UTC()) })
				})
			})
		}
	})
}

// addBasic writes BasicOCSPResponse.
func (s *OCSPSigner) addBasic(b *cryptobyte.Builder, tbs, sig []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(s.algorithm)
		b.AddASN1BitString(sig)
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(s.cert.Raw) })
		})
	})
}

// OCSPFailure returns the unsigned OCSPResponse with one of the error statuses, which is all that RFC 6960 §2.3 puts in it.
func OCSPFailure(status int) []byte {
	switch status {
	case OCSPMalformedRequest, OCSPInternalError, OCSPTryLater, OCSPSigRequired, OCSPUnauthorized:
	default:
		panic(fmt.Sprintf("cert: %d is not an OCSP error status", status))
	}
	return []byte{0x30, 3, 0x0a, 1, byte(status)}
}

// samePublicKey reports whether a and b are the same key. Both are of this package's supported kinds or the answer is false.
func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
