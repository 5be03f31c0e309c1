package replica

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/objects"
)

// Source is where a copy of a log is fetched from: a *Client, or a *Folder.
type Source interface {
	Checkpoint(context.Context) ([]byte, error)
	Lines(ctx context.Context, from, to uint64) (io.ReadCloser, error)
	Object(ctx context.Context, id string) (io.ReadCloser, int64, error)
}

// Trust is by whose keys a copy is verified.
type Trust struct {
	Origin   string
	LogKey   string // verifier key
	Cosigner string // verifier key
}

// Fetched is what Fetch brought.
type Fetched struct {
	chain.Tree
	Cosigned time.Time // when the backup host last cosigned it
	Note     []byte
	Objects  int
}

// objectsFolder is the folder of objects in a state folder.
const objectsFolder = "objects"

// Fetch brings the log, as far as it is cosigned, and all objects that it names into dir, and verifies all of it: the cosigned checkpoint by the keys of t, each line, that
// the lines are the checkpoint's tree, each object by its name.
//
// Errors: Corrupt (the copy is not what was cosigned), NotFound (there is none, or an object is missing), those of the source and the disk.
func Fetch(ctx context.Context, src Source, t Trust, dir string) (Fetched, error) {
	var out Fetched
	note, err := src.Checkpoint(ctx)
	if err != nil {
		return out, err
	}
	if note == nil {
		return out, fault.New(fault.NotFound, "the backup holds nothing of this log")
	}
	cosigner, err := chain.ParseWitnessKey(t.Cosigner)
	if err != nil {
		return out, err
	}
	cp, by, err := chain.OpenCosigned(note, t.Origin, t.LogKey, cosigner)
	if err == nil && len(by) == 0 {
		err = errors.New("replica: it is not cosigned")
	}
	if err != nil {
		return out, fault.New(fault.Corrupt, "the backup's checkpoint is not signed by the log's key and its own").WithCause(err)
	}
	out = Fetched{Tree: cp.Tree, Cosigned: by[0].Time, Note: note}
	path := filepath.Join(dir, ledger.FileName)
	if err := fetchLines(ctx, src, path, cp.Tree); err != nil {
		return out, err
	}
	ids, err := objectsOf(path)
	if err != nil {
		return out, err
	}
	out.Objects = len(ids)
	return out, fetchObjects(ctx, src, ids, filepath.Join(dir, objectsFolder))
}

// fetchLines writes the lines of a tree into a new file, and verifies them.
func fetchLines(ctx context.Context, src Source, path string, tree chain.Tree) error {
	r, err := src.Lines(ctx, 0, tree.Size)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return storage(err)
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return errors.Join(storage(err), f.Close())
	}
	report, err := ledger.Verify(f, tree)
	if err == nil && report.Size != tree.Size {
		err = fault.New(fault.Corrupt, fmt.Sprintf("the backup gave %d lines, and cosigned %d", report.Size, tree.Size))
	}
	return errors.Join(err, f.Close(), durable.OS{}.SyncDir(filepath.Dir(path)))
}

// objectsOf returns the IDs of the objects that the lines of a file name, each once.
func objectsOf(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, storage(err)
	}
	defer f.Close()
	seen := map[string]bool{}
	var list, ids []string
	in := bufio.NewReaderSize(f, chain.MaxLine+2)
	for {
		line, err := in.ReadSlice('\n')
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, storage(err)
		}
		ids = AppendObjects(ids[:0], bytes.TrimSuffix(line, []byte("\n")))
		for _, id := range ids {
			if !seen[id] {
				seen[id] = true
				list = append(list, id)
			}
		}
	}
}

// fetchers is how many objects are fetched at once.
const fetchers = 8

func fetchObjects(ctx context.Context, src Source, ids []string, dir string) error {
	store, err := objects.Open(dir, nil) // nothing is unsealed
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan string)
	for range fetchers {
		wg.Go(func() {
			for id := range next {
				if err := fetchObject(ctx, src, store, id); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, id := range ids {
		select {
		case next <- id:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return errors.Join(context.Cause(ctx), store.Close())
}

func fetchObject(ctx context.Context, src Source, store *objects.Store, id string) error {
	r, _, err := src.Object(ctx, id)
	if err != nil {
		return err
	}
	defer r.Close()
	return store.Import(ctx, id, r)
}

// Folder is a copy on a disk: the folder of one log among a backup host's.
type Folder struct{ dir string }

// OpenFolder opens a copy and says of which log it is. NotFound: there is none in dir.
func OpenFolder(dir string) (f *Folder, origin string, err error) {
	data, err := durable.ReadFile(durable.OS{}, filepath.Join(dir, originFile), 1024)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fault.New(fault.NotFound, "there is no copy of a log in "+dir).
			WithHint(`name the folder that "appliance receiver status" shows, or a copy of it`)
	}
	if err != nil {
		return nil, "", storage(err)
	}
	return &Folder{dir}, strings.TrimSuffix(string(data), "\n"), nil
}

// Checkpoint implements Source.
func (f *Folder) Checkpoint(context.Context) ([]byte, error) {
	state, err := durable.ReadFile(durable.OS{}, filepath.Join(f.dir, stateName), 2*slotSize)
	if err != nil {
		return nil, storage(err)
	}
	return newest(state).note, nil
}

// newest returns the newer of a state's slots.
func newest(state []byte) (best held) {
	counter := uint64(0)
	for ; len(state) >= slotSize; state = state[slotSize:] {
		if n, h, err := parseSlot(state[:slotSize]); err == nil && n > counter {
			counter, best = n, h
		}
	}
	return best
}

// Lines implements Source.
func (f *Folder) Lines(_ context.Context, from, to uint64) (io.ReadCloser, error) {
	file, err := os.Open(filepath.Join(f.dir, LogFile))
	if err != nil {
		return nil, storage(err)
	}
	return &someLines{in: bufio.NewReaderSize(file, 1<<20), skip: from, left: to - from, file: file}, nil
}

// someLines reads a number of whole lines.
type someLines struct {
	in         *bufio.Reader
	skip, left uint64
	rest       []byte
	file       *os.File
}

// Read implements io.Reader.
func (s *someLines) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.skip == 0 && s.left == 0 {
			return 0, io.EOF
		}
		line, err := s.in.ReadSlice('\n')
		if err == io.EOF {
			return 0, fault.New(fault.Corrupt, "the copy ends before the last line that was cosigned")
		}
		if err != nil {
			return 0, fmt.Errorf("replica: reading the copy: %w", err)
		}
		if s.skip > 0 {
			s.skip--
			continue
		}
		s.left--
		s.rest = line
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (s *someLines) Close() error { return s.file.Close() }

// Object implements Source.
func (f *Folder) Object(_ context.Context, id string) (io.ReadCloser, int64, error) {
	if !isID(id) {
		return nil, 0, fault.New(fault.Invalid, "an object ID is 64 lower-case hex digits")
	}
	file, err := os.Open(filepath.Join(f.dir, objectsDir, objects.Place(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fault.New(fault.NotFound, "the copy lacks the object "+id)
	}
	if err != nil {
		return nil, 0, storage(err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(storage(err), file.Close())
	}
	return file, info.Size(), nil
}

// RedeemRestore redeems a restore code and returns a client that may read the log, and by whose keys that is to be verified. dial connects to the backup host.
func RedeemRestore(ctx context.Context, r Redemption, origin string) (*Client, Trust, error) {
	payload, err := json.Marshal(RestorePayload{Origin: origin})
	if err != nil {
		return nil, Trust{}, err
	}
	r.Kind, r.Payload = KindRestore, payload
	pin, answer, err := Redeem(ctx, r)
	if err != nil {
		return nil, Trust{}, err
	}
	var said RestoreAnswer
	if err := json.Unmarshal(answer, &said); err != nil {
		return nil, Trust{}, fault.New(fault.Invalid, "the backup's answer cannot be read").WithCause(err)
	}
	c, err := NewClient(ctx, ClientConfig{Origin: origin, Identity: r.Identity, Server: pin, Dial: r.Dial})
	return c, Trust{Origin: origin, LogKey: said.LogKey, Cosigner: said.Cosigner}, err
}
