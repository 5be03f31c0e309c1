package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Enrol a backup host, see how it stands, give it up; back the token up",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.backupEnrol(), a.backupReplace(), a.backupRotate(), a.backupDisable(), a.backupStatus(), a.backupToken(), a.backupRestore(), a.backupDrill(), a.backupPIN())
	return cmd
}

func (a *app) backupEnrol() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "enrol --to HOST[:7443]",
		Short: "Print a one-time join code for a backup host",
		Long: `Prints a one-time code for the backup host at that address, where "appliance receiver --join -" takes it. This appliance then dials it, the two know
each other by the code's secret, and the log is sent. No certificate is copied by hand. Once the backup has caught up, answers wait for it (replication.mode).

The services must be running: the signer asks the portal for the connection. The code is good for 30 minutes, and until the signer is started anew.`,
		Example: `  appliance backup enrol --to backup.example.org`,
		Args:    exactly(0, "none"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.offer(cmd, to, false) },
	}
	cmd.Flags().StringVar(&to, "to", "", "host name or address of the backup host, with its port unless that is 7443")
	return cmd
}

func (a *app) backupReplace() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "replace --to HOST[:7443]",
		Short: "Print a one-time join code for a host that takes the place of the enrolled one",
		Long: `As "backup enrol", for a host that takes the place of the one that is enrolled, which stays until the new one has joined: an act in the log. It is also how a
host gets to know new keys: named again, the same host keeps its copy and goes on from there.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.offer(cmd, to, true) },
	}
	cmd.Flags().StringVar(&to, "to", "", "host name or address of the new backup host, with its port unless that is 7443")
	return cmd
}

func (a *app) backupRotate() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-key",
		Short: "Make a new key to show to the enrolled backup host, and print the join code by which it gets to know it",
		Long: `Makes a new key in the token and prints a one-time code, as "backup enrol" does, for the backup host that is enrolled. The old key is used until the host has joined, so that no
line and no answer is lost; the old one is destroyed afterwards. For a new key of the host's own: "appliance receiver rotate-key" there, and "backup replace" here.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var o wire.BackupOffer
			if err := a.administer(cmd.Context(), wire.OpBackupRotate, wire.Nothing{}, &o); err != nil {
				return err
			}
			return a.showOffer(o)
		},
	}
}

func (a *app) offer(cmd *cobra.Command, to string, replace bool) error {
	if to == "" {
		return usage("--to names the backup host")
	}
	var o wire.BackupOffer
	if err := a.administer(cmd.Context(), wire.OpBackupEnrol, wire.BackupEnrol{Address: to, Replace: replace}, &o); err != nil {
		return err
	}
	return a.showOffer(o)
}

// showOffer prints a join code alone to standard output.
func (a *app) showOffer(o wire.BackupOffer) error {
	fmt.Fprintf(a.stderr, "for      %s\nexpires  %s\non that host:  appliance receiver --join -\n", o.Address, o.Expires.Format(time.RFC3339))
	_, err := fmt.Fprintln(a.stdout, o.Code)
	return err
}

func (a *app) backupDisable() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "disable --reason TEXT",
		Short: "Give the enrolled backup host up: an act in the log, which every answer and evidence then shows",
		Long: `Gives the enrolled backup host up. Answers do not wait any more, and each says that nothing holds a copy of what it rests on. It never happens by itself, and it
cannot be undone: enrol a backup host anew.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return usage("--reason says why, for the log")
			}
			var st wire.BackupStatus
			if err := a.administer(cmd.Context(), wire.OpBackupGiveUp, wire.BackupGiveUp{Reason: reason}, &st); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "given up  %s\n", st.Address)
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stands in the log for good")
	return cmd
}

func (a *app) backupStatus() *cobra.Command {
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the backup stands",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st wire.BackupStatus
			for end := time.Now().Add(wait); ; time.Sleep(100 * time.Millisecond) {
				if err := a.administer(cmd.Context(), wire.OpBackupStatus, wire.Nothing{}, &st); err != nil {
					return err
				}
				if settled := st.State == string(backup.Sync) || st.State == string(backup.Async); settled && st.Cosigned && st.Signing == "" || st.Mismatch != "" || !time.Now().Before(end) {
					break
				}
				if err := cmd.Context().Err(); err != nil {
					return err
				}
			}
			if asJSON {
				if err := writeJSON(a.stdout, st); err != nil {
					return err
				}
			} else if err := showBackup(a.stdout, st); err != nil {
				return err
			}
			if st.Mismatch != "" || st.Signing != "" {
				return &exit{code: exitBad}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long at most until the backup has everything and does not keep signing off")
	return cmd
}

// meanings say what a state is.
func meaning(state string) string {
	switch backup.State(state) {
	case backup.None:
		return "no backup host was ever enrolled: signing does not wait, and evidence says so"
	case backup.Disabled:
		return "given up: signing does not wait, and evidence says so"
	case backup.CatchingUp:
		return "it has not held everything yet: signing does not wait until it has"
	case backup.Comparing:
		return "signing is off until the log has been compared with the backup"
	case backup.Mismatch:
		return "signing is off: the log is not what the backup cosigned"
	case backup.Sync:
		return "answers leave when the backup has cosigned what they rest on"
	}
	return "answers do not wait for the backup, within replication.max_lag"
}

func showBackup(to io.Writer, st wire.BackupStatus) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fault.Plain(fmt.Sprintf(format, args...)))
	}
	line("state", "%s: %s", st.State, meaning(st.State))
	if st.Address != "" {
		line("backup", "%s, enrolled %s", st.Address, st.EnrolledAt.Format(time.RFC3339))
		line("its key", "%s", st.Receiver)
		line("our key", "%s", st.Primary)
		line("connected", "%t", st.Connected)
	}
	line("log", "%d lines", st.LogLines)
	if st.Lines > 0 {
		line("cosigned", "%d lines, at %s, by %s", st.Lines, st.At.Format(time.RFC3339), st.By)
		line("lag", "%s", time.Duration(st.Lag)*time.Millisecond)
	} else {
		line("cosigned", "nothing")
	}
	for _, one := range [][2]string{{"trouble", st.Trouble}, {"found", st.Mismatch}, {"signing", st.Signing}} {
		if one[1] != "" {
			line(one[0], "%s", one[1])
		}
	}
	if !st.DisabledAt.IsZero() {
		line("given up", "%s: %s", st.DisabledAt.Format(time.RFC3339), st.Reason)
	}
	if st.Offered != "" {
		line("join code", "out for %s until %s", st.Offered, st.OfferEnds.Format(time.RFC3339))
	}
	if st.OfferError != "" {
		line("", "%s", st.OfferError)
	}
	switch {
	case st.Token == "":
		line("token", "NOT backed up: set token.backup_recipients")
	case st.TokenDue:
		line("token", "backed up, and changed since: object %s", st.Token)
	default:
		line("token", "backed up: object %s", st.Token)
	}
	return w.Flush()
}

func (a *app) backupToken() *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Make a backup of the token now, for the recipients of the configuration",
		Long: `Makes a backup of the token with its PIN, encrypted to token.backup_recipients (filippo.io/age). This happens by itself after each change of the token's keys. It goes to the
backup host with the log, and into token.backup_dir. Without it, whatever else is kept cannot be opened.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var made wire.TokenBackup
			if err := a.administer(cmd.Context(), wire.OpTokenBackup, wire.Nothing{}, &made); err != nil {
				return err
			}
			if made.Object == "" {
				return fault.New(fault.Internal, "the signer did not say what it made")
			}
			fmt.Fprintf(a.stdout, "object  %s\n", made.Object)
			if made.File != "" {
				fmt.Fprintf(a.stdout, "file    %s\n", made.File)
			}
			for _, r := range made.Recipients {
				fmt.Fprintf(a.stdout, "for     %s\n", r)
			}
			return nil
		},
	}
}
