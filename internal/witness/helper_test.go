package witness

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	peer "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/veripath/aes-appliance/internal/chain"
)

const origin = "aes.example/log"

// theWitness is a witness after the text of C2SP tlog-witness alone: it reads requests, verifies and cosigns with other code than this project's.
type theWitness struct {
	*httptest.Server
	handler http.Handler // this instead, when it is set
	logs    note.Verifiers
	signer  note.Signer
	vkey    string // of its cosignatures

	mu   sync.Mutex
	size int64
	root tlog.Hash
	asks int

	answer func(http.ResponseWriter, *http.Request) bool // instead, when it returns true
}

func newWitness(t *testing.T, name, logKey string) *theWitness {
	t.Helper()
	w := anyWitness(t, name, logKey)
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func anyWitness(t *testing.T, name, logKey string) *theWitness {
	t.Helper()
	v, err := note.NewVerifier(logKey)
	if err != nil {
		t.Fatal(err)
	}
	skey, plain, err := note.GenerateKey(nil2rand(name), name)
	if err != nil {
		t.Fatal(err)
	}
	w := &theWitness{logs: note.VerifierList(v)}
	if w.signer, err = peer.NewSignerForCosignatureV1(skey); err != nil {
		t.Fatal(err)
	}
	if w.vkey, err = peer.VKeyToCosignatureV1(plain); err != nil {
		t.Fatal(err)
	}
	return w
}

// nil2rand is randomness that depends on a name only.
func nil2rand(name string) io.Reader { return strings.NewReader(strings.Repeat(name, 64)) }

// ServeHTTP implements http.Handler: the checks in the order of the text.
func (w *theWitness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asks++
	if w.answer != nil && w.answer(out, r) {
		return
	}
	if w.handler != nil {
		w.handler.ServeHTTP(out, r)
		return
	}
	if r.Method != "POST" || r.URL.Path != "/w/add-checkpoint" {
		http.NotFound(out, r)
		return
	}
	in := bufio.NewReader(r.Body)
	first, _ := in.ReadString('\n')
	old, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(first, "old "), "\n"), 10, 64)
	if err != nil || first != fmt.Sprintf("old %d\n", old) {
		http.Error(out, "old size line", http.StatusBadRequest)
		return
	}
	var proof tlog.TreeProof
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			http.Error(out, "no checkpoint", http.StatusBadRequest)
			return
		}
		if line == "\n" {
			break
		}
		h, err := tlog.ParseHash(strings.TrimSuffix(line, "\n"))
		if err != nil || len(proof) == 63 {
			http.Error(out, "proof line", http.StatusBadRequest)
			return
		}
		proof = append(proof, h)
	}
	signed, _ := io.ReadAll(in)
	if !bytes.HasPrefix(signed, []byte(origin+"\n")) {
		http.Error(out, "unknown origin", http.StatusNotFound)
		return
	}
	n, err := note.Open(signed, w.logs)
	if err != nil {
		http.Error(out, err.Error(), http.StatusForbidden)
		return
	}
	lines := strings.Split(n.Text, "\n")
	size, _ := strconv.ParseInt(lines[1], 10, 64)
	raw, _ := base64.StdEncoding.DecodeString(lines[2])
	root := tlog.Hash(raw)
	switch {
	case old > size:
		http.Error(out, "old size", http.StatusBadRequest)
	case old != w.size:
		out.Header().Set("Content-Type", "text/x.tlog.size")
		out.WriteHeader(http.StatusConflict)
		fmt.Fprintf(out, "%d\n", w.size)
	case old == size && w.size > 0 && root != w.root:
		out.WriteHeader(http.StatusConflict)
	case old == 0 && len(proof) > 0, old > 0 && tlog.CheckTree(proof, size, root, old, w.root) != nil:
		out.WriteHeader(http.StatusUnprocessableEntity)
	default:
		w.size, w.root = size, root
		both, err := note.Sign(&note.Note{Text: n.Text}, w.signer)
		if err != nil {
			http.Error(out, err.Error(), 500)
			return
		}
		_, answer, _ := bytes.Cut(both, []byte("\n\n"))
		out.Write(answer)
	}
}

// testLog is a log in memory.
type testLog struct {
	mu     sync.Mutex
	leaves []chain.Hash
	key    ed25519.PrivateKey
}

func (l *testLog) grow(to int, who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.leaves); i < to; i++ {
		l.leaves = append(l.leaves, chain.LeafHash(fmt.Appendf(nil, "%s %d", who, i)))
	}
}

func (l *testLog) tree() chain.Tree {
	var f chain.Frontier
	for _, leaf := range l.leaves {
		f.Append(leaf)
	}
	return f.Tree()
}

// Checkpoint implements Log.
func (l *testLog) Checkpoint(context.Context) (chain.Cosigned, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := chain.Cosigned{Checkpoint: chain.Checkpoint{Origin: origin, Tree: l.tree()}}
	var err error
	c.Note, err = c.Sign(l.key)
	return c, err
}

// Head implements Log.
func (l *testLog) Head() (uint64, chain.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.leaves)), chain.Hash{}
}

// ProveConsistency implements Log.
func (l *testLog) ProveConsistency(_ context.Context, old, size uint64) ([]chain.Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return chain.ProveConsistency(old, size, func(level int, n uint64) (chain.Hash, error) {
		var f chain.Frontier
		for _, leaf := range l.leaves[n<<level : (n+1)<<level] {
			f.Append(leaf)
		}
		return f.Tree().Root, nil
	})
}

func newLog(t *testing.T) (*testLog, string) {
	t.Helper()
	l := &testLog{key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	key, err := chain.VerifierKey(origin, l.key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return l, key
}

// newKeeper watches l by witnesses, of which need must cosign.
func newKeeper(t *testing.T, l *testLog, logKey string, need int, witnesses ...*theWitness) *Keeper {
	t.Helper()
	text, names := "", ""
	for i, w := range witnesses {
		text += fmt.Sprintf("witness w%d %s %s/w/\n", i, w.vkey, w.URL)
		names += fmt.Sprintf(" w%d", i)
	}
	p, err := chain.ParsePolicy(fmt.Appendf(nil, "%sgroup g %d%s\nquorum g\n", text, need, names))
	if err != nil {
		t.Fatal(err)
	}
	k, err := New(Config{Log: l, LogKey: logKey, Policy: p, Every: time.Hour, Patience: 2 * time.Second, Via: http.DefaultTransport, Slog: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}
