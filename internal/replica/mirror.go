package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/objects"
)

// The files of a log in its folder on the backup.
const (
	LogFile      = "audit_chain.jsonl" // as on the primary
	RefusalsFile = "refusals.jsonl"
	originFile   = "origin"
	stateName    = "state"
	blocksName   = "blocks"
	lockName     = "lock"
	objectsDir   = "objects"
)

// mirror is the copy of one log. After a step on its disk failed it is closed, and opened anew from what is durable by the next request: what a failed
// write or fsync left is never built on.
type mirror struct {
	cfg      mirrorConfig
	dir      string
	cosigner *chain.Cosigner

	mu      sync.Mutex // the order of appends; held for all that follows
	open    bool
	lock    io.Closer
	state   *stateFile
	file    durable.File
	blocks  []block
	index   durable.File // the blocks' file; nil when it could not be written: it is made anew at the next opening
	held    held
	cur     chain.Frontier // of the block that is not complete
	conn    uint64         // the newest connection that appended
	seen    time.Time      // when the primary was last heard
	silent  bool           // and that this was reported
	late    time.Duration  // by which the newest line was old when it came; 0: there was nothing to send
	counted bool           // something came since the start, so late says something
	level   bool           // the copy has been up to date since the start
	lagged  bool           // that it no longer is was reported
	called  time.Time      // when the alarm about the disk was raised
	refuse  refusals

	gone bool // shut for good

	objects *objects.Store // of the folder, not of one opening
	quota   quota
	// What one primary can hold of the receiver's memory and goroutines at once.
	uploads, bodies chan struct{}
}

const (
	maxUploads = 8 // objects that arrive
	maxBodies  = 2 // appends that are in memory
)

// mirrorConfig is what a mirror is made with.
type mirrorConfig struct {
	origin string
	keys   []string // the log's verifier keys: one, or the old and the new
	fs     durable.FS
	now    func() time.Time
	log    *slog.Logger
	alarm  func(Alarm)
	quota  int64 // Peer.Quota
	// appendOnly is ReceiverConfig.AppendOnly.
	appendOnly bool
}

func (m *mirror) path(name string) string { return filepath.Join(m.dir, name) }

// newMirror makes the folder of a log when there is none, and opens it.
func newMirror(cfg mirrorConfig, root string, cosigner *chain.Cosigner) (*mirror, error) {
	m := &mirror{cfg: cfg, dir: filepath.Join(root, LogID(cfg.origin)), cosigner: cosigner, seen: cfg.now(), quota: quota{most: cfg.quota},
		uploads: make(chan struct{}, maxUploads), bodies: make(chan struct{}, maxBodies)}
	if err := durable.Mkdir(cfg.fs, m.dir, 0o700); err != nil {
		return nil, storage(err)
	}
	if err := m.checkOrigin(); err != nil {
		return nil, err
	}
	var err error
	if m.objects, err = objects.OpenFS(cfg.fs, m.path(objectsDir), nil); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reopen(); err != nil {
		return nil, errors.Join(err, m.objects.Close())
	}
	if err := m.measure(); err != nil {
		m.close()
		return nil, errors.Join(err, m.objects.Close())
	}
	return m, nil
}

// checkOrigin writes whose folder it is into it, for people, and compares it when it is there.
func (m *mirror) checkOrigin() error {
	want := m.cfg.origin + "\n"
	got, err := durable.ReadFile(m.cfg.fs, m.path(originFile), 1<<10)
	if errors.Is(err, os.ErrNotExist) {
		if err := durable.WriteFile(m.cfg.fs, m.path(originFile), []byte(want), 0o600); err != nil {
			return storage(err)
		}
		return nil
	}
	if err != nil {
		return storage(err)
	}
	if string(got) != want {
		return fault.New(fault.Corrupt, fmt.Sprintf("the folder %s is that of another log", m.dir)).WithCause(fmt.Errorf("replica: it is that of %q", got))
	}
	return nil
}

// reopen opens the files from what is durable and checks that they belong together. m.mu is held.
func (m *mirror) reopen() error {
	if m.gone {
		return fault.New(fault.NotFound, "this log is not kept here any more")
	}
	if m.open {
		return nil
	}
	var err error
	if m.lock, err = m.cfg.fs.Lock(m.path(lockName), false); err != nil {
		if errors.Is(err, durable.ErrLocked) {
			return fault.New(fault.Unavailable, "another process has the backup's copy of this log open").WithHint("only one receiver may run").WithCause(err)
		}
		return storage(err)
	}
	if err := m.load(); err != nil {
		m.close()
		return storage(err)
	}
	m.open = true
	return nil
}

// load does the work of reopen.
func (m *mirror) load() error {
	var err error
	if m.state, m.held, err = openState(m.cfg.fs, m.path(stateName)); err != nil {
		return err
	}
	path := m.path(LogFile)
	if m.file, err = m.cfg.fs.Open(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return fmt.Errorf("replica: opening %s: %w", path, err)
	}
	size, err := sizeOf(m.file, path)
	if err != nil {
		return err
	}
	if m.state.counter == 0 && size > 0 {
		return lost("its state file is missing or damaged")
	}
	if size < m.held.offset {
		return lost(fmt.Sprintf("the file has %d bytes, and %d were cosigned", size, m.held.offset))
	}
	if err := m.checkHeld(); err != nil {
		return err
	}
	if size > m.held.offset {
		if err := m.setAside(size); err != nil {
			return err
		}
	}
	if err := m.file.Sync(); err != nil {
		return fmt.Errorf("replica: syncing %s: %w", path, err)
	}
	if err := m.cfg.fs.SyncDir(m.dir); err != nil {
		return fmt.Errorf("replica: syncing %s: %w", m.dir, err)
	}
	if err := m.loadBlocks(); err != nil {
		return err
	}
	if m.refuse.file, err = openRefusals(m.cfg.fs, m.path(RefusalsFile)); err != nil {
		return err
	}
	m.protect(LogFile, true)
	m.protect(RefusalsFile, true)
	// What was read may be in the page cache only: before anything is said of it, it is written again.
	return m.state.save(m.held)
}

// lost is the error of a copy that is not what was cosigned.
func lost(what string) error {
	return fault.New(fault.Corrupt, "the backup's copy of the log is damaged: "+what).
		WithHint("keep the folder as it is; restore it from a copy, or enrol this backup anew under a new name")
}

// checkHeld compares the checkpoint in the state with the rest of it.
func (m *mirror) checkHeld() error {
	if m.held.Size == 0 {
		return nil
	}
	cp, _, err := m.openCheckpoint(m.held.note)
	if err != nil || cp.Tree != m.held.tree.Tree() {
		return fault.New(fault.Corrupt, "the state of the backup's copy is not of this log").
			WithHint("were the log's keys in the receiver's configuration changed?").WithCause(err)
	}
	return nil
}

// openCheckpoint verifies a signed checkpoint by any of the log's keys. plain is the note with that signature alone: what else the primary wrote under it is
// not judged here, and must not stand beside the cosignature, where a false line would keep everybody from opening the note.
func (m *mirror) openCheckpoint(signed []byte) (cp chain.Checkpoint, plain []byte, err error) {
	for _, k := range m.cfg.keys {
		if cp, plain, err = chain.Strip(signed, m.cfg.origin, k); err == nil {
			return cp, plain, nil
		}
	}
	return chain.Checkpoint{}, nil, err
}

// setAside moves what stands after the cosigned lines, of a request that was never answered, into a file of its own and cuts it off.
func (m *mirror) setAside(size int64) error {
	n := size - m.held.offset
	if n > MaxLines {
		return lost(fmt.Sprintf("%d bytes stand after the cosigned lines, more than one request brings", n))
	}
	b, err := readRange(m.file, m.held.offset, size)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	name := fmt.Sprintf("%s.aside-%d-%s", LogFile, m.held.offset, hex.EncodeToString(sum[:4]))
	if err := durable.WriteFile(m.cfg.fs, m.path(name), b, 0o600); err != nil {
		return err
	}
	m.protect(LogFile, false)
	if err := m.file.Truncate(m.held.offset); err != nil {
		return fault.New(fault.Unavailable, "what a crash left after the last cosigned line cannot be cut off: "+m.path(LogFile)).
			WithHint("if it is append-only, run: chattr -a FILE, start the receiver, then chattr +a FILE").WithCause(err)
	}
	m.cfg.log.Warn("lines of a request that was never answered were set aside", "origin", m.cfg.origin, "file", name, "bytes", n)
	return nil
}

// loadBlocks reads the blocks' file and checks it and the last lines against the state; what is not right in it is made anew from the log.
func (m *mirror) loadBlocks() error {
	f, err := m.cfg.fs.Open(m.path(blocksName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("replica: opening %s: %w", m.path(blocksName), err)
	}
	m.index = f
	whole := m.held.Size / blockLines
	b := make([]byte, whole*blockSize)
	m.blocks, m.cur = nil, chain.Frontier{}
	if n, err := f.ReadAt(b, 0); n == len(b) && (err == nil || err == io.EOF) {
		m.blocks = parseBlocks(b)
		if hashBlocks(chain.Hash{}, m.blocks) == m.held.table && m.checkTail() == nil {
			return nil
		}
	}
	m.cfg.log.Warn("the table of the log's blocks is made anew", "origin", m.cfg.origin)
	var w walk
	if err := w.file(m.file, m.held.offset); err != nil {
		return lost(err.Error())
	}
	if w.State != m.held.State || w.tree.Tree() != m.held.tree.Tree() || hashBlocks(chain.Hash{}, w.full) != m.held.table {
		return lost("its lines are not those that were cosigned")
	}
	m.blocks, m.cur = w.full, w.cur
	var out []byte
	for _, b := range m.blocks {
		out = b.append(out)
	}
	if _, err := f.WriteAt(out, 0); err != nil {
		return fmt.Errorf("replica: writing the blocks: %w", err)
	}
	return nil
}

var errBlocks = errors.New("replica: the blocks do not fit the state")

// checkTail reads the lines of the last block that has any, and checks that they and the blocks before lead to the state.
func (m *mirror) checkTail() error {
	if m.held.Size == 0 {
		return nil
	}
	last := (m.held.Size - 1) / blockLines
	from := m.startOf(last)
	if from > m.held.offset || m.held.offset-from > blockLines*(chain.MaxLine+1) {
		return errBlocks
	}
	w, err := m.walkFrom(last*blockLines, from, m.held.offset)
	if err != nil {
		return err
	}
	all := append(m.blocks[:last:last], w.full...)
	tree := joined(all, &w.cur)
	if w.State != m.held.State || tree.Tree() != m.held.tree.Tree() {
		return errBlocks
	}
	m.cur = w.cur
	return nil
}

// walkFrom walks over the lines from a block's beginning to an offset; that its first line follows the one before shows in the tree only.
func (m *mirror) walkFrom(seq uint64, from, to int64) (*walk, error) {
	b, err := readRange(m.file, from, to)
	if err != nil {
		return nil, err
	}
	w := &walk{offset: from}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	link, err := w.parser.Link(first)
	if err != nil {
		return nil, err
	}
	w.State = chain.State{Size: seq, Head: link.Prev, Micros: link.Micros}
	return w, w.lines(b)
}

// startOf returns where a block begins, the one that is not complete included.
func (m *mirror) startOf(block uint64) int64 {
	if block == 0 {
		return 0
	}
	return m.blocks[block-1].end
}

// treeAt returns the tree over the first size lines, which are held. m.mu is held.
func (m *mirror) treeAt(size uint64) (chain.Tree, error) {
	if size == m.held.Size {
		return m.held.tree.Tree(), nil
	}
	whole, part := size/blockLines, size%blockLines
	var cur chain.Frontier
	if part > 0 {
		from, to := m.startOf(whole), m.held.offset
		if whole < uint64(len(m.blocks)) {
			to = m.blocks[whole].end
		}
		b, err := readRange(m.file, from, to)
		if err != nil {
			return chain.Tree{}, err
		}
		for range part {
			line, rest, ok := bytes.Cut(b, []byte("\n"))
			if !ok {
				return chain.Tree{}, lost("its lines are not where they were written")
			}
			cur.Append(chain.LeafHash(line))
			b = rest
		}
	}
	tree := joined(m.blocks[:whole], &cur)
	return tree.Tree(), nil
}

// callAgain is how long a failing disk is no news.
const callAgain = 10 * time.Minute

// fail closes the files after a step failed; the next request opens them anew. m.mu is held.
func (m *mirror) fail(err error) error {
	m.cfg.log.Error("the backup's disk failed", "origin", m.cfg.origin, "error", err.Error())
	m.close()
	err = storage(err)
	if now := m.cfg.now(); m.called.IsZero() || now.Sub(m.called) > callAgain {
		m.called = now
		m.cfg.alarm(Alarm{Kind: AlarmDisk, Time: now.UTC(), Origin: m.cfg.origin, Text: fault.PublicOf(err)})
	}
	return err
}

// close lets go of the files. Errors of closing say nothing: what counts was synced before. m.mu is held.
func (m *mirror) close() {
	for _, c := range []io.Closer{m.file, m.index, m.refuse.file, m.lock} {
		if c != nil {
			_ = c.Close()
		}
	}
	if m.state != nil {
		_ = m.state.file.Close()
	}
	m.file, m.index, m.refuse.file, m.lock, m.state, m.open = nil, nil, nil, nil, nil, false
}
