package chain

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is what a log's key signs: that the log of this origin had this tree (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string // names the log; the name of its key as well
	Tree
}

// Text returns the body of the note.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// ParseCheckpoint reads the body of a note. Extension lines are allowed by C2SP tlog-checkpoint and not by this log: it writes none.
//
//	ParseCheckpoint(c.Text()) == c
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("chain: a checkpoint of %d lines, not 3", len(lines)-1)
	}
	if err := CheckOrigin(lines[0]); err != nil {
		return Checkpoint{}, err
	}
	size, err := parseSize(lines[1])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: the size of a checkpoint", err)
	}
	root, err := parseHashes(lines[2:3], 1)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("chain: the root of a checkpoint: %w", err)
	}
	return Checkpoint{Origin: lines[0], Tree: Tree{Size: size, Root: root[0]}}, nil
}

// CheckOrigin returns what keeps a string from being an origin and a key name: it must be 1 to 255 printable ASCII characters, without spaces and
// "+" (signed-note: key names).
func CheckOrigin(s string) error {
	if len(s) == 0 || len(s) > 255 {
		return fmt.Errorf("chain: an origin of %d bytes, not 1 to 255", len(s))
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '+' {
			return fmt.Errorf("chain: origin %q holds %q: only printable ASCII without spaces and + is allowed", s, c)
		}
	}
	return nil
}

// VerifierKey returns the note verifier key ("name+hash+base64") of a log's Ed25519 key.
func VerifierKey(origin string, pub ed25519.PublicKey) (string, error) {
	if err := CheckOrigin(origin); err != nil {
		return "", err
	}
	return note.NewEd25519VerifierKey(origin, pub)
}

// logKey reads the verifier key of a log, of signature type 0x01, and returns its name and its public key.
func logKey(vkey string) (name string, pub ed25519.PublicKey, err error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return "", nil, fmt.Errorf("chain: the verifier key of a log: %w", err)
	}
	// The base64 may hold a "+" itself: it begins after the second one.
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil {
		return "", nil, fmt.Errorf("chain: the verifier key of a log: %w", err)
	}
	pub = raw[1:]
	if again, err := VerifierKey(v.Name(), pub); err != nil || again != vkey {
		return "", nil, fmt.Errorf("chain: %q is not written as a verifier key is", vkey)
	}
	return v.Name(), pub, nil
}

// Sign returns c as a note signed by an Ed25519 key, which is handed the message itself (crypto.Hash(0)), as Ed25519 wants it.
func (c Checkpoint) Sign(key crypto.Signer) ([]byte, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("chain: the checkpoint key is a %T, not Ed25519", key.Public())
	}
	vkey, err := VerifierKey(c.Origin, pub)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("chain: checkpoint key: %w", err)
	}
	return note.Sign(&note.Note{Text: c.Text()}, noteSigner{v, key})
}

// noteSigner is a note.Signer whose key may be in a token.
type noteSigner struct {
	note.Verifier
	key crypto.Signer
}

// Sign implements note.Signer.
func (s noteSigner) Sign(msg []byte) ([]byte, error) {
	sig, err := s.key.Sign(nil, msg, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("chain: signing a checkpoint: %w", err)
	}
	if !s.Verify(msg, sig) {
		return nil, errors.New("chain: the checkpoint key made a signature that does not verify")
	}
	return sig, nil
}

// MaxNote is the largest signed checkpoint that OpenCheckpoint reads, in bytes.
const MaxNote = 64 << 10

// OpenCheckpoint verifies a signed checkpoint of origin against the log's verifier key and returns it. Signatures by other keys (cosignatures) are
// allowed and ignored.
func OpenCheckpoint(signed []byte, origin, verifierKey string) (Checkpoint, error) {
	if len(signed) > MaxNote {
		return Checkpoint{}, fmt.Errorf("chain: a checkpoint of %d bytes, more than %d", len(signed), MaxNote)
	}
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("chain: verifier key: %w", err)
	}
	// C2SP tlog-checkpoint: the log's key has the origin as its name.
	if v.Name() != origin {
		return Checkpoint{}, fmt.Errorf("chain: the verifier key is named %q, not %q", v.Name(), origin)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("chain: checkpoint: %w", err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != origin {
		return Checkpoint{}, fmt.Errorf("chain: a checkpoint of %q, not of %q", c.Origin, origin)
	}
	return c, nil
}

// LogName returns the origin that a log's verifier key is for: its name.
func LogName(verifierKey string) string {
	origin, _, _ := strings.Cut(verifierKey, "+")
	return origin
}

// CheckLogKey returns what keeps a string from being a log's verifier key (signature type 0x01).
func CheckLogKey(verifierKey string) error {
	_, _, err := logKey(verifierKey)
	return err
}
