package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/demorealm"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/setup"
	"github.com/veripath/aes-appliance/internal/signer"
)

// underFolder is a verb of the test binary: "under FOLDER VERB …" is the program, with a folder for a machine.
const underFolder = "under"

// runUnder is main() with a folder for a machine: its configuration, state and credentials are in it, systemd-creds is the real one, and systemctl starts the real services as processes.
func runUnder(dir string, args []string) {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	text, err := os.ReadFile(filepath.Join(dir, "fixed.json"))
	if err == nil {
		err = json.Unmarshal(text, &a.site.fixed)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	a.site.host = setup.Host{
		Root: dir, As: func(string) (*syscall.Credential, error) { return nil, nil },
		Exec: func(ctx context.Context, input []byte, name string, args ...string) ([]byte, error) {
			if name != "systemctl" {
				return setup.Exec(ctx, input, name, args...)
			}
			return nil, units(dir).systemctl(ctx, args)
		},
	}
	os.Exit(a.main(context.Background(), args))
}

// units is as much of systemd as setup uses: it starts services that outlive setup, and hands out credentials.
type units string

func (u units) path(name string) string { return filepath.Join(string(u), name) }

func (u units) systemctl(ctx context.Context, args []string) error {
	switch args[0] {
	case "daemon-reload", "enable":
		return nil
	case "start":
		if args[len(args)-1] == receiverUnit {
			return u.start("receiver", config.ReceiverPath)
		}
		if err := u.credential(ctx); err != nil {
			return err
		}
		if err := u.start("signer", config.Path); err != nil {
			return err
		}
		return u.start("portal", config.Path)
	case "is-active":
		name, _, _ := strings.Cut(strings.TrimPrefix(args[len(args)-1], "aes-"), ".")
		said, err := os.ReadFile(u.path(name + ".log"))
		if err == nil && !strings.Contains(string(said), " msg=ready ") {
			err = fmt.Errorf("%s is not ready: %s", name, said)
		}
		return err
	}
	return fmt.Errorf("systemctl %v", args)
}

// credential decrypts the PIN as systemd does for the service.
func (u units) credential(ctx context.Context) error {
	file := u.path("run/credentials/token-pin")
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	pin, err := setup.Host{Root: string(u)}.Decrypt(ctx, pinCredential())
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, pin, 0o600)
	}
	return err
}

func (u units) start(name, cfg string) error {
	pidFile := u.path(name + ".pid")
	if text, err := os.ReadFile(pidFile); err == nil {
		if pid, err := strconv.Atoi(string(text)); err == nil && syscall.Kill(pid, 0) == nil {
			return nil
		}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(u.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, name, "--config", u.path(cfg))
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return os.WriteFile(pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

// stop ends the services that setup started.
func (u units) stop(t *testing.T) {
	for _, name := range []string{"portal", "signer", "receiver"} {
		text, err := os.ReadFile(u.path(name + ".pid"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(string(text))
		if err != nil {
			t.Error(err)
			continue
		}
		if t.Failed() {
			said, _ := os.ReadFile(u.path(name + ".log"))
			t.Logf("%s:\n%s", name, said[max(0, len(said)-2000):])
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

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
	ports := free{}
	defer ports.release()
	p.https = ports.address("127.0.0.1:0")
	plain := ports.address("127.0.0.1:0")
	fixed, err := json.Marshal(map[string]any{
		"state_dir": p.path("var/lib/aes-appliance/signer"), "token.pin_file": p.path("run/credentials/token-pin"),
		"signer.portal_group": "", "signer.portal_socket": p.path("run/p/s"), "signer.admin_socket": p.path("run/a/s"),
		"portal.state_dir": p.path("var/lib/aes-appliance/portal"), "portal.listen": p.https, "portal.listen_http": plain,
		"portal.listen_metrics": ports.address("127.0.0.1:0"),
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

// TestSetup sets a primary up by answers, signs, and does it again: then nothing changes.
func TestSetup(t *testing.T) {
	p := newPlot(t)
	out, problems, code := p.finish(t, "--answers", p.answers)
	if code != exitGood {
		t.Fatalf("exit code %d\n%s%s", code, out, problems)
	}
	t.Log(out)
	p.check(t)
	p.sign(t)
	before := p.facts(t)
	again, problems, code := p.finish(t)
	if code != exitGood {
		t.Fatalf("again: exit code %d\n%s%s", code, again, problems)
	}
	if after := p.facts(t); after != before {
		t.Errorf("a second run changed something:\n%s\n%s", before, after)
	}
	if strings.Count(again, "there already") < 5 {
		t.Errorf("the second run says\n%s", again)
	}
	p.check(t)
}

// facts are the files that setup must not write twice, with their sums; what the services write is left out.
func (p *plot) facts(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"etc/*/*", "var/lib/aes-appliance/*", "var/lib/aes-appliance/carry-off/*", "var/lib/aes-appliance/signer/root.pem"} {
		found, err := filepath.Glob(p.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			info, err := os.Stat(f)
			if err != nil || info.IsDir() {
				continue
			}
			sum, err := sumFile(f)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %v %v %x\n", f, info.Mode(), info.ModTime(), sum[:4])
		}
	}
	return b.String()
}

// TestSetupKilled kills setup at every step, early and late in it, and goes on: what comes out is the same as without.
func TestSetupKilled(t *testing.T) {
	p := newPlot(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 1))
	killed, begun := 0, 0
	for ; ; begun++ {
		if begun > 60 {
			t.Fatal("it does not come to an end")
		}
		cmd, r, problems := p.setup(t, "--answers", p.answers)
		// Of the lines that it writes, one more is waited for each other time, and now and then a moment longer.
		var said strings.Builder
		for seen := 0; seen < 3+begun/2; {
			c, err := r.ReadByte()
			if err != nil {
				break
			}
			if said.WriteByte(c); strings.HasSuffix(said.String(), "  ") && !strings.HasSuffix(said.String(), "   ") || c == '\n' {
				seen++
			}
		}
		time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_, _ = io.Copy(&said, r)
		_ = cmd.Wait()
		if cmd.ProcessState.Exited() {
			if code := cmd.ProcessState.ExitCode(); code != exitGood {
				t.Fatalf("run %d: exit code %d\n%s%s", begun, code, &said, problems)
			}
			break
		}
		killed++
	}
	t.Logf("%d of %d runs were killed", killed, begun+1)
	if killed < 8 {
		t.Errorf("only %d runs were killed", killed)
	}
	p.check(t)
	p.sign(t)
}

// TestSetupRefuses: wrong answers and a machine that is not fit change nothing.
func TestSetupRefuses(t *testing.T) {
	p := newPlot(t)
	good, err := os.ReadFile(p.answers)
	if err != nil {
		t.Fatal(err)
	}
	tree := func() string {
		var names []string
		_ = filepath.WalkDir(string(p.units), func(path string, _ os.DirEntry, err error) error {
			names = append(names, strings.TrimPrefix(path, string(p.units)))
			return err
		})
		return strings.Join(names, "\n")
	}
	for _, c := range []struct {
		old, new string
		made     string // a file that is there
		want     []string
	}{
		{`name = "Plot"`, `nam = "Plot"`, "", []string{"pki.nam is not known", "pki.name is missing"}},
		{`country = "GB"`, `country = "UK"`, "", []string{"pki.country", "GB"}},
		{`mode = "unproven"`, `mode = "unproven"` + "\n[log]\ntimestamp_url = \"http://x.example\"", "", []string{"log.timestamp_url"}},
		{`[clinician]`, "issuer_ca_file = \"/nowhere.pem\"\n[clinician]", "", []string{"cannot read /nowhere.pem"}},
		{`[clinic]`, "root_identity_file = \"fixed.json\"\n[clinic]", "", []string{"holds no age identity"}},
		{`tls = "own-ca"`, "tls = \"files\"\ncertificate_file = \"fixed.json\"\n[medicines]\n[setup]\ntls_key_file = \"fixed.json\"", "", []string{"is not TOML"}},
		{"", "", "etc/aes-appliance/receiver.toml", []string{"the other role"}},
		{"", "", "var/lib/aes-appliance/signer/precious", []string{"it is no appliance"}},
		{"", "", "var/lib/aes-appliance/signer/audit_chain.jsonl", []string{"PIN is not in"}},
		{"", "", "etc/aes-appliance/appliance.toml", []string{"cannot be read", "otherwise than the answers"}},
	} {
		p.write(t, "answers.toml", strings.Replace(string(good), c.old, c.new, 1))
		if c.made != "" {
			if err := os.MkdirAll(filepath.Dir(p.path(c.made)), 0o700); err != nil {
				t.Fatal(err)
			}
			text := "x"
			if strings.HasSuffix(c.made, "appliance.toml") {
				text = "[pki]\nname = \"Other\"\n"
			}
			p.write(t, c.made, text)
		}
		before := tree()
		out, problems, code := p.finish(t, "--answers", p.answers)
		if code != exitBad || !strings.Contains(problems, "nothing was changed") {
			t.Errorf("%q: exit code %d\n%s%s", c.new+c.made, code, out, problems)
		}
		found := false
		for _, want := range c.want {
			found = found || strings.Contains(problems, want)
		}
		if !found {
			t.Errorf("%q: %s", c.new+c.made, problems)
		}
		if after := tree(); after != before {
			t.Errorf("%q changed something:\n%s\n\n%s", c.new+c.made, before, after)
		}
		if c.made != "" {
			if err := os.Remove(p.path(c.made)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
