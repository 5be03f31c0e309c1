package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/fault"
)

// goChain is how an error that was written for a log begins.
var goChain = regexp.MustCompile(`(?m)^error: ([a-z0-9]+: |[a-z]+ing [a-z ]+: )`)

// told CODE COMMAND...: exits, and the answer is for a person: an error that is no Go error chain, and a hint.
func told(ts *testscript.TestScript, neg bool, args []string) {
	exits(ts, neg, args)
	text := ts.ReadFile("stderr")
	if goChain.MatchString(text) || !strings.Contains(text, "error: ") || !strings.Contains(text, "\nhint: ") {
		ts.Fatalf("not for a person:\n%s", text)
	}
}

func TestPrintError(t *testing.T) {
	secret := errors.New("secret 1234")
	full := &fs.PathError{Op: "write", Path: "/state/x.tmp", Err: syscall.ENOSPC}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fault.New(fault.Invalid, "it is wrong").WithHint("do this").WithCause(secret), "error: it is wrong\nhint: do this\n"},
		{fmt.Errorf("signer: opening: %w", secret), "error: something went wrong inside the appliance\nhint: --verbose shows the cause; please report it\n"},
		{fmt.Errorf("durable: writing /state/x.tmp: %w", full), "error: /state/x.tmp: the disk is full\nhint: free space on that disk, then try again\n"},
		{fmt.Errorf("signing: %w", context.Canceled), "error: interrupted\n"},
	} {
		var b bytes.Buffer
		(&app{stderr: &b}).printError(c.err)
		if b.String() != c.want {
			t.Errorf("%v:\n%s", c.err, &b)
		}
		b.Reset()
		(&app{stderr: &b, verbose: true}).printError(fmt.Errorf("a: %w", secret))
		if !strings.Contains(b.String(), "cause: a: secret 1234") {
			t.Errorf("--verbose hides the cause:\n%s", &b)
		}
	}
}

var (
	named     = regexp.MustCompile(`(?:["'\x60]|with: |\n *)appliance ([a-z]+)(?: ([a-z][a-z-]*))?`)
	installed = regexp.MustCompile(`/usr/share/doc[\w./-]*`) // the package puts docs/*.md there
)

// TestHintsNameWhatExists: every verb that a text of the program names is one, and no text sends people to a file that is not installed.
func TestHintsNameWhatExists(t *testing.T) {
	root := (&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
	found := 0
	for _, top := range []string{".", filepath.Join("..", "..", "internal")} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				for _, doc := range installed.FindAllString(text, -1) {
					if name, ok := strings.CutPrefix(strings.TrimRight(doc, "."), "/usr/share/doc/aes-appliance"); !ok || !onDisk(filepath.Join("..", "..", "docs", name)) {
						t.Errorf("%s: %q names a file that is not installed", path, text)
					}
				}
				for _, m := range named.FindAllStringSubmatch(text, -1) {
					found++
					if !isVerb(root, m[1], m[2]) {
						t.Errorf("%s: %q names a verb that does not exist: appliance %s %s", path, text, m[1], m[2])
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 5 {
		t.Fatalf("%d texts name a verb: the test looks in the wrong place", found)
	}
	if isVerb(root, "repair", "") || isVerb(root, "audit", "repair") || !isVerb(root, "config", "check") || !isVerb(root, "verify", "prescription") {
		t.Error("the test cannot tell a verb")
	}
}

// isVerb reports whether first is a verb and, when it has verbs of its own, second is one of them or none.
func isVerb(root *cobra.Command, first, second string) bool {
	sub := func(c *cobra.Command, name string) *cobra.Command {
		i := slices.IndexFunc(c.Commands(), func(c *cobra.Command) bool { return c.Name() == name })
		if i < 0 {
			return nil
		}
		return c.Commands()[i]
	}
	c := sub(root, first)
	return c != nil && (second == "" || !c.HasSubCommands() || sub(c, second) != nil)
}
