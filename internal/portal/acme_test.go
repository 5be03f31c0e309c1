package portal

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/porttest"
)

// TestACME gets the listener's certificate from a real ACME server, Debian's pebble, by each kind of challenge: over the portal's own listeners, which
// are bound already.
func TestACME(t *testing.T) {
	for name, change := range map[string]func(*acmeCertificates){
		"http-01":     func(a *acmeCertificates) { a.issuer.DisableTLSALPNChallenge = true },
		"tls-alpn-01": func(a *acmeCertificates) { a.issuer.DisableHTTPChallenge = true },
	} {
		t.Run(name, func(t *testing.T) {
			// The listeners are given, as systemd gives them: the configuration's addresses are others, which nobody may bind here.
			var l Listeners
			for _, to := range []*net.Listener{&l.HTTPS, &l.HTTP, &l.Metrics} {
				opened, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				*to = opened
			}
			https, plain := l.HTTPS.Addr().(*net.TCPAddr).Port, l.HTTP.Addr().(*net.TCPAddr).Port
			directory, roots, issued := startPebble(t, https, plain)
			p, _ := newPortal(t, func(c *Config) {
				c.TLS, c.ACMEDirectory, c.ACMERootsFile = config.TLSACME, directory, roots
				c.PrivateNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
				c.Listen, c.ListenHTTP, c.ListenMetrics = "192.0.2.1:443", "192.0.2.1:80", "192.0.2.1:9464"
			})
			p.adjust = change
			serveOn(t, p, l)
			answer, err := clientOf(t, issued()).Get(fmt.Sprintf("https://127.0.0.1:%d/healthz", https))
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if leaf := answer.TLS.PeerCertificates[0]; leaf.VerifyHostname("localhost") != nil || answer.TLS.Version != tls.VersionTLS13 {
				t.Errorf("%v", leaf.DNSNames)
			}
		})
	}
}

// startPebble starts an ACME server that validates on these ports. It returns its directory, a file with the root of its own HTTPS, and what
// gives the root that it issues by.
func startPebble(t *testing.T, https, plain int) (directory, roots string, issued func() *x509.Certificate) {
	t.Helper()
	program, err := exec.LookPath("pebble")
	if err != nil {
		t.Fatalf("the test needs an ACME server: install Debian's pebble: %v", err)
	}
	dir := t.TempDir()
	certificate, key := writePair(t, dir, "Pebble", "localhost")
	// The server's own certificate is the trust anchor: Go takes a leaf for one.
	api, management := porttest.Reserve(t), porttest.Reserve(t)
	settings := map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", api), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", management),
		"certificate": certificate, "privateKey": key, "httpPort": plain, "tlsPort": https, "ocspResponderURL": "", "externalAccountBindingRequired": false,
	}}
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-config", path)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait() // killed
		if t.Failed() {
			t.Logf("pebble said:\n%s", &said)
		}
	})
	pool := x509.NewCertPool()
	data, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(data)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}}
	t.Cleanup(client.CloseIdleConnections)
	directory = fmt.Sprintf("https://localhost:%d/dir", api)
	for range 100 {
		if answer, err := client.Get(directory); err == nil {
			answer.Body.Close()
			return directory, certificate, func() *x509.Certificate { return pebbleRoot(t, client, management) }
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("pebble does not answer:\n%s", &said)
	return
}

func pebbleRoot(t *testing.T, client *http.Client, management int) *x509.Certificate {
	t.Helper()
	answer, err := client.Get(fmt.Sprintf("https://localhost:%d/roots/0", management))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("pebble's root: %s", data)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
