package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
)

// alarmUnit is the service that calls for help in a role: it has the alarm's secrets. On a backup host aes-doctor.service has them too, by its unit.
func (r *setupRun) alarmUnit() string {
	if r.role == config.RoleBackup {
		return receiverUnit
	}
	return doctorUnit
}

func (r *setupRun) alarmCredential(name string) setup.Credential {
	return setup.Credential{Name: name, File: strings.TrimSuffix(r.alarmUnit(), "service") + name}
}

// backupSteps are what makes a backup host, in their order.
func (r *setupRun) backupSteps() []setup.Step {
	steps := []setup.Step{{Name: "answers", Run: r.keepAnswers}, {Name: "configuration", Run: r.keepBackupConfiguration}}
	if s := r.answers.Config.Setup; s.Webhook != "" || s.MailPassword != "" {
		steps = append(steps, setup.Step{Name: "alarm's secrets", Run: r.keepAlarmSecrets})
	}
	steps = append(steps, setup.Step{Name: "state", Run: r.makeReceiverState}, setup.Step{Name: "service", Run: r.startReceiver})
	steps = append(steps, r.machineSteps()...)
	return append(steps, setup.Step{Name: "join", Run: r.joinPrimary}, setup.Step{Name: "alarm", Run: r.tryAlarm})
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
	}{{s.Webhook, r.alarmCredential("webhook")}, {s.MailPassword, r.alarmCredential("mail-password")}} {
		if one.file == "" {
			continue
		}
		where, err := r.keepSecret(ctx, r.alarmUnit(), one.c, one.file)
		if err != nil {
			return "", err
		}
		said, creds = append(said, where), append(creds, one.c)
	}
	return strings.Join(said, "\n"), r.host.Give(r.alarmUnit(), creds...)
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

// tryAlarm sends a test by every way of the alarm.
func (r *setupRun) tryAlarm(ctx context.Context) (string, error) {
	a := r.cfg.Receiver.Alarm
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(memory, "aes-setup-")
	if err != nil {
		return "", fault.New(fault.Unavailable, "cannot make a folder in "+memory+reason(err)).WithCause(err)
	}
	defer os.RemoveAll(dir)
	// The service's credentials are its own: for the test they are decrypted once more, in memory.
	for _, one := range []struct {
		path *string
		c    setup.Credential
	}{{&a.Webhook, r.alarmCredential("webhook")}, {&a.MailFile, r.alarmCredential("mail-password")}} {
		if *one.path == "" || !r.host.Has(one.c.Path()) {
			continue
		}
		secret, err := r.host.Decrypt(ctx, one.c)
		if err != nil {
			return "", err
		}
		*one.path = filepath.Join(dir, one.c.Name)
		if err := os.WriteFile(*one.path, secret, 0o600); err != nil {
			return "", err
		}
		clear(secret)
	}
	caller := alarm.New(a, name, r.logger())
	ways := caller.Channels()
	if len(ways) == 0 {
		r.last = append(r.last, "Give this host a way to call for help: [alarm] in "+r.configPath+", then \"appliance receiver test-alarm\".")
		return "there is no way to call for help", setup.ErrLater
	}
	if err := caller.Try(ctx, alarm.Alarm{Kind: "test", Time: time.Now().UTC(), Text: "this is a test: nothing is wrong"}); err != nil {
		r.last = append(r.last, "Mend the alarm ("+err.Error()+"), then \"appliance receiver test-alarm\".")
		return "the test could not be sent", setup.ErrLater
	}
	return "a test was sent by " + strings.Join(ways, ", ") + ": see that it arrived", nil
}

// checkJoin reports what is wrong with a file that holds a join code.
func checkJoin(text []byte, now time.Time) error {
	j, err := enrol.ParseJoin(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		return err
	}
	return enrol.Valid(j.Expires, now)
}
