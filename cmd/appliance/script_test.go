package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs every verb as a person would: testdata/script/*.txtar. Each script begins with a demo appliance of its own in demo/,
// a copy of one that is made once.
func TestScripts(t *testing.T) {
	for _, tool := range [][2]string{{"openssl", "openssl"}, {"qpdf", "qpdf"}, {"pdfsig", "poppler-utils"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", tool[0], tool[1])
		}
	}
	s, made := openDemo(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			return copyDemo(made, filepath.Join(e.WorkDir, "demo"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "flip": flip, "line": line, "prefix": prefix, "told": told, "zipped": zipped,
		},
	})
}

// copyDemo copies a closed demo appliance: all of it is in its folder.
func copyDemo(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	return filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(filepath.Join(to, strings.TrimPrefix(path, from)), info.Mode().Perm())
	})
}

// exits CODE COMMAND...: the command ends with that very exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if e, ok := err.(*exec.ExitError); ok {
		code = fmt.Sprint(e.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// flip FILE OFFSET OUT: a copy of FILE with one bit changed at OFFSET, from the end when negative.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	var at int
	if _, err := fmt.Sscan(args[1], &at); err != nil {
		ts.Fatalf("%v", err)
	}
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), data, 0o644))
}

// line cut|swap|edit FILE OUT: a copy of a log with its last line cut off, two lines exchanged, or a word of one changed.
func line(ts *testscript.TestScript, _ bool, args []string) {
	lines := bytes.SplitAfter([]byte(ts.ReadFile(args[1])), []byte("\n"))
	lines = lines[:len(lines)-1]
	switch args[0] {
	case "cut":
		lines = lines[:len(lines)-1]
	case "swap":
		lines[2], lines[3] = lines[3], lines[2]
	case "edit":
		lines[1] = bytes.Replace(lines[1], []byte("operator"), []byte("Operator"), 1)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), bytes.Join(lines, nil), 0o644))
}

// zipped OUT FOLDER: a zip of the files of a folder of this repository.
func zipped(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w := zip.NewWriter(f)
	ts.Check(w.AddFS(os.DirFS(args[1])))
	ts.Check(w.Close())
}

// prefix A B: B begins with every byte of A and goes on.
func prefix(ts *testscript.TestScript, neg bool, args []string) {
	a, b := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if neg == (strings.HasPrefix(b, a) && len(b) > len(a)) {
		ts.Fatalf("%s, %d bytes; %s, %d bytes: not the expected continuation", args[0], len(a), args[1], len(b))
	}
}
