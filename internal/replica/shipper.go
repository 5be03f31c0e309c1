package replica

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/objects"
)

// Log is the log that is shipped: *ledger.Ledger.
type Log interface {
	// Head returns the number of acknowledged lines and the hash of the last.
	Head() (size uint64, hash chain.Hash)
	// Wait waits until there are more than size.
	Wait(ctx context.Context, size uint64) (uint64, error)
	// Export writes the lines from ≤ n < to, with their newlines; it passes an error of w on.
	Export(ctx context.Context, w io.Writer, from, to uint64) error
	// FrontierAt returns the tree over the first size lines.
	FrontierAt(ctx context.Context, size uint64) (chain.Frontier, error)
}

// Objects is where the files of objects come from: *objects.Store.
type Objects interface {
	Raw(id string) (*objects.RawFile, error)
}

// Store keeps the last cosigned checkpoint over restarts. It is a help, not a proof: who puts an old disk in puts an old one of these in as well.
type Store interface {
	Load() ([]byte, error) // nil: there is none
	Save(signed []byte) error
}

// ShipperConfig is what a Shipper needs.
type ShipperConfig struct {
	ClientConfig
	Log     Log
	Objects Objects
	Key     crypto.Signer      // the log's Ed25519 checkpoint key
	OldKeys []string           // verifier keys with which checkpoints that the backup holds may be signed, beside Key's
	Keys    []chain.WitnessKey // the receiver's cosigner key; the old one as well while it changes
	Store   Store
	// Heartbeat is how often the backup confirms the same lines anew when there are no others. Default 5 s.
	Heartbeat time.Duration
	// Timeout bounds one request; an object has a second more for each 64 KiB. Default 30 s.
	Timeout time.Duration
	Now     func() time.Time
	Rand    *rand.Rand   // of the wait between attempts; used by one goroutine
	Logger  *slog.Logger // nil: silent
}

// Cosigned is a checkpoint that the backup holds.
type Cosigned struct {
	chain.Tree
	Note []byte    // the checkpoint, with the log's signature and the cosignature; nil for none yet
	Time time.Time // of the cosignature
}

// Shipper sends the log to one receiver, group by group, and knows how far the receiver has confirmed it.
//
// It never goes on from a history that the receiver's cosigned checkpoint contradicts: then it stops for good, Wait fails at once, and a person decides.
type Shipper struct {
	cfg    ShipperConfig
	keys   []string // the log's verifier keys
	signer crypto.Signer

	// wire holds one element during an exchange with the receiver, from reading the log's size to the answer: what is said must not be overtaken by
	// what was said before. It is taken before mu.
	wire   chan struct{}
	client *Client // of the running session, nil when there is none; guarded by wire

	mu        sync.Mutex
	last      Cosigned
	verdict   *Verdict // the last one
	stopped   error    // why nothing is sent until a person acts
	grown     chan struct{}
	connected bool
	problem   error // of the last attempt, nil when it went well
	saved     time.Time
	began     time.Time
}

// NewShipper returns a Shipper that knows the last cosigned checkpoint of the Store and does nothing yet: see Run. An error: the keys do not fit, or
// what the Store has is not a checkpoint of this log.
func NewShipper(cfg ShipperConfig) (*Shipper, error) {
	if cfg.Log == nil || cfg.Objects == nil || cfg.Store == nil || cfg.Now == nil || cfg.Dial == nil || cfg.Rand == nil || len(cfg.Keys) == 0 {
		panic("replica: a ShipperConfig without Log, Objects, Store, Now, Dial, Rand or Keys")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	pub, ok := cfg.Key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("replica: the checkpoint key is a %T, not Ed25519", cfg.Key.Public())
	}
	key, err := chain.VerifierKey(cfg.Origin, pub)
	if err != nil {
		return nil, err
	}
	s := &Shipper{cfg: cfg, keys: append([]string{key}, cfg.OldKeys...), wire: make(chan struct{}, 1), grown: make(chan struct{}), began: cfg.Now()}
	signed, err := cfg.Store.Load()
	if err != nil {
		return nil, storage(err)
	}
	if signed != nil {
		if s.last, err = s.open(signed); err != nil {
			return nil, fault.New(fault.Corrupt, "the last cosigned checkpoint that is kept here is not valid").
				WithHint("it belongs to another log or backup, or is damaged").WithCause(err)
		}
	}
	return s, nil
}

// open verifies a cosigned checkpoint of this log.
func (s *Shipper) open(signed []byte) (Cosigned, error) {
	var err error
	for _, k := range s.keys {
		var cp chain.Checkpoint
		var by []chain.Cosignature
		cp, by, err = chain.OpenCosigned(signed, s.cfg.Origin, k, s.cfg.Keys...)
		if err != nil {
			continue
		}
		if len(by) == 0 {
			return Cosigned{}, errors.New("replica: a checkpoint without the backup's cosignature")
		}
		// Lines of others that the backup put under it would get into evidence, unverified.
		_, plain, err := chain.Strip(signed, s.cfg.Origin, k, s.cfg.Keys...)
		return Cosigned{cp.Tree, plain, by[0].Time}, err
	}
	return Cosigned{}, err
}

// Run ships until ctx is done (then it returns nil), or the receiver's copy and this log are found to contradict each other (then the error is that of
// the Verdict), or the receiver refused what it was sent (fault.Corrupt with CodeRefused). Everything else is tried again, after a wait that grows to 30 s.
func (s *Shipper) Run(ctx context.Context) error {
	defer s.save()
	wait := firstWait
	for {
		began := s.cfg.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if final, ok := errors.AsType[*finalError](err); ok {
			s.stop(final.error)
			return final.error
		}
		s.note(err)
		if s.cfg.Now().Sub(began) > time.Minute {
			wait = firstWait
		}
		s.cfg.Logger.WarnContext(ctx, "the backup is not confirming", "error", err.Error(), "retry", wait.String())
		// Half of the wait is random: primaries that lost one backup together must not come back together.
		pause := time.NewTimer(wait/2 + time.Duration(s.cfg.Rand.Int64N(int64(wait/2))))
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
		wait = min(2*wait, lastWait)
	}
}

const (
	firstWait = 100 * time.Millisecond
	lastWait  = 30 * time.Second
)

// Wait waits until the backup has cosigned at least size lines and returns the last checkpoint that it cosigned. fault.Unavailable: it did not in the
// time that ctx gives. fault.Corrupt: it never will, because the logs contradict each other.
func (s *Shipper) Wait(ctx context.Context, size uint64) (Cosigned, error) {
	for {
		s.mu.Lock()
		last, grown, stopped, problem := s.last, s.grown, s.stopped, s.problem
		s.mu.Unlock()
		if last.Size >= size && last.Note != nil {
			return last, nil
		}
		if stopped != nil {
			return Cosigned{}, stopped
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return Cosigned{}, fault.New(fault.Unavailable, "the backup has not confirmed this in time").
				WithHint("nothing is lost: repeat the request later; for the operator: appliance backup status").WithCause(errors.Join(ctx.Err(), problem))
		}
	}
}

// Last returns the last checkpoint that the backup is known to have cosigned; its Note is nil when there is none.
func (s *Shipper) Last() Cosigned {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Status is how shipping goes.
type Status struct {
	Connected bool      // a session is up, and the receiver's copy agrees
	Size      uint64    // lines here
	Cosigned  Cosigned  // what the backup has
	Lag       uint64    // lines that it has not
	Verdict   *Verdict  // of the last comparison; nil when there was none yet
	Stopped   bool      // by that verdict or a refusal, until a person acts: Problem says what it is
	Problem   error     // why there is no session; for people fault.PublicOf and fault.HintOf
	Since     time.Time // when this Shipper was made
}

// Status returns how shipping goes.
func (s *Shipper) Status() Status {
	size, _ := s.cfg.Log.Head()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Connected: s.connected, Size: size, Cosigned: s.last, Verdict: s.verdict, Stopped: s.stopped != nil, Problem: s.problem, Since: s.began}
	if size > s.last.Size {
		st.Lag = size - s.last.Size
	}
	return st
}

// stop ends shipping for good.
func (s *Shipper) stop(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped, s.connected, s.problem = why, false, why
	s.cfg.Logger.Error("shipping to the backup stopped", "error", why.Error())
	close(s.grown)
	s.grown = make(chan struct{})
}

// stoppedBy returns why shipping has ended for good, nil while it has not.
func (s *Shipper) stoppedBy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == nil {
		return nil
	}
	return &finalError{s.stopped}
}

// note keeps why a session ended.
func (s *Shipper) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.problem = false, err
}

// confirm takes a cosigned checkpoint in.
func (s *Shipper) confirm(c Cosigned) {
	s.mu.Lock()
	s.last, s.connected, s.problem = c, true, nil
	close(s.grown)
	s.grown = make(chan struct{})
	due := s.cfg.Now().Sub(s.saved) >= s.cfg.Heartbeat
	s.mu.Unlock()
	if due {
		s.save()
	}
}

// save writes the last cosigned checkpoint into the Store: now and then, because nothing waits for it.
func (s *Shipper) save() {
	s.mu.Lock()
	note := s.last.Note
	s.saved = s.cfg.Now()
	s.mu.Unlock()
	if note == nil {
		return
	}
	if err := s.cfg.Store.Save(note); err != nil {
		s.cfg.Logger.Warn("the last cosigned checkpoint could not be kept", "error", err.Error())
	}
}

// FileStore is a Store in a file.
type FileStore struct {
	FS   durable.FS
	Path string
}

// Load implements Store.
func (f FileStore) Load() ([]byte, error) {
	b, err := durable.ReadFile(f.FS, f.Path, chain.MaxNote)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save implements Store.
func (f FileStore) Save(signed []byte) error { return durable.WriteFile(f.FS, f.Path, signed, 0o600) }
