//go:build vm

package vmtests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A repository of its own, signed by a key of its own.
type archive struct {
	dir  string // what is served
	home string // the key's
	key  string // fingerprint
}

const newKey = `set -eu
gpg -q --batch --passphrase '' --quick-generate-key 'Test packages <packages@veripath.test>' ed25519 sign 1y 2>/dev/null
gpg -q --with-colons -K | awk -F: '$1=="fpr"{print $10;exit}'
gpgconf --kill gpg-agent`

// newArchive makes an empty repository that is served at http://packages.veripath.test/aes/.
func (e *estate) newArchive(t *testing.T) *archive {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // its path is a socket's, which may not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	a := &archive{dir: filepath.Join(e.repo, "aes"), home: home}
	a.key = strings.TrimSpace(a.sh(t, newKey))
	return a
}

func (a *archive) sh(t *testing.T, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command("bash", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+a.home, "KEY="+a.key)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// add publishes a package, as an operator of the repository does.
func (a *archive) add(t *testing.T, deb string) {
	t.Helper()
	a.sh(t, `set -e; ../packaging/apt-repo.sh "$@"; gpgconf --kill gpg-agent`, a.dir, deb)
}

// next makes a package of a later version of deb, with another program in it: a byte more behind its end, where nothing reads.
func next(t *testing.T, deb string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "next.deb")
	cmd := exec.Command("bash", "-c", `set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
dpkg-deb -R "$0" "$dir/x"
sed -i 's/^Version: .*/&+next/' "$dir/x/DEBIAN/control"
printf x >>"$dir/x/usr/bin/appliance"
(cd "$dir/x" && find . -type f -not -path './DEBIAN/*' -printf '%P\n' | xargs -d '\n' md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -z1 -b "$dir/x" "$1" >/dev/null`, deb, out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return out
}

// trust gives a machine the repository and its key.
func (e *estate) trust(t *testing.T, a *archive, host string) {
	t.Helper()
	e.put(t, host, "/etc/apt/keyrings/aes-appliance.asc", 0o644, a.sh(t, `gpg -q --armor --export "$KEY"`))
	e.put(t, host, "/etc/apt/sources.list.d/aes-appliance.list", 0o644, "deb [signed-by=/etc/apt/keyrings/aes-appliance.asc] http://packages.veripath.test/aes stable main\n")
}
