package main

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// linkedModules returns Go's own library and the modules that the binary says it consists of, each with the licences that lie in its folder.
func linkedModules(binary, tags string) ([]part, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("%s does not say what it is made of: %w", binary, err)
	}
	packages, goroot, err := packagesOf(info.Path, tags)
	if err != nil {
		return nil, err
	}
	std, err := grantsIn(goroot)
	if err != nil {
		return nil, err
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	parts := []part{{name: "Go standard library", version: version, purl: "pkg:golang/std@" + version, grants: std, licences: identifiers(std)}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, fmt.Errorf("%s is replaced: say in bill what that means for its licence", m.Path)
		}
		p := packages[m.Path]
		if p == nil || p.version != m.Version {
			return nil, fmt.Errorf("the binary has %s %s, the source tree does not: build it anew", m.Path, m.Version)
		}
		grants, err := grantsIn(p.dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		stated, err := statedIn(m.Path, p.sources)
		if err != nil {
			return nil, err
		}
		grants = append(grants, stated...)
		parts = append(parts, part{name: m.Path, version: m.Version, sum: m.Sum, purl: "pkg:golang/" + strings.ToLower(m.Path) + "@" + m.Version,
			grants: grants, licences: identifiers(grants)})
	}
	return parts, nil
}

// module is what go list says of one.
type module struct {
	version, dir string
	sources      []string // files of it that are linked
}

func packagesOf(path, tags string) (map[string]*module, string, error) {
	out, err := exec.Command("go", "list", "-deps", "-tags", tags, "-json=Dir,GoFiles,CgoFiles,CFiles,SFiles,HFiles,Module", path).Output()
	if err != nil {
		return nil, "", said(err, "go list")
	}
	modules := map[string]*module{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir                                       string
			GoFiles, CgoFiles, CFiles, SFiles, HFiles []string
			Module                                    *struct{ Path, Version, Dir string }
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, "", err
		}
		if p.Module == nil {
			continue
		}
		m := modules[p.Module.Path]
		if m == nil {
			m = &module{version: p.Module.Version, dir: p.Module.Dir}
			modules[p.Module.Path] = m
		}
		for _, f := range slices.Concat(p.GoFiles, p.CgoFiles, p.CFiles, p.SFiles, p.HFiles) {
			m.sources = append(m.sources, filepath.Join(p.Dir, f))
		}
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, "", said(err, "go env")
	}
	return modules, strings.TrimSpace(string(root)), nil
}

func said(err error, what string) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s: %w: %s", what, err, bytes.TrimSpace(exit.Stderr))
	}
	return fmt.Errorf("%s: %w", what, err)
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)

// grantsIn returns what the licence files of a folder say.
func grantsIn(dir string) (grants []grant, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var notice string
	for _, e := range entries {
		if strings.EqualFold(e.Name(), "NOTICE") || strings.EqualFold(e.Name(), "NOTICE.txt") {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			notice = strings.TrimSpace(string(text))
		}
		if !licenceFile.MatchString(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		g, err := readGrant(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		grants = append(grants, g)
	}
	if len(grants) == 0 {
		return nil, errors.New("there is no licence in its folder")
	}
	grants[0].notice = notice
	return grants, nil
}

// otherwise are linked files under another licence than their module's, by module and file.
func otherwise() map[string]grant {
	return map[string]grant{
		"github.com/weppos/publicsuffix-go rules.go": {ids: []string{"MPL-2.0"}, holders: []string{"the contributors of the Public Suffix List (publicsuffix.org)"},
			text: "The list in rules.go is the Public Suffix List, under the Mozilla Public License,\nversion 2.0: /usr/share/common-licenses/MPL-2.0."},
	}
}

var copyleft = regexp.MustCompile(`(?i)mozilla public license|mozilla\.org/MPL|\bA?GPL(v[23]|-[23])|\bLGPL|GNU (Lesser|Affero|General)|Server Side Public|Commons Clause|Business Source`)

// statedIn returns what is known above of linked files, and refuses those whose head speaks of a licence that asks for more than the
// permissive ones do: somebody must read it.
func statedIn(path string, sources []string) (grants []grant, err error) {
	for _, source := range sources {
		if g, known := otherwise()[path+" "+filepath.Base(source)]; known {
			grants = append(grants, g)
			continue
		}
		head, err := headOf(source)
		if err != nil {
			return nil, err
		}
		if found := copyleft.Find(head); found != nil {
			return nil, fmt.Errorf("%s: a linked file speaks of a licence that asks for more: %s: %s", path, source, found)
		}
	}
	return grants, nil
}

func headOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head, err := bufio.NewReaderSize(f, 4096).Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head, nil
}
