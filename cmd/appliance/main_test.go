package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/signer"
)

// TestMain lets this test binary be the program: under testscript as "appliance", as the processes of their own that a ceremony and a service are, and as
// a demo that a test interrupts.
func TestMain(m *testing.M) {
	// A verb, not a flag of the tests: what the program starts of itself must never be the tests again.
	if len(os.Args) > 2 && os.Args[1] == underFolder {
		runUnder(os.Args[2], os.Args[3:])
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
	}
	testscript.Main(m, map[string]func(){"appliance": main})
}

// needNamespaces leaves a test out where the kernel lets it make no disk and no network of its own: that takes root, and no container that forbids it. In
// CI that is a failure.
func needNamespaces(t *testing.T) {
	t.Helper()
	out, err := exec.Command("unshare", "--mount", "--net", "true").CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("this test takes root, and a machine that lets it make namespaces: %v %s", err, out)
	}
	t.Skipf("this test takes root, and a machine that lets it make namespaces: %v %s", err, out)
}

// openDemo makes a demo appliance in a folder of the test and returns it open, with the folder.
func openDemo(tb testing.TB) (*signer.Signer, string) {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "demo")
	return openDemoIn(tb, dir), dir
}

func openDemoIn(tb testing.TB, dir string) *signer.Signer {
	tb.Helper()
	var out, problems bytes.Buffer
	if code := Main(context.Background(), []string{"demo", "--dir", dir}, nil, &out, &problems); code != exitGood {
		tb.Fatalf("demo: exit code %d\n%s%s", code, &out, &problems)
	}
	return openAgain(tb, dir)
}

func openAgain(tb testing.TB, dir string) *signer.Signer {
	tb.Helper()
	cfg, err := config.Load(filepath.Join(dir, "appliance.toml"))
	if err != nil {
		tb.Fatal(err)
	}
	pin, err := readPIN(cfg.Token.PINFile)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := signer.Open(context.Background(), signer.Config{Config: cfg, PIN: pin, Version: version})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
