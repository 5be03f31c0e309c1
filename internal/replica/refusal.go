package replica

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
)

// RefusalKind is why a receiver refused what an authenticated primary said.
type RefusalKind string

const (
	// RefusedFork: the log's key signed a history that does not begin with what was cosigned. Both checkpoints are kept: together they prove it.
	RefusedFork RefusalKind = "fork"
	// RefusedRollback: the primary says of itself that its log is smaller than what was cosigned.
	RefusedRollback RefusalKind = "rollback"
	// RefusedSignature: the checkpoint is not signed by the log's key, or is of another log.
	RefusedSignature RefusalKind = "signature"
	// RefusedLines: the lines are not lines, or do not follow each other.
	RefusedLines RefusalKind = "lines"
	// RefusedRoot: the lines follow, and the checkpoint's root is not that of the tree with them.
	RefusedRoot RefusalKind = "root"
)

// Refusal is what a receiver kept of something that it refused, and what it answers.
type Refusal struct {
	Kind    RefusalKind `json:"kind"`
	Time    time.Time   `json:"time"`
	Origin  string      `json:"origin"`
	Client  string      `json:"client"`  // the pin of who sent it
	Detail  string      `json:"detail"`  // what is wrong with it
	Offered string      `json:"offered"` // the signed checkpoint that was refused
	Held    string      `json:"held"`    // the cosigned checkpoint that it disagrees with; empty when nothing was cosigned yet
	Line    string      `json:"line,omitempty"`
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("replica: refused (%s): %s", r.Kind, r.Detail) }

// What is kept of refusals at most: a primary that goes mad must not fill the backup's disk. Later ones are counted, in the log and as alarms.
const maxRefusals = 8 << 20

// room is how far refusals of a kind may fill the file. What proves a fork is kept when all else no longer is: who has taken a primary over can have any amount refused.
func (k RefusalKind) room() int64 {
	switch k {
	case RefusedFork:
		return maxRefusals
	case RefusedRollback:
		return maxRefusals / 4 * 3
	}
	return maxRefusals / 2
}

// refusals is the open file of refusals, JSON lines.
type refusals struct {
	file  durable.File
	last  [sha256.Size]byte // of the last one kept, without its time
	count uint64            // in the life of this process
}

func openRefusals(fsys durable.FS, path string) (durable.File, error) {
	f, err := fsys.Open(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("replica: opening %s: %w", path, err)
	}
	return f, nil
}

// keep makes a refusal durable, unless there are too many; fresh says that it is not the one before once more, which is only counted.
func (f *refusals) keep(r Refusal) (fresh bool, err error) {
	f.count++
	same := r
	same.Time = time.Time{}
	plain, err := json.Marshal(same)
	if err != nil {
		return false, fmt.Errorf("replica: encoding a refusal: %w", err)
	}
	sum := sha256.Sum256(plain)
	if sum == f.last {
		return false, nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return false, fmt.Errorf("replica: encoding a refusal: %w", err)
	}
	size, err := f.file.Size()
	if err != nil {
		return false, fmt.Errorf("replica: size of the refusals: %w", err)
	}
	if size+int64(len(b))+2 > r.Kind.room() {
		f.last = sum
		return true, nil
	}
	// A crash within leaves a torn line: a newline first keeps the next one whole.
	if _, err := f.file.Write(append(append([]byte("\n"), b...), '\n')); err != nil {
		return true, fmt.Errorf("replica: writing a refusal: %w", err)
	}
	if err := f.file.Sync(); err != nil {
		return true, fmt.Errorf("replica: syncing a refusal: %w", err)
	}
	f.last = sum
	return true, nil
}

// AlarmKind is what a receiver calls for help about.
type AlarmKind string

const (
	AlarmRefusal AlarmKind = "refusal" // something was refused: Refusal says what
	AlarmSilence AlarmKind = "silence" // nothing was heard of a primary for longer than Peer.Silence
	AlarmLag     AlarmKind = "lag"     // lines come later than Peer.Lag after they were written
	AlarmReturn  AlarmKind = "return"  // and now it was
	AlarmRestore AlarmKind = "restore" // somebody redeemed a restore code, and reads a whole log
	AlarmDisk    AlarmKind = "disk"    // the backup's own disk failed, is full, or its copy is damaged
)

// Alarm is a call for help. Text is one sentence for people, without secrets.
type Alarm struct {
	Kind    AlarmKind
	Time    time.Time
	Origin  string
	Text    string
	Refusal *Refusal // of AlarmRefusal
}

// shortHex is the beginning of a hash, for people.
func shortHex(b []byte) string { return hex.EncodeToString(b[:8]) }
