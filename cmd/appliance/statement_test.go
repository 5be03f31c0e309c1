package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/config"
)

// TestStatement: the templates are filled in from a configuration made of the example, into a file that appears whole or not at all.
func TestStatement(t *testing.T) {
	dir := t.TempDir()
	cfg := filepath.Join(dir, "appliance.toml")
	text := config.Example()
	for _, s := range config.Document().Sections {
		for _, k := range s.Keys {
			if k.Mandatory {
				text = strings.ReplaceAll(text, "\n#"+k.Name+" = ", "\n"+k.Name+" = ")
			}
		}
	}
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := func(template, out string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := Main(t.Context(), []string{"config", "statement", template, "--config", cfg, "--out", out}, strings.NewReader(""), &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	for _, name := range []string{"cps.md", "tsa-policy.md"} {
		template := filepath.Join("..", "..", "docs", name)
		code, printed, said := fill(template, "-")
		if code != exitGood || !strings.Contains(printed, "VeriPath Ltd") || strings.Contains(printed, "{{") || strings.Contains(printed, "<no value>") {
			t.Fatalf("%s: %d %s\n%s", name, code, said, printed)
		}
		out := filepath.Join(dir, name)
		if code, _, said := fill(template, out); code != exitGood {
			t.Fatal(said)
		}
		if data, err := os.ReadFile(out); err != nil || string(data) != printed {
			t.Errorf("%s: the file is not what is printed: %v", name, err)
		}
	}
	bad := filepath.Join(dir, "bad.md")
	if err := os.WriteFile(bad, []byte("one\n{{.Nothing}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.md")
	if code, _, said := fill(bad, out); code != exitBad || !strings.Contains(said, "error: bad.md cannot be filled in") || !strings.Contains(said, "bad.md:2") {
		t.Errorf("%d %s", code, said)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written")
	}
	if code, _, said := fill(filepath.Join(dir, "none.md"), out); code != exitBad || !strings.Contains(said, "cannot read the template") {
		t.Errorf("%d %s", code, said)
	}
	if code := Main(t.Context(), []string{"config", "statement"}, strings.NewReader(""), io.Discard, io.Discard); code != exitUsage {
		t.Error(code)
	}
}
