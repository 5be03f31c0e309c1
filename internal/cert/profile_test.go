package cert_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

func settings() cert.Settings {
	return cert.Settings{Name: "VeriPath", Organization: "VeriPath Ltd", OrganizationID: "NTRGB-01234567", Country: "GB", BaseURL: "http://pki.veripath.example", PolicyArc: "1.3.6.1.4.1.99999.7"}
}

func doctor() cert.Subject {
	return cert.Subject{Country: "GB", Organization: "Example Clinic", CommonName: "Doctor Clinician", GivenName: "Doctor", Surname: "Clinician", SerialNumber: "GM:GB-1234567"}
}

// openssl runs the tool and returns both of its outputs; a missing tool fails the test.
func openssl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: apt-get install openssl")
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

func mustOpenSSL(t testing.TB, args ...string) string {
	t.Helper()
	out, err := openssl(t, args...)
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func writePEM(t testing.TB, name, kind string, ders ...[]byte) string {
	t.Helper()
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pki is a whole PKI in memory, made through the profiles.
type pki struct {
	profiles *cert.Profiles
	linter   *cert.Linter
	certs    map[cert.Kind]*x509.Certificate
	keys     map[cert.Kind]crypto.Signer
}

func newKey(t testing.TB, a cert.Algorithm) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch a {
	case cert.ECDSAP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case cert.ECDSAP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case cert.RSA3072:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newPKI(t testing.TB, s cert.Settings, a cert.Algorithm) *pki {
	t.Helper()
	profiles, err := cert.NewProfiles(s)
	if err != nil {
		t.Fatal(err)
	}
	linter, err := cert.NewLinter(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{profiles, linter, map[cert.Kind]*x509.Certificate{}, map[cert.Kind]crypto.Signer{}}
	p.issue(t, cert.Root, "", newKey(t, cert.ECDSAP384), cert.Request{}, noon.Add(-time.Minute))
	for _, k := range cert.IssuingCAs() {
		p.issue(t, k, cert.Root, newKey(t, a), cert.Request{}, noon.Add(-time.Minute))
	}
	return p
}

func (p *pki) issue(t testing.TB, k, by cert.Kind, key crypto.Signer, r cert.Request, now time.Time) *x509.Certificate {
	t.Helper()
	c, err := p.try(k, by, key, r, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *pki) try(k, by cert.Kind, key crypto.Signer, r cert.Request, now time.Time) (*x509.Certificate, error) {
	r.PublicKey = key.Public()
	profile := p.profiles.For(k)
	tmpl, err := profile.Template(r, p.certs[by], now, rand.Reader)
	if err != nil {
		return nil, err
	}
	signer := key
	if by != "" {
		signer = p.keys[by]
	}
	c, err := p.linter.Sign(rand.Reader, profile, tmpl, p.certs[by], key.Public(), signer)
	if err != nil {
		return nil, err
	}
	p.certs[k], p.keys[k] = c, key
	return c, nil
}

// leaves returns what each CA issues, with requests that fit.
func leaves() map[cert.Kind]cert.Request {
	return map[cert.Kind]cert.Request{
		cert.Clinician: {Subject: doctor()},
		cert.TSA:       {},
		cert.TLSServer: {Subject: cert.Subject{CommonName: "sign.veripath.example"}, DNSNames: []string{"sign.veripath.example", "localhost"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		cert.TLSClient: {Subject: cert.Subject{CommonName: "primary", Organization: "VeriPath Ltd"}},
		cert.Report:    {},
	}
}

func TestEveryProfileHoldsBeforeOpenSSL(t *testing.T) {
	demo := settings()
	demo.Demo, demo.PolicyArc = true, ""
	for name, c := range map[string]struct {
		s   cert.Settings
		alg cert.Algorithm
	}{"P-256": {settings(), cert.ECDSAP256}, "RSA-3072": {settings(), cert.RSA3072}, "demo": {demo, cert.ECDSAP384}} {
		t.Run(name, func(t *testing.T) {
			p := newPKI(t, c.s, c.alg)
			root := writePEM(t, "root.pem", "CERTIFICATE", p.certs[cert.Root].Raw)
			for k, r := range leaves() {
				for _, alg := range []cert.Algorithm{cert.ECDSAP256, c.alg} {
					leaf := p.issue(t, k, k.Issuer(), newKey(t, alg), r, noon)
					verify(t, p, root, k, leaf, k.Issuer())
				}
			}
			for _, ca := range cert.IssuingCAs() {
				verify(t, p, root, cert.OCSP, p.issue(t, cert.OCSP, ca, newKey(t, cert.ECDSAP256), cert.Request{}, noon), ca)
			}
		})
	}
}

func verify(t *testing.T, p *pki, root string, k cert.Kind, leaf *x509.Certificate, issuer cert.Kind) {
	t.Helper()
	purpose := map[cert.Kind]string{cert.Clinician: "any", cert.TSA: "timestampsign", cert.TLSServer: "sslserver", cert.TLSClient: "sslclient", cert.OCSP: "ocsphelper", cert.Report: "smimesign"}[k]
	mustOpenSSL(t, "verify", "-x509_strict", "-attime", "1795176000", "-purpose", purpose, "-policy", p.profiles.Policy(k).String(), "-explicit_policy",
		"-check_ss_sig", "-CAfile", root, "-untrusted", writePEM(t, "ca.pem", "CERTIFICATE", p.certs[issuer].Raw), writePEM(t, "leaf.pem", "CERTIFICATE", leaf.Raw))
}

func TestClinicianFieldByField(t *testing.T) {
	p := newPKI(t, settings(), cert.ECDSAP256)
	c := p.issue(t, cert.Clinician, cert.ClinicianCA, newKey(t, cert.ECDSAP256), cert.Request{Subject: doctor()}, noon)
	text := mustOpenSSL(t, "x509", "-noout", "-text", "-nameopt", "multiline,show_type", "-in", writePEM(t, "c.pem", "CERTIFICATE", c.Raw))
	for _, want := range []string{
		"countryName               = PRINTABLESTRING:GB", "givenName                 = UTF8STRING:Doctor", "surname                   = UTF8STRING:Clinician",
		"serialNumber              = PRINTABLESTRING:GM:GB-1234567", "commonName                = UTF8STRING:Doctor Clinician",
		"X509v3 Key Usage: critical\n                Non Repudiation\n", "Policy: 1.3.6.1.4.1.99999.7.1.1",
		"CA Issuers - URI:http://pki.veripath.example/ca/clinician-ca-", "OCSP - URI:http://pki.veripath.example/ocsp", "URI:http://pki.veripath.example/crl/clinician-ca-",
		"Not Before: Nov 20 11:58:00 2026 GMT", "qcStatements",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for _, bad := range []string{"Extended Key Usage", "Basic Constraints", "OCSP No Check"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is present", bad)
		}
	}
}

func TestDemoIsNeverTakenForReal(t *testing.T) {
	demo := settings()
	demo.Demo = true
	a, b := newPKI(t, settings(), cert.ECDSAP256), newPKI(t, demo, cert.ECDSAP256)
	for k := range a.certs {
		if got := b.certs[k].Subject.CommonName; !strings.HasPrefix(got, "DEMO ONLY ") || got == a.certs[k].Subject.CommonName {
			t.Errorf("%s of a demo is named %q", k, got)
		}
	}
	if a.profiles.Policy(cert.Clinician).Equal(b.profiles.Policy(cert.Clinician)) || a.profiles.TimeStampPolicy().Equal(b.profiles.TimeStampPolicy()) {
		t.Error("a demo has the policies of a real appliance")
	}
}

func TestTSAKeyLivesOneYearOfFive(t *testing.T) {
	p := newPKI(t, settings(), cert.ECDSAP256)
	c := p.issue(t, cert.TSA, cert.TimeCA, newKey(t, cert.ECDSAP256), cert.Request{}, noon)
	from, to, err := cert.PrivateKeyUsagePeriod(c)
	if err != nil || !from.Equal(c.NotBefore) || to.Sub(from) != 365*24*time.Hour {
		t.Errorf("key may be used from %v to %v, %v", from, to, err)
	}
	if years := c.NotAfter.Sub(noon).Hours() / 24 / 365; years < 4.99 || years > 5 {
		t.Errorf("certificate is valid for %.2f years", years)
	}
}

func TestTemplateRefuses(t *testing.T) {
	p := newPKI(t, settings(), cert.ECDSAP256)
	change := func(f func(*cert.Subject)) cert.Request {
		s := doctor()
		f(&s)
		return cert.Request{Subject: s}
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := newKey(t, cert.ECDSAP256)
	tls := func(names ...string) cert.Request {
		return cert.Request{Subject: cert.Subject{CommonName: "x"}, DNSNames: names}
	}
	for _, c := range []struct {
		name, want string
		kind, by   cert.Kind
		key        crypto.Signer
		r          cert.Request
		now        time.Time
	}{
		{"wrong CA", "does not issue it", cert.Clinician, cert.TimeCA, good, cert.Request{Subject: doctor()}, noon},
		{"root as issuer", "does not issue it", cert.Clinician, cert.Root, good, cert.Request{Subject: doctor()}, noon},
		{"OCSP by the root", "does not issue it", cert.OCSP, cert.Root, good, cert.Request{}, noon},
		{"no issuer", "has one", cert.Clinician, "", good, cert.Request{Subject: doctor()}, noon},
		{"RSA-2048", "2048 bits", cert.Clinician, cert.ClinicianCA, small, cert.Request{Subject: doctor()}, noon},
		{"P-521", "P-521", cert.Clinician, cert.ClinicianCA, p521, cert.Request{Subject: doctor()}, noon},
		{"root of P-256", "not allowed", cert.Root, "", good, cert.Request{}, noon},
		{"no common name", "common name is missing", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "" }), noon},
		{"long common name", "65 characters", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = strings.Repeat("é", 65) }), noon},
		{"bidi", "U+202E", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "Doctor \u202enaicinilC" }), noon},
		{"zero width", "U+200B", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.Surname = "Clin\u200bician" }), noon},
		{"control", "U+0000", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.GivenName = "Doc\x00tor" }), noon},
		{"no-break space", "U+00A0", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "Doctor\u00a0Clinician" }), noon},
		{"filler", "U+3164", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "Doctor \u3164" }), noon},
		{"broken UTF-8", "UTF-8", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "\xff" }), noon},
		{"two spaces", "in a row", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "Doctor  Clinician" }), noon},
		{"leading mark", "begins with a mark", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "\u0301A" }), noon},
		{"heap of marks", "three marks", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.CommonName = "A" + strings.Repeat("\u0331", 5) }), noon},
		{"small country", "capital letters", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.Country = "gb" }), noon},
		{"no names", "given name or surname", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.GivenName, s.Surname = "", "" }), noon},
		{"bad number", "GM:GB-1234567", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.SerialNumber = "GM:GB-123456" }), noon},
		{"strange register", "GM:GB-1234567", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.SerialNumber = "XX:GB-1234567" }), noon},
		{"nobody in particular", "tells this person", cert.Clinician, cert.ClinicianCA, good, change(func(s *cert.Subject) { s.SerialNumber, s.Organization = "", "" }), noon},
		{"too long", "not within", cert.Clinician, cert.ClinicianCA, good, cert.Request{Subject: doctor(), Validity: 4 * 365 * 24 * time.Hour}, noon},
		{"too short", "not within", cert.Clinician, cert.ClinicianCA, good, cert.Request{Subject: doctor(), Validity: time.Second}, noon},
		{"beyond the CA", "outlive", cert.Clinician, cert.ClinicianCA, good, cert.Request{Subject: doctor(), Validity: 2 * 365 * 24 * time.Hour}, noon.AddDate(9, 0, 0)},
		{"CA is over", "outlive", cert.Clinician, cert.ClinicianCA, good, cert.Request{Subject: doctor()}, noon.AddDate(11, 0, 0)},
		{"before the CA", "begins only", cert.Clinician, cert.ClinicianCA, good, cert.Request{Subject: doctor()}, noon.Add(-time.Hour)},
		{"server without names", "0 names", cert.TLSServer, cert.InfrastructureCA, good, tls(), noon},
		{"wildcard", "without wildcard", cert.TLSServer, cert.InfrastructureCA, good, tls("*.example.org"), noon},
		{"capital host", "lower case", cert.TLSServer, cert.InfrastructureCA, good, tls("Example.org"), noon},
		{"names of a person", "for TLS", cert.Clinician, cert.ClinicianCA, good, cert.Request{Subject: doctor(), DNSNames: []string{"a.example"}}, noon},
		{"person at a server", "for persons", cert.TLSServer, cert.InfrastructureCA, good, cert.Request{Subject: doctor(), DNSNames: []string{"a.example"}}, noon},
	} {
		_, err := p.try(c.kind, c.by, c.key, c.r, c.now)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %q", c.name, err, c.want)
		}
	}
}

func TestNamesAreNormalised(t *testing.T) {
	p := newPKI(t, settings(), cert.ECDSAP256)
	s := doctor()
	s.CommonName = "Zoe\u0308 O’Neill-Ny\u0301" // decomposed
	c := p.issue(t, cert.Clinician, cert.ClinicianCA, newKey(t, cert.ECDSAP256), cert.Request{Subject: s}, noon)
	if got := c.Subject.CommonName; got != "Zoë O’Neill-Ný" {
		t.Errorf("%q", got)
	}
}

func TestNamesThatCanBeTakenForEachOther(t *testing.T) {
	alike := func(a, b string) bool { return cert.Skeleton(a) == cert.Skeleton(b) || cert.Fold(a) == cert.Fold(b) }
	for _, same := range [][2]string{{"Doctor Clinician", "Dосtоr Сliniсian"}, {"O'Neill", "O’NeiIl"}, {"John Smith", "john  smith"}, {"Anna", "Αnna"}, {"ﬁona", "fiona"}, {"Iain", "lain"}, {"Jo-Ann", "Jo Ann"}} {
		if !alike(same[0], same[1]) {
			t.Errorf("%q and %q look different: %q, %q", same[0], same[1], cert.Skeleton(same[0]), cert.Skeleton(same[1]))
		}
	}
	for _, other := range [][2]string{{"José Smith", "Jose Smith"}, {"Ann Smith", "Anna Smith"}, {"Marnie", "Mamie"}, {"I Smith", "L Smith"}, {"Jørgensen", "Jorgensen"}, {"Weiß", "Weib"}} {
		if alike(other[0], other[1]) {
			t.Errorf("%q and %q look the same", other[0], other[1])
		}
	}
}

func TestLintRefusesWhatTheProfileWouldNotMake(t *testing.T) {
	p := newPKI(t, settings(), cert.ECDSAP256)
	key := newKey(t, cert.ECDSAP256)
	for name, spoil := range map[string]func(*x509.Certificate){
		"digitalSignature too": func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature },
		"EKU":                  func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} },
		"CA":                   func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"https":                func(c *x509.Certificate) { c.OCSPServer = []string{"https://x.example/ocsp"} },
		"no AIA":               func(c *x509.Certificate) { c.OCSPServer, c.IssuingCertificateURL = nil, nil },
		"no policy":            func(c *x509.Certificate) { c.ExtraExtensions = c.ExtraExtensions[:1] },
		"no qcStatements":      func(c *x509.Certificate) { c.ExtraExtensions = c.ExtraExtensions[1:] },
		"wrong SKI":            func(c *x509.Certificate) { c.SubjectKeyId = []byte("12345678901234567890") },
		"long life":            func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(9, 0, 0) },
		"outlives its CA":      func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(30, 0, 0) },
		"older than its CA":    func(c *x509.Certificate) { c.NotBefore = c.NotBefore.AddDate(-1, 0, 0) },
		"serial of 160 bits":   func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 158) },
		"host's name":          func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} },
		"name constraints":     func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"a.example"} },
	} {
		tmpl, err := p.profiles.For(cert.Clinician).Template(cert.Request{Subject: doctor(), PublicKey: key.Public()}, p.certs[cert.ClinicianCA], noon, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		spoil(tmpl)
		refusing := refusingSigner{p.keys[cert.ClinicianCA]}
		_, err = p.linter.Sign(rand.Reader, p.profiles.For(cert.Clinician), tmpl, p.certs[cert.ClinicianCA], key.Public(), refusing)
		var lint *cert.LintError
		if !errors.As(err, &lint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// refusingSigner has a CA's public key and fails whoever asks it to sign: a lint must come first.
type refusingSigner struct{ crypto.Signer }

func (refusingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	panic("the CA key was asked to sign what the lint refuses")
}

func TestSettingsRefuse(t *testing.T) {
	for want, f := range map[string]func(*cert.Settings){
		"name has":                func(s *cert.Settings) { s.Name = "" },
		"24 are allowed":          func(s *cert.Settings) { s.Name = strings.Repeat("x", 25) },
		"organization has":        func(s *cert.Settings) { s.Organization = "" },
		"country":                 func(s *cert.Settings) { s.Country = "UKX" },
		"organization identifier": func(s *cert.Settings) { s.OrganizationID = "12345" },
		"base URL":                func(s *cert.Settings) { s.BaseURL = "https://pki.example.org" },
		"policy arc \"\"":         func(s *cert.Settings) { s.PolicyArc = "" },
		"below 2147483648":        func(s *cert.Settings) { s.PolicyArc = "2.25.329800735698586629295641978511506172918" },
		"is ETSI's":               func(s *cert.Settings) { s.PolicyArc = "0.4.0.2042.1" },
		"organization's object":   func(s *cert.Settings) { s.PolicyArc = "1.2.3" },
	} {
		s := settings()
		f(&s)
		if _, err := cert.NewProfiles(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}

func TestPersonID(t *testing.T) {
	for _, c := range [][3]string{{"GMC", "1234567", "GM:GB-1234567"}, {"GMC", "L123456", "GM:GB-L123456"}, {"NMC", "12A3456B", "NM:GB-12A3456B"}, {"GDC", "123", "GD:GB-123"},
		{"GDC", "123456", "GD:GB-123456"}, {"GPhC", "2012345", "PH:GB-2012345"}} {
		id, err := cert.NewPersonID(c[0], c[1])
		if err != nil || id.String() != c[2] || id.RegisterName() != c[0] {
			t.Errorf("%v: %v, %v", c, id, err)
		}
		if again, err := cert.ParsePersonID(c[2]); err != nil || again != id {
			t.Errorf("%v: %v, %v", c, again, err)
		}
	}
	for _, c := range [][2]string{{"GMC", "123456"}, {"GMC", "M123456"}, {"GMC", "12345678"}, {"NMC", "12a3456B"}, {"NMC", "12A3456"}, {"GDC", "12"}, {"GDC", "1234567"}, {"GPhC", "1234567"}, {"GPhC", "201234A"}, {"HCPC", "1"}} {
		if id, err := cert.NewPersonID(c[0], c[1]); err == nil {
			t.Errorf("%v: %v", c, id)
		}
	}
	for _, text := range []string{"", "GM:GB-", "GM:IE-1234567", "GMGB-1234567", "GM:GB-1234567 ", "XX:GB-1234567", "GM-GB:1234567", "PH:GB-1234567"} {
		if id, err := cert.ParsePersonID(text); err == nil {
			t.Errorf("%q: %v", text, id)
		}
	}
}

// TestRealNamesAndAddressesPassTheLint: what people are called and where appliances stand must not fail for a lint's taste.
func TestRealNamesAndAddressesPassTheLint(t *testing.T) {
	for _, base := range []string{"http://localhost", "http://127.0.0.1:8080/pki", "http://[::1]:80", "http://pki.example.org/a/b/"} {
		s := settings()
		s.BaseURL, s.Demo, s.OrganizationID = base, true, ""
		p := newPKI(t, s, cert.ECDSAP256)
		for _, name := range []string{"Łukasz Żółć", "Nguyễn Văn An", "李 雷", "Zoë O’Neill-Nyong", "Dr. A. B. de la Cruz (Locum)", "محمد علي", "Ὀδυσσεύς Λ.", strings.Repeat("é", 64), "X"} {
			subject := cert.Subject{Country: "GB", CommonName: name, GivenName: name, Surname: name, SerialNumber: "NM:GB-12A3456B", Organization: name}
			if _, err := p.try(cert.Clinician, cert.ClinicianCA, newKey(t, cert.ECDSAP256), cert.Request{Subject: subject}, noon); err != nil {
				t.Errorf("%s, %s: %v", base, name, err)
			}
		}
		for k, r := range leaves() {
			p.issue(t, k, k.Issuer(), newKey(t, cert.ECDSAP256), r, noon)
		}
	}
}
