package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// entriesOf returns what the lines of a log say.
func entriesOf(t testing.TB, log []byte) (out []chain.Entry) {
	t.Helper()
	for line := range bytes.Lines(log) {
		l, err := chain.ParseLine(bytes.Clone(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l.Entry)
	}
	return out
}

// written returns a log of these entries with right hashes: what who can write the file can make.
func written(t testing.TB, entries []chain.Entry) []byte {
	t.Helper()
	var out []byte
	var prev chain.Hash
	var last time.Time
	for _, e := range entries {
		if e.Time.Before(last) {
			e.Time = last
		}
		last = e.Time
		var err error
		if out, prev, err = chain.AppendLine(out, prev, e); err != nil {
			t.Fatal(err)
		}
		out = append(out, '\n')
	}
	return out
}

// openAltered opens a primary whose log's file is the given one.
func openAltered(t testing.TB, log []byte) *primary {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log", LogFile), log, 0o600); err != nil {
		t.Fatal(err)
	}
	return openPrimary(t, dir, testOrigin)
}

// TestTamperedPrimary: a primary whose file was altered, with right hashes throughout, so that the file alone shows nothing. The boot check finds each,
// and stops shipping; the receiver finds each, keeps both checkpoints and raises the alarm; and nothing of it is cosigned.
func TestTamperedPrimary(t *testing.T) {
	const size = 600
	for name, row := range map[string]struct {
		alter   func(e []chain.Entry) []chain.Entry
		verdict Relation
		refused RefusalKind
	}{
		"tail cut":            {func(e []chain.Entry) []chain.Entry { return e[:size-1] }, Rollback, RefusedRollback},
		"all cut":             {func([]chain.Entry) []chain.Entry { return nil }, Rollback, RefusedRollback},
		"an old file":         {func(e []chain.Entry) []chain.Entry { return e[:300] }, Rollback, RefusedRollback},
		"head cut":            {func(e []chain.Entry) []chain.Entry { return e[10:] }, Fork, RefusedFork},
		"head cut, gone on":   {func(e []chain.Entry) []chain.Entry { return append(e[10:], e[:30]...) }, Fork, RefusedFork},
		"edited":              {func(e []chain.Entry) []chain.Entry { e[50].Actor = "somebody else"; return e }, Fork, RefusedFork},
		"last line edited":    {func(e []chain.Entry) []chain.Entry { e[size-1].Actor = "x"; return e }, Fork, RefusedFork},
		"edited, gone on":     {func(e []chain.Entry) []chain.Entry { e[50].Actor = "x"; return append(e, e[0]) }, Fork, RefusedFork},
		"reordered":           {func(e []chain.Entry) []chain.Entry { e[7], e[8] = e[8], e[7]; return e }, Fork, RefusedFork},
		"inserted":            {func(e []chain.Entry) []chain.Entry { return slices.Insert(e, 300, e[0]) }, Fork, RefusedFork},
		"removed":             {func(e []chain.Entry) []chain.Entry { return slices.Delete(e, 300, 301) }, Fork, RefusedFork},
		"removed, gone on":    {func(e []chain.Entry) []chain.Entry { return append(slices.Delete(e, 300, 301), e[0], e[1]) }, Fork, RefusedFork},
		"repeated":            {func(e []chain.Entry) []chain.Entry { return append(e, e[:size]...)[5:] }, Fork, RefusedFork},
		"another log's file":  {func(e []chain.Entry) []chain.Entry { return foreign(len(e)) }, Fork, RefusedFork},
		"another, longer log": {func(e []chain.Entry) []chain.Entry { return foreign(2 * len(e)) }, Fork, RefusedFork},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := startBackup(t, backupOptions{dir: dir})
			p := openPrimary(t, t.TempDir(), testOrigin)
			s := p.shipper(b, nil)
			stop := run(t, s)
			p.tick(size)
			good := waitFor(t, s, size)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			kept := copyOf(t, dir, testOrigin)

			evil := openAltered(t, written(t, row.alter(entriesOf(t, exported(t, p.log)))))
			s = evil.shipper(b, nil)
			v, err := s.Compare(t.Context())
			if err != nil || v.Good() || v.Relation != row.verdict || v.Backup != good.Tree || v.Local != evil.log.Tree() {
				t.Errorf("the boot check: %+v %v", v, err)
			}
			if fault.KindOf(v.Err()) != fault.Corrupt || fault.HintOf(v.Err()) == "" || fault.CodeOf(v.Err()) == "" {
				t.Errorf("what it says: %v", v.Err())
			}
			runErr := s.Run(t.Context())
			if fault.KindOf(runErr) != fault.Corrupt {
				t.Errorf("shipping: %v", runErr)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := s.Wait(ctx, 1); fault.KindOf(err) != fault.Corrupt {
				t.Errorf("waiting: %v", err)
			}
			if got := b.refusals(); !slices.Contains(got, row.refused) {
				t.Errorf("alarms: %v", got)
			}
			checkEvidence(t, dir, b, row.refused)

			// And who does not ask first is refused as well.
			b.alarms = nil
			force(t, b, evil)
			if !bytes.Equal(copyOf(t, dir, testOrigin), kept) || b.rcv.Status()[0].Size != size {
				t.Error("the copy has changed")
			}
			if _, err := b.rcv.Verify(t.Context(), testOrigin); err != nil {
				t.Error(err)
			}
		})
	}
}

// foreign returns the entries of another log.
func foreign(n int) []chain.Entry {
	out := make([]chain.Entry, n)
	for i := range out {
		out[i] = chain.Entry{Time: time.Unix(1e9+int64(i), 0).UTC(), EventType: "foreign", Actor: "other", Details: json.RawMessage("{}")}
	}
	return out
}

// force sends the lines of an altered log as a malicious primary would: with the size that the receiver has, or the altered log's own.
func force(t *testing.T, b *backup, evil *primary) {
	t.Helper()
	c := b.client("client "+testOrigin, testOrigin)
	held := b.rcv.Status()[0].Size
	log := exported(t, evil.log)
	lines := slices.Collect(bytes.Lines(log))
	tree := evil.log.Tree()
	signed, err := chain.Checkpoint{Origin: testOrigin, Tree: tree}.Sign(keyOf("log " + testOrigin))
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range []uint64{0, held, tree.Size, tree.Size / 2} {
		if old > tree.Size {
			continue
		}
		_, _, err := c.append(t.Context(), Append{Old: old, Lines: bytes.Join(lines[min(old, uint64(len(lines))):], nil), Checkpoint: signed}, []chain.WitnessKey{b.rcv.Key()})
		var refused *Refusal
		var stale *staleError
		if !errors.As(err, &refused) && !errors.As(err, &stale) {
			t.Errorf("an append after %d: %v", old, err)
		}
	}
}

// checkEvidence reads the last refusal: both checkpoints are in it, signed by the log's key, and the one held is cosigned.
func checkEvidence(t *testing.T, dir string, b *backup, kind RefusalKind) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, LogID(testOrigin), RefusalsFile))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(string(raw)) {
		if line == "\n" {
			continue
		}
		var r Refusal
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		offered, err := chain.OpenCheckpoint([]byte(r.Offered), testOrigin, logKeyOf(t, testOrigin))
		if err != nil {
			t.Errorf("what was offered: %v", err)
		}
		held, by, err := chain.OpenCosigned([]byte(r.Held), testOrigin, logKeyOf(t, testOrigin), b.rcv.Key())
		if err != nil || len(by) != 1 {
			t.Errorf("what was held: %v", err)
		}
		if r.Kind == RefusedFork && offered.Size == held.Size && offered.Root == held.Root {
			t.Error("the two checkpoints prove no fork")
		}
		found = found || r.Kind == kind
	}
	if !found {
		t.Errorf("no refusal of kind %s was kept: %s", kind, raw)
	}
}

// TestTwoPrimaries: a disk image of the primary is started as a second one, with the same keys, and both go on.
func TestTwoPrimaries(t *testing.T) {
	dir := t.TempDir()
	b := startBackup(t, backupOptions{dir: dir})
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	stop := run(t, s)
	p.tick(50)
	waitFor(t, s, 50)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	twin := openAltered(t, exported(t, p.log)) // the image
	p.tick(5)
	twin.tick(5)
	s = p.shipper(b, nil)
	run(t, s)
	waitFor(t, s, 55)
	s2 := twin.shipper(b, nil)
	if err := s2.Run(t.Context()); fault.CodeOf(err) != CodeFork {
		t.Errorf("the twin: %v", err)
	}
	checkEvidence(t, dir, b, RefusedFork)
	// The one that the backup knows goes on, though the twin took its connection over for a moment.
	p.tick(5)
	waitFor(t, s, 60)

	// An image that did nothing is an older copy.
	twin = openAltered(t, exported(t, p.log)[:bytes.IndexByte(exported(t, p.log), '\n')+1])
	s2 = twin.shipper(b, nil)
	if v, err := s2.Compare(t.Context()); err != nil || v.Relation != Rollback {
		t.Errorf("an old image: %+v %v", v, err)
	}
}

// TestTamperedBackup: what is done to the backup's own disk. At the ends it shows at the start, in the middle to Verify; and a disk that was put back
// shows to the primary.
func TestTamperedBackup(t *testing.T) {
	dir := t.TempDir()
	b := startBackup(t, backupOptions{dir: dir})
	p := openPrimary(t, t.TempDir(), testOrigin)
	store := &memoryStore{}
	s := p.shipper(b, store)
	stop := run(t, s)
	p.tick(300)
	waitFor(t, s, 300)
	old := copyTree(t, dir)
	p.tick(300)
	id := p.sign("content")
	waitFor(t, s, 601)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	folder := LogID(testOrigin)
	start := func(dir string) (*Receiver, error) {
		r, err := NewReceiver(ReceiverConfig{Dir: dir, Identity: identityOf(t, "receiver"), Name: "backup.example", Key: keyOf("cosigner"), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		err = r.SetPeers([]Peer{peerOf(t, testOrigin)})
		if err == nil {
			err = r.logs[folder].broken
		}
		return r, err
	}
	edit := func(dir, name string, change func([]byte) []byte) {
		path := filepath.Join(dir, folder, name)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			if at < 0 {
				at += len(b)
			}
			b[at] ^= 1
			return b
		}
	}
	for name, row := range map[string]struct {
		file    string
		change  func([]byte) []byte
		atStart bool
	}{
		"last byte cut":       {LogFile, func(b []byte) []byte { return b[:len(b)-1] }, true},
		"emptied":             {LogFile, func([]byte) []byte { return nil }, true},
		"last line edited":    {LogFile, flip(-30), true},
		"middle edited":       {LogFile, flip(1000), false},
		"more than a request": {LogFile, func(b []byte) []byte { return append(b, make([]byte, MaxLines+1)...) }, true},
		"state damaged":       {stateName, func(b []byte) []byte { return make([]byte, len(b)) }, true},
		"another origin":      {originFile, func([]byte) []byte { return []byte("other\n") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, dir)
			edit(dir, row.file, row.change)
			r, err := start(dir)
			if row.atStart {
				if fault.KindOf(err) != fault.Corrupt {
					t.Errorf("at the start: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Verify(t.Context(), testOrigin); fault.KindOf(err) != fault.Corrupt {
				t.Errorf("verified: %v", err)
			}
		})
	}
	t.Run("one slot of the state", func(t *testing.T) {
		// The slot that a crash tore was never answered from: the other one counts, and what stands after it is set aside.
		dir := copyTree(t, dir)
		if _, err := start(dir); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("blocks", func(t *testing.T) {
		for _, change := range []func([]byte) []byte{flip(3), flip(20), func([]byte) []byte { return nil }, flip(-1)} {
			dir := copyTree(t, dir)
			edit(dir, blocksName, change)
			r, err := start(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Verify(t.Context(), testOrigin); err != nil {
				t.Error(err)
			}
			m := r.logs[folder].mirror
			for _, n := range []uint64{0, 1, 255, 256, 257, 511, 512, 513, 600, 601} {
				want, err := p.log.TreeAt(context.Background(), n)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := m.treeAt(n); err != nil || got != want {
					t.Errorf("the tree at %d: %v, want %v, %v", n, got, want, err)
				}
			}
		}
	})
	t.Run("an object", func(t *testing.T) {
		dir := copyTree(t, dir)
		path := filepath.Join(dir, folder, objectsDir, id[:2], id)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(path), os.WriteFile(path, raw[:len(raw)-1], 0o600)); err != nil {
			t.Fatal(err)
		}
		r, err := start(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Verify(t.Context(), testOrigin); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("verified: %v", err)
		}
	})
	t.Run("an old disk", func(t *testing.T) {
		b := startBackup(t, backupOptions{dir: old})
		s := p.shipper(b, store)
		if v, err := s.Compare(t.Context()); err != nil || v.Relation != Lost || v.Backup.Size != 300 || v.Known.Size == 0 {
			t.Errorf("the boot check: %+v %v", v, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := s.Wait(ctx, 700); fault.CodeOf(err) != CodeLost {
			t.Errorf("waiting: %v", err)
		}
	})
}

func copyTree(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}
