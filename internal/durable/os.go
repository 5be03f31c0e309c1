package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const (
	flagRead = os.O_RDONLY | unix.O_NONBLOCK // a pipe in the place of a file is empty, and holds nobody up
	// What somebody else has put under the temporary name leads nowhere.
	flagCreate = os.O_WRONLY | os.O_CREATE | os.O_TRUNC | unix.O_NOFOLLOW
)

// OS is the machine's file system.
type OS struct{}

// Open implements FS.
func (OS) Open(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements FS.
func (OS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Mkdir implements FS.
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Volume implements FS.
func (OS) Volume(dir string) (Volume, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return osVolume{f}, nil
}

type osVolume struct{ *os.File }

// Sync uses syncfs(2). Since Linux 5.8 it reports, once to each open file, that something could not be written back since that was opened: so the file
// is the one of Volume, never a new one.
func (v osVolume) Sync() error {
	for {
		err := unix.Syncfs(int(v.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Lock implements FS with flock(2): the kernel lets go when the process ends, however it ends. A lock's file may be removed by who holds it: what is locked is what the name
// stands for at that moment, or two would hold it, one of them a file that has no name any more.
func (OS) Lock(name string, shared bool) (io.Closer, error) {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("%w: %s", ErrLocked, name), f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("durable: locking %s: %w", name, err), f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(name); err == nil && os.SameFile(mine, now) {
			return f, nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Sync uses fdatasync(2), which writes the size as well when that is needed to read the data back.
func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Ahead holds disk space back for what is written to f up to end, beyond its present end: that finds room on a disk that is full since. The size of the file
// stays. Where the file system cannot do that, the error says so, and nothing is lost.
func Ahead(f *os.File, end int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	from := info.Size()
	if end <= from {
		return nil
	}
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, from, end-from)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f osFile) ahead(end int64) error { return Ahead(f.File, end) }

// Room returns how many bytes whoever is not root may still write to the disk that dir is on.
func Room(dir string) (int64, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			return int64(st.Bavail) * st.Bsize, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("durable: room at %s: %w", dir, err)
		}
	}
}

// Full reports whether err says that a disk has no room.
func Full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
