package setup_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
)

func step(name, said string, err error) setup.Step {
	return setup.Step{Name: name, Run: func(context.Context) (string, error) { return said, err }}
}

func TestSteps(t *testing.T) {
	var out bytes.Buffer
	wrong := fault.New(fault.Unavailable, "the disk is full")
	err := setup.Run(t.Context(), &out, []setup.Step{
		step("one", "made\nin two lines", nil), step("two", "no code yet", setup.ErrLater), step("three", "", wrong), step("four", "never", nil),
	})
	want := "  one             made\n                  in two lines\n  two             later: no code yet\n  three           failed\n"
	if !errors.Is(err, wrong) || out.String() != want {
		t.Errorf("%v\n%q\nwant\n%q", err, out.String(), want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out.Reset()
	if err := setup.Run(ctx, &out, []setup.Step{step("one", "", nil)}); !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("after an end: %v %q", err, &out)
	}
}

func TestSpeak(t *testing.T) {
	for _, c := range []struct {
		sum  []byte
		want string
	}{
		{nil, ""}, {[]byte{1}, "01"}, {[]byte{0x0a, 0xff, 0x10}, "0aff 10"},
		{bytes.Repeat([]byte{0xab, 0xcd}, 9), "abcd abcd abcd abcd abcd abcd abcd abcd\nabcd"},
	} {
		if got := setup.Speak(c.sum); got != c.want {
			t.Errorf("%x: %q", c.sum, got)
		}
	}
}

func items() []setup.Item {
	yes := func(a map[string]string) bool { return a["setup.firewall"] == "yes" }
	return []setup.Item{
		{Heading: "Who"}, {Key: "pki.name", Label: "Name"}, {Key: "pki.organisation_id", Label: "Number"},
		{Key: "pki.country", Label: "Country", Default: func(map[string]string) string { return "GB" }},
		{Heading: "Firewall"}, {Key: "setup.firewall", Label: "On"}, {Key: "firewall.admin_networks", Label: "From", When: yes, Needed: true},
	}
}

func TestInterview(t *testing.T) {
	for _, c := range []struct{ typed, want, said string }{
		{"Example\n\n\nn\n", "[pki]\nname = \"Example\"\ncountry = \"GB\"\n[setup]\nfirewall = false\n", "Country [GB]: "},
		{"\nExample\n-\nIE\ny\n\n192.0.2.7\n", "[pki]\nname = \"Example\"\ncountry = \"IE\"\n[setup]\nfirewall = true\n[firewall]\nadmin_networks = \"192.0.2.7\"\n", "this must be answered"},
		{"Example\r\nNTRGB-1\r\nUK\r\nGB\r\nmaybe\r\nno", "[pki]\nname = \"Example\"\norganisation_id = \"NTRGB-1\"\ncountry = \"GB\"\n[setup]\nfirewall = false\n", "that is not yes or no"},
		{"?\nExample\n\n\nno\n", "[pki]\nname = \"Example\"\ncountry = \"GB\"\n[setup]\nfirewall = false\n", "For instance VeriPath"},
	} {
		var out bytes.Buffer
		got, err := setup.NewInterview(config.RolePrimary, strings.NewReader(c.typed), &out).Hold(t.Context(), items(), func(string) string { return "" })
		if err != nil || string(got) != c.want || !strings.Contains(out.String(), c.said) {
			t.Errorf("%q: %v\n%s\n%s", c.typed, err, got, &out)
		}
	}
	before := func(key string) string {
		return map[string]string{"pki.name": "Earlier", "pki.organisation_id": "NTRGB-9", "pki.country": "IE", "setup.firewall": "no"}[key]
	}
	var out bytes.Buffer
	got, err := setup.NewInterview(config.RolePrimary, strings.NewReader("\n-\n\n\n"), &out).Hold(t.Context(), items(), before)
	if want := "[pki]\nname = \"Earlier\"\ncountry = \"IE\"\n[setup]\nfirewall = false\n"; err != nil || string(got) != want {
		t.Errorf("asked again: %v\n%s\n%s", err, got, &out)
	}
	if !strings.Contains(out.String(), "Number [NTRGB-9; - for none]: ") {
		t.Errorf("asked again:\n%s", &out)
	}
}

func TestInterviewEnds(t *testing.T) {
	for _, typed := range []string{"", "Example\n", "Example\n\n\nmaybe", strings.Repeat("x", 5000)} {
		got, err := setup.NewInterview(config.RolePrimary, strings.NewReader(typed), &bytes.Buffer{}).Hold(t.Context(), items(), func(string) string { return "" })
		if got != nil || fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.HintOf(err), "nothing was changed") {
			t.Errorf("%.20q: %q %v", typed, got, err)
		}
	}
	v := setup.NewInterview(config.RolePrimary, strings.NewReader("perhaps\nYES\n\n\n"), &bytes.Buffer{})
	for i, want := range []bool{true, false, true} {
		if yes, err := v.Confirm("?", i == 2); yes != want || err != nil {
			t.Errorf("question %d: %t %v", i, yes, err)
		}
	}
}

// FuzzInterview: whatever is typed, what comes of it is an error or good answers.
func FuzzInterview(f *testing.F) {
	f.Add("Example\n\n\nn\n")
	f.Add("?\n-\nE\"x\\\nNTRGB-1\nIE\ny\n192.0.2.7\n")
	f.Fuzz(func(t *testing.T, typed string) {
		got, err := setup.NewInterview(config.RolePrimary, strings.NewReader(typed), &bytes.Buffer{}).Hold(t.Context(), items(), func(string) string { return "" })
		if err != nil {
			return
		}
		rest := "[ceremony]\nled_by = \"A\"\n[token]\nbackup_recipients = \"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"\n[portal]\nhosts = \"a.example\"\n"
		pki := "[pki]\nbase_url = \"http://a.example\"\norganisation = \"A\"\npolicy_arc = \"1.3.6.1.4.1.32473.1\"\n"
		if _, err := config.ParseAnswers(config.RolePrimary, []byte(strings.Replace(string(got), "[pki]\n", pki, 1)+rest), ""); err != nil {
			t.Fatalf("%q became\n%s\n%v", typed, got, err)
		}
	})
}

func TestExamine(t *testing.T) {
	h := setup.Host{Root: t.TempDir()}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	needs := setup.Needs{
		Users: []string{"no-such-user"}, Programs: []string{"/usr/bin/nothing"}, State: "/", Space: 1 << 60, Names: []string{"no-such-host.invalid", "192.0.2.1"},
		Ports: []int{l.Addr().(*net.TCPAddr).Port}, Clock: true,
	}
	problems := h.Examine(t.Context(), needs, func(string) { t.Error("it waits for a clock though it must not begin") })
	all := problems.Err()
	for _, want := range []string{"no user no-such-user", "no /usr/bin/nothing", "MB free", "no-such-host.invalid does not resolve", "is taken"} {
		if !strings.Contains(fault.PublicOf(all), want) {
			t.Errorf("%v lacks %q", all, want)
		}
	}
	if len(problems) != 5 || setup.Problems(nil).Err() != nil {
		t.Errorf("%d problems: %v", len(problems), problems)
	}
}

// TestCredential puts a secret where systemd finds it, with systemd's own tool, and never again over it.
func TestCredential(t *testing.T) {
	if _, err := exec.LookPath("systemd-creds"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("this test takes systemd-creds (Debian's package systemd)")
	}
	h, c := setup.Host{Root: t.TempDir()}, setup.Credential{Name: "token-pin", File: "aes-signer.token-pin"}
	if _, err := h.Decrypt(t.Context(), c); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before there is one: %v", err)
	}
	secret := []byte("1234-and-more")
	if err := h.Encrypt(t.Context(), c, secret); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Decrypt(t.Context(), c); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q %v", got, err)
	}
	file := filepath.Join(h.Root, c.Path())
	sealed, err := os.ReadFile(file)
	if info, _ := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || bytes.Contains(sealed, secret) {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := h.Encrypt(t.Context(), c, []byte("another")); fault.KindOf(err) != fault.Conflict {
		t.Errorf("over one that is there: %v", err)
	}
	other := c
	other.Name = "another-name"
	if _, err := h.Decrypt(t.Context(), other); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("by another name: %v", err)
	}
	if said, err := h.Reseal(t.Context(), c, secret); err != nil || !strings.Contains(said, "in order already") {
		t.Errorf("what can be decrypted, once more: %q, %v", said, err)
	}
	if err := h.Replace(t.Context(), c, append(secret, '\n')); err != nil { // as an operator's own systemd-creds seals what was typed
		t.Fatal(err)
	}
	if said, err := h.Reseal(t.Context(), c, secret); err != nil || !strings.Contains(said, "in order already") {
		t.Errorf("the same with a line's end: %q, %v", said, err)
	}
	if _, err := h.Reseal(t.Context(), c, []byte("another")); fault.KindOf(err) != fault.Conflict {
		t.Errorf("another over what can be decrypted: %v", err)
	}
	if err := os.WriteFile(file, sealed[:len(sealed)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Decrypt(t.Context(), c); fault.KindOf(err) != fault.Corrupt || !strings.Contains(fault.HintOf(err), "appliance backup pin") {
		t.Errorf("what this machine cannot decrypt: %v, %s", err, fault.HintOf(err))
	}
	if said, err := h.Reseal(t.Context(), c, secret); err != nil || !strings.Contains(said, "anew") || !strings.Contains(said, h.Keeper(c)) {
		t.Errorf("in its place: %q, %v", said, err)
	}
	if kept, err := os.ReadFile(file + ".before"); err != nil || !bytes.Equal(kept, sealed[:len(sealed)/2]) {
		t.Errorf("what could not be decrypted is not kept: %v", err)
	}
	byTPM2 := base64.StdEncoding.EncodeToString([]byte("\x93\xa8\x94\x09\x48\x74\x44\x90\x90\xca\xf2\xfc\x93\xca\xb5\x53, and so on"))
	if err := os.WriteFile(file, []byte(byTPM2), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/dev/tpmrm0"); err == nil {
		t.Log("this machine has a TPM2: that none can be used is not tried")
	} else if err := h.Replace(t.Context(), c, secret); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("by the machine's key alone, over one that takes the TPM2: %v", err)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != byTPM2 {
		t.Errorf("it was changed: %v", err)
	}
	if said, err := h.Reseal(t.Context(), c, secret); err != nil || !strings.Contains(said, ".before-2") {
		t.Errorf("a second one in its place: %q, %v", said, err)
	}
	if got, err := h.Decrypt(t.Context(), c); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("in its place is %q, %v", got, err)
	}
	if err := h.Give("aes-x.service", c); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(h.Root, "etc/systemd/system/aes-x.service.d/50-setup-credentials.conf"))
	if err != nil || !strings.Contains(string(text), "[Service]\nLoadCredentialEncrypted=token-pin:aes-signer.token-pin\n") {
		t.Errorf("%v\n%s", err, text)
	}
}

func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(255), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTranscript(t *testing.T) {
	tr := setup.Transcript{
		Host: "primary", Organisation: "Example Ltd", At: time.Unix(1e9, 0), Clock: "by a clock", LedBy: "Ada", Witnesses: []string{"Ben", "Cleo"}, Version: "1.2.3",
		Root: certificate(t, "Example Root CA"), Authorities: []setup.Authority{{"clinician-ca", certificate(t, "Example Clinician CA")}},
		LogKey: "key", Lines: 7, Head: "abc", Sealed: []byte("sealed"), SealedName: "root-1.age", Recipients: []string{"age1x", "age1y"},
	}
	text := string(tr.Text())
	for _, want := range []string{"At             2001-09-09 01:46:40 UTC", "Led by         Ada", "Witnessed by   Ben\n               Cleo", "CN=Example Root CA", "CLINICIAN CA",
		"root-1.age, 6 bytes", "to 2 age recipient(s)", "    age1y", "those of 1 CAs", "it had 7 lines"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	for _, not := range []string{"DEMO", "swap", "opened once"} {
		if strings.Contains(text, not) {
			t.Errorf("it speaks of %q", not)
		}
	}
	for line := range strings.Lines(text) {
		if len(strings.TrimSuffix(line, "\n")) > 79 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
	tr.Demo, tr.Swap, tr.Opened = true, true, true
	text = string(tr.Text())
	for _, want := range []string{"THIS APPLIANCE IS A DEMO", "swap", "opened once"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q", want)
		}
	}
}

// TestExecIsOfTheMachine: a program that stands before the machine's in somebody's PATH is not run.
func TestExecIsOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "true"), []byte("#!/bin/sh\necho another\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if out, err := setup.Exec(t.Context(), nil, "true"); err != nil || len(out) > 0 {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := setup.Exec(t.Context(), nil, filepath.Join(dir, "true")); err != nil || string(out) != "another\n" {
		t.Errorf("named: %q, %v", out, err)
	}
	if _, err := setup.Exec(t.Context(), nil, "no-such-program"); err == nil {
		t.Error("what is not there was run")
	}
}
