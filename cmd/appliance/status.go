package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/doctor"
)

func (a *app) statusCommand() *cobra.Command {
	var role string
	var watch, asJSON bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen how the appliance, or the backup host, is now",
		Long: `Shows whether the appliance signs, its services, the log, what was signed and refused today (since midnight, UTC), the backup, certificates that end, the disk, and
what the quick ones of the doctor's checks find; on a backup host, the copies. Run it as root.

The exit code is 0 when a primary signs, or a backup host has no alarm; 1 otherwise.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < time.Second || every > time.Hour {
				return usage("--every is from 1s to 1h")
			}
			cfg, err := a.examined(doctor.Role(role))
			if err != nil {
				return err
			}
			return a.showStatus(cmd.Context(), doctor.Watch(cfg), watch, asJSON, every)
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "primary or backup (default: by which configuration file there is)")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again and again, until ctrl-C")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "with --watch: how often")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, one object a look (docs/doctor.md)")
	return cmd
}

// home goes to the upper left corner and clears what is below, so that a screen is drawn over the one before without flicker.
const home = "\x1b[H\x1b[J"

// showStatus shows one look, or many.
func (a *app) showStatus(ctx context.Context, w *doctor.Watcher, watch, asJSON bool, every time.Duration) error {
	for {
		o := w.Look(ctx)
		if ctx.Err() != nil {
			return nil // ctrl-C is how --watch ends
		}
		var screen bytes.Buffer
		var err error
		if asJSON {
			err = writeJSON(&screen, o)
		} else {
			err = o.WriteText(&screen)
		}
		if err != nil {
			return err
		}
		if watch && !asJSON {
			fmt.Fprint(a.stdout, home)
		}
		if _, err := a.stdout.Write(screen.Bytes()); err != nil {
			return err
		}
		if !watch {
			return statusExit(o)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// statusExit is the exit code of one look.
func statusExit(o doctor.Overview) error {
	if o.Role == doctor.Primary && o.Signing {
		return nil
	}
	bad := o.Role == doctor.Primary
	for _, f := range o.Alarms {
		bad = bad || f.Verdict == doctor.Bad
	}
	if bad {
		return &exit{code: exitBad}
	}
	return nil
}
