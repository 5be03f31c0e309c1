package index

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testKeys seal with a key of AES-GCM, as the token does.
type testKeys struct{ cipher.AEAD }

func newKeys(seed byte) testKeys {
	block, err := aes.NewCipher(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return testKeys{aead}
}

func (k testKeys) SealKey(key []byte) ([]byte, error)    { return k.Seal(nil, nil, key, nil), nil }
func (k testKeys) OpenKey(sealed []byte) ([]byte, error) { return k.AEAD.Open(nil, nil, sealed, nil) }

// TestDistrust: a store is believed after a clean end or a process that died in this boot, and after nothing else.
func TestDistrust(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	for marker, kept := range map[string]bool{
		"as closed": true, "clean": false, "clean 00 00": false, "open " + boot: true, "open 00000000-0000-0000-0000-000000000000": false, "": false, "damaged": false, "clean open": false, "missing": false,
	} {
		path := filepath.Join(t.TempDir(), "i")
		d := open(t, path)
		put(t, d, 1)
		if got, err := os.ReadFile(markerPath(path)); err != nil || string(got) != "open "+boot+"\n" {
			t.Errorf("while open the marker is %q, %v", got, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		closed, err := os.ReadFile(markerPath(path))
		if err != nil || !strings.HasPrefix(string(closed), "clean ") {
			t.Errorf("after Close the marker is %q, %v", closed, err)
		}
		content := []byte(marker)
		if marker == "as closed" {
			content = closed
		}
		if err := os.WriteFile(markerPath(path), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if marker == "missing" {
			if err := os.Remove(markerPath(path)); err != nil {
				t.Fatal(err)
			}
		}
		d = open(t, path)
		if v, err := get(d, "key-00000"); err != nil || (v != nil) != kept || (d.Emptied() == "") != kept {
			t.Errorf("marker %q: %q, %v, %q", marker, v, err, d.Emptied())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSomebodyElsesStore: what is written without the keys, however whole, is not believed; nor is a store closed with other keys, or an older marker.
func TestSomebodyElsesStore(t *testing.T) {
	for name, write := range map[string]func(path string, marker []byte) error{
		"written with other keys": func(path string, _ []byte) error {
			d, err := Open(path, newKeys(8))
			if err != nil {
				return err
			}
			if d.Emptied() == "" {
				t.Error("other keys open it")
			}
			put(t, d, 5)
			return d.Close()
		},
		"written with other keys, under the marker that it had": func(path string, marker []byte) error {
			d, err := Open(path, newKeys(8))
			if err != nil {
				return err
			}
			put(t, d, 5)
			return errors.Join(d.Close(), os.WriteFile(markerPath(path), marker, 0o600))
		},
		"one byte": func(path string, _ []byte) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[len(data)-1] ^= 1
			return os.WriteFile(path, data, 0o600)
		},
		"something appended": func(path string, _ []byte) error {
			data, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, append(data, make([]byte, os.Getpagesize())...), 0o600))
		},
		"cut": func(path string, _ []byte) error { return os.Truncate(path, 4096) },
	} {
		path := filepath.Join(t.TempDir(), "i")
		d := open(t, path)
		put(t, d, 3)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		marker, err := os.ReadFile(markerPath(path))
		if err != nil {
			t.Fatal(err)
		}
		if err := write(path, marker); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d = open(t, path)
		if v, err := get(d, "key-00000"); err != nil || v != nil || d.Emptied() == "" {
			t.Errorf("%s: believed: %q, %v, %q", name, v, err, d.Emptied())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMACOfManyChunks: it is of all bytes, each in its place, whichever of several readers met them, and the one of two builds of this program.
func TestMACOfManyChunks(t *testing.T) {
	key := bytes.Repeat([]byte{7}, macKey)
	path := filepath.Join(t.TempDir(), "i")
	mac := func(data []byte) string {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		sum, err := macOf(path, key)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(sum)
	}
	data := make([]byte, 7*macChunk+123)
	for i := range data {
		data[i] = byte(i>>16 ^ i)
	}
	want := mac(data)
	// Another would have every store made anew, once, at the first start of a new version.
	if known := "d71b30290156a548ac9481fcec677e4417c8c1b8151c75443acef7b15066adae"; want != known {
		t.Errorf("the MAC is %s, and was %s", want, known)
	}
	for name, change := range map[string]func([]byte) []byte{
		"the first byte":   func(b []byte) []byte { b[0] ^= 1; return b },
		"one in the midst": func(b []byte) []byte { b[3*macChunk+5] ^= 1; return b },
		"the last byte":    func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"two chunks swapped": func(b []byte) []byte {
			return append(append(append([]byte{}, b[macChunk:2*macChunk]...), b[:macChunk]...), b[2*macChunk:]...)
		},
		"a chunk left out":    func(b []byte) []byte { return append(b[:macChunk], b[2*macChunk:]...) },
		"a zero byte more":    func(b []byte) []byte { return append(b, 0) },
		"cut between chunks":  func(b []byte) []byte { return b[:7*macChunk] },
		"nothing but a chunk": func(b []byte) []byte { return b[:macChunk] },
		"nothing":             func([]byte) []byte { return nil },
	} {
		if mac(change(bytes.Clone(data))) == want {
			t.Errorf("%s: the same", name)
		}
	}
	if mac(data) != want {
		t.Error("the same bytes have another MAC")
	}
}
