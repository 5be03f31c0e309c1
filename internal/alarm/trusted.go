package alarm

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// mostLinks is how many links a path may lead through; Linux takes as many.
const mostLinks = 40

// rootsOwn resolves the path of a program that root is about to run. It returns an error when somebody else could have put it there, or can have another one meant by the path:
// the daily examination runs the operator's program as root, and on a backup host a service's user runs the same. What is returned has no link in it, and only root can change
// what it stands for.
func rootsOwn(program string) (string, error) {
	path, links := "/", 0
	rest := strings.Split(program, "/")
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		isLink := info.Mode()&fs.ModeSymlink != 0
		// In a folder with the sticky bit others cannot exchange what is root's. A link's own mode says nothing.
		shared := info.Mode()&0o022 != 0 && !isLink && !(info.IsDir() && info.Mode()&fs.ModeSticky != 0)
		if !ok || st.Uid != 0 || shared {
			return "", fmt.Errorf("root does not run it: %s can be changed by others (chown -h root: and chmod go-w)", path)
		}
		if isLink {
			if links++; links > mostLinks {
				return "", fmt.Errorf("%s: %w", program, syscall.ELOOP)
			}
			to, err := os.Readlink(path)
			if err != nil {
				return "", err
			}
			if path = filepath.Dir(path); strings.HasPrefix(to, "/") {
				path = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
		}
		if len(rest) == 0 {
			return path, nil
		}
		path, rest = filepath.Join(path, rest[0]), rest[1:] // ".." is the folder above: no link is left in path
	}
}
