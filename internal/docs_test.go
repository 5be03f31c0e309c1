package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	fence    = regexp.MustCompile("(?s)```.*?```")
	link     = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	pathName = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.*-]+)+/?$`)
	testName = regexp.MustCompile(`\b([a-z][a-z0-9]*)\.((?:Test|Fuzz|Benchmark)[A-Z]\w*)`)
)

// TestReadmeLinks holds the links of README.md against the tree.
func TestReadmeLinks(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := checkLinks(t, filepath.Join("..", "README.md"), fence.ReplaceAllString(string(data), "")); n == 0 {
		t.Fatal("README.md links to nothing: the test looks in the wrong place")
	}
}

// TestDecisionTitles: every decision is titled "# N. Title", N being the number in its file's name.
func TestDecisionTitles(t *testing.T) {
	decisions, err := filepath.Glob(filepath.Join("..", "docs", "decisions", "*.md"))
	if err != nil || len(decisions) == 0 {
		t.Fatal(decisions, err)
	}
	for _, decision := range decisions {
		data, err := os.ReadFile(decision)
		if err != nil {
			t.Fatal(err)
		}
		number, _, _ := strings.Cut(filepath.Base(decision), "-")
		if want := "# " + strings.TrimLeft(number, "0") + ". "; !strings.HasPrefix(string(data), want) {
			t.Errorf("%s does not begin with %q", decision, want)
		}
	}
}

// checkLinks reports the links of a document that lead nowhere in the tree and returns how many it looked at.
func checkLinks(t *testing.T, doc, text string) (links int) {
	t.Helper()
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if links++; !exists(filepath.Join(filepath.Dir(doc), m[1])) {
			t.Errorf("%s: the link to %s leads nowhere", doc, m[1])
		}
	}
	return links
}

// TestDocsNameWhatExists holds the documentation against the tree: the target of every link, every path of this repository that stands as
// code, and every test, named package.Test, is there.
func TestDocsNameWhatExists(t *testing.T) {
	known := testFunctions(t)
	files, links, paths, tests := 0, 0, 0, 0
	err := filepath.WalkDir(filepath.Join("..", "docs"), func(doc string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(doc, ".md") {
			return err
		}
		data, err := os.ReadFile(doc)
		if err != nil {
			return err
		}
		files++
		text := fence.ReplaceAllString(string(data), "")
		links += checkLinks(t, doc, text)
		for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
			if !ofRepository(m[1], filepath.Dir(doc)) {
				continue
			}
			if paths++; !exists(filepath.Join("..", m[1])) && !exists(m[1]) && !exists(filepath.Join(filepath.Dir(doc), m[1])) {
				t.Errorf("%s: there is no %s", doc, m[1])
			}
		}
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if tests++; !known[m[0]] {
				t.Errorf("%s: there is no test %s", doc, m[0])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 || links == 0 || paths == 0 || tests == 0 {
		t.Fatalf("%d files, %d links, %d paths, %d tests were seen: the test looks in the wrong place", files, links, paths, tests)
	}
}

// ofRepository reports whether a code span in a document in dir is the path of a file or folder of this repository: one that begins with a
// top-level folder or one beside the document, or that names a source or test data under internal/. Paths on an appliance's disk do not.
func ofRepository(span, dir string) bool {
	if !pathName.MatchString(span) || span == "internal/x" { // stands for any package
		return false
	}
	top, _, _ := strings.Cut(span, "/")
	switch top {
	case ".", "..":
		return false
	case "cmd", "internal", "docs", "systemd", "firewall", "packaging", "vmtests":
		return true
	}
	return strings.HasSuffix(span, ".go") || strings.Contains(span, "/testdata/") || exists(filepath.Join(dir, top))
}

// exists reports whether a path, or with a * in it at least one that it stands for, is there.
func exists(path string) bool {
	found, err := filepath.Glob(path)
	return err == nil && len(found) > 0
}

// testFunctions returns the test functions under internal/, cmd/, packaging/ and vmtests/ as folder.Test.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	sources, err := filepath.Glob("../internal/*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := filepath.Glob("../internal/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	commands, err := filepath.Glob("../cmd/*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	machines, err := filepath.Glob("../vmtests/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	packages, err := filepath.Glob("../packaging/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	sources = slices.Concat(sources, layers, commands, machines, packages)
	for _, source := range sources {
		f, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				known[filepath.Base(filepath.Dir(source))+"."+fn.Name.Name] = true
			}
		}
	}
	return known
}
