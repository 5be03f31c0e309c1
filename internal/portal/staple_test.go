package portal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/veripath/aes-appliance/internal/config"
)

// TestFilesAreStapled: with tls "files" the CA that the certificate names is asked for its status, and what it says is sent along while it holds: good answers,
// by that CA, about this certificate, and no other.
func TestFilesAreStapled(t *testing.T) {
	root, rootKey := selfSigned(t, "Public CA")
	other, otherKey := selfSigned(t, "Other CA")
	good := ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(77), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for name, c := range map[string]struct {
		change  func(*ocsp.Response)
		forged  bool
		status  int
		stapled bool
	}{
		"good":                {stapled: true},
		"revoked":             {change: func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now() }},
		"of another":          {change: func(r *ocsp.Response) { r.SerialNumber = big.NewInt(78) }},
		"out of date":         {change: func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(-time.Second) }},
		"from the future":     {change: func(r *ocsp.Response) { r.ThisUpdate = time.Now().Add(2 * time.Hour) }},
		"by somebody else":    {forged: true},
		"an error, not a 200": {status: http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				question, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				if q, err := ocsp.ParseRequest(question); err != nil || q.SerialNumber.Int64() != 77 {
					t.Errorf("asked for %v, %v", q, err)
				}
				says := good
				if c.change != nil {
					c.change(&says)
				}
				by, key := root, rootKey
				if c.forged {
					by, key = other, otherKey
				}
				der, err := ocsp.CreateResponse(by, by, says, key)
				if err != nil {
					t.Error(err)
				}
				if c.status != 0 {
					w.WriteHeader(c.status)
				}
				w.Write(der)
			}))
			defer responder.Close()
			certificate, key := leafFiles(t, root, rootKey, responder.URL)
			p, _ := newPortal(t, func(cfg *Config) { cfg.TLS, cfg.CertificateFile, cfg.KeyFile = config.TLSFiles, certificate, key })
			l, _ := serve(t, p)
			pool := x509.NewCertPool()
			pool.AddCert(root)
			var state tls.ConnectionState
			for range 100 { // it does not wait for the CA before it serves
				conn, err := tls.Dial("tcp", l.HTTPS.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
				if err != nil {
					t.Fatal(err)
				}
				state = conn.ConnectionState()
				conn.Close()
				if len(state.OCSPResponse) > 0 || !c.stapled && asked > 0 {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if asked != 1 || (len(state.OCSPResponse) > 0) != c.stapled {
				t.Errorf("asked %d times; %d bytes stapled", asked, len(state.OCSPResponse))
			}
		})
	}
}

// TestStapleLife: an answer is asked for anew when half of its life is over, kept while the CA is silent, and dropped at its end.
func TestStapleLife(t *testing.T) {
	root, rootKey := selfSigned(t, "Public CA")
	start := time.Now()
	silent, asked := false, 0
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if silent {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		der, err := ocsp.CreateResponse(root, root, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(77), ThisUpdate: start, NextUpdate: start.Add(2 * time.Hour)}, rootKey)
		if err != nil {
			t.Error(err)
		}
		w.Write(der)
	}))
	defer responder.Close()
	certificate, key := leafFiles(t, root, rootKey, responder.URL)
	loaded, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := newPortal(t, nil)
	s, c := newStapler(p.egress), &loaded
	for _, step := range []struct {
		after   time.Duration
		silent  bool
		asked   int
		stapled bool
	}{
		{0, false, 1, true}, {30 * time.Minute, false, 1, true}, {61 * time.Minute, true, 2, true}, {65 * time.Minute, true, 2, true},
		{75 * time.Minute, true, 3, true}, {121 * time.Minute, true, 4, false},
	} {
		silent = step.silent
		c, err = s.fresh(t.Context(), c, start.Add(step.after))
		if asked != step.asked || (len(c.OCSPStaple) > 0) != step.stapled {
			t.Errorf("after %v: asked %d times, %d bytes stapled, %v", step.after, asked, len(c.OCSPStaple), err)
		}
	}
}

// leafFiles writes a certificate for localhost by root, with its chain, and its key.
func leafFiles(t *testing.T, root *x509.Certificate, rootKey *ecdsa.PrivateKey, responder string) (certificate, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), OCSPServer: []string{responder}, KeyUsage: x509.KeyUsageDigitalSignature}, root, &key.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, keyFile = filepath.Join(dir, "tls.pem"), filepath.Join(dir, "key.pem")
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...)
	for path, data := range map[string][]byte{certificate: chain, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, keyFile
}
