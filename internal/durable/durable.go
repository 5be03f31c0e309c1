// Package durable writes files so that what it reported as written is there after a crash or a power cut, and what it did not finish is not there at
// all.
//
// Everything goes through FS, a small view of the file system, so that a test can make each durable step fail, done and not done, and cut the power
// (see Sim).
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// FS is what this package needs of a file system. OS is the real one.
type FS interface {
	// Open opens or makes a file, with the flags of os.OpenFile.
	Open(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newName by oldName in one step.
	Rename(oldName, newName string) error
	Remove(name string) error
	// Mkdir makes a directory; an existing one is fs.ErrExist.
	Mkdir(name string, perm fs.FileMode) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Volume opens the file system that dir is on. Everything below dir must be on that one.
	Volume(dir string) (Volume, error)
	// Lock takes an advisory lock on the file, which it makes when missing; ErrLocked when another holds it in a way that excludes this one.
	// Closing what it returns lets go.
	Lock(name string, shared bool) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes the content and the size durable.
	Sync() error
}

// Volume is an open file system.
type Volume interface {
	// Sync makes all content and all names durable that were there when it was called. It reports each loss since Volume once, whoever wrote.
	Sync() error
	io.Closer
}

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("durable: locked by another process")

// WriteFile replaces the file name by data in one step: afterwards, whatever happens, a reader finds all of the old content or all of the new; when
// it returns nil, the new. A leftover NAME.tmp of a crash is overwritten by the next call. Two calls for one name must not overlap.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	tmp := name + ".tmp"
	if err := writeSynced(fsys, tmp, data, perm); err != nil {
		return errors.Join(err, removeQuietly(fsys, tmp))
	}
	// A crash here leaves the old file and NAME.tmp.
	if err := fsys.Rename(tmp, name); err != nil {
		return fmt.Errorf("durable: renaming to %s: %w", name, err)
	}
	// A crash here leaves the old or the new file, each whole.
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("durable: syncing the folder of %s: %w", name, err)
	}
	return nil
}

func writeSynced(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.Open(name, flagCreate, perm)
	if err != nil {
		return fmt.Errorf("durable: making %s: %w", name, err)
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(fmt.Errorf("durable: writing %s: %w", name, err), f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("durable: syncing %s: %w", name, err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("durable: closing %s: %w", name, err)
	}
	return nil
}

// removeQuietly removes what a failed write left; that it could not is no news worth an error of its own.
func removeQuietly(fsys FS, name string) error {
	_ = fsys.Remove(name)
	return nil
}

// Mkdir makes a directory when there is none, below one that exists, and makes its name durable either way: one found in place may be what a crashed
// process made and never synced.
func Mkdir(fsys FS, dir string, perm fs.FileMode) error {
	if err := fsys.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("durable: making %s: %w", dir, err)
	}
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("durable: syncing the folder of %s: %w", dir, err)
	}
	return nil
}

// ReadFile returns the content of a file of at most max bytes.
func ReadFile(fsys FS, name string, max int64) ([]byte, error) {
	f, err := fsys.Open(name, flagRead, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("durable: size of %s: %w", name, err)
	}
	if size > max {
		return nil, fmt.Errorf("durable: %s has %d bytes, more than %d", name, size, max)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("durable: reading %s: %w", name, err)
	}
	return b, nil
}
