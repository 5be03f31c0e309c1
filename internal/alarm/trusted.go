package alarm

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// rootsOwn returns an error when a program that root is about to run is one that somebody else could have put there: the daily examination runs the operator's program as root, and
// on a backup host a service's user runs the same.
func rootsOwn(program string) error {
	path, err := filepath.EvalSymlinks(program)
	if err != nil {
		return err
	}
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		// In a folder with the sticky bit others cannot exchange what is root's.
		shared := info.Mode()&(0o022) != 0 && !(info.IsDir() && info.Mode()&fs.ModeSticky != 0)
		if !ok || st.Uid != 0 || shared {
			return fmt.Errorf("root does not run it: %s can be changed by others (chown root: and chmod go-w)", path)
		}
		if path == "/" {
			return nil
		}
		path = filepath.Dir(path)
	}
}
