package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// writeCopyright writes Debian's machine-readable copyright file: one paragraph for each part and each licence text in it.
func writeCopyright(out io.Writer, modules, libraries []part) error {
	w := bufio.NewWriter(out)
	fmt.Fprint(w, `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: aes-appliance
Source: https://github.com/veripath/aes-appliance
Comment: /usr/bin/appliance is one static binary. What is linked into it has a
 paragraph of its own here, under the name of its Go module or library.

Files: *
Copyright: 2026 VeriPath
License: not-chosen-yet
 No licence has been granted yet. All rights reserved.
`)
	for _, p := range slices.Concat(libraries, modules) {
		for _, g := range p.grants {
			p.paragraph(w, g)
		}
	}
	return w.Flush()
}

func (p part) paragraph(w io.Writer, g grant) {
	holders := slices.Clone(g.holders)
	for i, h := range holders {
		holders[i] = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(h, "Copyright"), " (c)"))
	}
	if len(holders) == 0 {
		holders = []string{"the authors of " + p.name}
	}
	fmt.Fprintf(w, "\nFiles: %s/*\nCopyright: %s\nLicense: %s\n", strings.ReplaceAll(p.name, " ", "-"), strings.Join(holders, "\n           "), shortName(g.ids))
	if slices.Equal(g.ids, []string{"Apache-2.0"}) {
		fmt.Fprint(w, " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n")
	} else {
		indented(w, withoutApache(g.text))
	}
	if g.notice != "" {
		indented(w, "\nIts NOTICE:\n\n"+g.notice)
	}
	fmt.Fprintf(w, "Comment: linked in, version %s\n", p.version)
}

// indented writes text as the lines of a field go on.
func indented(w io.Writer, text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \t\n\f"); line == "" {
			line = "."
		}
		fmt.Fprintf(w, " %s\n", line)
	}
}

var apache = regexp.MustCompile(`(?s)\n *Apache License\s*\n\s*Version 2\.0, January 2004.*?END OF TERMS AND CONDITIONS`)

// withoutApache leaves out of a text that holds several licences the one that every Debian system has.
func withoutApache(text string) string {
	return apache.ReplaceAllString(text, "\nApache License 2.0: /usr/share/common-licenses/Apache-2.0")
}

// shortName writes SPDX's identifiers as Debian does.
func shortName(ids []string) string {
	return strings.NewReplacer("GPL-3.0-or-later WITH GCC-exception-3.1", "GPL-3+ with GCC-Runtime exception", "LGPL-2.1-or-later", "LGPL-2.1+", "MIT", "Expat").
		Replace(strings.Join(ids, " and "))
}
