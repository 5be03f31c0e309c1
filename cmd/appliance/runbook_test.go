package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// advice are the files that tell people what to type: the runbook, and the cures that the doctor gives.
func advice(t *testing.T) map[string]string {
	t.Helper()
	top := filepath.Join("..", "..")
	paths, err := filepath.Glob(filepath.Join(top, "internal", "doctor", "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	texts := map[string]string{}
	for _, path := range append(paths, filepath.Join(top, "docs", "operations.md"), filepath.Join(top, "docs", "monitoring.md"), filepath.Join(top, "docs", "doctor.md")) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(data)
	}
	return texts
}

// TestAdviceCanBeTyped: every command of the appliance that the runbook or the doctor tells people to run exists, with its flags, and so does every unit.
func TestAdviceCanBeTyped(t *testing.T) {
	root := (&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
	root.InitDefaultCompletionCmd()
	commands, units := 0, 0
	for path, text := range advice(t) {
		for _, m := range regexp.MustCompile("\\bappliance ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)((?: (?:--?[a-z-]+|[A-Z]+|[a-z/.-]+))*)").FindAllStringSubmatch(text, -1) {
			words := strings.Fields(m[1])
			cmd, rest, err := root.Find(words)
			if err != nil || cmd == root {
				if strings.HasSuffix(path, ".md") && regexp.MustCompile("(`|\n    )"+regexp.QuoteMeta(m[0])).MatchString(text) {
					t.Errorf("%s tells people to run %q, which there is not", path, m[0])
				}
				continue // prose
			}
			commands++
			if cmd.HasSubCommands() && len(rest) > 0 {
				t.Errorf("%s: %q has no verb %q", path, cmd.CommandPath(), rest[0])
			}
			for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(m[2], -1) {
				if cmd.Flags().Lookup(flag[1]) == nil && cmd.InheritedFlags().Lookup(flag[1]) == nil {
					t.Errorf("%s: %q has no flag --%s", path, cmd.CommandPath(), flag[1])
				}
			}
		}
		if !strings.HasSuffix(path, ".md") {
			continue
		}
		for _, m := range regexp.MustCompile(`systemctl (?:status|start|stop|restart|enable|disable)((?: aes-[a-z.-]+)+)`).FindAllStringSubmatch(text, -1) {
			for unit := range strings.FieldsSeq(m[1]) {
				units++
				if !strings.Contains(unit, ".") {
					unit += ".service"
				}
				if _, err := os.Stat(filepath.Join("..", "..", "systemd", unit)); err != nil {
					t.Errorf("%s: there is no unit %s", path, unit)
				}
			}
		}
	}
	if commands < 40 || units < 10 {
		t.Fatalf("%d commands and %d units were seen: the test looks in the wrong place", commands, units)
	}
}

// TestRunbookHasWhatCuresName: a cure that names a heading of the runbook names one that is there.
func TestRunbookHasWhatCuresName(t *testing.T) {
	book, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for path, text := range advice(t) {
		for _, m := range regexp.MustCompile(`doc/aes-appliance/operations\.md, \\"([^"\\]+)\\"`).FindAllStringSubmatch(text, -1) {
			if named++; !strings.Contains(string(book), "\n### "+m[1]+"\n") {
				t.Errorf("%s: the runbook has no %q", path, m[1])
			}
		}
	}
	if named < 5 {
		t.Fatalf("%d headings were named: the test looks in the wrong place", named)
	}
}
