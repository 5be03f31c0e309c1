package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/porttest"
)

// service is one of the appliance's processes.
type service struct {
	t     testing.TB
	cmd   *exec.Cmd
	ready chan bool     // true once it says so; closed when its output has ended
	done  chan struct{} // closed when its output has ended
	log   bytes.Buffer  // complete once done is closed
}

// program is this test binary as the appliance itself, or the program that -appliance names.
func program(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	args, code := onInput(args)
	self := *built
	if self == "" {
		var err error
		if self, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(self, args...)
	cmd.Stdin = code
	if *built == "" {
		cmd.Args[0] = "appliance" // testscript.Main looks here
	}
	return cmd
}

// onInput has the code of a command line come on standard input, as the program wants it.
func onInput(args []string) ([]string, io.Reader) {
	for i, flag := range args[:max(0, len(args)-1)] {
		if code := args[i+1]; (flag == "--code" || flag == "--join") && strings.HasPrefix(code, "aes-") {
			args = slices.Clone(args)
			args[i+1] = "-"
			return args, strings.NewReader(code + "\n")
		}
	}
	return args, nil
}

// run runs a verb to its end.
func run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := program(t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("appliance %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start starts a service and waits until it says that it is ready.
func start(t testing.TB, args ...string) *service {
	t.Helper()
	s := launch(t, program(t, args...))
	s.wait()
	return s
}

// launch starts a service that the test ends, at the latest by ending.
func launch(t testing.TB, cmd *exec.Cmd) *service {
	t.Helper()
	s := &service{t: t, cmd: cmd, ready: make(chan bool, 1), done: make(chan struct{})}
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			s.log.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "msg=ready ") {
				s.ready <- true
			}
		}
		close(s.ready)
	}()
	t.Cleanup(s.kill)
	return s
}

// wait waits until the service says that it is ready.
func (s *service) wait() {
	s.t.Helper()
	select {
	case ok := <-s.ready:
		if !ok {
			<-s.done
			s.t.Fatalf("%s ended before it was ready:\n%s", s.cmd.Args, s.log.String())
		}
	case <-time.After(30 * time.Second):
		s.t.Fatalf("%s is not ready after 30 s", s.cmd.Args)
	}
}

// stop asks it to end and expects that it does, well.
func (s *service) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	<-s.done
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("%s ended with %v:\n%s", s.cmd.Args, err, s.log.String())
	}
}

func (s *service) kill() {
	if s.cmd.ProcessState != nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	<-s.done
	s.cmd.Wait() // killed
	if s.t.Failed() {
		s.t.Logf("%s said:\n%s", s.cmd.Args, s.log.String())
	}
}

// estate is a demo appliance with both processes running, a real OpenID provider, and a clinic whose realm is registered.
type estate struct {
	t              testing.TB
	dir, config    string
	url            string // of the portal
	plain          string // of its plain http listener
	metrics        string // of its loopback listener
	root           string // PEM file
	provider       *oidctest.Provider
	signer, portal *service
	client         *http.Client
	vault          *vault // the backup host that it is to have; nil: one on loopback

	asking sync.Mutex
	asked  map[string]map[string]any // by prescription: what was asked for
}

// newEstate also starts a provider, registers its realm a for the clinic wharf-lane, and starts both processes.
func newEstate(t *testing.T) *estate {
	t.Helper()
	e := newGround(t, "caller_rate = 1000\npublic_rate = 1000\n")
	e.provider = oidctest.Start(t, oidctest.Options{})
	e.signer = start(t, "--config", e.config, "signer")
	run(t, "--config", e.config, "clinic", "add", "wharf-lane", "--name", "Wharf Lane Clinic", "--acr", "2", "--audience", "aes-portal", "--admin-role", "aes-admin")
	run(t, "--config", e.config, "realm", "add", e.provider.A.Issuer, "--clinic", "wharf-lane")
	e.portal = start(t, "--config", e.config, "portal")
	return e
}

// newGround makes a demo appliance whose processes have addresses of their own, and a client that trusts it. more goes into the portal's section.
func newGround(t testing.TB, more string) *estate {
	t.Helper()
	dir, err := os.MkdirTemp("", "aes") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &estate{t: t, dir: dir}
	demo := filepath.Join(dir, "demo")
	e.config, e.root = filepath.Join(demo, "appliance.toml"), filepath.Join(demo, "root.pem")
	run(t, "demo", "--dir", demo)
	https, plain, metrics := porttest.Reserve(t), porttest.Reserve(t), porttest.Reserve(t)
	e.configure(fmt.Sprintf(`
[signer]
portal_socket = "%[1]s/p/s"
admin_socket = "%[1]s/a/s"
[portal]
state_dir = "%[1]s/portal"
hosts = "localhost 127.0.0.1"
private_networks = "127.0.0.0/8 ::1/128"
listen = "127.0.0.1:%[2]d"
listen_http = "127.0.0.1:%[3]d"
listen_metrics = "127.0.0.1:%[4]d"
tls = "own-ca"
`, dir, https, plain, metrics) + more)
	e.url, e.plain, e.metrics = fmt.Sprintf("https://localhost:%d", https), fmt.Sprintf("http://127.0.0.1:%d", plain), fmt.Sprintf("http://127.0.0.1:%d", metrics)
	for _, folder := range []string{"p", "a"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(e.root)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	e.client = &http.Client{Transport: transport, Timeout: time.Minute}
	return e
}

// configure replaces the sections that a demo's configuration may have for its services.
func (e *estate) configure(sections string) {
	e.t.Helper()
	text, err := os.ReadFile(e.config)
	if err != nil {
		e.t.Fatal(err)
	}
	kept := regexp.MustCompile(`(?m)^\[(signer|portal)\]\n([^\[].*\n|\n)*`).ReplaceAll(text, nil)
	if err := os.WriteFile(e.config, append(kept, sections...), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// ask makes a request and returns the status, the body and the headers.
func (e *estate) ask(method, path, token string, body any) (int, []byte, http.Header) {
	e.t.Helper()
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			e.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, e.url+path, reader)
	if err != nil {
		e.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := e.client.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return answer.StatusCode, data, answer.Header
}

// TestBookingApp runs the example of docs/booking-app.md against both processes, with tokens of a real OpenID provider.
func TestBookingApp(t *testing.T) {
	e := newEstate(t)
	admin := oidctest.Person{Sub: "admin-1", Username: "admin", Name: "Clinic Admin", Roles: []string{"aes-admin"}, ACR: "2"}
	doctor := oidctest.Doctor()
	status, body, _ := e.ask("POST", "/certificates/issue", e.provider.A.Login(t, admin).Access, map[string]any{
		"common_name": doctor.Name, "org": "Wharf Lane Clinic", "country": "GB", "cert_type": "clinician", "validity_days": 365,
		"register": "GMC", "registration_number": "7654321", "sub": doctor.Sub,
	})
	if status != http.StatusOK {
		t.Fatalf("issuing a certificate: %d %s", status, body)
	}
	weak := doctor
	weak.ACR = "1"
	status, body, _ = e.ask("POST", "/api/sign", e.provider.A.Login(t, weak).Access, signBody(t))
	if status != http.StatusForbidden || !strings.Contains(string(body), `"type":"/problems/acr-too-low"`) {
		t.Errorf("a login without the second factor: %d %s", status, body)
	}
	out := bookingApp(t, e.url, e.root, e.provider.A.Login(t, doctor).Access, "RX-134")
	want := "refused: dosage, snomed_code\nsigned: RX-134 signed token\nevidence: dr.clinician I have reviewed this prescription and sign it.\nverified: B-LTA\ncancelled\n"
	if out != want {
		t.Errorf("the example says:\n%s\nwant:\n%s", out, want)
	}
	e.checkGiven(doctor)
	e.checkOtherClinic(doctor)
	e.checkRenewed(doctor, "RX-134")
	e.portal.stop()
	e.signer.stop()
	run(t, "--config", e.config, "audit", "verify")
}

// bookingApp runs the example of the documentation.
func bookingApp(t *testing.T, url, root, token, number string) string {
	t.Helper()
	const interpreter = "/usr/bin/python3" // Debian's, which has Debian's packages
	if err := exec.Command(interpreter, "-c", "import requests").Run(); err != nil {
		t.Fatalf("the example needs requests: install Debian's python3-requests: %v", err)
	}
	doc, err := os.ReadFile("../../docs/booking-app.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(doc)
	if code == nil {
		t.Fatal("docs/booking-app.md has no example in Python")
	}
	script := filepath.Join(t.TempDir(), "booking_app.py")
	if err := os.WriteFile(script, code[1], 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(interpreter, script, url, root, token, number).CombinedOutput()
	if err != nil {
		t.Fatalf("the example of docs/booking-app.md: %v\n%s", err, out)
	}
	return string(out)
}

// checkGiven signs a PDF of the booking app's own, once the clinic's policy allows it and as long as it is plain.
func (e *estate) checkGiven(doctor oidctest.Person) {
	e.t.Helper()
	plain, err := os.ReadFile(filepath.Join(e.dir, "demo", "prescription.pdf"))
	if err != nil {
		e.t.Fatal(err)
	}
	body := signBody(e.t)
	body["prescription_id"], body["pdf_base64"] = "RX-200", base64.StdEncoding.EncodeToString(plain)
	expect := func(what string, status int, part string) {
		e.t.Helper()
		got, answer, _ := e.ask("POST", "/api/sign", e.provider.A.Login(e.t, doctor).Access, body)
		if got != status || !strings.Contains(string(answer), part) {
			e.t.Errorf("%s: %d %.500s", what, got, answer)
		}
	}
	expect("not allowed", http.StatusForbidden, "/problems/given-pdf-not-allowed")
	run(e.t, "--config", e.config, "clinic", "policy", "wharf-lane", "--given-pdf")
	signed, err := os.ReadFile(filepath.Join(e.dir, "demo", "prescription.signed.pdf"))
	if err != nil {
		e.t.Fatal(err)
	}
	body["pdf_base64"] = base64.StdEncoding.EncodeToString(signed)
	expect("signed before", http.StatusUnprocessableEntity, "/problems/given-pdf-refused")
	body["pdf_base64"] = base64.StdEncoding.EncodeToString(plain)
	expect("plain", http.StatusOK, `"status":"signed"`)
	body["dosage"] = "Another dosage"
	expect("other content", http.StatusConflict, "/problems/prescription-conflict")
}

// checkOtherClinic: a clinic sees only its own, whoever asks.
func (e *estate) checkOtherClinic(doctor oidctest.Person) {
	e.t.Helper()
	run(e.t, "--config", e.config, "clinic", "add", "other", "--name", "Other Clinic", "--acr", "2", "--audience", "aes-portal")
	run(e.t, "--config", e.config, "realm", "add", e.provider.B.Issuer, "--clinic", "other")
	token := e.provider.B.Login(e.t, doctor).Access
	for _, path := range []string{"/api/pdf/RX-134", "/api/evidence/RX-134", "/api/evidence/RX-134/pack"} {
		if status, body, _ := e.ask("GET", path, token, nil); status != http.StatusNotFound {
			e.t.Errorf("%s by another clinic: %d %s", path, status, body)
		}
	}
	if status, body, _ := e.ask("GET", "/api/prescriptions", token, nil); status != http.StatusOK || strings.Contains(string(body), "RX-134") {
		e.t.Errorf("another clinic's list: %d %s", status, body)
	}
}
