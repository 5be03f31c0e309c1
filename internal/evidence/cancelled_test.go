package evidence

import (
	"slices"
	"strings"
	"testing"
)

// cancel adds a cancellation to the log and the summary: the line's details, and whom and what the summary names.
func (f *fixture) cancel(t testing.TB, id, clinic, sub string, inLine Reason, actor string, said Reason) {
	t.Helper()
	hash := must[string](t)(inLine.SHA256())
	at := f.append(t, EventCancelled, map[string]any{"prescription_id": id, "clinic": clinic, "actor_sub": sub, "reason_sha256": hash})
	f.live.Lines = append(f.live.Lines, at)
	f.live.Status, f.live.Cancelled = StatusCancelled, &Cancellation{At: at.Time, Actor: actor, Reason: said}
	f.finish(t)
}

// TestCancellation: the line must be of this prescription, by whom the summary says, and for the reason that it says.
func TestCancellation(t *testing.T) {
	why := NewReason([32]byte{2}, "wrong strength")
	for name, c := range map[string]struct {
		id, clinic, sub, actor string
		said                   Reason
		says                   string
	}{
		"good":                {"RX-134", "wharf-lane", "sub-1", "sub-1", why, ""},
		"of another number":   {"RX-135", "wharf-lane", "sub-1", "sub-1", why, "prescription_id in prescription_cancelled"},
		"of another clinic":   {"RX-134", "elsewhere", "sub-1", "sub-1", why, "clinic in prescription_cancelled"},
		"by another, it says": {"RX-134", "wharf-lane", "sub-1", "sub-2", why, "actor_sub in prescription_cancelled"},
		"for another reason":  {"RX-134", "wharf-lane", "sub-1", "sub-1", NewReason([32]byte{2}, "sold out"), "reason_sha256 in prescription_cancelled"},
		"with another salt":   {"RX-134", "wharf-lane", "sub-1", "sub-1", NewReason([32]byte{3}, "wrong strength"), "reason_sha256 in prescription_cancelled"},
		"without a salt":      {"RX-134", "wharf-lane", "sub-1", "sub-1", Reason{Text: "wrong strength"}, "has no salt"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.cancel(t, c.id, c.clinic, c.sub, why, c.actor, c.said)
			r := verify(t, f.archive(t), f.trusting())
			if c.says == "" {
				if r.Verdict != Valid {
					t.Errorf("%s", r.Text())
				}
				return
			}
			if r.Verdict != Invalid || !slices.ContainsFunc(r.Checks, func(one Check) bool {
				return one.Name == "status" && one.Result == Fail && strings.Contains(one.Text, c.says)
			}) {
				t.Errorf("it does not fail with %q\n%s", c.says, r.Text())
			}
		})
	}
}
