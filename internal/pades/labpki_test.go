package pades

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// labTime is when the lab's documents are signed.
var labTime = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

// holder is a certificate with its key.
type holder struct {
	*x509.Certificate
	key    *ecdsa.PrivateKey
	issuer *holder // nil for the root
}

// lab is a small public key infrastructure: the three issuing CAs of the appliance, less the one for infrastructure.
type lab struct {
	t                       testing.TB
	root, clinicians, times *holder
	signer, tsa             *holder
	signerOCSP, tsaOCSP     *holder
	serial                  int64
	policy                  asn1.ObjectIdentifier // of time stamps, default 1.2.3
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, policy: asn1.ObjectIdentifier{1, 2, 3}}
	start := labTime.Add(-48 * time.Hour)
	l.root = l.issue(nil, "Lab Root", start, start.Add(20*year), asCA)
	l.clinicians = l.issue(l.root, "Lab Clinician CA", start, start.Add(10*year), asCA)
	l.times = l.issue(l.root, "Lab Time CA", start, start.Add(10*year), asCA)
	l.signer = l.issue(l.clinicians, "Doctor Lab", start, start.Add(year), func(c *x509.Certificate) {
		c.KeyUsage = x509.KeyUsageContentCommitment
		c.Subject.SerialNumber = "GM:GB-1234567"
	})
	l.tsa = l.issue(l.times, "Lab TSA", start, start.Add(5*year), asTSA)
	l.signerOCSP = l.issue(l.clinicians, "Lab OCSP 1", start, start.Add(30*24*time.Hour), asResponder)
	l.tsaOCSP = l.issue(l.times, "Lab OCSP 2", start, start.Add(30*24*time.Hour), asResponder)
	return l
}

func asCA(c *x509.Certificate) {
	c.BasicConstraintsValid, c.IsCA = true, true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

func asTSA(c *x509.Certificate) {
	c.KeyUsage = x509.KeyUsageDigitalSignature
	eku, _ := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidExtKeyUsage, Critical: true, Value: eku})
}

func asResponder(c *x509.Certificate) {
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}})
}

// issue makes a certificate; mod completes the template.
func (l *lab) issue(issuer *holder, cn string, from, to time.Time, mod func(*x509.Certificate)) *holder {
	l.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	l.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(1000 + l.serial), Subject: pkix.Name{Country: []string{"GB"}, Organization: []string{"Lab"}, CommonName: cn},
		NotBefore: from, NotAfter: to}
	mod(template)
	parent, signing := template, key
	if issuer != nil {
		parent, signing = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signing)
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		l.t.Fatal(err)
	}
	return &holder{c, key, issuer}
}

func (l *lab) roots() []*x509.Certificate { return []*x509.Certificate{l.root.Certificate} }

// ocsp returns an answer about of, made at at.
func (l *lab) ocsp(responder, of *holder, at time.Time, mod func(*cert.SingleResponse)) []byte {
	l.t.Helper()
	id, err := cert.NewCertID(crypto.SHA1, of.issuer.Certificate, of.SerialNumber)
	if err != nil {
		l.t.Fatal(err)
	}
	single := cert.SingleResponse{CertID: id, ThisUpdate: at, NextUpdate: at.Add(24 * time.Hour)}
	if mod != nil {
		mod(&single)
	}
	s, err := cert.NewOCSPSigner(responder.Certificate, responder.key)
	if err != nil {
		l.t.Fatal(err)
	}
	der, err := s.Sign(rand.Reader, cert.OCSPTemplate{ProducedAt: at, Singles: []cert.SingleResponse{single}})
	if err != nil {
		l.t.Fatal(err)
	}
	return der
}

// crl returns a list of issuer, made at at, good for half a year.
func (l *lab) crl(issuer *holder, at time.Time, revoked ...cert.Revocation) []byte {
	l.t.Helper()
	l.serial++
	der, err := cert.CreateCRL(rand.Reader, cert.CRLTemplate{Number: big.NewInt(l.serial), ThisUpdate: at, NextUpdate: at.Add(year / 2), Revoked: revoked,
		ExpiredSince: l.root.NotBefore}, issuer.Certificate, issuer.key)
	if err != nil {
		l.t.Fatal(err)
	}
	return der
}

// token returns a time-stamp token over data.
func (l *lab) token(tsa *holder, data []byte, at time.Time) []byte {
	l.t.Helper()
	h := crypto.SHA256.New()
	h.Write(data)
	return l.tokenOver(tsa, h.Sum(nil), at)
}

func (l *lab) tokenOver(tsa *holder, digest []byte, at time.Time) []byte {
	l.t.Helper()
	l.serial++
	info, err := tsp.TSTInfo{Policy: l.policy, Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: digest}, Serial: big.NewInt(l.serial), GenTime: at, Accuracy: time.Second}.Marshal()
	if err != nil {
		l.t.Fatal(err)
	}
	signed, err := cms.Sign(rand.Reader, cms.SignParams{ContentType: tsp.ContentType(), Content: info, Hash: crypto.SHA256, Certificate: tsa.Certificate, Chain: []*x509.Certificate{tsa.issuer.Certificate}}, tsa.key)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed.Bytes()
}

// material is what the DSS of a document signed at at holds.
func (l *lab) material(at time.Time) (certs, ocsps, crls [][]byte) {
	for _, h := range []*holder{l.root, l.clinicians, l.times, l.signer, l.tsa, l.signerOCSP, l.tsaOCSP} {
		certs = append(certs, h.Raw)
	}
	return certs, [][]byte{l.ocsp(l.signerOCSP, l.signer, at, nil), l.ocsp(l.tsaOCSP, l.tsa, at, nil)}, [][]byte{l.crl(l.root, at)}
}
