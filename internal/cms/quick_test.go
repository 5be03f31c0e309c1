package cms_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
)

func TestQuick(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, _ := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	cert, _ := x509.ParseCertificate(der)
	d := sha256.Sum256([]byte("hi"))
	s, err := cms.Sign(rand.Reader, cms.SignParams{MessageDigest: d[:], Hash: crypto.SHA256, Certificate: cert}, key)
	if err != nil {
		t.Fatal(err)
	}
	s, err = s.WithTimeStamp([]byte{0x30, 0})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, d[:]); err != nil {
		t.Fatal(err)
	}
}
