package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCommandsDocumented: docs/commands.md has a row for every verb and names no flag that there is not.
func TestCommandsDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	root := (&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
	root.InitDefaultCompletionCmd()
	var all []*cobra.Command
	var walk func(c *cobra.Command, path string)
	walk = func(c *cobra.Command, path string) {
		all = append(all, c)
		for _, sub := range c.Commands() {
			if sub.Hidden || sub.Name() == "help" {
				continue
			}
			name := strings.TrimPrefix(path+" "+sub.Name(), " ")
			if name == "completion" { // cobra's own
				all = append(all, sub.Commands()...)
			} else if sub.HasSubCommands() {
				walk(sub, name)
				continue
			}
			if !regexp.MustCompile("`" + name + "[` ]").MatchString(text) {
				t.Errorf("docs/commands.md does not know %q", name)
			}
			all = append(all, sub)
		}
	}
	walk(root, "")
	for _, m := range regexp.MustCompile("--([a-z][a-z-]*)").FindAllStringSubmatch(text, -1) {
		known := func(c *cobra.Command) bool {
			return m[1] == "help" || c.Flags().Lookup(m[1]) != nil || c.PersistentFlags().Lookup(m[1]) != nil
		}
		if !slices.ContainsFunc(all, known) {
			t.Errorf("docs/commands.md names --%s, which no verb has", m[1])
		}
	}
}
