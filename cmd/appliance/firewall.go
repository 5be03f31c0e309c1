package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/firewall"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) firewallCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "firewall",
		Short: "Put the packet filter in force that this machine's role needs, and compare",
		Long: `Everything is dropped, in and out, except what the configuration's section [firewall] and the ports of the services say. ufw does the filtering.

A packet filter knows addresses and ports, not names: which hosts the portal calls is the portal's own to watch, and it counts what it refuses.`,
		Args: noSuch,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&role, "role", "", "primary or backup; left out: the one whose configuration this machine has")
	cmd.AddCommand(a.firewallApply(&role), a.firewallCheck(&role), a.firewallShow(&role), a.firewallConfirm(), a.firewallRollback())
	return cmd
}

// firewallHost is this machine's packet filter; what is to be undone, this program undoes.
func firewallHost() (*firewall.Host, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("this program's own path: %w", err)
	}
	return firewall.New(firewall.SystemdTimer{Command: []string{program, "firewall", "rollback", "--due"}}, time.Now), nil
}

// firewallPlan makes the plan of this machine's role.
func (a *app) firewallPlan(role string) (firewall.Plan, error) {
	if role == "" {
		role = a.ownRole()
	}
	switch role {
	case "primary":
		cfg, err := a.loadConfig()
		return firewall.Primary(cfg), err
	case "backup":
		cfg, err := a.loadReceiver()
		return firewall.Backup(cfg), err
	}
	return firewall.Plan{}, usage("--role is primary or backup")
}

// ownRole says by the configuration that is there what this machine is.
func (a *app) ownRole() string {
	path := a.configPath
	if path == "" {
		path = config.Path
		if _, err := os.Stat(path); err != nil {
			path = config.ReceiverPath
		}
	}
	if _, err := os.Stat(path); err == nil && filepath.Base(path) == filepath.Base(config.ReceiverPath) {
		return "backup"
	}
	return "primary"
}

func (a *app) firewallApply(role *string) *cobra.Command {
	var within time.Duration
	var keep, others bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Put the configuration's rules in force, and undo that unless somebody who can still log in confirms it",
		Long: `Puts the rules in force, in the kernel only: ufw's files, which the next boot reads, change when it is confirmed. Unless that is within --confirm, a timer of systemd's
undoes it: it does not need this session. So open another session, from where you administer, and run "appliance firewall confirm" in it; on a terminal, this command asks.

It is refused when an ssh session is open from an address that firewall.admin_networks does not have (on a terminal: asked). Rules that are not of the configuration
stay, and are shown. Run again, it changes nothing.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if keep { // else the timer undoes it, unless it is confirmed in another session
				hangup, stop := untilHangup(ctx)
				defer stop()
				ctx = hangup
			}
			if within < 10*time.Second || within > time.Hour {
				return usage("--confirm is from 10s to 1h")
			}
			p, err := a.firewallPlan(*role)
			if err != nil {
				return err
			}
			h, err := firewallHost()
			if err != nil {
				return err
			}
			o := firewall.Options{Within: within, RemoveOthers: others}
			if keep {
				o.Within = 0
			}
			if a.interactive() {
				lines := a.answers()
				o.Ask = func(question string) (bool, error) { return lines.yes(ctx, a.stderr, question) }
				o.Keep = a.keepRules(lines)
			}
			result, err := h.Apply(ctx, p, o)
			if err != nil {
				return err
			}
			return a.showApplied(result)
		},
	}
	cmd.Flags().DurationVar(&within, "confirm", 2*time.Minute, "how long the change lasts unless it is confirmed: 10s to 1h")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep it without confirmation: for machines with a console, and for those that nobody is logged in to")
	cmd.Flags().BoolVar(&others, "remove-others", false, "remove the rules that are not of the configuration")
	return cmd
}

// untilHangup is ctx, but ends also when the terminal is gone: what is half done is then undone, by this process. Under nohup it does not.
func untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return ctx, func() {}
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// interactive reports whether a person is at standard input.
func (a *app) interactive() bool {
	f, ok := a.stdin.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// answers are the lines of standard input; reading one cannot be broken off, so that one reader serves all questions.
type answers struct{ lines chan string }

func (a *app) answers() *answers {
	l := &answers{lines: make(chan string)}
	go func() {
		defer close(l.lines)
		for s := bufio.NewScanner(a.stdin); s.Scan(); {
			l.lines <- strings.TrimSpace(s.Text())
		}
	}()
	return l
}

// yes asks; only "yes" is yes.
func (l *answers) yes(ctx context.Context, w io.Writer, question string) (bool, error) {
	fmt.Fprintf(w, "%s [yes/no] ", question)
	select {
	case line, more := <-l.lines:
		return more && line == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(w)
		return false, ctx.Err()
	}
}

// keepRules asks whether the change is to stay, until it is undone.
func (a *app) keepRules(lines *answers) func(context.Context, time.Time) (bool, error) {
	return func(ctx context.Context, until time.Time) (bool, error) {
		ctx, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		yes, err := lines.yes(ctx, a.stderr, fmt.Sprintf("The rules are in force. Log in anew from another window now: this one stays open either way.\nDid that work? They are undone at %s otherwise.", until.Format(time.TimeOnly)))
		if errors.Is(err, context.DeadlineExceeded) {
			return false, nil
		}
		return yes, err
	}
}

func (a *app) showApplied(r firewall.Result) error {
	for _, other := range r.Others {
		fmt.Fprintf(a.stderr, "kept, not of the configuration: %s\n", other)
	}
	switch {
	case r.Undone:
		return fault.New(fault.Unavailable, "the rules were undone: nobody confirmed them").WithHint("correct [firewall] in the configuration, then apply again")
	case !r.Until.IsZero():
		fmt.Fprintf(a.stdout, "in force until %s unless confirmed: log in anew and run \"appliance firewall confirm\"\n", r.Until.Format(time.RFC3339))
	case r.Changed:
		fmt.Fprintln(a.stdout, "in force, and kept")
	default:
		fmt.Fprintln(a.stdout, "in force already: nothing was changed")
	}
	return nil
}

func (a *app) firewallConfirm() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep the rules that were put in force: run it in a session that was opened since",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := firewallHost()
			if err != nil {
				return err
			}
			if err := h.Confirm(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "kept")
			return nil
		},
	}
}

func (a *app) firewallRollback() *cobra.Command {
	var due bool
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Undo the rules that wait for confirmation",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := firewallHost()
			if err != nil {
				return err
			}
			undone, err := h.Rollback(cmd.Context(), due)
			if err == nil && undone {
				fmt.Fprintln(a.stdout, "undone: the rules are those from before")
			} else if err == nil {
				fmt.Fprintln(a.stdout, "nothing waits for confirmation")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&due, "due", false, "only when its time is over (the timer's)")
	return cmd
}

func (a *app) firewallCheck(role *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare what is in force, and what the next boot would put in force, with the configuration",
		Long: `Compares ufw's files and the kernel's tables, IPv4 and IPv6, with the configuration: default policies, each rule, rules that are not of the configuration, what stands before
ufw's rules. On a primary whose signer runs, also whether the enrolled backup host is let through. Exit code 1 and a list when there is a difference, 2 when it cannot be told.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, found, err := a.checkFirewall(cmd.Context(), *role)
			if kind := fault.KindOf(err); kind == fault.Forbidden || kind == fault.Unavailable {
				return &exit{exitUnjudged, err}
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := writeJSON(a.stdout, map[string]any{"role": p.Role, "rules": p.Rules, "differences": slices.Concat([]firewall.Difference{}, found)}); err != nil {
					return err
				}
			} else {
				for _, d := range found {
					fmt.Fprintf(a.stdout, "%-10s %s\n%10s %s\n", d.Kind, d.Text, "", d.Cure)
				}
			}
			if len(found) > 0 {
				return &exit{code: exitBad}
			}
			if !asJSON {
				fmt.Fprintf(a.stdout, "in force: %s, %d rules, and nothing else\n", p.Role, len(p.Rules))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// checkFirewall returns the plan of the role and in what the machine is not as it says.
func (a *app) checkFirewall(ctx context.Context, role string) (firewall.Plan, []firewall.Difference, error) {
	p, err := a.firewallPlan(role)
	if err != nil {
		return p, nil, err
	}
	h, err := firewallHost()
	if err != nil {
		return p, nil, err
	}
	found, err := h.Check(ctx, p)
	if err != nil || p.Role != "primary" {
		return p, found, err
	}
	cfg, err := a.loadConfig()
	return p, append(found, missingBackup(ctx, cfg)...), err
}

// missingBackup says whether the enrolled backup host is not let through. A signer that does not run is not asked.
func missingBackup(ctx context.Context, cfg config.Config) []firewall.Difference {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := wire.Dial(ctx, cfg.Signer.AdminSocket)
	if err != nil {
		return nil
	}
	defer c.Close()
	var st wire.BackupStatus
	if _, err := c.Call(ctx, wire.OpBackupStatus, wire.Nothing{}, &st, nil); err != nil || st.Address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(st.Address)
	if err != nil {
		return nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return []firewall.Difference{{Kind: "missing", Text: "the address of the enrolled backup host " + host + " cannot be looked up", Cure: "firewall.dns_servers, or the resolver"}}
	}
	for _, one := range addresses {
		if slices.ContainsFunc(cfg.Firewall.Backup, func(ap netip.AddrPort) bool {
			return ap.Addr() == one.Unmap() && fmt.Sprint(ap.Port()) == port
		}) {
			return nil
		}
	}
	return []firewall.Difference{{Kind: "missing", Text: "the enrolled backup host " + st.Address + " is not let through", Cure: "name its address in firewall.backup, then run \"appliance firewall apply\""}}
}

func (a *app) firewallShow(role *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what the configuration lets through",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			p, err := a.firewallPlan(*role)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, p)
			}
			fmt.Fprintf(a.stdout, "role  %s\n\n", p.Role)
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			for _, r := range p.Rules {
				fmt.Fprintf(w, "%s\t%s\n", r, r.Why)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.stdout, "\nEverything else is dropped, in and out, but for loopback, answers, and the ICMP that networks need.")
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
