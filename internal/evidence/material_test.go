package evidence

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// office is a CA of a test.
type office struct {
	key *ecdsa.PrivateKey
	crt *x509.Certificate
}

func newOffice(t *testing.T, name string, by *office, isCA bool) *office {
	t.Helper()
	o := &office{key: must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(len(name)) << 8), Subject: pkix.Name{CommonName: name}, NotBefore: judged.Add(-time.Hour), NotAfter: judged.Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name)}
	issuer, key := template, o.key
	if by != nil {
		issuer, key = by.crt, by.key
	}
	o.crt = must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, issuer, &o.key.PublicKey, key))))
	return o
}

func (o *office) list(t *testing.T, at time.Time, revoked ...*x509.Certificate) *x509.RevocationList {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at, NextUpdate: at.Add(time.Hour)}
	for _, c := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: at})
	}
	return must[*x509.RevocationList](t)(x509.ParseRevocationList(must[[]byte](t)(x509.CreateRevocationList(rand.Reader, l, o.crt, o.key))))
}

// Certificates and lists that do not belong together, are of another time, or tell another story than the summary.
func TestMaterial(t *testing.T) {
	root := newOffice(t, "root", nil, true)
	ca := newOffice(t, "clinicians", root, true)
	other := newOffice(t, "elsewhere", nil, true)
	signer := newOffice(t, "Ada Clinician", ca, false).crt
	now := judged
	for name, c := range map[string]struct {
		certs  []*x509.Certificate
		crls   []*x509.RevocationList
		status string
		want   string // "" = good
	}{
		"good":                {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{root.list(t, now), ca.list(t, now)}, "valid", ""},
		"no lists":            {[]*x509.Certificate{signer, ca.crt, root.crt}, nil, "valid", "is missing"},
		"revoked":             {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{ca.list(t, now, signer)}, "revoked", ""},
		"revoked in secret":   {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{ca.list(t, now, signer)}, "valid", `live.certificate.status is "valid", not "revoked"`},
		"another's number":    {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{root.list(t, now, signer), ca.list(t, now)}, "valid", ""},
		"another's list":      {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{root.list(t, now)}, "valid", "is missing"},
		"two lists":           {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{ca.list(t, now), ca.list(t, now, signer)}, "valid", "two lists"},
		"not revoked at all":  {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{ca.list(t, now)}, "revoked", "live.certificate.status"},
		"a foreign list":      {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{other.list(t, now)}, "valid", `no certificate is the issuer of the list of "elsewhere"`},
		"an old list":         {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{ca.list(t, now.Add(-2*time.Hour))}, "valid", "not of the time of the pack"},
		"a retired CA's":      {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{root.list(t, now, ca.crt), ca.list(t, now.Add(-2*time.Hour))}, "valid", ""},
		"retired in the past": {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{root.list(t, now.Add(-2*time.Hour), ca.crt), ca.list(t, now.Add(-2*time.Hour))}, "valid", "not of the time of the pack"},
		"a list to come":      {[]*x509.Certificate{signer, ca.crt, root.crt}, []*x509.RevocationList{ca.list(t, now.Add(time.Minute))}, "valid", "not of the time of the pack"},
		"no issuer":           {[]*x509.Certificate{signer, root.crt}, nil, "valid", `the issuer of the certificate of "Ada Clinician"`},
		"no root":             {[]*x509.Certificate{signer, ca.crt}, nil, "valid", "issuer of the certificate"},
		"no signer":           {[]*x509.Certificate{ca.crt, root.crt}, nil, "valid", "the signer's certificate or the root"},
		"a foreign root too":  {[]*x509.Certificate{signer, ca.crt, root.crt, other.crt}, nil, "valid", `the issuer of the certificate of "elsewhere"`},
	} {
		t.Run(name, func(t *testing.T) {
			m := material{c.certs, c.crls}
			facts := &core{Pillars: map[string]facts{pillarCryptographic: {"root_sha256": {SHA256(root.crt.Raw), Verified}, "certificate_sha256": {SHA256(signer.Raw), Verified}}}}
			said := CertificateNow{Serial: signer.SerialNumber.Text(16), Status: "valid", List: &List{}}
			for _, l := range c.crls {
				if l.Issuer.CommonName == "clinicians" {
					said = StateOn(signer, l, now)
				}
			}
			said.Status = c.status
			err := m.check(facts, &Live{GeneratedAt: now, Certificate: said}, now)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
