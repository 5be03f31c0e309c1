package evidence

import (
	"strings"
	"testing"
	"time"
)

// TestLiveRests: what a pack says of the present is what it holds, or the pack is not valid: its certificate's state, and when it was made.
func TestLiveRests(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *fixture)
		check  string
		text   string
	}{
		"revoked in words only":       {func(t *testing.T, f *fixture) { f.live.Certificate.Status = "revoked"; f.finish(t) }, "material", "live.certificate.status"},
		"no lists":                    {func(t *testing.T, f *fixture) { f.pack.CRLs = nil }, "material", "is missing"},
		"another number of the list":  {func(t *testing.T, f *fixture) { f.live.Certificate.List.Number = "2"; f.finish(t) }, "material", "live.certificate.crl.number"},
		"a newer list, it says":       {func(t *testing.T, f *fixture) { f.live.Certificate.List.ThisUpdate = judged; f.finish(t) }, "material", "live.certificate.crl.this_update"},
		"looked at another time":      {func(t *testing.T, f *fixture) { f.live.Certificate.CheckedAt = judged; f.finish(t) }, "material", "live.certificate.checked_at"},
		"what the backup says":        {func(t *testing.T, f *fixture) { f.live.Backup = &Backup{State: "sync", Cosigned: true}; f.finish(t) }, "summary", "tells of the backup"},
		"what a delivery says":        {func(t *testing.T, f *fixture) { f.live.Delivery = "done"; f.finish(t) }, "summary", "tells of the backup"},
		"renewals that nothing shows": {func(t *testing.T, f *fixture) { f.live.Revisions = []Revision{{SHA256(nil), 1, judged}}; f.finish(t) }, "document", "is about 1"},
		"a renewal without its line": {func(t *testing.T, f *fixture) {
			f.pack.PDF = append(f.pack.PDF, '\n')
			f.live.Revisions = []Revision{{SHA256(f.pack.PDF), int64(len(f.pack.PDF)), judged}}
			f.finish(t)
		}, "events", "the log tells of 0 renewals, the summary of 1"},
		"made at two times": {func(t *testing.T, f *fixture) { f.pack.CreatedAt = judged }, "made", "of different times"},
		"made before its lines": {func(t *testing.T, f *fixture) {
			f.live.GeneratedAt, f.live.Certificate.CheckedAt = judged.Add(-time.Hour), judged.Add(-time.Hour)
			f.finish(t)
		}, "made", "line 2 is from after"},
		"made before its cosignature": {func(t *testing.T, f *fixture) {
			f.live.GeneratedAt, f.live.Certificate.CheckedAt = judged.Add(-4*time.Minute-30*time.Second), judged.Add(-4*time.Minute-30*time.Second)
			f.finish(t)
		}, "made", "the cosignature of backup.example/mirror is from after"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.change(t, f)
			if r := verify(t, f.archive(t), f.trusting()); r.Verdict != Invalid || !strings.Contains(failed(r, c.check), c.text) {
				t.Errorf("check %s does not fail with %q\n%s", c.check, c.text, r.Text())
			}
		})
	}
}
