package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	mit  = "Copyright (c) 2020 Ada Example\n\nPermission is hereby granted, free of charge, to any person obtaining a copy of this software"
	bsd2 = "Copyright 2019 Bob. All rights reserved.\nRedistribution and use in source and binary\nforms, with or without modification"
)

func TestReadGrant(t *testing.T) {
	for _, c := range []struct {
		text    string
		ids     []string
		holders []string
	}{
		{mit, []string{"MIT"}, []string{"Copyright (c) 2020 Ada Example"}},
		{bsd2, []string{"BSD-2-Clause"}, []string{"Copyright 2019 Bob. All rights reserved."}},
		{bsd2 + "\n * Neither the name of Bob", []string{"BSD-3-Clause"}, []string{"Copyright 2019 Bob. All rights reserved."}},
		{mit + "\n" + bsd2, []string{"MIT", "BSD-2-Clause"}, []string{"Copyright (c) 2020 Ada Example", "Copyright 2019 Bob. All rights reserved."}},
		{"                                 Apache License\n           Version 2.0, January 2004\n Copyright [yyyy] [name of copyright owner]", []string{"Apache-2.0"}, nil},
		{"Do what you want, but tell my mother.", nil, nil},
		{"GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", nil, nil},
		{"", nil, nil},
	} {
		g, err := readGrant(c.text)
		if (err == nil) != (c.ids != nil) || !slices.Equal(g.ids, c.ids) || err == nil && !slices.Equal(g.holders, c.holders) {
			t.Errorf("%.60q: %v %q, %v", c.text, g.ids, g.holders, err)
		}
	}
}

// TestCopyleftFound: a linked file under a licence that asks for more than its module's is not overlooked.
func TestCopyleftFound(t *testing.T) {
	dir := t.TempDir()
	for head, refused := range map[string]bool{
		"// Copyright 2020. Use of this source code is governed by a BSD-style licence.\npackage x":          false,
		"// This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0.\npackage x": true,
		"// SPDX-License-Identifier: AGPL-3.0-only\npackage x":                                               true,
		"/* GNU Lesser General Public License */":                                                            true,
	} {
		path := filepath.Join(dir, "x.go")
		if err := os.WriteFile(path, []byte(head), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := statedIn("example.org/x", []string{path}); (err != nil) != refused {
			t.Errorf("%.50q: %v", head, err)
		}
	}
	if g, err := statedIn("github.com/weppos/publicsuffix-go", []string{"/nowhere/rules.go"}); err != nil || g[0].ids[0] != "MPL-2.0" {
		t.Error(g, err)
	}
}

// parts are the libraries as they are, and a module.
func parts(t *testing.T) (modules, libraries []part) {
	t.Helper()
	libraries, err := linkedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	g, err := readGrant(mit)
	if err != nil {
		t.Fatal(err)
	}
	return []part{{name: "example.org/x", version: "v1.0.0", sum: "h1:AAAA", purl: "pkg:golang/example.org/x@v1.0.0", licences: g.ids, grants: []grant{g}}}, libraries
}

func TestCopyright(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	modules, libraries := parts(t)
	modules[0].grants[0].notice = "Ada thanks Bob."
	var out bytes.Buffer
	if err := writeCopyright(&out, modules, libraries); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Files: softhsm2/*", "License: BSD-2-Clause", "Files: openssl/*", "OpenSSL Project Authors", "License: Apache-2.0\n On Debian systems",
		"Files: libstdc++/*\nCopyright: Free Software Foundation, Inc.\nLicense: GPL-3+ with GCC-Runtime exception\n", " 1. Grant of Additional Permission.",
		"Files: glibc/*", "License: LGPL-2.1+", "Files: example.org/x/*\nCopyright: 2020 Ada Example\nLicense: Expat\n", " Ada thanks Bob.\n", "version v1.0.0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q", want)
		}
	}
	for line := range strings.Lines(out.String()) { // DEP-5: fields begin a line, and go on after a blank
		if line != "\n" && line[0] != ' ' && !strings.Contains(line, ": ") {
			t.Errorf("no field, and no continuation: %q", line)
		}
	}
}

func TestSBOM(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	modules, libraries := parts(t)
	binary := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(binary, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
	bill := func() string {
		var out bytes.Buffer
		if err := writeSBOM(&out, binary, "1.2.3+4.gabc", at, modules, libraries); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	first := bill()
	if bill() != first {
		t.Error("two bills of one binary differ")
	}
	var b bom
	if err := json.Unmarshal([]byte(first), &b); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range b.Components {
		names = append(names, c.Name)
	}
	if want := []string{"softhsm2", "openssl", "libstdc++", "libgcc", "glibc", "example.org/x"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	path := filepath.Join(t.TempDir(), "sbom.json")
	if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := readDebian(path)
	if err != nil || len(list) != len(libraries) {
		t.Fatal(list, err)
	}
	if err := os.WriteFile(binary, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if second := bill(); second == first {
		t.Error("the bills of two binaries are the same")
	}
}

func TestCheckWantsABill(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no JSON": "hello", "another object": `{"name":"x"}`, "nothing of Debian's": `{"components":[{"name":"x","properties":[{"name":"a","value":"b"}]}]}`,
	} {
		path := filepath.Join(t.TempDir(), "sbom.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readDebian(path); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
