package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// errNewer is the answer that there is something to do.
var errNewer = errors.New("Debian has newer versions of what is linked in: build and release anew")

// check asks Debian, by the sources that this machine's apt is configured with and lists fetched now, whether it has newer versions of what a bill
// says is linked in. A stable release's packages change for security and grave faults only, so each newer one counts, and those from the security
// archive are named as such. Without a source of security updates there is no judgement.
func check(sbom string, out io.Writer) error {
	linked, err := readDebian(sbom)
	if err != nil {
		return err
	}
	apt, err := openApt()
	if err != nil {
		return err
	}
	defer os.RemoveAll(apt.dir)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PACKAGE\tLINKED IN\tDEBIAN HAS\t")
	newer := false
	for _, d := range linked {
		offered, err := apt.newest(d.Package)
		if err != nil {
			return err
		}
		verdict := ""
		if later(offered.version, d.Version) {
			newer, verdict = true, "newer"
			if offered.security {
				verdict = "SECURITY UPDATE"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Package, d.Version, offered.version, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if newer {
		return errNewer
	}
	return nil
}

// readDebian returns the libraries of a bill that are Debian's.
func readDebian(path string) (list []debian, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var b bom
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, fmt.Errorf("%s is no bill of materials: %w", path, err)
	}
	for _, c := range b.Components {
		var d debian
		for _, p := range c.Properties {
			switch p.Name {
			case propPackage:
				d.Package = p.Value
			case propVersion:
				d.Version = p.Value
			}
		}
		if d.Package != "" && d.Version != "" {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s names no library of Debian's", path)
	}
	return list, nil
}

// apt is this machine's, with lists of its own: asking changes nothing, and takes no rights.
type apt struct {
	dir     string
	options []string
}

func openApt() (*apt, error) {
	dir, err := os.MkdirTemp("", "bill")
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	a := &apt{dir: dir, options: []string{"-q", "-o", "Dir::State::lists=" + dir + "/lists", "-o", "Dir::Cache=" + dir + "/cache", "-o", "Dir::State::status=/dev/null",
		"-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=2", "-o", "APT::Update::Error-Mode=any"}}
	if err := a.update(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return a, nil
}

func (a *apt) update() error {
	if out, err := exec.Command("apt-get", append(a.options, "update")...).CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get update: %w\n%s", err, out)
	}
	labels, err := exec.Command("apt-get", append(a.options, "indextargets", "--format", "$(LABEL)", "Created-By: Packages")...).Output()
	if err != nil {
		return said(err, "apt-get indextargets")
	}
	if !strings.Contains(string(labels), "Debian-Security") {
		return errors.New("this machine's apt has no source of Debian's security updates (label Debian-Security), so nothing can be said")
	}
	return nil
}

// offer is a version, and whether the security archive has it.
type offer struct {
	version  string
	security bool
}

// newest returns the newest version of a package that the sources have.
func (a *apt) newest(name string) (best offer, err error) {
	out, err := exec.Command("apt-cache", append(a.options, "madison", name)...).Output()
	if err != nil {
		return best, said(err, "apt-cache madison "+name)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(line, "|")
		if len(f) != 3 || strings.Contains(f[2], "Sources") {
			continue
		}
		o := offer{strings.TrimSpace(f[1]), strings.Contains(f[2], "-security")}
		switch {
		case best.version == "" || later(o.version, best.version):
			best = o
		case o.version == best.version:
			best.security = best.security || o.security
		}
	}
	if best.version == "" {
		return best, fmt.Errorf("Debian no longer has %s, or this machine's sources are of another release than the one that the binary was built on", name)
	}
	return best, nil
}

// later compares as dpkg does.
func later(a, b string) bool {
	return exec.Command("dpkg", "--compare-versions", a, "gt", b).Run() == nil
}
