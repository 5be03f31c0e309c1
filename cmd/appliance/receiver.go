package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/replica"
)

func (a *app) receiverCommand() *cobra.Command {
	var join string
	cmd := &cobra.Command{
		Use:   "receiver",
		Short: "Run a backup host: hold copies of logs, verify and cosign them (systemd starts it)",
		Long: `Takes the logs and sealed objects of the primaries that were enrolled, verifies them against what it holds, makes them durable and cosigns them, until
it is told to stop (SIGTERM). Nothing that a primary can say deletes or rewrites anything; what is refused is kept, and it calls for help by its own alarm.

Enrolment: "appliance backup enrol --to HOST" on the primary prints a one-time code, and this host is told it once with --join -, on standard
input. That keeps the code and ends; the service, started before or after, then knows the primary when it comes.

Its configuration is ` + config.ReceiverPath + ` ("appliance receiver config example" prints one); without that file the defaults hold. Under systemd it takes the
socket named receiver from its unit, and says when it is ready.`,
		Example: `  appliance receiver --join -
  systemctl start aes-receiver`,
		Args: noSuch,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("join") {
				if err := shownCode("join", join); err != nil {
					return err
				}
				return a.inVault(cmd.Context(), func(_ config.Receiver, h *replica.Host) error { return a.receiverJoin(h) })
			}
			return a.starts(cmd.Context(), a.runReceiver)
		},
	}
	cmd.Flags().StringVar(&join, "join", "", `-: take the code that "appliance backup enrol" printed on the primary from standard input, and end`)
	cmd.AddCommand(a.receiverStatus(), a.receiverAllow(), a.receiverRotate(), a.testAlarm(doctor.Backup), a.receiverConfig())
	return cmd
}

// loadReceiver reads the backup host's configuration; the default file may be absent.
func (a *app) loadReceiver() (config.Receiver, error) {
	if a.configPath != "" {
		return config.LoadReceiver(a.configPath)
	}
	cfg, err := config.LoadReceiver(config.ReceiverPath)
	if errors.Is(err, fs.ErrNotExist) {
		return config.ParseReceiver(nil)
	}
	return cfg, err
}

// inVault does something with the backup host's state, as its owner.
func (a *app) inVault(ctx context.Context, f func(config.Receiver, *replica.Host) error) error {
	cfg, err := a.loadReceiver()
	if err != nil {
		return err
	}
	if a.configPath == "" && !onDisk(config.ReceiverPath) && !onDisk(cfg.StateDir) {
		return fault.New(fault.NotFound, "this machine is no backup host").WithHint(`"appliance setup --role backup" makes it one; or name a configuration with --config`)
	}
	if done, err := a.asOwner(ctx, cfg.StateDir); done {
		return err
	}
	h, err := replica.OpenHost(cfg.StateDir, time.Now)
	if err != nil {
		return err
	}
	return f(cfg, h)
}

// maxCodeInput bounds what is read as a code.
const maxCodeInput = 4 << 10

// shownCode refuses a code on the command line: that is for every user of the machine to read while the program runs, and stays in the shell's history.
func shownCode(flag, value string) error {
	if value == "" || value == "-" {
		return nil
	}
	return &exit{exitUsage, fault.New(fault.Invalid, "--"+flag+" takes no code: every user of this machine could read it there. --"+flag+" - reads it from standard input").
		WithHint("who knows a code can use it first: have a new one made, if this one was whole")}
}

// readCode takes a code from standard input, where no other process sees it: a line of whoever sits there, or all of what a file or a program gives.
func (a *app) readCode() (string, error) {
	in := io.Reader(io.LimitReader(a.stdin, maxCodeInput))
	if a.interactive() {
		fmt.Fprint(a.stderr, "the code, and Enter: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", fault.New(fault.Unavailable, "cannot read standard input"+reason(err)).WithCause(err)
		}
		return line, nil
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return "", fault.New(fault.Unavailable, "cannot read standard input"+reason(err)).WithCause(err)
	}
	return string(data), nil
}

func (a *app) receiverJoin(h *replica.Host) error {
	code, err := a.readCode()
	if err != nil {
		return err
	}
	j, err := h.Expect(strings.Join(strings.Fields(code), ""))
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "primary    %s\nits log    %s\nit dials   %s, until %s\nthis host  %s\n\nKeep this host's service running: the primary comes by itself, and \"appliance receiver status\" shows it.\n",
		replica.Pin(j.Primary), j.Origin, j.Backup, j.Expires.Format(time.RFC3339), h.Identity.Pin())
	return nil
}

func (a *app) runReceiver(ctx context.Context) (err error) {
	cfg, err := a.loadReceiver()
	if err != nil {
		return err
	}
	if err := ownOnly(cfg.StateDir, "systemctl start aes-receiver"); err != nil {
		return err
	}
	h, err := replica.OpenHost(cfg.StateDir, time.Now)
	if err != nil {
		return err
	}
	log := a.serviceLogger()
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("the host's name: %w", err)
	}
	caller := alarm.New(cfg.Alarm, name, log)
	r, err := replica.NewReceiver(replica.ReceiverConfig{
		Dir: h.Logs(), Identity: h.Identity, Name: h.Name, Key: h.Key, Now: time.Now, Log: log, Codes: h, Arrived: h.Arrived, AppendOnly: cfg.AppendOnly,
		Alarm: func(x replica.Alarm) {
			caller.Raise(alarm.Alarm{Kind: string(x.Kind), Time: x.Time, Origin: x.Origin, Text: x.Text})
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := h.Attach(r, replica.Limits{Silence: cfg.Alarm.Silence, Lag: cfg.Alarm.Lag, Quota: cfg.LogQuota}); err != nil {
		return err
	}
	l, err := receiverListener(cfg.Listen)
	if err != nil {
		return err
	}
	watching, wl, err := openWitness(cfg, caller, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if len(caller.Channels()) == 0 {
		log.WarnContext(ctx, "no alarm is configured: this host cannot call for help by itself")
	}
	side, stop := context.WithCancel(ctx)
	var besides sync.WaitGroup
	besides.Go(func() { caller.Run(side) })
	besides.Go(func() { refresh(side, h, log) })
	if watching != nil {
		besides.Go(func() { serveWitness(side, watching, wl, log) })
	}
	beside := supervised{log: log, healthy: func() error { return nil }, reload: func(context.Context) error { return h.Refresh() }}
	ended := beside.beside(side)
	a.ready(beside)
	log.InfoContext(ctx, "ready", "listen", l.Addr().String(), "key", h.Identity.Pin().String(), "cosigner", r.Key().String(), "logs", len(r.Status()),
		"alarm", strings.Join(caller.Channels(), " "))
	err = r.Serve(ctx, l)
	stop()
	<-ended
	besides.Wait()
	return err
}

// receiverListener takes systemd's socket, or opens that of the configuration.
func receiverListener(address string) (net.Listener, error) {
	sockets, err := given("receiver")
	if err != nil {
		return nil, err
	}
	if l := sockets["receiver"]; l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot listen on "+address+reason(err)).WithCause(err).WithHint("is something else listening there?")
	}
	return l, nil
}

// refreshInterval is how soon the service takes up what a command has changed where nothing else makes it look.
const refreshInterval = 10 * time.Second

// refresh looks again and again which primaries there are and which codes have expired, until ctx ends.
func refresh(ctx context.Context, h *replica.Host, log *slog.Logger) {
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := h.Refresh(); err != nil {
				log.ErrorContext(ctx, "the list of primaries", "error", err)
			}
		}
	}
}

func (a *app) receiverStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which logs this host keeps, and how far each is cosigned",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inVault(cmd.Context(), func(cfg config.Receiver, h *replica.Host) error { return a.showHeld(cfg, h, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func (a *app) showHeld(cfg config.Receiver, h *replica.Host, asJSON bool) error {
	list, err := h.Held()
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, list)
	}
	fmt.Fprintf(a.stdout, "state     %s\nkey       %s\ncosigner  %s\nalarm     %s\n", cfg.StateDir, h.Identity.Pin(), h.Name, alarmWays(cfg.Alarm))
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if len(list) > 0 {
		fmt.Fprintln(w, "\nLOG\tLINES\tCOSIGNED\tREFUSALS\tFOLDER")
	}
	for _, l := range list {
		at := "never"
		if !l.Cosigned.IsZero() {
			at = l.Cosigned.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\n", l.Origin, l.Lines, at, l.Refusals, l.Dir)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range list {
		if l.Damage != "" {
			return fault.New(fault.Corrupt, "the copy of "+l.Origin+" is damaged: "+l.Damage).
				WithHint("keep its folder as it is; on the primary \"appliance backup replace\" has a copy made anew, here under another state folder or on another host")
		}
	}
	return nil
}

func alarmWays(cfg config.Alarm) string {
	if names := alarm.New(cfg, "", slog.New(slog.DiscardHandler)).Channels(); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "none: this host cannot call for help by itself"
}

func (a *app) receiverAllow() *cobra.Command {
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "allow-restore [ORIGIN]",
		Short: "Print a one-time code with which one bare machine may fetch a log and its objects",
		Long: `Prints a one-time code for "appliance backup restore" on a bare machine, which has neither key nor address that this host knows. Whoever redeems it first
may read the log and its sealed objects until the code expires, and nobody else. What is sealed stays sealed: it takes the token's backup to open it.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("allow-restore takes one origin, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if life < time.Minute || life > 24*time.Hour {
				return usage("--for is from 1m to 24h")
			}
			return a.inVault(cmd.Context(), func(_ config.Receiver, h *replica.Host) error {
				code, r, err := h.Allow(strings.Join(args, ""), life) // none, or one
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stderr, "log      %s\nexpires  %s\n", r.Origin, r.Expires.Format(time.RFC3339))
				fmt.Fprintln(a.stdout, code)
				return nil
			})
		},
	}
	cmd.Flags().DurationVar(&life, "for", 2*time.Hour, "how long it may read")
	return cmd
}

func (a *app) receiverRotate() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-key",
		Short: "Make a new key for this host to show in TLS; each primary gets to know it by \"appliance backup replace\"",
		Long: `Makes a new key for this host to show in TLS. Start the service anew, then have each primary print a join code with "appliance backup replace --to" this host, and tell it to this
one with --join: copies and cosigning key stay, and the primary goes on from where it stopped. Until then its answers wait, and are refused after replication.wait.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.inVault(cmd.Context(), func(_ config.Receiver, h *replica.Host) error {
				if err := h.RotateIdentity(); err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "new key  %s\n\nNow start this host's service anew (until then it shows the old key). Each primary is a stranger to it from then on, and its answers wait, until\n"+
					"\"appliance backup replace --to THIS-HOST\" there has printed a code, and \"appliance receiver --join -\" here has been told it.\n", h.Identity.Pin())
				return nil
			})
		},
	}
}

func (a *app) receiverConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the backup host's configuration, or print an example",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check := &cobra.Command{
		Use:   "check",
		Short: "Check the file, and show what it comes to",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.loadReceiver()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "state_dir  %s\nlisten     %s\nalarm      %s\ngood\n", cfg.StateDir, cfg.Listen, alarmWays(cfg.Alarm))
			return nil
		},
	}
	example := &cobra.Command{
		Use:   "example",
		Short: "Print a documented configuration with every key",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.stdout, config.ReceiverExample())
			return err
		},
	}
	cmd.AddCommand(check, example)
	return cmd
}
