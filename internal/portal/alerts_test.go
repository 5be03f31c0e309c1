package portal

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// healthy is what a Prometheus has of an appliance that is in order, a value a minute.
const healthy = `
up{instance="a",job="aes-appliance"} 1x120
aes_signer_ready{instance="a"} 1x120
aes_clock_proven{instance="a"} 1x120
aes_clock_max_error_seconds{instance="a"} 0.003x120
aes_log_lines{instance="a"} 0+50x120
aes_log_verified_timestamp_seconds{instance="a"} 0x120
aes_log_damaged{instance="a"} 0x120
aes_backup_state{instance="a",state="sync"} 1x120
aes_backup_state{instance="a",state="none"} 0x120
aes_backup_state{instance="a",state="mismatch"} 0x120
aes_backup_cosigned_lines{instance="a"} 0+50x120
aes_backup_cosigned_timestamp_seconds{instance="a"} 0+60x120
aes_log_witnesses_contradicting{instance="a"} 0x120
aes_log_witnessed_timestamp_seconds{instance="a"} 0+60x120
aes_portal_request_seconds_bucket{instance="a",route="POST /api/sign",status="200",le="1"} 0+60x120
aes_portal_request_seconds_bucket{instance="a",route="POST /api/sign",status="200",le="2.5"} 0+60x120
aes_portal_request_seconds_bucket{instance="a",route="POST /api/sign",status="200",le="+Inf"} 0+60x120
aes_portal_request_seconds_count{instance="a",route="POST /api/sign",status="200"} 0+60x120
aes_portal_request_seconds_count{instance="a",route="POST /api/sign",status="401"} 0+1x120
aes_portal_request_seconds_count{instance="a",route="POST /tsa",status="200"} 0+60x120
aes_portal_signer_seconds_count{instance="a",op="sign",error=""} 0+60x120
aes_portal_egress_refused_total{instance="a",for="realm"} 0x120
aes_doctor_findings{instance="a",verdict="warn"} 2x120
aes_doctor_findings{instance="a",verdict="bad"} 0x120
aes_doctor_examined_timestamp_seconds{instance="a"} 0x120
aes_portal_tls_certificate_expires_seconds{instance="a"} 5000000x120`

// TestAlertsFire has Prometheus run each rule over an appliance that is in order, where it is silent, and over one of which a single thing is not.
func TestAlertsFire(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed: packaging/deps.sh test")
		}
		t.Skip("promtool is not installed: packaging/deps.sh test")
	}
	rules, err := filepath.Abs(filepath.Join("..", "..", "packaging", "monitoring", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	const a = `instance: a`
	broken := map[string]struct{ series, labels string }{ // series: what replaces the healthy ones of that name and those labels, _ for none
		"ApplianceDown":      {`up{instance="a",job="aes-appliance"} 0x120`, a + `, job: aes-appliance`},
		"SignerUnreachable":  {`aes_signer_ready{instance="a"} _x120`, a + `, job: aes-appliance`},
		"SigningStopped":     {`aes_signer_ready{instance="a"} 0x120`, a},
		"ClockNotProven":     {`aes_clock_proven{instance="a"} 0x120`, a},
		"ClockDrifting":      {`aes_clock_max_error_seconds{instance="a"} 0.15x120`, a},
		"LogDamaged":         {`aes_log_damaged{instance="a"} 1x120`, a},
		"LogNotVerified":     {`aes_log_verified_timestamp_seconds{instance="a"} -130000x120`, a},
		"BackupMismatch":     {`aes_backup_state{instance="a",state="mismatch"} 1x120`, a + `, state: mismatch`},
		"WitnessContradicts": {`aes_log_witnesses_contradicting{instance="a"} 1x120`, a},
		"WitnessesSilent":    {`aes_log_witnessed_timestamp_seconds{instance="a"} -10000x120`, a},
		"BackupSilent":       {`aes_backup_cosigned_timestamp_seconds{instance="a"} 0x120`, a},
		"BackupLagging":      {`aes_backup_cosigned_lines{instance="a"} 0x120`, a},
		"NoBackup":           {`aes_backup_state{instance="a",state="none"} 1x120`, a + `, state: none`},
		"DoctorFindsBad":     {`aes_doctor_findings{instance="a",verdict="bad"} 1x120`, a + `, verdict: bad`},
		"DoctorSilent":       {`aes_doctor_examined_timestamp_seconds{instance="a"} -130000x120`, a},
		"CertificateEnding":  {`aes_portal_tls_certificate_expires_seconds{instance="a"} 86400x120`, a},
		"CertificateEnded":   {`aes_portal_tls_certificate_expires_seconds{instance="a"} 1x120`, a},
		"SigningSlow":        {`aes_portal_request_seconds_bucket{instance="a",route="POST /api/sign",status="200",le="1"} 0+30x120`, a},
		"SigningFails":       {`aes_portal_request_seconds_count{instance="a",route="POST /api/sign",status="503"} 0+6x120`, a},
		"SigningRefused":     {`aes_portal_request_seconds_count{instance="a",route="POST /api/sign",status="401"} 0+30x120`, a},
		"InternalErrors":     {`aes_portal_signer_seconds_count{instance="a",op="sign",error="internal"} _x75 1x45`, a + `, op: sign`},
		"EgressRefused":      {`aes_portal_egress_refused_total{instance="a",for="realm"} 0x75 1x45`, a + `, for: realm`},
		"TimeStampsFail":     {`aes_portal_request_seconds_count{instance="a",route="POST /tsa",status="503"} 0+6x120`, a},
	}
	var out strings.Builder
	fmt.Fprintf(&out, "rule_files: [%s]\nevaluation_interval: 1m\ntests:\n", rules)
	found := regexp.MustCompile(`(?s)- alert: (\w+)\n.*?severity: (\w+)\n.*?summary: (".*?")\n\s+runbook: (".*?")\n`).FindAllStringSubmatch(string(text), -1)
	alerts := ""
	for _, m := range found {
		b, ok := broken[m[1]]
		if !ok {
			t.Errorf("nothing here makes %s fire", m[1])
		}
		alerts += fmt.Sprintf("      - {eval_time: 80m, alertname: %s, exp_alerts: []}\n", m[1])
		writeTest(&out, m[1], b.series, fmt.Sprintf("      - eval_time: 80m\n        alertname: %s\n        exp_alerts:\n          - exp_labels: {severity: %s, %s}\n            exp_annotations: {summary: %s, runbook: %s}\n",
			m[1], m[2], b.labels, m[3], m[4]))
	}
	if len(found) != len(broken) || len(found) != strings.Count(string(text), "- alert:") {
		t.Errorf("%d rules were read, and %d are here", len(found), len(broken))
	}
	writeTest(&out, "in order", "", alerts)
	neverVerified(&out, found[slices.IndexFunc(found, func(m []string) bool { return m[1] == "LogNotVerified" })])
	path := filepath.Join(t.TempDir(), "alerts.yml")
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("promtool", "test", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// neverVerified adds tests of a log whose verification has no time at all: of a new appliance, of one that was started anew, and of one of which both have lasted too long.
func neverVerified(w io.Writer, rule []string) {
	for name, one := range map[string]struct {
		verified string // of each minute
		silent   string
		fires    string
	}{
		"never":               {"_x3000", "35h", "37h"},
		"not since a restart": {"100x600 _x2400", "35h", "37h"},
		"verified each day":   {"0x1400 _x60 90000x1400", "49h", ""},
	} {
		fmt.Fprintf(w, "  - name: LogNotVerified, %s\n    interval: 1m\n    input_series:\n      - {series: 'aes_log_lines{instance=\"a\"}', values: 0+50x3000}\n"+
			"      - {series: 'aes_log_verified_timestamp_seconds{instance=\"a\"}', values: %s}\n    alert_rule_test:\n      - {eval_time: %s, alertname: %s, exp_alerts: []}\n", name, one.verified, one.silent, rule[1])
		if one.fires != "" {
			fmt.Fprintf(w, "      - eval_time: %s\n        alertname: %s\n        exp_alerts:\n          - exp_labels: {severity: %s, instance: a}\n            exp_annotations: {summary: %s, runbook: %s}\n",
				one.fires, rule[1], rule[2], rule[3], rule[4])
		}
	}
}

// writeTest adds a test of promtool's over the healthy series, of which one is another.
func writeTest(out *strings.Builder, name, other, alerts string) {
	fmt.Fprintf(out, "  - name: %s\n    interval: 1m\n    input_series:\n", name)
	replaced, values, _ := strings.Cut(other, "} ")
	for line := range strings.Lines(strings.TrimSpace(healthy)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if series == replaced {
			continue
		}
		fmt.Fprintf(out, "      - {series: '%s}', values: '%s'}\n", series, value)
	}
	if other != "" {
		fmt.Fprintf(out, "      - {series: '%s}', values: '%s'}\n", replaced, values)
	}
	fmt.Fprintf(out, "    alert_rule_test:\n%s", alerts)
}
