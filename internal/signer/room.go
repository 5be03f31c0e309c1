package signer

import (
	"errors"
	"syscall"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// LeastRoom is how much a disk must have free for a prescription to be signed, in bytes. With less, a line for each attempt would use up the space that the
// log holds back for downloads.
const LeastRoom = 4 << 20

// room returns why the disk does not allow to sign. A disk that does not say is found out by writing to it.
func (s *Signer) room() error {
	free, err := durable.Room(s.cfg.StateDir)
	if err != nil || free >= LeastRoom {
		return nil
	}
	return fullDisk(nil)
}

// diskFault says of what the disk refused that it is the disk, and not which file: that is in the cause, for the journal.
func diskFault(err error) error {
	if fault.KindOf(err) != fault.Unavailable {
		return err
	}
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, errno) {
			return fullDisk(err)
		}
	}
	return err
}

func fullDisk(cause error) error {
	return fault.New(fault.Unavailable, "the appliance cannot keep anything: its disk is full or does not work").
		WithHint("try again later: nothing that was acknowledged is lost, and the same content is signed once. An operator makes room: \"appliance doctor\" says where").WithCause(cause)
}
