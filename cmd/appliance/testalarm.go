package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
)

// alarmUnit is the service that calls for help in a role: it has the alarm's secrets. On a backup host aes-doctor.service has them too, by its unit.
func alarmUnit(role config.Role) string {
	if role == config.RoleBackup {
		return receiverUnit
	}
	return doctorUnit
}

// alarmCredential is one of its secrets, as setup encrypts them.
func alarmCredential(role config.Role, name string) setup.Credential {
	return setup.Credential{Name: name, File: strings.TrimSuffix(alarmUnit(role), "service") + name}
}

// testAlarm is the verb that tries a role's alarm; as "receiver test-alarm" the role is fixed.
func (a *app) testAlarm(role doctor.Role) *cobra.Command {
	told := string(role)
	cmd := &cobra.Command{
		Use:   "test-alarm",
		Short: "Send a test by every way of the alarm: whether help would come is to be known before it is needed",
		Long: `Sends a test by every way of [alarm] in the configuration, with the secrets that setup encrypted for the service that calls for help (aes-doctor on a primary, aes-receiver on a
backup host), and says by which it went. Run it as root, and see that it arrived.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ways, file, role, err := a.callsBy(doctor.Role(told))
			if err != nil {
				return err
			}
			sent, err := a.tryAlarm(cmd.Context(), role, ways)
			if err != nil {
				return err
			}
			if len(sent) == 0 {
				return fault.New(fault.Invalid, "the configuration has no alarm").WithHint("set alarm.command, alarm.webhook_file or alarm.mail_server in " + file)
			}
			_, err = fmt.Fprintf(a.stdout, "sent by %s: see that it arrived\n", strings.Join(sent, ", "))
			return err
		},
	}
	if role == "" {
		cmd.Flags().StringVar(&told, "role", "", "primary or backup (default: by which configuration file there is)")
	}
	return cmd
}

// callsBy returns how this machine calls for help, and in which configuration file that stands.
func (a *app) callsBy(told doctor.Role) (ways config.Alarm, file string, role config.Role, err error) {
	of, err := a.machineRole(told)
	if err != nil {
		return ways, "", "", err
	}
	if of == doctor.Backup {
		cfg, err := a.loadReceiver()
		return cfg.Alarm, cmp.Or(a.configPath, config.ReceiverPath), config.RoleBackup, err
	}
	if file, err = a.findConfig(); err != nil {
		return ways, "", "", err
	}
	cfg, err := config.Load(file)
	return cfg.Alarm, file, config.RolePrimary, err
}

// tryAlarm sends a test by every way, and returns which those are: none when there is none.
//
// Errors: Unavailable (it did not go by one of them).
func (a *app) tryAlarm(ctx context.Context, role config.Role, ways config.Alarm) ([]string, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the host's name: %w", err)
	}
	dir, err := os.MkdirTemp(memory, "aes-alarm-")
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot make a folder in "+memory+reason(err)).WithCause(err)
	}
	defer os.RemoveAll(dir)
	// The service's credentials are its own, while it runs: for the test they are decrypted once more, in memory.
	for _, one := range []struct {
		path *string
		c    setup.Credential
	}{{&ways.Webhook, alarmCredential(role, "webhook")}, {&ways.MailFile, alarmCredential(role, "mail-password")}} {
		if *one.path == "" || !a.site.host.Has(one.c.Path()) {
			continue
		}
		secret, err := a.site.host.Decrypt(ctx, one.c)
		if err != nil {
			return nil, err
		}
		*one.path = filepath.Join(dir, one.c.Name)
		err = os.WriteFile(*one.path, secret, 0o600)
		clear(secret)
		if err != nil {
			return nil, err
		}
	}
	caller := alarm.New(ways, name, a.logger())
	if err := caller.Try(ctx, alarm.Alarm{Kind: "test", Time: time.Now().UTC(), Text: "this is a test: nothing is wrong"}); err != nil {
		return nil, fault.New(fault.Unavailable, "the alarm could not be sent: "+err.Error()).WithCause(err)
	}
	return caller.Channels(), nil
}
