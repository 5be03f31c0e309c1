package replica

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/durable"
)

// appendFlag is FS_APPEND_FL of linux/fs.h.
const appendFlag = 0x20

// protect makes a file of the log append-only, as chattr +a does, or undoes that, where the file system has it and this process may
// (CAP_LINUX_IMMUTABLE). Whether it is shows in Status.
func (m *mirror) protect(name string, on bool) {
	if _, real := m.cfg.fs.(durable.OS); !real || !m.cfg.appendOnly && on {
		return
	}
	if err := setAppendOnly(m.path(name), on); err != nil && on {
		m.cfg.log.Info("the file is not append-only for the file system", "file", m.path(name), "reason", err.Error())
	}
}

// setAppendOnly sets or clears FS_APPEND_FL (ioctl_iflags(2)).
func setAppendOnly(path string, on bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return fmt.Errorf("replica: reading the flags of %s: %w", path, err)
	}
	want := flags &^ appendFlag
	if on {
		want |= appendFlag
	}
	if want == flags {
		return nil
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(want)); err != nil {
		return fmt.Errorf("replica: setting the flags of %s: %w", path, err)
	}
	return nil
}

// AppendOnly says whether the file system keeps a file append-only (chattr +a).
func AppendOnly(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("replica: reading the flags of %s: %w", path, err)
	}
	return flags&appendFlag != 0, nil
}
