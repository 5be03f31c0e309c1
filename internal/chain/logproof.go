package chain

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of a proof file.
const (
	maxPath  = 64 // hashes: a tree has at most 2^62 leaves
	maxExtra = 64 << 10
)

const logProofHeader = "c2sp.org/tlog-proof@v1"

// LogProof is a proof that can be verified offline: a line's place in the log, the path from there to the root, and the checkpoint with that root
// (C2SP tlog-proof).
type LogProof struct {
	Extra      []byte // opaque and not authenticated; nil when there is none
	Seq        uint64 // of the line, counted from 0: the index
	Path       []Hash // RFC 6962 §2.1.1
	Checkpoint []byte // the signed note, with its cosignatures
}

// Marshal returns the proof file.
func (p LogProof) Marshal() []byte {
	b := []byte(logProofHeader + "\n")
	if p.Extra != nil {
		b = append(b, "extra "...)
		b = append(base64.StdEncoding.AppendEncode(b, p.Extra), '\n')
	}
	b = fmt.Appendf(b, "index %d\n", p.Seq)
	b = appendHashes(b, p.Path)
	return append(append(b, '\n'), p.Checkpoint...)
}

// ParseLogProof reads a proof file. The checkpoint it holds is not looked at: Verify does that.
//
//	ParseLogProof(b).Marshal() == b, for every b that it accepts
func ParseLogProof(b []byte) (LogProof, error) {
	if len(b) > MaxNote+maxExtra+maxPath*64 {
		return LogProof{}, fmt.Errorf("chain: a proof of %d bytes", len(b))
	}
	head, checkpoint, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || lines[0] != logProofHeader || len(lines) < 2 {
		return LogProof{}, errors.New("chain: not a proof: " + logProofHeader)
	}
	p := LogProof{Checkpoint: []byte(checkpoint)}
	lines = lines[1:]
	if extra, has := strings.CutPrefix(lines[0], "extra "); has {
		var err error
		p.Extra, err = base64.StdEncoding.Strict().DecodeString(extra)
		if err != nil || len(p.Extra) > maxExtra || len(lines) < 2 || base64.StdEncoding.EncodeToString(p.Extra) != extra {
			return LogProof{}, errors.New("chain: the extra data of a proof is not base64, too long, or all there is")
		}
		lines = lines[1:]
	}
	index, has := strings.CutPrefix(lines[0], "index ")
	var err error
	if p.Seq, err = parseSize(index); err != nil || !has {
		return LogProof{}, fmt.Errorf("chain: a proof with %q where its index is due", lines[0])
	}
	if p.Path, err = parseHashes(lines[1:], maxPath); err != nil {
		return LogProof{}, fmt.Errorf("chain: a proof: %w", err)
	}
	return p, nil
}

// Verify returns what the proof shows of a line: the checkpoint under which it is, signed by the log's key, and who of the policy cosigned that. A nil
// policy asks for nobody. ErrQuorum comes with both.
func (p LogProof) Verify(line []byte, origin, verifierKey string, policy *Policy) (Checkpoint, []Cosignature, error) {
	if policy == nil {
		policy = &Policy{}
	}
	c, found, err := policy.Open(p.Checkpoint, origin, verifierKey)
	if err != nil && !errors.Is(err, ErrQuorum) {
		return c, found, err
	}
	if wrong := VerifyInclusion(LeafHash(line), p.Seq, c.Tree, p.Path); wrong != nil {
		return Checkpoint{}, nil, wrong
	}
	return c, found, err
}

// appendHashes appends a line of base64 for each hash.
func appendHashes(b []byte, hashes []Hash) []byte {
	for _, h := range hashes {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return b
}

// parseHashes reads lines of base64, at most most of them.
func parseHashes(lines []string, most int) ([]Hash, error) {
	if len(lines) > most {
		return nil, fmt.Errorf("%d hashes, more than %d", len(lines), most)
	}
	var out []Hash
	for _, line := range lines {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != HashSize || len(line) != base64.StdEncoding.EncodedLen(HashSize) {
			return nil, fmt.Errorf("%q is not the base64 of %d bytes", line, HashSize)
		}
		out = append(out, Hash(h))
	}
	return out, nil
}

// parseSize reads a decimal number without leading zeros.
func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("chain: %q is not a decimal number", s)
	}
	return n, nil
}
