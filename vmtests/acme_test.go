//go:build vm

package vmtests

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// TestACME: setup with tls = "acme" gets the listener's certificate from a real ACME server, Debian's pebble, which finds the portal by its name, over sockets that systemd has
// bound; and a restart does not ask for another.
func TestACME(t *testing.T) {
	inContainers(t)
	besideOthers(t)
	eachRelease(t, func(t *testing.T, d machine.Debian) {
		e := newEstate(t, d)
		l := &life{estate: e, deb: built(t, debs), at: atPrimary}
		l.archive = e.newArchive(t, "apt", l.deb)
		roots, issues := l.pebble(t)
		e.boot(map[string]int{"primary": atPrimary})
		l.trust(t, l.archive, "primary")
		l.on(t, "primary", "apt-get -q update && apt-get install -y -q --no-install-recommends aes-appliance") // the doctor misses nothing of those
		l.put(t, "primary", "/etc/aes-appliance/acme-roots.pem", 0o644, roots)
		l.put(t, "primary", "/usr/local/share/ca-certificates/pebble.crt", 0o644, issues)
		l.put(t, "primary", "/root/realm-ca.pem", 0o644, l.provider.CA)
		answers, _, _ := strings.Cut(l.answers(t), "[backup]")
		l.put(t, "primary", "/root/answers.toml", 0o600, strings.Replace(answers, `tls = "own-ca"`,
			"tls = \"acme\"\nacme_directory = \"https://acme.test/dir\"\nacme_email = \"ops@veripath.test\"\nacme_roots_file = \"/etc/aes-appliance/acme-roots.pem\"", 1))
		l.on(t, "primary", "update-ca-certificates >/dev/null 2>&1")
		t.Log("\n" + l.on(t, "primary", "appliance setup --answers /root/answers.toml")) // its doctor finds nothing bad, or it ends with 3
		first := l.shows(t, issues)
		l.on(t, "primary", "systemctl restart aes-portal && systemctl is-active aes-portal")
		if again := l.shows(t, issues); again.SerialNumber.Cmp(first.SerialNumber) != 0 {
			t.Error("a restart asked for another certificate")
		}
		l.on(t, "primary", "appliance doctor --serving")
		// An upgrade reaches a portal that waits for its certificate, too, and does not wait with it.
		l.on(t, "primary", "sed -i 's|https://acme.test/dir|https://nobody.test/dir|' /etc/aes-appliance/appliance.toml && systemctl restart --no-block aes-portal")
		l.give(t, "primary", "/root/next.deb", next(t, l.deb))
		l.on(t, "primary", `apt-get install -y -q /root/next.deb && test "$(systemctl is-active aes-portal)" = activating && cmp /proc/$(systemctl show -P MainPID aes-portal)/exe /usr/bin/appliance`)
	})
}

// pebble starts an ACME server on the host acme.test. It returns who vouches for its own HTTPS, and the root that it issues by, PEM.
func (l *life) pebble(t *testing.T) (roots, issues string) {
	t.Helper()
	if err := l.lab.Attach("acme", atACME); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"acme.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	roots = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	dir := t.TempDir()
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "0.0.0.0:443", "managementListenAddress": "0.0.0.0:15000", "certificate": dir + "/cert.pem", "privateKey": dir + "/key.pem",
		"httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"cert.pem": []byte(roots), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "pebble.json": settings} {
		if err := os.WriteFile(dir+"/"+name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The names that it validates it looks up in an /etc/hosts of its own.
	ctx, cancel := context.WithCancel(context.Background())
	var said bytes.Buffer
	cmd := l.lab.Command(ctx, "acme", "unshare", "--mount", "--propagation=private", "sh", "-ec",
		`printf '198.18.0.10 sign.clinic.test pki.clinic.test\n' >$0/hosts; mount --bind $0/hosts /etc/hosts; exec pebble -config $0/pebble.json`, dir)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20")
	cmd.Stdout, cmd.Stderr = &said, &said
	if _, err := exec.LookPath("pebble"); err != nil {
		t.Fatalf("the test needs an ACME server: %v: packaging/deps.sh test", err)
	}
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
	waitFor(t, time.Minute, "pebble", func() error {
		issues, err = l.fetch(roots, "acme.test", "198.18.0.5:15000", "/roots/0")
		return err
	})
	return roots, issues
}

// fetch gets what a host of the lab shows to one on the internet.
func (l *life) fetch(roots, name, address, path string) (string, error) {
	client := l.visitor(roots, name, address)
	defer client.CloseIdleConnections()
	answer, err := client.Get("https://" + name + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", answer.Status)
	}
	return string(text), err
}

func (l *life) visitor(roots, name, address string) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return l.lab.Dial(ctx, "app", network, address)
		},
	}}
}

// shows returns the certificate that the portal shows on the internet, which the CA must vouch for.
func (l *life) shows(t *testing.T, roots string) *x509.Certificate {
	t.Helper()
	client := l.visitor(roots, "sign.clinic.test", "198.18.0.10:443")
	defer client.CloseIdleConnections()
	answer, err := client.Get("https://sign.clinic.test/healthz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.TLS.PeerCertificates[0]
}
