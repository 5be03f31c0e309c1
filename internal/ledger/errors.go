package ledger

import (
	"errors"
	"fmt"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// stopped is the error of a ledger that takes no more entries because of cause.
func stopped(cause error) error {
	return fault.New(fault.Unavailable, "the log takes no more entries: its disk failed or is full").
		WithHint("free or replace the disk, then restart; nothing that was acknowledged is lost").WithCause(cause)
}

// refused gives an error of the operating system a text for the outside; others, and those that have one, stay as they are.
func refused(err error) error {
	var told *fault.Error
	public, hint := durable.Explain(err)
	if public == "" || errors.As(err, &told) {
		return err
	}
	return fault.New(fault.Unavailable, public).WithHint(hint).WithCause(err)
}

// broken is the error for the outside of a log that is not as it was written.
func broken(at *lineError) error {
	hint := "compare with the backup's copy; every line before this one is intact"
	if at.Seq == 0 {
		hint = "is this the log, audit_chain.jsonl? If it is, compare with the backup's copy"
	}
	return fault.New(fault.Corrupt, fmt.Sprintf("the log is broken at line %d (byte %d): %s", at.Seq+1, at.offset, complaint(at.What))).
		WithHint(hint).WithCause(at)
}

// complaint says what is wrong with a line; where exactly its form is wrong is left to the cause.
func complaint(what error) string {
	switch {
	case errors.Is(what, errTorn):
		return "the file ends within it"
	case errors.Is(what, chain.ErrTooLong):
		return "it is longer than a line may be"
	case errors.Is(what, chain.ErrHash):
		return "its hash is not that of what it says"
	case errors.Is(what, chain.ErrPrev):
		return "it does not follow the line before"
	case errors.Is(what, chain.ErrTime):
		return "its time is before that of the line before"
	}
	return "it does not have the form of a line"
}
