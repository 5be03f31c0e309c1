package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/token"
)

// Keys is the token as this package uses it; TokenKeys makes one of a *token.Token.
type Keys interface {
	Generate(token.KeySpec) (crypto.Signer, error)
	Key(label string, id []byte, pub crypto.PublicKey) (crypto.Signer, error)
	Keys() ([]token.KeyInfo, error)
	Destroy(label string, id []byte) error
	GenerateWrapped(token.Algorithm) (wrapped []byte, pub crypto.PublicKey, err error)
	WrappedSigner(wrapped []byte, pub crypto.PublicKey) crypto.Signer
}

// Ledger is the log as this package uses it.
type Ledger interface {
	Append(context.Context, ledger.Event) (ledger.Record, error)
	View(func(*index.Tx) error) error
}

// Objects keeps wrapped keys and CRLs.
type Objects interface {
	Put(ctx context.Context, kind string, plain []byte) (id string, err error)
	Get(ctx context.Context, id string) ([]byte, error)
}

// Clock gives proven time, or says why it cannot.
type Clock interface{ Now() (clock.Reading, error) }

// Config is what a CA consists of.
type Config struct {
	Ledger   Ledger // with Fold() among its folds
	Objects  Objects
	Keys     Keys
	Settings cert.Settings
	Clock    Clock            // for what needs proven time: certificates, and the states that go into documents
	Now      func() time.Time // the machine's time, for what must go on without proof: revocation lists and public OCSP
	Rand     io.Reader
	Log      *slog.Logger
	Policy   Policy
}

// Policy holds the periods and bounds that an operator may set; zero values are the defaults in brackets.
type Policy struct {
	Algorithm     cert.Algorithm // of CA, TSA and OCSP keys and of clinicians' by default [ecdsa-p256]
	CRLInterval   time.Duration  // between two CRLs of one CA without a revocation [24 h]
	CRLValidity   time.Duration  // thisUpdate to nextUpdate [7 days]
	OCSPValidity  time.Duration  // thisUpdate to nextUpdate [24 h]
	OCSPCache     time.Duration  // how long an answer without nonce is given again [1 min]
	OCSPParallel  int            // public answers signed at once; more are told tryLater [8]
	OCSPRenewal   time.Duration  // before a responder's certificate ends [10 days]
	TSARenewal    time.Duration  // before the TSA's key may not be used any more [30 days]
	RootCRLWarn   time.Duration  // before the root's CRL runs out [60 days]
	RootCRLRefuse time.Duration  // before it runs out: no document signature any more [48 h]
}

// DefaultPolicy returns the policy of who sets nothing.
func DefaultPolicy() Policy { return Policy{}.withDefaults() }

func (p Policy) withDefaults() Policy {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	const day = 24 * time.Hour
	set(&p.CRLInterval, day)
	set(&p.CRLValidity, 7*day)
	set(&p.OCSPValidity, day)
	set(&p.OCSPCache, time.Minute)
	set(&p.OCSPRenewal, 10*day)
	set(&p.TSARenewal, 30*day)
	set(&p.RootCRLWarn, 60*day)
	set(&p.RootCRLRefuse, 2*day)
	if p.Algorithm == "" {
		p.Algorithm = cert.ECDSAP256
	}
	if p.OCSPParallel == 0 {
		p.OCSPParallel = 8
	}
	return p
}

// CA issues, revokes and answers. It is safe for concurrent use.
//
// Locks: act is held by acts that must not overlap (ceremony, upkeep, CRLs, renewal of one's own certificates) and taken before mu; mu
// guards the state below it and is never held while the log, the token or an object is waited for.
type CA struct {
	cfg      Config
	profiles *cert.Profiles
	linter   *cert.Linter

	act sync.Mutex

	mu      sync.RWMutex
	entries map[string]*entry     // by serial; an *entry is replaced, never changed
	order   []string              // serials, oldest first
	names   map[string][]string   // nameKeys -> serials of clinicians, oldest first
	held    map[string]bool       // those that an issuance in progress holds
	keys    map[string]keyState   // by label
	cas     map[string]*authority // by serial
	issuers map[string]*authority // by hash of name and key, of each hash that CertIDs use
	root    *x509.Certificate
	rootCRL *x509.RevocationList
	tsa     *TimeStamper
	log     crypto.Signer // the checkpoint key
	broken  error         // a revocation that may be durable but is not in memory: no state may be told any more

	credentials cache[*credential]
	answers     cache[answer]
	fresh       fresh
	signing     chan struct{} // one slot per public answer being signed
	counts      [5]atomic.Uint64
	counted     time.Time // of the last eventAnswers; guarded by act
}

// authority is one issuing CA.
type authority struct {
	kind      cert.Kind
	serial    string
	cert      *x509.Certificate
	key       crypto.Signer
	id        cert.CertID // of its own certificates, but for the serial; with SHA-1, which every validator understands
	responder atomic.Pointer[responder]
	crl       atomic.Pointer[crl]
}

// responder is a CA's own OCSP responder.
type responder struct {
	*cert.OCSPSigner
	serial string
}

// crl is a CA's newest list.
type crl struct {
	crlDetails
	der   []byte
	stale bool // a revocation came after it
}

// TimeStamper is what the TSA works with.
type TimeStamper struct {
	Serial      string
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // issuer, root
	Key         crypto.Signer
	Until       time.Time // when its key must not be used any more
	Policy      asn1.ObjectIdentifier
}

// Open reads the state from the log's index, finds the keys in the token, sees to those that a crash left unfinished, and is then ready.
// Before the first ceremony most methods answer Unavailable. Errors: Corrupt when a key or an object that the log names is not there.
func Open(ctx context.Context, cfg Config) (*CA, error) {
	profiles, err := cert.NewProfiles(cfg.Settings)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the PKI's settings are wrong").WithCause(err).WithHint(err.Error())
	}
	linter, err := cert.NewLinter(cfg.Rand)
	if err != nil {
		return nil, err
	}
	cfg.Policy = cfg.Policy.withDefaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &CA{cfg: cfg, profiles: profiles, linter: linter, signing: make(chan struct{}, cfg.Policy.OCSPParallel)}
	c.act.Lock()
	defer c.act.Unlock()
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	return c, c.sweep(ctx)
}

// Profiles returns what the CA's certificates are.
func (c *CA) Profiles() *cert.Profiles { return c.profiles }

// Established reports whether a ceremony has been completed.
func (c *CA) Established() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.root != nil
}

func errNotEstablished() error {
	return fault.New(fault.Unavailable, "the key ceremony has not been held yet").WithHint(`"appliance demo" makes an appliance in which it has been held`)
}

// proven returns the proven time, in whole seconds.
func (c *CA) proven() (time.Time, error) {
	r, err := c.cfg.Clock.Now()
	if err != nil {
		return time.Time{}, err
	}
	return r.Time.UTC().Truncate(time.Second), nil
}

// now returns the machine's time, in whole seconds.
func (c *CA) now() time.Time { return c.cfg.Now().UTC().Truncate(time.Second) }

// serialOf returns a serial as it stands in the log and the API: 32 hexadecimal digits.
func serialOf(n *big.Int) string { return fmt.Sprintf("%032x", n) }

// parseSerial reads a serial in hexadecimal, as serialOf or openssl write it.
func parseSerial(text string) (string, error) {
	n, ok := new(big.Int).SetString(text, 16)
	if !ok || n.Sign() <= 0 || n.BitLen() > 160 || len(text) > 42 {
		return "", fault.New(fault.Invalid, fmt.Sprintf("%.60q is not a serial number in hexadecimal", text))
	}
	return serialOf(n), nil
}

func errNoCertificate(serial string) error {
	return fault.New(fault.NotFound, "there is no certificate with serial number "+serial)
}

// tokenKeys adapts a *token.Token.
type tokenKeys struct{ *token.Token }

// TokenKeys returns t as Keys.
func TokenKeys(t *token.Token) Keys { return tokenKeys{t} }

func (t tokenKeys) Generate(s token.KeySpec) (crypto.Signer, error) {
	k, err := t.Token.Generate(s)
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (t tokenKeys) Key(label string, id []byte, pub crypto.PublicKey) (crypto.Signer, error) {
	k, err := t.Token.Key(label, id, pub)
	if err != nil {
		return nil, err
	}
	return k, nil
}
