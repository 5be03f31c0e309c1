package durable

import (
	"io/fs"
	"syscall"
)

// OpenToOthers says whether a secret's file may be read, or changed, by others than its owner. The mode of a file with an access list shows what the list allows
// at most in the place of the group's rights: systemd (257) gives a credential that way, as root's own for root's group, to the service's user. That is let pass.
func OpenToOthers(info fs.FileInfo) bool {
	perm := info.Mode().Perm()
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 && st.Gid == 0 {
		perm &^= 0o040
	}
	return perm&0o077 != 0
}
