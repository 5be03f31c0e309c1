package statement

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
)

const minimal = `
[pki]
base_url = "http://pki.clinic.example"
name = "Example"
organisation = "Example Signing Ltd"
organisation_id = "NTRGB-01234567"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.7"
%s
[token]
pin_file = "/run/pin"
%s
[tsa]
%s
[clock]
%s
`

var at = time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)

func load(t *testing.T, pki, token, tsa, clock string) config.Config {
	t.Helper()
	cfg, err := config.Parse(fmt.Appendf(nil, minimal, pki, token, tsa, clock))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func templates(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range []string{"cps.md", "tsa-policy.md"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(data)
	}
	return all
}

func filled(t *testing.T, cfg config.Config) map[string]string {
	t.Helper()
	v, err := Of(cfg, "1.2.3", at)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, text := range templates(t) {
		var b bytes.Buffer
		if err := Fill(&b, name, text, v); err != nil {
			t.Fatal(err)
		}
		out[name] = b.String()
	}
	return out
}

// TestNoValueInProse: the templates' own words hold no period, key, algorithm, identifier or address; all of these come from the values.
func TestNoValueInProse(t *testing.T) {
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	value := regexp.MustCompile(`\b[0-2](\.[0-9]+){3,}\b|\b(P-[0-9]+|RSA|ECDSA|SHA-?[0-9]+|Ed25519)\b|(?i)\b[0-9]+(\.[0-9]+)? ?(days?|years?|hours?|months?|minutes?|seconds?|m?s|bits?)\b|https?://`)
	for name, text := range templates(t) {
		if found := value.FindString(action.ReplaceAllString(text, "")); found != "" {
			t.Errorf("%s states %q itself", name, found)
		}
		if !strings.Contains(text, "{{.") {
			t.Errorf("%s names no value: the test looks in the wrong place", name)
		}
	}
}

// TestValuesFollowTheConfiguration: what is configured otherwise stands otherwise in the statements.
func TestValuesFollowTheConfiguration(t *testing.T) {
	before := filled(t, load(t, "", "", "", ""))
	for _, c := range []struct {
		file                   string
		pki, token, tsa, clock string
		was, is                string
	}{
		{file: "cps.md", pki: `clinician_key = "rsa-3072"`, was: "Clinicians: ECDSA P-256", is: "Clinicians: RSA 3072"},
		{file: "cps.md", token: `module = "/usr/lib/vendor.so"`, was: "Keys are in SoftHSM2", is: "Keys are in the PKCS#11 module /usr/lib/vendor.so"},
		{file: "tsa-policy.md", tsa: `policy = "1.3.6.1.4.1.32473.7.9.9"`, was: "| policy in every token | 1.3.6.1.4.1.32473.7.1.100 |", is: "| policy in every token | 1.3.6.1.4.1.32473.7.9.9 |"},
		{file: "tsa-policy.md", clock: `max_error = "50ms"`, was: "bound its error to 200ms", is: "bound its error to 50ms"},
	} {
		after := filled(t, load(t, c.pki, c.token, c.tsa, c.clock))
		if !strings.Contains(before[c.file], c.was) || strings.Contains(before[c.file], c.is) || !strings.Contains(after[c.file], c.is) || strings.Contains(after[c.file], c.was) {
			t.Errorf("%s: %q does not become %q", c.file, c.was, c.is)
		}
	}
	for _, want := range []string{"Example Signing Ltd", "NTRGB-01234567", "http://pki.clinic.example/ocsp", "1.3.6.1.4.1.32473.7", "aes-appliance 1.2.3", "2026-11-22"} {
		for name, text := range before {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not name %s", name, want)
			}
		}
	}
}

// TestStatementIsWhatIsIssued: a certificate of each kind, issued as the appliance does, is what the statement's row says.
func TestStatementIsWhatIsIssued(t *testing.T) {
	cfg := load(t, "", "", "", "")
	text := filled(t, cfg)["cps.md"]
	profiles, err := cert.NewProfiles(cert.Settings{Name: cfg.PKI.Name, Organization: cfg.PKI.Organisation, OrganizationID: cfg.PKI.OrganisationID, Country: cfg.PKI.Country,
		BaseURL: cfg.PKI.BaseURL, PolicyArc: cfg.PKI.PolicyArc.String()})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := profiles.For(cert.Root).Template(cert.Request{PublicKey: key.Public()}, nil, at, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	linter, err := cert.NewLinter(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := linter.Sign(rand.Reader, profiles.For(cert.Root), root, nil, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range append(cert.IssuingCAs(), cert.Root) {
		issued := signed
		if kind != cert.Root {
			if issued, err = profiles.For(kind).Template(cert.Request{PublicKey: key.Public()}, signed, at, rand.Reader); err != nil {
				t.Fatal(err)
			}
		}
		row := regexp.MustCompile(`(?m)^\| ` + string(kind) + ` \| (.*? years?) \| .*$`).FindStringSubmatch(text)
		if row == nil {
			t.Fatalf("no row of validity for %s", kind)
		}
		// RFC 5280 §4.1.2.5: the last second counts.
		if life := Period(issued.NotAfter.Add(time.Second).Sub(at)); life != row[1] {
			t.Errorf("%s: issued for %s, stated %s", kind, life, row[1])
		}
		if hasCRL := strings.HasSuffix(row[0], "| yes | – |"); hasCRL != (len(issued.CRLDistributionPoints) > 0) {
			t.Errorf("%s: %s", kind, row[0])
		}
		for _, oid := range issued.PolicyIdentifiers {
			if !strings.Contains(text, oid.String()) {
				t.Errorf("%s is issued under %s, which is not stated", kind, oid)
			}
		}
	}
	if !strings.Contains(text, "Root: ECDSA P-384.") || !strings.Contains(text, "| "+profiles.CAName(cert.TimeCA)+" |") {
		t.Error("the root's key or a CA's name is not stated")
	}
}

// TestStatementOfADemo: names and policies are those that a demo's certificates have, and nobody takes it for real.
func TestStatementOfADemo(t *testing.T) {
	real, demo := filled(t, load(t, "", "", "", "")), filled(t, load(t, "", "", "", `mode = "unproven"`))
	for name, want := range map[string][]string{
		"cps.md":        {"A demonstration's.", "| time-ca | DEMO ONLY Example Time CA |", "| clinician | 1.3.6.1.4.1.32473.7.0.1 |"},
		"tsa-policy.md": {"A demonstration's.", "| policy in every token | 1.3.6.1.4.1.32473.7.0.100 |", "evidence of no time"},
	} {
		for _, text := range want {
			if !strings.Contains(demo[name], text) || strings.Contains(real[name], text) {
				t.Errorf("%s: %q", name, text)
			}
		}
		if strings.Contains(demo[name], ".7.1.") {
			t.Errorf("%s names a policy of real certificates", name)
		}
	}
}

func TestFillRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no such value": "{{.Nothing}}", "no such kind": `{{with .Certificate "pope"}}{{.}}{{end}}`, "open": "{{.Name", "no function": "{{env}}", "no method": "{{.Name.Foo}}",
	} {
		var b bytes.Buffer
		err := Fill(&b, "x.md", text, Values{Name: "x"})
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Invalid || f.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPeriod(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		365 * day: "1 year", 20 * 365 * day: "20 years", 400 * day: "400 days", 36 * time.Hour: "36 hours", time.Second: "1 second", 90 * time.Second: "90 seconds", 200 * time.Millisecond: "200ms",
	} {
		if got := Period(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
