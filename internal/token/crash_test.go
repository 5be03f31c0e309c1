package token

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// kills says how many processes a test kills: enough to fail without the cure, quick enough for every run.
const kills = 12

// TestKillWhileGenerating kills a process that makes keys. Whatever Generate returned is there and signs; of what it did not return,
// nothing is left.
func TestKillWhileGenerating(t *testing.T) {
	cfg := initNew(t)
	made, swept := map[string]bool{}, 0
	for range kills {
		c := startChild(t, "generate", cfg.Dir)
		note := func(line string) {
			name, ok := strings.CutPrefix(line, "made ")
			if !ok {
				t.Error(line)
			}
			made[name] = true
		}
		note(c.line(t))
		time.Sleep(rand.N(12 * time.Millisecond))
		for _, line := range c.kill() {
			note(line)
		}
		tok := openToken(t, cfg)
		swept += len(tok.Findings())
		keys, err := tok.Keys()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, k := range keys {
			found[k.Label] = true
			key, err := tok.Key(k.Label, k.ID, k.Public)
			if err != nil {
				t.Fatal(err)
			}
			signAndVerify(t, key, []byte("after the crash"), crypto.SHA256)
		}
		for name := range made {
			if !found[name] {
				t.Errorf("key %s was made and is lost", name)
			}
		}
		// A key may have been finished whose line the kill swallowed.
		if extra := len(found) - len(made); extra < 0 || extra > kills {
			t.Errorf("%d keys were made, %d are there", len(made), len(found))
		}
		closeToken(t, tok)
		wantQuiet(t, cfg)
	}
	t.Logf("%d keys made, %d objects swept", len(made), swept)
	if swept == 0 {
		t.Log("no kill met a key in the making this time")
	}
}

// wantQuiet opens the token once more: there is nothing left to mend.
func wantQuiet(t *testing.T, cfg Config) {
	t.Helper()
	tok := openToken(t, cfg)
	if f := tok.Findings(); len(f) > 0 {
		t.Errorf("mended twice: %v", f)
	}
	closeToken(t, tok)
	if _, err := os.Stat(filepath.Join(cfg.Dir, "intent")); err == nil {
		t.Error("an intent is left")
	}
}

// TestKillWhileDestroying: a key is there in full or not at all.
func TestKillWhileDestroying(t *testing.T) {
	cfg := initNew(t)
	tok := openToken(t, cfg)
	for i := range 40 {
		makePair(t, tok, fmt.Sprint("k", i), fmt.Sprint("k", i), nil)
	}
	closeToken(t, tok)
	for range kills {
		c := startChild(t, "destroy", cfg.Dir)
		if got := c.line(t); got != "ready" {
			t.Fatal(got)
		}
		time.Sleep(rand.N(8 * time.Millisecond))
		gone := c.kill()
		tok := openToken(t, cfg)
		keys, err := tok.Keys()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range gone {
			for _, k := range keys {
				if line == "gone "+k.Label {
					t.Errorf("%s, and yet there", line)
				}
			}
		}
		closeToken(t, tok)
		wantQuiet(t, cfg)
		if len(keys) == 0 {
			break
		}
	}
}

// TestKillWhileLoggingIn kills a process that opens and closes. Each login of root rewrites token.object (of anyone else cannot), and the
// pristine copy undoes what a kill did to it.
func TestKillWhileLoggingIn(t *testing.T) {
	cfg := initNew(t)
	restored := 0
	for range 3 * kills {
		c := startChild(t, "login", cfg.Dir)
		if got := c.line(t); !strings.HasPrefix(got, "opened") {
			t.Fatal(got)
		}
		time.Sleep(rand.N(30 * time.Millisecond))
		for _, line := range c.kill() {
			if !strings.HasPrefix(line, "opened") {
				t.Error(line)
			}
		}
		tok := openToken(t, cfg)
		restored += len(tok.Findings())
		closeToken(t, tok)
	}
	t.Logf("token.object restored %d times in %d kills", restored, 3*kills)
}

// TestDamagedTokenObject damages the file as the window of a login does, and worse.
func TestDamagedTokenObject(t *testing.T) {
	cfg := initNew(t)
	tok := openToken(t, cfg)
	generate(t, tok, "k", ECDSAP256)
	closeToken(t, tok)
	path := tokenObject(t, cfg.Dir)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func() error{
		"cut to nothing": func() error { return os.Truncate(path, 0) },
		"cut to a half":  func() error { return os.Truncate(path, int64(len(whole)/2)) },
		"missing":        func() error { return os.Remove(path) },
		"overwritten":    func() error { return os.WriteFile(path, bytes.Repeat([]byte{0xff}, len(whole)), 0o600) },
		"grown":          func() error { return os.WriteFile(path, append(bytes.Clone(whole), whole...), 0o600) },
	} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		tok := openToken(t, cfg)
		if f := tok.Findings(); len(f) != 1 || !strings.Contains(f[0].What, "token.object") {
			t.Errorf("%s: findings %v", what, f)
		}
		signAndVerify(t, tok.mustKey(t, "k"), []byte(what), crypto.SHA256)
		closeToken(t, tok)
		wantQuiet(t, cfg)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o222 != 0 {
			t.Errorf("%s: restored as %v (%v)", what, info.Mode(), err)
		}
	}
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "pristine")); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), cfg)
	wantKind(t, err, fault.Corrupt)
}

// TestUnwritableToken: a process that cannot write token.object logs in, makes keys, and leaves the file as it was. As root the test gives
// up its privileges in a child; otherwise the file's own mode is enough.
func TestUnwritableToken(t *testing.T) {
	cfg := initNew(t)
	path := tokenObject(t, cfg.Dir)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o400 {
		t.Fatalf("token.object is %v after Init (%v)", info.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	job := "open"
	if os.Geteuid() == 0 {
		job = "unprivileged"
		own := func(dir string, uid int) {
			if err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
				if err == nil {
					err = os.Chown(p, uid, 65534)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		own(cfg.Dir, 65534)
		if err := os.Chmod(filepath.Dir(cfg.Dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{path, filepath.Join(cfg.Dir, "pristine", filepath.Base(filepath.Dir(path)))} {
			if err := os.Chown(p, 0, 65534); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(p, 0o440); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		c := startChild(t, job, cfg.Dir)
		if got := c.line(t); got != "done" && got != "opened" {
			t.Fatal(got)
		}
		c.kill()
		if job == "unprivileged" {
			break
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("token.object changed (%v)", err)
	}
}

// TestLeftovers puts into the folder what crashes leave there.
func TestLeftovers(t *testing.T) {
	cfg := initNew(t)
	tok := openToken(t, cfg)
	generate(t, tok, "k", ECDSAP256)
	closeToken(t, tok)
	uuid := filepath.Dir(tokenObject(t, cfg.Dir))
	write := func(name, data string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(uuid, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// An empty object that no intent explains is set aside, not deleted.
	write("0a0a.object", "")
	tok = openToken(t, cfg)
	if f := tok.Findings(); len(f) != 1 || !strings.Contains(f[0].What, "set aside") {
		t.Errorf("findings %v", f)
	}
	signAndVerify(t, tok.mustKey(t, "k"), nil, crypto.SHA256)
	closeToken(t, tok)
	if _, err := os.Stat(filepath.Join(cfg.Dir, "set-aside", "0a0a.object")); err != nil {
		t.Error(err)
	}
	wantQuiet(t, cfg)

	// With an intent everything that was not there before goes, torn or whole.
	c, err := folder(cfg.Dir).beginGenerate()
	if err != nil {
		t.Fatal(err)
	}
	write("0b0b.object", "torn")
	write("0b0b.lock", "")
	write("0c0c.object", "")
	c.abandon()
	// Nothing may be made before that is mended: its files would be taken for half-made ones.
	_, err = folder(cfg.Dir).beginDestroy("k", []byte("id of k"))
	wantKind(t, err, fault.Unavailable)
	tok = openToken(t, cfg)
	if f := tok.Findings(); len(f) != 2 {
		t.Errorf("findings %v", f)
	}
	signAndVerify(t, tok.mustKey(t, "k"), nil, crypto.SHA256)
	closeToken(t, tok)
	if left, err := filepath.Glob(filepath.Join(uuid, "0?0?.*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
	wantQuiet(t, cfg)

	// A half that no intent explains is damage: reported every time, never deleted.
	tok = openToken(t, cfg)
	makePair(t, tok, "half", "half", nil)
	remove(t, tok, 3, "half") // CKO_PRIVATE_KEY
	closeToken(t, tok)
	for range 2 {
		tok = openToken(t, cfg)
		if f := tok.Findings(); len(f) != 1 || f[0].Name != "half" {
			t.Errorf("findings %v", f)
		}
		closeToken(t, tok)
	}
	tok = openToken(t, cfg)
	if err := tok.Destroy("half", []byte("half")); err != nil {
		t.Error(err)
	}
	closeToken(t, tok)
	wantQuiet(t, cfg)

	// An intent that cannot be read stops the start: guessing could delete keys.
	for _, text := range []string{"", "{", `{"op":"else"}`} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, "intent"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(context.Background(), cfg)
		wantKind(t, err, fault.Corrupt)
	}
}

// TestInitIsAtomic: what a killed Init left behind is no token, and does not hinder the next.
func TestInitIsAtomic(t *testing.T) {
	cfg := testConfig(t.TempDir())
	f := folder(cfg.Dir)
	for _, name := range []string{"new/tokens/1234/token.object", "pristine/1234", "softhsm2.conf"} {
		if err := os.MkdirAll(filepath.Dir(f.path(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.path(name), []byte("unfinished"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(context.Background(), cfg)
	wantKind(t, err, fault.NotFound)
	if err := Init(cfg, []byte(testSO)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.path("new")); err == nil {
		t.Error("new is left")
	}
	wantQuiet(t, cfg)
}

// TestLock: who opens waits for who opens, no longer than its context; who has opened hinders nobody.
func TestLock(t *testing.T) {
	cfg := initNew(t)
	unlock, err := folder(cfg.Dir).lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, cfg)
	wantKind(t, err, fault.Unavailable)
	unlock()
	tok := openToken(t, cfg)
	c := startChild(t, "open", cfg.Dir)
	if got := c.line(t); got != "opened" {
		t.Error(got)
	}
	k := generate(t, tok, "made while another process has the token open", ECDSAP256)
	signAndVerify(t, k, nil, crypto.SHA256)
	if err := c.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.line(t); got != "closed" {
		t.Error(got)
	}
}

// TestManyStarts: processes that start at once on one token all get it.
func TestManyStarts(t *testing.T) {
	cfg := initNew(t)
	var children []*childProcess
	for range 8 {
		children = append(children, startChild(t, "open", cfg.Dir))
	}
	for _, c := range children {
		if got := c.line(t); got != "opened" {
			t.Error(got)
		}
	}
}

// TestMovedFolder: a restored backup may lie elsewhere.
func TestMovedFolder(t *testing.T) {
	cfg := initNew(t)
	tok := openToken(t, cfg)
	k := generate(t, tok, "k", ECDSAP256)
	pub := k.Public()
	closeToken(t, tok)
	moved := cfg
	moved.Dir = filepath.Join(t.TempDir(), "elsewhere with spaces")
	if err := os.Rename(cfg.Dir, moved.Dir); err != nil {
		t.Fatal(err)
	}
	tok = openToken(t, moved)
	if !samePublic(tok.mustKey(t, "k").Public(), pub) {
		t.Error("another key")
	}
}
