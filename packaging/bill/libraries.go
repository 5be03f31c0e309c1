package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// softhsm is the release whose source packaging/softhsm2/build.sh builds, and the revision of Debian's package up to which its patches were looked
// at for what concerns security. deps-check reports a newer one.
const softhsm, softhsmDebian = "2.6.1", "2.6.1-2.1"

// library is a static library that the linker takes from Debian, by the name of the file that the compiler finds it under.
type library struct {
	name     string
	file     string
	licences []string
	grant    func(copyright string) (grant, error) // from Debian's copyright file of its package
}

func libraries() []library {
	return []library{
		{"openssl", "libcrypto.a", []string{"Apache-2.0"}, openssl},
		{"libstdc++", "libstdc++.a", []string{"GPL-3.0-or-later WITH GCC-exception-3.1"}, gcc},
		{"libgcc", "libgcc.a", []string{"GPL-3.0-or-later WITH GCC-exception-3.1"}, gcc},
		{"glibc", "libc.a", []string{"LGPL-2.1-or-later"}, glibc},
	}
}

// linkedLibraries returns SoftHSM2 and what of Debian's is linked in, with the versions that this machine has: the bill is made where, and when,
// the binary is.
func linkedLibraries() ([]part, error) {
	text, err := os.ReadFile(filepath.Join("packaging", "softhsm2", "LICENSE"))
	if err != nil {
		return nil, err
	}
	g, err := readGrant(string(text))
	if err != nil {
		return nil, err
	}
	parts := []part{{name: "softhsm2", version: softhsm, licences: g.ids, grants: []grant{g}, purl: debPURL("softhsm2", softhsmDebian),
		debian: &debian{Package: "softhsm2", Version: softhsmDebian, Source: "softhsm2", SourceVersion: softhsmDebian},
		note:   "upstream's release, with the patches in packaging/softhsm2; Debian's revision is the last one whose patches were looked at"}}
	for _, l := range libraries() {
		p, err := l.find()
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (l library) find() (part, error) {
	out, err := exec.Command("g++", "-print-file-name="+l.file).Output()
	if err != nil {
		return part{}, said(err, "g++")
	}
	path, err := filepath.EvalSymlinks(strings.TrimSpace(string(out)))
	if err != nil {
		return part{}, fmt.Errorf("%s is not on this machine: %w", l.file, err)
	}
	owner, err := exec.Command("dpkg-query", "-S", path).Output()
	if err != nil { // dpkg may know it by its name before /usr was merged
		if owner, err = exec.Command("dpkg-query", "-S", strings.TrimPrefix(path, "/usr")).Output(); err != nil {
			return part{}, said(err, "dpkg-query -S "+path)
		}
	}
	name, _, _ := strings.Cut(string(owner), ": ")
	out, err = exec.Command("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${source:Package}\t${source:Version}", name).Output()
	if err != nil {
		return part{}, said(err, "dpkg-query -W "+name)
	}
	f := strings.Split(string(out), "\t")
	if len(f) != 4 {
		return part{}, fmt.Errorf("dpkg-query says of %s: %q", name, out)
	}
	text, err := os.ReadFile(filepath.Join("/usr/share/doc", f[0], "copyright"))
	if err != nil {
		return part{}, fmt.Errorf("the licence of %s: %w", f[0], err)
	}
	g, err := l.grant(string(text))
	if err != nil {
		return part{}, fmt.Errorf("the licence of %s: %w", f[0], err)
	}
	g.ids = l.licences
	return part{name: l.name, version: f[1], licences: l.licences, grants: []grant{g}, purl: debPURL(f[2], f[3]),
		debian: &debian{Package: f[0], Version: f[1], Source: f[2], SourceVersion: f[3]}, note: l.file + " of Debian's " + f[0]}, nil
}

// debPURL names a source package (purl-spec, type deb).
func debPURL(source, version string) string {
	return "pkg:deb/debian/" + source + "@" + strings.NewReplacer("+", "%2B", "~", "~").Replace(version) + "?arch=source"
}

func openssl(copyright string) (grant, error) {
	_, rest, found := strings.Cut(copyright, "Files: *\nCopyright: ")
	holders, _, ends := strings.Cut(rest, "\nLicense: Apache-2.0")
	if !found || !ends {
		return grant{}, errors.New("Debian's copyright file is not as it was")
	}
	g := grant{text: "/usr/share/common-licenses/Apache-2.0"}
	for line := range strings.Lines(holders) {
		g.holders = append(g.holders, strings.TrimSpace(line))
	}
	return g, nil
}

func gcc(copyright string) (grant, error) {
	_, rest, found := strings.Cut(copyright, "\nGCC RUNTIME LIBRARY EXCEPTION\n")
	exception, _, ends := strings.Cut(rest, "\n\n\n")
	if !found || !ends {
		return grant{}, errors.New("Debian's copyright file is not as it was: there is no runtime library exception in it")
	}
	return grant{holders: []string{"Free Software Foundation, Inc."}, text: "GNU General Public License, version 3 or later (/usr/share/common-licenses/GPL-3), with this exception:\n\n" +
		"GCC RUNTIME LIBRARY EXCEPTION\n" + exception}, nil
}

func glibc(copyright string) (grant, error) {
	if !strings.Contains(copyright, "/usr/share/common-licenses/LGPL-2.1") {
		return grant{}, errors.New("Debian's copyright file is not as it was")
	}
	return grant{holders: []string{"Free Software Foundation, Inc.", "and those whom Debian names below"}, text: "Who has this program may link it anew with another C library: " +
		"the recipe is make build in its\nsource tree, and its operator asks the vendor for the object files. What Debian says of the library:\n\n" + strings.TrimSpace(copyright)}, nil
}
