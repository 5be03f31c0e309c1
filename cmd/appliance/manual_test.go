package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/veripath/aes-appliance/internal/config"
)

// TestManual: every verb that is not hidden has a page with all of its flags, every key of both files is on theirs, and groff has nothing to complain
// about in any page.
func TestManual(t *testing.T) {
	dir := t.TempDir()
	var errs bytes.Buffer
	if code := Main(t.Context(), []string{"manual", "--dir", dir, "--date", "2026-11-22"}, strings.NewReader(""), io.Discard, &errs); code != 0 {
		t.Fatal(code, errs.String())
	}
	pages := readPages(t, filepath.Join(dir, "man"))
	expected := map[string]bool{"appliance.toml.5": true, "receiver.toml.5": true}
	root := (&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
	root.InitDefaultCompletionCmd()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		expected[name] = true
		page := pages[name]
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page, "--"+f.Name) {
				t.Errorf("%s says nothing of --%s", name, f.Name)
			}
		})
		for _, sub := range c.Commands() {
			if sub.Hidden || sub.Name() == "help" {
				continue
			}
			if !strings.Contains(page, sub.Short) {
				t.Errorf("%s does not say what %s does", name, sub.Name())
			}
			walk(sub)
		}
	}
	walk(root)
	for name := range expected {
		if pages[name] == "" {
			t.Errorf("there is no page %s", name)
		}
	}
	for name := range pages {
		if !expected[name] {
			t.Errorf("%s is of nothing that there is", name)
		}
	}
	for name, doc := range map[string]config.Description{"appliance.toml.5": config.Document(), "receiver.toml.5": config.ReceiverDocument()} {
		for _, s := range doc.Sections {
			for _, k := range s.Keys {
				if words := strings.Join(strings.Fields(k.Doc), " "); !strings.Contains(pages[name], words) || !strings.Contains(pages[name], k.Name) {
					t.Errorf("%s does not say what %s.%s is", name, s.Name, k.Name)
				}
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		data, err := os.ReadFile(filepath.Join(dir, "completion", shell))
		if err != nil || !bytes.Contains(data, []byte("appliance")) {
			t.Errorf("%s: %v", shell, err)
		}
	}
}

// readPages returns what is in a page when groff has set it, on one long line: that nothing is lost on the way there, and nothing warned of, is seen by it.
func readPages(t *testing.T, dir string) map[string]string {
	t.Helper()
	if _, err := exec.LookPath("groff"); err != nil {
		t.Fatal("groff is missing: apt-get install groff")
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	pages := map[string]string{}
	for _, path := range found {
		cmd := exec.Command("groff", "-k", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=9999n", path)
		var warnings bytes.Buffer
		cmd.Stderr = &warnings
		out, err := cmd.Output()
		if err != nil || warnings.Len() > 0 {
			t.Errorf("%s: %v %s", filepath.Base(path), err, warnings.String())
		}
		pages[filepath.Base(path)] = typographic.ReplaceAllStringFunc(strings.Join(strings.Fields(string(out)), " "), func(s string) string {
			return map[string]string{"’": "'", "‘": "`", "−": "-", "‐": "-"}[s]
		})
	}
	return pages
}

var typographic = regexp.MustCompile(`[’‘−‐]`)

func TestManualWantsADate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	if code := Main(t.Context(), []string{"manual", "--dir", dir, "--date", "today"}, strings.NewReader(""), io.Discard, io.Discard); code != exitUsage {
		t.Error(code)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("something was written")
	}
}
