package cert

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidPrivateKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 16}
	oidCRLDistribution  = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidAuthorityInfo    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidQCStatements     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}
	oidQCSyntaxV2       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 11, 2}
	oidSemanticsNatural = asn1.ObjectIdentifier{0, 4, 0, 194121, 1, 1}
	oidEKUServerAuth    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidEKUClientAuth    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidEKUTimeStamping  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	oidEKUOCSPSigning   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}
)

const (
	tagURI              = cbasn1.Tag(0x80 | 6) // [6] implicit: GeneralName.uniformResourceIdentifier
	tagPrivateKeyBefore = cbasn1.Tag(0x80 | 0)
	tagPrivateKeyAfter  = cbasn1.Tag(0x80 | 1)

	generalizedTimeFormat = "20060102150405Z"
)

// qcStatements declares what the subject's serialNumber means (EN 319 412-1 §5.1): id-etsi-qcs-SemanticsId-Natural and, since the
// scheme is a national one, who registers the names. It claims nothing else; above all no QcCompliance.
func qcStatements(authority string) pkix.Extension {
	return pkix.Extension{Id: oidQCStatements, Value: element(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // RFC 3739 §3.2.6.1: QCStatement
			b.AddASN1ObjectIdentifier(oidQCSyntaxV2)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // SemanticsInformation
				b.AddASN1ObjectIdentifier(oidSemanticsNatural)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // NameRegistrationAuthorities
					b.AddASN1(tagURI, func(b *cryptobyte.Builder) { b.AddBytes([]byte(authority)) })
				})
			})
		})
	})}
}

// privateKeyUsagePeriod is the extension of X.509 (RFC 3280 §4.2.1.4) that EN 319 421 TSAs tell the life of their key with.
func privateKeyUsagePeriod(from, to time.Time) pkix.Extension {
	return pkix.Extension{Id: oidPrivateKeyUsage, Value: element(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tagPrivateKeyBefore, func(b *cryptobyte.Builder) { b.AddBytes([]byte(from.UTC().Format(generalizedTimeFormat))) })
		b.AddASN1(tagPrivateKeyAfter, func(b *cryptobyte.Builder) { b.AddBytes([]byte(to.UTC().Format(generalizedTimeFormat))) })
	})}
}

// PrivateKeyUsagePeriod returns until when c's private key may be used: the extension's notAfter, or the certificate's.
func PrivateKeyUsagePeriod(c *x509.Certificate) (from, to time.Time, err error) {
	from, to = c.NotBefore, c.NotAfter
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidPrivateKeyUsage) {
			continue
		}
		in := cryptobyte.String(e.Value)
		var seq cryptobyte.String
		if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
			return from, to, fmt.Errorf("cert: privateKeyUsagePeriod of %q is malformed", c.Subject)
		}
		if err := readUsageTime(&seq, tagPrivateKeyBefore, &from); err != nil {
			return from, to, err
		}
		if err := readUsageTime(&seq, tagPrivateKeyAfter, &to); err != nil || !seq.Empty() {
			return from, to, fmt.Errorf("cert: privateKeyUsagePeriod of %q is malformed", c.Subject)
		}
	}
	return from, to, nil
}

func readUsageTime(seq *cryptobyte.String, tag cbasn1.Tag, t *time.Time) error {
	var text cryptobyte.String
	var have bool
	if !seq.ReadOptionalASN1(&text, &have, tag) {
		return fmt.Errorf("cert: privateKeyUsagePeriod is malformed")
	}
	if !have {
		return nil
	}
	parsed, err := time.Parse(generalizedTimeFormat, string(text))
	if err != nil {
		return fmt.Errorf("cert: privateKeyUsagePeriod: %w", err)
	}
	*t = parsed
	return nil
}

// extendedKeyUsage returns the extension with one purpose, which for time stamping must be the only one and critical (RFC 3161 §2.3).
func extendedKeyUsage(purpose asn1.ObjectIdentifier, critical bool) pkix.Extension {
	return pkix.Extension{Id: oidExtKeyUsage, Critical: critical,
		Value: element(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(purpose) })}
}

// certificatePolicies returns the extension with these policies and no qualifiers, as RFC 5280 §4.2.1.4 recommends.
func certificatePolicies(policies []asn1.ObjectIdentifier) pkix.Extension {
	return pkix.Extension{Id: oidPolicies, Value: element(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range policies {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(p) })
		}
	})}
}

// SubjectKeyID returns the key identifier of this PKI: the leftmost 160 bits of SHA-256 over the subjectPublicKey (RFC 7093 §2 method 1).
func SubjectKeyID(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("cert: public key: %w", err)
	}
	bits, err := subjectPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("cert: public key: %w", err)
	}
	return digest(crypto.SHA256, bits)[:20], nil
}
