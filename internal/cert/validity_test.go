package cert

import (
	"testing"
	"time"
)

func TestSpansForPeople(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{day: "1 day", 99999 * day: "99999 days", time.Hour: "1 hour", 36 * time.Hour: "36 hours", 90 * time.Second: "1m30s"} {
		if got := days(d); got != want {
			t.Errorf("%d ns: %q, want %q", d, got, want)
		}
	}
}
