package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
)

// Where setup keeps things, besides what the configuration names.
const (
	stateRoot    = "/var/lib/aes-appliance"
	setupAnswers = stateRoot + "/setup.toml" // what it was told: no secrets
	setupLock    = stateRoot + "/.setup.lock"
	setupFound   = stateRoot + "/founding"  // of the signer's user, while an appliance is founded
	setupCarry   = stateRoot + "/carry-off" // of root: what belongs off this machine
)

// site is the machine that setup works on; its zero value is this one.
type site struct {
	host  setup.Host
	fixed map[string]any // values of the configuration file by "section.key"
}

// setupRun is one run of setup.
type setupRun struct {
	*app
	host    setup.Host
	fixed   map[string]any
	role    config.Role
	answers config.Answers
	anew    bool             // ask again
	talk    *setup.Interview // nil: nobody is asked
	cfg     config.Config    // of a primary, once its file is there
	last    []string         // what is to be done now, said at the end
}

func (a *app) setupCommand() *cobra.Command {
	var role, file string
	var example, check, anew bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Take this host from installed to at work: keys, configuration, services, firewall",
		Long: `Asks what it must know, or takes it from an answers file, finds out whether this machine is fit, and only then changes anything: configuration, the token's PIN (encrypted by
systemd-creds), key ceremony, services, the first clinic, firewall, the backup host's join. It ends with "appliance doctor": the exit code is 3 when everything
was done and that finds something bad on the machine.

It looks what there is and does what is missing: run again, after whatever stopped it, it goes on from there. Keys and files that are there are never overwritten.

The ceremony makes the root's key in memory, signs the CAs' certificates, seals the root's token to age recipients (age-keygen, on another machine) and forgets it. The sealed
file, the transcript to be signed by those present and a backup of the appliance's token are in ` + setupCarry + `: carry them off.`,
		Example: `  appliance setup
  appliance setup --example >answers.toml && editor answers.toml && appliance setup --answers answers.toml
  appliance setup --role backup`,
		Args: noSuch,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := &setupRun{app: a, host: a.site.host, fixed: a.site.fixed, role: config.Role(role)}
			if r.role != config.RolePrimary && r.role != config.RoleBackup {
				return usage("--role is primary or backup")
			}
			if example {
				_, err := io.WriteString(a.stdout, config.AnswersExample(r.role))
				return err
			}
			r.anew = anew
			ctx, stop := untilHangup(cmd.Context())
			defer stop()
			return r.run(ctx, file, check)
		},
	}
	cmd.Flags().StringVar(&role, "role", string(config.RolePrimary), "what this host is: primary, or backup")
	cmd.Flags().StringVar(&file, "answers", "", "file with the answers (--example prints one); - reads it from standard input")
	cmd.Flags().BoolVar(&example, "example", false, "print a documented answers file")
	cmd.Flags().BoolVar(&anew, "ask", false, "ask again, with the earlier answers in brackets")
	cmd.Flags().BoolVar(&check, "check", false, "check answers and machine, and change nothing")
	cmd.AddCommand(a.setupFound(), a.setupRoot())
	return cmd
}

// configFile is the configuration file of the role.
func (r *setupRun) configFile() string {
	if r.role == config.RoleBackup {
		return config.ReceiverPath
	}
	return config.Path
}

func (r *setupRun) run(ctx context.Context, file string, check bool) error {
	fresh, err := r.learn(ctx, file)
	if err != nil {
		return err
	}
	if fresh { // whatever stops it now, nobody answers twice
		if _, err := r.keepAnswers(ctx); err != nil {
			return err
		}
		fmt.Fprintf(r.stdout, "\nYour answers are kept in %s: another run goes on with them, --ask asks again.\n", r.host.Path(setupAnswers))
	}
	problems, err := r.examine(ctx)
	if err := errors.Join(err, problems.Err()); err != nil {
		return err
	}
	if check {
		_, err := fmt.Fprintln(r.stdout, "answers and machine are good; nothing was changed")
		return err
	}
	if fresh && r.talk != nil {
		r.summarise()
		if yes, err := r.talk.Confirm("\nGo on? From here on things are changed.", true); err != nil || !yes {
			return errors.Join(err, &exit{code: exitBad})
		}
	}
	lock, err := durable.OS{}.Lock(r.host.Path(setupLock), false)
	if errors.Is(err, durable.ErrLocked) {
		return fault.New(fault.Unavailable, "another setup is running").WithCause(err).WithHint("wait for it, or end it: this one then goes on where it stopped")
	}
	if err != nil {
		return fault.New(fault.Unavailable, "cannot lock "+r.host.Path(setupLock)+reason(err)).WithCause(err)
	}
	defer lock.Close()
	fmt.Fprintf(r.stdout, "\nSetting up this host as the %s\n\n", r.role)
	steps := r.primarySteps()
	if r.role == config.RoleBackup {
		steps = r.backupSteps()
	}
	if err := setup.Run(ctx, r.stdout, steps); err != nil {
		fmt.Fprintln(r.stdout, "\nNothing is lost: mend what is named below, run setup again, and it goes on from here.")
		return err
	}
	return r.finish(ctx)
}

// learn gets the answers: from a file, from an earlier run, or from whoever sits there. fresh: they were just asked for.
func (r *setupRun) learn(ctx context.Context, file string) (fresh bool, err error) {
	if file != "" {
		return false, r.learnFrom(file)
	}
	if err := r.host.Examine(ctx, setup.Needs{State: stateRoot}, nil).Err(); err != nil { // before somebody answers for nothing
		return false, err
	}
	r.talk = setup.NewInterview(r.role, typed{ctx, r.stdin}, r.stdout)
	saved, err := r.host.Read(setupAnswers, maxAnswers)
	switch {
	case err == nil && !bytes.HasPrefix(saved, []byte(r.savedHead())):
		return false, fault.New(fault.Conflict, "this host was begun with another role: "+r.host.Path(setupAnswers)+" says which").
			WithHint("give that --role; to begin anew with the other one, on a host on which nothing was set up, remove the file")
	case err == nil && !r.anew:
		fmt.Fprintf(r.stdout, "Going on with the answers in %s (--ask asks again).\n", r.host.Path(setupAnswers))
		return false, r.take(saved, "", r.host.Path(setupAnswers))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	earlier, err := config.ParseAnswers(r.role, saved, "")
	if err != nil {
		earlier = config.Answers{} // of another version, or none: then nothing stands in brackets
	}
	fmt.Fprint(r.stdout, "Setting up an AES appliance. Enter takes what stands in [brackets], ? explains, ctrl-C ends; nothing is changed before you say so.\n")
	data, err := r.talk.Hold(ctx, r.questions(), earlier.Value)
	if err != nil {
		return false, err
	}
	return true, r.take(data, "", "your answers")
}

// typed is standard input, of which no reading outlasts ctx: whoever is asked something can end it all.
type typed struct {
	ctx context.Context
	in  io.Reader
}

// Read implements io.Reader.
func (t typed) Read(p []byte) (int, error) {
	f, ok := t.in.(*os.File)
	for ok {
		if err := t.ctx.Err(); err != nil {
			return 0, err
		}
		const often = 100 // milliseconds
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, often)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if ok = n <= 0; !ok {
			break
		}
	}
	return t.in.Read(p)
}

// learnFrom takes the answers from a file.
func (r *setupRun) learnFrom(file string) error {
	data, err := readInput(file, r.stdin)
	if err != nil || file == "-" {
		return errors.Join(err, r.take(data, "", "standard input"))
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	return r.take(data, filepath.Dir(abs), file)
}

// take checks answers; relative paths in them are taken from dir.
func (r *setupRun) take(data []byte, dir, name string) (err error) {
	if r.answers, err = config.ParseAnswers(r.role, data, dir); err != nil {
		return fault.New(fault.Invalid, fmt.Sprintf("%s cannot be used:\n%v", name, err)).WithCause(err).
			WithHint("nothing was changed; \"appliance setup --role " + string(r.role) + " --example\" prints a documented file")
	}
	return nil
}

const maxAnswers = 32 << 10

// summarise shows what setup was told before it begins.
func (r *setupRun) summarise() {
	fmt.Fprintf(r.stdout, "\nYour answers\n")
	for line := range bytes.Lines(r.answers.Text()) {
		fmt.Fprintf(r.stdout, "  %s", line)
	}
}

// savedHead is the first line of the answers that are kept.
func (r *setupRun) savedHead() string {
	return "# What \"appliance setup --role " + string(r.role) + "\" was told; it goes on with this.\n"
}

// keepAnswers is the first step: a later run goes on with the same.
func (r *setupRun) keepAnswers(context.Context) (string, error) {
	text := append([]byte(r.savedHead()), r.answers.Text()...)
	if old, err := r.host.Read(setupAnswers, maxAnswers); err == nil && bytes.Equal(old, text) {
		return "kept in " + r.host.Path(setupAnswers) + " already", nil
	}
	return "kept in " + r.host.Path(setupAnswers), r.host.Write(setupAnswers, text, 0o600)
}

// keepConfiguration writes the configuration file, once: then it is the operator's.
func (r *setupRun) keepConfiguration(context.Context) (string, error) {
	file := r.host.Path(r.configFile())
	if r.host.Has(r.configFile()) {
		return file + ", there already", nil
	}
	return "written: " + file, r.host.Write(r.configFile(), r.answers.File(r.fixed), 0o644)
}

// differences names answers that a configuration file which is there does not follow.
func (r *setupRun) differences() (problems setup.Problems) {
	data, err := r.host.Read(r.configFile(), maxAnswers)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var keys []string
	if err == nil {
		keys, err = r.answers.Differences(data)
	}
	file := r.host.Path(r.configFile())
	if err != nil {
		return setup.Problems{{Text: "the configuration " + file + " cannot be read: " + err.Error(), Cure: "correct it; setup overwrites none"}}
	}
	if len(keys) == 0 {
		return nil
	}
	return setup.Problems{{Text: file + " is there and says otherwise than the answers: " + strings.Join(keys, ", "),
		Cure: "setup overwrites no configuration: edit that file, and answer the same; certificates that are issued keep what they say"}}
}

// enable has systemd start a unit now and at every boot.
func (r *setupRun) enable(ctx context.Context, units ...string) error {
	if _, err := r.host.Run(ctx, nil, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if _, err := r.host.Run(ctx, nil, "systemctl", append([]string{"enable", "--quiet"}, units...)...); err != nil {
		return err
	}
	// What takes its time is waited for by those who can say for what.
	_, err := r.host.Run(ctx, nil, "systemctl", append([]string{"start", "--no-block"}, units...)...)
	return err
}

// carry puts something into the folder of what belongs off this machine, unless it is there.
func (r *setupRun) carry(name string, data []byte) (string, error) {
	file := path.Join(setupCarry, name)
	if old, err := r.host.Read(file, maxInput); err == nil && bytes.Equal(old, data) {
		return r.host.Path(file), nil
	}
	if err := r.host.Folder(setupCarry, 0o700, nil); err != nil {
		return "", err
	}
	return r.host.Path(file), r.host.Write(file, data, 0o600)
}
