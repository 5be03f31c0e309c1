package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Acceptable returns nil when the SignerInfo's algorithms are dealt with here and agree with each other, else an error that wraps ErrWeak,
// ErrUnsupported, ErrAlgorithm or ErrMalformed. Verify asks the same; a caller that must hash a content first asks before it does.
func (si *SignerInfo) Acceptable() error {
	_, err := si.kind()
	return err
}

// Scheme returns the signature scheme, with the errors of Acceptable.
func (si *SignerInfo) Scheme() (Scheme, error) {
	k, err := si.kind()
	return k.scheme, err
}

// SignerCertificate returns the certificate of signer i: the one among the embedded certificates and extra that the SignerIdentifier
// names, and the signing-certificate attribute too when there is one.
func (s *SignedData) SignerCertificate(i int, extra ...*x509.Certificate) (*x509.Certificate, error) {
	si, err := s.signer(i)
	if err != nil {
		return nil, err
	}
	ids, err := si.SigningCertificates()
	if err != nil {
		return nil, err
	}
	named := false
	for _, certs := range [][]*x509.Certificate{s.Certificates, extra} {
		for _, cert := range certs {
			if !si.SID.names(cert) {
				continue
			}
			named = true
			if len(ids) == 0 || ids[0].Matches(cert) {
				return cert, nil
			}
		}
	}
	switch {
	case named:
		// RFC 5035 §3: the certificate was exchanged for another with the same issuer and serial number, or the same key.
		return nil, ErrESS
	case len(s.Unreadable) > 0:
		return nil, fmt.Errorf("%w; %d embedded certificates cannot be read here", ErrCertificate, len(s.Unreadable))
	}
	return nil, ErrCertificate
}

// names reports whether the SignerIdentifier is cert's.
func (id SID) names(cert *x509.Certificate) bool {
	if id.Serial == nil {
		return len(id.SubjectKeyID) > 0 && bytes.Equal(id.SubjectKeyID, cert.SubjectKeyId)
	}
	return id.Serial.Cmp(cert.SerialNumber) == 0 && sameName(id.RawIssuer, cert.RawIssuer)
}

// Verify proves that signer i signed the content with the key of the certificate that it returns. digest is that of the detached content
// under Signers[i].DigestHash, nil to take the embedded content; extra holds certificates that may be the signer's besides the embedded
// ones. It checks, in this order: the algorithms, the certificate (SignerIdentifier and ESSCertID), the signed attributes content-type,
// message-digest and (when present) algorithm protection, the signature. Every error wraps one of the Err values of this package.
//
// A SignerInfo without signed attributes is refused: CAdES and RFC 3161 demand them, and where they may be absent, the attributes of one
// signature can be passed off as the content of another.
func (s *SignedData) Verify(i int, digest []byte, extra ...*x509.Certificate) (*x509.Certificate, error) {
	si, err := s.signer(i)
	if err != nil {
		return nil, err
	}
	kind, err := si.kind()
	if err != nil {
		return nil, err
	}
	cert, err := s.SignerCertificate(i, extra...)
	if err != nil {
		return nil, err
	}
	if len(si.SignedAttrs) == 0 {
		return nil, fmt.Errorf("%w: there are no signed attributes", ErrAttributes)
	}
	if err := s.checkDigest(si, kind.hash, digest); err != nil {
		return nil, err
	}
	if err := s.checkContentType(si); err != nil {
		return nil, err
	}
	if err := si.checkAlgorithmProtection(); err != nil {
		return nil, err
	}
	// RFC 5652 §5.4: what is signed is the set under its own tag, SET OF, instead of [0].
	signed := bytes.Clone(si.signedRaw)
	signed[0] = byte(casn1.SET)
	if err := kind.verify(cert.PublicKey, signed, si.Signature); err != nil {
		return nil, err
	}
	return cert, nil
}

func (s *SignedData) signer(i int) (*SignerInfo, error) {
	if i < 0 || i >= len(s.Signers) {
		return nil, fmt.Errorf("%w: no signer %d among %d", ErrMalformed, i, len(s.Signers))
	}
	return &s.Signers[i], nil
}

// checkDigest compares the message-digest attribute (RFC 5652 §11.2) with digest, or with that of the embedded content.
func (s *SignedData) checkDigest(si *SignerInfo, hash crypto.Hash, digest []byte) error {
	signed, err := si.octets(oidMessageDigest, "message-digest")
	if err != nil {
		return err
	}
	if digest == nil {
		if s.Content == nil {
			return fmt.Errorf("%w: the content is detached and no digest of it was given", ErrDigest)
		}
		digest = digestOf(hash, s.Content)
	}
	if !bytes.Equal(signed, digest) {
		return ErrDigest
	}
	return nil
}

// checkContentType compares the content-type attribute (RFC 5652 §11.1) with eContentType.
func (s *SignedData) checkContentType(si *SignerInfo) error {
	value, err := single(si.SignedAttrs, oidContentType)
	if err != nil {
		return err
	}
	in := cryptobyte.String(value)
	signed, err := takeOID(&in, "content-type")
	if err != nil || !in.Empty() {
		return fmt.Errorf("%w: content-type", ErrAttributes)
	}
	if !signed.Equal(s.ContentType) {
		return fmt.Errorf("%w: %v was signed, %v is there", ErrContentType, signed, s.ContentType)
	}
	return nil
}

// checkAlgorithmProtection compares a CMSAlgorithmProtection attribute with the algorithms outside the signature (RFC 6211 §2).
func (si *SignerInfo) checkAlgorithmProtection() error {
	value, err := single(si.SignedAttrs, oidAlgorithmProtection)
	if err != nil || value == nil {
		return err
	}
	in := cryptobyte.String(value)
	seq, err := take(&in, casn1.SEQUENCE, "CMSAlgorithmProtection")
	if err != nil {
		return err
	}
	digest, err := readAlgorithm(&seq)
	if err != nil {
		return err
	}
	body, err := take(&seq, explicit(1), "signatureAlgorithm of CMSAlgorithmProtection")
	if err != nil {
		return err
	}
	signature, err := readAlgorithmBody(body)
	if err != nil {
		return err
	}
	if !in.Empty() || !seq.Empty() {
		return fmt.Errorf("%w: bytes after CMSAlgorithmProtection", ErrMalformed)
	}
	if !digest.same(si.DigestAlgorithm) || !signature.same(si.SignatureAlgorithm) {
		return fmt.Errorf("%w: the signed attribute names other algorithms than the SignerInfo", ErrAlgorithm)
	}
	return nil
}

// octets returns the OCTET STRING that is the only value of the signed attribute oid.
func (si *SignerInfo) octets(oid asn1.ObjectIdentifier, what string) ([]byte, error) {
	value, err := single(si.SignedAttrs, oid)
	if err != nil {
		return nil, err
	}
	in := cryptobyte.String(value)
	var out cryptobyte.String
	if value == nil || !in.ReadASN1(&out, casn1.OCTET_STRING) || !in.Empty() {
		return nil, fmt.Errorf("%w: %s", ErrAttributes, what)
	}
	return out, nil
}

// single returns the only value of the attribute oid, nil when there is no such attribute. RFC 5652 §11, RFC 5035 §3 and RFC 6211 §2 all
// say of their attributes that there is one instance, with one value.
func single(attrs []Attribute, oid asn1.ObjectIdentifier) ([]byte, error) {
	var value []byte
	for _, a := range attrs {
		if !a.Type.Equal(oid) {
			continue
		}
		if value != nil || len(a.Values) != 1 {
			return nil, fmt.Errorf("%w: attribute %v more than once", ErrAttributes, oid)
		}
		value = a.Values[0]
	}
	return value, nil
}
