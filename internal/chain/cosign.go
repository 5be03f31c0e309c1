package chain

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// C2SP tlog-cosignature: an Ed25519 cosignature has signature type 0x04, and is an 8-byte time and a 64-byte signature.
const (
	algCosignature = 0x04
	cosignatureLen = 8 + ed25519.SignatureSize
	// maxPosix is the last second of the year 9999: a time after it is no time at which anything was signed.
	maxPosix = 253402300799
)

// WitnessKey is the public key of who cosigns checkpoints: a witness, or the mirror that a backup is. Keys can be compared with ==.
type WitnessKey struct {
	name string
	hash uint32
	pub  [ed25519.PublicKeySize]byte
}

// NewWitnessKey returns the key of the cosigner called name, a name as CheckOrigin allows it.
func NewWitnessKey(name string, pub ed25519.PublicKey) (WitnessKey, error) {
	if err := CheckOrigin(name); err != nil {
		return WitnessKey{}, err
	}
	if len(pub) != ed25519.PublicKeySize {
		return WitnessKey{}, fmt.Errorf("chain: a cosigner's key of %d bytes, not %d", len(pub), ed25519.PublicKeySize)
	}
	k := WitnessKey{name: name, pub: [ed25519.PublicKeySize]byte(pub)}
	// tlog-cosignature: SHA-256(<name> || "\n" || 0x04 || 32-byte Ed25519 cosigner public key)[:4].
	sum := sha256.Sum256(append([]byte(name+"\n"), k.material()...))
	k.hash = binary.BigEndian.Uint32(sum[:4])
	return k, nil
}

// ParseWitnessKey reads a verifier key ("name+hash+base64") of signature type 0x04.
//
//	ParseWitnessKey(k.String()) == k
func ParseWitnessKey(vkey string) (WitnessKey, error) {
	// The base64 may hold a "+", a name may not.
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return WitnessKey{}, fmt.Errorf("chain: %q is not a verifier key: name+hash+base64", vkey)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(raw) == 0 {
		return WitnessKey{}, fmt.Errorf("chain: the verifier key of %q is not base64", parts[0])
	}
	if raw[0] != algCosignature {
		return WitnessKey{}, fmt.Errorf("chain: the verifier key of %q has signature type %#02x, not %#02x (Ed25519 cosignatures)", parts[0], raw[0], algCosignature)
	}
	k, err := NewWitnessKey(parts[0], raw[1:])
	if err != nil {
		return WitnessKey{}, err
	}
	if k.String() != vkey {
		return WitnessKey{}, fmt.Errorf("chain: the verifier key of %q has the hash %s, not %08x", parts[0], parts[1], k.hash)
	}
	return k, nil
}

func (k WitnessKey) material() []byte { return append([]byte{algCosignature}, k.pub[:]...) }

// String returns the verifier key as C2SP signed-note writes it.
func (k WitnessKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.hash, base64.StdEncoding.EncodeToString(k.material()))
}

// Name returns the cosigner's name.
func (k WitnessKey) Name() string { return k.name }

// KeyHash returns the ID that stands before a signature of the key.
func (k WitnessKey) KeyHash() uint32 { return k.hash }

// Public returns the Ed25519 key.
func (k WitnessKey) Public() ed25519.PublicKey { return k.pub[:] }

// Verify implements note.Verifier: text is the note's, sig the time and the signature.
func (k WitnessKey) Verify(text, sig []byte) bool {
	at, ok := cosignedAt(sig)
	return ok && ed25519.Verify(k.pub[:], cosigned(text, at), sig[8:])
}

// cosigned returns what a cosigner signs of a note's text.
func cosigned(text []byte, at int64) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text)
}

// cosignedAt returns the time in a timestamped_signature, seconds since 1970.
func cosignedAt(sig []byte) (int64, bool) {
	if len(sig) != cosignatureLen {
		return 0, false
	}
	at := binary.BigEndian.Uint64(sig)
	return int64(at), at <= maxPosix
}

// Cosigner makes cosignatures.
type Cosigner struct {
	key    WitnessKey
	signer crypto.Signer
}

// NewCosigner returns the cosigner called name with an Ed25519 key, which may be in a token. A key must serve one name only: what it signs does not
// hold the name.
func NewCosigner(name string, key crypto.Signer) (*Cosigner, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("chain: the cosigner's key is a %T, not Ed25519", key.Public())
	}
	k, err := NewWitnessKey(name, pub)
	if err != nil {
		return nil, err
	}
	return &Cosigner{k, key}, nil
}

// Key returns the cosigner's public key.
func (c *Cosigner) Key() WitnessKey { return c.key }

// Cosign returns the signature line, with its newline, which says that at the given time cp was the largest tree of its log that the cosigner had
// seen, and that it is consistent with all before it. That this is so is the caller's to make sure of, and to make durable first.
func (c *Cosigner) Cosign(cp Checkpoint, at time.Time) ([]byte, error) {
	posix := at.Unix()
	if posix < 0 || posix > maxPosix {
		return nil, fmt.Errorf("chain: a cosignature at %s", at)
	}
	text := []byte(cp.Text())
	raw, err := c.signer.Sign(nil, cosigned(text, posix), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("chain: cosigning: %w", err)
	}
	sig := append(binary.BigEndian.AppendUint64(nil, uint64(posix)), raw...)
	if !c.key.Verify(text, sig) {
		return nil, errors.New("chain: the cosigner's key made a signature that does not verify")
	}
	sig = append(binary.BigEndian.AppendUint32(nil, c.key.hash), sig...)
	return fmt.Appendf(nil, "— %s %s\n", c.key.name, base64.StdEncoding.EncodeToString(sig)), nil
}

// Cosignature is a cosignature that was verified.
type Cosignature struct {
	Key  WitnessKey
	Time time.Time // UTC, whole seconds
}

// AddCosignatures verifies lines, which a witness answered for the checkpoint signed, and returns the checkpoint with those of them that are by one of
// the keys, each in place of an older one by the same key, and what they say. Lines of other keys are dropped. An error: lines are no signature
// lines, one by a key is wrong, or none is by a key.
func AddCosignatures(signed, lines []byte, keys ...WitnessKey) ([]byte, []Cosignature, error) {
	if len(signed)+len(lines) > MaxNote {
		return nil, nil, fmt.Errorf("chain: a checkpoint with %d bytes of cosignatures, more than %d in all", len(lines), MaxNote)
	}
	text, old, ok := strings.Cut(string(signed), "\n\n")
	if !ok || strings.HasPrefix(string(lines), "\n") {
		return nil, nil, errors.New("chain: not a signed checkpoint, or no signature lines")
	}
	text += "\n"
	if _, err := ParseCheckpoint(text); err != nil {
		return nil, nil, err
	}
	n, err := note.Open([]byte(text+"\n"+string(lines)), verifiers(keys))
	if err != nil {
		return nil, nil, fmt.Errorf("chain: cosignatures: %w", err)
	}
	found, err := cosignatures(n, keys)
	if err != nil {
		return nil, nil, err
	}
	out := text + "\n"
	for _, line := range strings.SplitAfter(old, "\n") {
		if line != "" && !signedBy(line, n.Sigs) {
			out += line
		}
	}
	for _, s := range n.Sigs {
		out += fmt.Sprintf("— %s %s\n", s.Name, s.Base64)
	}
	return []byte(out), found, nil
}

// signedBy says whether a signature line is by the key of one of sigs.
func signedBy(line string, sigs []note.Signature) bool {
	for _, s := range sigs {
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(value, "\n"))
		if name == s.Name && err == nil && len(raw) >= 4 && binary.BigEndian.Uint32(raw) == s.Hash {
			return true
		}
	}
	return false
}

// OpenCosigned is OpenCheckpoint that also returns the cosignatures by keys, in the note's order. Signatures by other keys are ignored; a wrong one by
// one of the keys is an error. Whether there are enough is for a Policy to say.
func OpenCosigned(signed []byte, origin, verifierKey string, keys ...WitnessKey) (Checkpoint, []Cosignature, error) {
	c, err := OpenCheckpoint(signed, origin, verifierKey)
	if err != nil || len(keys) == 0 {
		return c, nil, err
	}
	n, err := note.Open(signed, verifiers(keys))
	if _, none := errors.AsType[*note.UnverifiedNoteError](err); none {
		return c, nil, nil
	}
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("chain: cosignatures: %w", err)
	}
	found, err := cosignatures(n, keys)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	return c, found, nil
}

// Strip is OpenCheckpoint that also returns the note with the log's signature and the cosignatures by keys alone, all of them verified. Lines of other keys, which
// nobody here can judge, are left out: one that is false would keep the checkpoint from being opened by whoever knows that key.
func Strip(signed []byte, origin, verifierKey string, keys ...WitnessKey) (Checkpoint, []byte, error) {
	log, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("chain: verifier key: %w", err)
	}
	n, err := openNote(signed, log, keys)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	c, err := ParseCheckpoint(n.Text)
	if err == nil && (c.Origin != origin || log.Name() != origin) {
		err = fmt.Errorf("chain: a checkpoint of %q under a key named %q, not of %q", c.Origin, log.Name(), origin)
	}
	if err != nil {
		return Checkpoint{}, nil, err
	}
	out := []byte(n.Text + "\n")
	for _, s := range n.Sigs {
		out = fmt.Appendf(out, "— %s %s\n", s.Name, s.Base64)
	}
	return c, out, nil
}

// openNote verifies the signatures of a note by a log's key, which must have signed it, and by keys.
func openNote(signed []byte, log note.Verifier, keys []WitnessKey) (*note.Note, error) {
	if len(signed) > MaxNote {
		return nil, fmt.Errorf("chain: a checkpoint of %d bytes, more than %d", len(signed), MaxNote)
	}
	known := []note.Verifier{log}
	for _, k := range keys {
		known = append(known, k)
	}
	n, err := note.Open(signed, note.VerifierList(known...))
	if err != nil {
		return nil, fmt.Errorf("chain: checkpoint: %w", err)
	}
	for _, s := range n.Sigs {
		if s.Name == log.Name() && s.Hash == log.KeyHash() {
			return n, nil
		}
	}
	return nil, errors.New("chain: a checkpoint that its log has not signed")
}

func verifiers(keys []WitnessKey) note.Verifiers {
	vs := make([]note.Verifier, len(keys))
	for i, k := range keys {
		vs[i] = k
	}
	return note.VerifierList(vs...)
}

// cosignatures returns what the verified signatures of n say.
func cosignatures(n *note.Note, keys []WitnessKey) ([]Cosignature, error) {
	var out []Cosignature
	for _, s := range n.Sigs {
		for _, k := range keys {
			if k.name != s.Name || k.hash != s.Hash {
				continue
			}
			raw, err := base64.StdEncoding.DecodeString(s.Base64)
			if err != nil {
				return nil, fmt.Errorf("chain: the cosignature of %s: %w", strconv.Quote(s.Name), err)
			}
			at, ok := cosignedAt(raw[4:])
			if !ok {
				panic("chain: a verified cosignature without its time")
			}
			out = append(out, Cosignature{Key: k, Time: time.Unix(at, 0).UTC()})
			break
		}
	}
	return out, nil
}

// Cosigned is a signed checkpoint with what its verified cosignatures say.
type Cosigned struct {
	Checkpoint
	Note []byte        // with the signatures
	By   []Cosignature // verified
}
