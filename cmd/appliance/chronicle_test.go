package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// chronicle is what somebody else makes of the log: read line by line from the file, never with the appliance's own index.
type chronicle struct {
	dir   string // the state folder
	size  int64  // of the lines that were read, in bytes
	known []chain.Tree
	types map[string]int

	created   map[string]int64      // signature -> where its signature_created ends
	ends      map[string][]string   // signature -> the types of its ends
	signed    map[string]signedLine // prescription
	cancelled map[string]bool       // prescription
	issued    map[string]bool       // serial
	keys      map[string]string     // label of a key of the token -> the last event about it
	objects   map[string]string     // object -> the event that names it
	aside     map[string]int        // file -> how many lines report it
	starts    int64                 // lines system_startup
	last      string                // the type of the last line
}

// signedLine is what prescription_signed says, and where the line ends.
type signedLine struct {
	Signature string `json:"signature"`
	PDF       string `json:"pdf_sha256"`
	Core      string `json:"evidence_sha256"`
	end       int64
}

func newChronicle(dir string) *chronicle {
	return &chronicle{dir: dir, types: map[string]int{}, created: map[string]int64{}, ends: map[string][]string{}, signed: map[string]signedLine{},
		cancelled: map[string]bool{}, issued: map[string]bool{}, keys: map[string]string{}, objects: map[string]string{}, aside: map[string]int{}}
}

func (c *chronicle) path() string { return filepath.Join(c.dir, ledger.FileName) }

// read takes up the whole lines that are new, and verifies that what was read before is what the log still begins with. Nobody may be writing.
func (c *chronicle) read() error {
	all, err := os.ReadFile(c.path())
	if err != nil {
		return err
	}
	whole := all[:bytes.LastIndexByte(all, '\n')+1]
	report, err := ledger.Verify(bytes.NewReader(whole), c.known...)
	if err != nil {
		return fmt.Errorf("the chain: %w", err)
	}
	c.known = []chain.Tree{{Size: report.Size, Root: report.Root}}
	for _, line := range bytes.SplitAfter(whole[c.size:], []byte("\n")) {
		if len(line) == 0 {
			break
		}
		c.size += int64(len(line))
		if err := c.line(line); err != nil {
			return err
		}
	}
	return nil
}

func (c *chronicle) line(line []byte) error {
	var l struct {
		Entry struct {
			Type    string          `json:"event_type"`
			Details json.RawMessage `json:"details"`
		} `json:"entry"`
	}
	var d struct {
		signedLine
		Prescription string `json:"prescription_id"`
		Serial       string `json:"serial"`
		Label        string `json:"label"`
		File         string `json:"file"`
	}
	var any map[string]any
	if err := errors.Join(json.Unmarshal(line, &l)); err != nil {
		return err
	}
	if err := errors.Join(json.Unmarshal(l.Entry.Details, &d), json.Unmarshal(l.Entry.Details, &any)); err != nil {
		return err
	}
	for key, value := range any {
		if id, ok := value.(string); ok && (key == "object" || strings.HasSuffix(key, "_object")) {
			c.objects[id] = l.Entry.Type
		}
	}
	c.types[l.Entry.Type]++
	c.last = l.Entry.Type
	d.end = c.size
	switch t := l.Entry.Type; t {
	case "signature_created":
		c.created[d.Signature] = c.size
	case "prescription_signed":
		if _, twice := c.signed[d.Prescription]; twice {
			return fmt.Errorf("prescription %s was signed twice", d.Prescription)
		}
		c.signed[d.Prescription] = d.signedLine
		c.ends[d.Signature] = append(c.ends[d.Signature], t)
	case "document_signed", "signing_incomplete":
		c.ends[d.Signature] = append(c.ends[d.Signature], t)
	case "prescription_cancelled":
		if c.cancelled[d.Prescription] {
			return fmt.Errorf("prescription %s was cancelled twice", d.Prescription)
		}
		c.cancelled[d.Prescription] = true
	case "certificate_issued":
		c.issued[d.Serial] = true
	case "key_intended", "key_created", "key_unfinished", "key_destroyed":
		c.keys[d.Label] = t
	case ledger.TypeSetAside:
		c.aside[d.File]++
	}
	return nil
}

// consistent holds the log against itself and against what is on the disk beside it, after a graceful stop.
func (c *chronicle) consistent(t *testing.T) {
	t.Helper()
	for signature, where := range c.created {
		if ends := c.ends[signature]; len(ends) != 1 {
			t.Errorf("signature %s, before byte %d, has the ends %q", signature, where, ends)
		}
	}
	for signature, ends := range c.ends {
		if _, ok := c.created[signature]; !ok {
			t.Errorf("signature %s has the ends %q and no beginning", signature, ends)
		}
	}
	for id, event := range c.objects {
		if _, err := os.Stat(filepath.Join(c.dir, "objects", id[:2], id)); err != nil {
			t.Errorf("%s names an object that is missing: %v", event, err)
		}
	}
	c.tidy(t)
}

// tidy looks for what a crash may leave for a moment only.
func (c *chronicle) tidy(t *testing.T) {
	t.Helper()
	torn := 0
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		rel, _ := filepath.Rel(c.dir, path)
		unfinished := strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".new") || filepath.Dir(rel) == filepath.Join("objects", "tmp") ||
			slices.Contains([]string{filepath.Join("token", "intent"), filepath.Join("token", "new")}, rel)
		if unfinished {
			t.Errorf("%s is left", rel)
		}
		if strings.Contains(name, ".torn-") {
			torn++
			if c.aside[name] != 1 {
				t.Errorf("%s is reported by %d lines", name, c.aside[name])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if torn != len(c.aside) {
		t.Errorf("%d torn tails are there, and the log tells of %d", torn, len(c.aside))
	}
}
