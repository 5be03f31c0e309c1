package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Socket says where a socket is and who may connect to it: connecting takes the right to write to it.
type Socket struct {
	Path  string
	Mode  fs.FileMode // 0600 or 0660
	Group string      // "" = the process's own
}

// maxPath is what struct sockaddr_un holds besides its final zero.
const maxPath = 107

// reach returns a name of path that fits into a socket's address. That of a long one goes through a descriptor of its folder (proc(5)) and holds until
// release is called.
func reach(path string) (name string, release func() error, err error) {
	if len(path) <= maxPath {
		return path, func() error { return nil }, nil
	}
	folder, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path)), folder.Close, nil
}

// Listen makes the socket. What a process that ended left at the path is removed; there must be no other way for two to want it at once (the signer's
// is the lock on its log). The socket appears under its name only once its mode and group are right.
//
// Errors: Invalid (the group is not known), Unavailable.
func Listen(s Socket) (*net.UnixListener, error) {
	tmp := s.Path + ".new"
	if s.Mode&^0o660 != 0 {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("a socket of mode %04o would be open to all", s.Mode))
	}
	gid := -1
	if s.Group != "" {
		g, err := user.LookupGroup(s.Group)
		if err != nil {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("there is no group %.60q for the socket %s", s.Group, s.Path)).WithCause(err)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("the group %.60q has no number", s.Group)).WithCause(err)
		}
	}
	cannot := func(err error) error {
		return fault.New(fault.Unavailable, "cannot make the socket "+s.Path).WithCause(err).
			WithHint("the folder must be there, and belong to the service: systemd makes it (RuntimeDirectory)")
	}
	if err := removeSocket(tmp); err != nil {
		return nil, cannot(err)
	}
	// Under a name that nobody uses, and without the right to connect for anybody but the owner and root (umask), until all is set.
	name, release, err := reach(tmp)
	if err != nil {
		return nil, cannot(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err := errors.Join(err, release()); err != nil {
		return nil, cannot(err)
	}
	l.SetUnlinkOnClose(false)
	if gid >= 0 {
		err = os.Lchown(tmp, -1, gid)
	}
	if err == nil {
		err = os.Chmod(tmp, s.Mode)
	}
	if err == nil {
		err = removeSocket(s.Path)
	}
	if err == nil {
		err = os.Rename(tmp, s.Path)
	}
	if err != nil {
		return nil, errors.Join(cannot(err), l.Close(), os.Remove(tmp))
	}
	return l, nil
}

// removeSocket removes a socket, and nothing else than a socket.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket", filepath.Base(path))
	}
	return os.Remove(path)
}
