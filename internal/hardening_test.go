package internal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPromiseNamesItsTest: each row of the promises in docs/hardening.md names a test, or says that it is checked by make check.
func TestEveryPromiseNamesItsTest(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "docs", "hardening.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(data), "| promise | by | shown by |\n|---|---|---|\n")
	table, _, ended := strings.Cut(rest, "\n\n")
	if !found || !ended {
		t.Fatal("docs/hardening.md has no table of promises")
	}
	rows := 0
	for row := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		if len(cells) != 3 {
			t.Fatalf("%d cells in %s", len(cells), row)
		}
		rows++
		if !testName.MatchString(cells[2]) && !strings.Contains(cells[2], "`make check`") {
			t.Errorf("no test shows: %s", cells[0])
		}
	}
	if rows < 10 {
		t.Errorf("%d promises: the test looks in the wrong place", rows)
	}
}

// TestIgnoredDirectivesAreSaid: what Debian 12's systemd knows and ignores is in the units only where docs/hardening.md says what does the same.
func TestIgnoredDirectivesAreSaid(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "hardening.md"))
	if err != nil {
		t.Fatal(err)
	}
	units, err := filepath.Glob(filepath.Join("..", "systemd", "*.s*"))
	if err != nil || len(units) < 10 {
		t.Fatal(units, err)
	}
	ignored := regexp.MustCompile(`(?m)^(SocketBindAllow|SocketBindDeny|RestrictFileSystems|RestrictNetworkInterfaces)=`)
	for _, unit := range units {
		data, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ignored.FindAllStringSubmatch(string(data), -1) {
			if !strings.Contains(string(doc), "\n| `"+m[1]+"=` |") {
				t.Errorf("%s has %s=, which Debian 12 ignores, and docs/hardening.md has no row of it", unit, m[1])
			}
		}
		// Paths under RootDirectory= are the host's without a plus: see docs/hardening.md.
		if strings.Contains(string(data), "\nRootDirectory=") {
			for _, m := range regexp.MustCompile(`(?m)^(?:NoExecPaths|ExecPaths|ReadOnlyPaths|InaccessiblePaths|ReadWritePaths)=(.*)$`).FindAllStringSubmatch(string(data), -1) {
				for path := range strings.FieldsSeq(m[1]) {
					if !strings.HasPrefix(strings.TrimPrefix(path, "-"), "+/") {
						t.Errorf("%s: %s has no plus before its path, and so no effect", unit, path)
					}
				}
			}
		}
	}
}
