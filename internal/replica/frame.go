package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Limits of one request.
const (
	// MaxLines is how many bytes of lines one append carries at most: the largest group that a log writes at once (durable.MaxPending).
	MaxLines = 1 << 20
	// MaxCheckpoint is the largest signed checkpoint that is sent, in bytes: it has one signature, or two while the log's key changes.
	MaxCheckpoint = 2 << 10
	maxHeader     = 64
	// MaxAppend is the largest body of an append.
	MaxAppend = maxHeader + MaxLines + MaxCheckpoint
)

const appendMagic = "aes-append/1\n"

// Append is the body of an append request: lines that follow the first Old ones, and the log's signed checkpoint of what it is with them.
type Append struct {
	Old        uint64 // how many lines the receiver is believed to have
	Lines      []byte // each with its newline; none in a heartbeat
	Checkpoint []byte // a signed note (C2SP tlog-checkpoint)
}

// Marshal returns the request's body.
//
//	ParseAppend(a.Marshal()) == a
func (a Append) Marshal() []byte {
	b := make([]byte, 0, maxHeader+len(a.Lines)+len(a.Checkpoint))
	b = fmt.Appendf(b, "%sold %d\nlines %d\n\n", appendMagic, a.Old, len(a.Lines))
	b = append(b, a.Lines...)
	return append(b, a.Checkpoint...)
}

// ParseAppend reads the body of an append request; what it returns refers to b. It looks at the frame only: not into the lines, beyond that the last
// one ends, and not into the checkpoint.
func ParseAppend(b []byte) (Append, error) {
	if len(b) > MaxAppend {
		return Append{}, fmt.Errorf("replica: an append of %d bytes, more than %d", len(b), MaxAppend)
	}
	rest, ok := bytes.CutPrefix(b, []byte(appendMagic))
	if !ok {
		return Append{}, fmt.Errorf("replica: an append that does not begin with %q", appendMagic)
	}
	old, rest, err := cutNumber(rest, "old ")
	if err != nil {
		return Append{}, err
	}
	n, rest, err := cutNumber(rest, "lines ")
	if err != nil {
		return Append{}, err
	}
	if rest, ok = bytes.CutPrefix(rest, []byte("\n")); !ok {
		return Append{}, fmt.Errorf("replica: no empty line after the head of an append")
	}
	if n > MaxLines || n > uint64(len(rest)) {
		return Append{}, fmt.Errorf("replica: an append that says %d bytes of lines: there are %d at most, and %d are allowed", n, len(rest), MaxLines)
	}
	a := Append{Old: old, Lines: rest[:n:n], Checkpoint: rest[n:]}
	if n > 0 && a.Lines[n-1] != '\n' {
		return Append{}, fmt.Errorf("replica: an append whose lines end within a line")
	}
	if len(a.Checkpoint) == 0 || len(a.Checkpoint) > MaxCheckpoint {
		return Append{}, fmt.Errorf("replica: an append with a checkpoint of %d bytes, not 1 to %d", len(a.Checkpoint), MaxCheckpoint)
	}
	return a, nil
}

// cutNumber takes a line of a label and a decimal number from the beginning of b.
func cutNumber(b []byte, label string) (n uint64, rest []byte, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxHeader)], '\n')
	if end < 0 || !bytes.HasPrefix(b[:end], []byte(label)) {
		return 0, nil, fmt.Errorf("replica: no %q where it is due", label)
	}
	digits := string(b[len(label):end])
	n, err = strconv.ParseUint(digits, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != digits {
		return 0, nil, fmt.Errorf("replica: %q is not a decimal number below 2^63", digits)
	}
	return n, b[end+1:], nil
}

// LogID returns the name of a log in paths and of its folder: 32 hex digits of the SHA-256 of its origin.
func LogID(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:16])
}

// namesObject is what stands between the last characters of a key that names an object and its ID.
var namesObject = []byte(`object":"`)

const idLength = 2 * sha256.Size

// AppendObjects appends the IDs of the objects that a line of the log names: the value of every member of its details, at any depth, whose key is
// "object" or ends in "_object", when that value is a string of 64 lower-case hex digits. The line must be one (chain.ParseLine).
func AppendObjects(ids []string, line []byte) []string {
	// In a line a quote within a string is escaped: what is found here is the end of a key and the beginning of its value.
	for at := 0; ; {
		n := bytes.Index(line[at:], namesObject)
		if n < 0 {
			return ids
		}
		before, value := line[at+n-1], line[at+n+len(namesObject):]
		at += n + len(namesObject)
		if (before == '"' || before == '_') && len(value) > idLength && value[idLength] == '"' && isID(value[:idLength]) {
			ids = append(ids, string(value[:idLength]))
		}
	}
}

func isID[T string | []byte](s T) bool {
	if len(s) != idLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
