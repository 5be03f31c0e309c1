//go:build vm

package vmtests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// archive is a package repository that packaging/apt-repo.sh makes and signs, with a key for tests of its own.
type archive struct {
	dir string // what is served, at http://packages.veripath.test/ and its last element
}

// newArchive makes a repository of these packages.
func (e *estate) newArchive(t *testing.T, name string, debs ...string) *archive {
	t.Helper()
	a := &archive{filepath.Join(e.repo, name)}
	a.add(t, debs...)
	return a
}

// add publishes packages, as an operator of the repository does.
func (a *archive) add(t *testing.T, debs ...string) {
	t.Helper()
	cmd := exec.Command("../packaging/apt-repo.sh", append([]string{a.dir}, debs...)...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GNUPGHOME=") && !strings.HasPrefix(v, "KEY=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// debs are the packages in the build's folder.
const debs = "aes-appliance_*_amd64.deb"

// versionOf reads a package's version.
func versionOf(t *testing.T, deb string) string {
	t.Helper()
	out, err := exec.Command("dpkg-deb", "-f", deb, "Version").Output()
	if err != nil {
		t.Fatalf("%s: %v", deb, err)
	}
	return strings.TrimSpace(string(out))
}

// next returns a package of a later version of deb, with another program in it: a byte more behind its end, where nothing reads.
func next(t *testing.T, deb string) string {
	t.Helper()
	nexts.Lock()
	defer nexts.Unlock()
	out := filepath.Join(os.TempDir(), filepath.Base(deb)+".next")
	if _, err := os.Stat(out); err == nil {
		return out
	}
	cmd := exec.Command("bash", "-c", `set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
dpkg-deb -R "$0" "$dir/x"
sed -i 's/^Version: .*/&+next/' "$dir/x/DEBIAN/control"
printf x >>"$dir/x/usr/bin/appliance"
(cd "$dir/x" && find . -type f -not -path './DEBIAN/*' -printf '%P\n' | xargs -d '\n' md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -z1 -b "$dir/x" "$1.part" >/dev/null
mv "$1.part" "$1"`, deb, out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// nexts is held by who makes one: each takes seconds, and they are all the same.
var nexts sync.Mutex

// trust gives a machine the repository and its key, as docs/package.md says.
func (e *estate) trust(t *testing.T, a *archive, host string) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(a.dir, "aes-appliance.gpg"))
	if err != nil {
		t.Fatal(err)
	}
	e.put(t, host, "/etc/apt/keyrings/aes-appliance.gpg", 0o644, string(key))
	e.put(t, host, "/etc/apt/sources.list.d/aes-appliance.sources", 0o644,
		strings.Replace(documented(t, "Types: deb"), "https://apt.example.org", "http://packages.veripath.test/"+filepath.Base(a.dir), 1))
}
