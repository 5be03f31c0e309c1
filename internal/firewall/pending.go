package firewall

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// pending is a change that is in force and waits for confirmation. It is kept where a reboot forgets it, as the kernel does.
type pending struct {
	Until time.Time         `json:"until"` // for people: the clock may be set meanwhile
	Due   time.Duration     `json:"due"`   // the same by Host.awake; 0: without a timer, and there only while who made it holds the lock
	Files map[string]string `json:"files"` // SHA-256 of ufw's own files when the change was made, by name
}

func (h *Host) staged() string      { return filepath.Join(h.run, "new") }
func (h *Host) pendingFile() string { return filepath.Join(h.run, "pending.json") }
func (h *Host) lockFile() string    { return filepath.Join(h.run, "lock") }

// pending returns the change that waits; fs.ErrNotExist when there is none.
func (h *Host) pending() (p pending, err error) {
	data, err := readFile(h.pendingFile())
	if err != nil {
		return p, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fault.New(fault.Corrupt, "what is known of a change that waits for confirmation cannot be read").WithHint("reboot: that undoes it").WithCause(err)
	}
	return p, nil
}

// brokenOff reports whether nobody confirms or undoes a change any more: who made it ended in the midst, and left no timer, or one that did not come to it.
func (h *Host) brokenOff(p pending) bool { return h.awake() > p.Due+timerTime }

// timerTime is how late the timer may be.
const timerTime = 5 * time.Second

// Pending returns until when a change waits for confirmation; false when none does.
func (h *Host) Pending() (until time.Time, waits bool, err error) {
	p, err := h.pending()
	if errors.Is(err, fs.ErrNotExist) {
		return until, false, nil
	}
	return p.Until, err == nil, err
}

// record writes down that a change waits which was made of files with these sums.
func (h *Host) record(until time.Time, within time.Duration, sums map[string]string) error {
	due := time.Duration(0)
	if within > 0 {
		due = h.awake() + within
	}
	data, err := json.Marshal(pending{Until: until.UTC().Truncate(time.Second), Due: due, Files: sums})
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS{}, h.pendingFile(), data, 0o600)
}

// sums returns the digests of ufw's files.
func sums() (map[string]string, error) {
	all := map[string]string{}
	for _, name := range files() {
		data, err := readFile(filepath.Join(etc, name))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		all[name] = hex.EncodeToString(sum[:])
	}
	return all, nil
}

// lock lets one process at a time work on the packet filter.
func (h *Host) lock() (unlock func(), err error) {
	if err := os.MkdirAll(h.run, 0o700); err != nil {
		return nil, fault.New(fault.Unavailable, "the folder "+h.run+" cannot be made").WithCause(err)
	}
	l, err := durable.OS{}.Lock(h.lockFile(), false)
	if err != nil {
		return nil, fault.New(fault.Conflict, "another process works on the packet filter").WithHint("wait until it is done").WithCause(err)
	}
	return func() { l.Close() }, nil
}

// locked reports whether a process works on the packet filter. The examination that is started daily may not write to /run.
func (h *Host) locked() bool {
	f, err := os.Open(h.lockFile())
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Confirm keeps the change that waits: ufw's files become what is in force, and the next boot starts with them.
//
// NotFound: none waits. Conflict: somebody has changed ufw's files since, and the change is undone; or it was broken off in the midst.
func (h *Host) Confirm(ctx context.Context) error {
	if err := ready(); err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if p, err := h.pending(); err == nil && h.brokenOff(p) {
		return fault.New(fault.Conflict, "the change was broken off, and may be in force by half").WithHint(`run "appliance firewall apply" again`)
	}
	return h.keep(ctx)
}

// keep is Confirm under the lock.
func (h *Host) keep(ctx context.Context) error {
	p, err := h.pending()
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "no change of the packet filter waits for confirmation").WithHint(`it was undone, or confirmed already: "appliance firewall check" says how things are`)
	}
	if err != nil {
		return err
	}
	if err := enableUnit(ctx); err != nil {
		return err
	}
	now, err := sums()
	if err != nil {
		return err
	}
	for _, name := range files() {
		if now[name] != p.Files[name] {
			return errors.Join(fault.New(fault.Conflict, "somebody has changed "+filepath.Join(etc, name)+" meanwhile: the change is undone").
				WithHint(`see what changed it, then run "appliance firewall apply" again`), h.undo(ctx))
		}
	}
	// ufw.conf, by which the filter is started at boot, comes last: a crash in between leaves rules that let the same people in.
	for _, name := range files() {
		data, err := readFile(filepath.Join(h.staged(), etc, name))
		if err != nil {
			return err
		}
		if err := rewrite(filepath.Join(etc, name), func([]byte) []byte { return data }); err != nil {
			return fault.New(fault.Unavailable, "the rules cannot be kept: the next boot would start without them").WithHint("is there room in /etc? then confirm, or apply again").WithCause(err)
		}
	}
	return h.done(ctx)
}

// Rollback undoes the change that waits; it does nothing when none does. due leaves one alone whose time has not come yet.
func (h *Host) Rollback(ctx context.Context, due bool) (undone bool, err error) {
	if err := ready(); err != nil {
		return false, err
	}
	unlock, err := h.waitLock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	p, err := h.pending()
	if errors.Is(err, fs.ErrNotExist) || err == nil && due && h.awake()+time.Second < p.Due {
		return false, nil
	}
	return true, h.undo(ctx)
}

// waitLock is lock, but waits: what the timer starts must not be lost because somebody looks at the same moment.
func (h *Host) waitLock(ctx context.Context) (unlock func(), err error) {
	for {
		if unlock, err = h.lock(); err == nil {
			return unlock, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// undo gives the kernel what ufw's own files say.
func (h *Host) undo(ctx context.Context) error {
	if err := load(ctx, ""); err != nil {
		return fault.New(fault.Unavailable, "the packet filter cannot be put back").WithHint("reboot: ufw's files are the old ones").WithCause(err)
	}
	return h.done(ctx)
}

// done forgets the change, whichever way it ended.
func (h *Host) done(ctx context.Context) error {
	if err := h.clean(); err != nil {
		return err
	}
	if err := h.timer.Disarm(ctx); err != nil {
		return fmt.Errorf("the timer that would undo the change: %w", err) // it finds nothing to undo
	}
	return nil
}

func (h *Host) clean() error {
	return errors.Join(os.RemoveAll(h.pendingFile()), os.RemoveAll(h.staged()))
}
