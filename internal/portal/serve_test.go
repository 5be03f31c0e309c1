package portal

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// certify has the double issue a listener's certificate as the signer would.
func (d *double) certify(hosts []string, life time.Duration) {
	d.do[wire.OpListener] = func(in any, _ *os.File) (any, *os.File, error) {
		csr, err := x509.ParseCertificateRequest(in.(wire.ListenerRequest).CSR)
		if err != nil || csr.CheckSignature() != nil {
			return nil, nil, fault.New(fault.Invalid, "no proof of possession")
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life)}
		for _, h := range hosts {
			if ip := net.ParseIP(h); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
				continue
			}
			template.DNSNames = append(template.DNSNames, h)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, d.root, csr.PublicKey, d.key)
		return wire.ListenerCertificate{Chain: [][]byte{der}}, nil, err
	}
}

// serve runs the portal until the test ends; the listeners are closed by then.
func serve(t *testing.T, p *Portal) (Listeners, func() error) {
	t.Helper()
	l, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return l, serveOn(t, p, l)
}

func serveOn(t *testing.T, p *Portal, l Listeners) func() error {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- p.Serve(ctx, l, func() { close(ready) }) }()
	stop := func() error { cancel(); err := <-ended; ended <- err; return err }
	t.Cleanup(func() { stop() })
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("it ended: %v", err)
	case <-time.After(60 * time.Second):
		t.Fatal("not ready after 60 s")
	}
	return stop
}

func clientOf(t *testing.T, root *x509.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(root)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestOwnCA(t *testing.T) {
	p, d := newPortal(t, nil)
	d.certify(p.cfg.Hosts, time.Hour)
	l, stop := serve(t, p)
	client := clientOf(t, d.root)
	answer, err := client.Get("https://" + l.HTTPS.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.ProtoMajor != 2 || answer.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("HTTP/%d %v", answer.ProtoMajor, answer.Header)
	}
	plain := "http://" + l.HTTP.Addr().String()
	answer, err = client.Get(plain + "/verify?x=1")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if to := answer.Header.Get("Location"); answer.StatusCode != 308 || !strings.HasPrefix(to, "https://localhost:") || !strings.HasSuffix(to, "/verify?x=1") {
		t.Errorf("%d to %q", answer.StatusCode, to)
	}
	r, err := http.NewRequest("GET", plain+"/verify", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer x")
	if answer, err = client.Do(r); err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 403 {
		t.Errorf("a token over plain http: %d", answer.StatusCode)
	}
	info, err := os.Stat(filepath.Join(p.cfg.StateDir, ownFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v %v", info, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	// Started again, it has its certificate without asking.
	again, err := New(p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	again.cfg.Portal.Listen, again.cfg.ListenHTTP = "127.0.0.1:0", "127.0.0.1:0"
	before := d.count(wire.OpListener)
	serve(t, again)
	if d.count(wire.OpListener) != before {
		t.Error("it asked for another certificate though it had one")
	}
}

// TestOwnCARenews: a certificate whose life is two thirds over is replaced, one of another root at once.
func TestOwnCARenews(t *testing.T) {
	p, d := newPortal(t, nil)
	d.certify(p.cfg.Hosts, time.Hour)
	o, err := newOwnCertificates(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.refresh(t.Context()); err != nil && o.get() == nil {
		t.Fatal(err)
	}
	first := o.get()
	if err := o.refresh(t.Context()); o.get().Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Errorf("renewed at once: %v", err)
	}
	p.cfg.Now = func() time.Time { return time.Now().Add(45 * time.Minute) }
	if err := o.refresh(t.Context()); err != nil && o.get().Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Errorf("not renewed: %v", err)
	}
	second := o.get()
	p.cfg.Now = time.Now
	d.root, d.key = selfSigned(t, "Another Root")
	o.refresh(t.Context())
	if o.get().Leaf.SerialNumber.Cmp(second.Leaf.SerialNumber) == 0 {
		t.Error("a certificate of the old root is kept")
	}
}

func writePair(t *testing.T, dir, name string, hosts ...string) (certificate, key string) {
	t.Helper()
	ca, caKey := selfSigned(t, name)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	leafKey, err := ecdsa.GenerateKey(caKey.Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &leafKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	p, _ := newPortal(t, func(c *Config) {
		c.TLS = config.TLSFiles
		c.CertificateFile, c.KeyFile = writePair(t, dir, "one", "localhost")
	})
	f, err := newFileCertificates(p)
	if err != nil {
		t.Fatal(err)
	}
	first := f.get()
	if err := f.load(); err != nil || f.get() != first {
		t.Errorf("unchanged files: %v", err)
	}
	writePair(t, dir, "two", "localhost")
	later := time.Now().Add(time.Second)
	os.Chtimes(p.cfg.CertificateFile, later, later)
	if err := f.load(); err != nil || f.get() == first {
		t.Errorf("changed files: %v", err)
	}
	second := f.get()
	writePair(t, dir, "three", "elsewhere.example")
	os.Chtimes(p.cfg.CertificateFile, later.Add(time.Second), later.Add(time.Second))
	if err := f.load(); fault.KindOf(err) != fault.Invalid || f.get() != second {
		t.Errorf("a certificate for another name: %v", err)
	}
	if err := os.Chmod(p.cfg.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := newFileCertificates(p); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a key for all to read: %v", err)
	}
	if err := os.Remove(p.cfg.KeyFile); err != nil {
		t.Fatal(err)
	}
	if _, err := newFileCertificates(p); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no key: %v", err)
	}
}

func TestPortalWithoutHostsDoesNotStart(t *testing.T) {
	p, _ := newPortal(t, func(c *Config) { c.Hosts = nil })
	l, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Serve(t.Context(), l, func() {}); fault.KindOf(err) != fault.Invalid || fault.HintOf(err) == "" {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.HTTPS.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

// TestStopLetsRequestsFinish: what is in flight when the portal is told to stop gets its answer.
func TestStopLetsRequestsFinish(t *testing.T) {
	p, d := newPortal(t, nil)
	d.certify(p.cfg.Hosts, time.Hour)
	asked, goOn := make(chan struct{}), make(chan struct{})
	d.do[wire.OpTSA] = func(any, *os.File) (any, *os.File, error) {
		close(asked)
		<-goOn
		return wire.DER{DER: []byte{0x30, 0}}, nil, nil
	}
	l, stop := serve(t, p)
	type result struct {
		body []byte
		err  error
	}
	got := make(chan result, 1)
	client := clientOf(t, d.root)
	go func() {
		answer, err := client.Post("https://"+l.HTTPS.Addr().String()+"/tsa", "application/timestamp-query", strings.NewReader("x"))
		if err != nil {
			got <- result{nil, err}
			return
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		got <- result{body, err}
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	time.Sleep(100 * time.Millisecond)
	close(goOn)
	if r := <-got; r.err != nil || len(r.body) != 2 {
		t.Errorf("%v %x", r.err, r.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestReadiness(t *testing.T) {
	p, d := newPortal(t, nil)
	inside := p.inside()
	get := func(path string) (int, string) {
		r, err := http.NewRequest("GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := &recorder{header: http.Header{}}
		inside.ServeHTTP(w, r)
		return w.status, w.body.String()
	}
	if status, body := get("/readyz"); status != 200 || !strings.Contains(body, `"ready":true`) {
		t.Errorf("%d %s", status, body)
	}
	d.do[wire.OpStatus] = func(any, *os.File) (any, *os.File, error) {
		return wire.Status{Reasons: []string{"the clock is not proven"}, Root: d.root.Raw}, nil, nil
	}
	if status, body := get("/readyz"); status != 503 || !strings.Contains(body, "clock is not proven") {
		t.Errorf("%d %s", status, body)
	}
	d.do[wire.OpStatus] = func(any, *os.File) (any, *os.File, error) {
		return nil, nil, fault.New(fault.Unavailable, "the signer cannot be reached").WithCause(errors.New("/run/secret"))
	}
	if status, body := get("/readyz"); status != 503 || !strings.Contains(body, "cannot be reached") || strings.Contains(body, "/run/secret") {
		t.Errorf("%d %s", status, body)
	}
	ask(p, "GET", "/healthz", "")
	if status, body := get("/metrics"); status != 200 || !strings.Contains(body, `aes_portal_request_seconds_count{route="GET /healthz",status="200"} 1`) ||
		!strings.Contains(body, `aes_portal_signer_seconds_count{op="status",error="unavailable"} 1`) {
		t.Errorf("%d %s", status, body)
	}
}

type recorder struct {
	header http.Header
	status int
	body   strings.Builder
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = 200
	}
	return r.body.Write(b)
}
func (r *recorder) WriteHeader(status int) { r.status = status }
