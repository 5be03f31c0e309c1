package packaging

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// madePackage makes the package as people do, once for all tests, and returns its path.
var madePackage = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("make", "--no-print-directory", "-C", "..", "deb")
	if cmd.Env = os.Environ(); exec.Command("./version.sh").Run() != nil { // a tree without git
		cmd.Env = append(cmd.Env, "VERSION=0.0.0", "SOURCE_DATE_EPOCH=1700000000")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	name := regexp.MustCompile(`(?m)^(build/aes-appliance_.*_amd64\.deb): `).FindSubmatch(out)
	if name == nil {
		return "", errors.New("make deb does not say what it made:\n" + string(out))
	}
	return filepath.Abs(filepath.Join("..", string(name[1])))
})

func thePackage(t *testing.T) string {
	t.Helper()
	path, err := madePackage()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run returns what a command prints and fails the test when the command does.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatalf("%s is missing: run packaging/deps.sh test", tool)
	}
}

// entries returns the files of a package by path, from its data archive.
func entries(t *testing.T, deb string) map[string]*tar.Header {
	t.Helper()
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*tar.Header{}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, ".")] = h
	}
}

// TestPackageHolds: every unit, profile and manual page of the tree is in the package, everything is root's and nobody else's to change, of one time, and
// nothing is enabled.
func TestPackageHolds(t *testing.T) {
	deb := thePackage(t)
	files := entries(t, deb)
	var times []time.Time
	for path, h := range files {
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o7022 != 0 {
			t.Errorf("%s: owner %d:%d, mode %o", path, h.Uid, h.Gid, h.Mode)
		}
		if !slices.ContainsFunc(times, h.ModTime.Equal) {
			times = append(times, h.ModTime)
		}
		if strings.Contains(path, ".wants/") || strings.Contains(path, ".requires/") || strings.HasSuffix(path, ".pem") || strings.HasSuffix(path, ".key") {
			t.Errorf("%s: enabled, or a key", path)
		}
		if h.Typeflag == tar.TypeReg && strings.HasPrefix(path, "/var/") || strings.HasPrefix(path, "/etc/aes-appliance/") && h.Typeflag != tar.TypeDir {
			t.Errorf("%s: what setup writes is not the package's", path)
		}
	}
	if len(times) != 1 {
		t.Errorf("files are of several times: %v", times)
	}
	wanted := []string{"/usr/bin/appliance", "/usr/lib/sysusers.d/aes-appliance.conf", "/usr/lib/tmpfiles.d/aes-appliance.conf", "/etc/ufw/applications.d/aes-appliance",
		"/usr/share/doc/aes-appliance/copyright", "/usr/share/doc/aes-appliance/changelog.gz", "/usr/share/doc/aes-appliance/sbom.cdx.json",
		"/usr/share/doc/aes-appliance/cps.md", "/usr/share/doc/aes-appliance/tsa-policy.md", "/usr/share/doc/aes-appliance/examples/appliance.toml", "/usr/share/doc/aes-appliance/examples/receiver.toml", "/usr/share/man/man1/appliance-cert-issue.1.gz",
		"/usr/share/man/man5/appliance.toml.5.gz", "/usr/share/man/man5/receiver.toml.5.gz", "/usr/share/bash-completion/completions/appliance",
		"/usr/share/zsh/vendor-completions/_appliance", "/usr/share/fish/vendor_completions.d/appliance.fish", "/etc/aes-appliance/", "/var/lib/aes-appliance/"}
	for from, to := range map[string]string{"../systemd/aes-*": "/usr/lib/systemd/system/", "apparmor/*": "/etc/apparmor.d/"} {
		found, err := filepath.Glob(from)
		if err != nil || len(found) == 0 {
			t.Fatal(from, err)
		}
		for _, f := range found {
			wanted = append(wanted, to+filepath.Base(f))
		}
	}
	for _, path := range wanted {
		if files[path] == nil {
			t.Errorf("%s is not in the package", path)
		}
	}
	linksLead(t, deb, files)
	conffiles := strings.Fields(run(t, "dpkg-deb", "-I", deb, "conffiles"))
	for path, h := range files {
		if h.Typeflag == tar.TypeReg && strings.HasPrefix(path, "/etc/") != slices.Contains(conffiles, path) {
			t.Errorf("%s: a conffile is what is in /etc", path)
		}
	}
}

// linksLead: what the documents link to is in the package, too.
func linksLead(t *testing.T, deb string, files map[string]*tar.Header) {
	t.Helper()
	links, dir := 0, t.TempDir()
	run(t, "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" ./usr/share/doc/aes-appliance`, deb, dir)
	for doc := range files {
		if filepath.Ext(doc) != ".md" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, doc))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if links++; files[filepath.Join(filepath.Dir(doc), m[1])] == nil {
				t.Errorf("%s links to %s, which is not in the package", doc, m[1])
			}
		}
	}
	if links < 20 {
		t.Errorf("the documents have %d links: the test looks in the wrong place", links)
	}
}

// TestPackageScripts: the maintainer scripts know every unit but templates, and are sh.
func TestPackageScripts(t *testing.T) {
	deb := thePackage(t)
	units, err := filepath.Glob("../systemd/aes-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"preinst", "postinst", "prerm", "postrm"} {
		text := run(t, "dpkg-deb", "-I", deb, script)
		if regexp.MustCompile("@[A-Z]+@").MatchString(text) {
			t.Errorf("%s: a name was not filled in", script)
		}
		for _, unit := range units {
			if name := filepath.Base(unit); script != "preinst" && strings.Contains(name, "@") == strings.Contains(text, name) {
				t.Errorf("%s: %s", script, name)
			}
		}
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", script, err, out)
		}
	}
	// What the installed version refuses, no later one overrules: dpkg asks it second.
	for _, script := range []string{"prerm", "postrm"} {
		if text := run(t, "dpkg-deb", "-I", deb, script); !strings.Contains(text, "\nfailed-upgrade) exit 1 ;;") {
			t.Errorf("%s failed-upgrade does not fail: an upgrade that is no good could not be undone", script)
		}
	}
	text := upgradeScript(t, deb)
	for _, service := range []string{"aes-signer.service", "aes-portal.service", "aes-receiver.service"} {
		if !regexp.MustCompile(`(?m)^services='.*\b` + service + `\b`).MatchString(text) {
			t.Errorf("an upgrade does not restart %s", service)
		}
	}
}

// upgradeScript is what the maintainer scripts have an upgrade tried by.
func upgradeScript(t *testing.T, deb string) string {
	t.Helper()
	out := run(t, "sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar -xO ./usr/lib/aes-appliance/upgrade`, deb)
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, said)
	}
	return out
}

// TestLintian: Debian's own judge has nothing to say but what packaging/debian/lintian-overrides explains, and each of those is still needed.
func TestLintian(t *testing.T) {
	need(t, "lintian")
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", "--display-level", ">=info", "--tag-display-limit", "0", thePackage(t)).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if found := regexp.MustCompile(`(unused|mismatched|malformed)-override`).Find(out); found != nil {
		t.Errorf("%s\n%s", found, out)
	}
	overrides, err := os.ReadFile("debian/lintian-overrides")
	if err != nil {
		t.Fatal(err)
	}
	explained := "" // the tag that the comment above is about
	for line := range strings.Lines(string(overrides)) {
		if strings.HasPrefix(line, "#") {
			explained = "*"
			continue
		}
		tag := strings.Fields(line)[1]
		if explained != "*" && explained != tag {
			t.Errorf("nothing explains %s", line)
		}
		explained = tag
	}
}

// TestSBOMValid: CycloneDX's published schema finds nothing wrong with the bill of materials, and something with one that is wrong.
func TestSBOMValid(t *testing.T) {
	bill := filepath.Join(t.TempDir(), "sbom.json")
	data, err := exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -xO ./usr/share/doc/aes-appliance/sbom.cdx.json`, "sh", thePackage(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bill, data, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "go", "mod", "download", "-C", "tools", "github.com/CycloneDX/cyclonedx-go") // or the folder has no name yet
	schema := filepath.Join(strings.TrimSpace(run(t, "go", "list", "-C", "tools", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go")), "schema")
	run(t, "go", "run", "-C", "tools", "./sbomvalid", schema, bill)
	if err := os.WriteFile(bill, bytes.Replace(data, []byte(`"type": "library"`), []byte(`"type": "libary"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "run", "-C", "tools", "./sbomvalid", schema, bill).CombinedOutput(); err == nil {
		t.Errorf("a wrong bill is taken: %s", out)
	}
	// The version of OpenSSL that the bill names is the one that the program carries in it.
	named := regexp.MustCompile(`pkg:deb/debian/openssl@([0-9.]+)-`).FindSubmatch(data)
	if named == nil {
		t.Fatal("the bill does not name OpenSSL")
	}
	binary, err := os.ReadFile("../build/appliance")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(binary, []byte("OpenSSL "+string(named[1]))) && !bytes.Contains(binary, named[1]) {
		t.Errorf("OpenSSL %s is in the bill, not in the program", named[1])
	}
}

// TestOtherVersionRefused: a program of one version is not packaged as another.
func TestOtherVersionRefused(t *testing.T) {
	thePackage(t)
	out := filepath.Join(t.TempDir(), "x.deb")
	cmd := exec.Command("./deb.sh", "build/appliance", "builtin_softhsm,netgo,osusergo", out)
	cmd.Env = append(os.Environ(), "VERSION=9.9.9", "SOURCE_DATE_EPOCH=1700000000")
	said, err := cmd.CombinedOutput()
	if _, there := os.Stat(out); err == nil || there == nil || !strings.Contains(string(said), "error: build/appliance is not of version 9.9.9") {
		t.Errorf("%v %s", err, said)
	}
}
