package index

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/veripath/aes-appliance/internal/durable"
)

// distrust returns why the store at path is not to be believed, or "".
func distrust(path, boot string, keys Keys) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "there was none", nil
	} else if err != nil {
		return "", fmt.Errorf("index: %w", err)
	}
	m, err := os.ReadFile(markerPath(path))
	if errors.Is(err, os.ErrNotExist) {
		return "its marker is missing", nil
	}
	if err != nil {
		return "", fmt.Errorf("index: reading the marker: %w", err)
	}
	text := strings.TrimSpace(string(m))
	switch seal, closed := strings.CutPrefix(text, clean); {
	case text == "open "+boot:
		return "", nil
	case text == "damaged":
		return "it was found damaged", nil
	case closed:
		return checkSeal(path, seal, keys)
	}
	return "the machine stopped while it was open", nil
}

// clean begins the marker of a closed store; what follows is sealFile's. The number is that of macOf.
const clean = "clean 2 "

// macKey is the size of the key of the MAC, in bytes: what Keys take.
const macKey = 32

// sealFile returns the sealed key and the MAC under it of the file at path, in hexadecimal.
func sealFile(path string, keys Keys) (string, error) {
	key := make([]byte, macKey)
	rand.Read(key) // never fails (crypto/rand since Go 1.24)
	defer clear(key)
	sealed, err := keys.SealKey(key)
	if err != nil {
		return "", fmt.Errorf("index: sealing %s: %w", path, err)
	}
	mac, err := macOf(path, key)
	return hex.EncodeToString(sealed) + " " + hex.EncodeToString(mac), err
}

// checkSeal returns why the file at path is not the one that seal is of, or "". An error is one of the disk.
func checkSeal(path, seal string, keys Keys) (why string, err error) {
	const other = "it is not the one that was closed here"
	first, second, _ := strings.Cut(seal, " ")
	sealed, err1 := hex.DecodeString(first)
	want, err2 := hex.DecodeString(second)
	if err1 != nil || err2 != nil {
		return other, nil
	}
	key, err := keys.OpenKey(sealed)
	if err != nil { // whatever it is: the log can say all of it again
		return other + ": " + err.Error(), nil
	}
	defer clear(key)
	mac, err := macOf(path, key)
	if err == nil && !hmac.Equal(mac, want) {
		why = other
	}
	return why, err
}

// macChunk is what one tag is over, in bytes, and macReaders how many chunks are read at once: a disk that has none of the file in memory gives several together
// in the time of two or three.
const (
	macChunk   = 1 << 20
	macReaders = 4
)

// macOf returns HMAC-SHA-256 over the tags of the file's chunks in order (GMAC, NIST SP 800-38D, with the chunk's number as nonce) and its length. Each key is
// for one file as it is once, so no nonce comes twice. A store is read whole at each start and stop: GMAC takes less than half of what HMAC would over all of it.
func macOf(path string, key []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	outer, err := hkdf.Expand(sha256.New, key, "aes-appliance index: tags", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	tags, err := tagsOf(f, info.Size(), key)
	if err != nil {
		return nil, fmt.Errorf("index: reading %s: %w", path, err)
	}
	mac := hmac.New(sha256.New, outer)
	mac.Write(tags)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(info.Size())))
	return mac.Sum(nil), nil
}

// tagsOf returns the tags of the chunks of the first size bytes of r, one after another. That r ends before is an error.
func tagsOf(r io.ReaderAt, size int64, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	chunks := (size + macChunk - 1) / macChunk
	all := make([]byte, chunks*int64(gcm.Overhead()))
	var (
		next    atomic.Int64
		readers sync.WaitGroup
		failed  = make(chan error, macReaders)
	)
	for range min(macReaders, chunks) {
		readers.Go(func() {
			chunk, nonce := make([]byte, macChunk), make([]byte, gcm.NonceSize())
			for number := next.Add(1) - 1; number < chunks; number = next.Add(1) - 1 {
				part := chunk[:min(macChunk, size-number*macChunk)]
				if n, err := r.ReadAt(part, number*macChunk); n < len(part) {
					failed <- err // never nil: io.ReaderAt
					return
				}
				binary.BigEndian.PutUint64(nonce[len(nonce)-8:], uint64(number))
				at := number * int64(gcm.Overhead())
				gcm.Seal(all[at:at], nonce, nil, part)
			}
		})
	}
	readers.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
		return all, nil
	}
}

func markerPath(path string) string { return path + ".state" }

// openMarker writes the marker of an open store unless it is there: what a killed process left needs no room.
func openMarker(path, text string) error {
	if m, err := os.ReadFile(markerPath(path)); err == nil && string(m) == text+"\n" {
		return nil
	}
	return writeMarker(path, text)
}

func writeMarker(path, text string) error {
	if err := durable.WriteFile(durable.OS{}, markerPath(path), []byte(text+"\n"), 0o600); err != nil {
		return fmt.Errorf("index: writing the marker: %w", err)
	}
	return nil
}
