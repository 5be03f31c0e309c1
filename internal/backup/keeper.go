package backup

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Ledger is the log, with Fold() among its folds.
type Ledger interface {
	Append(context.Context, ledger.Event) (ledger.Record, error)
	View(func(*index.Tx) error) error
	Head() (lines uint64, hash chain.Hash)
	Read(seq uint64) (ledger.Record, error)
}

// Link ships the log to one backup host for as long as Run runs. Package replica has one.
type Link interface {
	// Run ships, connecting again after each failure, until ctx ends.
	Run(ctx context.Context) error
	// Wait returns nil once the backup has cosigned at least the first lines of the log, and ctx's error before that.
	Wait(ctx context.Context, lines uint64) error
	Status() LinkStatus
}

// LinkStatus is how a Link stands.
type LinkStatus struct {
	Connected bool
	Cosigned  chain.Cosigned // by the backup, verified here; Note nil: nothing yet
	Compared  bool           // since Run began, the backup was asked what it holds, and it is the beginning of this log
	Mismatch  string         // or it is not: what was found; "" = nothing of the kind
	Trouble   string         // why it is not connected, or does not get on; "" = nothing
}

// Connector makes what is between this appliance and a backup host.
type Connector interface {
	// Ship returns a Link to p, which key (Ed25519) is shown to.
	Ship(p Peer, key crypto.Signer) (Link, error)
	// Enrol shows a backup host that this side has the secret of a join code, and is shown the same.
	Enrol(ctx context.Context, o Offer, key crypto.Signer) (Identity, error)
	// Fetch brings everything that p holds into dir, which is empty, and verifies all of it.
	Fetch(ctx context.Context, p Peer, key crypto.Signer, dir string) (Copied, error)
}

// Identity is what a backup host is known by.
type Identity struct {
	Receiver string // shown in TLS
	Cosigner string // verifier key of its cosignatures
}

// Config is what a Keeper works with.
type Config struct {
	config.Replication
	Ledger Ledger
	Origin string // of the log
	LogKey func() (ed25519.PublicKey, error)
	// Key returns the key that this appliance shows to backup hosts, making it when there is none.
	Key func(ctx context.Context, actor string) (crypto.Signer, error)
	// NewKey makes another one, which Key returns from then on; KeyOf returns the one that has this public half.
	NewKey func(ctx context.Context, actor string) (crypto.Signer, error)
	KeyOf  func(ed25519.PublicKey) (crypto.Signer, error)
	Now    func() time.Time
	Log    *slog.Logger
}

// Keeper keeps to one backup host. It is safe for concurrent use.
type Keeper struct {
	cfg   Config
	dials *Dials

	act sync.Mutex // one act at a time; before mu

	awaiting atomic.Int32 // how many wait for the comparison

	mu       sync.Mutex
	peer     *Peer // nil: there never was one
	offer    *Offer
	link     Link // of peer, while Run runs
	compared bool // with peer, since the start
	changed  chan struct{}
	told     string         // the mismatch that has a line
	trouble  string         // why there is no link; "" = nothing
	seen     chain.Cosigned // the newest, by whichever backup host
}

// Open returns a Keeper of what the log says.
func Open(cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg, dials: NewDials(), changed: make(chan struct{})}
	p, err := load[Peer](cfg.Ledger, keyPeer)
	if err != nil {
		return nil, err
	}
	if p.Address != "" {
		k.peer = &p
	}
	return k, nil
}

// Dials returns where connections for the backup host are asked for.
func (k *Keeper) Dials() *Dials { return k.dials }

// State says in one word how the log and a backup host stand to each other.
type State string

// States.
const (
	None       State = "none"        // no backup host was ever enrolled
	Disabled   State = "disabled"    // the operator gave it up
	CatchingUp State = "catching-up" // it has not held everything yet: answers do not wait
	Comparing  State = "comparing"   // it has, and since the start it was not compared with: nothing is signed
	Mismatch   State = "mismatch"    // the log is not what it cosigned: nothing is signed
	Sync       State = "sync"        // answers wait for it
	Async      State = "async"       // answers do not wait, within a largest lag
)

// snapshot is the state with all that it was concluded from.
type snapshot struct {
	state State
	peer  *Peer
	link  Link
	LinkStatus
}

func (k *Keeper) now() snapshot {
	k.mu.Lock()
	s := snapshot{state: None, peer: k.peer, link: k.link}
	s.Trouble = k.trouble
	k.mu.Unlock()
	if s.link != nil {
		s.LinkStatus = s.link.Status()
		s.Compared = k.remember(s)
	}
	switch {
	case s.peer == nil:
	case !s.peer.Disabled.IsZero():
		s.state = Disabled
	case s.Mismatch != "":
		s.state = Mismatch
	case !s.peer.Synchronised:
		s.state = CatchingUp
	case !s.Compared:
		s.state = Comparing
	case k.cfg.Mode == config.ModeAsync:
		s.state = Async
	default:
		s.state = Sync
	}
	return s
}

// remember keeps what was cosigned last, also across an exchange of the backup host, and whether the enrolled one was compared with.
func (k *Keeper) remember(s snapshot) (compared bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link == s.link && s.Compared && !k.compared {
		k.compared = true
		k.tell()
	}
	if c := s.Cosigned; len(c.By) > 0 && (len(k.seen.By) == 0 || c.Size > k.seen.Size || c.By[0].Time.After(k.seen.By[0].Time)) {
		k.seen = c
	}
	return k.compared
}

// Cosigned returns the newest checkpoint that a backup host cosigned, as far as this process knows; false when there is none.
func (k *Keeper) Cosigned() (chain.Cosigned, bool) {
	k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen, len(k.seen.By) > 0
}

// Statement is what an answer says of the backup: whether the line that it rests on is cosigned.
type Statement struct {
	State    State     `json:"state"`
	Cosigned bool      `json:"cosigned"`              // the line of this answer is covered
	Lines    uint64    `json:"cosigned_lines"`        // of the log that are cosigned in all
	At       time.Time `json:"cosigned_at,omitzero"`  // when they were, by the backup's clock
	By       string    `json:"cosigned_by,omitempty"` // verifier key of the cosignature
}

// Say returns the statement about the first lines of the log.
func (k *Keeper) Say(lines uint64) Statement { return k.say(k.now(), lines) }

func (k *Keeper) say(s snapshot, lines uint64) Statement {
	k.mu.Lock()
	last := k.seen
	k.mu.Unlock()
	out := Statement{State: s.state}
	if len(last.By) > 0 {
		out.Cosigned, out.Lines, out.At, out.By = last.Size >= lines, last.Size, last.By[0].Time, last.By[0].Key.String()
	}
	return out
}

// Codes of refusals, for clients.
const (
	CodeNotReplicated = "not-yet-replicated"
	CodeNotCompared   = "backup-not-compared"
	CodeMismatch      = "log-not-as-cosigned"
	CodeRequired      = "backup-required"
	CodeLag           = "replication-lag"
)

// Settle waits until the first lines of the log are cosigned, where answers wait for that, and says how they stand. Unavailable, with
// CodeNotReplicated: they were not in time; what they record stands, and the same request gets its answer later.
func (k *Keeper) Settle(ctx context.Context, lines uint64) (Statement, error) {
	s := k.now()
	said := k.say(s, lines)
	switch {
	case said.Cosigned:
		return said, nil
	case s.state == Comparing || s.state == Mismatch:
		return Statement{}, k.refuse(s)
	case s.state != Sync:
		return said, nil
	}
	waiting, cancel := context.WithTimeout(ctx, k.cfg.Wait)
	defer cancel()
	if err := s.link.Wait(waiting, lines); err != nil {
		if ctx.Err() != nil {
			return Statement{}, ctx.Err()
		}
		if s = k.now(); s.state != Sync { // it was given up, or found to differ, meanwhile
			return k.Settle(ctx, lines)
		}
		return Statement{}, fault.New(fault.Unavailable, "the backup has not confirmed this yet").WithCode(CodeNotReplicated).WithCause(err).
			WithHint("it is recorded, and is answered once the backup has it: send the same request again")
	}
	return k.say(k.now(), lines), nil
}

// MaySign returns why nothing that waits for the backup may be begun now, nil when it may.
func (k *Keeper) MaySign() error {
	s := k.now()
	if err := k.refuse(s); err != nil {
		return err
	}
	if s.state != Async {
		return nil
	}
	return k.lag(s)
}

// maxAwaiting is how many wait at once for the comparison. More are told to come back: what brings it about comes over the same connection as they do.
const maxAwaiting = 64

// Await is MaySign that waits, for at most replication.wait, while nothing is missing but the comparison after a start: it takes a moment.
func (k *Keeper) Await(ctx context.Context) error {
	defer k.awaiting.Add(-1)
	if k.awaiting.Add(1) > maxAwaiting {
		return k.MaySign()
	}
	enough := time.NewTimer(k.cfg.Wait)
	defer enough.Stop()
	for {
		k.mu.Lock()
		changed := k.changed
		k.mu.Unlock()
		if k.now().state != Comparing {
			return k.MaySign()
		}
		select {
		case <-changed:
		case <-enough.C:
			return k.MaySign()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refuse returns what the state forbids.
func (k *Keeper) refuse(s snapshot) error {
	no := func(code, text, hint string) error {
		return fault.New(fault.Unavailable, text).WithCode(code).WithHint(hint)
	}
	switch {
	case s.state == Mismatch:
		return no(CodeMismatch, "signing is off: "+s.Mismatch, `an operator must compare the log with the backup's copy: "appliance backup status"`)
	case s.state == Comparing:
		text := "signing is off until the log has been compared with the backup"
		if s.Trouble != "" {
			text += ", which cannot be reached"
		}
		return no(CodeNotCompared, text, `try again in a moment; an operator sees the cause with "appliance backup status", and can give a lost backup up with "appliance backup disable"`)
	case k.cfg.Required && (s.state == None || s.state == Disabled):
		return no(CodeRequired, "signing is off: the configuration requires a backup, and none is enrolled",
			`an operator enrols one with "appliance backup enrol"; if there was one, this state folder is an old copy`)
	}
	return nil
}

// lag returns why the largest lag forbids signing.
func (k *Keeper) lag(s snapshot) error {
	if lines, _ := k.cfg.Ledger.Head(); s.Cosigned.Size >= lines {
		return nil
	}
	behind, err := k.behind(s.Cosigned.Size)
	if err != nil || behind <= k.cfg.MaxLag {
		return err
	}
	return fault.New(fault.Unavailable, "signing is off: the backup lags behind by more than replication.max_lag").WithCode(CodeLag).
		WithHint(`try again in a moment; an operator sees the cause with "appliance backup status"`)
}

// stuck bounds how many lines without a time of their own are looked past.
const stuck = 256

// behind returns how long ago the first of the log's lines was written that a backup does not hold which has the first size of them. A line that bears the time of
// the line before says nothing of that: it was written without proof of the time, and the next that bears another counts.
func (k *Keeper) behind(size uint64) (time.Duration, error) {
	lines, _ := k.cfg.Ledger.Head()
	var before time.Time
	if size > 0 {
		r, err := k.cfg.Ledger.Read(size - 1)
		if err != nil {
			return 0, err
		}
		before = r.Time
	}
	for n := size; n < lines; n++ {
		r, err := k.cfg.Ledger.Read(n)
		if err != nil {
			return 0, err
		}
		if !r.Time.Equal(before) || n == size+stuck {
			return max(0, k.cfg.Now().Sub(r.Time)), nil
		}
	}
	return 0, nil
}
