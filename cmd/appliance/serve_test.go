package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/signer"
)

// served is a demo that goes on serving.
type served struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	out  text
	done chan error
}

// text can be read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// serve starts a demo in dir and waits until it says that it is ready.
func serve(t *testing.T, dir string) *served {
	t.Helper()
	s := &served{t: t, dir: dir, cmd: program(t, "demo", "--serve", "--dir", dir), done: make(chan error, 1)}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() { s.cmd.Process.Kill() })
	for end := time.Now().Add(time.Minute); !strings.Contains(s.out.String(), "\nReady at "); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-s.done:
			t.Fatalf("demo --serve ended: %v\n%s", err, &s.out)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("demo --serve is not ready:\n%s", &s.out)
		}
	}
	return s
}

// end signals the demo, and returns how it ended.
func (s *served) end(sig syscall.Signal) error {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.done:
		return err
	case <-time.After(time.Minute):
		s.t.Fatalf("the demo does not end:\n%s", &s.out)
		return nil
	}
}

// processes are the two that the demo says it has started.
func (s *served) processes() []int {
	s.t.Helper()
	var list []int
	for _, m := range regexp.MustCompile(`appliance (?:signer|portal) +process (\d+):`).FindAllStringSubmatch(s.out.String(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			s.t.Fatal(err)
		}
		list = append(list, pid)
	}
	if len(list) != 2 {
		s.t.Fatalf("processes %v in\n%s", list, &s.out)
	}
	return list
}

// gone waits for the processes to have ended.
func gone(t *testing.T, list []int) {
	t.Helper()
	for _, pid := range list {
		for end := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d goes on", pid)
			}
		}
	}
}

// variable reads one out of the demo's env, with a shell.
func (s *served) variable(name string) string {
	s.t.Helper()
	out, err := exec.Command("sh", "-c", `. "$0/env"; eval "printf %s \"\$$1\""`, s.dir, name).Output()
	if err != nil || len(out) == 0 {
		s.t.Fatalf("%s: %q, %v", name, out, err)
	}
	return string(out)
}

// shell runs a script with the demo's variables.
func (s *served) shell(script string) (string, error) {
	cmd := exec.Command("sh", "-eu", "-c", `. "$0/env"
`+script, s.dir)
	cmd.Dir = s.t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func demoDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "aes") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "demo o'clock") // a name that wants quoting
}

// TestPrintedLinesWork runs what "demo --serve" prints, as it stands, in a shell with the real curl and openssl; then what a stranger's script would do.
func TestPrintedLinesWork(t *testing.T) {
	dir := demoDir(t)
	s := serve(t, dir)
	lines := regexp.MustCompile(`(?s)\n(# the variables\n.*?)\n\nReady at `).FindStringSubmatch(s.out.String())
	if lines == nil {
		t.Fatalf("no lines in\n%s", &s.out)
	}
	if info, err := os.Stat(filepath.Join(dir, "env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("env: %v, %v", info, err)
	}
	work := t.TempDir()
	for _, shell := range []string{"sh", "bash"} { // twice: nothing of it is good for one time only
		cmd := exec.Command(shell, "-eu", "-c", lines[1])
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", shell, err, out)
		}
		for _, want := range []string{`"evidence_type":"PAdES-B-LTA Evidence Summary"`, `"common_name":"Nurse `, "Verification: OK", "clinician.pem: good"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: %q is not in\n%s", shell, want, out)
			}
		}
	}
	id := s.variable("RX")
	run(t, "verify", filepath.Join(work, id+".pdf"), "--trust", s.variable("CA"))
	run(t, "verify", filepath.Join(work, id+".zip"), "--trust", s.variable("CA"), "--log-key", filepath.Join(dir, "state", "log-key.txt"))

	for name, c := range map[string]struct{ form, status string }{
		"its own":         {"-d person=doctor", "200"},
		"without a form":  {"-X POST", "200"},
		"expired":         {"-d ttl=-60", "401"},
		"another's realm": {`--data-urlencode claims={\"iss\":\"https://x.example/realms/a\"}`, "401"},
		"without role":    {"-d roles=", "403"},
		"service account": {"-d person=service", "403"},
	} {
		out, err := s.shell(`token=$(curl -sS --fail-with-body ` + c.form + ` "$ISSUER/token")
curl -sS -o /dev/null -w '%{http_code}' --cacert "$CA" -H "Authorization: Bearer $token" "$URL/api/prescriptions"`)
		if err != nil || out != c.status {
			t.Errorf("a token %s: %q, %v", name, out, err)
		}
	}
	for _, number := range []string{"RX-1", "RX-2"} {
		if out := bookingApp(t, s.variable("URL"), s.variable("CA"), s.variable("TOKEN"), number); !strings.Contains(out, "signed: "+number+" signed token\n") || !strings.HasSuffix(out, "cancelled\n") {
			t.Errorf("the booking app's example says:\n%s", out)
		}
	}
	running := s.processes()
	if err := s.end(syscall.SIGINT); err != nil {
		t.Errorf("ctrl-C: %v\n%s", err, &s.out)
	}
	gone(t, running)
	if _, err := os.Stat(filepath.Join(dir, "env")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("env is left: %v", err)
	}
	run(t, "--config", filepath.Join(dir, "appliance.toml"), "audit", "verify")
}

// TestNothingOutlivesTheDemo: whatever ends it or one of its processes, all end, and the next one works: on other ports when these are taken, with the
// same realm, and without the variables of the one before.
func TestNothingOutlivesTheDemo(t *testing.T) {
	dir := demoDir(t)
	s := serve(t, dir)
	running, issuer := s.processes(), s.variable("ISSUER")
	if out, err := program(t, "demo", "--dir", dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "another demo is running") {
		t.Errorf("a second one in the same folder: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "env")); err != nil {
		t.Errorf("the second one took the variables of the first: %v", err)
	}
	if err := s.end(syscall.SIGKILL); err == nil {
		t.Error("killed, and ended well")
	}
	gone(t, running)
	if _, err := os.Stat(filepath.Join(dir, "env")); err != nil {
		t.Errorf("a killed demo leaves its variables: %v", err)
	}

	taken, err := net.Listen("tcp", strings.TrimPrefix(s.variable("URL"), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s = serve(t, dir)
	if got := s.variable("URL"); got == "https://"+taken.Addr().String() {
		t.Errorf("two listen at %s", got)
	}
	if got := s.variable("ISSUER"); got != issuer {
		t.Errorf("another realm: %s, then %s", issuer, got)
	}
	running = s.processes()
	if err := syscall.Kill(running[1], syscall.SIGKILL); err != nil { // the portal
		t.Fatal(err)
	}
	if err := <-s.done; err == nil || !strings.Contains(s.out.String(), "error: the portal ended") {
		t.Errorf("%v\n%s", err, &s.out)
	}
	gone(t, running)
	if _, err := os.Stat(filepath.Join(dir, "env")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("env is left: %v", err)
	}
}

// TestDemoOfAnEarlierVersion: one without sockets, portal, clinic and realm, and with a certificate that is bound to nobody, gets what it lacks.
func TestDemoOfAnEarlierVersion(t *testing.T) {
	dir := demoDir(t)
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	files, err := newDemoFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg, err := a.demoConfigure(files)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.demoFound(context.Background(), files, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "--config", files.config, "cert", "issue", "--clinic", demoClinic, "--name", "Doctor Clinician", "--register", "GMC", "--number", "7654321", "--out", filepath.Join(dir, "c.pem"))
	for range 2 {
		if out := run(t, "demo", "--dir", dir); !strings.Contains(out, " checks passed") {
			t.Error(out)
		}
	}
}

// TestRealApplianceHasNoDemo: neither the demo nor its realm work on an appliance that was not founded as one.
func TestRealApplianceHasNoDemo(t *testing.T) {
	dir := demoDir(t)
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	files, err := newDemoFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := a.demoConfigure(files); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(files.config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`mode = "unproven"`), []byte(`mode = "system"`), 1)
	if err := os.WriteFile(files.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(files.config)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := readPIN(cfg.Token.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.Found(context.Background(), signer.Config{Config: cfg, PIN: pin, Version: version, Kernel: &drifting{}}, signer.Founding{
		Actor: operator, Ceremony: func(root string) ca.Root { return a.holdCeremony("", root, files.rootPIN) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := program(t, "demo", "--dir", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is not a demo") {
		t.Errorf("%v\n%s", err, out)
	}
	if now, err := os.ReadFile(files.config); err != nil || !bytes.Equal(now, text) {
		t.Errorf("its configuration was changed (%v)", err)
	}
	run(t, "--config", files.config, "clinic", "add", demoClinic, "--name", "Wharf Lane Clinic")
	for _, issuer := range []string{"http://127.0.0.1:8180/realms/demo", "https://127.0.0.1:8180/realms/demo", "http://sso.example.org/realms/demo"} {
		if out, err := program(t, "--config", files.config, "realm", "add", issuer, "--clinic", demoClinic).CombinedOutput(); err == nil {
			t.Errorf("%s was registered:\n%s", issuer, out)
		}
	}
}

// TestServedOverTLSAlone: the address answers to who trusts the demo's root, and to nobody else.
func TestServedOverTLSAlone(t *testing.T) {
	s := serve(t, demoDir(t))
	root, err := os.ReadFile(s.variable("CA"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	for _, c := range []struct {
		roots *x509.CertPool
		host  string
		good  bool
	}{{pool, "127.0.0.1", true}, {pool, "localhost", true}, {x509.NewCertPool(), "127.0.0.1", false}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots}}
		port := s.variable("URL")[strings.LastIndexByte(s.variable("URL"), ':'):]
		got, err := (&http.Client{Transport: transport}).Get("https://" + c.host + port + "/healthz")
		if (err == nil) != c.good {
			t.Errorf("%s: %v", fmt.Sprint(c.host, c.good), err)
		}
		if err == nil {
			got.Body.Close()
		}
		transport.CloseIdleConnections()
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, &s.out)
	}
}

// TestVerbsWhileServing: a renewal is done by the signer that runs; signing from the command line is refused with what to do instead.
func TestVerbsWhileServing(t *testing.T) {
	dir := demoDir(t)
	run(t, "demo", "--dir", dir)
	s := serve(t, dir)
	cfg, signed, renewed := filepath.Join(dir, "appliance.toml"), filepath.Join(dir, "prescription.signed.pdf"), filepath.Join(dir, "renewed.pdf")
	run(t, "--config", cfg, "renew", "--in", signed, "--out", renewed)
	if out := run(t, "--config", cfg, "verify", renewed); strings.Count(out, "TOTAL_PASSED") != 3 {
		t.Error(out)
	}
	if out := run(t, "--config", cfg, "cert", "list", "--type", "clinician"); !strings.Contains(out, "Doctor Clinician") {
		t.Error(out)
	}
	out, err := program(t, "--config", cfg, "sign", "--in", filepath.Join(dir, "prescription.pdf"), "--out", filepath.Join(dir, "no.pdf"), "--as", "Doctor Clinician").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a signer is running here") || !strings.Contains(string(out), "POST /api/sign") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, &s.out)
	}
	if out := run(t, "--config", cfg, "audit", "export"); strings.Count(out, `"event_type":"document_renewed"`) != 1 {
		t.Error(out)
	}
}

// TestVariablesStayFresh: who reads the variables again finds other tokens, and both the old and the new are taken.
func TestVariablesStayFresh(t *testing.T) {
	files, err := newDemoFiles(demoDir(t))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := files.take()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	a := &app{stdout: &text{}, stderr: &text{}}
	cfg, err := a.demoAppliance(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	h := &demoHouse{app: a, files: files, cfg: cfg}
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := h.open(ctx, cancel); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.demoServe(ctx, h, 300*time.Millisecond) }()
	tokens := map[string]bool{}
	for end := time.Now().Add(30 * time.Second); len(tokens) < 3 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(files.env)
		if errors.Is(err, fs.ErrNotExist) && len(tokens) == 0 {
			continue
		}
		m := regexp.MustCompile("(?m)^TOKEN='(.*)'$").FindSubmatch(data)
		if err != nil || m == nil {
			t.Fatalf("%v\n%s", err, data)
		}
		tokens[string(m[1])] = true
	}
	if len(tokens) < 3 {
		t.Errorf("%d tokens", len(tokens))
	}
	for token := range tokens {
		if _, status, err := (visitor{h: h}).call(ctx, visit{method: "GET", path: "/api/prescriptions", token: token}); err != nil || status != http.StatusOK {
			t.Errorf("%d, %v", status, err)
		}
	}
	cancel(nil)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
