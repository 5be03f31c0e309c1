package durable

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Explain says for the outside what the operating system refused in err's tree and what helps: one sentence that names the file when err
// does, without a full stop, and a hint. Both are empty when no error of the operating system is in the tree.
func Explain(err error) (public, hint string) {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return "", ""
	}
	what, hint := explainErrno(errno)
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Path + ": " + what, hint
	case errors.As(err, &link):
		return link.New + ": " + what, hint
	}
	return "a file cannot be used: " + what, hint
}

func explainErrno(errno unix.Errno) (what, hint string) {
	switch errno {
	case unix.ENOSPC, unix.EDQUOT:
		return "the disk is full", "free space on that disk, then try again"
	case unix.EROFS:
		return "the disk is mounted read-only", "mount it for writing; a disk that turned read-only by itself is failing"
	case unix.EACCES, unix.EPERM:
		return "this user has no right to it", "run as the user that the appliance's folder belongs to"
	case unix.ENOENT:
		return "it is not there", "restore it from the backup, or correct the path in the configuration"
	case unix.ELOOP:
		return "a symbolic link stands in its place", "see who put it there, then remove it"
	case unix.EISDIR:
		return "it is a folder, not a file", "move the folder away and restore the file from the backup"
	case unix.ENOTDIR:
		return "a part of the path is a file, not a folder", "move that file away, or correct the path in the configuration"
	case unix.EIO:
		return "the disk reports an error", "replace the disk and restore the backup"
	case unix.EMFILE, unix.ENFILE:
		return "too many files are open", "raise the limit of open files (LimitNOFILE in the systemd unit, ulimit -n)"
	}
	return errno.Error(), "see what the system's log says (journalctl -k)"
}
