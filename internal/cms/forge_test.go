package cms_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1"
	"encoding/asn1"
	"math/big"
	"slices"
)

// tlv encodes one DER element, independently of the package under test.
func tlv(tag byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	switch n := len(body); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	case n < 0x10000:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	default:
		return append([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, body...) // tests stay below 16 MB
	}
}

func seq(parts ...[]byte) []byte { return tlv(0x30, parts...) }
func set(parts ...[]byte) []byte { return tlv(0x31, parts...) }

func der(v any) []byte {
	b, err := asn1.Marshal(v)
	must(err)
	return b
}

func oid(numbers ...int) []byte { return der(asn1.ObjectIdentifier(numbers)) }

var (
	idData            = oid(1, 2, 840, 113549, 1, 7, 1)
	idSignedData      = oid(1, 2, 840, 113549, 1, 7, 2)
	idContentType     = oid(1, 2, 840, 113549, 1, 9, 3)
	idMessageDigest   = oid(1, 2, 840, 113549, 1, 9, 4)
	idSigningTime     = oid(1, 2, 840, 113549, 1, 9, 5)
	idProtection      = oid(1, 2, 840, 113549, 1, 9, 52)
	idSigningCert     = oid(1, 2, 840, 113549, 1, 9, 16, 2, 12)
	idTimeStampToken  = oid(1, 2, 840, 113549, 1, 9, 16, 2, 14)
	idSigningCertV2   = oid(1, 2, 840, 113549, 1, 9, 16, 2, 47)
	idSHA1            = oid(1, 3, 14, 3, 2, 26)
	idSHA256          = oid(2, 16, 840, 1, 101, 3, 4, 2, 1)
	idSHA384          = oid(2, 16, 840, 1, 101, 3, 4, 2, 2)
	idSHA512          = oid(2, 16, 840, 1, 101, 3, 4, 2, 3)
	idECDSAWithSHA256 = oid(1, 2, 840, 10045, 4, 3, 2)
	idECDSAWithSHA384 = oid(1, 2, 840, 10045, 4, 3, 3)
	idRSAEncryption   = oid(1, 2, 840, 113549, 1, 1, 1)
	idRSAPSS          = oid(1, 2, 840, 113549, 1, 1, 10)
	idMGF1            = oid(1, 2, 840, 113549, 1, 1, 8)
	idEd25519         = oid(1, 3, 101, 112)
	null              = []byte{5, 0}
)

// parts are the elements of a SignedData with one signer, each as DER, so that a test can put any of them wrong and sign the whole.
type parts struct {
	id           identity
	hash         crypto.Hash
	version      []byte
	digestAlgs   []byte
	encap        []byte
	certificates []byte
	crls         []byte
	infoVersion  []byte
	sid          []byte
	digestAlg    []byte
	attrs        [][]byte
	sigAlg       []byte
	unsigned     []byte
	after        []byte // appended to the SignerInfo
	signature    []byte // instead of the right one
}

// newParts returns the elements of a good SignedData over content, embedded, under id's key and SHA-256.
func newParts(id identity) *parts {
	return &parts{
		id: id, hash: crypto.SHA256,
		version:      der(1),
		digestAlgs:   set(seq(idSHA256)),
		encap:        seq(idData, tlv(0xa0, tlv(4, content))),
		certificates: tlv(0xa0, id.cert.Raw),
		infoVersion:  der(1),
		sid:          seq(id.cert.RawIssuer, der(id.cert.SerialNumber)),
		digestAlg:    seq(idSHA256),
		attrs: [][]byte{
			attribute(idContentType, idData),
			attribute(idMessageDigest, tlv(4, digest(crypto.SHA256, content))),
			attribute(idSigningCertV2, essV2(id, nil)),
		},
		sigAlg: seq(idECDSAWithSHA256),
	}
}

func attribute(id []byte, values ...[]byte) []byte { return seq(id, set(values...)) }

// essV2 returns a SigningCertificateV2 with one ESSCertIDv2 under SHA-256, and issuerSerial as given.
func essV2(id identity, issuerSerial []byte) []byte {
	return seq(seq(seq(tlv(4, digest(crypto.SHA256, id.cert.Raw)), issuerSerial)))
}

func essV1(id identity, issuerSerial []byte) []byte {
	sum := sha1.Sum(id.cert.Raw)
	return seq(seq(seq(tlv(4, sum[:]), issuerSerial)))
}

func issuerSerial(name []byte, serial *big.Int) []byte {
	return seq(seq(tlv(0xa4, name)), der(serial))
}

// build signs the attributes in the order in which they stand and returns the ContentInfo.
func (p *parts) build() []byte {
	signature := p.signature
	attrs := slices.Concat(p.attrs...)
	if signature == nil {
		signed := set(attrs)
		opts, input := crypto.SignerOpts(p.hash), digest(p.hash, signed)
		if _, isEd := p.id.key.(ed25519.PrivateKey); isEd {
			opts, input = crypto.Hash(0), signed
		}
		var err error
		signature, err = p.id.key.Sign(rand.Reader, input, opts)
		must(err)
	}
	var signedAttrs []byte
	if len(p.attrs) > 0 {
		signedAttrs = tlv(0xa0, attrs)
	}
	info := seq(p.infoVersion, p.sid, p.digestAlg, signedAttrs, p.sigAlg, tlv(4, signature), p.unsigned, p.after)
	return contentInfo(p.version, p.digestAlgs, p.encap, p.certificates, p.crls, set(info))
}

func contentInfo(signedData ...[]byte) []byte {
	return seq(idSignedData, tlv(0xa0, seq(signedData...)))
}
