// Package objects keeps big and secret things (signed PDFs, wrapped keys, proofs) as immutable sealed files, each named by the SHA-256 of its bytes.
//
// An object's content is under a key of its own, which only the token can open; its kind is in the header, in clear, and authenticated. A file that
// was changed, cut, extended or put in the place of another is refused before any of its content is returned. What format a file has is said in
// seal.go and docs/audit-log.md.
package objects

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// MaxSize is the largest content, in bytes.
const MaxSize = 256 << 20

// KeySealer seals 32-byte object keys and opens them again; the token does it inside.
type KeySealer interface {
	SealKey(key []byte) (sealed []byte, err error)
	OpenKey(sealed []byte) (key []byte, err error)
}

// Store is a folder of objects. Its methods may be called from several goroutines at once.
type Store struct {
	fs     durable.FS
	dir    string
	keys   KeySealer
	lock   io.Closer
	disk   *durable.Together
	serial atomic.Uint64 // names temporary files

	mu   sync.Mutex
	sure map[string]bool          // objects that Missing need not look at again
	busy map[string]chan struct{} // objects that are being imported; closed when that has ended
}

// Open opens the store in dir, which it makes when missing. Several processes may have it open.
func Open(dir string, keys KeySealer) (*Store, error) { return OpenFS(durable.OS{}, dir, keys) }

// OpenFS is Open over a given file system.
func OpenFS(fsys durable.FS, dir string, keys KeySealer) (*Store, error) {
	s := &Store{fs: fsys, dir: dir, keys: keys}
	for _, d := range []string{dir, s.tmp()} {
		if err := durable.Mkdir(fsys, d, 0o700); err != nil {
			return nil, refused(fmt.Errorf("objects: %w", err))
		}
	}
	if err := s.sweep(); err != nil {
		return nil, refused(err)
	}
	var err error
	if s.disk, err = durable.OpenTogether(fsys, dir); err != nil {
		return nil, errors.Join(refused(err), s.lock.Close())
	}
	return s, nil
}

func (s *Store) tmp() string { return filepath.Join(s.dir, "tmp") }

// sweep removes the unfinished files of a process that crashed, unless another process is at work here, and takes the shared lock.
func (s *Store) sweep() error {
	name := filepath.Join(s.dir, "lock")
	alone, err := s.fs.Lock(name, false)
	if err == nil {
		left, err := s.fs.List(s.tmp())
		if err != nil {
			return errors.Join(err, alone.Close())
		}
		for _, n := range left {
			if err := s.fs.Remove(filepath.Join(s.tmp(), n)); err != nil {
				return errors.Join(fmt.Errorf("objects: removing an unfinished object: %w", err), alone.Close())
			}
		}
		if err := alone.Close(); err != nil {
			return err
		}
	} else if !errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("objects: %w", err)
	}
	s.lock, err = s.fs.Lock(name, true)
	if err != nil {
		return fmt.Errorf("objects: %w", err)
	}
	return nil
}

// Close lets go of the store; nothing may be going on in it.
func (s *Store) Close() error { return errors.Join(s.disk.Close(), s.lock.Close()) }

// Put seals plain as a new object of that kind (1 to 32 of a-z 0-9 _ . -) and returns its ID, 64 hex digits. When it returns nil the object is
// durable. Each call seals with a fresh key and so makes another object with another ID: repeating a Put that failed, or whose answer was lost, does
// no harm beyond the space.
func (s *Store) Put(ctx context.Context, kind string, plain []byte) (string, error) {
	return s.put(ctx, kind, bytes.NewReader(plain), min(int64(len(plain)), MaxSize))
}

// PutFrom is Put of all that r yields.
func (s *Store) PutFrom(ctx context.Context, kind string, r io.Reader) (string, error) {
	return s.put(ctx, kind, r, MaxSize)
}

// put seals at most size bytes that r yields. The order is what durability rests on: the file, its name, and then a sync of the file system, which is shared
// with every other Put that wants one then. A process that dies leaves a file without a name or a whole one with it. A power cut can leave a name with
// content that is not whole: nobody was told of it, no line names it, and its hash tells.
func (s *Store) put(ctx context.Context, kind string, r io.Reader, size int64) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := checkKind(kind); err != nil {
		return "", fault.New(fault.Invalid, "the kind of an object is 1 to 32 of a-z 0-9 _ . -").WithCause(err)
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails (crypto/rand since Go 1.24)
	sealed, err := s.keys.SealKey(key)
	if err != nil {
		return "", fmt.Errorf("objects: sealing the key of a new object: %w", err)
	}
	began := s.disk.Begin()
	tmp := filepath.Join(s.tmp(), strconv.Itoa(os.Getpid())+"-"+strconv.FormatUint(s.serial.Add(1), 10))
	id, err := s.writeTemp(tmp, func(w io.Writer) error {
		return sealTo(w, kind, key, sealed, &contentReader{ctx: ctx, r: r, left: size}, size)
	})
	clear(key)
	if err == nil {
		// A crash before this leaves a file in tmp, swept at the next Open; after it, an object that perhaps nothing names.
		err = s.name(tmp, id)
	}
	if err == nil {
		err = s.disk.Sync(began)
	}
	if err != nil {
		_ = s.fs.Remove(tmp) // best effort: the next Open sweeps it
		return "", refused(err)
	}
	return id, nil
}

// writeTemp writes an object into a temporary file and returns the SHA-256 of its bytes in hex.
func (s *Store) writeTemp(tmp string, write func(io.Writer) error) (id string, err error) {
	f, err := s.fs.Open(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return "", fmt.Errorf("objects: making a file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if err := write(io.MultiWriter(f, h)); err != nil {
		return "", fmt.Errorf("objects: writing an object: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Place is where the file of an object is in the store's folder. id is 64 hex digits.
func Place(id string) string { return filepath.Join(id[:2], id) }

func (s *Store) path(id string) string { return filepath.Join(s.dir, Place(id)) }

// name gives a temporary file its name, in one of 256 folders, which is made when missing. With more folders each new object would need a new one for
// long, which costs more than the object itself; ten million objects are 40,000 to a folder.
func (s *Store) name(tmp, id string) error {
	path := s.path(id)
	err := s.fs.Rename(tmp, path)
	if !errors.Is(err, fs.ErrNotExist) {
		return naming(id, err)
	}
	folder := filepath.Dir(path)
	if err := s.fs.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("objects: making %s: %w", folder, err)
	}
	return naming(id, s.fs.Rename(tmp, path))
}

func naming(id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("objects: naming object %s: %w", id, err)
}

// Get returns the content of an object. NotFound: there is none of that ID. Corrupt: the file is not what Put wrote under that ID.
func (s *Store) Get(ctx context.Context, id string) ([]byte, error) {
	r, err := s.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	plain := bytes.NewBuffer(make([]byte, 0, r.size+bytes.MinRead))
	if _, err := plain.ReadFrom(r); err != nil {
		return nil, err
	}
	return plain.Bytes(), nil
}

// Reader reads an object's content.
type Reader struct {
	kind string
	size int64 // of the file: more than the content
	file durable.File
	open *opener
	ctx  context.Context
	id   string
}

// Open returns a Reader of an object's content; the file's SHA-256 has been found to be its ID. Close it.
func (s *Store) Open(ctx context.Context, id string) (*Reader, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	f, err := s.fs.Open(s.path(id), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the object "+id+" is missing").
			WithHint("restore " + place(id) + " from the backup").WithCause(err)
	}
	if err != nil {
		return nil, refused(fmt.Errorf("objects: opening object %s: %w", id, err))
	}
	r, err := s.read(ctx, f, id)
	if err != nil {
		return nil, errors.Join(refused(err), f.Close())
	}
	return r, nil
}

func (s *Store) read(ctx context.Context, f durable.File, id string) (*Reader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("objects: size of object %s: %w", id, err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, &contentReader{ctx: ctx, r: io.NewSectionReader(f, 0, size), left: size}); err != nil {
		return nil, fmt.Errorf("objects: reading object %s: %w", id, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != id {
		return nil, corrupt(id, errForged)
	}
	body := io.NewSectionReader(f, 0, size)
	h, err := readHeader(body)
	if errors.Is(err, errNewer) {
		return nil, fault.New(fault.Unsupported, "object "+id+" was written by a later version of this program").WithHint("install that version, or a later one, and change nothing else").WithCause(err)
	}
	if err != nil {
		return nil, corrupt(id, err)
	}
	key, err := s.keys.OpenKey(h.sealedKey)
	if err != nil {
		return nil, fmt.Errorf("objects: opening the key of object %s: %w", id, err)
	}
	defer clear(key)
	o, err := newOpener(body, h, key)
	if err != nil {
		return nil, corrupt(id, err)
	}
	return &Reader{kind: h.kind, size: size, file: f, open: o, ctx: ctx, id: id}, nil
}

// Kind returns what kind the object was put as.
func (r *Reader) Kind() string { return r.kind }

// Read implements io.Reader; each byte it returns is authenticated.
func (r *Reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.open.Read(p)
	if errors.Is(err, errForged) {
		return n, corrupt(r.id, err)
	}
	return n, err
}

// Close implements io.Closer.
func (r *Reader) Close() error { return r.file.Close() }

func corrupt(id string, cause error) error {
	return fault.New(fault.Corrupt, "the object "+id+" is damaged").
		WithHint("restore " + place(id) + " from the backup: the file is named by the SHA-256 of its bytes").WithCause(cause)
}

// place names the file of an object for people.
func place(id string) string { return Place(id) + " in the objects folder" }

// refused gives an error of the operating system a text for the outside; others, and those that have one, stay as they are.
func refused(err error) error {
	var told *fault.Error
	public, hint := durable.Explain(err)
	if public == "" || errors.As(err, &told) {
		return err
	}
	return fault.New(fault.Unavailable, public).WithHint(hint).WithCause(err)
}

func checkID(id string) error {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != sha256.Size || hex.EncodeToString(b) != id {
		return fault.New(fault.Invalid, "an object ID is 64 lower-case hex digits")
	}
	return nil
}

// contentReader reads what is to be sealed or hashed, until its context is done or there is more than left bytes.
type contentReader struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (c *contentReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, fault.New(fault.TooLarge, fmt.Sprintf("an object has at most %d MiB", MaxSize>>20))
	}
	return n, err
}
