package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
)

// ours makes a witness of this package, in a folder of its own unless a store is given.
func ours(t *testing.T, logKey string, store Store) *Server {
	t.Helper()
	cosigner, err := chain.NewCosigner("ours.example/w", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if store == nil {
		store = Dir{durable.OS{}, t.TempDir()}
	}
	s, err := NewServer(ServerConfig{Logs: []string{logKey}, Cosigner: cosigner, Store: store, Now: time.Now, Slog: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// behind puts a witness of this package where the other one was.
func behind(t *testing.T, s *Server, logKey string) *theWitness {
	t.Helper()
	w := newWitness(t, "unused.example", logKey)
	w.handler, w.vkey = s, s.cfg.Cosigner.Key().String()
	return w
}

// request asks for the cosignature of l's checkpoint after old lines.
func request(t *testing.T, l *testLog, old uint64) chain.AddCheckpoint {
	t.Helper()
	c, err := l.Checkpoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r := chain.AddCheckpoint{Old: old, Checkpoint: c.Note}
	if old <= c.Size {
		if r.Proof, err = l.ProveConsistency(context.Background(), old, c.Size); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func post(h http.Handler, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/add-checkpoint", bytes.NewReader(body)))
	return w
}

// Both witnesses, the one after the text and this package's, give the same answer to every request, right or wrong, and to every sequence of them.
func TestServerAgreesWithTheText(t *testing.T) {
	l, key := newLog(t)
	s, other := ours(t, key, nil), anyWitness(t, "other.example", key)
	text := httptest.NewRecorder // of the other, whose path has a prefix
	ask := func(name string, body []byte) int {
		t.Helper()
		got, want := post(s, body), text()
		other.ServeHTTP(want, httptest.NewRequest("POST", "/w/add-checkpoint", bytes.NewReader(body)))
		if got.Code != want.Code || got.Code == 409 && strings.HasPrefix(want.Header().Get("Content-Type"), typeSize) && got.Body.String() != want.Body.String() {
			t.Fatalf("%s: %d %q, after the text %d %q", name, got.Code, got.Body, want.Code, want.Body)
		}
		return got.Code
	}
	fork := &testLog{key: l.key}
	fork.grow(20, "b")
	stranger := &testLog{key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))}
	stranger.grow(20, "a")
	for _, step := range []int{0, 1, 2, 2, 7, 8, 19, 20, 33} {
		last, _ := l.Head()
		if other.size == 0 {
			last = 0
		}
		l.grow(step, "a")
		good := request(t, l, last)
		wrong := good
		wrong.Proof = append(slices.Clone(good.Proof), chain.Hash{1})
		for name, body := range map[string][]byte{
			"a proof with more":      wrong.Marshal(),
			"no proof":               chain.AddCheckpoint{Old: last, Checkpoint: good.Checkpoint}.Marshal(),
			"another old size":       request(t, l, (last+1)%uint64(step+1)).Marshal(),
			"old above the size":     request(t, l, uint64(step)+5).Marshal(),
			"a fork":                 chain.AddCheckpoint{Old: last, Proof: good.Proof, Checkpoint: request(t, fork, 0).Checkpoint}.Marshal(),
			"another key":            chain.AddCheckpoint{Old: last, Proof: good.Proof, Checkpoint: request(t, stranger, 0).Checkpoint}.Marshal(),
			"another origin":         bytes.Replace(good.Marshal(), []byte(origin), []byte("b.example/log"), 2),
			"a changed size":         bytes.Replace(good.Marshal(), fmt.Appendf(nil, "\n%d\n", step), fmt.Appendf(nil, "\n%d\n", step+1), 1),
			"nothing":                nil,
			"no empty line":          bytes.Replace(good.Marshal(), []byte("\n\n"), []byte("\n"), 1),
			"zeros before the size":  bytes.Replace(good.Marshal(), []byte("old "), []byte("old 0"), 1),
			"a line that is no hash": bytes.Replace(good.Marshal(), []byte("\n"), []byte("\nx\n"), 1),
		} {
			if name == "no proof" && len(good.Proof) == 0 || name == "another old size" && (last+1)%uint64(step+1) == last || name == "a fork" && last == 0 && step < 2 {
				continue // these are right, then
			}
			if code := ask(fmt.Sprintf("%d lines, %s", step, name), body); code == 200 {
				t.Fatalf("%d lines, %s: cosigned", step, name)
			}
		}
		if code := ask(fmt.Sprintf("%d lines", step), good.Marshal()); code != 200 {
			t.Fatalf("%d lines: %d", step, code)
		}
	}
}

// This package's Keeper and Server understand each other; a restart changes nothing; a second tree of the same size is kept as evidence.
func TestServerRemembers(t *testing.T) {
	l, key := newLog(t)
	store := Dir{durable.OS{}, t.TempDir()}
	l.grow(10, "a")
	k := newKeeper(t, l, key, 1, behind(t, ours(t, key, store), key))
	if err := k.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.grow(20, "a")
	k = newKeeper(t, l, key, 1, behind(t, ours(t, key, store), key))
	if err := k.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	fork := &testLog{key: l.key}
	fork.grow(20, "b")
	for _, old := range []uint64{0, 20} {
		told := uint64(0)
		w := ours(t, key, store)
		w.cfg.Contradicted = func(log string, lines uint64) {
			if told = lines; log != origin {
				t.Errorf("it is said of %s", log)
			}
		}
		if got := post(w, request(t, fork, old).Marshal()); got.Code != 409 || got.Body.String() != "20\n" || told != 20 {
			t.Errorf("a fork of the same size, from %d: %d %q, and of %d lines was told", old, got.Code, got.Body, told)
		}
	}
	kept, err := store.read(store.file(origin, ".contradicts"))
	if c, openErr := chain.OpenCheckpoint(kept, origin, key); err != nil || openErr != nil || c.Tree != fork.tree() {
		t.Errorf("the proof of the fork: %v, %v", err, openErr)
	}
	// What cannot be read is not taken for nothing.
	if err := durable.WriteFile(durable.OS{}, store.file(origin, ".checkpoint"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := post(ours(t, key, store), request(t, l, 0).Marshal()); got.Code != 500 {
		t.Errorf("with a damaged state: %d", got.Code)
	}
	if _, err := NewServer(ServerConfig{Logs: []string{"no key"}}); err == nil {
		t.Error("a witness of a log without a key")
	}
}

// breaking is a store whose steps fail, done or not done.
type breaking struct {
	Store
	fail, done bool
}

// Save implements Store.
func (b *breaking) Save(origin string, note []byte) error {
	if !b.fail {
		return b.Store.Save(origin, note)
	}
	if b.done {
		if err := b.Store.Save(origin, note); err != nil {
			return err
		}
	}
	return errors.New("the disk failed")
}

// A cosignature leaves only after its checkpoint is durable: when keeping it fails, done or not, nothing leaves, and what comes after is consistent with both.
func TestServerPersistsFirst(t *testing.T) {
	for _, done := range []bool{false, true} {
		l, key := newLog(t)
		b := &breaking{Store: Dir{durable.OS{}, t.TempDir()}}
		s := ours(t, key, b)
		l.grow(5, "a")
		if got := post(s, request(t, l, 0).Marshal()); got.Code != 200 {
			t.Fatal(got.Code)
		}
		b.fail, b.done = true, done
		l.grow(9, "a")
		if got := post(s, request(t, l, 5).Marshal()); got.Code != 500 || strings.Contains(got.Body.String(), "—") {
			t.Fatalf("done %v: %d %q", done, got.Code, got.Body)
		}
		b.fail = false
		k := newKeeper(t, l, key, 1, behind(t, ours(t, key, b), key))
		if err := k.Round(t.Context()); err != nil {
			t.Errorf("done %v: %v", done, err)
		}
	}
}

// Requests that race: what is cosigned is one history, and it never gets shorter.
func TestServerInARace(t *testing.T) {
	l, key := newLog(t)
	s := ours(t, key, nil)
	l.grow(200, "a")
	fork := &testLog{key: l.key}
	fork.grow(200, "b")
	var mu sync.Mutex
	var sizes []uint64
	var all sync.WaitGroup
	for i := range 8 {
		from := map[bool]*testLog{true: l, false: fork}[i%2 == 0]
		all.Go(func() {
			var old uint64
			for n := 1; n <= 200; n += 3 + i {
				part := &testLog{key: from.key, leaves: from.leaves[:n]}
				for old <= uint64(n) {
					got := post(s, request(t, part, old).Marshal())
					if got.Code == 409 {
						var size uint64
						if _, err := fmt.Sscan(got.Body.String(), &size); err != nil || size == old {
							return
						}
						old = size
						continue
					}
					if got.Code == 200 {
						mu.Lock()
						sizes = append(sizes, uint64(n))
						mu.Unlock()
						old = uint64(n)
					}
					break
				}
			}
		})
	}
	all.Wait()
	last, err := s.last(origin)
	if err != nil || len(sizes) == 0 || last.Size != slices.Max(sizes) {
		t.Fatalf("%v, %v, %v", last, sizes, err)
	}
	a, b := &testLog{leaves: l.leaves[:last.Size]}, &testLog{leaves: fork.leaves[:last.Size]}
	if last != a.tree() && last != b.tree() {
		t.Error("what is kept is the tree of neither history")
	}
}
