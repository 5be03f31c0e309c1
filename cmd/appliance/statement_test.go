package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/statement"
)

// TestStatement: the templates are filled in from a configuration made of the example, into a file that appears whole or not at all.
func TestStatement(t *testing.T) {
	dir := t.TempDir()
	cfg := filepath.Join(dir, "appliance.toml")
	text := config.Example()
	for _, s := range config.Document().Sections {
		for _, k := range s.Keys {
			if k.Mandatory {
				text = strings.ReplaceAll(text, "\n#"+k.Name+" = ", "\n"+k.Name+" = ")
			}
		}
	}
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := func(template, out string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := Main(t.Context(), []string{"config", "statement", template, "--config", cfg, "--out", out}, strings.NewReader(""), &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	for _, name := range []string{"cps.md", "tsa-policy.md"} {
		template := filepath.Join("..", "..", "docs", name)
		code, printed, said := fill(template, "-")
		if code != exitGood || !strings.Contains(printed, "VeriPath Ltd") || strings.Contains(printed, "{{") || strings.Contains(printed, "<no value>") {
			t.Fatalf("%s: %d %s\n%s", name, code, said, printed)
		}
		out := filepath.Join(dir, name)
		if code, _, said := fill(template, out); code != exitGood {
			t.Fatal(said)
		}
		if data, err := os.ReadFile(out); err != nil || string(data) != printed {
			t.Errorf("%s: the file is not what is printed: %v", name, err)
		}
	}
	bad := filepath.Join(dir, "bad.md")
	if err := os.WriteFile(bad, []byte("one\n{{.Nothing}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.md")
	if code, _, said := fill(bad, out); code != exitBad || !strings.Contains(said, "error: bad.md cannot be filled in") || !strings.Contains(said, "bad.md:2") {
		t.Errorf("%d %s", code, said)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written")
	}
	if code, _, said := fill(filepath.Join(dir, "none.md"), out); code != exitBad || !strings.Contains(said, "cannot read the template") {
		t.Errorf("%d %s", code, said)
	}
	if code := Main(t.Context(), []string{"config", "statement"}, strings.NewReader(""), io.Discard, io.Discard); code != exitUsage {
		t.Error(code)
	}
}

// TestStatementIsWhatTheDemoIssued holds the certificates of a demo, as its own verbs export them, against the rows of its practice statement, field by field.
func TestStatementIsWhatTheDemoIssued(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	run(t, "demo", "--dir", dir)
	cfg := filepath.Join(dir, "appliance.toml")
	cps := run(t, "--config", cfg, "config", "statement", filepath.Join("..", "..", "docs", "cps.md"))
	rows := func(kind string) (all [][]string) {
		for line := range strings.Lines(cps) {
			if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | "); cells[0] == kind {
				all = append(all, cells)
			}
		}
		return all
	}
	var listed []struct {
		Serial string
		Type   string `json:"cert_type"`
		Name   string `json:"common_name"`
	}
	if err := json.Unmarshal([]byte(run(t, "--config", cfg, "cert", "list", "--json")), &listed); err != nil || len(listed) < 9 {
		t.Fatalf("%d certificates: %v", len(listed), err)
	}
	yes := map[bool]string{true: "yes", false: "–"}
	for _, c := range listed {
		out := filepath.Join(dir, c.Serial+".pem")
		run(t, "--config", cfg, "cert", "export", c.Serial, "--out", out)
		chain, err := readCertificates(out)
		if err != nil {
			t.Fatal(err)
		}
		crt, stated := chain[0], rows(c.Type)
		life := stated[len(stated)-1] // of section 4
		var policies []string
		for _, oid := range crt.PolicyIdentifiers {
			policies = append(policies, oid.String())
		}
		if c.Type != "root" && stated[0][1] != strings.Join(policies, ", ") {
			t.Errorf("%s is under %q, and said to be under %q", c.Name, policies, stated[0][1])
		}
		if crt.IsCA && stated[len(stated)-2][1] != crt.Subject.CommonName {
			t.Errorf("%q is said to be called %q", crt.Subject.CommonName, stated[len(stated)-2][1])
		}
		// RFC 5280 §4.1.2.5: the last second counts. The root is the first: nothing is before it.
		if lasts := statement.Period(crt.NotAfter.Add(time.Second).Sub(crt.NotBefore.Add(cert.Backdating))); lasts != life[1] {
			t.Errorf("%s lasts %s, and is said to last %s", c.Name, lasts, life[1])
		}
		if got, want := []string{yes[len(crt.CRLDistributionPoints) == 1], yes[len(crt.OCSPServer) == 1]}, life[len(life)-2:]; !slices.Equal(got, want) {
			t.Errorf("%s has lists and OCSP %q, and is said to have %q", c.Name, got, want)
		}
		usage := map[x509.KeyUsage]string{x509.KeyUsageCertSign | x509.KeyUsageCRLSign: "keyCertSign, cRLSign", x509.KeyUsageContentCommitment: "nonRepudiation", x509.KeyUsageDigitalSignature: "digitalSignature"}
		if usage[crt.KeyUsage] != life[5] || life[5] == "" {
			t.Errorf("%s is for %b, and said to be for %q", c.Name, crt.KeyUsage, life[5])
		}
	}
}
