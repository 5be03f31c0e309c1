// Package signer puts the keys, the log, the clock, the CA and the time-stamping authority together, and does one operation at a time with
// them: never "sign this digest", always "sign this document for this credential". Every act is a line of the log before its effect leaves.
//
// It parses no document: what it needs to know of one is where its ByteRanges lie, and that it checks by hashing.
package signer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/objects"
	"github.com/veripath/aes-appliance/internal/token"
	"github.com/veripath/aes-appliance/internal/tsa"
)

// What is where in the state folder. The log's own name is ledger.FileName.
const (
	tokenDir    = "token"
	RootDir     = "root" // the root's own token: taken away after the ceremony, on a real appliance
	objectsDir  = "objects"
	indexName   = "index.db"
	lockName    = "lock"        // flock of the one process that has it open
	RootPEMName = "root.pem"    // a copy of the root certificate for whoever verifies
	LogKeyName  = "log-key.txt" // the log's verifier key, likewise
	cosigned    = "cosigned"    // the last checkpoint that a backup host cosigned: the beginning of the name
)

// Config says what to open.
type Config struct {
	config.Config
	PIN     []byte       // of the token; may be wiped after Open
	Version string       // of the program, for the log
	Log     *slog.Logger // nil: silent
	Kernel  clock.Kernel // what the clock asks for the time; nil: the machine's
	FS      durable.FS   // of the log and the objects; nil: the machine's

	RealmRoots *x509.CertPool // for realms without a CA of their own; nil: the system's
}

// Signer is an open appliance. It is safe for concurrent use.
type Signer struct {
	cfg      Config
	log      *slog.Logger
	rand     io.Reader
	token    *token.Token
	objects  *objects.Store
	index    *index.DB
	ledger   *journal
	clock    *clock.Clock
	marks    marks
	held     atomic.Bool // there are lines without proof of their time
	due      atomic.Bool // the last upkeep of the CA did not do all
	ca       *ca.CA
	time     atomic.Pointer[timeAuthority]
	gate     *activation.Activation
	backup   *backup.Keeper
	founded  founded
	verified verified
	complete bool // the log tells of a ceremony

	seen sync.Map // keySeen -> *evidence.Position: what never changes; as many as realms have keys

	mu          sync.Mutex
	credentials map[string]*credential // by serial

	closers []func() error // in order of opening
}

// Open opens the appliance in cfg.StateDir, mends what a crash left, and is then ready to sign.
//
// Errors: NotFound (nothing was founded there), Unavailable (in use), Corrupt (what was founded there is not in the log), Forbidden (others could change it; an
// unproven clock on an appliance that was not founded as a demo), and those of the token, the log and the CA.
func Open(ctx context.Context, cfg Config) (*Signer, error) {
	if there, err := Founded(cfg.StateDir); err != nil {
		return nil, err
	} else if !there {
		return nil, fault.New(fault.NotFound, "there is no appliance in "+cfg.StateDir).WithHint(`make a demo appliance with "appliance demo"`)
	}
	if err := cfg.hasLog(); err != nil {
		return nil, lost(cfg.StateDir, "the log is missing from "+cfg.StateDir).WithCause(err)
	}
	if err := ownAlone(cfg.StateDir); err != nil {
		return nil, err
	}
	lock, err := take(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	return openTaken(ctx, cfg, lock)
}

func (c Config) fs() durable.FS {
	if c.FS == nil {
		return durable.OS{}
	}
	return c.FS
}

func (c Config) hasLog() error {
	f, err := c.fs().Open(filepath.Join(c.StateDir, ledger.FileName), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// Founded reports whether there is an appliance in dir, whole or not. An appliance comes into being by a rename (see Found), so whatever is in
// dir was complete once.
func Founded(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fault.New(fault.Unavailable, "cannot look into the folder "+dir).WithCause(err).
			WithHint("the user that runs the appliance must own it")
	}
	return len(entries) > 0, nil
}

// lost is the error of an appliance whose log does not tell of its founding any more. Nothing may be removed on its account: the keys are there,
// and documents that they signed.
func lost(dir, what string) *fault.Error {
	return fault.New(fault.Corrupt, what).
		WithHint("restore " + filepath.Join(dir, ledger.FileName) + " from its backup; remove nothing: the keys and what they signed are of this appliance")
}

// take makes this process the only one that has the state folder open. It comes before everything else: two that have one token, index and
// log half open tell less clearly what is wrong.
func take(dir string) (io.Closer, error) {
	lock, err := durable.OS{}.Lock(filepath.Join(dir, lockName), false)
	if errors.Is(err, durable.ErrLocked) {
		return nil, inUse(err)
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot lock the folder "+dir).WithCause(err).
			WithHint("the user that runs the appliance must own it")
	}
	return lock, nil
}

func inUse(cause error) error {
	return fault.New(fault.Unavailable, "another process has this appliance open").
		WithHint("wait until it has ended, or stop it: one at a time may have it open").WithCause(cause)
}

// openTaken opens a founded appliance; the lock is closed with it.
func openTaken(ctx context.Context, cfg Config, lock io.Closer) (*Signer, error) {
	s, err := open(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.closers = slices.Insert(s.closers, 0, lock.Close)
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open opens all parts up to the CA; of a folder that has no log yet it makes one.
func open(ctx context.Context, cfg Config) (s *Signer, err error) {
	s = &Signer{cfg: cfg, log: cfg.Log, rand: rand.Reader, credentials: map[string]*credential{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.token, err = withRoom(cfg, func() (*token.Token, error) { return s.openToken(ctx) }); err != nil {
		return s, err
	}
	s.opened(s.token.Close)
	if s.objects, err = objects.OpenFS(cfg.fs(), filepath.Join(cfg.StateDir, objectsDir), s.token); err != nil {
		return s, err
	}
	s.opened(s.objects.Close)
	if s.index, err = withRoom(cfg, func() (*index.DB, error) { return index.Open(filepath.Join(cfg.StateDir, indexName), s.token) }); err != nil {
		return s, err
	}
	s.opened(s.index.Close)
	if s.clock, err = clock.Open(clock.Config{Mode: cfg.Clock.Mode, MaxError: cfg.Clock.MaxError, Kernel: cfg.Kernel}); err != nil {
		return s, err
	}
	log, err := ledger.Open(ctx, ledger.Config{
		Dir: cfg.StateDir, Index: s.index, Now: s.lineTime, Log: s.log, FS: cfg.fs(),
		Folds: []ledger.Fold{ca.Fold(), fold{}, prescriptionFold{}, activation.Fold(), backup.Fold(), logStampFold{}, markFold{}},
	})
	if err != nil {
		return s, err
	}
	s.ledger = &journal{Ledger: log}
	s.opened(s.ledger.Close)
	if err := s.readMark(); err != nil {
		return s, err
	}
	if err := s.readFounded(); err != nil {
		return s, err
	}
	return s, nil
}

// tokenWait bounds the wait for another program that is opening the token at this moment.
const tokenWait = 5 * time.Second

func (s *Signer) openToken(ctx context.Context) (*token.Token, error) {
	waiting, cancel := context.WithTimeout(ctx, tokenWait)
	defer cancel()
	t, err := token.Open(waiting, s.tokenConfig())
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, inUse(err)
	}
	return t, err
}

func (s *Signer) opened(closer func() error) { s.closers = append(s.closers, closer) }

// Close ends everything in reverse order; it may be repeated.
func (s *Signer) Close() error {
	var errs []error
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		errs = append(errs, s.closers[last]())
		s.closers = s.closers[:last]
	}
	return errors.Join(errs...)
}

func (s *Signer) tokenConfig() token.Config {
	return token.Config{
		Module: s.cfg.Token.Module, Dir: filepath.Join(s.cfg.StateDir, tokenDir), Label: s.cfg.Token.Label, PIN: s.cfg.PIN,
		MaxSessions: s.cfg.Token.MaxSessions, Log: s.log,
	}
}

// openCA opens the CA with the settings of the configuration.
func (s *Signer) openCA(ctx context.Context) (err error) {
	s.ca, err = ca.Open(ctx, ca.Config{
		Ledger: s.ledger, Objects: s.objects, Keys: ca.TokenKeys(s.token), Settings: s.settings(),
		Clock: s.clock, Now: s.least, Rand: s.rand, Log: s.log,
	})
	return err
}

func (s *Signer) settings() cert.Settings {
	p := s.cfg.PKI
	return cert.Settings{
		Name: p.Name, Organization: p.Organisation, OrganizationID: p.OrganisationID, Country: p.Country,
		BaseURL: p.BaseURL, PolicyArc: p.PolicyArc.String(), Demo: s.founded.Demo,
	}
}

// start makes an opened appliance ready: CA, time-stamping authority, what is due, what a crash left open.
func (s *Signer) start(ctx context.Context) error {
	// First, before the CA looks at the token: of a log that was cut it would believe that keys are unfinished, and destroy them.
	if !s.complete {
		lines, _ := s.ledger.Head()
		return lost(s.cfg.StateDir, fmt.Sprintf("the log holds only %d lines, and the founding of this appliance is not among them", lines))
	}
	if s.cfg.Clock.Mode == clock.Unproven && !s.founded.Demo {
		return fault.New(fault.Forbidden, "clock.mode is unproven, and this appliance is not a demo").
			WithHint(`set clock.mode = "system": what it signs would carry a time that no one can trust`)
	}
	if err := s.openCA(ctx); err != nil {
		return err
	}
	s.ledger.open(ledger.Event{Type: eventStartup, Actor: "system", Details: map[string]any{
		"version": s.cfg.Version, "clock": s.cfg.Clock.Mode, "clock_proven": s.cfg.Clock.Mode == clock.System && s.unproven() == nil, "demo": s.founded.Demo,
	}})
	if err := s.closeOpenSignatures(ctx); err != nil {
		return err
	}
	if err := s.maintainAtStart(ctx); err != nil {
		return err
	}
	if err := s.openTSA(); err != nil {
		return err
	}
	if err := s.publishAnchors(); err != nil {
		return err
	}
	var err error
	if s.gate, err = activation.Open(ctx, activation.Config{
		Ledger: s.ledger, Demo: s.founded.Demo, Log: s.log, Roots: s.cfg.RealmRoots,
		Unproven: s.unproven, Reached: func(t time.Time) bool { return !t.After(s.least()) },
	}); err != nil {
		return err
	}
	if err := s.openBackup(); err != nil {
		return err
	}
	if err := s.openVerified(); err != nil {
		return err
	}
	if err := s.keepTokenBackup(ctx); err != nil { // the next upkeep tries again, and the status says that it is due
		s.log.ErrorContext(ctx, "upkeep", "error", err)
	}
	return nil
}

// timeAuthority is the time-stamping authority with its certificate; upkeep exchanges it as a whole.
type timeAuthority struct {
	*tsa.TSA
	certificate *x509.Certificate
	policy      asn1.ObjectIdentifier
}

// openTSA makes the time-stamping authority of the CA's newest TSA certificate.
func (s *Signer) openTSA() error {
	stamper, err := s.ca.TimeStamper()
	if err != nil {
		return err
	}
	policy := s.cfg.TSA.Policy
	if policy == nil {
		policy = asn1.ObjectIdentifier(stamper.Policy)
	}
	made, err := tsa.New(tsa.Config{
		Policy: policy, Accuracy: tsa.MaxAccuracy, Certificate: stamper.Certificate, Chain: stamper.Chain,
		Key: stamper.Key, Clock: s.clock, Rand: s.rand, Release: s.release,
	})
	if err != nil {
		return err
	}
	s.time.Store(&timeAuthority{TSA: made, certificate: stamper.Certificate, policy: policy})
	return nil
}

// Maintain keeps the PKI alive (see ca.CA.Maintain) and takes up a new time-stamping authority. It is run every few minutes.
func (s *Signer) Maintain(ctx context.Context) (ca.Upkeep, error) {
	u, err := s.ca.Maintain(ctx)
	s.due.Store(err != nil)
	if u.NewTSA {
		err = errors.Join(err, s.openTSA())
	}
	return u, errors.Join(err, s.retireKeys(ctx), s.keepTokenBackup(ctx))
}

// publishAnchors keeps copies of the root certificate and of the log's key beside the state: what "appliance verify" trusts unless told otherwise.
func (s *Signer) publishAnchors() error {
	_, key, err := s.logKey()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		RootPEMName: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Root().Raw}),
		LogKeyName:  []byte(key + "\n"),
	} {
		path := filepath.Join(s.cfg.StateDir, name)
		if old, err := os.ReadFile(path); err == nil && string(old) == string(content) {
			continue
		}
		if err := durable.WriteFile(durable.OS{}, path, content, 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return nil
}

// Demo reports whether this appliance was founded as a demo: nothing of it may be taken for real.
func (s *Signer) Demo() bool { return s.founded.Demo }

// Root returns the root certificate.
func (s *Signer) Root() *x509.Certificate { return s.ca.Root() }

// CA returns the certification authority, for its administration.
func (s *Signer) CA() *ca.CA { return s.ca }

// TSA returns the time-stamping authority.
func (s *Signer) TSA() *tsa.TSA { return s.time.Load().TSA }

// Activation returns what decides about tokens, for its administration.
func (s *Signer) Activation() *activation.Activation { return s.gate }

// Ledger returns the log.
func (s *Signer) Ledger() *ledger.Ledger { return s.ledger.Ledger }
