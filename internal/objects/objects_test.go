package objects

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/veripath/aes-appliance/internal/fault"
)

// sealer stands in for the token.
type sealer struct{ aead cipher.AEAD }

func newSealer(t testing.TB) sealer {
	t.Helper()
	b, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{a}
}

func (s sealer) SealKey(key []byte) ([]byte, error) { return s.aead.Seal(nil, nil, key, nil), nil }

func (s sealer) OpenKey(sealed []byte) ([]byte, error) { return s.aead.Open(nil, nil, sealed, nil) }

func store(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "objects"), newSealer(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func content(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

var ctx = context.Background()

func TestPutGet(t *testing.T) {
	s := store(t)
	for _, n := range []int{0, 1, 100, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 5} {
		want := content(n)
		id, err := s.Put(ctx, "signed-pdf", want)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(s.dir, id[:2], id))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != id {
			t.Errorf("%d bytes: the name is not the SHA-256 of the file", n)
		}
		if n > 32 && bytes.Contains(raw, want[:32]) {
			t.Errorf("%d bytes: the content is in the file in clear", n)
		}
		got, err := s.Get(ctx, id)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		r, err := s.Open(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind() != "signed-pdf" {
			t.Errorf("kind %q", r.Kind())
		}
		if err := iotest.TestReader(r, want); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		// The same again is another object, and both are there.
		again, err := s.PutFrom(ctx, "signed-pdf", iotest.OneByteReader(bytes.NewReader(want)))
		if err != nil || again == id {
			t.Errorf("%d bytes: %s again, %v", n, again, err)
		}
		if got, err := s.Get(ctx, again); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if names, err := os.ReadDir(s.tmp()); err != nil || len(names) != 0 {
		t.Errorf("left in tmp: %v %v", names, err)
	}
}

func TestRefusals(t *testing.T) {
	s := store(t)
	for _, kind := range []string{"", "A", "a b", "a/b", "é", strings.Repeat("a", 33)} {
		if _, err := s.Put(ctx, kind, nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("kind %q: %v", kind, err)
		}
	}
	for _, id := range []string{"", "..", "../../../../etc/passwd", strings.Repeat("g", 64), strings.Repeat("A", 64), strings.Repeat("a", 63), strings.Repeat("a", 65)} {
		if _, err := s.Get(ctx, id); fault.KindOf(err) != fault.Invalid {
			t.Errorf("ID %q: %v", id, err)
		}
	}
	if _, err := s.Get(ctx, strings.Repeat("a", 64)); fault.KindOf(err) != fault.NotFound {
		t.Errorf("not there: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Put(gone, "a", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	no := errors.New("no")
	if _, err := s.PutFrom(ctx, "a", iotest.ErrReader(no)); !errors.Is(err, no) {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := s.PutFrom(ctx, "a", io.LimitReader(zeros{}, MaxSize+1)); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("too large: %v", err)
	}
	if names, err := os.ReadDir(s.tmp()); err != nil || len(names) != 0 {
		t.Errorf("left in tmp: %v %v", names, err)
	}
	if _, err := (&Store{fs: s.fs, dir: s.dir, disk: s.disk, keys: brokenSealer{}}).Put(ctx, "a", nil); !errors.Is(err, errBroken) {
		t.Errorf("a token that fails: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

var errBroken = errors.New("broken token")

type brokenSealer struct{}

func (brokenSealer) SealKey([]byte) ([]byte, error) { return nil, errBroken }
func (brokenSealer) OpenKey([]byte) ([]byte, error) { return nil, errBroken }

// rename puts changed bytes under the name that they have by right, so that only the sealing can tell.
func rename(t *testing.T, s *Store, raw []byte) string {
	t.Helper()
	sum := sha256.Sum256(raw)
	id := hex.EncodeToString(sum[:])
	if err := os.MkdirAll(filepath.Dir(s.path(id)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(id), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestTampering: what was changed, cut, extended, joined or swapped is refused, under the old name by its hash and under a fitting name by the seal.
func TestTampering(t *testing.T) {
	s := store(t)
	read := func(id string) []byte {
		b, err := os.ReadFile(s.path(id))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	put := func(kind string, n int) (string, []byte) {
		id, err := s.Put(ctx, kind, content(n))
		if err != nil {
			t.Fatal(err)
		}
		return id, read(id)
	}
	id, raw := put("aa", 2*chunkSize+100)
	_, other := put("aa", 2*chunkSize+100)
	_, empty := put("aa", 0)
	h, err := readHeader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	head := len(h.raw)
	const c = chunkSize + tagSize
	flip := func(i int) []byte { b := bytes.Clone(raw); b[i] ^= 1; return b }
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cases := map[string][]byte{
		"nothing": nil, "magic only": raw[:8], "header only": raw[:head], "extended": cat(raw, []byte{0}), "last byte cut": raw[:len(raw)-1],
		"last chunk cut": raw[:head+2*c], "middle chunk cut": cat(raw[:head+c], raw[head+2*c:]), "chunks swapped": cat(raw[:head], raw[head+c:head+2*c], raw[head:head+c], raw[head+2*c:]),
		"chunk repeated": cat(raw[:head+c], raw[head:]), "chunk of another": cat(raw[:head], other[head:head+c], raw[head+c:]), "header of another": cat(other[:head], raw[head:]),
		"body twice": cat(raw, raw[head:]), "two files": cat(raw, other), "empty chunk at the end": cat(raw, empty[len(h.raw):]), "other version": cat([]byte("AESOBJ2\n"), raw[8:]),
		"kind changed": cat(raw[:9], []byte("ab"), raw[11:]), "kind longer": cat(raw[:8], []byte{3}, []byte("aaa"), raw[11:]), "kind empty": cat(raw[:8], []byte{0}, raw[11:]), "kind long": cat(raw[:8], []byte{255}, raw[9:]),
		"no sealed key": cat(raw[:11], []byte{0, 0}, raw[head:]), "huge sealed key": cat(raw[:11], []byte{255, 255}, raw[13:]), "cut at the first chunk's end": raw[:head+c],
	}
	for i := 0; i < head+40; i++ {
		cases[fmt.Sprintf("bit in byte %d", i)] = flip(i)
	}
	for _, i := range []int{head + c - 1, head + c, head + 2*c, len(raw) - 17, len(raw) - 1} {
		cases[fmt.Sprintf("bit in byte %d", i)] = flip(i)
	}
	for name, b := range cases {
		if got, err := s.Get(ctx, rename(t, s, b)); err == nil {
			t.Errorf("%s, under its own name: got %d bytes", name, len(got))
		}
		if err := os.Chmod(s.path(id), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path(id), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, id); fault.KindOf(err) != fault.Corrupt || fault.HintOf(err) == "" {
			t.Errorf("%s, under the old name: %v", name, err)
		}
	}
	if err := os.WriteFile(s.path(id), other, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, id); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("swapped for another object: %v", err)
	}
	if err := os.WriteFile(s.path(id), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(ctx, id); err != nil || !bytes.Equal(got, content(2*chunkSize+100)) {
		t.Errorf("put back: %v", err)
	}
}

// TestEmptyLastChunk: a content of whole chunks with an empty chunk after them would be a second form, and only who has the key could make it.
func TestEmptyLastChunk(t *testing.T) {
	key := make([]byte, keySize)
	head, err := appendHeader(nil, "a", []byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := newAEAD(key)
	if err != nil {
		t.Fatal(err)
	}
	body := aead.Seal(nil, nonce(0, false), make([]byte, chunkSize), head)
	body = aead.Seal(body, nonce(1, true), nil, head)
	o, err := newOpener(bytes.NewReader(body), header{raw: head}, key)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, o); err == nil {
		t.Errorf("read %d bytes", n)
	}
}

// TestSweep: unfinished files go away, unless another process may be writing them.
func TestSweep(t *testing.T) {
	s := store(t)
	left := filepath.Join(s.tmp(), "1-1")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := Open(s.dir, s.keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err != nil {
		t.Errorf("swept while another had the store open: %v", err)
	}
	if err := errors.Join(second.Close(), s.lock.Close()); err != nil {
		t.Fatal(err)
	}
	third, err := Open(s.dir, s.keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("not swept: %v", err)
	}
	s.lock = third.lock
}

func TestConcurrent(t *testing.T) {
	s := store(t)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 10 {
				want := fmt.Appendf(nil, "%d %d", w, i)
				id, err := s.Put(ctx, "a", want)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := s.Get(ctx, id); err != nil || !bytes.Equal(got, want) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestMemory: streaming a large object takes a few chunks of memory, not its size.
func TestMemory(t *testing.T) {
	s := store(t)
	const size = 50 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	id, err := s.PutFrom(ctx, "a", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != size {
		t.Fatalf("%d %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes allocated in all", used)
	}
}

func FuzzOpenObject(f *testing.F) {
	key := bytes.Repeat([]byte{1}, keySize)
	for _, n := range []int{0, 10, chunkSize + 1} {
		var b bytes.Buffer
		if err := sealTo(&b, "a", key, []byte("sealed"), bytes.NewReader(content(n)), int64(n)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := readHeader(r)
		if err != nil {
			return
		}
		o, err := newOpener(r, h, key)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(o)
		if err != nil {
			return
		}
		// What opens is what sealing makes: no second form.
		var again bytes.Buffer
		if err := sealTo(&again, h.kind, key, h.sealedKey, bytes.NewReader(plain), int64(len(plain))); err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("a second form of %d bytes, %v", len(plain), err)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for _, n := range []int{60 << 10, 50 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := store(b)
			plain := content(n)
			b.SetBytes(int64(n))
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Put(ctx, "signed-pdf", plain); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := store(b)
	plain := content(50 << 20)
	id, err := s.Put(ctx, "signed-pdf", plain)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		if _, err := s.Get(ctx, id); err != nil {
			b.Fatal(err)
		}
	}
}
