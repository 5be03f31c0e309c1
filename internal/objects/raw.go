package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// MaxFile is the largest file of an object, in bytes: the largest content with its header and tags.
const MaxFile = MaxSize + MaxSize/chunkSize*tagSize + int64(len(magic)) + 1 + maxKind + 2 + maxSealedKey

// RawFile is an object's file, as it is on the disk. A copy needs no key: what it is checked by is its name.
type RawFile struct {
	*io.SectionReader // all of it
	file              durable.File
}

// Close lets go of the file.
func (r *RawFile) Close() error { return r.file.Close() }

// Raw opens the file of an object. Its bytes are not compared with its ID: whoever takes them does that. NotFound: there is none of that ID.
func (s *Store) Raw(id string) (*RawFile, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	f, err := s.fs.Open(s.path(id), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the object "+id+" is missing").WithHint("restore " + place(id) + " from the backup").WithCause(err)
	}
	if err != nil {
		return nil, refused(fmt.Errorf("objects: opening object %s: %w", id, err))
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(refused(fmt.Errorf("objects: size of object %s: %w", id, err)), f.Close())
	}
	return &RawFile{io.NewSectionReader(f, 0, size), f}, nil
}

// Missing returns those of ids of which there is no whole object here. Of the others, file and name are durable.
func (s *Store) Missing(ctx context.Context, ids []string) ([]string, error) {
	var missing, found []string
	began := s.disk.Begin()
	for _, id := range ids {
		if s.isSure(id) {
			continue
		}
		switch whole, err := s.whole(ctx, id); {
		case err != nil:
			return nil, err
		case whole:
			found = append(found, id)
		default:
			missing = append(missing, id)
		}
	}
	if len(found) == 0 {
		return missing, nil
	}
	if err := s.disk.Sync(began); err != nil {
		return nil, refused(err)
	}
	s.nowSure(found...)
	return missing, nil
}

// Used returns how many bytes the objects' files have in all. It looks at each.
func (s *Store) Used() (sum int64, err error) {
	folders, err := s.fs.List(s.dir)
	if err != nil {
		return 0, refused(fmt.Errorf("objects: %w", err))
	}
	for _, folder := range folders {
		if len(folder) != 2 {
			continue
		}
		ids, err := s.fs.List(filepath.Join(s.dir, folder))
		if err != nil {
			return 0, refused(fmt.Errorf("objects: %w", err))
		}
		for _, id := range ids {
			f, err := s.Raw(id)
			if err != nil {
				return 0, err
			}
			sum += f.Size()
			if err := f.Close(); err != nil {
				return 0, refused(err)
			}
		}
	}
	return sum, nil
}

// Check reads the file of an object and compares it with its ID. NotFound: there is none. Corrupt: it is another file, or a part of one.
func (s *Store) Check(ctx context.Context, id string) error {
	f, err := s.Raw(id)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return refused(err)
	}
	whole, err := s.whole(ctx, id)
	if err == nil && !whole {
		err = corrupt(id, errForged)
	}
	return err
}

// whole says whether the file of an object is there and is the one that its name says.
func (s *Store) whole(ctx context.Context, id string) (bool, error) {
	f, err := s.Raw(id)
	if fault.KindOf(err) == fault.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, &contentReader{ctx: ctx, r: f, left: f.Size()}); err != nil {
		return false, refused(fmt.Errorf("objects: reading object %s: %w", id, err))
	}
	return hex.EncodeToString(sum.Sum(nil)) == id, nil
}

// enter waits until nobody else imports the object, and keeps others out until leave is called.
func (s *Store) enter(ctx context.Context, id string) (leave func(), err error) {
	for {
		s.mu.Lock()
		busy := s.busy[id]
		if busy == nil {
			mine := make(chan struct{})
			if s.busy == nil {
				s.busy = map[string]chan struct{}{}
			}
			s.busy[id] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.busy, id)
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// maxSure bounds what is remembered: 64 bytes and some each.
const maxSure = 1 << 15

// isSure says whether an object is known to be whole and durable.
func (s *Store) isSure(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sure[id]
}

func (s *Store) nowSure(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sure == nil || len(s.sure) > maxSure {
		s.sure = map[string]bool{} // what is forgotten is read again when it is asked for
	}
	for _, id := range ids {
		s.sure[id] = true
	}
}

// Import takes the file of an object from another store and keeps it under its ID. When it returns nil the object is durable; of one that is there
// already r is not read. Invalid: the SHA-256 of what r yields is not id. TooLarge: there are more than MaxFile bytes.
//
// One sync of the file system makes content and name durable together. So a power cut can leave a name with content that is not whole: it is told by
// its hash, and replaced by the next Import.
func (s *Store) Import(ctx context.Context, id string, r io.Reader) error {
	if err := checkID(id); err != nil {
		return err
	}
	if missing, err := s.Missing(ctx, []string{id}); err != nil || len(missing) == 0 {
		return err
	}
	began := s.disk.Begin()
	tmp := filepath.Join(s.tmp(), strconv.Itoa(os.Getpid())+"-"+strconv.FormatUint(s.serial.Add(1), 10))
	sum, err := s.writeTemp(tmp, func(w io.Writer) error {
		_, err := io.Copy(w, &contentReader{ctx: ctx, r: r, left: MaxFile})
		return err
	})
	if err == nil && sum != id {
		err = fault.New(fault.Invalid, "the bytes given for object "+id+" have another SHA-256").WithCause(errors.New("objects: it is " + sum))
	}
	if err == nil {
		err = s.keep(ctx, tmp, id, began)
	}
	if err != nil {
		_ = s.fs.Remove(tmp) // best effort: the next Open sweeps it
		return refused(err)
	}
	return nil
}

// keep gives a whole temporary file its name. One at a time of one ID: a second one that fails would take away what the first was told is durable.
func (s *Store) keep(ctx context.Context, tmp, id string, began durable.Since) error {
	leave, err := s.enter(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	if missing, err := s.Missing(ctx, []string{id}); err != nil {
		return err
	} else if len(missing) == 0 { // another one was quicker
		return s.fs.Remove(tmp)
	}
	if err := s.name(tmp, id); err != nil {
		return err
	}
	if err := s.disk.Sync(began); err != nil {
		// What a failed sync left may look whole from memory and not be on the disk: the next Import must write it again.
		_ = s.fs.Remove(s.path(id))
		return err
	}
	s.nowSure(id)
	return nil
}
