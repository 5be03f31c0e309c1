package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	at := func(e unix.Errno) error {
		return fmt.Errorf("durable: writing: %w", &fs.PathError{Op: "write", Path: "/s/f", Err: e})
	}
	for _, c := range []struct {
		err    error
		public string
	}{
		{at(unix.ENOSPC), "/s/f: the disk is full"},
		{at(unix.EROFS), "/s/f: the disk is mounted read-only"},
		{at(unix.EACCES), "/s/f: this user has no right to it"},
		{at(unix.ENOENT), "/s/f: it is not there"},
		{at(unix.EISDIR), "/s/f: it is a folder, not a file"},
		{at(unix.ENOTDIR), "/s/f: a part of the path is a file, not a folder"},
		{at(unix.EXDEV), "/s/f: " + unix.EXDEV.Error()},
		{&os.LinkError{Op: "rename", Old: "/s/f.tmp", New: "/s/f", Err: unix.EIO}, "/s/f: the disk reports an error"},
		{errors.Join(errors.New("other"), unix.EMFILE), "a file cannot be used: too many files are open"},
		{ErrNoSpace, "a file cannot be used: the disk is full"},
	} {
		public, hint := Explain(c.err)
		if public != c.public || hint == "" {
			t.Errorf("%v: %q, hint %q", c.err, public, hint)
		}
	}
	if public, hint := Explain(errors.New("own")); public != "" || hint != "" {
		t.Errorf("what the system did not say: %q %q", public, hint)
	}
	// The real things.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	_, err = full.Write([]byte("x"))
	if public, _ := Explain(err); public != "/dev/full: the disk is full" {
		t.Errorf("%q", public)
	}
	dir := t.TempDir()
	name, other := filepath.Join(dir, "f"), filepath.Join(dir, "other")
	if err := os.Symlink(other, name+".tmp"); err != nil {
		t.Fatal(err)
	}
	if public, _ := Explain(WriteFile(OS{}, name, []byte("x"), 0o600)); public != name+".tmp: a symbolic link stands in its place" {
		t.Errorf("%q", public)
	}
	if _, err := os.Lstat(other); err == nil {
		t.Error("written through a link that somebody put there")
	}
}
