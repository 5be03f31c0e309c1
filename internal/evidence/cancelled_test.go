package evidence

import (
	"slices"
	"strings"
	"testing"
)

// TestCancellation: the line must be of this prescription, and by whom the summary says.
func TestCancellation(t *testing.T) {
	for name, c := range map[string]struct{ id, clinic, sub, actor, says string }{
		"good":                {"RX-134", "wharf-lane", "sub-1", "sub-1", ""},
		"of another number":   {"RX-135", "wharf-lane", "sub-1", "sub-1", "prescription_id in prescription_cancelled"},
		"of another clinic":   {"RX-134", "elsewhere", "sub-1", "sub-1", "clinic in prescription_cancelled"},
		"by another, it says": {"RX-134", "wharf-lane", "sub-1", "sub-2", "actor_sub in prescription_cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			at := f.append(t, EventCancelled, map[string]any{"prescription_id": c.id, "clinic": c.clinic, "actor_sub": c.sub})
			f.live.Lines = append(f.live.Lines, at)
			f.live.Status, f.live.Cancelled = StatusCancelled, &Cancellation{At: at.Time, Actor: c.actor, Reason: "wrong strength"}
			f.finish(t)
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
