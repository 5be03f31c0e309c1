package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
)

// counts is a fold that counts events by type and remembers the details' "id" of each line.
type counts struct{ name string }

func (c counts) Name() string {
	if c.name == "" {
		return "counts/1"
	}
	return c.name
}

func (c counts) Apply(tx *index.Tx, r Record) error {
	b := tx.Bucket("counts")
	var n uint64
	if v := b.Get([]byte(r.Type)); v != nil {
		n = binary.BigEndian.Uint64(v)
	}
	if err := b.Put([]byte(r.Type), binary.BigEndian.AppendUint64(nil, n+1)); err != nil {
		return err
	}
	var d struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	if d.ID == "" {
		return nil
	}
	return tx.Bucket("ids").Put([]byte(d.ID), binary.BigEndian.AppendUint64(nil, r.Seq))
}

// clockAt returns a clock that moves on by a millisecond at each reading.
func clockAt(t time.Time) func() time.Time {
	var mu sync.Mutex
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		t = t.Add(time.Millisecond)
		return t
	}
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// place is a log and an index that a test opens again and again.
type place struct {
	t     testing.TB
	dir   string
	fs    durable.FS
	folds []Fold
	now   func() time.Time
}

func newPlace(t testing.TB) *place {
	return &place{t: t, dir: t.TempDir(), folds: []Fold{counts{}}, now: clockAt(start)}
}

func (p *place) indexPath() string { return filepath.Join(p.dir, "index.db") }
func (p *place) logPath() string   { return filepath.Join(p.dir, "log", FileName) }

func (p *place) tryOpen() (*Ledger, *index.DB, error) {
	p.t.Helper()
	db, err := index.Open(p.indexPath(), plainKeys{})
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := Open(context.Background(), Config{Dir: filepath.Join(p.dir, "log"), Index: db, Folds: p.folds, Now: p.now, FS: p.fs})
	if err != nil {
		if err := db.Close(); err != nil {
			p.t.Fatal(err)
		}
		return nil, nil, err
	}
	return l, db, nil
}

func (p *place) open() (*Ledger, *index.DB) {
	p.t.Helper()
	l, db, err := p.tryOpen()
	if err != nil {
		p.t.Fatal(err)
	}
	return l, db
}

func closeBoth(t testing.TB, l *Ledger, db *index.DB) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func appendN(t testing.TB, l *Ledger, from, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(context.Background(), Event{Type: "tick", Actor: "test", Details: map[string]any{"id": fmt.Sprint("id-", from+i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func count(t testing.TB, l *Ledger, eventType string) (n uint64) {
	t.Helper()
	err := l.View(func(tx *index.Tx) error {
		if v := tx.Bucket("counts").Get([]byte(eventType)); v != nil {
			n = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAppendReadReopen(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	if size, hash := l.Head(); size != 0 || hash != (chain.Hash{}) || !l.LastTime().IsZero() {
		t.Fatal("a new log is not empty")
	}
	var recs []Record
	const n = 2*blockLines + 17
	for i := range n {
		r, err := l.Append(context.Background(), Event{Type: "tick", Actor: "tester", Details: struct {
			ID string `json:"id"`
		}{fmt.Sprint("id-", i)}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Seq != uint64(i) {
			t.Fatalf("seq %d, want %d", r.Seq, i)
		}
		recs = append(recs, r)
	}
	check := func(l *Ledger) {
		t.Helper()
		for _, want := range recs {
			got, err := l.Read(want.Seq)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("line %d: %v %v, want %v", want.Seq, got, err, want)
			}
		}
		if _, err := l.Read(uint64(len(recs))); fault.KindOf(err) != fault.NotFound {
			t.Fatalf("beyond the end: %v", err)
		}
		if size, hash := l.Head(); size != n || hash != recs[n-1].Hash {
			t.Fatal("head")
		}
		if !l.LastTime().Equal(recs[n-1].Time) {
			t.Fatal("last time")
		}
		if c := count(t, l, "tick"); c != n {
			t.Fatalf("%d events folded, want %d", c, n)
		}
		rep, err := l.Verify(context.Background(), 0)
		if err != nil || rep.Root != l.Tree().Root || rep.Size != n || !rep.First.Equal(recs[0].Time) || !rep.Last.Equal(recs[n-1].Time) {
			t.Fatalf("%+v %v", rep, err)
		}
	}
	check(l)
	tree := l.Tree()
	closeBoth(t, l, db)
	if _, err := l.Append(context.Background(), Event{Type: "a", Actor: "a"}); fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("append after Close: %v", err)
	}

	l, db = p.open()
	check(l)
	closeBoth(t, l, db)

	// The index may be lost at any time.
	if err := os.Remove(p.indexPath()); err != nil {
		t.Fatal(err)
	}
	l, db = p.open()
	check(l)
	if l.Tree() != tree {
		t.Fatal("another tree after the rebuild")
	}
	closeBoth(t, l, db)

	data, err := os.ReadFile(p.logPath())
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(bytes.NewReader(data), tree)
	if err != nil || rep.Size != n || rep.Root != tree.Root || rep.Bytes != int64(len(data)) {
		t.Fatalf("%+v %v", rep, err)
	}
}

func TestConcurrentAppend(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	const workers, each = 32, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			last := int64(-1)
			for i := range each {
				id := fmt.Sprintf("w%d-%d", w, i)
				r, err := l.Append(context.Background(), Event{Type: "tick", Actor: "test", Details: map[string]any{"id": id}})
				if err != nil {
					t.Error(err)
					return
				}
				if int64(r.Seq) <= last {
					t.Errorf("line %d after line %d", r.Seq, last)
				}
				last = int64(r.Seq)
				// Acknowledged is folded.
				err = l.View(func(tx *index.Tx) error {
					if v := tx.Bucket("ids").Get([]byte(id)); v == nil || binary.BigEndian.Uint64(v) != r.Seq {
						return fmt.Errorf("%s is not in the index", id)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if size, _ := l.Head(); size != workers*each {
		t.Fatalf("%d lines", size)
	}
	if rep, err := l.Verify(context.Background(), 0); err != nil || rep.Size != workers*each {
		t.Fatalf("%+v %v", rep, err)
	}
	closeBoth(t, l, db)
}

func TestAppendRefuses(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	defer closeBoth(t, l, db)
	for name, c := range map[string]struct {
		e    Event
		kind fault.Kind
	}{
		"no type":    {Event{Actor: "a"}, fault.Invalid},
		"no actor":   {Event{Type: "a"}, fault.Invalid},
		"array":      {Event{Type: "a", Actor: "a", Details: []int{1}}, fault.Invalid},
		"string":     {Event{Type: "a", Actor: "a", Details: "x"}, fault.Invalid},
		"fraction":   {Event{Type: "a", Actor: "a", Details: map[string]any{"x": 1.5}}, fault.Invalid},
		"big":        {Event{Type: "a", Actor: "a", Details: map[string]any{"x": uint64(1) << 53}}, fault.Invalid},
		"channel":    {Event{Type: "a", Actor: "a", Details: map[string]any{"x": make(chan int)}}, fault.Invalid},
		"key":        {Event{Type: "a", Actor: "a", Details: map[string]any{"é": 1}}, fault.Invalid},
		"duplicate":  {Event{Type: "a", Actor: "a", Details: json.RawMessage(`{"a":1,"a":2}`)}, fault.Invalid},
		"too long":   {Event{Type: "a", Actor: "a", Details: map[string]any{"x": strings.Repeat("x", chain.MaxLine)}}, fault.TooLarge},
		"bad actor":  {Event{Type: "a", Actor: "\xff"}, fault.Invalid},
		"long actor": {Event{Type: "a", Actor: strings.Repeat("a", 257)}, fault.Invalid},
	} {
		if _, err := l.Append(context.Background(), c.e); fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Append(ctx, Event{Type: "a", Actor: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if size, _ := l.Head(); size != 0 {
		t.Errorf("%d lines after refusals only", size)
	}
	// A refusal does not break the chain for those that come after it.
	appendN(t, l, 0, 3)
	if _, err := l.Verify(context.Background(), 0); err != nil {
		t.Error(err)
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	p := newPlace(t)
	now := start
	p.now = func() time.Time { return now }
	l, db := p.open()
	appendN(t, l, 0, 1)
	now = now.Add(-time.Hour)
	appendN(t, l, 1, 1)
	closeBoth(t, l, db)
	l, db = p.open()
	defer closeBoth(t, l, db)
	appendN(t, l, 2, 1)
	for seq := range uint64(3) {
		if r, err := l.Read(seq); err != nil || !r.Time.Equal(start) {
			t.Errorf("line %d: %v %v", seq, r.Time, err)
		}
	}
	if _, err := l.Verify(context.Background(), 0); err != nil {
		t.Error(err)
	}
}

func TestOneProcess(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	defer closeBoth(t, l, db)
	if _, err := Open(context.Background(), Config{Dir: filepath.Join(p.dir, "log"), Index: db, Now: p.now}); fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("opened twice: %v", err)
	}
}

func TestFoldsChange(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	appendN(t, l, 0, 10)
	closeBoth(t, l, db)
	p.folds = []Fold{counts{"counts/2"}}
	l, db = p.open()
	if n := count(t, l, "tick"); n != 10 {
		t.Errorf("a fold of another version saw %d lines", n)
	}
	closeBoth(t, l, db)
	// The same version applies nothing twice.
	l, db = p.open()
	if n := count(t, l, "tick"); n != 10 {
		t.Errorf("after a plain reopen: %d", n)
	}
	closeBoth(t, l, db)
}

// A fold that fails stops the ledger; the line is durable, and folded once the fold can.
type failing struct {
	counts
	fail *bool
}

func (f failing) Apply(tx *index.Tx, r Record) error {
	if *f.fail {
		return errors.New("no")
	}
	return f.counts.Apply(tx, r)
}

func TestFoldFails(t *testing.T) {
	p := newPlace(t)
	fail := false
	p.folds = []Fold{failing{fail: &fail}}
	l, db := p.open()
	appendN(t, l, 0, 2)
	fail = true
	_, err := l.Append(context.Background(), Event{Type: "tick", Actor: "a"})
	if fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("%v", err)
	}
	<-l.Failed()
	if _, err := l.Append(context.Background(), Event{Type: "tick", Actor: "a"}); fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("%v", err)
	}
	if n := count(t, l, "tick"); n != 2 {
		t.Errorf("%d folded", n)
	}
	closeBoth(t, l, db)
	fail = false
	l, db = p.open()
	defer closeBoth(t, l, db)
	if n := count(t, l, "tick"); n != 3 {
		t.Errorf("%d folded after the reopen", n)
	}
	size, _ := l.Head()
	if last, err := l.Read(size - 1); err != nil || last.Type != TypeStopped || !strings.Contains(string(last.Details), ": no") {
		t.Errorf("the last line is %+v, %v", last, err)
	}
}

func TestExport(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	defer closeBoth(t, l, db)
	appendN(t, l, 0, blockLines+30)
	data, err := os.ReadFile(p.logPath())
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	for _, c := range [][2]uint64{{0, 0}, {0, 1}, {0, blockLines}, {blockLines - 1, blockLines + 1}, {blockLines, blockLines + 30}, {0, blockLines + 30}, {7, 7}} {
		var b bytes.Buffer
		if err := l.Export(context.Background(), &b, c[0], c[1]); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		if !bytes.Equal(b.Bytes(), bytes.Join(lines[c[0]:c[1]], nil)) {
			t.Errorf("%v: %d bytes", c, b.Len())
		}
	}
	if err := l.Export(context.Background(), &bytes.Buffer{}, 0, blockLines+31); fault.KindOf(err) != fault.NotFound {
		t.Errorf("beyond the end: %v", err)
	}
	if err := l.Export(context.Background(), &bytes.Buffer{}, 2, 1); fault.KindOf(err) != fault.Invalid {
		t.Errorf("backwards: %v", err)
	}
}

func TestWait(t *testing.T) {
	p := newPlace(t)
	l, db := p.open()
	got := make(chan uint64)
	go func() {
		n, err := l.Wait(context.Background(), 0)
		if err != nil {
			t.Error(err)
		}
		got <- n
	}()
	appendN(t, l, 0, 1)
	if n := <-got; n != 1 {
		t.Errorf("woken at %d", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := l.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	go func() {
		_, err := l.Wait(context.Background(), 1)
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("after Close: %v", err)
		}
		got <- 0
	}()
	closeBoth(t, l, db)
	<-got
}

// plainKeys stand for the token's: what seals the index is not this package's to test.
type plainKeys struct{}

func (plainKeys) SealKey(key []byte) ([]byte, error)    { return bytes.Clone(key), nil }
func (plainKeys) OpenKey(sealed []byte) ([]byte, error) { return bytes.Clone(sealed), nil }
