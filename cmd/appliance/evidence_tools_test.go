package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPackByOthersTools runs what docs/evidence-pack.md tells the other side of a dispute to run: openssl, NSS and poppler find that all of a pack holds,
// and not under another root, another log's key, or with one byte changed.
func TestPackByOthersTools(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "evidence-pack.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(set -eu\n.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d scripts in docs/evidence-pack.md", len(blocks))
	}
	for _, tool := range []string{"openssl", "pdfsig", "certutil", "crlutil", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal("packaging/deps.sh test installs it: ", err)
		}
	}
	top := t.TempDir()
	demo, other := filepath.Join(top, "demo"), filepath.Join(top, "other")
	run(t, "demo", "--dir", demo)
	run(t, "demo", "--dir", other)
	script := blocks[0][1]
	as := func(_ string, data []byte) []byte { return data }
	if good, out := judgedByOthers(t, script, demo, demo, as); !good {
		t.Fatalf("%s", out)
	} else {
		for _, want := range []string{"CMS Verification successful", "Verification: OK", "signer.pem: OK", "Certificate is Trusted", "Signature Verified Successfully"} {
			if !strings.Contains(out, want) {
				t.Errorf("without %q:\n%s", want, out)
			}
		}
	}
	if good, out := judgedByOthers(t, script, other, demo, as); good {
		t.Errorf("under another root:\n%s", out)
	}
	if good, out := judgedByOthers(t, script, demo, other, as); good {
		t.Errorf("under another log's key:\n%s", out)
	}
	for entry, at := range map[string]string{"document.pdf": "/Type", "chain.jsonl": `"actor":"`, "checkpoint.txt": "\n", "core.json": `"salt":"`} {
		changed := func(name string, data []byte) []byte {
			if name == entry {
				i := bytes.Index(data, []byte(at)) + len(at)
				data[i] ^= 1
			}
			return data
		}
		if good, out := judgedByOthers(t, script, demo, demo, changed); good {
			t.Errorf("with another %s:\n%s", entry, out)
		}
	}
}

// judgedByOthers runs the script over a demo's pack, of which each entry is what change makes of it, and reports whether all of it holds.
func judgedByOthers(t *testing.T, script, root, key string, change func(name string, data []byte) []byte) (bool, string) {
	t.Helper()
	dir := t.TempDir()
	give := func(name string, data []byte, err error) {
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, name), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(root, "root.pem"))
	give("root.pem", data, err)
	data, err = os.ReadFile(filepath.Join(key, "state", "log-key.txt"))
	give("log-key.txt", data, err)
	data, err = changedPack(filepath.Join(filepath.Dir(root), "demo", "evidence.zip"), change)
	give("evidence.zip", data, err)
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	return err == nil && strings.HasSuffix(string(out), "all of it holds\n"), string(out)
}

// changedPack is a pack made anew, with sums that are right again.
func changedPack(path string, change func(name string, data []byte) []byte) ([]byte, error) {
	pack, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer pack.Close()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range pack.File {
		data, err := fs.ReadFile(pack, f.Name)
		if err != nil {
			return nil, err
		}
		entry, err := w.Create(f.Name)
		if err != nil {
			return nil, err
		}
		if _, err := entry.Write(change(f.Name, data)); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return out.Bytes(), err
}
