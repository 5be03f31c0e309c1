package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/firewall"
)

func (a *app) doctorCommand() *cobra.Command {
	var role, audit, since string
	var full, asJSON, serving, unattended bool
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine this machine and the appliance on it, and say what to do",
		Long: `Examines the clock, the disk, permissions, the token, certificates, TLS and revocation as others see them, realms, the log, the backup, the services' sandbox, the firewall
and pending updates; on a backup host the copies and the alarm. It changes nothing, and works with half of the appliance down: what cannot be judged says so.

Run it as root. The exit code is 0 when nothing is bad, 1 when something is, 2 when nothing is bad but something could not be judged; warnings do not count. docs/doctor.md
lists every check.

With --unattended, as the daily timer runs it, what is bad also goes into the journal as errors, the outcome into the portal's metrics, and when it is not good, help is called by
every way of [alarm] in the configuration.

With --audit it examines all of a primary and writes a new folder: the report as JSON and as text, held against clauses of DSPT, DTAC and ETSI EN 319 401, 411-1 and 421,
signed and time-stamped by the appliance, with what an auditor needs to judge it by openssl alone.`,
		Example: `  appliance doctor
  appliance doctor --audit audit-2026-03`,
		Args: noSuch,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if audit != "" && role == string(doctor.Backup) {
				return usage("--audit is of a primary: a backup host signs nothing but cosignatures")
			}
			if !serving && (since != "" || within != 0) || serving && (audit != "" || full) {
				return usage("--within and --since go with --serving, and --audit and --full do not")
			}
			examine := func() (doctor.Report, error) {
				return a.examineMachine(cmd.Context(), examination{Role: doctor.Role(role), Full: full, Quiet: asJSON, Announce: unattended})
			}
			if audit != "" {
				examine = func() (doctor.Report, error) { return a.auditMachine(cmd.Context(), audit) }
			}
			if serving {
				examine = func() (doctor.Report, error) {
					return a.examineServing(cmd.Context(), doctor.Role(role), within, since)
				}
			}
			r, err := examine()
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(a.stdout, r)
			} else {
				err = r.WriteText(a.stdout)
			}
			if err != nil {
				return err
			}
			return doctorExit(r)
		},
	}
	cmd.AddCommand(a.testAlarm(""))
	cmd.Flags().StringVar(&role, "role", "", "primary or backup (default: by which configuration file there is)")
	cmd.Flags().StringVar(&audit, "audit", "", "folder to make, for a signed report")
	cmd.Flags().BoolVar(&full, "full", false, "read the whole log, however long that takes")
	cmd.Flags().BoolVar(&unattended, "unattended", false, "as aes-doctor.service does daily: errors into the journal, the outcome into the metrics, and a call for help ([alarm]) when it is not good")
	cmd.Flags().BoolVar(&serving, "serving", false, "only whether the services do their work, and verify the whole log")
	cmd.Flags().DurationVar(&within, "within", 0, "with --serving: ask again until they do, for so long")
	cmd.Flags().StringVar(&since, "since", "", "with --serving: a report of it in JSON; what that found wrong already does not count")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON (docs/doctor.md)")
	return cmd
}

// doctorExit is the exit code that a report comes to.
func doctorExit(r doctor.Report) error {
	switch r.Verdict {
	case doctor.Bad:
		return &exit{code: exitBad}
	case doctor.Unknown:
		return &exit{code: exitUnjudged}
	}
	return nil
}

// unattendedTime is what each group of checks may take when nobody waits: a slow machine is no bad one.
const unattendedTime = 2 * time.Minute

// examination says how this machine is examined.
type examination struct {
	Role  doctor.Role // "" = by which configuration file there is
	Full  bool        // read the whole log
	Quiet bool        // who reads the result is a program, or the journal: no line a second

	Announce bool // see announce
}

// examineMachine examines this machine: what "appliance doctor" prints, and "appliance setup" ends in. The error is one of the arguments; what is wrong with the machine,
// its configuration included, is in the report.
func (a *app) examineMachine(ctx context.Context, x examination) (doctor.Report, error) {
	cfg, err := a.examined(x.Role)
	if err != nil {
		return doctor.Report{}, err
	}
	cfg.Full = x.Full
	if x.Announce {
		cfg.Deadline = unattendedTime
	}
	done := func() {}
	if !x.Quiet {
		done = a.progress("examining")
	}
	r := doctor.Examine(ctx, cfg)
	done()
	if x.Announce {
		a.announce(ctx, cfg, r)
	}
	return r, nil
}

// examined is what of this machine is looked at.
func (a *app) examined(told doctor.Role) (doctor.Config, error) {
	role, err := a.machineRole(told)
	if err != nil {
		return doctor.Config{}, err
	}
	cfg := doctor.Config{Role: role, Version: version, Now: time.Now, Rand: rand.Reader}
	if role == doctor.Backup {
		cfg.Receiver, cfg.Broken = a.loadReceiver()
		cfg.ConfigPath = a.configPath
		if cfg.ConfigPath == "" && onDisk(config.ReceiverPath) { // without one the defaults hold
			cfg.ConfigPath = config.ReceiverPath
		}
	} else if cfg.ConfigPath, cfg.Broken = a.findConfig(); cfg.Broken == nil {
		cfg.Appliance, cfg.Broken = config.Load(cfg.ConfigPath)
	}
	cfg.Firewall = firewallExaminer(cfg)
	return cfg, nil
}

// firewallExaminer holds the packet filter against what the configuration lets through.
func firewallExaminer(cfg doctor.Config) func(context.Context) []doctor.Finding {
	return func(ctx context.Context) []doctor.Finding {
		plan := firewall.Primary(cfg.Appliance)
		if cfg.Role == doctor.Backup {
			plan = firewall.Backup(cfg.Receiver)
		}
		const check = "firewall.active"
		differences, err := firewall.New(nil, time.Now).Check(ctx, plan) // a check arms no timer
		if err != nil {
			return []doctor.Finding{{Check: check, Verdict: doctor.Unknown, Text: "the packet filter cannot be compared: " + fault.PublicOf(err), Cure: orHint(err, "run it as root: appliance firewall check")}}
		}
		if len(differences) == 0 {
			return []doctor.Finding{{Check: check, Verdict: doctor.OK, Text: fmt.Sprintf("the packet filter is on, and lets through exactly the %d kinds of traffic of the configuration", len(plan.Rules))}}
		}
		return foldDifferences(check, differences)
	}
}

// foldDifferences makes one finding of all that is mended by one command: the first of them, and how many more there are.
func foldDifferences(check string, differences []firewall.Difference) []doctor.Finding {
	var found []doctor.Finding
	more := map[string]int{}
	for _, d := range differences {
		v := doctor.Bad
		if d.Kind == "foreign" || d.Kind == "stale" {
			v = doctor.Warn
		}
		key := string(v) + d.Cure
		more[key]++
		if more[key] > 1 {
			continue
		}
		found = append(found, doctor.Finding{Check: check, Verdict: v, Text: d.Text, Cure: d.Cure})
	}
	for i, f := range found {
		if n := more[string(f.Verdict)+f.Cure] - 1; n > 0 {
			found[i].Text += fmt.Sprintf("; and %d more differences, which \"appliance firewall check\" lists", n)
		}
	}
	return found
}

func orHint(err error, other string) string {
	if hint := fault.HintOf(err); hint != "" {
		return hint
	}
	return other
}

// machineRole is what this machine is for: as it was told, else by its configuration.
func (a *app) machineRole(told doctor.Role) (doctor.Role, error) {
	switch told {
	case doctor.Primary, doctor.Backup:
		return told, nil
	case "":
		if a.configPath == "" && !onDisk(config.Path) && onDisk(config.ReceiverPath) {
			return doctor.Backup, nil
		}
		return doctor.Primary, nil
	}
	return "", &exit{exitUsage, fault.New(fault.Invalid, "--role is primary or backup")}
}

func onDisk(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
