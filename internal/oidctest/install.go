// Package oidctest starts a real OpenID provider (oidc-provider, certified by the OpenID Foundation) with two realms, for tests: who judges tokens
// should be judged by tokens that someone else made. Nothing but tests may import it.
package oidctest

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/durable"
)

//go:embed provider/package.json provider/package-lock.json provider/provider.mjs
var provider embed.FS

// minNode is the oldest major version of Node.js that the provider runs on.
const minNode = 20

// script returns the path of the provider, in a folder with the packages that it needs.
func script(t testing.TB) string {
	t.Helper()
	text := embedded(t, "provider.mjs")
	sum := sha256.Sum256(text)
	path := filepath.Join(install(t), "provider-"+hex.EncodeToString(sum[:8])+".mjs")
	if have, err := os.ReadFile(path); err == nil && string(have) == string(text) {
		return path
	}
	if err := durable.WriteFile(durable.OS{}, path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func embedded(t testing.TB, name string) []byte {
	t.Helper()
	data, err := provider.ReadFile("provider/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// install returns a folder with exactly the packages that the lock file names, made by "npm ci" the first time on a machine.
func install(t testing.TB) string {
	t.Helper()
	checkNode(t)
	sum := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json"} {
		data := embedded(t, name)
		fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "aes-appliance-test")
	dir := filepath.Join(cache, "oidc-provider-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	// Tests of several packages run at once: one installs.
	lock, err := durable.OS{}.Lock(filepath.Join(cache, "lock"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return dir
	}
	made, err := os.MkdirTemp(cache, "install-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(made)
	if err := populate(made); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(made, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return dir
}

func populate(dir string) error {
	files, err := fs.Sub(provider, "provider")
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, files); err != nil {
		return err
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return nil
}

func checkNode(t testing.TB) {
	t.Helper()
	out, err := exec.Command("node", "--version").Output()
	if err != nil {
		t.Fatalf("the OpenID provider needs Node.js %d or newer and npm: install Debian's nodejs and npm: %v", minNode, err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < minNode {
		t.Fatalf("the OpenID provider needs Node.js %d or newer, and this is %s: install a newer nodejs", minNode, strings.TrimSpace(string(out)))
	}
}
