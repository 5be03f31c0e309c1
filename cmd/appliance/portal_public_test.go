package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/prescription"
)

// TestPublicEndpoints: what relying parties use, with their own tools; the limits of the listener; what loopback says.
func TestPublicEndpoints(t *testing.T) {
	e := newEstate(t)
	t.Run("TLS", e.checkTLS)
	t.Run("time stamps", e.checkTSA)
	t.Run("status", e.checkOCSP)
	t.Run("checkpoint", e.checkCheckpoint)
	t.Run("loopback", e.checkLoopback)
}

// openssl runs it and fails with what to install.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v (Debian's openssl is needed)\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (e *estate) address() string { return strings.TrimPrefix(e.url, "https://") }

func (e *estate) checkTLS(t *testing.T) {
	c, err := tls.Dial("tcp", e.address(), e.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := c.ConnectionState(); s.Version != tls.VersionTLS13 || len(s.OCSPResponse) == 0 || len(s.PeerCertificates) != 2 {
		t.Errorf("version %x, %d bytes of stapled status, %d certificates", s.Version, len(s.OCSPResponse), len(s.PeerCertificates))
	}
	for _, old := range [][]string{{"-tls1_1"}, {"-tls1_2", "-cipher", "AES128-SHA256:AES128-GCM-SHA256@SECLEVEL=0"}, {"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA@SECLEVEL=0"}} {
		cmd := exec.Command("openssl", append([]string{"s_client", "-connect", e.address(), "-CAfile", e.root}, old...)...)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%v was accepted:\n%s", old, out)
		}
	}
	_, _, h := e.ask("GET", "/healthz", "", nil)
	if !strings.HasPrefix(h.Get("Strict-Transport-Security"), "max-age=") {
		t.Errorf("no HSTS: %v", h)
	}
}

func (e *estate) checkTSA(t *testing.T) {
	query, reply, data := filepath.Join(e.dir, "q.tsq"), filepath.Join(e.dir, "r.tsr"), filepath.Join(e.dir, "data")
	if err := os.WriteFile(data, []byte("to be stamped"), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "ts", "-query", "-data", data, "-sha256", "-cert", "-out", query)
	der, err := os.ReadFile(query)
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{e.url, e.plain} {
		answer, err := e.client.Post(base+"/tsa", "application/timestamp-query", bytes.NewReader(der))
		if err != nil {
			t.Fatal(err)
		}
		token, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "application/timestamp-reply" {
			t.Fatalf("%d %v", answer.StatusCode, answer.Header)
		}
		if err := os.WriteFile(reply, token, 0o600); err != nil {
			t.Fatal(err)
		}
		openssl(t, "ts", "-verify", "-queryfile", query, "-in", reply, "-CAfile", e.root)
	}
	// RFC 3161 §2.3.2: what is no request gets an answer that says so.
	answer, err := e.client.Post(e.url+"/tsa", "application/timestamp-query", strings.NewReader("nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if token, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 || len(token) == 0 || token[0] != 0x30 {
		t.Errorf("nonsense: %d %x", answer.StatusCode, token)
	}
}

// checkCheckpoint keeps the log's checkpoint as anybody can, and the log passes with it.
func (e *estate) checkCheckpoint(t *testing.T) {
	answer, err := e.client.Get(e.url + "/log/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	note, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Fatalf("%d %v %v", answer.StatusCode, answer.Header, err)
	}
	kept := filepath.Join(e.dir, "kept.txt")
	if err := os.WriteFile(kept, note, 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(filepath.Dir(e.root), "state")
	var out bytes.Buffer
	if code := Main(t.Context(), []string{"audit", "verify", filepath.Join(state, "audit_chain.jsonl"), "--checkpoint", kept,
		"--log-key", filepath.Join(state, "log-key.txt")}, strings.NewReader(""), &out, &out); code != 0 || !strings.Contains(out.String(), "signed by the log's key") {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
}

func (e *estate) checkOCSP(t *testing.T) {
	leaf, issuer := filepath.Join(e.dir, "leaf.pem"), filepath.Join(e.dir, "issuer.pem")
	c, err := tls.Dial("tcp", e.address(), e.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	chain := c.ConnectionState().PeerCertificates
	for i, path := range []string{leaf, issuer} {
		if err := os.WriteFile(path, pemOf(chain[i].Raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, method := range []string{"POST", "GET"} {
		args := []string{"ocsp", "-issuer", issuer, "-cert", leaf, "-CAfile", e.root, "-url", e.plain + "/ocsp", "-no_nonce"}
		if method == "POST" {
			args[len(args)-1] = "-nonce"
			if out := openssl(t, args...); !strings.Contains(out, "good") || !strings.Contains(out, "Response verify OK") {
				t.Errorf("%s: %s", method, out)
			}
			continue
		}
		e.checkOCSPGet(t, leaf, issuer)
	}
	// What the certificate points to is there, on plain http, and nothing else is.
	for _, u := range append(chain[0].CRLDistributionPoints, chain[0].IssuingCertificateURL...) {
		path := u[strings.Index(u[len("http://"):], "/")+len("http://"):]
		answer, err := e.client.Get(e.plain + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/pkix-") || answer.Header.Get("ETag") == "" || answer.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: %d %v", path, answer.StatusCode, answer.Header)
		}
	}
	for _, path := range []string{"/crl/none.crl", "/ca/../healthz", "/ca/root.pem", "/ca/log-key.txt"} {
		answer, err := e.client.Get(e.plain + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == 200 && answer.Request.URL.Scheme == "http" {
			t.Errorf("%s: %d", path, answer.StatusCode)
		}
	}
	// What a verifier trusts comes over https alone, and is what the appliance itself keeps.
	for served, kept := range map[string]string{"/ca/root.pem": "root.pem", "/ca/log-key.txt": "state/log-key.txt"} {
		want, err := os.ReadFile(filepath.Join(e.dir, "demo", kept))
		if err != nil {
			t.Fatal(err)
		}
		if status, body, _ := e.ask("GET", served, "", nil); status != 200 || string(body) != string(want) {
			t.Errorf("%s: %d %s", served, status, body)
		}
	}
	refused, err := e.client.Post(e.plain+"/api/sign", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Body.Close()
	if refused.StatusCode != http.StatusForbidden || refused.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the API over plain http: %d", refused.StatusCode)
	}
}

func (e *estate) checkOCSPGet(t *testing.T, leaf, issuer string) {
	request, reply := filepath.Join(e.dir, "ocsp.req"), filepath.Join(e.dir, "ocsp.rsp")
	openssl(t, "ocsp", "-issuer", issuer, "-cert", leaf, "-no_nonce", "-reqout", request)
	der, err := os.ReadFile(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.client.Get(e.plain + "/ocsp/" + ocspPath(der))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "application/ocsp-response" || !strings.Contains(answer.Header.Get("Cache-Control"), "max-age") {
		t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	if err := os.WriteFile(reply, got, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := openssl(t, "ocsp", "-issuer", issuer, "-cert", leaf, "-CAfile", e.root, "-respin", reply, "-no_nonce"); !strings.Contains(out, "good") {
		t.Errorf("GET: %s", out)
	}
}

func (e *estate) checkLoopback(t *testing.T) {
	for path, want := range map[string]string{"/metrics": "aes_portal_request_seconds_count", "/readyz": `"ready":true`, "/healthz": "ok"} {
		answer, err := http.Get(e.metrics + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s", path, answer.StatusCode, body)
		}
		if path == "/metrics" && !strings.Contains(string(body), "aes_portal_tls_certificate_expires_seconds 1") {
			t.Errorf("%s", body)
		}
	}
	for _, path := range []string{"/metrics", "/readyz"} {
		if status, body, _ := e.ask("GET", path, "", nil); status != 404 {
			t.Errorf("%s is public: %d %s", path, status, body)
		}
	}
}

// signBody is a good request to sign.
func signBody(t testing.TB) map[string]any {
	t.Helper()
	raw, err := json.Marshal(prescription.Demo(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	body := map[string]any{}
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatal(err)
	}
	body["consent_text"], body["consent_timestamp"] = "I sign this.", time.Now().UTC().Format(time.RFC3339)
	return body
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// ocspPath is RFC 6960 A.1.
func ocspPath(der []byte) string { return url.QueryEscape(base64.StdEncoding.EncodeToString(der)) }
