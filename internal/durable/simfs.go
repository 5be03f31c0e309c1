package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Open implements FS.
func (s *Sim) Open(name string, flag int, _ fs.FileMode) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, ErrSim
	}
	n := s.names[name]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case n == nil:
		if s.names[filepath.Dir(name)] == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		n = &simNode{}
		if err := s.change(simChange{name: name, node: n}); err != nil {
			return nil, err
		}
	case flag&os.O_TRUNC != 0:
		do, _, err := s.step()
		if do {
			n.data = nil
		}
		if err != nil {
			return nil, err
		}
	}
	return &simFile{sim: s, node: n, atEnd: flag&os.O_APPEND != 0}, nil
}

// Rename implements FS.
func (s *Sim) Rename(oldName, newName string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[oldName]
	if n == nil || s.names[filepath.Dir(newName)] == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	return s.change(simChange{name: newName, from: oldName, node: n})
}

// Remove implements FS.
func (s *Sim) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[name]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	err := s.change(simChange{name: name})
	if s.names[name] == nil && s.space >= 0 {
		s.space += int64(len(n.data))
	}
	return err
}

// Mkdir implements FS.
func (s *Sim) Mkdir(name string, _ fs.FileMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[name] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	if s.names[filepath.Dir(name)] == nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrNotExist}
	}
	return s.change(simChange{name: name, node: &simNode{dir: true}})
}

// List implements FS.
func (s *Sim) List(dir string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, ErrSim
	}
	var out []string
	for n := range s.names {
		if rest, ok := strings.CutPrefix(n, dir+"/"); ok && !strings.Contains(rest, "/") {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out, nil
}

// SyncDir implements FS.
func (s *Sim) SyncDir(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	do, _, err := s.step()
	if !do {
		return err
	}
	rest := s.log[:0]
	for _, c := range s.log {
		if filepath.Dir(c.name) == dir {
			c.apply(s.disk)
		} else {
			rest = append(rest, c)
		}
	}
	s.log = rest
	return err
}

// Volume implements FS.
func (s *Sim) Volume(string) (Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, ErrSim
	}
	return simVolume{s}, nil
}

type simVolume struct{ sim *Sim }

// Sync implements Volume.
func (v simVolume) Sync() error {
	s := v.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	do, _, err := s.step()
	if !do {
		return err
	}
	for _, c := range s.log {
		c.apply(s.disk)
	}
	s.log = nil
	for _, n := range s.disk {
		n.synced = slices.Clone(n.data)
	}
	return err
}

// Close implements Volume.
func (simVolume) Close() error { return nil }

// Lock implements FS.
func (s *Sim) Lock(name string, shared bool) (io.Closer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return nil, ErrSim
	}
	held := s.locks[name]
	if held < 0 || held > 0 && !shared {
		return nil, ErrLocked
	}
	if shared {
		s.locks[name]++
		return &simLock{s, name}, nil
	}
	s.locks[name] = -1
	return &simLock{s, name}, nil
}

type simLock struct {
	sim  *Sim
	name string
}

// Close implements io.Closer.
func (l *simLock) Close() error {
	l.sim.mu.Lock()
	defer l.sim.mu.Unlock()
	if l.sim.locks[l.name]--; l.sim.locks[l.name] < 0 {
		l.sim.locks[l.name] = 0
	}
	return nil
}

type simFile struct {
	sim   *Sim
	node  *simNode
	pos   int64
	atEnd bool // opened with O_APPEND: Write writes at the end, and there is no WriteAt
}

// Read implements io.Reader.
func (f *simFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *simFile) ReadAt(p []byte, off int64) (int, error) {
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if f.sim.dead {
		return 0, ErrSim
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements io.Writer.
func (f *simFile) Write(p []byte) (int, error) {
	if f.atEnd {
		size, err := f.Size()
		if err != nil {
			return 0, err
		}
		return f.writeAt(p, size)
	}
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	if f.atEnd {
		return 0, errors.New("durable: WriteAt on a file opened with O_APPEND") // as os.File
	}
	return f.writeAt(p, off)
}

func (f *simFile) writeAt(p []byte, off int64) (int, error) {
	s := f.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	do, half, err := s.step()
	if half {
		p, do = p[:len(p)/2], true
	}
	if !do {
		return 0, err
	}
	grow := max(0, off+int64(len(p))-int64(len(f.node.data)))
	if s.space >= 0 && grow > s.space {
		p, err = p[:max(0, int64(len(p))-(grow-s.space))], ErrNoSpace
		grow = s.space
	}
	if s.space >= 0 {
		s.space -= grow
	}
	f.node.data = append(f.node.data, make([]byte, grow)...)
	return copy(f.node.data[off:], p), err
}

// Close implements io.Closer.
func (f *simFile) Close() error { return nil }

// Size implements File.
func (f *simFile) Size() (int64, error) {
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if f.sim.dead {
		return 0, ErrSim
	}
	return int64(len(f.node.data)), nil
}

// Truncate implements File.
func (f *simFile) Truncate(size int64) error {
	s := f.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	do, _, err := s.step()
	if do {
		if was := int64(len(f.node.data)); s.space >= 0 && size < was {
			s.space += was - size
		}
		f.node.data = append(f.node.data[:min(size, int64(len(f.node.data)))], make([]byte, max(0, size-int64(len(f.node.data))))...)
	}
	return err
}

// Sync implements File.
func (f *simFile) Sync() error {
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	do, _, err := f.sim.step()
	if do {
		f.node.synced = slices.Clone(f.node.data)
	}
	return err
}
