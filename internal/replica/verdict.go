package replica

import (
	"fmt"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Verdict is how this log stands to the backup's copy, found by the Shipper itself: a checkpoint counts only when the log's own key signed it and the
// backup cosigned it, so that neither can accuse the other falsely.
type Verdict struct {
	Relation Relation
	Local    chain.Tree // the log here
	Backup   chain.Tree // what the backup cosigned last; Size 0 when it has nothing
	Note     []byte     // that checkpoint with its signatures; nil when it has nothing
	Known    chain.Tree // what this side remembers as cosigned
}

// Good says whether the log may grow: the backup has all of it or its beginning.
func (v Verdict) Good() bool { return v.Relation == Equal || v.Relation == Behind }

// Codes of Verdict.Err, and one more.
const (
	CodeRollback = "log-rolled-back"
	CodeFork     = "log-forked"
	CodeLost     = "backup-lost-history"
	CodeRefused  = "backup-refused" // of Run and Wait: the receiver did not take what it was sent
)

// Err returns what is wrong and what an operator can do, nil when nothing is: fault.Corrupt with one of the codes.
func (v Verdict) Err() error {
	switch v.Relation {
	case Equal, Behind:
		return nil
	case Rollback:
		return fault.New(fault.Corrupt, fmt.Sprintf("this log has %d lines, and the backup cosigned %d: the last %d are missing here",
			v.Local.Size, max(v.Backup.Size, v.Known.Size), max(v.Backup.Size, v.Known.Size)-v.Local.Size)).WithCode(CodeRollback).
			WithHint("this is an old copy of the disk, or its end was cut off: restore from the backup, never go on from here")
	case Lost:
		return fault.New(fault.Corrupt, fmt.Sprintf("the backup has %d lines, and it cosigned %d", v.Backup.Size, v.Known.Size)).WithCode(CodeLost).
			WithHint("the backup's disk was exchanged or put back: look into it there, then replace the backup; this log is not at fault")
	case Fork:
		return fault.New(fault.Corrupt, fmt.Sprintf("the first %d lines of this log are not those that the backup cosigned", v.Backup.Size)).WithCode(CodeFork).
			WithHint("the log was written anew on this side, or two hosts use its key: keep both disks, and restore from the backup")
	}
	return fault.New(fault.Internal, "the backup's verdict is unknown: "+string(v.Relation))
}

// finalError is an error that ends shipping until a person acts.
type finalError struct{ error }

// Unwrap returns the error for people.
func (e *finalError) Unwrap() error { return e.error }

// judge compares trees: known and backup are of checkpoints that were verified. at returns this log's tree at a size that it has.
func judge(local, backup, known chain.Tree, at func(uint64) (chain.Tree, error)) (Relation, error) {
	for _, other := range []chain.Tree{backup, known} {
		if other.Size > local.Size {
			return Rollback, nil
		}
		mine, err := at(other.Size)
		if err != nil {
			return "", err
		}
		if other.Size > 0 && mine.Root != other.Root {
			return Fork, nil
		}
	}
	switch {
	case known.Size > backup.Size:
		return Lost, nil
	case backup.Size == local.Size:
		return Equal, nil
	}
	return Behind, nil
}
