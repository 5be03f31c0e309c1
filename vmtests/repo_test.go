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
gpg -q --batch --passphrase '' --quick-generate-key 'Test packages <packages@veripath.test>' ed25519 sign 1y
gpg -q --with-colons -K | awk -F: '$1=="fpr"{print $10;exit}'
gpgconf --kill gpg-agent`

const publish = `set -eu
cd "$DIR"
rm -f Release* InRelease Packages*
apt-ftparchive packages pool >Packages
gzip -9nk Packages
apt-ftparchive -o APT::FTPArchive::Release::Origin=VeriPath -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Acquire-By-Hash=no release . >../Release.new
mv ../Release.new Release
gpg -q --batch --yes -u "$KEY" --clearsign -o InRelease Release
gpg -q --export "$KEY" >archive-key.gpg
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
	if err := os.MkdirAll(filepath.Join(a.dir, "pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	a.key = strings.TrimSpace(a.sh(t, newKey))
	return a
}

func (a *archive) sh(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-c", script)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+a.home, "DIR="+a.dir, "KEY="+a.key)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// add publishes a package.
func (a *archive) add(t *testing.T, deb string) {
	t.Helper()
	data, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "pool", filepath.Base(deb)), data, 0o644); err != nil {
		t.Fatal(err)
	}
	a.sh(t, publish)
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
	key, err := os.ReadFile(filepath.Join(a.dir, "archive-key.gpg"))
	if err != nil {
		t.Fatal(err)
	}
	e.put(t, host, "/etc/apt/keyrings/aes-appliance.gpg", 0o644, string(key))
	e.put(t, host, "/etc/apt/sources.list.d/aes-appliance.list", 0o644, "deb [signed-by=/etc/apt/keyrings/aes-appliance.gpg] http://packages.veripath.test/aes ./\n")
}
