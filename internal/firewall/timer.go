package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
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
	// What an earlier timer has started waits for the lock, which who arms holds, and systemd sets no timer beside it. There is none as a rule, and this fails.
	_, _ = command(ctx, "/usr/bin/systemctl", "stop", rollbackUnit+".service")
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

// disabledUnit reports whether systemd does not start ufw at boot. systemctl looks at the files itself: a manager that is busy answers late, and no answer does not mean no.
func disabledUnit(ctx context.Context) (bool, error) {
	if !underSystemd() {
		return false, nil
	}
	out, err := command(ctx, "/usr/bin/systemctl", "--root=/", "is-enabled", "ufw.service")
	if err != nil && strings.TrimSpace(string(out)) == "" && ctx.Err() == nil && !strings.Contains(err.Error(), "No such file") {
		return false, fault.New(fault.Unavailable, "whether systemd starts the packet filter at boot cannot be told").WithHint(`"systemctl is-enabled ufw" says why`).WithCause(err)
	}
	return err != nil, ctx.Err()
}

// enableUnit has systemd start ufw at boot. Debian's package has seen to that: nothing is done, and nothing can go wrong, unless somebody has disabled it.
func enableUnit(ctx context.Context) error {
	disabled, err := disabledUnit(ctx)
	if err != nil || !disabled {
		return err
	}
	if _, err := commandWithin(ctx, loadTime, "/usr/bin/systemctl", "--root=/", "enable", "--quiet", "ufw.service"); err != nil {
		return fault.New(fault.Unavailable, "systemd does not start the packet filter at boot").WithHint(`"systemctl enable ufw" says why; then confirm, or apply again`).WithCause(err)
	}
	return nil
}
