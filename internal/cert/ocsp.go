package cert

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // CertIDs in requests still use it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OCSPStatus is what a responder says of one certificate (RFC 6960 §2.2).
type OCSPStatus int

const (
	OCSPGood    OCSPStatus = iota // issued, and not revoked
	OCSPRevoked                   // revoked, at a time and perhaps for a reason
	OCSPUnknown                   // never issued by the CA asked about, or the CA is not ours
)

// String returns the status's name in RFC 6960.
func (s OCSPStatus) String() string {
	switch s {
	case OCSPGood:
		return "good"
	case OCSPRevoked:
		return "revoked"
	case OCSPUnknown:
		return "unknown"
	}
	return fmt.Sprintf("OCSPStatus(%d)", int(s))
}

// The OCSPResponseStatus values of RFC 6960 §4.2.1; all but OCSPSuccessful come without a body and without a signature.
const (
	OCSPSuccessful       = 0
	OCSPMalformedRequest = 1
	OCSPInternalError    = 2
	OCSPTryLater         = 3
	OCSPSigRequired      = 5
	OCSPUnauthorized     = 6
)

// Limits on what is read from outside. They are far above what honest peers send.
const (
	MaxOCSPRequest  = 16 << 10 // bytes of one request
	MaxOCSPSingles  = 32       // certificates asked for in one request
	MaxOCSPResponse = 1 << 20  // bytes of one response
	maxOCSPCerts    = 16       // certificates embedded in one response
	maxNonce        = 128      // RFC 9654 §2.1
)

var (
	oidOCSPBasic         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidOCSPNonce         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidOCSPNoCheck       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidOCSPArchiveCutoff = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 6}
	oidSHA1              = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256            = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384            = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512            = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
)

// CertID names a certificate by hashes of its issuer's name and key and by its serial (RFC 6960 §4.1.1).
type CertID struct {
	Hash     crypto.Hash // SHA-1, SHA-256, SHA-384 or SHA-512; 0 is an algorithm that is not known here, which matches nothing
	NameHash []byte      // of the issuer's distinguished name, DER
	KeyHash  []byte      // of the issuer's subjectPublicKey, the BIT STRING's content
	Serial   *big.Int

	raw []byte // as it was read: a response repeats the requester's own encoding
}

// NewCertID returns the CertID of the certificate with this serial issued by issuer.
func NewCertID(h crypto.Hash, issuer *x509.Certificate, serial *big.Int) (CertID, error) {
	if hashOID(h) == nil {
		return CertID{}, fmt.Errorf("cert: %v in an OCSP CertID is not supported", h)
	}
	key, err := subjectPublicKey(issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return CertID{}, fmt.Errorf("cert: issuer's public key: %w", err)
	}
	return CertID{Hash: h, NameHash: digest(h, issuer.RawSubject), KeyHash: digest(h, key), Serial: serial}, nil
}

// Matches reports whether id names cert as issued by issuer. Only the hashes and the serial are compared: that issuer signed cert is
// for the caller to know.
func (id CertID) Matches(cert, issuer *x509.Certificate) bool {
	if id.Hash == 0 || id.Serial == nil || id.Serial.Cmp(cert.SerialNumber) != 0 {
		return false
	}
	want, err := NewCertID(id.Hash, issuer, cert.SerialNumber)
	return err == nil && bytes.Equal(want.NameHash, id.NameHash) && bytes.Equal(want.KeyHash, id.KeyHash)
}

func hashOID(h crypto.Hash) asn1.ObjectIdentifier {
	switch h {
	case crypto.SHA1:
		return oidSHA1
	case crypto.SHA256:
		return oidSHA256
	case crypto.SHA384:
		return oidSHA384
	case crypto.SHA512:
		return oidSHA512
	}
	return nil
}

func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if oid.Equal(hashOID(h)) {
			return h
		}
	}
	return 0
}

func digest(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// subjectPublicKey returns the content of the BIT STRING of a SubjectPublicKeyInfo, without the octet of unused bits.
func subjectPublicKey(spki []byte) ([]byte, error) {
	in := cryptobyte.String(spki)
	var seq cryptobyte.String
	var key asn1.BitString
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.SkipASN1(cbasn1.SEQUENCE) || !seq.ReadASN1BitString(&key) || !seq.Empty() {
		return nil, errors.New("not a SubjectPublicKeyInfo")
	}
	return key.RightAlign(), nil
}

// readCertID reads one CertID. An unknown hash algorithm is not an error: the answer is then "unknown".
func readCertID(in *cryptobyte.String, id *CertID) error {
	var raw, seq, alg cryptobyte.String
	if !in.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
		return errors.New("CertID is not a SEQUENCE")
	}
	id.raw = raw
	var oid asn1.ObjectIdentifier
	if !raw.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) {
		return errors.New("CertID.hashAlgorithm is malformed")
	}
	var name, key cryptobyte.String
	if !seq.ReadASN1(&name, cbasn1.OCTET_STRING) || !seq.ReadASN1(&key, cbasn1.OCTET_STRING) {
		return errors.New("CertID hashes are not OCTET STRINGs")
	}
	id.NameHash, id.KeyHash, id.Serial = name, key, new(big.Int)
	if !seq.ReadASN1Integer(id.Serial) || !seq.Empty() {
		return errors.New("CertID.serialNumber is malformed")
	}
	id.Hash = hashOf(oid)
	if id.Hash != 0 && (len(name) != id.Hash.Size() || len(key) != id.Hash.Size()) {
		return fmt.Errorf("CertID hashes have %d and %d bytes, %v has %d", len(name), len(key), id.Hash, id.Hash.Size())
	}
	return nil
}

// add writes the CertID: the bytes that were read, if it was read.
func (id CertID) add(b *cryptobyte.Builder) {
	if id.raw != nil {
		b.AddBytes(id.raw)
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(hashOID(id.Hash))
			b.AddASN1NULL() // RFC 4055 §2.1 allows both forms; every implementation reads this one
		})
		b.AddASN1OctetString(id.NameHash)
		b.AddASN1OctetString(id.KeyHash)
		b.AddASN1BigInt(id.Serial)
	})
}

// extension is one Extension of a certificate, CRL or OCSP message.
type extension struct {
	id       asn1.ObjectIdentifier
	critical bool
	value    []byte
}

// readExtensions reads `Extensions` (a SEQUENCE in an explicit tag has been opened by the caller) and refuses duplicates.
func readExtensions(in cryptobyte.String) ([]extension, error) {
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errors.New("Extensions is not a SEQUENCE")
	}
	var list []extension
	for !seq.Empty() {
		var one, value cryptobyte.String
		var e extension
		if !seq.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&e.id) {
			return nil, errors.New("Extension is malformed")
		}
		if one.PeekASN1Tag(cbasn1.BOOLEAN) && !one.ReadASN1Boolean(&e.critical) {
			return nil, fmt.Errorf("extension %v: critical is malformed", e.id)
		}
		if !one.ReadASN1(&value, cbasn1.OCTET_STRING) || !one.Empty() {
			return nil, fmt.Errorf("extension %v: value is not an OCTET STRING", e.id)
		}
		e.value = value
		for _, other := range list {
			if other.id.Equal(e.id) { // RFC 5280 §4.2: at most one instance
				return nil, fmt.Errorf("extension %v comes twice", e.id)
			}
		}
		if list = append(list, e); len(list) > 32 {
			return nil, errors.New("more than 32 extensions")
		}
	}
	return list, nil
}

// readNonce returns the octets of a Nonce extension's value.
func readNonce(value []byte) ([]byte, error) {
	in := cryptobyte.String(value)
	var nonce cryptobyte.String
	if !in.ReadASN1(&nonce, cbasn1.OCTET_STRING) || !in.Empty() {
		return nil, errors.New("nonce is not an OCTET STRING")
	}
	if len(nonce) == 0 || len(nonce) > maxNonce {
		return nil, fmt.Errorf("nonce has %d bytes, 1 to %d are allowed", len(nonce), maxNonce)
	}
	return nonce, nil
}

// readTime reads a GeneralizedTime as RFC 5280 §4.1.2.5.2 wants it, tolerating an offset other than Z in others' responses.
func readTime(in *cryptobyte.String, t *time.Time, what string) error {
	if !in.ReadASN1GeneralizedTime(t) {
		return fmt.Errorf("%s is not a GeneralizedTime", what)
	}
	*t = t.UTC()
	return nil
}
