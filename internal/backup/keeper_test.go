package backup

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// house is a real log with a Keeper over it. The host at the other end is scripted: what a real one does is tested where there is one.
type house struct {
	*Keeper
	t     *testing.T
	log   *ledger.Ledger
	clock time.Time
	far   *far
}

// far is a scripted backup host.
type far struct {
	mu     sync.Mutex
	status LinkStatus
	grown  chan struct{}
	key    chain.WitnessKey
	refuse error // of enrolment
}

// plainKeys seals the index's key with nothing: who seals it is not what is tested here.
type plainKeys struct{}

func (plainKeys) SealKey(key []byte) ([]byte, error)  { return bytes.Clone(key), nil }
func (plainKeys) OpenKey(seal []byte) ([]byte, error) { return bytes.Clone(seal), nil }

func key(seed byte) ed25519.PrivateKey {
	s := make([]byte, ed25519.SeedSize)
	s[0] = seed
	return ed25519.NewKeyFromSeed(s)
}

func newHouse(t *testing.T, r config.Replication) *house {
	t.Helper()
	dir := t.TempDir()
	db, err := index.Open(filepath.Join(dir, "index"), plainKeys{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := ledger.Open(t.Context(), ledger.Config{Dir: filepath.Join(dir, "log"), Index: db, Folds: []ledger.Fold{Fold()}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(log.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	cosigner, err := chain.NewWitnessKey("far.example", key(2).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, log: log, clock: time.Now(), far: &far{grown: make(chan struct{}), key: cosigner}}
	h.open(r)
	return h
}

// open makes the Keeper anew, as a start does.
func (h *house) open(r config.Replication) {
	h.t.Helper()
	var err error
	h.Keeper, err = Open(Config{
		Replication: r, Ledger: h.log, Origin: "near.example/log", Now: func() time.Time { return h.clock }, Log: slog.New(slog.DiscardHandler),
		LogKey: func() (ed25519.PublicKey, error) { return key(3).Public().(ed25519.PublicKey), nil },
		Key:    func(context.Context, string) (crypto.Signer, error) { return key(1), nil },
		KeyOf:  func(ed25519.PublicKey) (crypto.Signer, error) { return key(1), nil },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.far.set(func(s *LinkStatus) { *s = LinkStatus{} })
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.Run(ctx, h.far); err != nil {
			h.t.Error(err)
		}
	}()
	h.t.Cleanup(func() { cancel(); <-ended })
}

func (f *far) Ship(Peer, crypto.Signer) (Link, error) { return f, nil }

func (f *far) Enrol(context.Context, Offer, crypto.Signer) (Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Identity{Receiver: "ed25519:00", Cosigner: f.key.String()}, f.refuse
}

func (f *far) Fetch(_ context.Context, p Peer, _ crypto.Signer, _ string) (Copied, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Copied{From: p.Address, Lines: f.status.Cosigned.Size}, f.refuse
}

func (f *far) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (f *far) Status() LinkStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *far) Wait(ctx context.Context, lines uint64) error {
	for {
		f.mu.Lock()
		size, grown := f.status.Cosigned.Size, f.grown
		f.mu.Unlock()
		if size >= lines {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set changes what the far side says.
func (f *far) set(change func(*LinkStatus)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.status)
	close(f.grown)
	f.grown = make(chan struct{})
}

// cosigns has the first lines compared and cosigned.
func (f *far) cosigns(lines uint64) {
	f.set(func(s *LinkStatus) {
		s.Connected, s.Compared = true, true
		s.Cosigned = chain.Cosigned{Checkpoint: chain.Checkpoint{Tree: chain.Tree{Size: lines}}, By: []chain.Cosignature{{Key: f.key, Time: time.Now()}}}
	})
}

func (h *house) line() uint64 {
	h.t.Helper()
	if _, err := h.log.Append(h.t.Context(), ledger.Event{Type: "act", Actor: "test"}); err != nil {
		h.t.Fatal(err)
	}
	lines, _ := h.log.Head()
	return lines
}

func (h *house) await(s State) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); h.Say(0).State != s; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("the state is %s, not %s", h.Say(0).State, s)
		}
	}
}

// enrolled brings the house to where answers wait, or would.
func (h *house) enrolledTo(s State) {
	h.t.Helper()
	code, _, err := h.OfferTo(h.t.Context(), "operator", "far.example", false)
	if err != nil {
		h.t.Fatal(err)
	}
	j, err := enrol.ParseJoin(code)
	if err != nil || j.Backup != "far.example:7443" || j.Origin != "near.example/log" {
		h.t.Fatalf("%+v, %v", j, err)
	}
	h.await(CatchingUp)
	lines, _ := h.log.Head()
	h.far.cosigns(lines)
	h.await(s)
	lines, _ = h.log.Head()
	h.far.cosigns(lines)
}

func wantCode(t *testing.T, err error, code, what string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != fault.Unavailable || fault.CodeOf(err) != code || fault.HintOf(err) == "" {
		t.Errorf("%s: %v of code %q, want %s", what, err, fault.CodeOf(err), code)
	}
}

func TestSyncWaits(t *testing.T) {
	h := newHouse(t, config.Replication{Mode: config.ModeSync, Wait: 100 * time.Millisecond})
	if s, err := h.Settle(t.Context(), h.line()); err != nil || s.State != None || s.Cosigned {
		t.Errorf("without a backup: %+v, %v", s, err)
	}
	h.enrolledTo(Sync)
	n := h.line()
	_, err := h.Settle(t.Context(), n)
	wantCode(t, err, CodeNotReplicated, "a line that is not cosigned")
	go func() { time.Sleep(20 * time.Millisecond); h.far.cosigns(n) }()
	if s, err := h.Settle(t.Context(), n); err != nil || !s.Cosigned || s.Lines != n || s.By != h.far.key.String() {
		t.Errorf("%+v, %v", s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Settle(ctx, n+1); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever asked is gone: %v", err)
	}
}

// TestStartHoldsSigningBack: what is known to be cosigned goes on, everything else waits for the comparison; a mismatch stays, with a line.
func TestStartHoldsSigningBack(t *testing.T) {
	r := config.Replication{Mode: config.ModeSync, Wait: 50 * time.Millisecond}
	h := newHouse(t, r)
	h.enrolledTo(Sync)
	h.open(r)
	h.await(Comparing)
	wantCode(t, h.MaySign(), CodeNotCompared, "signing before the comparison")
	_, err := h.Settle(t.Context(), 1)
	wantCode(t, err, CodeNotCompared, "an answer before the comparison")
	lines, _ := h.log.Head()
	h.far.cosigns(lines)
	h.await(Sync)
	if err := h.MaySign(); err != nil {
		t.Error(err)
	}
	h.far.set(func(s *LinkStatus) { s.Connected, s.Compared = false, false }) // the connection was lost: the comparison holds
	if err := h.MaySign(); err != nil {
		t.Error(err)
	}
	h.far.set(func(s *LinkStatus) { s.Mismatch = "the first 7 lines are others" })
	wantCode(t, h.MaySign(), CodeMismatch, "signing after a mismatch")
	if s, err := h.Settle(t.Context(), lines); err != nil || !s.Cosigned {
		t.Errorf("what was cosigned before: %+v, %v", s, err)
	}
	_, err = h.Settle(t.Context(), h.line())
	wantCode(t, err, CodeMismatch, "a new answer")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		n, _ := h.log.Head()
		if last, err := h.log.Read(n - 1); err == nil && last.Type == eventMismatch {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the mismatch has no line")
		}
	}
}

// TestStartIsAwaited: whoever wants to sign right after a start waits for the comparison instead of being sent away, and not for longer than an answer may take.
func TestStartIsAwaited(t *testing.T) {
	r := config.Replication{Mode: config.ModeSync, Wait: 300 * time.Millisecond}
	h := newHouse(t, r)
	h.enrolledTo(Sync)
	h.open(r)
	h.await(Comparing)
	began := time.Now()
	wantCode(t, h.Await(t.Context()), CodeNotCompared, "without a comparison")
	if took := time.Since(began); took < r.Wait || took > 100*r.Wait {
		t.Errorf("it was waited for %v", took)
	}
	gone, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := h.Await(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever asked is gone: %v", err)
	}
	h.cfg.Wait = time.Minute
	errs := make(chan error)
	for range 2 * maxAwaiting {
		go func() { errs <- h.Await(t.Context()) }()
	}
	for range maxAwaiting {
		wantCode(t, <-errs, CodeNotCompared, "where enough wait")
	}
	lines, _ := h.log.Head()
	h.far.cosigns(lines)
	for range maxAwaiting {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := h.Await(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAsyncHasALargestLag(t *testing.T) {
	h := newHouse(t, config.Replication{Mode: config.ModeAsync, Wait: time.Second, MaxLag: time.Minute})
	h.enrolledTo(Async)
	n := h.line()
	if s, err := h.Settle(t.Context(), n); err != nil || s.State != Async || s.Cosigned {
		t.Errorf("%+v, %v", s, err)
	}
	if err := h.MaySign(); err != nil {
		t.Error(err)
	}
	h.clock = h.clock.Add(2 * time.Minute)
	wantCode(t, h.MaySign(), CodeLag, "signing beyond the largest lag")
	h.far.cosigns(n)
	if err := h.MaySign(); err != nil {
		t.Error(err)
	}
}

func TestRequiredBackup(t *testing.T) {
	h := newHouse(t, config.Replication{Mode: config.ModeSync, Wait: time.Second, Required: true})
	wantCode(t, h.MaySign(), CodeRequired, "signing without the backup that is required")
	h.enrolledTo(Sync)
	if err := h.MaySign(); err != nil {
		t.Error(err)
	}
	for _, reason := range []string{"", "  ", string(make([]byte, 501))} {
		if err := h.Disable(t.Context(), "operator", reason); fault.KindOf(err) != fault.Invalid {
			t.Errorf("reason %q: %v", reason, err)
		}
	}
	if err := h.Disable(t.Context(), "operator", "it is gone"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.MaySign(), CodeRequired, "signing after giving it up")
	if err := h.Disable(t.Context(), "operator", "once more"); fault.KindOf(err) != fault.Conflict {
		t.Error(err)
	}
}

func TestOffersRefused(t *testing.T) {
	h := newHouse(t, config.Replication{Mode: config.ModeSync, Wait: time.Second})
	for _, address := range []string{"", "Backup", "a b", "backup:0", "-x", "backup:7443/x"} {
		if _, _, err := h.OfferTo(t.Context(), "operator", address, false); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, _, err := h.OfferTo(t.Context(), "operator", "far.example", true); fault.KindOf(err) != fault.Conflict {
		t.Errorf("replacing nothing: %v", err)
	}
	h.far.refuse = errors.New("connection refused")
	if _, _, err := h.OfferTo(t.Context(), "operator", "2001:db8::1", false); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if r, err := h.Report(); err == nil && r.Offer != nil && r.Offer.Trouble != "" && r.Offer.Address == "[2001:db8::1]:7443" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%+v, %v", r.Offer, err)
		}
	}
}
