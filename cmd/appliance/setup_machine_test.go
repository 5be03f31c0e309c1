package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/veripath/aes-appliance/internal/demorealm"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/porttest"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/setup"
	"github.com/veripath/aes-appliance/internal/signer"
)

// plot is a folder that is set up as a machine.
type plot struct {
	units
	keeper  *age.X25519Identity
	answers string
	realm   *demorealm.Realm
	https   string
}

// newPlot makes one with answers for all that a primary can be told.
func newPlot(t *testing.T) *plot {
	t.Helper()
	if _, err := exec.LookPath("systemd-creds"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("this test takes systemd-creds (Debian's package systemd)")
	}
	dir := t.TempDir()
	p := &plot{units: units(dir)}
	t.Cleanup(func() { p.stop(t) })
	var err error
	if p.keeper, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	key, err := demorealm.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	l, err := demorealm.Listen(t.Context(), 0)
	if err == nil {
		p.realm, err = demorealm.New(l, key, time.Now)
	}
	if err != nil {
		t.Fatal(err)
	}
	go p.realm.Serve()
	t.Cleanup(func() { p.realm.Close() })
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", porttest.Reserve(t)) }
	p.https = port()
	plain := port()
	fixed, err := json.Marshal(map[string]any{
		"state_dir": p.path("var/lib/aes-appliance/signer"), "token.pin_file": p.path("run/credentials/token-pin"),
		"signer.portal_group": "", "signer.portal_socket": p.path("run/p/s"), "signer.admin_socket": p.path("run/a/s"),
		"portal.state_dir": p.path("var/lib/aes-appliance/portal"), "portal.listen": p.https, "portal.listen_http": plain,
		"portal.listen_metrics": port(),
	})
	if err != nil {
		t.Fatal(err)
	}
	doctor := prescription.Demo(time.Now())
	p.answers = p.path("answers.toml")
	p.write(t, "fixed.json", string(fixed))
	p.write(t, "answers.toml", fmt.Sprintf(`[setup]
demo = true
[ceremony]
led_by = "Ada Example, operations"
witnesses = "Ben Example; Cleo Example"
[clinic]
slug = "demo"
name = %q
issuer = %q
[clinician]
name = %q
register = %q
number = %q
sub = %q
[pki]
base_url = "http://%s"
name = "Plot"
organisation = "Plot Ltd"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.2019"
[token]
backup_recipients = %q
[clock]
mode = "unproven"
[portal]
hosts = "127.0.0.1"
tls = "own-ca"
[firewall]
admin_networks = "192.0.2.7"
`, doctor.ClinicName, p.realm.Issuer(), doctor.ClinicianCN, doctor.ProfessionalRegister, doctor.ProfessionalRegistrationNumber, demorealm.DoctorSub, plain, p.keeper.Recipient()))
	for _, dir := range []string{"var/lib/aes-appliance", "run/p", "run/a"} { // which the package and the units make
		if err := os.MkdirAll(p.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *plot) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// setup starts one, and returns it with what it says.
func (p *plot) setup(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader, *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var problems bytes.Buffer
	cmd := exec.Command(program, append([]string{underFolder, string(p.units), "setup"}, args...)...)
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out), &problems
}

// finish runs a setup to its end.
func (p *plot) finish(t *testing.T, args ...string) (out, problems string, code int) {
	t.Helper()
	cmd, r, said := p.setup(t, args...)
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	return string(text), said.String(), cmd.ProcessState.ExitCode()
}

func (p *plot) glob(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(p.path(pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found[0]
}

// check looks at everything that a finished setup must have left, and nothing else.
func (p *plot) check(t *testing.T) {
	t.Helper()
	state := p.path("var/lib/aes-appliance/signer")
	roots, err := readCertificates(filepath.Join(state, signer.RootPEMName))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(p.glob(t, "var/lib/aes-appliance/carry-off/root-*.age"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.OpenRoot(sealed, []byte(p.keeper.String()), roots[0]); err != nil {
		t.Errorf("the sealed root: %v", err)
	}
	sum, file := sha256.Sum256(roots[0].Raw), sha256.Sum256(sealed)
	transcript, err := os.ReadFile(p.glob(t, "var/lib/aes-appliance/carry-off/ceremony-*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][]byte{sum[:], file[:]} {
		line, _, _ := strings.Cut(setup.Speak(s), "\n")
		if !strings.Contains(string(transcript), line) {
			t.Errorf("the transcript lacks %s", line)
		}
	}
	backup, err := os.Open(p.glob(t, "var/lib/aes-appliance/carry-off/token-*.age"))
	if err != nil {
		t.Fatal(err)
	}
	defer backup.Close()
	held, err := escrow.Open(backup, strings.NewReader(p.keeper.String()))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := setup.Host{Root: string(p.units)}.Decrypt(t.Context(), pinCredential())
	if err != nil || !bytes.Equal(pin, held.PIN) {
		t.Errorf("the backup's PIN is not the credential's: %v", err)
	}
	p.checkLog(t, filepath.Join(state, "audit_chain.jsonl"))
	if _, err := os.Stat(p.path("var/lib/aes-appliance/founding")); err == nil {
		t.Error("the founding folder is still there")
	}
	for _, secret := range [][]byte{pin, held.PIN} {
		p.nowhere(t, secret)
	}
}

// checkLog wants each act of the setup once.
func (p *plot) checkLog(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range bytes.Lines(text) {
		var one struct {
			Entry struct {
				Type string `json:"event_type"`
			} `json:"entry"`
		}
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatal(err)
		}
		count[one.Entry.Type]++
	}
	for _, one := range []string{"appliance_founded", "ceremony_completed", "clinic_added", "realm_added"} {
		if count[one] != 1 {
			t.Errorf("the log has %d lines %s: %v", count[one], one, count)
		}
	}
}

// nowhere sees that a secret is in no file but the one that stands for systemd's own.
func (p *plot) nowhere(t *testing.T, secret []byte) {
	t.Helper()
	err := filepath.WalkDir(string(p.units), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == p.path("run/credentials/token-pin") {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, secret) {
			t.Errorf("%s holds the PIN", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// sign signs a prescription through the API, as the clinician that setup registered.
func (p *plot) sign(t *testing.T) {
	t.Helper()
	roots, err := readCertificates(p.path("var/lib/aes-appliance/signer/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(roots[0])
	token, _, err := p.realm.Token(url.Values{"sub": {demorealm.DoctorSub}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(newBooking(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+p.https+"/api/sign", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: time.Minute}
	got, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	answer, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != http.StatusOK {
		t.Fatalf("%d %.500s %v", got.StatusCode, answer, err)
	}
	var d demoSigned
	if err := d.signed(answer, false); err != nil {
		t.Error(err)
	}
}
