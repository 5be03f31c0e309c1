package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// textOf is what may be shown of an error.
func textOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Public
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer came in time"
	}
	return err.Error() // root asks, about its own machine
}

// maxShown bounds what a finding says, in bytes.
const maxShown = 2000

// shown is what a report says of something: services that were taken over, and other machines, have their part in it, and nothing in there may look like lines of the report, or
// be obeyed by a terminal.
func shown(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return fault.Plain(text)
}

// cureOf is the hint of an error, or another.
func cureOf(err error, other string) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Hint != "" {
		return f.Hint
	}
	return other
}

// days writes how long something lasts.
func days(d time.Duration) string {
	switch {
	case d < 0:
		return "no time"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// size writes a number of bytes.
func size(n uint64) string {
	unit, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for unit >= 1024 && i < len(units)-1 {
		unit, i = unit/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", unit, units[i])
}

// marks stand before the lines of a report for people.
func mark(v Verdict) string {
	switch v {
	case OK:
		return "ok     "
	case Warn:
		return "WARN   "
	case Bad:
		return "BAD    "
	}
	return "unknown"
}

// WriteText writes a report for people: a line for each finding under its group, what is not ok with its cure below it, and a last line that sums up.
func (r Report) WriteText(w io.Writer) error {
	group, cure := "", ""
	for _, f := range r.Findings {
		if g := f.Group(); g != group {
			if _, err := fmt.Fprintf(w, "%s\n", Title(g)); err != nil {
				return err
			}
			group, cure = g, ""
		}
		if _, err := fmt.Fprintf(w, "  %s  %s\n", mark(f.Verdict), f.Text); err != nil {
			return err
		}
		if f.Cure != "" && f.Cure != cure { // said once for those in a row
			if _, err := fmt.Fprintf(w, "           -> %s\n", f.Cure); err != nil {
				return err
			}
		}
		cure = f.Cure
	}
	n := r.Count()
	_, err := fmt.Fprintf(w, "\n%s: %d ok, %d to see to, %d bad, %d not judged (%s %s, %s)\n", r.Verdict, n[OK], n[Warn], n[Bad], n[Unknown], r.Role, r.Host, r.At.Format(time.RFC3339))
	return err
}
