package chain

import (
	"errors"
	"fmt"
	"strings"
)

// MaxAddCheckpoint is the largest body of an add-checkpoint request that ParseAddCheckpoint reads, in bytes.
const MaxAddCheckpoint = MaxNote + (MaxConsistency+1)*64

// AddCheckpoint is what a log asks a witness: to cosign a checkpoint that begins with the tree it cosigned before (C2SP tlog-witness).
type AddCheckpoint struct {
	Old        uint64 // size of the tree that the witness cosigned last, 0 for none
	Proof      []Hash // RFC 6962 §2.1.2, from Old to the checkpoint's size
	Checkpoint []byte // the signed note
}

// Marshal returns the body of the request.
func (r AddCheckpoint) Marshal() []byte {
	b := appendHashes(fmt.Appendf(nil, "old %d\n", r.Old), r.Proof)
	return append(append(b, '\n'), r.Checkpoint...)
}

// ParseAddCheckpoint reads the body of a request. Neither the note nor the proof is verified.
//
//	ParseAddCheckpoint(b).Marshal() == b, for every b that it accepts
func ParseAddCheckpoint(b []byte) (AddCheckpoint, error) {
	if len(b) > MaxAddCheckpoint {
		return AddCheckpoint{}, fmt.Errorf("chain: a request of %d bytes, more than %d", len(b), MaxAddCheckpoint)
	}
	head, checkpoint, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	size, has := strings.CutPrefix(lines[0], "old ")
	if !ok || !has {
		return AddCheckpoint{}, errors.New("chain: not a request to add a checkpoint")
	}
	old, err := parseSize(size)
	if err != nil {
		return AddCheckpoint{}, err
	}
	proof, err := parseHashes(lines[1:], MaxConsistency)
	if err != nil {
		return AddCheckpoint{}, fmt.Errorf("chain: the proof of a request: %w", err)
	}
	return AddCheckpoint{Old: old, Proof: proof, Checkpoint: []byte(checkpoint)}, nil
}

// ParseWitnessSize reads the answer of a witness that has cosigned another size than the old one of the request.
func ParseWitnessSize(body []byte) (uint64, error) {
	s, ok := strings.CutSuffix(string(body), "\n")
	if !ok || len(s) > 20 {
		return 0, errors.New("chain: the witness did not answer with a size and a newline")
	}
	return parseSize(s)
}
