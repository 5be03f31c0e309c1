package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Exit codes, the same for every verb (docs/commands.md).
const (
	exitGood       = 0
	exitBad        = 1  // the answer is no: an invalid signature, a failed check, an operation that did not happen
	exitUnjudged   = 2  // no judgement was possible: no trust anchor, no signature, an unreadable file
	exitUnfinished = 3  // setup did all that it does, and the doctor finds something bad on the machine
	exitUsage      = 64 // the command line is wrong (EX_USAGE)
)

// exit is an error that ends the program with its own code. A nil cause prints nothing: the verb has said it all.
type exit struct {
	code  int
	cause error
}

func (e *exit) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exit) Unwrap() error { return e.cause }

// usage marks err as a mistake on the command line.
func usage(format string, args ...any) error {
	return &exit{exitUsage, fault.New(fault.Invalid, fmt.Sprintf(format, args...))}
}

// app is what every verb gets: the streams, and the flags that belong to all.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	configPath     string
	site           site // what setup works on
	verbose        bool
	args           []string    // the command line
	begun          atomic.Bool // a service has
	failures       *os.File    // how often it has not, before; nil: nobody keeps that
}

// Main runs one command line and returns its exit code. Errors go to stderr as "error:" and "hint:".
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return (&app{stdin: stdin, stdout: stdout, stderr: stderr}).main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	out := &output{w: a.stdout}
	a.stdout = out
	err := a.run(ctx, args)
	if err == nil && out.err != nil {
		err = fault.New(fault.Unavailable, "cannot write to standard output"+reason(out.err)).WithCause(out.err)
	}
	if err == nil {
		return exitGood
	}
	code, shown := exitBad, err
	var e *exit
	if errors.As(err, &e) {
		code, shown = e.code, e.cause
	}
	if shown != nil {
		a.printError(shown)
	}
	return code
}

// output remembers that standard output took something not, so that no verb that forgets to look ends as if it had.
type output struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

func (a *app) run(ctx context.Context, args []string) error {
	a.args = args
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	var e *exit
	var f *fault.Error
	if err == nil || errors.As(err, &e) || errors.As(err, &f) || ctx.Err() != nil {
		return err
	}
	for _, cobras := range []string{"unknown command", "required flag", "if any flags"} { // the rest goes through flagError
		if strings.HasPrefix(err.Error(), cobras) {
			return usage("%s", err.Error())
		}
	}
	return err
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "appliance",
		Short: "Advanced electronic signatures for prescriptions, from one machine",
		Long: `The appliance signs prescriptions to PAdES-B-LTA with its own PKI and time-stamping authority, keys in SoftHSM2.

Exit codes: 0 good, 1 bad (an invalid signature, a failed check, something that did not happen), 2 could not judge
(no trust anchor, no signature, unreadable), 64 wrong usage.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("there is no command %q; \"appliance --help\" lists them", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "configuration file (default /etc/aes-appliance/appliance.toml, else ./demo/appliance.toml)")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log what happens, with causes, to standard error")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(a.demoCommand(), a.portalCommand(), a.signCommand(), a.verifyCommand(), a.renewCommand(), a.certCommand(), a.auditCommand(),
		a.configCommand(), a.versionCommand(), a.ceremonyCommand(), a.signerCommand(), a.clinicCommand(), a.realmCommand(), a.backupCommand(), a.receiverCommand(),
		a.doctorCommand(), a.statusCommand(), a.manualCommand(), a.firewallCommand(), a.setupCommand(), a.tokenCommand())
	noNegatives(root)
	return root
}

// noNegatives has every flag that counts or lasts refuse what is less than nothing: no verb has a use for it, and one that would wait -5s does not wait.
func noNegatives(cmd *cobra.Command) {
	for _, flags := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		flags.VisitAll(func(f *pflag.Flag) {
			switch f.Value.Type() {
			case "int", "duration":
				f.Value = natural{f.Value}
			}
		})
	}
	for _, sub := range cmd.Commands() {
		noNegatives(sub)
	}
}

// natural is a flag's value that is not negative.
type natural struct{ pflag.Value }

// Set implements pflag.Value.
func (n natural) Set(text string) error {
	before := n.String()
	if err := n.Value.Set(text); err != nil {
		return err
	}
	if strings.HasPrefix(n.String(), "-") {
		return errors.Join(errors.New("it must not be negative"), n.Value.Set(before))
	}
	return nil
}

// flagError is a wrong flag in the words of a person: cobra's text goes on with those of strconv.
func flagError(cmd *cobra.Command, err error) error {
	text, _, _ := strings.Cut(err.Error(), ": strconv.")
	hint := fmt.Sprintf("\"%s --help\" says what it takes", cmd.CommandPath())
	return &exit{exitUsage, fault.New(fault.Invalid, text).WithHint(hint).WithCause(err)}
}

// printError shows the public text and the hint; causes only with --verbose, since they may name paths and internals.
func (a *app) printError(err error) {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.stderr, "error: interrupted")
		return
	}
	f := public(err)
	fmt.Fprintf(a.stderr, "error: %s\n", fault.PlainLines(f.Public))
	if a.verbose && f.Cause != nil {
		fmt.Fprintf(a.stderr, "cause: %s\n", fault.PlainLines(f.Cause.Error()))
	}
	if f.Hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", fault.PlainLines(f.Hint))
	}
}

// public returns what may be shown of an error: its own text for the outside, else what the operating system refused, else only that
// something went wrong which nobody foresaw.
func public(err error) *fault.Error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	if text, hint := durable.Explain(err); text != "" {
		return fault.New(fault.Unavailable, text).WithHint(hint).WithCause(err)
	}
	return fault.New(fault.Internal, "something went wrong inside the appliance").
		WithHint("--verbose shows the cause; please report it").WithCause(err)
}

// noSuch is the arguments check of a verb that only has sub-verbs.
func noSuch(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%q has no verb %q; \"%s --help\" lists them", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}
