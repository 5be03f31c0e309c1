package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that crypto.Hash.New finds
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// AlgorithmIdentifier is an RFC 5280 §4.1.1.2 AlgorithmIdentifier. Parameters is one DER element, nil when absent.
type AlgorithmIdentifier struct {
	OID        asn1.ObjectIdentifier
	Parameters []byte
}

// Scheme is a way to sign, apart from its hash.
type Scheme uint8

const (
	RSAPKCS1 Scheme = 1 + iota // RFC 8017 §8.2
	RSAPSS                     // RFC 8017 §8.1, RFC 4056
	ECDSA                      // RFC 5753
	Ed25519                    // RFC 8419
)

// signatureKind is what a SignerInfo's algorithms come to.
type signatureKind struct {
	scheme Scheme
	hash   crypto.Hash
	salt   int // bytes, RSAPSS only
}

const (
	minRSABits = 2048
	maxRSABits = 8192 // bounds the cost of one verification
)

var (
	derNull       = []byte{5, 0}
	derSignedData = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2} // id-signedData

	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidECPublicKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidEd25519       = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// hashes are the digest algorithms by name; hash is 0 for those that are known only to be refused as weak.
var hashes = []struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
	name string
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256, "SHA-256"},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384, "SHA-384"},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512, "SHA-512"},
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, 0, "SHA-1"},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}, 0, "MD5"},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 2}, 0, "MD2"},
}

// signatures are the signature algorithms that name their hash; hash is 0 for the weak ones.
var signatures = []struct {
	oid    asn1.ObjectIdentifier
	scheme Scheme
	hash   crypto.Hash
	name   string
}{
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, ECDSA, crypto.SHA256, "ecdsa-with-SHA256"},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, ECDSA, crypto.SHA384, "ecdsa-with-SHA384"},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, ECDSA, crypto.SHA512, "ecdsa-with-SHA512"},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, RSAPKCS1, crypto.SHA256, "sha256WithRSAEncryption"},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, RSAPKCS1, crypto.SHA384, "sha384WithRSAEncryption"},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, RSAPKCS1, crypto.SHA512, "sha512WithRSAEncryption"},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, ECDSA, 0, "ecdsa-with-SHA1"},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, RSAPKCS1, 0, "sha1WithRSAEncryption"},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}, RSAPKCS1, 0, "md5WithRSAEncryption"},
}

// hashByID returns the hash that a names. Parameters are absent or NULL (RFC 5754 §2: both are to be accepted).
func hashByID(a AlgorithmIdentifier) (crypto.Hash, error) {
	for _, h := range hashes {
		if !a.OID.Equal(h.oid) {
			continue
		}
		if h.hash == 0 {
			return 0, fmt.Errorf("%w: digest %s", ErrWeak, h.name)
		}
		if !a.plain() {
			return 0, fmt.Errorf("%w: parameters of digest %s", ErrMalformed, h.name)
		}
		return h.hash, nil
	}
	return 0, fmt.Errorf("%w: digest algorithm %v", ErrUnsupported, a.OID)
}

// plain reports whether the parameters are absent or NULL.
func (a AlgorithmIdentifier) plain() bool {
	return len(a.Parameters) == 0 || bytes.Equal(a.Parameters, derNull)
}

// same reports whether a and b name the same algorithm, NULL parameters being as good as none.
func (a AlgorithmIdentifier) same(b AlgorithmIdentifier) bool {
	return a.OID.Equal(b.OID) && (a.plain() && b.plain() || bytes.Equal(a.Parameters, b.Parameters))
}

// kind returns the signature scheme and hash of a SignerInfo, and refuses those that are weak, unknown or contradict each other.
func (si *SignerInfo) kind() (signatureKind, error) {
	hash, err := hashByID(si.DigestAlgorithm)
	if err != nil {
		return signatureKind{}, err
	}
	alg := si.SignatureAlgorithm
	switch {
	case alg.OID.Equal(oidRSAPSS):
		return pssKind(alg.Parameters, hash)
	case alg.OID.Equal(oidEd25519):
		// RFC 8419 §3.1: the message digest of an Ed25519 SignerInfo is SHA-512.
		if hash != crypto.SHA512 || alg.Parameters != nil {
			return signatureKind{}, fmt.Errorf("%w: Ed25519 with a digest other than SHA-512, or with parameters", ErrAlgorithm)
		}
		return signatureKind{scheme: Ed25519, hash: hash}, nil
	case !alg.plain():
		return signatureKind{}, fmt.Errorf("%w: parameters of signature algorithm %v", ErrMalformed, alg.OID)
	case alg.OID.Equal(oidRSAEncryption): // RFC 3370 §3.2: the digest algorithm says which hash
		return signatureKind{scheme: RSAPKCS1, hash: hash}, nil
	case alg.OID.Equal(oidECPublicKey): // not conforming, and written by smart card middleware all the same
		return signatureKind{scheme: ECDSA, hash: hash}, nil
	}
	for _, s := range signatures {
		switch {
		case !alg.OID.Equal(s.oid):
		case s.hash == 0:
			return signatureKind{}, fmt.Errorf("%w: signature %s", ErrWeak, s.name)
		case s.hash != hash:
			return signatureKind{}, fmt.Errorf("%w: signature %s over a %v digest", ErrAlgorithm, s.name, hash)
		default:
			return signatureKind{scheme: s.scheme, hash: hash}, nil
		}
	}
	return signatureKind{}, fmt.Errorf("%w: signature algorithm %v", ErrUnsupported, alg.OID)
}

// pssKind reads RSASSA-PSS-params (RFC 4055 §3.1). Every default in it stands for SHA-1, so hash and mask generation must be explicit.
func pssKind(params []byte, digest crypto.Hash) (signatureKind, error) {
	fail := func(reason error, what string) (signatureKind, error) {
		return signatureKind{}, fmt.Errorf("%w: RSASSA-PSS %s", reason, what)
	}
	in := cryptobyte.String(params)
	var seq, hashSeq, mgfSeq cryptobyte.String
	var hasHash, hasMGF bool
	salt, trailer := int64(20), int64(1)
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadOptionalASN1(&hashSeq, &hasHash, explicit(0)) ||
		!seq.ReadOptionalASN1(&mgfSeq, &hasMGF, explicit(1)) ||
		!seq.ReadOptionalASN1Integer(&salt, explicit(2), int64(20)) ||
		!seq.ReadOptionalASN1Integer(&trailer, explicit(3), int64(1)) || !seq.Empty() {
		return fail(ErrMalformed, "parameters")
	}
	if !hasHash || !hasMGF {
		return fail(ErrWeak, "with its default hash, SHA-1")
	}
	hashID, err1 := readAlgorithm(&hashSeq)
	mgfID, err2 := readAlgorithm(&mgfSeq)
	if err1 != nil || err2 != nil || !hashSeq.Empty() || !mgfSeq.Empty() || !mgfID.OID.Equal(oidMGF1) {
		return fail(ErrMalformed, "hash or mask generation algorithm")
	}
	mgfParams := cryptobyte.String(mgfID.Parameters)
	mgfHashID, err := readAlgorithm(&mgfParams)
	if err != nil || !mgfParams.Empty() {
		return fail(ErrMalformed, "mask generation hash")
	}
	hash, err := hashByID(hashID)
	if err != nil {
		return signatureKind{}, err
	}
	mgfHash, err := hashByID(mgfHashID)
	if err != nil {
		return signatureKind{}, err
	}
	if hash != digest || mgfHash != hash { // RFC 4056 §3: one hash for all
		return fail(ErrAlgorithm, "with differing hashes")
	}
	if salt < 0 || salt > maxRSABits/8 || trailer != 1 {
		return fail(ErrMalformed, "salt length or trailer")
	}
	return signatureKind{scheme: RSAPSS, hash: hash, salt: int(salt)}, nil
}

// verify checks signature over the signed attributes (their DER, tagged as SET OF) with pub.
func (k signatureKind) verify(pub crypto.PublicKey, signed, signature []byte) error {
	wrong := fmt.Errorf("%w: the certificate's key is of another kind (%T)", ErrAlgorithm, pub)
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		if k.scheme != ECDSA {
			return wrong
		}
		if key.Curve == elliptic.P224() {
			return fmt.Errorf("%w: curve P-224", ErrWeak)
		}
		if !ecdsa.VerifyASN1(key, digestOf(k.hash, signed), signature) {
			return ErrSignature
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits {
			return fmt.Errorf("%w: RSA of %d bits", ErrWeak, bits)
		} else if bits > maxRSABits {
			return fmt.Errorf("%w: RSA of %d bits", ErrUnsupported, bits)
		}
		return k.verifyRSA(key, digestOf(k.hash, signed), signature, wrong)
	case ed25519.PublicKey:
		if k.scheme != Ed25519 {
			return wrong
		}
		if !ed25519.Verify(key, signed, signature) {
			return ErrSignature
		}
	default:
		return fmt.Errorf("%w: key of type %T", ErrUnsupported, pub)
	}
	return nil
}

func (k signatureKind) verifyRSA(key *rsa.PublicKey, digest, signature []byte, wrong error) error {
	var err error
	switch k.scheme {
	case RSAPKCS1:
		err = rsa.VerifyPKCS1v15(key, k.hash, digest, signature)
	case RSAPSS:
		// An announced salt length of 0 is rsa.PSSSaltLengthAuto, any length: crypto/rsa cannot demand an empty salt, and nothing hangs on it.
		err = rsa.VerifyPSS(key, k.hash, digest, signature, &rsa.PSSOptions{SaltLength: k.salt})
	default:
		return wrong
	}
	if err != nil {
		return ErrSignature
	}
	return nil
}

func digestOf(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// explicit is the tag [n], constructed.
func explicit(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }
