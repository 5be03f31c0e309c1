package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Algorithm is a kind of key pair.
type Algorithm uint8

// The algorithms of key pairs. RSA keys have the public exponent 65537.
const (
	ECDSAP256 Algorithm = 1 + iota
	ECDSAP384
	RSA3072
	RSA4096
	Ed25519
)

var algorithmNames = [...]string{ECDSAP256: "ecdsa-p256", ECDSAP384: "ecdsa-p384", RSA3072: "rsa-3072", RSA4096: "rsa-4096", Ed25519: "ed25519"}

// String returns the algorithm's stable name, such as "ecdsa-p256".
func (a Algorithm) String() string {
	if a == 0 || int(a) >= len(algorithmNames) {
		return fmt.Sprintf("algorithm(%d)", uint8(a))
	}
	return algorithmNames[a]
}

// ParseAlgorithm returns the algorithm of a name. ParseAlgorithm(a.String()) == a for every valid a.
func ParseAlgorithm(name string) (Algorithm, error) {
	for i, n := range algorithmNames {
		if n == name && n != "" {
			return Algorithm(i), nil
		}
	}
	return 0, fault.New(fault.Invalid, fmt.Sprintf("key algorithm %q is not one of ecdsa-p256, ecdsa-p384, rsa-3072, rsa-4096, ed25519", name))
}

func (a Algorithm) bits() int {
	switch a {
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	}
	panic("token: bits of " + a.String())
}

func (a Algorithm) curve() elliptic.Curve {
	switch a {
	case ECDSAP256:
		return elliptic.P256()
	case ECDSAP384:
		return elliptic.P384()
	}
	panic("token: curve of " + a.String())
}

// rawSize returns the length in bytes of what C_Sign gives.
func (a Algorithm) rawSize() int {
	switch a {
	case RSA3072, RSA4096:
		return a.bits() / 8
	case Ed25519:
		return 64
	}
	return 2 * a.scalar()
}

// scalar returns the length in bytes of r and of s, 0 when the algorithm has none.
func (a Algorithm) scalar() int {
	switch a {
	case ECDSAP256:
		return 32
	case ECDSAP384:
		return 48
	}
	return 0
}

// verifies checks a signature over a SHA-256 digest (PKCS#1 v1.5 with RSA), or over a message with Ed25519.
func verifies(pub crypto.PublicKey, message, sig []byte) bool {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, message, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, message, sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(pub, message, sig)
	}
	return false
}

// algorithmOf returns the algorithm of a public key.
func algorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		}
	case *rsa.PublicKey:
		switch pub.N.BitLen() {
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return 0, fault.New(fault.Unsupported, "the public key is not ECDSA P-256 or P-384, RSA of 3072 or 4096 bits, or Ed25519")
}

// samePublic compares two public keys of any of our algorithms.
func samePublic(a, b crypto.PublicKey) bool {
	switch a := a.(type) {
	case *ecdsa.PublicKey:
		return a.Equal(b)
	case *rsa.PublicKey:
		return a.Equal(b)
	case ed25519.PublicKey:
		return a.Equal(b)
	}
	return false
}
