package packaging

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository is a signed apt repository of small packages, and an apt that knows no other.
type repository struct {
	folder, config string
	env            []string
}

// newRepository makes the repository's folder and its key. settings are variables of apt-repo.sh.
func newRepository(t *testing.T, settings ...string) *repository {
	t.Helper()
	for _, tool := range []string{"apt-ftparchive", "gpg", "dpkg-deb"} {
		need(t, tool)
	}
	// gpg's agent has its socket below this folder, and a socket's path is short.
	dir, err := os.MkdirTemp("/tmp", "apt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &repository{folder: filepath.Join(dir, "repo"), config: filepath.Join(dir, "apt.conf")}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GNUPGHOME=") && !strings.HasPrefix(v, "KEY=") {
			r.env = append(r.env, v)
		}
	}
	r.env = append(r.env, "APT_CONFIG="+r.config)
	r.env = append(r.env, settings...)
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	suite := "stable"
	for _, s := range settings {
		if v, ok := strings.CutPrefix(s, "SUITE="); ok {
			suite = v
		}
	}
	write(t, filepath.Join(dir, "sources.list"), fmt.Sprintf("deb [signed-by=%s/aes-appliance.gpg] file:%s %s main\n", r.folder, r.folder, suite))
	write(t, filepath.Join(dir, "status"), "")
	write(t, r.config, fmt.Sprintf(`Dir::Etc::sourcelist "%[1]s/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::trusted "/dev/null"; Dir::Etc::trustedparts "/dev/null";
Dir::State "%[1]s/state"; Dir::State::lists "%[1]s/lists"; Dir::State::status "%[1]s/status"; Dir::Cache "%[1]s/cache"; APT::Sandbox::User ""; APT::Architecture "amd64"; APT::Architectures "amd64";
APT::Update::Error-Mode "any"; Acquire::Languages "none"; Dir::Log "%[1]s";
`, dir))
	return r
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// small makes a package with nothing in it but a file that says text.
func small(t *testing.T, name, version, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "x", "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "x", "DEBIAN", "control"), fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: A <a@example.org>\nDescription: x\n", name, version))
	write(t, filepath.Join(dir, "x", "text"), text)
	deb := filepath.Join(dir, "x.deb")
	run(t, "dpkg-deb", "--root-owner-group", "-b", filepath.Join(dir, "x"), deb)
	return deb
}

func (r *repository) try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = r.env, filepath.Dir(r.folder)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *repository) do(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := r.try(name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func (r *repository) add(t *testing.T, debs ...string) string {
	t.Helper()
	return r.do(t, r.script(t), append([]string{r.folder}, debs...)...)
}

func (*repository) script(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("apt-repo.sh")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRepository: apt believes the repository, sees an upgrade, goes back a version, and is offered what unattended-upgrades goes by.
func TestRepository(t *testing.T) {
	r := newRepository(t)
	if out := r.add(t, small(t, "aes-appliance", "1.0.0", "one")); !strings.Contains(out, "1 packages, signed by") || !strings.Contains(out, "a key for tests") {
		t.Error(out)
	}
	r.do(t, "apt-get", "update")
	r.add(t, small(t, "aes-appliance", "1.0.0+3.gabc", "two"))
	r.do(t, "apt-get", "update")
	policy := r.do(t, "apt-cache", "policy", "aes-appliance")
	if !strings.Contains(policy, "Candidate: 1.0.0+3.gabc") || !strings.Contains(policy, "1.0.0 500") {
		t.Error(policy)
	}
	// unattended-upgrades compares its Origins-Pattern with these (docs/package.md).
	if out := r.do(t, "apt-cache", "policy"); !strings.Contains(out, "release o=VeriPath,a=stable,n=stable,l=AES appliance,c=main") {
		t.Error(out)
	}
	for version, text := range map[string]string{"1.0.0": "one", "1.0.0+3.gabc": "two"} {
		r.do(t, "apt-get", "download", "aes-appliance="+version)
		found, err := filepath.Glob(filepath.Join(filepath.Dir(r.folder), "aes-appliance_*"+strings.ReplaceAll(version, "+", "*")+"_amd64.deb"))
		if err != nil || len(found) == 0 {
			t.Fatal(found, err)
		}
		if out := run(t, "sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -xO ./text`, "sh", found[0]); out != text {
			t.Errorf("%s holds %q", version, out)
		}
		os.Remove(found[0])
	}
}

// TestRepositoryByHash: index files are to be had under their hashes, those of the generation before, too, and no older ones.
func TestRepositoryByHash(t *testing.T) {
	r := newRepository(t)
	index := filepath.Join(r.folder, "dists/stable/main/binary-amd64")
	var generations [][]byte
	for _, version := range []string{"1", "2", "3"} {
		r.add(t, small(t, "aes-appliance", version, version))
		data, err := os.ReadFile(filepath.Join(index, "Packages.xz"))
		if err != nil {
			t.Fatal(err)
		}
		generations = append(generations, data)
	}
	found, err := filepath.Glob(filepath.Join(index, "by-hash/SHA256/*"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	var kept []int
	for _, path := range found {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if sum := strings.Fields(run(t, "sha256sum", path))[0]; sum != filepath.Base(path) {
			t.Errorf("%s has the hash %s", path, sum)
		}
		for i, g := range generations {
			if bytes.Equal(data, g) {
				kept = append(kept, i)
			}
		}
	}
	if len(kept) != 2 || kept[0]+kept[1] != 1+2 {
		t.Errorf("generations %v are there, want 1 and 2", kept)
	}
	release, err := os.ReadFile(filepath.Join(r.folder, "dists/stable/Release"))
	if err != nil || !strings.Contains(string(release), "Acquire-By-Hash: yes") || !strings.Contains(string(release), "main/binary-amd64/Packages.xz") {
		t.Errorf("%v\n%s", err, release)
	}
}

// TestRepositorySignsNothingPlanted: who can write where the repository is served leaves a package there, or exchanges one, and waits until the next is signed.
func TestRepositorySignsNothingPlanted(t *testing.T) {
	r := newRepository(t)
	r.add(t, small(t, "aes-appliance", "1", "one"))
	script, err := filepath.Abs("apt-repo.sh")
	if err != nil {
		t.Fatal(err)
	}
	pool, dist := filepath.Join(r.folder, "pool/main/a/aes-appliance"), filepath.Join(r.folder, "dists/stable")
	two, evil := small(t, "aes-appliance", "2", "two"), small(t, "aes-appliance", "1", "evil")
	copyFile := func(from, to string) func() error {
		return func() error { return exec.Command("cp", from, to).Run() }
	}
	for what, c := range map[string]struct {
		plant func() error
		says  string
	}{
		"a package beside":      {copyFile(small(t, "aes-appliance", "99", "evil"), filepath.Join(pool, "aes-appliance_99_amd64.deb")), "no key of ours"},
		"a package elsewhere":   {copyFile(small(t, "libc6", "99", "evil"), filepath.Join(r.folder, "pool/x.deb")), "no key of ours"},
		"a link":                {func() error { return os.Symlink(evil, filepath.Join(pool, "x.deb")) }, "no key of ours"},
		"another in its place":  {copyFile(evil, filepath.Join(pool, "aes-appliance_1_amd64.deb")), "no key of ours"},
		"no signature any more": {func() error { return os.Remove(filepath.Join(dist, "InRelease")) }, "no key of ours"},
		"a signature of others": {func() error {
			return exec.Command("sh", "-c", `GNUPGHOME=$(mktemp -d /tmp/aptXXXXXX); export GNUPGHOME; cd "$1" && gpg -q --batch --passphrase '' --quick-generate-key evil ed25519 sign 1y 2>/dev/null &&
gpg -q --batch --yes --clearsign --output InRelease Release; e=$?; gpgconf --kill gpg-agent; rm -rf "$GNUPGHOME"; exit $e`, "sh", dist).Run()
		}, "not signed by a key of ours"},
		"another list": {func() error {
			return exec.Command("sh", "-c", `for f in "$1"/main/binary-amd64/by-hash/SHA256/*; do echo >>"$f"; done`, "sh", dist).Run()
		}, "is not in"},
	} {
		if err := exec.Command("cp", "-a", r.folder, r.folder+".good").Run(); err != nil {
			t.Fatal(err)
		}
		if err := c.plant(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		release, err := os.ReadFile(filepath.Join(dist, "Release"))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.try(script, r.folder, two); err == nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: %v %s", what, err, out)
		}
		if now, err := os.ReadFile(filepath.Join(dist, "Release")); err != nil || !bytes.Equal(now, release) {
			t.Errorf("%s: signed anew, %v", what, err)
		}
		if err := errors.Join(os.RemoveAll(r.folder), os.Rename(r.folder+".good", r.folder)); err != nil {
			t.Fatal(err)
		}
	}
	// Broken off after the package was put in, and named again.
	if err := copyFile(two, filepath.Join(pool, "aes-appliance_2_amd64.deb"))(); err != nil {
		t.Fatal(err)
	}
	if out := r.add(t, two); !strings.Contains(out, "2 packages, signed by") {
		t.Error(out)
	}
}

// TestRepositoryExchanged: a package that is exchanged after it was looked at, and before it is read for the list, is not signed.
func TestRepositoryExchanged(t *testing.T) {
	r := newRepository(t)
	r.add(t, small(t, "aes-appliance", "1", "one"))
	evil, dir := small(t, "aes-appliance", "1", "evil"), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "apt-ftparchive"), []byte(fmt.Sprintf("#!/bin/sh\n[ \"$1\" != packages ] || cp %s %s/pool/main/a/aes-appliance/aes-appliance_1_amd64.deb\nexec /usr/bin/apt-ftparchive \"$@\"\n",
		evil, r.folder)), 0o755); err != nil {
		t.Fatal(err)
	}
	was := read(t, filepath.Join(r.folder, "dists/stable/InRelease"))
	r.env = append(r.env, "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := r.try(r.script(t), r.folder); err == nil || !strings.Contains(out, "was exchanged") {
		t.Errorf("%v %s", err, out)
	}
	if !bytes.Equal(was, read(t, filepath.Join(r.folder, "dists/stable/InRelease"))) {
		t.Error("it was signed")
	}
}

// TestRepositoryTampered: what anybody without the key changes, apt refuses; what was published once is not replaced.
func TestRepositoryTampered(t *testing.T) {
	change := func(file, from, to string) func(*testing.T, *repository) {
		return func(t *testing.T, r *repository) {
			path := filepath.Join(r.folder, file)
			data, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(data, []byte(from)) {
				t.Fatal(err, file, "has no", from)
			}
			write(t, path, strings.ReplaceAll(string(data), from, to))
		}
	}
	another := func(t *testing.T, r *repository) { // signed, but not by the key that the machine knows
		key, err := os.ReadFile(filepath.Join(r.folder, "aes-appliance.gpg"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(r.folder+".gnupg", r.folder+".gnupg-lost"), os.RemoveAll(filepath.Join(r.folder, "dists")), os.RemoveAll(filepath.Join(r.folder, "pool"))); err != nil {
			t.Fatal(err)
		}
		r.add(t, small(t, "aes-appliance", "2", "evil"))
		write(t, filepath.Join(r.folder, "aes-appliance.gpg"), string(key))
	}
	for name, tamper := range map[string]func(*testing.T, *repository){
		"origin":      change("dists/stable/InRelease", "Origin: VeriPath", "Origin: Veripath"),
		"hash":        change("dists/stable/InRelease", "binary-amd64/Packages", "binary-amd64/packages"),
		"another key": another,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t)
			r.add(t, small(t, "aes-appliance", "1", "one"))
			tamper(t, r)
			if out, err := r.try("apt-get", "update"); err == nil {
				t.Errorf("taken:\n%s", out)
			}
		})
	}
	t.Run("package", func(t *testing.T) {
		r := newRepository(t)
		deb := small(t, "aes-appliance", "1", "one")
		r.add(t, deb)
		r.do(t, "apt-get", "update")
		other := small(t, "aes-appliance", "1", "two")
		if out, err := r.try(r.script(t), r.folder, other); err == nil || !strings.Contains(out, "with other bytes") {
			t.Errorf("a version was published twice: %v %s", err, out)
		}
		data, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(r.folder, "pool/main/a/aes-appliance/aes-appliance_1_amd64.deb"), string(data))
		if out, err := r.try("apt-get", "download", "aes-appliance"); err == nil {
			t.Errorf("taken:\n%s", out)
		}
	})
}

// TestRepositoryGrowsOld: a state that somebody goes on showing is refused once its time is over, and believed when it is signed anew, which takes no package.
func TestRepositoryGrowsOld(t *testing.T) {
	update := []string{"update", "-o", "Acquire::Check-Valid-Until=true", "-o", "Acquire::Check-Date=true"} // whatever the machine of this test has
	r := newRepository(t)
	if out := r.add(t, small(t, "aes-appliance", "1", "one")); !strings.Contains(out, "Machines believe it until ") {
		t.Error(out)
	}
	if life := r.life(t); life != 30*24*time.Hour {
		t.Errorf("it is believed for %v", life)
	}
	r.do(t, "apt-get", update...)
	r.age(t, 29*24*time.Hour)
	r.do(t, "apt-get", update...)
	r.age(t, 2*24*time.Hour)
	if out, err := r.try("apt-get", update...); err == nil || !strings.Contains(out, "expired") {
		t.Errorf("%v\n%s", err, out)
	}
	if out := r.add(t); !strings.Contains(out, "1 packages, signed by") {
		t.Error(out)
	}
	r.do(t, "apt-get", update...)
	r.env = append(r.env, "VALID_FOR=60")
	r.add(t)
	if life := r.life(t); life != 60*24*time.Hour {
		t.Errorf("it is believed for %v", life)
	}
	r.env = append(r.env, "VALID_FOR=never")
	if out := r.add(t); !strings.Contains(out, "for ever") {
		t.Error(out)
	}
	r.do(t, "apt-get", update...)
	for _, bad := range []string{"0", "-1", "1209600", "2 weeks", "1d"} {
		r.env = append(r.env, "VALID_FOR="+bad)
		if out, err := r.try(r.script(t), r.folder); err == nil || !strings.Contains(out, "number of days") {
			t.Errorf("%s: %v %s", bad, err, out)
		}
	}
	r = newRepository(t)
	if out, err := r.try(r.script(t), r.folder); err == nil || !strings.Contains(out, "no repository") {
		t.Errorf("signed nothing: %v %s", err, out)
	}
}

// times returns when the repository's state was signed and until when it is believed.
func (r *repository) times(t *testing.T) (from, until time.Time) {
	t.Helper()
	for name, at := range map[string]*time.Time{"Date": &from, "Valid-Until": &until} {
		_, rest, found := strings.Cut(string(read(t, filepath.Join(r.folder, "dists/stable/Release"))), "\n"+name+": ")
		line, _, _ := strings.Cut(rest, "\n")
		when, err := time.Parse(time.RFC1123, line)
		if err != nil || !found {
			t.Fatal(name, err)
		}
		*at = when
	}
	return from, until
}

func (r *repository) life(t *testing.T) time.Duration {
	t.Helper()
	from, until := r.times(t)
	return until.Sub(from)
}

// age has the repository's state signed d earlier than it was. What apt fetched before is forgotten: it keeps that where what comes is earlier.
func (r *repository) age(t *testing.T, d time.Duration) {
	t.Helper()
	for _, list := range glob(t, filepath.Join(filepath.Dir(r.folder), "lists/*Release")) {
		if err := os.Remove(list); err != nil {
			t.Fatal(err)
		}
	}
	release := filepath.Join(r.folder, "dists/stable/Release")
	text := string(read(t, release))
	from, until := r.times(t)
	for _, at := range []time.Time{from, until} {
		text = strings.Replace(text, ": "+at.Format(time.RFC1123)+"\n", ": "+at.Add(-d).Format(time.RFC1123)+"\n", 1)
	}
	write(t, release, text)
	for args, name := range map[string]string{"--clearsign": "InRelease", "--detach-sign": "Release.gpg"} {
		r.do(t, "gpg", "--homedir", r.folder+".gnupg", "--quiet", "--batch", "--yes", "--armor", args, "--output", filepath.Join(filepath.Dir(release), name), release)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil || len(all) == 0 {
		t.Fatal(pattern, all, err)
	}
	return all
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestDepsCheck: a newer version in Debian ends with 1 and is named, one of the security archive as such; nothing newer with 0; and where it cannot be
// known, with 2.
func TestDepsCheck(t *testing.T) {
	bill := filepath.Join(t.TempDir(), "bill")
	run(t, "go", "build", "-o", bill, "./bill")
	sbom := filepath.Join(t.TempDir(), "sbom.json")
	write(t, sbom, `{"components":[{"name":"openssl","properties":[{"name":"aes-appliance:debian:package","value":"libssl-dev"},{"name":"aes-appliance:debian:version","value":"3.0.22-1~deb12u2"}]},
		{"name":"glibc","properties":[{"name":"aes-appliance:debian:package","value":"libc6-dev"},{"name":"aes-appliance:debian:version","value":"2.36-9+deb12u14"}]}]}`)
	for _, c := range []struct {
		name, suite, label, openssl string
		code                        int
		want                        string
	}{
		{"same", "bookworm-security", "Debian-Security", "3.0.22-1~deb12u2", 0, "libssl-dev"},
		{"older", "bookworm-security", "Debian-Security", "3.0.20-1~deb12u2", 0, "libssl-dev"},
		{"security", "bookworm-security", "Debian-Security", "3.0.22-1~deb12u3", 1, "3.0.22-1~deb12u3  SECURITY UPDATE"},
		{"point release", "bookworm", "Debian-Security", "3.0.23-1~deb12u1", 1, "3.0.23-1~deb12u1  newer"},
		{"no security archive", "bookworm", "Debian", "3.0.22-1~deb12u3", 2, "no source of Debian's security updates"},
		{"gone", "bookworm-security", "Debian-Security", "", 2, "Debian no longer has libssl-dev"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRepository(t, "SUITE="+c.suite, "LABEL="+c.label, "ORIGIN=Debian")
			debs := []string{small(t, "libc6-dev", "2.36-9+deb12u14", "c")}
			if c.openssl != "" {
				debs = append(debs, small(t, "libssl-dev", c.openssl, "ssl"))
			}
			r.add(t, debs...)
			cmd := exec.Command(bill, "check", "-sbom", sbom)
			cmd.Env = r.env
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.want) {
				t.Errorf("%d, want %d with %q:\n%s", code, c.code, c.want, out)
			}
		})
	}
	t.Run("no list", func(t *testing.T) {
		r := newRepository(t)
		cmd := exec.Command(bill, "check", "-sbom", sbom)
		cmd.Env = r.env
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("%d\n%s", cmd.ProcessState.ExitCode(), out)
		}
	})
}
