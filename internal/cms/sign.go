package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/der"
)

// SignParams says what a SignedData is to hold.
type SignParams struct {
	ContentType   asn1.ObjectIdentifier // nil = id-data
	Content       []byte                // nil = detached
	MessageDigest []byte                // of a detached content, under Hash; with Content it is computed
	Hash          crypto.Hash           // SHA-256, SHA-384 or SHA-512
	Certificate   *x509.Certificate     // the signer's; its key is the signing key
	Chain         []*x509.Certificate   // embedded besides Certificate
	EmbedNone     bool                  // leave out all certificates (RFC 3161 §2.4.1: certReq false)
	PSS           bool                  // RSASSA-PSS for an RSA key, salt as long as the hash
}

// Sign signs with key, which is given digests only, and returns a SignedData with one SignerInfo. rand is handed to key.
func Sign(rand io.Reader, p SignParams, key crypto.Signer) (*SignedData, error) {
	producer, err := NewProducer(p, key)
	if err != nil {
		return nil, err
	}
	return producer.SignedData(rand, p.Content, p.MessageDigest)
}

// Producer makes many SignedData under one key: it holds, encoded once, all that they have in common. It is safe for concurrent use
// when its key is.
type Producer struct {
	key  crypto.Signer
	opts crypto.SignerOpts
	hash crypto.Hash

	head         []byte // version and digestAlgorithms of the SignedData
	contentType  []byte // OBJECT IDENTIFIER
	certificates []byte // [0] element, or empty
	signerHead   []byte // version, sid and digestAlgorithm of the SignerInfo
	attributes   []byte // the signed attributes as SET OF, whose message digest is zeros
	digestAt     int    // where in them it is
	algorithm    []byte // signatureAlgorithm
	maxSignature int    // bytes
	known        []*x509.Certificate
}

// NewProducer checks p and prepares for signing with it; Content and MessageDigest are not looked at.
func NewProducer(p SignParams, key crypto.Signer) (*Producer, error) {
	if p.Certificate == nil || key == nil {
		return nil, errors.New("cms: a signer needs a certificate and a key")
	}
	pub, ok := p.Certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("cms: the key is not that of the certificate of %q", p.Certificate.Subject.CommonName)
	}
	alg, opts, maxSignature, err := signingAlgorithm(p, key.Public())
	if err != nil {
		return nil, err
	}
	c := &Producer{key: key, opts: opts, hash: p.Hash, maxSignature: maxSignature}
	if p.ContentType == nil {
		p.ContentType = oidData
	}
	if !p.EmbedNone {
		c.known = append([]*x509.Certificate{p.Certificate}, p.Chain...)
	}
	return c, c.encode(p, alg)
}

// encode fills in what is the same in every SignedData.
func (c *Producer) encode(p SignParams, alg AlgorithmIdentifier) error {
	var err error
	collect := func(der []byte, e error) []byte {
		err = errors.Join(err, e)
		return der
	}
	version := int64(1)
	if !p.ContentType.Equal(oidData) {
		version = 3 // RFC 5652 §5.1
	}
	digestAlgorithm := collect(encode(func(b *cryptobyte.Builder) { addAlgorithm(b, hashID(p.Hash)) }))
	c.head = collect(encode(func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(digestAlgorithm) })
	}))
	c.contentType = collect(encode(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(p.ContentType) }))
	c.algorithm = collect(encode(func(b *cryptobyte.Builder) { addAlgorithm(b, alg) }))
	collect(nil, c.encodeAttributes(p))
	c.signerHead = collect(encode(func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // RFC 5652 §5.3: version 1 goes with issuerAndSerialNumber
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(p.Certificate.RawIssuer)
			b.AddASN1BigInt(p.Certificate.SerialNumber)
		})
		b.AddBytes(digestAlgorithm)
	}))
	if len(c.known) > 0 {
		var set [][]byte
		seen := map[string]bool{}
		for _, cert := range c.known {
			if !seen[string(cert.Raw)] {
				seen[string(cert.Raw)] = true
				set = append(set, cert.Raw)
			}
		}
		if len(set) > MaxCertificates {
			return fmt.Errorf("%w: more than %d certificates", ErrLimit, MaxCertificates)
		}
		c.certificates = der.Append(nil, explicit(0), setOf(set...))
	}
	return err
}

// encodeAttributes fills in the signed attributes: EN 319 142-1 §6.3 leaves no others in a baseline signature without more to say, and bars
// signing-time. Which of them comes first is decided before the digest's own bytes are compared.
func (c *Producer) encodeAttributes(p SignParams) error {
	contentType, err1 := encodeAttribute(oidContentType, func(b *cryptobyte.Builder) { b.AddBytes(c.contentType) })
	digest, err2 := encodeAttribute(oidMessageDigest, func(b *cryptobyte.Builder) { b.AddASN1OctetString(make([]byte, p.Hash.Size())) })
	ess, err3 := encodeESS(p.Certificate, p.Hash)
	c.attributes = der.Append(nil, casn1.SET, setOf(contentType, digest, ess))
	c.digestAt = bytes.Index(c.attributes, digest) + len(digest) - p.Hash.Size()
	return errors.Join(err1, err2, err3)
}

// SignedData is Sign, read back.
func (c *Producer) SignedData(rand io.Reader, content, digest []byte) (*SignedData, error) {
	made, err := c.Sign(rand, content, digest)
	if err != nil {
		return nil, err
	}
	return parse(made, c.known)
}

// Sign returns the DER of a SignedData over content, or over the detached content with the given digest when content is nil.
func (c *Producer) Sign(rand io.Reader, content, digest []byte) ([]byte, error) {
	if content != nil {
		digest = digestOf(c.hash, content)
	}
	if len(digest) != c.hash.Size() {
		return nil, fmt.Errorf("cms: a message digest of %d bytes is not one of %v", len(digest), c.hash)
	}
	attrs := c.signedAttributes(digest)
	signature, err := c.key.Sign(rand, digestOf(c.hash, attrs), c.opts)
	if err != nil {
		return nil, fmt.Errorf("cms: signing the attributes: %w", err)
	}
	if len(signature) == 0 || len(signature) > c.maxSignature {
		return nil, fmt.Errorf("cms: the key made a signature of %d bytes, at most %d are possible", len(signature), c.maxSignature)
	}
	return c.assemble(content, attrs, signature), nil
}

// MaxSize returns an upper bound, in bytes, for what Sign returns over a content of n bytes; n < 0 stands for a detached content.
func (c *Producer) MaxSize(n int) int {
	var content []byte
	if n >= 0 {
		content = make([]byte, n)
	}
	return len(c.assemble(content, c.attributes, make([]byte, c.maxSignature)))
}

// signedAttributes returns the signed attributes over digest, as SET OF.
func (c *Producer) signedAttributes(digest []byte) []byte {
	attrs := bytes.Clone(c.attributes)
	copy(attrs[c.digestAt:], digest)
	return attrs
}

// assemble puts the ContentInfo together: its sizes from the inside out, then each byte once.
func (c *Producer) assemble(content, attrs, signature []byte) []byte {
	info := len(c.signerHead) + len(attrs) + len(c.algorithm) + der.Size(len(signature))
	encap := len(c.contentType)
	if content != nil {
		encap += der.Size(der.Size(len(content)))
	}
	signed := len(c.head) + der.Size(encap) + len(c.certificates) + der.Size(der.Size(info))
	outer := len(derSignedData) + der.Size(der.Size(signed))

	b := der.AppendHeader(make([]byte, 0, der.Size(outer)), casn1.SEQUENCE, outer) // ContentInfo
	b = append(b, derSignedData...)
	b = der.AppendHeader(b, explicit(0), der.Size(signed))
	b = der.AppendHeader(b, casn1.SEQUENCE, signed)
	b = append(b, c.head...)
	b = der.AppendHeader(b, casn1.SEQUENCE, encap) // encapContentInfo
	b = append(b, c.contentType...)
	if content != nil {
		b = der.AppendHeader(b, explicit(0), der.Size(len(content)))
		b = der.Append(b, casn1.OCTET_STRING, content)
	}
	b = append(b, c.certificates...)
	b = der.AppendHeader(b, casn1.SET, der.Size(info)) // signerInfos
	b = der.AppendHeader(b, casn1.SEQUENCE, info)
	b = append(b, c.signerHead...)
	b = append(b, byte(explicit(0))) // RFC 5652 §5.4: in the SignerInfo the set stands under [0] IMPLICIT
	b = append(b, attrs[1:]...)
	b = append(b, c.algorithm...)
	return der.Append(b, casn1.OCTET_STRING, signature)
}

// hashID returns the AlgorithmIdentifier of h, without parameters (RFC 5754 §2).
func hashID(h crypto.Hash) AlgorithmIdentifier {
	for _, e := range hashes {
		if e.hash == h && h != 0 {
			return AlgorithmIdentifier{OID: e.oid}
		}
	}
	panic(fmt.Sprintf("cms: no identifier for hash %v", h)) // signingAlgorithm let only those of the table in
}

// signingAlgorithm returns the signature algorithm for pub under p, the options that its key takes, and the longest signature.
func signingAlgorithm(p SignParams, pub crypto.PublicKey) (AlgorithmIdentifier, crypto.SignerOpts, int, error) {
	none := AlgorithmIdentifier{}
	if p.Hash != crypto.SHA256 && p.Hash != crypto.SHA384 && p.Hash != crypto.SHA512 {
		return none, nil, 0, fmt.Errorf("%w: signing with hash %v", ErrUnsupported, p.Hash)
	}
	scheme, size := RSAPKCS1, 0
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		// SEQUENCE of two INTEGERs, each possibly with a leading zero: 3+2 header bytes at most for the sequence and each number.
		scheme, size = ECDSA, 2*((key.Params().BitSize+7)/8)+9
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return none, nil, 0, fmt.Errorf("%w: signing with RSA of %d bits", ErrUnsupported, bits)
		}
		size = key.Size()
	default:
		return none, nil, 0, fmt.Errorf("%w: signing with a key of type %T", ErrUnsupported, pub)
	}
	if p.PSS {
		if scheme != RSAPKCS1 {
			return none, nil, 0, fmt.Errorf("%w: PSS with a key that is not RSA", ErrUnsupported)
		}
		params, err := encodePSS(p.Hash)
		return AlgorithmIdentifier{OID: oidRSAPSS, Parameters: params}, &rsa.PSSOptions{SaltLength: p.Hash.Size(), Hash: p.Hash}, size, err
	}
	alg := none
	for _, s := range signatures {
		if s.scheme == scheme && s.hash == p.Hash {
			alg.OID = s.oid
		}
	}
	if scheme == RSAPKCS1 {
		alg.Parameters = derNull // RFC 4055 §5: NULL, where ECDSA has none (RFC 5753 §2.1.1)
	}
	return alg, p.Hash, size, nil
}

// encodePSS returns RSASSA-PSS-params (RFC 4055 §3.1) with one hash for all and a salt as long as it.
func encodePSS(h crypto.Hash) ([]byte, error) {
	id := hashID(h)
	id.Parameters = derNull // RFC 4055 §2.1: implementations are known to want NULL here
	return encode(func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { addAlgorithm(b, id) })
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidMGF1)
					addAlgorithm(b, id)
				})
			})
			b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(h.Size())) })
		})
	})
}
