package signer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/wire"
)

// copyCheck is the verification of what the backup holds. It takes longer than an operation may, so it runs by itself, and whoever asked asks again for what became of it.
type copyCheck struct {
	mu   sync.Mutex
	life context.Context // of the server; nil: it does not serve
	run  *copyRun        // the newest; nil: none was begun, or what it came to has been told
}

// copyRun is one verification. What it came to is read after done is closed.
type copyRun struct {
	done  chan struct{}
	ended time.Time
	said  wire.BackupCopy
	err   error
}

// copyWait is how long one who asks waits.
const copyWait = time.Minute

// copyKept is how long a verification that has ended waits for who asked for it: who comes later wants to know how it is now.
const copyKept = 2 * copyWait

// scratchName is the folder of the state that a copy is fetched into.
const scratchName = "copy.scratch"

// during lets verifications run until ctx ends, and returns what waits for one that does.
func (c *copyCheck) during(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	c.life = ctx
	c.mu.Unlock()
	return func() {
		cancel()
		c.mu.Lock()
		c.life = nil
		run := c.run
		c.mu.Unlock()
		if run != nil {
			<-run.done
		}
	}
}

// begin starts do, unless one runs already or has just ended and nobody has been told, and returns which one it is: never do two at once, they use one folder.
func (c *copyCheck) begin(do func(context.Context) (wire.BackupCopy, error)) (*copyRun, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != nil && !c.run.stale() {
		return c.run, nil
	}
	if c.life == nil {
		return nil, fault.New(fault.Unavailable, "the signer is stopping")
	}
	life, run := c.life, &copyRun{done: make(chan struct{})}
	c.run = run
	go func() {
		defer close(run.done)
		run.said, run.err = do(life)
		run.ended = time.Now()
	}()
	return run, nil
}

// stale: it has ended so long ago that nobody waits for it any more.
func (r *copyRun) stale() bool {
	select {
	case <-r.done:
		return time.Since(r.ended) > copyKept
	default:
		return false
	}
}

// tell returns what a run that has ended came to: whoever waited for it gets it, and who asks from now on has another begun.
func (c *copyCheck) tell(run *copyRun) (wire.BackupCopy, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == run { // else another has begun since, which is not to be forgotten
		c.run = nil
	}
	return run.said, run.err
}

// backupCopy answers OpBackupCopy.
func (v *Server) backupCopy(ctx context.Context, _ wire.Nothing) (wire.BackupCopy, error) {
	if v.cfg.Backup == nil {
		return wire.BackupCopy{}, fault.New(fault.Unavailable, "no signer is running that could connect to a backup").WithHint("start the services")
	}
	run, err := v.copy.begin(v.verifyCopy)
	if err != nil {
		return wire.BackupCopy{}, err
	}
	enough := time.NewTimer(copyWait)
	defer enough.Stop()
	select {
	case <-run.done:
		return v.copy.tell(run)
	case <-enough.C:
		return wire.BackupCopy{Running: true}, nil
	case <-ctx.Done():
		return wire.BackupCopy{}, ctx.Err()
	}
}

// verifyCopy fetches everything that the backup holds into a scratch folder, verifies it against its cosigned checkpoint and that against this log, removes it, and
// records that. The folder of one that was interrupted is removed by the next.
func (v *Server) verifyCopy(ctx context.Context) (out wire.BackupCopy, err error) {
	dir := filepath.Join(v.s.cfg.StateDir, scratchName)
	clear := func() error {
		if err := os.RemoveAll(dir); err != nil {
			return fault.New(fault.Unavailable, "the scratch folder "+dir+" cannot be removed").WithCause(err)
		}
		return nil
	}
	if err := clear(); err != nil {
		return out, err
	}
	if err := v.roomForCopy(); err != nil {
		return out, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return out, fault.New(fault.Unavailable, "the scratch folder "+dir+" cannot be made").WithCause(err)
	}
	got, err := v.s.backup.FetchCopy(ctx, v.cfg.Backup, dir)
	if err := errors.Join(err, clear()); err != nil {
		return out, err
	}
	f, err := v.s.ledger.FrontierAt(ctx, got.Lines)
	if err != nil {
		return out, err
	}
	if tree := f.Tree(); hex.EncodeToString(tree.Root[:]) != got.Root {
		return out, fault.New(fault.Corrupt, "what the backup holds is not a beginning of this log").WithHint(`"appliance backup status" says how the backup stands`)
	}
	if err := v.s.backup.Copied(ctx, operatorActor, got); err != nil {
		return out, err
	}
	r, err := v.s.backup.Report()
	return wire.BackupCopy{From: got.From, Lines: got.Lines, At: got.At, Objects: got.Objects, Drilled: r.Drill.At}, err
}

// copySpare is what must be free beside a copy, in bytes: the log goes on meanwhile.
const copySpare = 1 << 30

// roomForCopy makes sure that a copy does not fill the disk: what the backup holds is what is here.
func (v *Server) roomForCopy() error {
	need := uint64(copySpare)
	add := func(path string, info fs.FileInfo) { need += uint64(info.Size()) }
	info, err := os.Stat(filepath.Join(v.s.cfg.StateDir, ledger.FileName))
	if err != nil {
		return fmt.Errorf("signer: the log's size: %w", err)
	}
	add("", info)
	err = filepath.WalkDir(filepath.Join(v.s.cfg.StateDir, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // deleted on schedule meanwhile
			return nil
		}
		if err == nil {
			add(path, info)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("signer: the objects' size: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(v.s.cfg.StateDir, &st); err != nil {
		return fmt.Errorf("signer: the disk's size: %w", err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fault.New(fault.Unavailable, fmt.Sprintf("there is no room for a copy of what the backup holds: it takes %d MiB, and %d are free", need>>20, free>>20)).
			WithHint("make the disk larger; what the backup holds can be fetched and verified on another machine meanwhile: appliance backup drill")
	}
	return nil
}
