package tsa_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
)

// openssl runs openssl ts in dir and returns what it wrote and whether it was content.
func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"ts"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("openssl cannot be run: %v; install the Debian package openssl", err)
	}
	return string(out), err
}

// TestOpenSSLAsksAndVerifies runs openssl's whole course, query to verification, for every kind of key and of query.
func TestOpenSSLAsksAndVerifies(t *testing.T) {
	for name, get := range pkis {
		p := get()
		authority := newTSA(t, config(p))
		dir := t.TempDir()
		writePEM(t, dir, "root.pem", p.root)
		writePEM(t, dir, "chain.pem", p.ca, p.cert)
		writeFile(t, dir, "data", []byte("data"))
		writeFile(t, dir, "other", []byte("other"))
		for _, query := range []string{"-sha256 -cert", "-sha384 -cert -tspolicy " + policy.String(), "-sha512 -no_nonce -cert", "-sha256", "-sha512 -no_nonce"} {
			if out, err := openssl(t, dir, append([]string{"-query", "-data", "data", "-out", "tsq"}, strings.Fields(query)...)...); err != nil {
				t.Fatal(out)
			}
			request, err := os.ReadFile(filepath.Join(dir, "tsq"))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, dir, "tsr", authority.Respond(ctx, request))
			if out, err := openssl(t, dir, "-verify", "-queryfile", "tsq", "-in", "tsr", "-CAfile", "root.pem", "-untrusted", "chain.pem"); err != nil {
				t.Errorf("%s, %s: %s", name, query, out)
			}
			if out, err := openssl(t, dir, "-verify", "-data", "other", "-in", "tsr", "-CAfile", "root.pem", "-untrusted", "chain.pem"); err == nil {
				t.Errorf("%s, %s: openssl takes it for other data: %s", name, query, out)
			}
			if !strings.Contains(query, "-cert") {
				continue
			}
			// The embedded certificates alone lead to the root.
			if out, err := openssl(t, dir, "-verify", "-queryfile", "tsq", "-in", "tsr", "-CAfile", "root.pem"); err != nil {
				t.Errorf("%s, %s, without chain: %s", name, query, out)
			}
		}
		out, err := openssl(t, dir, "-reply", "-in", "tsr", "-text")
		if err != nil {
			t.Fatal(out)
		}
		for _, want := range []string{"Status: Granted.", "Policy OID: " + policy.String(), now.Format("Jan _2 15:04:05 2006"), "Accuracy: 0x01 seconds, unspecified millis, unspecified micros",
			"Ordering: no", "TSA: unspecified", "Nonce: unspecified", "Extensions:\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: openssl does not say %q:\n%s", name, want, out)
			}
		}
	}
}

// TestDigitorusAsksAndVerifies has an independent client in Go do the same.
func TestDigitorusAsksAndVerifies(t *testing.T) {
	for name, get := range pkis {
		p := get()
		authority := newTSA(t, config(p))
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			want := imprintOf(h, "data")
			request, err := timestamp.CreateRequest(strings.NewReader("data"), &timestamp.RequestOptions{Hash: h, Certificates: true, TSAPolicyOID: policy, Nonce: big.NewInt(4711)})
			if err != nil {
				t.Fatal(err)
			}
			stamp, err := timestamp.ParseResponse(authority.Respond(ctx, request))
			if err != nil {
				t.Errorf("%s, %v: %v", name, h, err)
				continue
			}
			if stamp.HashAlgorithm != h || !bytes.Equal(stamp.HashedMessage, want.Digest) || !stamp.Time.Equal(now.Truncate(time.Second)) || stamp.Accuracy != time.Second ||
				!stamp.Policy.Equal(policy) || stamp.Nonce.Int64() != 4711 || stamp.Ordering || len(stamp.Certificates) != 2 || len(stamp.Extensions) != 0 {
				t.Errorf("%s, %v: %+v", name, h, stamp)
			}
			roots, chain := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(p.root)
			for _, c := range stamp.Certificates {
				chain.AddCert(c)
			}
			_, err = p.cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: chain, CurrentTime: stamp.Time, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		refused, err := (&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: make([]byte, 32), TSAPolicyOID: asn1.ObjectIdentifier{1, 2, 3}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		_, err = timestamp.ParseResponse(authority.Respond(ctx, refused))
		if err == nil || !strings.Contains(err.Error(), timestamp.UnacceptedPolicy.String()) {
			t.Errorf("%s: digitorus on another policy: %v", name, err)
		}
	}
}
