package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// Log is the log that is watched.
type Log interface {
	// Checkpoint returns the log's newest checkpoint, signed, with whatever cosignatures it has already.
	Checkpoint(ctx context.Context) (chain.Cosigned, error)
	// Head returns how many lines the log has.
	Head() (lines uint64, hash chain.Hash)
	// ProveConsistency proves that the tree over the first size lines begins with that over the first old ones.
	ProveConsistency(ctx context.Context, old, size uint64) ([]chain.Hash, error)
}

// Config is what a Keeper works with.
type Config struct {
	Log      Log
	LogKey   string // verifier key; its name is the origin
	Policy   *chain.Policy
	Every    time.Duration // between two rounds
	Patience time.Duration // for one witness in one round; 0 = 20 seconds
	Via      http.RoundTripper
	Slog     *slog.Logger
}

const defaultPatience = 20 * time.Second

// Keeper keeps the newest checkpoint that the policy's witnesses cosigned. It is safe for concurrent use.
type Keeper struct {
	cfg Config

	mu     sync.Mutex
	best   chain.Cosigned
	states []State // of the witnesses that have an address, in the policy's order
}

// State is how a witness stands.
type State struct {
	Name   string    // in the policy
	Size   uint64    // lines that it cosigned last
	At     time.Time // when, by its clock; zero: never since the start
	Failed error     // why it did not, in the last round; nil when it did
	// Contradicts: it said that it has cosigned another history, or lines that are gone, and has not cosigned since. That it is out of reach now unsays nothing.
	Contradicts bool
}

// New returns a Keeper that has asked nobody yet.
func New(cfg Config) (*Keeper, error) {
	if !cfg.Policy.Covers(cfg.LogKey) {
		return nil, fmt.Errorf("witness: the policy is about other logs than %s", cfg.LogKey)
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	k := &Keeper{cfg: cfg}
	for _, w := range cfg.Policy.Witnesses {
		if w.URL != "" {
			k.states = append(k.states, State{Name: w.Name})
		}
	}
	return k, nil
}

// Run asks every witness at once and then periodically, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(k.cfg.Every)
	defer tick.Stop()
	for {
		if err := k.Round(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Slog.WarnContext(ctx, "the log's checkpoint is not cosigned as the policy asks", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Round shows the newest checkpoint to every witness that has an address. nil: the policy is satisfied; chain.ErrQuorum: it is not.
func (k *Keeper) Round(ctx context.Context) error {
	c, err := k.cfg.Log.Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("witness: the log's checkpoint: %w", err)
	}
	var asked []chain.Witness
	for _, w := range k.cfg.Policy.Witnesses {
		if w.URL != "" {
			asked = append(asked, w)
		}
	}
	lines := make([][]byte, len(asked))
	var all sync.WaitGroup
	for i, w := range asked {
		all.Go(func() { lines[i] = k.one(ctx, i, w, c) })
	}
	all.Wait()
	for i, w := range asked {
		if lines[i] == nil {
			continue
		}
		if note, _, err := chain.AddCosignatures(c.Note, lines[i], w.Key); err == nil { // verified in one
			c.Note = note
		}
	}
	keys := k.cfg.Policy.Keys()
	for _, by := range c.By {
		if !slices.Contains(keys, by.Key) {
			keys = append(keys, by.Key)
		}
	}
	if _, c.By, err = chain.OpenCosigned(c.Note, chain.LogName(k.cfg.LogKey), k.cfg.LogKey, keys...); err != nil {
		return err
	}
	if err := k.cfg.Policy.Check(c.By); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.best = c
	return nil
}

// one shows c to one witness and returns its signature lines, nil when it did not cosign.
func (k *Keeper) one(ctx context.Context, i int, w chain.Witness, c chain.Cosigned) []byte {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Patience)
	defer cancel()
	k.mu.Lock()
	s := k.states[i]
	k.mu.Unlock()
	lines, by, err := k.show(ctx, w, s.Size, c)
	if err == nil {
		s.Size, s.At, s.Failed, s.Contradicts = c.Size, by.Time, nil, false
	} else {
		k.tell(ctx, s, w.Name, err)
		s.Failed, s.Contradicts = err, s.Contradicts || contradicts(err)
	}
	k.mu.Lock()
	k.states[i] = s
	k.mu.Unlock()
	return lines
}

// contradicts says whether a witness knows of another history than the log's.
func contradicts(err error) bool { return errors.Is(err, ErrForked) || errors.Is(err, ErrAhead) }

// tell logs why a witness did not cosign, when that is news.
func (k *Keeper) tell(ctx context.Context, s State, name string, err error) {
	if s.Failed != nil && s.Failed.Error() == err.Error() {
		return
	}
	level := slog.LevelWarn
	if contradicts(err) {
		level = slog.LevelError
	}
	k.cfg.Slog.Log(ctx, level, "a witness did not cosign", "witness", name, "error", err)
}

// show asks a witness that is believed to have cosigned old lines, and once more when it has cosigned others.
func (k *Keeper) show(ctx context.Context, w chain.Witness, old uint64, c chain.Cosigned) ([]byte, chain.Cosignature, error) {
	for range 2 {
		if old > c.Size {
			return nil, chain.Cosignature{}, k.ahead(old)
		}
		proof, err := k.cfg.Log.ProveConsistency(ctx, old, c.Size)
		if err != nil {
			return nil, chain.Cosignature{}, err
		}
		answer, err := ask(ctx, k.cfg.Via, w.URL, chain.AddCheckpoint{Old: old, Proof: proof, Checkpoint: c.Note})
		other, isStale := errors.AsType[*stale](err)
		if isStale {
			old = other.size
			continue
		}
		if err != nil {
			return nil, chain.Cosignature{}, err
		}
		_, by, err := chain.AddCosignatures(c.Note, answer, w.Key)
		if err != nil {
			return nil, chain.Cosignature{}, fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		return answer, by[0], nil
	}
	if old > c.Size {
		return nil, chain.Cosignature{}, k.ahead(old)
	}
	return nil, chain.Cosignature{}, fmt.Errorf("%w: it has cosigned another size each time", ErrAnswer)
}

// ahead says that the witness has cosigned more lines than it was to be shown: a newer checkpoint, or lines that are gone.
func (k *Keeper) ahead(size uint64) error {
	if lines, _ := k.cfg.Log.Head(); size > lines {
		return fmt.Errorf("%w: %d, not %d", ErrAhead, size, lines)
	}
	return fmt.Errorf("witness: it has cosigned the newer checkpoint of %d lines", size)
}

// Cosigned returns the newest checkpoint that satisfied the policy; false when there is none yet.
func (k *Keeper) Cosigned() (chain.Cosigned, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.best, k.best.Note != nil
}

// States returns how the witnesses stand.
func (k *Keeper) States() []State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.states)
}
