package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/portal"
)

// callTime is how long the daily examination tries to call for help: aes-doctor.service waits longer.
const callTime = 5 * time.Minute

// announce is what the daily examination does beside its report: what is bad goes into the journal as errors, its outcome to the portal's metrics, and when
// something is bad or could not be judged, help is called by every way of the configuration. What cannot be said is said on standard error.
func (a *app) announce(ctx context.Context, cfg doctor.Config, r doctor.Report) {
	for _, f := range r.Findings {
		if level := journalLevel(f.Verdict); level != 0 {
			fmt.Fprintf(a.stderr, "<%d>%s %s: %s -> %s\n", level, f.Verdict, f.Check, f.Text, f.Cure)
		}
	}
	if cfg.Role == doctor.Primary && cfg.Broken == nil {
		if err := keepOutcome(cfg.Appliance.Signer.PortalSocket, r); err != nil {
			fmt.Fprintf(a.stderr, "<3>the outcome is not in the metrics: %v\n", err)
		}
	}
	if r.Verdict != doctor.Bad && r.Verdict != doctor.Unknown || cfg.Broken != nil {
		return
	}
	ways := cfg.Appliance.Alarm
	if cfg.Role == doctor.Backup {
		ways = cfg.Receiver.Alarm
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := alarm.New(credentialsOf(ways, os.Getenv("CREDENTIALS_DIRECTORY")), r.Host, a.logger()).Call(ctx, alarmOf(r)); err != nil {
		fmt.Fprintf(a.stderr, "<3>the alarm could not be sent: %v\n", err)
	}
}

// journalLevel is the priority of a line about a finding (sd-daemon(3)); 0: there is none.
func journalLevel(v doctor.Verdict) int {
	return map[doctor.Verdict]int{doctor.Bad: 3, doctor.Unknown: 4}[v]
}

// keepOutcome puts the outcome where the portal, which serves the metrics, finds it.
func keepOutcome(portalSocket string, r doctor.Report) error {
	o := portal.Examined{At: r.At, Findings: map[string]int{}}
	for _, v := range []doctor.Verdict{doctor.OK, doctor.Warn, doctor.Unknown, doctor.Bad} {
		o.Findings[string(v)] = r.Count()[v]
	}
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	file := portal.ExaminedFile(portalSocket)
	if err := durable.WriteFile(durable.OS{}, file, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(file, 0o644) // the unit's umask made it narrower than the portal needs
}

// credentialsOf has secrets read from this unit's own credentials where it has them: those of the service that is named may not be running. dir is
// $CREDENTIALS_DIRECTORY (systemd.exec(5)).
func credentialsOf(ways config.Alarm, dir string) config.Alarm {
	for _, file := range []*string{&ways.Webhook, &ways.MailFile} {
		if own := filepath.Join(dir, filepath.Base(*file)); dir != "" && *file != "" && onDisk(own) {
			*file = own
		}
	}
	return ways
}

// mostNamed is how many findings an alarm names.
const mostNamed = 5

// alarmOf is the call for help that a report is worth: the heaviest findings first.
func alarmOf(r doctor.Report) alarm.Alarm {
	var named []string
	for _, v := range []doctor.Verdict{doctor.Bad, doctor.Unknown} {
		for _, f := range r.Findings {
			if f.Verdict == v {
				named = append(named, f.Check+": "+f.Text)
			}
		}
	}
	n, more := r.Count(), ""
	if len(named) > mostNamed {
		more = fmt.Sprintf("; and %d more", len(named)-mostNamed)
	}
	return alarm.Alarm{Kind: alarm.KindDoctor, Time: r.At, Text: fmt.Sprintf("the daily examination found %d things bad and could not judge %d: %s%s",
		n[doctor.Bad], n[doctor.Unknown], strings.Join(slices.Clip(named[:min(len(named), mostNamed)]), "; "), more)}
}
