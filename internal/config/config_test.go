package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// minimal sets what must be set and nothing else.
const minimal = `
[pki]
base_url = "http://pki.example.org/"
name = "VeriPath"
organisation = "VeriPath Ltd"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.7"
[token]
pin_file = "/etc/aes-appliance/pin"
`

func TestMinimalConfigHasSafeDefaults(t *testing.T) {
	cfg, err := Parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		StateDir: "/var/lib/aes-appliance/signer",
		PKI: PKI{BaseURL: "http://pki.example.org", Name: "VeriPath", Organisation: "VeriPath Ltd", Country: "GB",
			PolicyArc: []int{1, 3, 6, 1, 4, 1, 32473, 7}, ClinicianKey: "ecdsa-p256",
		},
		Token:  Token{Label: "aes-appliance", PINFile: "/etc/aes-appliance/pin"},
		Clock:  Clock{Mode: "system", MaxError: 200 * time.Millisecond},
		Signer: Signer{PortalSocket: "/run/aes-appliance/portal/signer.sock", AdminSocket: "/run/aes-appliance/admin/signer.sock", OperationTime: time.Minute},
		Portal: Portal{StateDir: "/var/lib/aes-appliance/portal", Listen: ":443", ListenHTTP: ":80", ListenMetrics: "127.0.0.1:9464", TLS: TLSACME,
			ACMEDirectory: "https://acme-v02.api.letsencrypt.org/directory", BodyBytes: 24 << 20, RequestTime: 30 * time.Second, CallerRate: 20, PublicRate: 20},
		Limits:      Limits{PDFBytes: 64 << 20},
		Replication: Replication{Mode: ModeSync, Wait: 5 * time.Second, MaxLag: time.Minute, Heartbeat: 5 * time.Second},
		Log:         AuditLog{WitnessEvery: time.Minute, StampEvery: 24 * time.Hour},
		Firewall:    Firewall{SSHPort: 22, HTTPSPorts: []uint16{443}, HTTPPorts: []uint16{80}, MailPorts: []uint16{587}},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
}

// TestExampleFileAgreesWithTheTable uncomments the example's keys: the result must be a valid configuration that sets every key.
func TestExampleFileAgreesWithTheTable(t *testing.T) {
	example := Example()
	for line := range strings.Lines(example) {
		if len(line) > 101 && strings.HasPrefix(line, "# ") {
			t.Errorf("line of %d characters: %s", len(line), line)
		}
	}
	active := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(example, "$1")
	if n := strings.Count(active, " = "); n != len(table()) {
		t.Errorf("%d keys in the example, %d in the table", n, len(table()))
	}
	if _, err := Parse([]byte(active)); err != nil {
		t.Errorf("the example with its comments taken off: %v", err)
	}
	_, err := Parse([]byte(example))
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("the example as it stands: %v", err)
	}
	for _, p := range problems {
		if p.Text != "is missing" {
			t.Errorf("the example as it stands: %v", p)
		}
	}
	if want := strings.Count(example, "Must\n# be set") + strings.Count(example, "Must be set.\n"); len(problems) != want {
		t.Errorf("%d keys missing, %d are said to be mandatory", len(problems), want)
	}
}

func TestEveryExampleAndDefaultIsAccepted(t *testing.T) {
	for _, k := range table() {
		var c Config
		if err := k.set(&c, k.example); err != nil {
			t.Errorf("example of %v: %v", k.ref(), err)
		}
		if reflect.DeepEqual(c, Config{}) && k.example != int64(0) {
			t.Errorf("setting %v changes nothing", k.ref())
		}
		if k.fallback != nil && k.set(&c, k.fallback) != nil {
			t.Errorf("default of %v is refused", k.ref())
		}
		for _, wrong := range []any{true, 1.5, []any{}, map[string]any{}, time.Time{}} {
			if reflect.TypeOf(wrong) != reflect.TypeOf(k.example) && k.set(&c, wrong) == nil {
				t.Errorf("%v takes %T", k.ref(), wrong)
			}
		}
	}
}

// wrong is minimal with old replaced by new, and the one problem that follows.
type wrong struct{ old, new, key, text string }

func TestCertificateValuesRejected(t *testing.T) {
	reject(t, []wrong{
		{`base_url = "http://pki.example.org/"`, ``, "pki.base_url", "is missing"},
		{`http://pki.example.org/`, `https://pki.example.org/`, "pki.base_url", "plain http"},
		{`http://pki.example.org/`, `http://user@pki.example.org/`, "pki.base_url", "plain http"},
		{`http://pki.example.org/`, `http://pki.example.org/?a=b`, "pki.base_url", "plain http"},
		{`http://pki.example.org/`, `http:///x`, "pki.base_url", "plain http"},
		{`http://pki.example.org/`, `http://pki.exämple.org/`, "pki.base_url", "plain http"},
		{`name = "VeriPath"`, `name = "VeriPath, of a name that is too long"`, "pki.name", "24"},
		{`name = "VeriPath"`, `name = ""`, "pki.name", "24"},
		{`name = "VeriPath"`, `name = "Veri\u202ePath"`, "pki.name", "printable"},
		{`name = "VeriPath"`, `name = " VeriPath"`, "pki.name", "printable"},
		{`"GB"`, `"UK"`, "pki.country", "GB"},
		{`"GB"`, `"gb"`, "pki.country", "ISO 3166"},
		{`"GB"`, `44`, "pki.country", "not a text"},
		{`1.3.6.1.4.1.32473.7`, `0.4.0.2042.1.1`, "pki.policy_arc", "ETSI"},
		{`1.3.6.1.4.1.32473.7`, `2.25.329800735698586629295641978511506172918`, "pki.policy_arc", "2147483648"},
		{`1.3.6.1.4.1.32473.7`, `1.3.6.01.4`, "pki.policy_arc", "object identifier"},
		{`1.3.6.1.4.1.32473.7`, `1.3`, "pki.policy_arc", "organisation's"},
		{`1.3.6.1.4.1.32473.7`, `1.40.3.4.5`, "pki.policy_arc", "organisation's"},
		{`[token]`, "organisation_id = \"1234\"\n[token]", "pki.organisation_id", "NTRGB"},
		{`[token]`, "clinician_key = \"rsa-2048\"\n[token]", "pki.clinician_key", "ecdsa-p256"},
		{`[token]`, "[limits]\npdf_bytes = 2000000000\n[token]", "limits.pdf_bytes", "1073741824"},
		{`[token]`, "[token]\nmax_sessions = \"3\"", "token.max_sessions", "whole number"},
		{`[token]`, "[token]\nmax_sessions = 1.5", "token.max_sessions", "whole number"},
	})
}

func TestOtherValuesAndUnknownKeysRejected(t *testing.T) {
	reject(t, []wrong{
		{`/etc/aes-appliance/pin`, `pin`, "token.pin_file", "absolute"},
		{`/etc/aes-appliance/pin`, `/`, "token.pin_file", "absolute"},
		{`[token]`, "[token]\nmodule = \"x.so\"", "token.module", "absolute"},
		{`[token]`, "[token]\nlabel = \"\"", "token.label", "32"},
		{`[token]`, "[token]\nmax_sessions = -1", "token.max_sessions", "0 to 1024"},
		{`[token]`, "[tsa]\npolicy = \"1.2.3.4\"\n[token]", "tsa.policy", "not under pki.policy_arc"},
		{`[token]`, "[clock]\nmax_error = \"501ms\"\n[token]", "clock.max_error", "500ms"},
		{`[token]`, "[clock]\nmode = \"off\"\n[token]", "clock.mode", "unproven"},
		{`[token]`, "[signing]\nstatus_in_later_second = \"yes\"\n[token]", "signing.status_in_later_second", "true or false"},
		{`[token]`, "[limits]\npdf_bytes = 1\n[token]", "limits.pdf_bytes", "65536"},
		{`[token]`, "state_dir = \"/x\"\n[token]", "pki.state_dir", "not known (it belongs into the top of the file"},
		{`[token]`, "pin_file = \"/x\"\n[token]", "pki.pin_file", "not known (it belongs into [token])"},
		{`[token]`, "polcy = \"1\"\n[token]", "pki.polcy", "not known (known there: base_url"},
		{`[token]`, "[tokens]\n[token]", "tokens", "the sections are pki, token"},
		{`[token]`, "[[clock]]\n[token]", "clock", "on a line of its own, once"},
		{"\n[pki]", "clock = 3\n[pki]", "clock", "is a section"},
		{"\n[pki]", "\"pki.name\" = \"X\"\n[pki]", "pki.name", "is not known"},
		{"\n[pki]", "State_dir = \"/x\"\n[pki]", "State_dir", "is not known"},
		{"[token]", "[pki]\n[token]", "", "not TOML"},
		{`name = "VeriPath"`, "name = \"VeriPath\"\nname = \"x\"", "pki.name", "not TOML"},
		{`name = "VeriPath"`, "name = VeriPath", "pki.name", "line 4"},
		{`[token]`, strings.Repeat("#", 600) + "\n[token]", "", "line 8 has more than 512 bytes"},
		{`[token]`, strings.Repeat("# x\n", 9000) + "\n[token]", "", "more than 32768 bytes"},
		{`[token]`, strings.Repeat("# {\n", 65) + "\n[token]", "", "braces"},
	})
}

func reject(t *testing.T, table []wrong) {
	t.Helper()
	for _, c := range table {
		text := strings.Replace(minimal, c.old, c.new, 1)
		cfg, err := Parse([]byte(text))
		var problems Problems
		if !errors.As(err, &problems) {
			t.Errorf("%s: accepted, %v", c.new, err)
			continue
		}
		if len(problems) != 1 || problems[0].Key != c.key || !strings.Contains(problems[0].String(), c.text) || problems[0].Cure == "" {
			t.Errorf("%s:\n%v\nwant %s … %s", c.new, err, c.key, c.text)
		}
		if !reflect.DeepEqual(cfg, Config{}) {
			t.Errorf("%s: half a configuration was returned", c.new)
		}
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, err := Parse([]byte("state_dir = 1\nfoo = 2\n[pki]\ncountry = \"uk\"\n[clock]\nmode = \"off\"\nbar = 3"))
	var keys []string
	for _, p := range err.(Problems) {
		keys = append(keys, p.Key)
	}
	want := []string{"state_dir", "pki.base_url", "pki.name", "pki.organisation", "pki.country", "pki.policy_arc",
		"token.pin_file", "clock.mode", "clock.bar", "foo"}
	if !reflect.DeepEqual(keys, want) {
		t.Errorf("got  %v\nwant %v", keys, want)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	for path, text := range map[string]string{good: minimal, bad: "x = 1"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(good); err != nil {
		t.Error(err)
	}
	_, err := Load(bad)
	var problems Problems
	if fault.KindOf(err) != fault.Invalid || !errors.As(err, &problems) || !strings.Contains(fault.PublicOf(err), "x is not known") {
		t.Errorf("bad file: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); fault.KindOf(err) != fault.NotFound || fault.HintOf(err) == "" {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(dir); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a folder: %v", err)
	}
}

// TestRelativePaths: a file and what it names can be moved together; without a file there is nothing to be relative to.
func TestRelativePaths(t *testing.T) {
	text := strings.Replace("state_dir = \"state\"\n"+minimal, `/etc/aes-appliance/pin`, `../x/pin`, 1) + "module = \"lib/p11.so\"\n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "appliance.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	relative := func() string { // to the same file, by another name
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(wd, filepath.Join(dir, "appliance.toml"))
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, name := range []string{filepath.Join(dir, "appliance.toml"), relative()} {
		cfg, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		want := [3]string{filepath.Join(dir, "state"), filepath.Join(filepath.Dir(dir), "x", "pin"), filepath.Join(dir, "lib", "p11.so")}
		if got := [3]string{cfg.StateDir, cfg.Token.PINFile, cfg.Token.Module}; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if _, err := Parse([]byte(text)); err == nil || len(err.(Problems)) != 3 {
		t.Errorf("without a folder: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(Example()))
	f.Add([]byte("a" + strings.Repeat(".a", 200) + " = 1"))
	f.Add([]byte("[pki]\nx = {a = {b = [1, 2, {c = 1979-05-27}]}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		cfg, err := Parse(data)
		if d := time.Since(start); d > time.Second {
			t.Errorf("%v for %d bytes", d, len(data))
		}
		if err == nil && (cfg.PKI.BaseURL == "" || cfg.Token.PINFile == "" || cfg.Clock.Mode == "") {
			t.Errorf("accepted without what must be set: %+v", cfg)
		}
		if err != nil && len(err.(Problems)) == 0 {
			t.Error("refused for no reason")
		}
	})
}

// TestWorstKeysStayCheap holds the bounds on the file against keys that make the TOML decoder do most.
func TestWorstKeysStayCheap(t *testing.T) {
	line := strings.Repeat("a.", 250) + "a"
	var headers, dotted strings.Builder
	for headers.Len()+len(line) < maxFile-100 {
		headers.WriteString("[" + line[:len(line)-2] + "]\n")
		dotted.WriteString(line + " = 1\n")
	}
	nested := "x = " + strings.Repeat("{a.b.c.d = ", maxBraces-1) + "1" + strings.Repeat("}", maxBraces-1)
	for name, text := range map[string]string{"headers": headers.String(), "dotted": dotted.String(), "nested": nested[:min(len(nested), maxFile)],
		"one dotted": line + " = 1"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
		spent := time.Since(start)
		runtime.ReadMemStats(&after)
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; spent > time.Second/2 || mb > 64 {
			t.Errorf("%s: %v and %d MB", name, spent, mb)
		}
	}
}

// TestPathsAreMarked: a key that takes a path takes a relative one too.
func TestPathsAreMarked(t *testing.T) {
	for _, k := range table() {
		example, _ := k.example.(string)
		if looksLike := strings.HasPrefix(example, "/"); looksLike != k.isPath() {
			t.Errorf("%s: isPath is %v, and the example is %q", k.ref(), k.isPath(), example)
		}
	}
}
