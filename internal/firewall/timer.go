package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// SystemdTimer is a Timer of systemd's: a transient unit, which needs neither the process nor the session that set it. A reboot forgets it, together with
// the change that it would undo.
type SystemdTimer struct {
	Command []string // program and arguments that call Rollback
}

// rollbackUnit is the transient unit's name.
const rollbackUnit = "aes-firewall-rollback"

// underSystemd reports whether systemd runs this machine (sd_booted(3)).
func underSystemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Arm implements Timer.
func (t SystemdTimer) Arm(ctx context.Context, d time.Duration) error {
	if !underSystemd() {
		return errors.New("systemd does not run this machine")
	}
	if err := t.Disarm(ctx); err != nil {
		return err
	}
	args := []string{"--quiet", "--collect", "--unit=" + rollbackUnit, "--description=Undo a change of the packet filter that nobody confirmed",
		fmt.Sprintf("--on-active=%d", int(d.Seconds())), "--timer-property=AccuracySec=1s", "--"}
	_, err := command(ctx, "/usr/bin/systemd-run", append(args, t.Command...)...)
	return err
}

// Disarm implements Timer.
func (t SystemdTimer) Disarm(ctx context.Context) error {
	if !underSystemd() {
		return nil
	}
	if _, err := command(ctx, "/usr/bin/systemctl", "is-active", "--quiet", rollbackUnit+".timer"); err != nil {
		return nil // there is none
	}
	_, err := command(ctx, "/usr/bin/systemctl", "stop", rollbackUnit+".timer")
	return err
}
