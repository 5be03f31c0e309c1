package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/fault"
)

// How often and for how long services are asked that have just been started, and how long they must have worked to be believed: one that dies at once is begun anew each second.
const (
	servingPause  = 200 * time.Millisecond
	servingSteady = 2 * time.Second
	servingGroup  = 5 * time.Second  // for one group of checks
	servingWhole  = 10 * time.Minute // for the whole log
)

// examineServing examines whether the services do their work, again and again until they do or time is up, and then with the whole log. What the report in since
// found wrong already is left out. The verdict is Bad when something is left.
func (a *app) examineServing(ctx context.Context, role doctor.Role, within time.Duration, since string) (doctor.Report, error) {
	var before doctor.Report
	if since != "" {
		text, err := os.ReadFile(since)
		if err != nil {
			return before, unreadable(since, err)
		}
		if err := json.Unmarshal(text, &before); err != nil || before.Schema != doctor.Schema {
			return before, fault.New(fault.Invalid, since+" is no report of the doctor").WithCause(err).WithHint(`it is what "appliance doctor --serving --json" wrote`)
		}
	}
	cfg, err := a.examined(role)
	if err != nil {
		return before, err
	}
	cfg.Serving = true
	defer a.progress("examining")()
	cfg.Deadline = servingGroup
	var r doctor.Report
	if within > 0 {
		r = doctor.Examine(ctx, cfg)
		for end := time.Now().Add(within); len(r.Worse(before)) > 0 && time.Now().Before(end); r = doctor.Examine(ctx, cfg) {
			rest(ctx, servingPause)
		}
		rest(ctx, servingSteady)
	}
	if within == 0 || len(r.Worse(before)) == 0 { // else there is enough to tell, and whoever waits has waited
		cfg.Full, cfg.Deadline = true, servingWhole
		r = doctor.Examine(ctx, cfg)
	}
	if since == "" {
		return r, nil
	}
	if r.Findings, r.Verdict = r.Worse(before), doctor.OK; len(r.Findings) > 0 {
		r.Verdict = doctor.Bad
	}
	return r, nil
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
