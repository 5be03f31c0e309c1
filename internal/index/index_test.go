package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func open(t testing.TB, path string) *DB {
	t.Helper()
	d, err := Open(path, newKeys(7))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(t testing.TB, d *DB, n int) {
	t.Helper()
	err := d.Update(func(tx *Tx) error {
		b := tx.Bucket("b")
		for i := range n {
			if err := b.Put(fmt.Appendf(nil, "key-%05d", i), fmt.Appendf(nil, "value-%d", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(d *DB, key string) (v []byte, err error) {
	err = d.View(func(tx *Tx) error { v = tx.Bucket("b").Get([]byte(key)); return nil })
	return v, err
}

func keys(seq func(func(k, v []byte) bool)) string {
	var out []string
	for k := range seq {
		out = append(out, string(k))
	}
	return strings.Join(out, " ")
}

func TestPutGetIterate(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "i"))
	defer d.Close()
	if d.Emptied() == "" {
		t.Error("a new store does not say why it is empty")
	}
	err := d.Update(func(tx *Tx) error {
		b := tx.Bucket("b")
		if b.Get([]byte("a")) != nil || keys(b.Seek(nil)) != "" || b.Delete([]byte("a")) != nil {
			t.Error("a bucket that is not there is not empty")
		}
		key, value := []byte("k0"), []byte("v0")
		for i := range byte(4) {
			key[1], value[1] = '0'+i, '0'+i
			if err := b.Put(key, value); err != nil {
				return err
			}
		}
		value[0] = 'x' // ours again
		if v := b.Get([]byte("k3")); string(v) != "v3" {
			t.Errorf("in the same transaction: %q", v)
		}
		if err := b.Put([]byte("empty"), nil); err != nil {
			return err
		}
		if v := b.Get([]byte("empty")); v == nil || len(v) != 0 {
			t.Errorf("an empty value: %v", v)
		}
		return b.Delete([]byte("empty"))
	})
	if err != nil {
		t.Fatal(err)
	}
	err = d.View(func(tx *Tx) error {
		b := tx.Bucket("b")
		for _, c := range []struct{ got, want string }{
			{keys(b.Seek(nil)), "k0 k1 k2 k3"}, {keys(b.Seek([]byte("k1"))), "k1 k2 k3"}, {keys(b.Seek([]byte("k11"))), "k2 k3"}, {keys(b.Seek([]byte("z"))), ""},
			{keys(b.Descend(nil)), "k3 k2 k1 k0"}, {keys(b.Descend([]byte("k2"))), "k1 k0"}, {keys(b.Descend([]byte("z"))), "k3 k2 k1 k0"}, {keys(b.Descend([]byte("a"))), ""},
			{keys(b.Prefix([]byte("k"))), "k0 k1 k2 k3"}, {keys(b.Prefix([]byte("k2"))), "k2"}, {keys(b.Prefix([]byte("j"))), ""},
			{keys(tx.Bucket("none").Seek(nil)), ""}, {keys(tx.Bucket("none").Descend(nil)), ""},
		} {
			if c.got != c.want {
				t.Errorf("got %q, want %q", c.got, c.want)
			}
		}
		for k, v := range b.Seek(nil) {
			if string(v) != "v"+string(k[1:]) {
				t.Errorf("%s: %s", k, v)
			}
			if b.Get(k) == nil {
				t.Error("Get within an iteration")
			}
			break
		}
		if err := b.Put([]byte("k"), nil); err == nil {
			t.Error("Put in a View")
		}
		if err := tx.Bucket("new").Put([]byte("k"), nil); err == nil {
			t.Error("Put into a new bucket in a View")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdateRollsBack(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "i"))
	defer d.Close()
	put(t, d, 3)
	no := errors.New("no")
	err := d.Update(func(tx *Tx) error {
		if err := tx.Bucket("b").Delete([]byte("key-00000")); err != nil {
			return err
		}
		if err := tx.DropBucket("none"); err != nil {
			t.Error(err)
		}
		if err := tx.DropBucket("b"); err != nil {
			return err
		}
		return no
	})
	if err != no {
		t.Fatal(err)
	}
	if v, err := get(d, "key-00000"); err != nil || v == nil {
		t.Errorf("%q %v", v, err)
	}
}

func TestPutRefuses(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "i"))
	defer d.Close()
	err := d.Update(func(tx *Tx) error {
		b := tx.Bucket("b")
		for _, c := range []struct{ key, value int }{{0, 1}, {MaxKey + 1, 1}, {1, MaxValue + 1}} {
			if err := b.Put(make([]byte, c.key), make([]byte, c.value)); err == nil {
				t.Errorf("%+v", c)
			}
		}
		return b.Put(bytes.Repeat([]byte("k"), MaxKey), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A panic of the caller's function is the caller's, not damage.
func TestForeignPanic(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "i"))
	defer d.Close()
	put(t, d, 1)
	for name, run := range map[string]func(func(*Tx) error) error{"View": d.View, "Update": d.Update} {
		func() {
			defer func() {
				if p := recover(); p != "mine" {
					t.Errorf("%s: recovered %v", name, p)
				}
			}()
			_ = run(func(tx *Tx) error {
				for range tx.Bucket("b").Seek(nil) {
					panic("mine")
				}
				return nil
			})
		}()
	}
	if v, err := get(d, "key-00000"); err != nil || v == nil {
		t.Errorf("afterwards: %q %v", v, err)
	}
}

func TestCloseAndReset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "i")
	d := open(t, path)
	put(t, d, 10)
	if _, err := Open(path, newKeys(7)); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("opened twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{d.View(func(*Tx) error { return nil }), d.Update(func(*Tx) error { return nil }), d.Reset()} {
		if err == nil || errors.Is(err, ErrDamaged) {
			t.Errorf("after Close: %v", err)
		}
	}
	d = open(t, path)
	defer d.Close()
	if v, err := get(d, "key-00009"); err != nil || string(v) != "value-9" || d.Emptied() != "" {
		t.Errorf("%q %v %q", v, err, d.Emptied())
	}
	if err := d.Reset(); err != nil {
		t.Fatal(err)
	}
	if v, err := get(d, "key-00009"); err != nil || v != nil {
		t.Errorf("after Reset: %q %v", v, err)
	}
}

// TestDamage changes the file in many ways; each time all values that come out are the right ones, or the damage is found: at Open (the store is then
// empty) or in the transaction. What damage cannot do is make a panic, a crash or a wrong value.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "i")
	d := open(t, path)
	put(t, d, 3000)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	pages := len(whole) / page
	damages := map[string][]byte{"empty": nil, "a byte": {1}, "half": whole[:len(whole)/2], "one page": whole[:page], "noise": bytes.Repeat([]byte{0xa5}, len(whole))}
	for i := range min(pages, 24) {
		for what, fill := range map[string]byte{"zero": 0, "ff": 0xff, "5a": 0x5a} {
			b := bytes.Clone(whole)
			copy(b[i*page:(i+1)*page], bytes.Repeat([]byte{fill}, page))
			damages[fmt.Sprintf("page %d %s", i, what)] = b
		}
		for off := 0; off < page; off += 509 {
			b := bytes.Clone(whole)
			b[i*page+off] ^= 0x10
			damages[fmt.Sprintf("page %d bit at %d", i, off)] = b
		}
		damages[fmt.Sprintf("cut at page %d", i)] = whole[:i*page]
	}
	found := 0
	for name, data := range damages {
		path := filepath.Join(dir, "d")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		boot, err := bootID() // a closed store's MAC would find everything: this is one of a process that was killed
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(markerPath(path), []byte("open "+boot), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path, newKeys(7))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if checkDamaged(t, name, d) {
			found++
		}
		if err := d.Close(); err != nil {
			t.Errorf("%s: closing: %v", name, err)
		}
	}
	t.Logf("%d of %d damages found", found, len(damages))
	if found < len(damages)/4 {
		t.Errorf("only %d of %d damages found", found, len(damages))
	}
}

// checkDamaged reads and writes a damaged store; it says whether the damage was found.
func checkDamaged(t *testing.T, name string, d *DB) bool {
	err := d.View(func(tx *Tx) error {
		for k, v := range tx.Bucket("b").Seek(nil) {
			var n int
			if _, err := fmt.Sscanf(string(k), "key-%d", &n); err != nil || string(v) != fmt.Sprintf("value-%d", n) {
				t.Errorf("%s: wrong value %q: %q", name, k, v)
			}
		}
		return nil
	})
	if err == nil {
		err = d.Update(func(tx *Tx) error {
			for i := range 3000 {
				if err := tx.Bucket("b").Put(fmt.Appendf(nil, "key-%05d", i), fmt.Appendf(nil, "value-%d", i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		return d.Emptied() != ""
	}
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("%s: %v", name, err)
		return true
	}
	if err := d.View(func(*Tx) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("%s: believed again: %v", name, err)
	}
	if err := d.Reset(); err != nil {
		t.Errorf("%s: reset: %v", name, err)
	}
	if v, err := get(d, "key-00000"); err != nil || v != nil {
		t.Errorf("%s: after Reset: %q %v", name, v, err)
	}
	return true
}

func TestDamagedIsLeftMarked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "i")
	d := open(t, path)
	put(t, d, 1)
	if err := d.View(func(*Tx) error { return fmt.Errorf("a value of mine: %w", ErrDamaged) }); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	defer d.Close()
	if d.Emptied() == "" {
		t.Error("a damaged store was believed")
	}
}

func TestConcurrent(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "i"))
	put(t, d, 100)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if _, err := get(d, "key-00050"); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() { put(t, d, 100) })
	}
	wg.Wait()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkUpdate(b *testing.B) {
	d := open(b, filepath.Join(b.TempDir(), "i"))
	defer d.Close()
	key, value := make([]byte, 16), make([]byte, 200)
	for i := 0; b.Loop(); i++ {
		err := d.Update(func(tx *Tx) error {
			for j := range 16 {
				copy(key, fmt.Sprintf("%08x%08d", i*7919, j))
				if err := tx.Bucket("b").Put(key, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
