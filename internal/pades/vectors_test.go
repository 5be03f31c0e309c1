package pades

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"
)

// judged is when two other validators judged the vectors: testdata/vectors/README.md.
var judged = time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)

func readVector(t testing.TB, name string) ([]byte, []*x509.Certificate) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/" + name + ".pdf")
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := os.ReadFile("testdata/vectors/" + name + ".root.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(anchor)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return data, []*x509.Certificate{root}
}

func validate(t testing.TB, data []byte, roots []*x509.Certificate, at time.Time) *Report {
	t.Helper()
	r, err := Validate(context.Background(), data, ValidateOptions{Roots: roots, At: at})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The verdicts of EU DSS 5.13 and pyHanko 0.36.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		name       string
		indication Indication
		sub        SubIndication
		level      Level
		warning    string
	}{
		{"lta-two-tier", TotalPassed, "", LevelLTA, ""},
		{"lta-renewed-three-tier", TotalPassed, "", LevelLTA, ""},
		{"lta-renewed", TotalPassed, "", LevelLTA, ""},
		{"lta-rsa3072", TotalPassed, "", LevelLTA, ""},
		{"lta-certified-p1", TotalPassed, "", LevelLTA, ""},
		{"lt-only", TotalPassed, "", LevelLT, ""},
		{"no-root-crl", Indeterminate, TryLater, LevelT, ""},
		{"lta-tricky-content", TotalPassed, "", LevelLTA, "JavaScript; hidden layer; attached"},
	} {
		t.Run(v.name, func(t *testing.T) {
			data, roots := readVector(t, v.name)
			r := validate(t, data, roots, judged)
			t.Log("\n" + r.Text())
			s := r.Signatures[0]
			if s.Indication != v.indication || s.SubIndication != v.sub || s.Level != v.level {
				t.Errorf("%s/%s at level %s, want %s/%s at %s", s.Indication, s.SubIndication, s.Level, v.indication, v.sub, v.level)
			}
			if good := v.indication == TotalPassed; good != r.Good() || good != (r.ExitCode == 0) {
				t.Errorf("verdict %s, exit code %d", r.Verdict, r.ExitCode)
			}
			if s.Modified {
				t.Error("said to be modified")
			}
			warnings := strings.Join(r.Warnings, "; ")
			for _, w := range strings.Split(v.warning, "; ") {
				if !strings.Contains(warnings, w) {
					t.Errorf("warnings %q do not name %q", warnings, w)
				}
			}
			if v.warning == "" && warnings != "" {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// Long after the signer's certificate has expired the vectors are still valid, and not once their time stamps' certificates have.
func TestVectorsLater(t *testing.T) {
	for _, name := range []string{"lta-two-tier", "lta-renewed-three-tier", "lta-renewed", "lta-rsa3072", "lta-certified-p1"} {
		data, roots := readVector(t, name)
		expect(t, validate(t, data, roots, judged.Add(3*year)), passedLTA)
		expect(t, validate(t, data, roots, judged.Add(6*year)), verdict{Indeterminate, OutOfBoundsNoPOE, LevelLTA, 2})
	}
	data, roots := readVector(t, "lt-only")
	expect(t, validate(t, data, roots, judged.Add(3*year)), verdict{Indeterminate, OutOfBoundsNoPOE, LevelLT, 2})
}
