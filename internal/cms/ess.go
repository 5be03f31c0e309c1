package cms

import (
	"bytes"
	"crypto"
	"crypto/sha1" //nolint:gosec // ESSCertID of RFC 2634 is SHA-1 by definition; it is matched, never relied on for security
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxESSCertIDs bounds the chain that a signing-certificate attribute names.
const maxESSCertIDs = 32

// ESSCertID names a certificate by its hash: RFC 5035 §4 ESSCertIDv2, or RFC 2634 §5.4.1 ESSCertID, which is SHA-1.
type ESSCertID struct {
	Hash      crypto.Hash // crypto.SHA1 only for RFC 2634
	Digest    []byte
	RawIssuer []byte   // Name, DER; nil when issuerSerial is absent
	Serial    *big.Int // nil when issuerSerial is absent
}

// Matches reports whether id names cert.
func (id ESSCertID) Matches(cert *x509.Certificate) bool {
	var digest []byte
	if id.Hash == crypto.SHA1 {
		sum := sha1.Sum(cert.Raw)
		digest = sum[:]
	} else {
		digest = digestOf(id.Hash, cert.Raw)
	}
	if !bytes.Equal(digest, id.Digest) {
		return false
	}
	return id.Serial == nil || id.Serial.Cmp(cert.SerialNumber) == 0 && sameName(id.RawIssuer, cert.RawIssuer)
}

// SigningCertificates returns what the signing-certificate-v2 attribute names, or else the signing-certificate attribute: the signer's
// certificate first, then those that its chain is restricted to. Without either attribute it returns none.
func (si *SignerInfo) SigningCertificates() ([]ESSCertID, error) {
	v2, err := si.signingCertificates(oidSigningCertificateV2, readESSCertIDv2)
	if err != nil || v2 != nil {
		return v2, err
	}
	return si.signingCertificates(oidSigningCertificate, readESSCertID)
}

func (si *SignerInfo) signingCertificates(oid asn1.ObjectIdentifier, readID func(cryptobyte.String) (ESSCertID, error)) ([]ESSCertID, error) {
	value, err := single(si.SignedAttrs, oid)
	if err != nil || value == nil {
		return nil, err
	}
	malformed := fmt.Errorf("%w: signing-certificate attribute %v", ErrMalformed, oid)
	in := cryptobyte.String(value)
	var seq, certs cryptobyte.String
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&certs, casn1.SEQUENCE) || certs.Empty() {
		return nil, malformed
	}
	if !seq.SkipOptionalASN1(casn1.SEQUENCE) || !seq.Empty() { // policies
		return nil, malformed
	}
	var ids []ESSCertID
	for !certs.Empty() {
		if len(ids) == maxESSCertIDs {
			return nil, fmt.Errorf("%w: more than %d certificates in attribute %v", ErrLimit, maxESSCertIDs, oid)
		}
		var one cryptobyte.String
		if !certs.ReadASN1(&one, casn1.SEQUENCE) {
			return nil, malformed
		}
		id, err := readID(one)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// readESSCertIDv2 reads the contents of an ESSCertIDv2; its hash algorithm defaults to SHA-256 (RFC 5035 §4).
func readESSCertIDv2(in cryptobyte.String) (ESSCertID, error) {
	hash := crypto.SHA256
	if in.PeekASN1Tag(casn1.SEQUENCE) {
		alg, err := readAlgorithm(&in)
		if err != nil {
			return ESSCertID{}, err
		}
		if hash, err = hashByID(alg); err != nil {
			return ESSCertID{}, err
		}
	}
	return readCertHash(in, hash)
}

func readESSCertID(in cryptobyte.String) (ESSCertID, error) { return readCertHash(in, crypto.SHA1) }

// readCertHash reads certHash OCTET STRING and issuerSerial IssuerSerial OPTIONAL.
func readCertHash(in cryptobyte.String, hash crypto.Hash) (ESSCertID, error) {
	malformed := fmt.Errorf("%w: ESSCertID", ErrMalformed)
	digest, err := take(&in, casn1.OCTET_STRING, "certHash")
	if err != nil {
		return ESSCertID{}, err
	}
	if len(digest) != hash.Size() {
		return ESSCertID{}, fmt.Errorf("%w: certHash of %d bytes for %v", ErrMalformed, len(digest), hash)
	}
	id := ESSCertID{Hash: hash, Digest: digest}
	if in.Empty() {
		return id, nil
	}
	var seq, names, directory, name cryptobyte.String
	serial := new(big.Int)
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&names, casn1.SEQUENCE) || !seq.ReadASN1Integer(serial) {
		return ESSCertID{}, malformed
	}
	// RFC 5035 §4: for a public key certificate, issuer holds its issuer's name and nothing else; directoryName is [4] EXPLICIT.
	if !names.ReadASN1(&directory, explicit(4)) || !names.Empty() || !directory.ReadASN1Element(&name, casn1.SEQUENCE) || !directory.Empty() {
		return ESSCertID{}, malformed
	}
	id.RawIssuer, id.Serial = name, serial
	return id, nil
}

// encodeESS returns a signing-certificate-v2 attribute for cert.
func encodeESS(cert *x509.Certificate, hash crypto.Hash) ([]byte, error) {
	return encodeAttribute(oidSigningCertificateV2, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { // SigningCertificateV2
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { // certs
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { // ESSCertIDv2
					if hash != crypto.SHA256 { // DER leaves out a DEFAULT
						addAlgorithm(b, hashID(hash))
					}
					b.AddASN1OctetString(digestOf(hash, cert.Raw))
				})
			})
		})
	})
}

// sameName compares two Names (DER): by bytes, and failing that by their texts, since some signers write the strings of a name with
// another tag. Names of unequal length are not the same either way, which keeps the cost within that of reading the input once.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y pkix.RDNSequence
	if len(a) != len(b) || !unmarshalName(a, &x) || !unmarshalName(b, &y) || len(x) == 0 {
		return false
	}
	return slices.EqualFunc(x, y, func(m, n pkix.RelativeDistinguishedNameSET) bool { return slices.EqualFunc(m, n, sameAttribute) })
}

func unmarshalName(der []byte, name *pkix.RDNSequence) bool {
	rest, err := asn1.Unmarshal(der, name)
	return err == nil && len(rest) == 0
}

func sameAttribute(a, b pkix.AttributeTypeAndValue) bool {
	x, isText := a.Value.(string)
	y, isTextToo := b.Value.(string)
	return isText && isTextToo && x == y && a.Type.Equal(b.Type)
}
