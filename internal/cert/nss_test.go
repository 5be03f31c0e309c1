package cert_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

// TestNSSAcceptsEveryKind has Mozilla's NSS, which pdfsig and LibreOffice ask, build and judge the chains by its PKIX library. For who signs
// a document both ask it about an e-mail signer, so that a wrong key usage or an extended one too many shows here.
func TestNSSAcceptsEveryKind(t *testing.T) {
	const sslClient, sslServer, emailSigner, ocspResponder = "0", "1", "4", "10" // vfychain -u
	tool := func(name string, args ...string) (string, error) {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is missing: apt-get install libnss3-tools", name)
		}
		out, err := exec.Command(name, args...).CombinedOutput()
		return string(out), err
	}
	db := "sql:" + t.TempDir()
	if out, err := tool("certutil", "-N", "--empty-password", "-d", db); err != nil {
		t.Fatalf("certutil: %v\n%s", err, out)
	}
	p := newPKI(t, settings(), cert.ECDSAP256)
	root := writePEM(t, "root.pem", "CERTIFICATE", p.certs[cert.Root].Raw)
	for _, c := range []struct {
		kind, by cert.Kind
		usage    string
		good     bool
	}{
		{cert.Clinician, cert.ClinicianCA, emailSigner, true},
		{cert.TLSServer, cert.InfrastructureCA, sslServer, true},
		{cert.TLSClient, cert.InfrastructureCA, sslClient, true},
		{cert.OCSP, cert.ClinicianCA, ocspResponder, true},
		{cert.Clinician, cert.ClinicianCA, sslServer, false},
		{cert.TLSServer, cert.InfrastructureCA, emailSigner, false},
		{cert.TSA, cert.TimeCA, emailSigner, false},
	} {
		leaf := p.issue(t, c.kind, c.by, newKey(t, cert.ECDSAP256), leaves()[c.kind], noon)
		out, err := tool("vfychain", "-d", db, "-b", noon.Add(time.Minute).UTC().Format("0601021504Z"), "-pp", "-u", c.usage,
			"-a", writePEM(t, "leaf.pem", "CERTIFICATE", leaf.Raw), writePEM(t, "ca.pem", "CERTIFICATE", p.certs[c.by].Raw), "-t", root)
		if good := err == nil && strings.Contains(out, "Chain is good!"); good != c.good || !good && !strings.Contains(out, "Chain is bad!") {
			t.Errorf("%s as usage %s: %v\n%s", c.kind, c.usage, err, out)
		}
	}
}
