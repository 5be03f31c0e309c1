//go:build !builtin_softhsm

package token

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// vendor makes what stands for a vendor's HSM: another module (a copy of SoftHSM2 elsewhere), configured and initialised with its own tools,
// of which the package knows the path and nothing else. extra goes into its configuration.
func vendor(t *testing.T, extra string) (module string, env []string) {
	t.Helper()
	dir := t.TempDir()
	so, err := os.ReadFile(DefaultModule)
	if err != nil {
		t.Fatalf("%v: install Debian's libsofthsm2", err)
	}
	module = filepath.Join(dir, "libvendor-hsm.so")
	conf := filepath.Join(dir, "vendor.conf")
	tokens := filepath.Join(dir, "hsm")
	if err := os.WriteFile(module, so, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nlog.level = ERROR\n"+extra), 0o600); err != nil {
		t.Fatal(err)
	}
	util := exec.Command("softhsm2-util", "--module", module, "--init-token", "--free", "--label", testConfig("").Label, "--pin", testPIN, "--so-pin", testSO)
	util.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf)
	if out, err := util.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util (of Debian's softhsm2): %v\n%s", err, out)
	}
	return module, []string{"SOFTHSM2_CONF=" + conf, "TOKEN_TEST_MODULE=" + module}
}

// childOfModule runs a test of this binary in a process that has only the vendor's module.
func childOfModule(job string) {
	os.Unsetenv("TOKEN_TEST_CHILD")
	os.Args = []string{os.Args[0], "-test.run", "^" + job + "$", "-test.v"}
	testing.Main(func(pat, str string) (bool, error) { return strings.Trim(pat, "^$") == str || pat == ".", nil },
		[]testing.InternalTest{{Name: "vendorConformance", F: vendorConformance}, {Name: "vendorLacksMechanisms", F: vendorLacksMechanisms}}, nil, nil)
}

func runVendor(t *testing.T, job, extra string) {
	_, env := vendor(t, extra)
	c := startChild(t, job, "", env...)
	var out []string
	for c.lines.Scan() {
		out = append(out, c.lines.Text())
	}
	if err := c.Wait(); err != nil || !strings.Contains(strings.Join(out, "\n"), "--- PASS: "+job) {
		t.Errorf("%v\n%s", err, strings.Join(out, "\n"))
	}
}

func vendorConfig() Config {
	cfg := testConfig("")
	cfg.Module = os.Getenv("TOKEN_TEST_MODULE")
	return cfg
}

func TestVendorConformance(t *testing.T) { runVendor(t, "vendorConformance", "") }

func vendorConformance(t *testing.T) {
	conf := os.Getenv("SOFTHSM2_CONF")
	wantKind(t, Init(vendorConfig(), []byte(testSO)), fault.Invalid)
	if err := Init(vendorConfig(), nil); err != nil {
		t.Fatal(err)
	}
	conformance(t, func(t testing.TB) *Token { return openToken(t, vendorConfig()) })
	if os.Getenv("SOFTHSM2_CONF") != conf {
		t.Error("a vendor's environment was changed")
	}
}

func TestVendorLacksMechanisms(t *testing.T) {
	runVendor(t, "vendorLacksMechanisms", "slots.mechanisms = CKM_EC_KEY_PAIR_GEN,CKM_ECDSA\n")
}

func vendorLacksMechanisms(t *testing.T) {
	if err := Init(vendorConfig(), nil); err != nil {
		t.Fatal(err)
	}
	tok := openToken(t, vendorConfig())
	_, err := tok.Generate(KeySpec{Label: "ed", ID: []byte("ed"), Algorithm: Ed25519})
	wantMechanism(t, err, "CKM_EDDSA")
	if keys, err := tok.Keys(); err != nil || len(keys) > 0 {
		t.Errorf("%d keys are left of one that could not be made (%v)", len(keys), err)
	}
	// It still says that it can generate them: a mechanism that it never had stands for one that is not there.
	wantMechanism(t, tok.need(mechanism{id: 0x80000001, name: "CKM_X", need: mechEdDSAKeyGen.need}), "CKM_X")
	_, _, err = tok.GenerateWrapped(ECDSAP256)
	wantMechanism(t, err, "CKM_AES_KEY_WRAP_PAD")
	_, err = tok.SealKey(make([]byte, 32))
	wantMechanism(t, err, "CKM_AES_GCM")
	signAndVerify(t, generate(t, tok, "ec", ECDSAP256), []byte("still signs"), optionsOf(ECDSAP256)[0])
}

func wantMechanism(t *testing.T, err error, name string) {
	t.Helper()
	wantKind(t, err, fault.Unsupported)
	if !strings.Contains(fmt.Sprint(err), name) || fault.HintOf(err) == "" {
		t.Errorf("%v (hint %q) does not name %s", err, fault.HintOf(err), name)
	}
}

func TestModuleThatIsNone(t *testing.T) {
	text := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(text, []byte("no module"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/nonexistent/module.so", text} {
		cfg := testConfig(t.TempDir())
		cfg.Module = path
		err := Init(cfg, []byte(testSO))
		wantKind(t, err, fault.NotFound)
		if fault.HintOf(err) == "" {
			t.Error("no hint")
		}
	}
}
