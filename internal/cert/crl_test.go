package cert_test

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func crlTemplate() cert.CRLTemplate {
	return cert.CRLTemplate{Number: big.NewInt(7), ThisUpdate: noon, NextUpdate: noon.AddDate(0, 0, 7), ExpiredSince: noon.AddDate(-1, 0, 0), Revoked: []cert.Revocation{
		{Serial: big.NewInt(0x1001), At: noon.Add(-time.Hour), Reason: cert.ReasonKeyCompromise, InvalidityDate: noon.AddDate(0, 0, -3)},
		{Serial: big.NewInt(0x1002), At: noon, Reason: cert.ReasonUnspecified},
	}}
}

func TestOpenSSLAndZlintReadTheCRL(t *testing.T) {
	p := newPKI(t, settings(), cert.ECDSAP256)
	issuer := p.certs[cert.ClinicianCA]
	der, err := cert.CreateCRL(rand.Reader, crlTemplate(), issuer, p.keys[cert.ClinicianCA])
	if err != nil {
		t.Fatal(err)
	}
	path, ca := writePEM(t, "crl.pem", "X509 CRL", der), writePEM(t, "ca.pem", "CERTIFICATE", issuer.Raw)
	out := mustOpenSSL(t, "crl", "-in", path, "-noout", "-text", "-CAfile", ca)
	for _, want := range []string{"verify OK", "X509v3 CRL Number: \n                7", "X509v3 Authority Key Identifier", "Serial Number: 1001", "Key Compromise",
		"Invalidity Date: \n                Nov 17 12:00:00 2026 GMT", "Next Update: Nov 27 12:00:00 2026 GMT", "2.5.29.60"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Count(out, "CRL Reason Code") != 1 {
		t.Errorf("unspecified is said by saying nothing:\n%s", out)
	}
	if findings, err := p.linter.FindingsCRL(der); err != nil || len(findings) > 0 {
		t.Error(findings, err)
	}
	list, err := cert.ParseCRL(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range crlTemplate().Revoked {
		got, ok := cert.FindRevocation(list, want.Serial)
		if !ok || !got.At.Equal(want.At) || got.Reason != want.Reason || !got.InvalidityDate.Equal(want.InvalidityDate) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if _, ok := cert.FindRevocation(list, big.NewInt(1)); ok {
		t.Error("found what is not there")
	}
	if got := cert.ExpiredCertsOnCRL(list); !got.Equal(noon.AddDate(-1, 0, 0)) {
		t.Errorf("expiredCertsOnCRL %v", got)
	}
}

func TestCreateCRLRefuses(t *testing.T) {
	p := newPKI(t, settings(), cert.ECDSAP256)
	for want, change := range map[string]func(*cert.CRLTemplate){
		"number":                   func(c *cert.CRLTemplate) { c.Number = nil },
		"1 to 159 bits":            func(c *cert.CRLTemplate) { c.Number = new(big.Int).Lsh(big.NewInt(1), 160) },
		"nextUpdate is after":      func(c *cert.CRLTemplate) { c.NextUpdate = c.ThisUpdate },
		"reason Reason(6)":         func(c *cert.CRLTemplate) { c.Revoked[0].Reason = 6 },
		"reason keyCompromise at ": func(c *cert.CRLTemplate) { c.Revoked[0].At = noon.Add(time.Hour) },
	} {
		c := crlTemplate()
		change(&c)
		if _, err := cert.CreateCRL(rand.Reader, c, p.certs[cert.ClinicianCA], p.keys[cert.ClinicianCA]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	for _, der := range [][]byte{nil, {0x30, 0}, append(mustCRL(t, p), 0)} {
		if _, err := cert.ParseCRL(der); err == nil {
			t.Errorf("%x accepted", der)
		}
	}
}

func mustCRL(t testing.TB, p *pki) []byte {
	der, err := cert.CreateCRL(rand.Reader, crlTemplate(), p.certs[cert.ClinicianCA], p.keys[cert.ClinicianCA])
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestReasons(t *testing.T) {
	for _, r := range []cert.Reason{0, 1, 2, 3, 4, 5, 9} {
		if got, err := cert.ParseReason(r.String()); err != nil || got != r {
			t.Errorf("%v: %v, %v", r, got, err)
		}
	}
	for _, name := range []string{"certificateHold", "removeFromCRL", "aACompromise", "", "KeyCompromise"} {
		if _, err := cert.ParseReason(name); err == nil {
			t.Errorf("%q accepted", name)
		}
	}
}

func TestParseRequestWantsProofOfPossession(t *testing.T) {
	der, err := cert.CreateRequest(rand.Reader, cert.Subject{CommonName: "x"}, newKey(t, cert.ECDSAP256))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.ParseRequest(der); err != nil {
		t.Error(err)
	}
	if out := mustOpenSSL(t, "req", "-verify", "-noout", "-inform", "DER", "-in", writeFile(t, der)); !strings.Contains(out, "verify OK") {
		t.Error(out)
	}
	other, err := cert.CreateRequest(rand.Reader, cert.Subject{CommonName: "x"}, newKey(t, cert.ECDSAP256))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := x509.ParseCertificateRequest(der)
	b, _ := x509.ParseCertificateRequest(other)
	stolen := strings.Replace(string(other), string(b.RawSubjectPublicKeyInfo), string(a.RawSubjectPublicKeyInfo), 1)
	for want, der := range map[string][]byte{"proof of possession": []byte(stolen), "PKCS#10": {0x30, 0}, "are allowed": make([]byte, 1<<16), "follow": nil} {
		if want == "follow" {
			der, want = append(der, append([]byte(other), 0)...), "PKCS#10"
		}
		if _, err := cert.ParseRequest(der); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}
