package durable

import (
	"io/fs"
	"syscall"
	"testing"
	"time"
)

type file struct {
	mode     fs.FileMode
	uid, gid uint32
}

func (f file) Name() string       { return "pin" }
func (f file) Size() int64        { return 1 }
func (f file) Mode() fs.FileMode  { return f.mode }
func (f file) ModTime() time.Time { return time.Time{} }
func (f file) IsDir() bool        { return false }
func (f file) Sys() any           { return &syscall.Stat_t{Uid: f.uid, Gid: f.gid} }

// TestOpenToOthers: a secret is its owner's alone, or a credential of systemd's.
func TestOpenToOthers(t *testing.T) {
	for _, c := range []struct {
		file
		open bool
	}{
		{file{0o600, 7, 7}, false}, {file{0o400, 7, 7}, false}, {file{0o400, 0, 0}, false},
		{file{0o440, 0, 0}, false}, // systemd 257's, with an access list
		{file{0o440, 7, 7}, true}, {file{0o440, 0, 7}, true}, {file{0o440, 7, 0}, true},
		{file{0o444, 0, 0}, true}, {file{0o460, 0, 0}, true}, {file{0o604, 7, 7}, true},
	} {
		if OpenToOthers(c.file) != c.open {
			t.Errorf("mode %04o of %d:%d: %v", c.mode, c.uid, c.gid, !c.open)
		}
	}
}
