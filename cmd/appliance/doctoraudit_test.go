package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/doctor"
)

// TestAuditReport: openssl alone judges the signed report, finds any change of it, and its line in the log names exactly these bytes.
func TestAuditReport(t *testing.T) {
	e := newGround(t, "")
	e.signer = start(t, "--config", e.config, "signer")
	dir := filepath.Join(e.dir, "audit")
	out, err := program(t, "--config", e.config, "doctor", "--audit", dir).CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("%v: %s", err, out)
	}
	report, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	openssl := func(args ...string) (string, error) {
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	verify := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", "report.json.p7s", "-content", "report.json", "-CAfile", "root.pem", "-out", os.DevNull}
	stamp := []string{"ts", "-verify", "-data", "report.json", "-in", "report.json.tsr", "-CAfile", "root.pem"}
	for _, args := range [][]string{verify, stamp} {
		if out, err := openssl(args...); err != nil {
			t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		if !strings.Contains(auditReadmeText, "openssl "+strings.ReplaceAll(strings.Join(args, " "), os.DevNull, "/dev/null")) {
			t.Errorf("the README has other words than %q", args)
		}
	}
	checkAttested(t, report)
	sum := sha256.Sum256(report)
	named := func(line string) bool {
		return strings.Contains(line, `"audit_report_signed"`) && strings.Contains(line, hex.EncodeToString(sum[:]))
	}
	if !slices.ContainsFunc(e.lines(t), named) {
		t.Error("no line of the log names the report")
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), bytes.Replace(report, []byte("not met"), []byte("met    "), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{verify, stamp} {
		if out, err := openssl(args...); err == nil {
			t.Errorf("a changed report is good to openssl %s: %s", args[0], out)
		}
	}
	before := len(e.lines(t))
	for dir, want := range map[string]string{dir: "is there already", filepath.Join(e.dir, "none", "audit"): "cannot write the report"} {
		if out, err := program(t, "--config", e.config, "doctor", "--audit", dir).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v %s", dir, err, out)
		}
	}
	if after := len(e.lines(t)); after != before {
		t.Errorf("reports that cannot be written left %d lines", after-before)
	}
}

// checkAttested looks at what the report says of what keys in software cannot be.
func checkAttested(t *testing.T, report []byte) {
	t.Helper()
	var attested struct {
		Schema   string       `json:"schema"`
		Examined doctor.Audit `json:"examined"`
	}
	if err := json.Unmarshal(report, &attested); err != nil || attested.Schema != "aes-audit/1" || attested.Examined.Schema != doctor.AuditSchema {
		t.Fatalf("%v: %.200s", err, report)
	}
	devices := 0
	for _, c := range attested.Examined.Clauses {
		if strings.Contains(c.Requirement, "FIPS 140-3") {
			devices++
			if c.Result != doctor.NotMet {
				t.Errorf("%s %s is said to be %s with keys in software", c.Framework, c.Reference, c.Result)
			}
		}
	}
	if devices != 3 {
		t.Errorf("%d clauses ask for a device", devices)
	}
}

// TestAuditClauses: what no check bears on is not judged, what asks for more than checks see is met in part at best, what is bad is not met, and every check
// that a clause names exists.
func TestAuditClauses(t *testing.T) {
	var r doctor.Report
	checks := map[string]bool{}
	for _, c := range doctor.Checks() {
		checks[c.Name] = true
		r.Findings = append(r.Findings, doctor.Finding{Check: c.Name, Verdict: doctor.OK})
	}
	for _, c := range doctor.NewAudit(r, true).Clauses {
		want := doctor.Met
		switch {
		case strings.Contains(c.Requirement, "FIPS 140-3"):
			want = doctor.NotMet
		case len(c.Checks) == 0:
			want = doctor.NotJudged
		case c.Rest != "":
			want = doctor.InPart
		}
		if c.Result != want {
			t.Errorf("%s %s: %s, want %s", c.Framework, c.Reference, c.Result, want)
		}
		for _, check := range c.Checks {
			if !checks[check] {
				t.Errorf("%s %s names %s, which is no check", c.Framework, c.Reference, check)
			}
		}
	}
	for v, want := range map[doctor.Verdict]doctor.Result{doctor.Warn: doctor.WithRemarks, doctor.Unknown: doctor.CouldNotTell, doctor.Bad: doctor.NotMet} {
		for i := range r.Findings {
			r.Findings[i].Verdict = doctor.OK
			if r.Findings[i].Check == "clock.sources" {
				r.Findings[i].Verdict = v
			}
		}
		for _, c := range doctor.NewAudit(r, true).Clauses {
			if slices.Contains(c.Checks, "clock.sources") && c.Result != want {
				t.Errorf("with clock.sources %s, %s %s is %s", v, c.Framework, c.Reference, c.Result)
			}
		}
	}
	for _, c := range doctor.NewAudit(doctor.Report{}, true).Clauses {
		if len(c.Checks) > 0 && c.Result != doctor.CouldNotTell {
			t.Errorf("with nothing examined, %s %s is %s", c.Framework, c.Reference, c.Result)
		}
	}
}
