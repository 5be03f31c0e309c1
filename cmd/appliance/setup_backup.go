package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
)

// backupSteps are what makes a backup host, in their order.
func (r *setupRun) backupSteps() []setup.Step {
	steps := []setup.Step{{Name: "answers", Run: r.keepAnswers}, {Name: "configuration", Run: r.keepBackupConfiguration}}
	if s := r.answers.Config.Setup; s.Webhook != "" || s.MailPassword != "" {
		steps = append(steps, setup.Step{Name: "alarm's secrets", Run: r.keepAlarmSecrets})
	}
	steps = append(steps, setup.Step{Name: "state", Run: r.makeReceiverState}, setup.Step{Name: "service", Run: r.startReceiver})
	steps = append(steps, r.machineSteps()...)
	return append(steps, setup.Step{Name: "join", Run: r.joinPrimary}, setup.Step{Name: "alarm", Run: r.callHelp})
}

func (r *setupRun) keepBackupConfiguration(ctx context.Context) (string, error) {
	said, err := r.keepConfiguration(ctx)
	if err != nil {
		return "", err
	}
	r.configPath = r.host.Path(config.ReceiverPath)
	r.cfg.Receiver, err = config.LoadReceiver(r.configPath)
	return said, err
}

func (r *setupRun) keepAlarmSecrets(ctx context.Context) (string, error) {
	s := r.answers.Config.Setup
	var said []string
	var creds []setup.Credential
	for _, one := range []struct {
		file string
		c    setup.Credential
	}{{s.Webhook, alarmCredential(r.role, "webhook")}, {s.MailPassword, alarmCredential(r.role, "mail-password")}} {
		if one.file == "" {
			continue
		}
		where, err := r.keepSecret(ctx, alarmUnit(r.role), one.c, one.file)
		if err != nil {
			return "", err
		}
		said, creds = append(said, where), append(creds, one.c)
	}
	return strings.Join(said, "\n"), r.host.Give(alarmUnit(r.role), creds...)
}

// makeReceiverState makes the folder in which the service makes its keys.
func (r *setupRun) makeReceiverState(context.Context) (string, error) {
	as, err := r.host.User(receiverUser)
	if err != nil {
		return "", err
	}
	dir := r.cfg.Receiver.StateDir
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fault.New(fault.Unavailable, "cannot make "+filepath.Dir(dir)+reason(err)).WithCause(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fault.New(fault.Unavailable, "cannot make "+dir+reason(err)).WithCause(err)
	}
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func (r *setupRun) startReceiver(ctx context.Context) (string, error) {
	if err := r.enable(ctx, "aes-receiver.socket", receiverUnit); err != nil {
		return "", err
	}
	err := await(ctx, startWait, func(ctx context.Context) error {
		_, err := r.host.Run(ctx, nil, "systemctl", "is-active", "--quiet", receiverUnit)
		return err
	})
	if err != nil {
		return "", fault.New(fault.Unavailable, "the receiver does not start").WithCause(err).WithHint("journalctl -u " + receiverUnit + " shows why")
	}
	return "running, and at every boot", nil
}

// joinPrimary tells the host of its primary, by the code that was answered or by asking for one.
func (r *setupRun) joinPrimary(ctx context.Context) (string, error) {
	known, err := r.asReceiver(ctx, nil, "status", "--json")
	if err != nil {
		return "", err
	}
	if held := strings.TrimSpace(string(known)); held != "[]" && held != "null" {
		return "a primary's log is kept here already", nil
	}
	code, err := r.joinCode()
	if err != nil {
		return "", err
	}
	if code == "" {
		r.last = append(r.last, "Tell this host of its primary: there \"appliance backup enrol --to\" this host prints a code, and here\n\"appliance receiver --join -\" takes it.")
		return "no code was given", setup.ErrLater
	}
	said, err := r.asReceiver(ctx, []byte(code), "--join", "-")
	if err != nil {
		return "", err
	}
	lines, _, _ := strings.Cut(string(said), "\n\n")
	return lines, nil
}

// joinCode returns the code, "" when it is told later.
func (r *setupRun) joinCode() (string, error) {
	if file := r.answers.Config.Setup.Join; file != "" {
		text, err := readInput(file, r.stdin)
		return string(text), err
	}
	if r.talk == nil {
		return "", nil
	}
	fmt.Fprint(r.stdout, "the code that setup, or \"appliance backup enrol\", printed on the primary\n")
	return r.talk.Line("  code (empty: later)")
}

// asReceiver runs a verb as the service's user, whose files it makes.
func (r *setupRun) asReceiver(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	as, err := r.host.User(receiverUser)
	if err != nil {
		return nil, err
	}
	return pipeSelf(ctx, as, "appliance receiver", append([]string{"receiver"}, append(args, "--config", r.configPath)...), input)
}

// callHelp sends a test by every way of the alarm.
func (r *setupRun) callHelp(ctx context.Context) (string, error) {
	ways, verb := r.cfg.Alarm, `"appliance doctor test-alarm"`
	if r.role == config.RoleBackup {
		ways, verb = r.cfg.Receiver.Alarm, `"appliance receiver test-alarm"`
	}
	sent, err := r.tryAlarm(ctx, r.role, ways)
	if fault.KindOf(err) == fault.Unavailable {
		r.last = append(r.last, "Mend the alarm ("+fault.PublicOf(err)+"), then "+verb+".")
		return "the test could not be sent", setup.ErrLater
	}
	if err != nil {
		return "", err
	}
	if len(sent) == 0 {
		r.last = append(r.last, "Give this host a way to call for help: [alarm] in "+r.configPath+", then "+verb+".")
		return "there is no way to call for help", setup.ErrLater
	}
	return "a test was sent by " + strings.Join(sent, ", ") + ": see that it arrived", nil
}

// checkJoin reports what is wrong with a file that holds a join code.
func checkJoin(text []byte, now time.Time) error {
	j, err := enrol.ParseJoin(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		return err
	}
	return enrol.Valid(j.Expires, now)
}
