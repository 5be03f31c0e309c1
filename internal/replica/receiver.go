package replica

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Peer is a log that a receiver keeps, and who may do what with it. To change a key without losing a line, both are named for a while.
type Peer struct {
	Origin  string        // of the log (chain.CheckOrigin)
	LogKeys []string      // verifier keys of the log's checkpoints (chain.VerifierKey), named Origin: one, or the old and the new
	Clients []Pin         // may append, compare, and read
	Readers []Pin         // may read all of it: a restore, allowed by the operator
	Silence time.Duration // an alarm when nothing was heard for that long; 0: none
	Quota   int64         // bytes of lines and objects that are taken at most; 0: as many as the disk has room for
	Lag     time.Duration // an alarm when lines come that much later than they were written, by this host's clock; 0: none
}

// ReceiverConfig is what a receiver needs.
type ReceiverConfig struct {
	Dir      string        // a folder per log is made below
	Identity Identity      // by which primaries know this backup
	Name     string        // of the cosigner: a key name (chain.CheckOrigin)
	Key      crypto.Signer // Ed25519, of the cosignatures alone
	Now      func() time.Time
	Log      *slog.Logger // nil: silent
	FS       durable.FS   // nil: the machine's
	// AppendOnly makes the files of lines and refusals append-only for the file system as well (chattr +a), where it has that and this process may
	// (CAP_LINUX_IMMUTABLE); LogStatus says whether they are.
	AppendOnly bool
	// Alarm is told what a person should know, from within requests: it must return at once. nil: nobody is told.
	Alarm func(Alarm)
	// Codes redeems one-time codes (see Redeem). nil: there are none, and whoever is not a Peer's is turned away in the handshake.
	Codes Codes
	// Arrived is told when the first of a Peer's several Clients has had something cosigned: it is in use, and the others can go. nil: nobody is told.
	Arrived func(origin string, client Pin) error
}

// Codes is who gave one-time codes out: for enrolment, or to allow a restore.
type Codes interface {
	// Open says whether a code waits to be redeemed: only then may a stranger finish a handshake, to say so and nothing else.
	Open() bool
	// Redeem uses a code up. kind and payload are as the client sent them; proves says whether the client proved to know a secret. It returns that
	// secret, with which the receiver proves in turn that it knows it, and an answer. An error (fault.Forbidden when no code fits) is told to the client.
	Redeem(ctx context.Context, kind string, client Pin, payload []byte, proves func(secret []byte) bool) (secret, answer []byte, err error)
}

// Receiver keeps copies of logs. Its methods may be called from several goroutines at once.
type Receiver struct {
	cfg      ReceiverConfig
	cosigner *chain.Cosigner
	conns    atomic.Uint64 // numbers connections

	mu      sync.RWMutex
	logs    map[string]*served // by LogID
	allowed map[Pin]bool       // who may finish a handshake
}

// served is a log with who may use it.
type served struct {
	peer   Peer
	mirror *mirror   // nil: the copy cannot be opened
	broken error     // then: why
	tried  time.Time // and when that was found
}

// tryAgain is how soon a copy that could not be opened is tried anew.
const tryAgain = time.Minute

// usable returns the copy, or why there is none.
func (s *served) usable() (*mirror, error) {
	if s.mirror == nil {
		return nil, fault.New(fault.Unavailable, fault.PublicOf(s.broken)).WithHint(fault.HintOf(s.broken)).WithCause(s.broken)
	}
	return s.mirror, nil
}

// NewReceiver returns a receiver that keeps no log yet: SetPeers says which.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	if cfg.Now == nil || cfg.Dir == "" {
		panic("replica: a ReceiverConfig without Dir or Now")
	}
	if cfg.FS == nil {
		cfg.FS = durable.OS{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(Alarm) {}
	}
	cosigner, err := chain.NewCosigner(cfg.Name, cfg.Key)
	if err != nil {
		return nil, err
	}
	if err := durable.Mkdir(cfg.FS, cfg.Dir, 0o700); err != nil {
		return nil, storage(err)
	}
	return &Receiver{cfg: cfg, cosigner: cosigner, logs: map[string]*served{}, allowed: map[Pin]bool{}}, nil
}

// Key returns the receiver's cosigner key: what a primary and its auditors verify cosignatures with.
func (r *Receiver) Key() chain.WitnessKey { return r.cosigner.Key() }

// SetPeers replaces the logs that are kept and who may use them. The copy of a log that is new here is opened, or begun; the files of one that is gone
// stay as they are. It may be called at any time. On error nothing has changed.
//
// A copy that cannot be opened, because it is not what was cosigned or the disk fails, keeps no other one from being served: it is an alarm, requests about it are
// refused with the reason, and a later call tries it again.
func (r *Receiver) SetPeers(peers []Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	logs, allowed := map[string]*served{}, map[Pin]bool{}
	var opened []*mirror
	undo := func(err error) error {
		for _, m := range opened {
			m.shut()
		}
		return err
	}
	for _, p := range peers {
		if err := checkPeer(p); err != nil {
			return undo(err)
		}
		id := LogID(p.Origin)
		if logs[id] != nil {
			return undo(fault.New(fault.Invalid, fmt.Sprintf("the origin %q stands twice", p.Origin)))
		}
		s := &served{peer: p}
		if was := r.logs[id]; was != nil && (was.mirror != nil || r.cfg.Now().Sub(was.tried) < tryAgain) {
			s.mirror, s.broken, s.tried = was.mirror, was.broken, was.tried
		} else if err := r.begin(s); err != nil {
			return undo(err)
		} else if s.mirror != nil {
			opened = append(opened, s.mirror)
		}
		logs[id] = s
		for _, pin := range slices.Concat(p.Clients, p.Readers) {
			allowed[pin] = true
		}
	}
	for id, was := range r.logs {
		if logs[id] == nil && was.mirror != nil {
			was.mirror.shut()
		}
	}
	for _, s := range logs {
		if s.mirror != nil {
			s.mirror.setKeys(s.peer.LogKeys)
		}
	}
	r.logs, r.allowed = logs, allowed
	return nil
}

// begin opens the copy of a log, or notes why it cannot. An error: another receiver has it open.
func (r *Receiver) begin(s *served) error {
	m, err := newMirror(r.mirrorConfig(s.peer), r.cfg.Dir, r.cosigner)
	if err == nil || errors.Is(err, durable.ErrLocked) {
		s.mirror = m
		return err
	}
	s.broken, s.tried = err, r.cfg.Now()
	r.cfg.Log.Error("a copy cannot be opened", "origin", s.peer.Origin, "error", err.Error())
	r.cfg.Alarm(Alarm{Kind: AlarmDisk, Time: s.tried.UTC(), Origin: s.peer.Origin, Text: "the copy cannot be opened: " + fault.PublicOf(err)})
	return nil
}

func (r *Receiver) mirrorConfig(p Peer) mirrorConfig {
	return mirrorConfig{origin: p.Origin, keys: p.LogKeys, fs: r.cfg.FS, now: r.cfg.Now, log: r.cfg.Log, alarm: r.cfg.Alarm, quota: p.Quota, appendOnly: r.cfg.AppendOnly}
}

// checkPeer returns what is wrong with a peer.
func checkPeer(p Peer) error {
	if err := chain.CheckOrigin(p.Origin); err != nil {
		return fault.New(fault.Invalid, "an origin is 1 to 255 characters of printable ASCII without space and +").WithCause(err)
	}
	if len(p.LogKeys) == 0 {
		return fault.New(fault.Invalid, fmt.Sprintf("the log %s has no key", p.Origin))
	}
	for _, k := range p.LogKeys {
		if err := checkLogKey(p.Origin, k); err != nil {
			return fault.New(fault.Invalid, fmt.Sprintf("%q is not a verifier key of the log %s", k, p.Origin)).WithCause(err)
		}
	}
	return nil
}

// Close lets go of all logs. Serve should have returned before.
func (r *Receiver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.logs {
		if s.mirror != nil {
			s.mirror.shut()
		}
	}
	r.logs, r.allowed = map[string]*served{}, map[Pin]bool{}
	return nil
}

// known says whether who has this key may finish a handshake.
func (r *Receiver) known(pin Pin) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.allowed[pin] || r.cfg.Codes != nil && r.cfg.Codes.Open()
}

// log returns a log and what this client may do with it.
func (r *Receiver) log(id string, pin Pin) (s *served, writes, reads bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s = r.logs[id]
	if s == nil {
		return nil, false, false
	}
	writes = slices.Contains(s.peer.Clients, pin)
	return s, writes, writes || slices.Contains(s.peer.Readers, pin)
}

// connKey is the context key of a connection's number.
type connKey struct{}

// Serve answers on a listener of plain TCP connections until ctx is done; then it waits a moment for what is in flight. It returns nil after a clean
// stop.
func (r *Receiver) Serve(ctx context.Context, ln net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Handler:           r.handler(),
		TLSConfig:         tlsConfig(r.cfg.Identity, r.known),
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second, // of the handshake too
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 32, MaxReceiveBufferPerConnection: 4 << 20, MaxReceiveBufferPerStream: 2 << 20,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: 30 * time.Second},
		ErrorLog: slog.NewLogLogger(r.cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, r.conns.Add(1))
		},
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go r.watch(watch)
	go r.watchSpace(watch)
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		done <- errors.Join(srv.Shutdown(last), srv.Close())
	}()
	if err := srv.ServeTLS(limitListener(ln, maxSockets, maxSocketsOfOne), "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("replica: serving: %w", err)
	}
	if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("replica: stopping: %w", err)
	}
	return nil
}

// watch looks for primaries that have gone silent, or whose lines come late.
func (r *Receiver) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.check()
		}
	}
}

func (r *Receiver) check() {
	r.mu.RLock()
	logs := make([]*served, 0, len(r.logs))
	for _, s := range r.logs {
		if s.mirror != nil {
			logs = append(logs, s)
		}
	}
	r.mu.RUnlock()
	for _, s := range logs {
		s.mirror.checkQuota()
		if s.peer.Silence > 0 {
			s.mirror.checkSilence(s.peer.Silence)
		}
		if s.peer.Lag > 0 {
			s.mirror.checkLag(s.peer.Lag)
		}
	}
}
