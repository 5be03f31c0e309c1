package doctor

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// maxAlarms is how many alarms fit on one screen.
const maxAlarms = 8

// WriteText writes an overview as one screen of 80 columns or little more.
func (o Overview) WriteText(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, shown(fmt.Sprintf(format, args...)))
	}
	line(string(o.Role), "%s, version %s, %s", o.Host, o.Version, o.At.Format(time.RFC3339))
	if o.Role == Primary {
		line("signing", "%s", map[bool]string{true: "yes", false: "NO: " + orElse(strings.Join(o.Reasons, "; "), "see below")}[o.Signing])
	}
	for _, s := range o.Services {
		line("service", "%s", o.service(s))
	}
	if l := o.Log; l != nil {
		line("log", "%s lines, %s, head %s", count(l.Lines), size(uint64(l.Bytes)), orElse(short(l.Head), "not known"))
	}
	if d := o.Today; d != nil {
		line("today", "%d prescriptions signed, the last %s; %d refused", d.Signed, clockTime(d.Last), d.Refused)
	}
	if b := o.Backup; b != nil {
		line("backup", "%s", o.backup(b))
	}
	for _, c := range o.Copies {
		line("copy", "%s: %d lines, cosigned at %s, %d refusals", c.Origin, c.Lines, clockTime(c.At), c.Refusals)
	}
	if x := o.Ending; x != nil && x.Count > 0 {
		line("certificates", "%d end within %d days, the first %s on %s", x.Count, x.Days, x.Name, x.First.Format(time.DateOnly))
	} else if x != nil {
		line("certificates", "none ends within %d days that somebody must renew", x.Days)
	}
	if d := o.Disk; d != nil {
		line("disk", "%s of %s free", size(d.Free), size(d.Total))
	}
	if len(o.Alarms) == 0 {
		line("alarms", "none")
	}
	for i, a := range o.Alarms {
		if i == maxAlarms {
			line("", "and %d more: appliance doctor", len(o.Alarms)-maxAlarms)
			break
		}
		line(map[bool]string{true: "ALARM", false: "warning"}[a.Verdict == Bad], "%s", a.Text)
	}
	return w.Flush()
}

func (o Overview) service(s ServiceView) string {
	text := s.Name + " " + s.State
	if !s.Since.IsZero() {
		text += " since " + s.Since.Format(time.RFC3339)
	}
	if s.Memory > 0 {
		text += ", " + size(s.Memory)
	}
	if s.Restarts > 0 {
		text += fmt.Sprintf(", restarted %d times", s.Restarts)
	}
	return text
}

func (o Overview) backup(b *BackupView) string {
	if b.Address == "" {
		return b.State
	}
	where := "connected"
	if !b.Connected {
		where = "NOT CONNECTED"
	}
	return fmt.Sprintf("%s, %s, %s, %d lines cosigned, lag %s", b.Address, b.State, where, b.Cosigned, time.Duration(b.Lag*float64(time.Second)).Round(time.Millisecond))
}

// short is the beginning of a hash.
func short(hash string) string { return hash[:min(16, len(hash))] }

func count(lines uint64) string {
	if lines == 0 {
		return "an unknown number of"
	}
	return fmt.Sprint(lines)
}

func clockTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("15:04:05Z")
}
