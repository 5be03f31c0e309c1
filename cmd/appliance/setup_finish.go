package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/firewall"
	"github.com/veripath/aes-appliance/internal/setup"
)

// machineSteps are about the machine itself, as far as they were answered: its packet filter, and what hardens it.
func (r *setupRun) machineSteps() []setup.Step {
	var steps []setup.Step
	if r.answers.Config.Setup.Confine && r.host.Root == "" {
		steps = append(steps, setup.Step{Name: "firewall", Run: r.confine})
	}
	if r.answers.Config.Setup.Harden {
		steps = append(steps, setup.Step{Name: "hardening", Run: r.host.Harden})
	}
	return steps
}

// confineTime is how long a change of the packet filter lasts when a person is asked whether it is to stay.
const confineTime = 2 * time.Minute

// confine puts the packet filter in force. Where a person is asked it stays when they could log in anew; by answers alone it stays at once, and is refused when it would
// keep out somebody who is logged in.
func (r *setupRun) confine(ctx context.Context) (string, error) {
	plan := firewall.Primary(r.cfg)
	if r.role == config.RoleBackup {
		plan = firewall.Backup(r.cfg.Receiver)
	}
	h, err := firewallHost()
	if err != nil {
		return "", err
	}
	var o firewall.Options
	if r.talk != nil {
		o.Within = confineTime
		o.Ask = func(question string) (bool, error) { return r.talk.Confirm("\n"+question, false) }
		o.Keep = func(_ context.Context, until time.Time) (bool, error) {
			yes, err := r.talk.Confirm("\n  The rules are in force. Log in anew from another window now; this one stays open either way.\n"+
				"  Did that work? They are undone at "+until.Format(time.TimeOnly)+" otherwise.", false)
			return yes && time.Now().Before(until), err
		}
	}
	done, err := h.Apply(ctx, plan, o)
	if fault.KindOf(err) == fault.Conflict {
		r.last = append(r.last, "Put the firewall in force: appliance firewall apply ("+fault.PublicOf(err)+").")
		return fault.PublicOf(err), setup.ErrLater
	}
	if err != nil {
		return "", err
	}
	if done.Undone {
		r.last = append(r.last, "Correct [firewall] in "+r.configPath+", then: appliance firewall apply")
		return "undone: nobody confirmed it", setup.ErrLater
	}
	said := fmt.Sprintf("in force: ssh from %s", networks(plan))
	if len(done.Others) > 0 {
		said += "\nkept, not of the configuration: " + strings.Join(done.Others, "; ")
	}
	return said, nil
}

func networks(p firewall.Plan) string {
	list := make([]string, len(p.Admins))
	for i, n := range p.Admins {
		list[i] = n.String()
	}
	return strings.Join(list, ", ")
}

// administers is where whoever runs setup seems to come from: those who are logged in over ssh now.
func administers(map[string]string) string {
	now, err := firewall.Sessions(22)
	if err != nil {
		return "" // then it is asked for without
	}
	list := make([]string, len(now))
	for i, a := range now {
		list[i] = a.String()
	}
	return strings.Join(list, " ")
}

// finish examines the machine as "appliance doctor" does, shows what is not in order, and says what is to be done now. What is bad is no failure of the setup, which is
// done; but whoever waits for its exit code is to know that the machine is not as it must be.
func (r *setupRun) finish(ctx context.Context) error {
	bad := 0
	if r.host.Root == "" {
		report, err := r.settled(ctx)
		if err != nil {
			return err
		}
		fmt.Fprint(r.stdout, "\nExamined (appliance doctor)\n")
		for _, f := range report.Findings {
			if f.Verdict != doctor.OK {
				fmt.Fprintf(r.stdout, "  %-7s  %s\n           -> %s\n", f.Verdict, f.Text, f.Cure)
			}
		}
		n := report.Count()
		fmt.Fprintf(r.stdout, "  %d ok, %d to see to, %d bad, %d not judged\n", n[doctor.OK], n[doctor.Warn], n[doctor.Bad], n[doctor.Unknown])
		bad = len(r.unexpected(report))
	}
	for i, line := range r.last {
		if i == 0 {
			fmt.Fprint(r.stdout, "\nTo be done now\n")
		}
		fmt.Fprintf(r.stdout, "  %d. %s\n", i+1, strings.ReplaceAll(line, "\n", "\n     "))
	}
	if bad > 0 {
		fmt.Fprintf(r.stdout, "\nThis host is set up, and is not in order: what is called bad above is to be mended first (%d). Then: appliance doctor\n", bad)
		return &exit{code: exitUnfinished}
	}
	return nil
}

// Services that have just been started find each other within a moment: the doctor is believed when nothing changes for the better any more.
const (
	settleTime  = time.Minute
	settlePause = time.Second
)

// settled examines the machine, again while something is bad that may be good in a moment, for settleTime at most.
func (r *setupRun) settled(ctx context.Context) (doctor.Report, error) {
	told := false
	for end := time.Now().Add(settleTime); ; rest(ctx, settlePause) {
		report, err := r.examineMachine(ctx, examination{Role: doctor.Role(r.role)})
		if err := errors.Join(err, ctx.Err()); err != nil {
			return report, err
		}
		passing := func(f doctor.Finding) bool {
			return slices.Contains([]string{"signer", "copies", "log", "backup", "tls", "revocation", "services"}, f.Group())
		}
		if !slices.ContainsFunc(r.unexpected(report), passing) || time.Now().After(end) {
			return report, nil
		}
		if !told {
			fmt.Fprintf(r.stdout, "\nWaiting until everything has found each other (%v at most)\n", settleTime)
			told = true
		}
	}
}

// unexpected are the bad findings, but for those that the answers asked for: a demo does without a proven clock.
func (r *setupRun) unexpected(report doctor.Report) (found []doctor.Finding) {
	unproven := r.answers.Config.Setup.Demo && (r.role == config.RoleBackup || r.cfg.Clock.Mode != clock.System)
	for _, f := range report.Findings {
		if f.Verdict == doctor.Bad && !(unproven && f.Group() == "clock") {
			found = append(found, f)
		}
	}
	return found
}
