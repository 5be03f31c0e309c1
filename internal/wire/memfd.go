package wire

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/fault"
)

// sealed is what makes a memfd immutable, for whoever made it too.
const sealed = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK

// Memfd returns a file in memory that holds data and that nobody can change any more, positioned at its beginning. The caller closes it.
func Memfd(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("wire: making a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	// Not Write: whoever gets the descriptor gets its position too, and may read from there.
	if _, err = f.WriteAt(data, 0); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sealed|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("wire: filling a file in memory: %w", err), f.Close())
	}
	return f, nil
}

// ReadDocument returns the content of a sealed memfd of at most max bytes. f may come from a peer that is not trusted: nothing is read from it
// unless it is memory that cannot change, so that what is checked is what is used, and no read blocks.
//
// Errors: Invalid (no descriptor, or not a sealed memfd), TooLarge.
func ReadDocument(f *os.File, max int64) ([]byte, error) {
	if f == nil {
		return nil, fault.New(fault.Invalid, "the document is missing: it comes as a descriptor")
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fault.New(fault.Invalid, "the descriptor cannot be used").WithCause(err)
	}
	var seals int
	var stat unix.Stat_t
	// F_GET_SEALS is refused (EINVAL) for everything but memory files: pipes, sockets, devices, files of any file system.
	controlErr := raw.Control(func(fd uintptr) {
		if seals, err = unix.FcntlInt(fd, unix.F_GET_SEALS, 0); err == nil {
			err = unix.Fstat(int(fd), &stat)
		}
	})
	if err := errors.Join(controlErr, err); err != nil {
		return nil, fault.New(fault.Invalid, "the descriptor is not of a file in memory").WithCause(err)
	}
	if seals&sealed != sealed {
		return nil, fault.New(fault.Invalid, "the file in memory is not sealed: it could change while it is read")
	}
	if stat.Size > max {
		return nil, fault.New(fault.TooLarge, fmt.Sprintf("the document has %d bytes, and %d are allowed", stat.Size, max))
	}
	data := make([]byte, stat.Size)
	if _, err := f.ReadAt(data, 0); err != nil && stat.Size > 0 {
		return nil, fmt.Errorf("wire: reading %s: %w", filepath.Base(f.Name()), err)
	}
	return data, nil
}
