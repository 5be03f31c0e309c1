// Package packaging tests the Makefile.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGoVersion: what make says of the Go that it finds.
func TestGoVersion(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"least", "echo go1.26", ""},
		{"newer", "echo go1.27.3", ""},
		{"experiment", "echo 'go1.26.2 X:nodwarf5'", ""},
		{"development", "echo 'devel go1.27-0fe1d1b Mon Jan 5 10:00:00 2026 +0000'", ""},
		{"development, as go1.26 has it", "echo go1.27-devel_0fe1d1b", ""},
		{"older", "echo go1.25.9", "error: Go 1.26 or newer is needed and this is go1.25.9\nhint: "},
		{"older development", "echo 'devel go1.25-0fe1d1b Mon Jan 5 10:00:00 2025 +0000'", "error: Go 1.26 or newer is needed and this is devel go1.25"},
		{"broken", "echo 'go: no home' >&2; exit 2", "go: no home\nerror: Go is here, but `"},
		{"none", "", "error: Go 1.26 or newer is needed and there is no Go here\nhint: "},
	} {
		path := filepath.Join(t.TempDir(), "go")
		if c.script != "" {
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("make", "--no-print-directory", "-C", "..", "go", "GO="+path).CombinedOutput()
		if good := c.want == ""; good != (err == nil) || !strings.HasPrefix(string(out), c.want) || good && len(out) > 0 {
			t.Errorf("%s: %v, %q, want %q", c.name, err, out, c.want)
		}
	}
}

// TestTidy: check fails when go.mod is not tidy, with what would change, and only says so when that cannot be found out offline.
func TestTidy(t *testing.T) {
	for _, c := range []struct{ name, tidy, want string }{
		{"tidy", "exit 0", ""},
		{"untidy", "echo 'diff current/go.mod tidy/go.mod'; exit 1", "error: go mod tidy would change:\ndiff current/go.mod"},
		{"offline", "echo 'module lookup disabled' >&2; exit 1", "note: go mod tidy was not checked"},
	} {
		path := filepath.Join(t.TempDir(), "go")
		script := "#!/bin/sh\ncase $1 in\nenv) echo go1.26 ;;\nmod) " + c.tidy + " ;;\nesac\n"
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("make", "--no-print-directory", "-C", "..", "check", "GO="+path).CombinedOutput()
		if bad := strings.HasPrefix(c.want, "error"); bad != (err != nil) || !strings.Contains(string(out), c.want) || c.want == "" && strings.Contains(string(out), "tidy") {
			t.Errorf("%s: %v, %q, want %q", c.name, err, out, c.want)
		}
	}
}
