package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// algorithmIdentifier returns the whole DER AlgorithmIdentifier of a signature algorithm, nil for one that is not used here. RSA-PSS is
// used only with the hash of the message in MGF1 and a salt of its length (RFC 4055 §3.1), which is the one form in practice.
func algorithmIdentifier(alg x509.SignatureAlgorithm) []byte {
	ecdsaWith := func(n int) []byte { return algorithmID(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, n}, nil) }
	rsaWith := func(n int) []byte {
		return algorithmID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, n}, []byte{5, 0})
	}
	switch alg {
	case x509.ECDSAWithSHA256:
		return ecdsaWith(2)
	case x509.ECDSAWithSHA384:
		return ecdsaWith(3)
	case x509.ECDSAWithSHA512:
		return ecdsaWith(4)
	case x509.SHA256WithRSA:
		return rsaWith(11)
	case x509.SHA384WithRSA:
		return rsaWith(12)
	case x509.SHA512WithRSA:
		return rsaWith(13)
	case x509.SHA256WithRSAPSS:
		return pssID(crypto.SHA256)
	case x509.SHA384WithRSAPSS:
		return pssID(crypto.SHA384)
	case x509.SHA512WithRSAPSS:
		return pssID(crypto.SHA512)
	case x509.PureEd25519:
		return algorithmID(asn1.ObjectIdentifier{1, 3, 101, 112}, nil)
	}
	return nil
}

func algorithmID(oid asn1.ObjectIdentifier, parameters []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddBytes(parameters)
	})
	return b.BytesOrPanic()
}

// pssID returns id-RSASSA-PSS with RSASSA-PSS-params for h: hash h, MGF1 with h, salt of h's length, trailerField left at its default.
func pssID(h crypto.Hash) []byte {
	hash := algorithmID(hashOID(h), []byte{5, 0})
	mgf := algorithmID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}, hash)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for tag, value := range [][]byte{hash, mgf} {
			b.AddASN1(cbasn1.Tag(tag).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(value) })
		}
		b.AddASN1(cbasn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(h.Size())) })
	})
	return algorithmID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, b.BytesOrPanic())
}

// signatureAlgorithm returns the algorithm of a DER AlgorithmIdentifier.
func signatureAlgorithm(der []byte) (x509.SignatureAlgorithm, error) {
	for _, alg := range []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.SHA256WithRSA, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.SHA384WithRSA,
		x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS, x509.PureEd25519} {
		if bytes.Equal(algorithmIdentifier(alg), der) {
			return alg, nil
		}
	}
	// RFC 4055 §5: the parameters are NULL, and accepted when they are absent.
	for n, alg := range map[int]x509.SignatureAlgorithm{11: x509.SHA256WithRSA, 12: x509.SHA384WithRSA, 13: x509.SHA512WithRSA} {
		if bytes.Equal(algorithmID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, n}, nil), der) {
			return alg, nil
		}
	}
	return 0, fmt.Errorf("signature algorithm %x is not supported", der[:min(len(der), 64)])
}

// AlgorithmFor returns the signature algorithm and its hash that a CA with this public key signs with: the hash fits the key's strength.
func AlgorithmFor(pub crypto.PublicKey) (x509.SignatureAlgorithm, crypto.Hash, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256, crypto.SHA256, nil
		case elliptic.P384():
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		}
		return 0, 0, fmt.Errorf("cert: curve %s is not used here", k.Curve.Params().Name)
	case *rsa.PublicKey:
		return x509.SHA256WithRSA, crypto.SHA256, nil
	case ed25519.PublicKey:
		return 0, 0, errors.New("cert: Ed25519 is for checkpoints, not for certificates")
	}
	return 0, 0, fmt.Errorf("cert: a key of type %T cannot sign", pub)
}

// mustOID returns the DER of oid, one of this package's own.
func mustOID(oid asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	return b.BytesOrPanic()
}
