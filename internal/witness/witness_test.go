package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// The log grows, the witnesses follow, also when either side forgets what it knew; what is kept satisfies the policy.
func TestWitnessesFollow(t *testing.T) {
	l, key := newLog(t)
	one, two, three := newWitness(t, "one.example", key), newWitness(t, "two.example", key), newWitness(t, "three.example", key)
	k := newKeeper(t, l, key, 2, one, two, three)
	for _, size := range []int{1, 1, 2, 7, 8, 64, 65, 300} {
		l.grow(size, "a")
		if size == 7 { // a restart: the sizes are asked for
			k = newKeeper(t, l, key, 2, one, two, three)
		}
		if size == 64 { // one of three is away
			three.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
		}
		if size == 300 { // and back, far behind
			three.answer = nil
		}
		if err := k.Round(t.Context()); err != nil {
			t.Fatalf("%d lines: %v", size, err)
		}
		c, ok := k.Cosigned()
		if want := map[bool]int{true: 2, false: 3}[size == 64 || size == 65]; !ok || c.Tree != l.tree() || len(c.By) != want {
			t.Fatalf("%d lines: %+v, %v", size, c, ok)
		}
		if _, _, err := k.cfg.Policy.Open(c.Note, origin, key); err != nil {
			t.Fatalf("%d lines: %v\n%s", size, err, c.Note)
		}
		if age := time.Since(c.By[0].Time); age < -time.Second || age > time.Minute {
			t.Errorf("cosigned at %v", c.By[0].Time)
		}
	}
	if one.asks != 9 { // a request each round, and one more when the size was not known
		t.Errorf("%d requests", one.asks)
	}
	three.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
	two.answer = three.answer
	before, _ := k.Cosigned()
	l.grow(301, "a")
	if err := k.Round(t.Context()); !errors.Is(err, chain.ErrQuorum) {
		t.Errorf("two of three are away: %v", err)
	}
	if c, _ := k.Cosigned(); c.Size != before.Size {
		t.Errorf("kept with too few cosignatures: %d lines", c.Size)
	}
	if s := k.States(); s[0].Failed != nil || s[0].Size != 301 || !errors.Is(s[1].Failed, ErrAnswer) {
		t.Errorf("%+v", s)
	}
}

// A log that was cut, written anew or replaced by an old copy gets no cosignature, and the operator is told which of it.
func TestWitnessesCatch(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testLog)
		want   error
	}{
		"written anew, longer":    {func(l *testLog) { l.leaves = nil; l.grow(60, "b") }, ErrForked},
		"written anew, as long":   {func(l *testLog) { l.leaves = nil; l.grow(50, "b") }, ErrForked},
		"the last line changed":   {func(l *testLog) { l.leaves = l.leaves[:49]; l.grow(50, "b") }, ErrForked},
		"a line changed, longer":  {func(l *testLog) { l.leaves[20][0] ^= 1; l.grow(60, "a") }, ErrForked},
		"cut":                     {func(l *testLog) { l.leaves = l.leaves[:49] }, ErrAhead},
		"an old copy":             {func(l *testLog) { l.leaves = l.leaves[:3] }, ErrAhead},
		"empty":                   {func(l *testLog) { l.leaves = nil }, ErrAhead},
		"another log's key":       {func(l *testLog) { l.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)) }, ErrUnknown},
		"grown, and nothing else": {func(l *testLog) { l.grow(60, "a") }, nil},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", restarted: ", restarted), func(t *testing.T) {
				l, key := newLog(t)
				w := newWitness(t, "w.example", key)
				k := newKeeper(t, l, key, 1, w)
				l.grow(50, "a")
				if err := k.Round(t.Context()); err != nil {
					t.Fatal(err)
				}
				if restarted {
					k = newKeeper(t, l, key, 1, w)
				}
				c.change(l)
				err := k.Round(t.Context())
				failed := k.States()[0].Failed
				if !errors.Is(failed, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("%v; %v, want %v", err, failed, c.want)
				}
				found := errors.Is(c.want, ErrForked) || errors.Is(c.want, ErrAhead)
				if k.States()[0].Contradicts != found {
					t.Errorf("that it contradicts: %t", !found)
				}
				w.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
				if _ = k.Round(t.Context()); k.States()[0].Contradicts != found {
					t.Error("it is forgotten when the witness is in trouble")
				}
				if w.size != 50 && c.want != nil {
					t.Errorf("the witness moved to %d lines", w.size)
				}
			})
		}
	}
}

// What a witness may answer, wrongly: nothing of it counts, and none of it takes long or much.
func TestWitnessAnswersRejected(t *testing.T) {
	l, key := newLog(t)
	l.grow(5, "a")
	stranger := newWitness(t, "stranger.example", key)
	strangers := newKeeper(t, l, key, 1, stranger)
	if err := strangers.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	good, _ := strangers.Cosigned()
	_, theirs, _ := bytes.Cut(good.Note, []byte("\n\n"))
	text := func(code int, contentType, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(code)
			io.WriteString(w, body)
			return true
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		want   error
	}{
		"nothing":               {text(200, "", ""), ErrAnswer},
		"a page":                {text(200, "text/html", "<html>"), ErrAnswer},
		"a stranger's line":     {text(200, "", string(theirs)), ErrAnswer},
		"too much":              {text(200, "", strings.Repeat("x", chain.MaxNote+1)), ErrAnswer},
		"a redirect":            {func(w http.ResponseWriter, r *http.Request) bool { http.Redirect(w, r, stranger.URL, 307); return true }, ErrAnswer},
		"no such log":           {text(404, "", ""), ErrUnknown},
		"no such key":           {text(403, "", ""), ErrUnknown},
		"bad request":           {text(400, "", ""), ErrAnswer},
		"a proof that fails":    {text(422, "", ""), ErrForked},
		"the same size":         {text(409, "text/x.tlog.size", "0\n"), ErrForked},
		"a conflict in words":   {text(409, "text/plain", "7\n"), ErrForked},
		"a size that is none":   {text(409, "text/x.tlog.size", "07\n"), ErrAnswer},
		"a size always another": {flicker(), ErrAnswer},
		"more than there are":   {text(409, "text/x.tlog.size", "6\n"), ErrAhead},
		"slowness": {func(w http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return true
		}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t, "w.example", key)
			w.answer = c.answer
			k := newKeeper(t, l, key, 1, w)
			k.cfg.Patience = 300 * time.Millisecond
			if err := k.Round(t.Context()); !errors.Is(err, chain.ErrQuorum) {
				t.Errorf("the round: %v", err)
			}
			if s := k.States()[0]; !errors.Is(s.Failed, c.want) || !s.At.IsZero() {
				t.Errorf("%v, want %v", s.Failed, c.want)
			}
			if _, ok := k.Cosigned(); ok {
				t.Error("something counts")
			}
		})
	}
}

// flicker answers another size each time.
func flicker() func(http.ResponseWriter, *http.Request) bool {
	n := 0
	return func(w http.ResponseWriter, _ *http.Request) bool {
		n++
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(409)
		fmt.Fprintf(w, "%d\n", 1+n%3)
		return true
	}
}

// A cosignature that the checkpoint has already, the backup's say, counts where the policy names its key, and stays in the note in any case.
func TestMirrorCounts(t *testing.T) {
	l, key := newLog(t)
	l.grow(5, "a")
	w := newWitness(t, "w.example", key)
	mirror, err := chain.NewCosigner("backup.example/mirror", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	for _, named := range []bool{true, false} {
		text := "witness w " + w.vkey + " " + w.URL + "/w\n"
		if named {
			text += "witness m " + mirror.Key().String() + "\ngroup g all w m\nquorum g\n"
		} else {
			text += "quorum w\n"
		}
		p, err := chain.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		k, err := New(Config{Log: mirrored{l, mirror}, LogKey: key, Policy: p, Every: time.Hour, Via: http.DefaultTransport, Slog: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c, ok := k.Cosigned(); !ok || len(c.By) != 2 || c.By[0].Key != mirror.Key() {
			t.Errorf("named: %v: %+v", named, c.By)
		}
	}
}

// mirrored is a log whose checkpoints a backup has cosigned already.
type mirrored struct {
	*testLog
	by *chain.Cosigner
}

// Checkpoint implements Log.
func (m mirrored) Checkpoint(ctx context.Context) (chain.Cosigned, error) {
	c, err := m.testLog.Checkpoint(ctx)
	if err != nil {
		return c, err
	}
	line, err := m.by.Cosign(c.Checkpoint, time.Now())
	if err != nil {
		return c, err
	}
	c.Note, c.By, err = chain.AddCosignatures(c.Note, line, m.by.Key())
	return c, err
}

// FuzzAnswer: whatever a witness answers, only its own cosignature of this checkpoint counts.
func FuzzAnswer(f *testing.F) {
	cosigner, err := chain.NewCosigner("w.example", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{4}, 32)))
	if err != nil {
		f.Fatal(err)
	}
	l := &testLog{key: ed25519.NewKeyFromSeed(make([]byte, 32))}
	l.grow(3, "a")
	c, err := l.Checkpoint(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	line, err := cosigner.Cosign(c.Checkpoint, time.Unix(1e9, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(200, "", line)
	f.Add(409, typeSize, []byte("2\n"))
	f.Fuzz(func(t *testing.T, code int, contentType string, body []byte) {
		via := roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(bytes.NewReader(body))}, nil
		})
		k := &Keeper{cfg: Config{Log: l, Via: via}}
		_, by, err := k.show(t.Context(), chain.Witness{Name: "w", Key: cosigner.Key(), URL: "http://w"}, 0, c)
		if err == nil && (by.Key != cosigner.Key() || !by.Time.Equal(time.Unix(1e9, 0)) || code != 200) {
			t.Fatalf("%d %q counts as %+v", code, body, by)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
