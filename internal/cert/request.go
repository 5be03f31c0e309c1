package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
)

// Algorithm is a kind of key. The values are fixed: they stand in the log and in the API.
type Algorithm string

const (
	ECDSAP256 Algorithm = "ecdsa-p256"
	ECDSAP384 Algorithm = "ecdsa-p384"
	RSA3072   Algorithm = "rsa-3072"
	RSA4096   Algorithm = "rsa-4096"
)

// AlgorithmOf returns the algorithm of a public key, or an error when it is not one of those in use: other curves, RSA moduli of other
// sizes, and public exponents but 65537 are not.
func AlgorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		}
		return "", fmt.Errorf("cert: curve %s is not used here", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if k.E != 65537 || k.N.Sign() <= 0 || k.N.Bit(0) == 0 {
			return "", errors.New("cert: the RSA key's modulus is even or its exponent is not 65537")
		}
		switch k.N.BitLen() {
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
		return "", fmt.Errorf("cert: an RSA key of %d bits is not used here, 3072 and 4096 are", k.N.BitLen())
	}
	return "", fmt.Errorf("cert: a key of type %T is not used here", pub)
}

// maxRequest is more than a PKCS#10 request with an RSA-4096 key and many names needs.
const maxRequest = 32 << 10

// ParseRequest reads a PKCS#10 request (RFC 2986), DER, nothing after it, and checks the proof of possession: its self-signature. What
// names it asks for is not looked at: the CA says what stands in the certificate.
func ParseRequest(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("cert: PKCS#10 request of %d bytes, %d are allowed", len(der), maxRequest)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("cert: PKCS#10 request: %w", err)
	}
	if _, err := AlgorithmOf(r.PublicKey); err != nil {
		return nil, err
	}
	if slices.Contains([]x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1}, r.SignatureAlgorithm) {
		return nil, fmt.Errorf("cert: PKCS#10 request signed with %v", r.SignatureAlgorithm)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("cert: PKCS#10 request: proof of possession: %w", err)
	}
	return r, nil
}

// CreateRequest returns a PKCS#10 request for the key with this subject.
func CreateRequest(rand io.Reader, s Subject, key crypto.Signer) ([]byte, error) {
	clean, err := s.Clean()
	if err != nil {
		return nil, fmt.Errorf("cert: PKCS#10 request: %w", err)
	}
	alg, _, err := AlgorithmFor(key.Public())
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand, &x509.CertificateRequest{RawSubject: clean.DER(), SignatureAlgorithm: alg}, key)
	if err != nil {
		return nil, fmt.Errorf("cert: PKCS#10 request: %w", err)
	}
	return der, nil
}

// NewSerial returns a positive serial number from 128 random bits. The chance that two are equal is that of guessing a key.
func NewSerial(rand io.Reader) (*big.Int, error) {
	var b [16]byte
	for {
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return nil, fmt.Errorf("cert: random serial: %w", err)
		}
		if n := new(big.Int).SetBytes(b[:]); n.Sign() > 0 { // RFC 5280 §4.1.2.2: positive, at most 20 octets
			return n, nil
		}
	}
}
