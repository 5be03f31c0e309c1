package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// identity is a key and its certificate, issued by a root of the same kind of key.
type identity struct {
	key     crypto.Signer
	cert    *x509.Certificate
	root    *x509.Certificate
	rootKey crypto.Signer
}

// identities makes each kind of identity once for the whole test run: RSA keys are slow to make.
var identities = map[string]func() identity{
	"P-256":    sync.OnceValue(func() identity { return issue(ecKey(elliptic.P256())) }),
	"P-384":    sync.OnceValue(func() identity { return issue(ecKey(elliptic.P384())) }),
	"P-521":    sync.OnceValue(func() identity { return issue(ecKey(elliptic.P521())) }),
	"P-224":    sync.OnceValue(func() identity { return issue(ecKey(elliptic.P224())) }),
	"RSA-2048": sync.OnceValue(func() identity { return issue(rsaKey(2048)) }),
	"RSA-3072": sync.OnceValue(func() identity { return issue(rsaKey(3072)) }),
	"RSA-1024": sync.OnceValue(func() identity { return issue(rsaKey(1024)) }),
	"Ed25519": sync.OnceValue(func() identity {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		must(err)
		return issue(key)
	}),
}

func ecKey(c elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	must(err)
	return key
}

func rsaKey(bits int) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	must(err)
	return key
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// issue makes a root with a P-256 key, and under it a certificate for key.
func issue(key crypto.Signer) identity {
	rootKey := ecKey(elliptic.P256())
	root := makeCert("Test Root", 1, nil, rootKey.Public(), rootKey, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	return identity{key, makeCert("Doctor Clinician", 0x8001, root, key.Public(), rootKey, nil), root, rootKey}
}

// twin makes another certificate with the same issuer, serial number and key.
func (id identity) twin() *x509.Certificate {
	return makeCert("Doctor Clinician", 0x8001, id.root, id.key.Public(), id.rootKey, nil)
}

func makeCert(name string, serial int64, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{Country: []string{"GB"}, CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageContentCommitment, SubjectKeyId: []byte(name),
	}
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return cert
}

// openssl runs the openssl command in dir and returns what it wrote, both streams, and whether it was content.
func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("openssl cannot be run: %v; install the Debian package openssl", err)
	}
	return out.String(), err
}

func writeFile(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func pemCert(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func pemKey(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func digest(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}
