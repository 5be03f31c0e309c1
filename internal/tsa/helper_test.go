package tsa_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/tsp"
)

var (
	policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1, 1, 100}
	now    = time.Now().UTC().Truncate(time.Second).Add(345 * time.Millisecond)
)

// pki is a root, a CA under it and a time-stamping certificate under that.
type pki struct {
	root, ca, cert *x509.Certificate
	caKey, key     crypto.Signer
}

var pkis = map[string]func() pki{
	"P-256":    sync.OnceValue(func() pki { return newPKI(ecKey(elliptic.P256()), nil) }),
	"P-384":    sync.OnceValue(func() pki { return newPKI(ecKey(elliptic.P384()), nil) }),
	"P-521":    sync.OnceValue(func() pki { return newPKI(ecKey(elliptic.P521()), nil) }),
	"RSA-3072": sync.OnceValue(func() pki { return newPKI(rsaKey(), nil) }),
}

func ecKey(c elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	must(err)
	return key
}

func rsaKey() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	must(err)
	return key
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newPKI(key crypto.Signer, change func(*x509.Certificate)) pki {
	caOf := func(name string, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
		return certify(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, parent, pub, signer)
	}
	rootKey, caKey := ecKey(elliptic.P256()), ecKey(elliptic.P256())
	p := pki{key: key, caKey: caKey}
	p.root = caOf("Test Root CA", nil, rootKey.Public(), rootKey)
	p.ca = caOf("Test Time CA", p.root, caKey.Public(), rootKey)
	p.cert = p.issue(change)
	return p
}

// issue makes another time-stamping certificate for the key.
func (p pki) issue(change func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(0x7001), Subject: pkix.Name{Country: []string{"GB"}, CommonName: "Test TSA"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{eku(true, 8)}}
	if change != nil {
		change(template)
	}
	return certify(template, p.ca, p.key.Public(), p.caKey)
}

// eku is an extended key usage extension of the given members of id-kp (8 is timeStamping).
func eku(critical bool, members ...int) pkix.Extension {
	var oids []asn1.ObjectIdentifier
	for _, m := range members {
		oids = append(oids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, m})
	}
	value, err := asn1.Marshal(oids)
	must(err)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}
}

// keyPeriod is a privateKeyUsagePeriod; a zero time is left out.
func keyPeriod(from, to time.Time) pkix.Extension {
	var body []byte
	for i, t := range []time.Time{from, to} {
		if !t.IsZero() {
			body = append(body, 0x80|byte(i), 15)
			body = t.UTC().AppendFormat(body, "20060102150405Z")
		}
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 16}, Value: append([]byte{0x30, byte(len(body))}, body...)}
}

func certify(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(24*time.Hour)
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

// fakeClock gives one reading, or one error, over and over.
type fakeClock struct {
	reading clock.Reading
	err     error
}

func (c fakeClock) Now() (clock.Reading, error) { return c.reading, c.err }

func proven() fakeClock {
	return fakeClock{reading: clock.Reading{Time: now, MaxError: 20 * time.Millisecond, Proven: true}}
}

func config(p pki) tsa.Config {
	return tsa.Config{Policy: policy, Accuracy: time.Second, Certificate: p.cert, Chain: []*x509.Certificate{p.ca}, Key: p.key, Clock: proven(), Rand: rand.Reader}
}

func newTSA(t testing.TB, cfg tsa.Config) *tsa.TSA {
	t.Helper()
	authority, err := tsa.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func imprintOf(h crypto.Hash, data string) tsp.Imprint {
	d := h.New()
	d.Write([]byte(data))
	return tsp.Imprint{Hash: h, Digest: d.Sum(nil)}
}

func marshal(t testing.TB, r tsp.Request) []byte {
	t.Helper()
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask sends r and returns the response as this project's own parser reads it.
func ask(t testing.TB, authority *tsa.TSA, r tsp.Request) tsp.Response {
	t.Helper()
	resp, err := tsp.ParseResponse(authority.Respond(context.Background(), marshal(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// open verifies token with the certificates given and returns what it says.
func open(t testing.TB, token []byte, extra ...*x509.Certificate) (*cms.SignedData, tsp.TSTInfo) {
	t.Helper()
	s, err := cms.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil, extra...); err != nil {
		t.Fatal(err)
	}
	info, err := tsp.ParseTSTInfo(s.Content)
	if err != nil {
		t.Fatal(err)
	}
	return s, info
}

func writePEM(t *testing.T, dir, name string, certs ...*x509.Certificate) {
	t.Helper()
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	writeFile(t, dir, name, out)
}

func writeFile(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
