package replica

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Pin is the Ed25519 public key that the other side of a connection must prove to have: there is no CA between a primary and its backup.
type Pin [ed25519.PublicKeySize]byte

const pinPrefix = "ed25519:"

// String returns "ed25519:" and 64 hex digits.
func (p Pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

// ParsePin reads what String returns, and nothing else.
//
//	ParsePin(p.String()) == p
func ParsePin(s string) (Pin, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(s, pinPrefix))
	if err != nil || len(raw) != len(Pin{}) || Pin(raw).String() != s {
		return Pin{}, fmt.Errorf("replica: %q is not a pin: %s and 64 lower-case hex digits", s, pinPrefix)
	}
	return Pin(raw), nil
}

// Identity is a key with its certificate, by which one side shows itself in TLS.
type Identity struct {
	cert tls.Certificate
	pin  Pin
}

// NewIdentity returns the identity of an Ed25519 key, which may be in a token. The certificate is the same at each call: it says nothing but the key, and
// the other side looks at nothing but the key.
func NewIdentity(key crypto.Signer) (Identity, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Identity{}, fmt.Errorf("replica: an identity's key is a %T, not Ed25519", key.Public())
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "aes-appliance replication"},
		NotBefore:    time.Unix(0, 0).UTC(),
		// RFC 5280 §4.1.2.5: 99991231235959Z is for certificates without a well-defined end. A key is given up by removing its pin.
		NotAfter:    time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key) // Ed25519 uses no randomness
	if err != nil {
		return Identity{}, fmt.Errorf("replica: making the certificate of an identity: %w", err)
	}
	return Identity{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, Pin(pub)}, nil
}

// Pin returns what the other side is to be told.
func (i Identity) Pin() Pin { return i.pin }

// errStranger is what a handshake with a key that was not expected ends with.
var errStranger = errors.New("replica: the other side has not the key that is expected")

// tlsConfig returns the TLS of both sides: 1.3 only, certificates both ways, each handshake a full one that ends with known(pin).
func tlsConfig(id Identity, known func(Pin) bool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{id.cert},
		ClientAuth:   tls.RequireAnyClientCert,
		NextProtos:   []string{"h2"},
		// TLS 1.3 proves that the other side has the key of its certificate; whose key that is VerifyConnection says, not a CA.
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			pin, err := peerPin(cs)
			if err != nil {
				return err
			}
			if !known(pin) {
				return fmt.Errorf("%w: it has %s", errStranger, pin)
			}
			return nil
		},
	}
}

// peerPin returns the key of the other side of a connection.
func peerPin(cs tls.ConnectionState) (Pin, error) {
	if len(cs.PeerCertificates) != 1 {
		return Pin{}, fmt.Errorf("replica: the other side shows %d certificates, not one", len(cs.PeerCertificates))
	}
	pub, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return Pin{}, fmt.Errorf("replica: the other side's key is a %T, not Ed25519", cs.PeerCertificates[0].PublicKey)
	}
	return Pin(pub), nil
}
