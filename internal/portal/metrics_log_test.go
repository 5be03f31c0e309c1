package portal

import (
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// TestMetricsOfTheLog: what the verifications of the log found can have an alert; before the first good one there is no time of it.
func TestMetricsOfTheLog(t *testing.T) {
	for want, v := range map[string]wire.LogVerified{
		"aes_log_verified_timestamp_seconds 1700000000\n": {At: time.Unix(1700000000, 0)},
		"aes_log_damaged 1\n":                             {Damage: "line 1 is none"},
		"aes_log_damaged 0\n":                             {},
		"aes_log_verification_failures_total 3\n":         {Failures: 3},
	} {
		var b strings.Builder
		writeBackup(&b, wire.Status{Verified: v})
		if got := b.String(); !strings.Contains(got, want) || v.At.IsZero() && strings.Contains(got, "aes_log_verified_timestamp") {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestMetricsOfTheWitnesses: that one contradicts the log can have an alert; without witnesses there is nothing to alert about.
func TestMetricsOfTheWitnesses(t *testing.T) {
	var b strings.Builder
	writeBackup(&b, wire.Status{Witnessed: wire.Witnessed{Asked: 3, Contradict: 1, At: time.Unix(1700000000, 0)}})
	for _, want := range []string{"aes_log_witnesses_contradicting 1\n", "aes_log_witnessed_timestamp_seconds 1700000000\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	b.Reset()
	if writeBackup(&b, wire.Status{}); strings.Contains(b.String(), "witness") {
		t.Errorf("without witnesses:\n%s", &b)
	}
}
