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

	"github.com/veripath/aes-appliance/internal/fault"
)

// Socket says where a socket is and who may connect to it: connecting takes the right to write to it.
type Socket struct {
	Path  string
	Mode  fs.FileMode // 0600 or 0660
	Group string      // "" = the process's own
}

// maxPath is what struct sockaddr_un holds, with its final zero.
const maxPath = 107

// Listen makes the socket. What a process that ended left at the path is removed; there must be no other way for two to want it at once (the signer's
// is the lock on its log). The socket appears under its name only once its mode and group are right.
//
// Errors: Invalid (the path is too long, or the group is not known), Unavailable.
func Listen(s Socket) (*net.UnixListener, error) {
	tmp := s.Path + ".new"
	if len(tmp) > maxPath {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("the socket's path %s is longer than %d bytes", s.Path, maxPath-len(".new"))).
			WithHint("choose a shorter one: the system allows no more")
	}
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
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
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
