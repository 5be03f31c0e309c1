package objects

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The file format, version 1. All numbers are big-endian.
//
//	magic       8 bytes  "AESOBJ1\n"
//	kind        1 byte length (1..32), then [a-z0-9_.-]+
//	sealed key  2 bytes length (1..1024), then the object key as the token sealed it
//	chunks      AES-256-GCM under the object key, each 65536 bytes of content and a 16-byte tag, the last one shorter or equally long
//
// Chunk i has the nonce uint88(i) ‖ final, where final is 1 for the last chunk and 0 for the others, and the whole header as additional data: the
// STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015). The last
// chunk is empty only when the content is. Each object has a key of its own, so counted nonces never repeat under a key.
const (
	magic        = "AESOBJ1\n"
	chunkSize    = 64 << 10
	tagSize      = 16
	maxKind      = 32
	maxSealedKey = 1024
	keySize      = 32
)

// errForged is what opening any damaged or foreign content says: which of them it was cannot be told.
var errForged = errors.New("objects: the content is not what was sealed")

// errNewer says that a file is of a later version of the format: it is whole, and not for this program.
var errNewer = errors.New("objects: the file is of a later version of the format")

// family is the part of magic that every version has.
const family = "AESOBJ"

// appendHeader appends the header for an object of that kind.
func appendHeader(b []byte, kind string, sealedKey []byte) ([]byte, error) {
	if err := checkKind(kind); err != nil {
		return nil, err
	}
	if len(sealedKey) == 0 || len(sealedKey) > maxSealedKey {
		return nil, fmt.Errorf("objects: a sealed key of %d bytes, not 1 to %d", len(sealedKey), maxSealedKey)
	}
	b = append(b, magic...)
	b = append(b, byte(len(kind)))
	b = append(b, kind...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(sealedKey)))
	return append(b, sealedKey...), nil
}

func checkKind(kind string) error {
	if len(kind) == 0 || len(kind) > maxKind {
		return fmt.Errorf("objects: kind %q has %d bytes, not 1 to %d", kind, len(kind), maxKind)
	}
	for _, c := range []byte(kind) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return fmt.Errorf("objects: kind %q holds %q, not one of a-z 0-9 _ . -", kind, c)
		}
	}
	return nil
}

// header is a parsed header and its bytes.
type header struct {
	raw       []byte
	kind      string
	sealedKey []byte
}

// readHeader reads exactly the header from r.
func readHeader(r io.Reader) (header, error) {
	raw := make([]byte, len(magic)+1, len(magic)+1+maxKind+2+maxSealedKey)
	if _, err := io.ReadFull(r, raw); err != nil {
		return header{}, fmt.Errorf("objects: reading the header: %w", err)
	}
	if string(raw[:len(magic)]) != magic && string(raw[:len(family)]) == family {
		return header{}, errNewer
	}
	if string(raw[:len(magic)]) != magic {
		return header{}, fmt.Errorf("objects: the file begins with %q, not %q", raw[:len(magic)], magic)
	}
	kindEnd := len(raw) + int(raw[len(magic)])
	raw = raw[:kindEnd+2]
	if _, err := io.ReadFull(r, raw[len(magic)+1:]); err != nil {
		return header{}, fmt.Errorf("objects: reading the header: %w", err)
	}
	kind := string(raw[len(magic)+1 : kindEnd])
	if err := checkKind(kind); err != nil {
		return header{}, err
	}
	n := int(binary.BigEndian.Uint16(raw[kindEnd:]))
	if n == 0 || n > maxSealedKey {
		return header{}, fmt.Errorf("objects: a sealed key of %d bytes, not 1 to %d", n, maxSealedKey)
	}
	raw = raw[:kindEnd+2+n]
	if _, err := io.ReadFull(r, raw[kindEnd+2:]); err != nil {
		return header{}, fmt.Errorf("objects: reading the header: %w", err)
	}
	return header{raw: raw, kind: kind, sealedKey: raw[kindEnd+2:]}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce returns the nonce of chunk i.
func nonce(i uint64, final bool) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[3:11], i)
	if final {
		n[11] = 1
	}
	return n
}

// sealTo reads all of r, which is at most size bytes, and writes the object to w: the header, then the chunks.
func sealTo(w io.Writer, kind string, key, sealedKey []byte, r io.Reader, size int64) error {
	head, err := appendHeader(nil, kind, sealedKey)
	if err != nil {
		return err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	// One byte more than a chunk is read ahead: only so is it known which chunk is the last. The header goes along with the first. A chunk is sealed in
	// the place that it was read into.
	chunk := int(min(size, chunkSize))
	out := make([]byte, len(head)+chunk+tagSize)
	at, have := copy(out, head), 0
	for i := uint64(0); ; i++ {
		n, err := io.ReadFull(r, out[at+have:at+chunk+1])
		have += n
		final := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !final {
			return fmt.Errorf("objects: reading the content: %w", err)
		}
		if final {
			_, err = w.Write(aead.Seal(out[:at], nonce(i, true), out[at:at+have], head))
			return err
		}
		if chunk < chunkSize {
			return fmt.Errorf("objects: the content has more than the %d bytes that it was said to have", size)
		}
		ahead := out[at+chunkSize]
		if _, err := w.Write(aead.Seal(out[:at], nonce(i, false), out[at:at+chunkSize], head)); err != nil {
			return err
		}
		at, out[0], have = 0, ahead, 1
	}
}

// opener reads the content of an object whose header has been read.
type opener struct {
	r     io.Reader
	aead  cipher.AEAD
	head  []byte
	buf   []byte // ciphertext of one chunk and one byte more
	have  int    // bytes of buf filled
	plain []byte // opened, not yet read
	out   []byte
	i     uint64
	done  bool
	err   error
}

func newOpener(r io.Reader, h header, key []byte) (*opener, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("objects: the opened key has %d bytes, not %d", len(key), keySize)
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &opener{r: r, aead: aead, head: h.raw, buf: make([]byte, chunkSize+tagSize+1), out: make([]byte, 0, chunkSize)}, nil
}

// Read implements io.Reader: it returns only authenticated content, and io.EOF only after the last chunk was found to be the last.
func (o *opener) Read(p []byte) (int, error) {
	for len(o.plain) == 0 {
		if o.err != nil {
			return 0, o.err
		}
		if o.done {
			return 0, io.EOF
		}
		if o.err = o.next(); o.err != nil {
			return 0, o.err
		}
	}
	n := copy(p, o.plain)
	o.plain = o.plain[n:]
	return n, nil
}

func (o *opener) next() error {
	n, err := io.ReadFull(o.r, o.buf[o.have:])
	o.have += n
	o.done = err == io.EOF || err == io.ErrUnexpectedEOF
	if err != nil && !o.done {
		return fmt.Errorf("objects: reading the object: %w", err)
	}
	c := o.buf[:o.have]
	if !o.done {
		c = o.buf[:chunkSize+tagSize]
	}
	plain, err := o.aead.Open(o.out, nonce(o.i, o.done), c, o.head)
	if err != nil {
		return errForged
	}
	// An empty last chunk after others would be a second form of the same content.
	if o.done && len(plain) == 0 && o.i > 0 {
		return errForged
	}
	o.plain = plain
	o.i++
	if !o.done {
		o.buf[0], o.have = o.buf[chunkSize+tagSize], 1
	}
	return nil
}
