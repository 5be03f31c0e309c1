package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// TestOneDamagedCopy: a receiver of several logs starts although one copy is damaged. It serves the others, says what is wrong with the one, and calls for help.
func TestOneDamagedCopy(t *testing.T) {
	const other = "other.example/log"
	peers := []Peer{peerOf(t, testOrigin), peerOf(t, other)}
	dir := t.TempDir()
	startBackup(t, backupOptions{dir: dir, peers: peers}).stop()
	folder := filepath.Join(dir, LogID(other))
	if err := errors.Join(os.WriteFile(filepath.Join(folder, LogFile), []byte("what is this?\n"), 0o600), os.Remove(filepath.Join(folder, stateName))); err != nil {
		t.Fatal(err)
	}
	b := startBackup(t, backupOptions{dir: dir, peers: peers})
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	run(t, s)
	p.tick(1)
	waitFor(t, s, 1)
	c := b.client("client "+other, other)
	if _, err := c.Checkpoint(t.Context()); fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.PublicOf(err), "damaged") {
		t.Errorf("the damaged one: %v", err)
	}
	if _, err := b.rcv.Verify(t.Context(), other); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("verifying it: %v", err)
	}
	if !slices.ContainsFunc(b.rcv.Status(), func(l LogStatus) bool { return l.Origin == other && l.Failed }) {
		t.Errorf("%+v", b.rcv.Status())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.ContainsFunc(b.alarms, func(a Alarm) bool {
		return a.Kind == AlarmDisk && a.Origin == other && strings.Contains(a.Text, "damaged")
	}) {
		t.Errorf("alarms: %+v", b.alarms)
	}
}

// TestEvidenceOfAForkHasRoom: who has taken a primary over can have as much refused as they like. It does not use up the room for what proves a fork.
func TestEvidenceOfAForkHasRoom(t *testing.T) {
	dir := t.TempDir()
	b := startBackup(t, backupOptions{dir: dir})
	c := b.client("client "+testOrigin, testOrigin)
	line, signed := lineNaming(t, `{}`)
	if status, body := raw(t, c, "POST", "/v1/logs/"+LogID(testOrigin)+"/append", Append{Lines: line, Checkpoint: signed}.Marshal()); status != 200 {
		t.Fatal(status, body)
	}
	m := b.rcv.logs[LogID(testOrigin)].mirror
	m.mu.Lock()
	for _, size := range []int{60 << 10, 1 << 10, 0} {
		for n := range 2 * maxRefusals / (60 << 10) {
			for _, kind := range []RefusalKind{RefusedSignature, RefusedLines, RefusedRoot, RefusedRollback} {
				if _, err := m.refuse.keep(Refusal{Kind: kind, Detail: fmt.Sprint(n), Line: strings.Repeat("x", size)}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	m.mu.Unlock()
	fork := signTree(t, testOrigin, chain.Tree{Size: 1, Root: chain.Hash{1}})
	if _, err := c.compare(t.Context(), fork); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, LogID(testOrigin), RefusalsFile))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(kept), `{"kind":"fork"`) || len(kept) > maxRefusals {
		t.Errorf("%d bytes are kept, and the fork is not among them", len(kept))
	}
}

// TestSilenceOfABrokenPrimary: one that connects again and again and has nothing cosigned is not heard.
func TestSilenceOfABrokenPrimary(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1.7e9, 0)
	peer := peerOf(t, testOrigin)
	peer.Silence = time.Minute
	b := startBackup(t, backupOptions{dir: t.TempDir(), peers: []Peer{peer}, now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	_, signed := lineNaming(t, `{}`)
	content := "an object"
	sum := sha256.Sum256([]byte(content))
	tries := func() {
		for range 4 {
			mu.Lock()
			now = now.Add(20 * time.Second)
			mu.Unlock()
			c := b.client("client "+testOrigin, testOrigin)
			if _, err := c.compare(t.Context(), signed); err != nil {
				t.Fatal(err)
			}
			if err := c.put(t.Context(), hex.EncodeToString(sum[:]), int64(len(content)), strings.NewReader(content)); err != nil {
				t.Fatal(err)
			}
		}
		b.rcv.check()
	}
	tries() // the object was new at the first one: 60 s ago
	if b.rcv.Status()[0].Silent {
		t.Error("an object that was not there is no sign of life")
	}
	tries()
	if !b.rcv.Status()[0].Silent {
		t.Error("nothing was cosigned for longer than the limit, and nobody is told")
	}
}

// TestOneAddressCannotTakeAllConnections: a known primary that holds as many connections as it can get keeps no other one out.
func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	const greedy = "greedy.example/log"
	b := startBackup(t, backupOptions{dir: t.TempDir(), peers: []Peer{peerOf(t, testOrigin), peerOf(t, greedy)}})
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range maxSockets {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		c, err := NewClient(ctx, ClientConfig{Origin: greedy, Identity: identityOf(t, "client "+greedy), Server: identityOf(t, "receiver").Pin(),
			Dial: func(ctx context.Context) (net.Conn, error) { return from.DialContext(ctx, "tcp", b.ln.Addr().String()) }})
		cancel()
		if err != nil {
			break
		}
		defer c.Close()
	}
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	run(t, s)
	p.tick(1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.Wait(ctx, 1); err != nil {
		t.Errorf("another primary is kept out: %v", err)
	}
}

// TestCodeIsForOneOfMany: of machines that redeem one restore code at the same moment, one is let in.
func TestCodeIsForOneOfMany(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := openTestHost(t, &now)
	code, j := joinCode(t, "near", "log", "a.example/log", now.Add(time.Hour))
	key, err := j.VerifierKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Expect(code); err != nil {
		t.Fatal(err)
	}
	if _, err := redeem(h, KindJoin, Pin(j.Primary), j.Secret[:], JoinPayload{j.Origin, key}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		_, r, err := h.Allow("", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var let sync.Map
		for i := range 8 {
			pin := identityOf(t, fmt.Sprint("machine", i)).Pin()
			wg.Go(func() {
				if _, err := redeem(h, KindRestore, pin, r.Secret[:], RestorePayload{"a.example/log"}); err == nil {
					let.Store(i, true)
				}
			})
		}
		wg.Wait()
		n := 0
		let.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Fatalf("%d machines were let in by one code", n)
		}
	}
}

// TestStatusTellsDamage: what shows at once of a damaged copy is in the operator's status, whether the service runs or not.
func TestStatusTellsDamage(t *testing.T) {
	now := time.Now()
	h := openTestHost(t, &now)
	code, j := joinCode(t, "near", "log", "a.example/log", now.Add(time.Hour))
	key, err := j.VerifierKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Expect(code); err != nil {
		t.Fatal(err)
	}
	if _, err := redeem(h, KindJoin, Pin(j.Primary), j.Secret[:], JoinPayload{j.Origin, key}); err != nil {
		t.Fatal(err)
	}
	says := func() string {
		t.Helper()
		list, err := h.Held()
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Damage
	}
	if got := says(); got != "" {
		t.Errorf("before the first line: %q", got)
	}
	dir := filepath.Join(h.Logs(), LogID(j.Origin))
	var f chain.Frontier
	f.Append(chain.Hash{1})
	state := held{offset: 100, tree: f, note: []byte("x")}.marshal(1)
	for _, row := range []struct {
		log, state int
		want       string
	}{{100, len(state), ""}, {120, len(state), ""}, {99, len(state), "end before"}, {0, len(state), "end before"}, {100, 0, "state file"}, {100, len(state) - 1, "state file"}} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, LogFile), make([]byte, row.log), 0o600), os.WriteFile(filepath.Join(dir, stateName), state[:row.state], 0o600)); err != nil {
			t.Fatal(err)
		}
		if got := says(); !strings.Contains(got, row.want) || (got == "") != (row.want == "") {
			t.Errorf("%d bytes, %d of state: %q", row.log, row.state, got)
		}
	}
}
