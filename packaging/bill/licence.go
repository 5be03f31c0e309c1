package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// grant is one licence text: who grants it, and what it is.
type grant struct {
	ids     []string // SPDX; several when the text holds several
	holders []string
	text    string
	notice  string // Apache-2.0 §4(d): goes along
}

// marks tell licences by words that no other has. The first of each group that matches is the one.
func marks() [][]struct{ id, words string } {
	return [][]struct{ id, words string }{
		{{"Apache-2.0", "apache license version 2.0, january 2004"}},
		{{"OFL-1.1", "sil open font license version 1.1"}},
		{{"Bitstream-Vera", "bitstream vera is a trademark"}},
		{{"MPL-2.0", "mozilla public license version 2.0"}},
		{{"CC0-1.0", "cc0 1.0 universal"}},
		{{"ISC", "permission to use, copy, modify, and/or distribute this software for any purpose"}, {"ISC", "permission to use, copy, modify, and distribute this software for any purpose"}},
		{{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy of this software"}},
		{{"BSD-3-Clause", "neither the name"}, {"BSD-2-Clause", "redistribution and use in source and binary forms"}},
	}
}

var (
	blanks = regexp.MustCompile(`[\s*#/"]+`)
	holder = regexp.MustCompile(`(?i)^\W*((digitized data )?copyright\b.*([12]\d{3}|\(c\)|©).*)$`)
)

// readGrant tells which licences a text is of and who holds the rights. A text of no known licence is an error: somebody must read it.
func readGrant(text string) (grant, error) {
	g := grant{text: strings.TrimSpace(strings.ReplaceAll(text, "\r", ""))}
	words := strings.ToLower(blanks.ReplaceAllString(text, " "))
	for _, group := range marks() {
		for _, m := range group {
			if strings.Contains(words, m.words) {
				g.ids = append(g.ids, m.id)
				break
			}
		}
	}
	if len(g.ids) == 0 {
		return g, errors.New("of no licence that is known here: read it, then teach bill to know it")
	}
	for line := range strings.Lines(g.text) {
		if m := holder.FindStringSubmatch(strings.TrimSpace(line)); m != nil && !strings.Contains(line, "yyyy") {
			g.holders = append(g.holders, strings.TrimSpace(m[1]))
		}
	}
	return g, nil
}

// identifiers returns the licences of several texts, each once.
func identifiers(grants []grant) (ids []string) {
	for _, g := range grants {
		for _, id := range g.ids {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
