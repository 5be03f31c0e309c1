// Package token keeps and uses private keys in a PKCS#11 token: SoftHSM2 linked into the static binary, Debian's module in an ordinary
// build, or a vendor's HSM module. It is the only package with cgo and the only owner of C_Initialize and C_Finalize in the process.
//
// crypto11 owns the module's life and makes and finds key pairs; what it cannot do (wrapping, Ed25519, proof of the PIN, sessions that are
// counted) is done over the same initialised module with miekg/pkcs11. Every signature takes one path, on one bounded pool of sessions,
// with handles found once.
//
// Laws:
//
//	Generate(s) returns key k  ⇒  Key(s.Label, s.ID, k.Public()) finds it after any later crash
//	Generate(s) does not return ⇒  the next Open leaves nothing of it in the token
//	OpenKey(SealKey(k)) == k
//
// A SoftHSM2 token protects keys from whoever steals the disk, not from who can read this process's memory.
package token

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Config names one token.
type Config struct {
	Module      string        // path of the PKCS#11 module; "" is DefaultModule
	Dir         string        // SoftHSM2's folder, made by Init; "" for a vendor's module, which keeps its own state
	Label       string        // CKA_LABEL of the token, 1 to 32 bytes; exactly one token may have it
	PIN         []byte        // user PIN; not kept: the caller may wipe it after Init or Open returned
	MaxSessions int           // operations at once; 0 is the number of cores + 1
	PoolWait    time.Duration // how long an operation may wait for a session; 0 is 5 s
	SigningOnly bool          // the token only signs (the root's): it has no keys that wrap, GenerateWrapped and SealKey refuse
	Log         *slog.Logger  // told what Open mended; nil says nothing
}

const (
	defaultPoolWait = 5 * time.Second
	maxLabel        = 32 // PKCS#11 v2.40 §3.2, CK_TOKEN_INFO.label
)

// withDefaults returns cfg with its zero values filled in, or what is wrong with it.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Module == "" {
		cfg.Module = DefaultModule
	}
	if n := len(cfg.Label); n == 0 || n > maxLabel || strings.TrimRight(cfg.Label, " ") != cfg.Label {
		return cfg, fault.New(fault.Invalid, "token label must have 1 to 32 bytes and not end in a space")
	}
	if len(cfg.PIN) == 0 {
		return cfg, fault.New(fault.Invalid, "token PIN is empty")
	}
	if cfg.MaxSessions < 0 || cfg.PoolWait < 0 {
		return cfg, fault.New(fault.Invalid, "token MaxSessions and PoolWait must not be negative")
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = runtime.NumCPU() + 1
	}
	if cfg.PoolWait == 0 {
		cfg.PoolWait = defaultPoolWait
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

// Token is an open, logged-in token. All its methods are safe for concurrent use.
type Token struct {
	cfg  Config // PIN removed
	c11  *crypto11.Context
	p    *pkcs11.Ctx // the module that c11 initialised; never finalised through this
	slot uint
	base pkcs11.SessionHandle // logged in first; session objects that live as long as the Token belong to it
	pool *sessions

	// A search (Lock) and a signature with a wrapped key (RLock) must not overlap: the module's search may look at session objects of
	// other sessions, and the built-in SoftHSM2 frees an unwrapped key as soon as it is destroyed.
	objects sync.RWMutex

	keyKEK, objKEK pkcs11.ObjectHandle // the keys that wrap clinicians' keys and object keys; 0 in a SigningOnly token

	mending  sync.Mutex // Generate and Destroy, one at a time
	closing  sync.Once
	findings []Finding
}

// Open initialises the module, logs in and returns the token, having mended what an earlier crash left behind (see Findings).
// One token can be open in a process at a time: a second Open is a Conflict. ctx bounds the wait for another process that is just opening.
//
// Errors: NotFound (no such token), Unauthorized (wrong or locked PIN), Conflict (open already, or the label is not unique), Corrupt
// (what is in the folder is not what Init and Generate wrote), Unavailable, Unsupported (the module lacks a mechanism).
func Open(ctx context.Context, cfg Config) (*Token, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := process.take(); err != nil {
		return nil, err
	}
	t, err := open(ctx, cfg)
	if err != nil {
		process.release()
		return nil, refused(err)
	}
	return t, nil
}

func open(ctx context.Context, cfg Config) (*Token, error) {
	pin := cfg.PIN
	cfg.PIN = nil
	t := &Token{cfg: cfg}
	f := folder(cfg.Dir)
	unlock, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t.findings, err = f.prepare(); err != nil {
		return nil, err
	}
	if err := t.start(pin); err != nil {
		return nil, err
	}
	if err := t.settle(f); err != nil {
		t.stop()
		return nil, err
	}
	for _, finding := range t.findings {
		cfg.Log.WarnContext(ctx, "token mended", "what", finding.What, "name", finding.Name)
	}
	return t, nil
}

// start brings the module up and logs in. On error nothing of it is left.
func (t *Token) start(pin []byte) (err error) {
	// LoginNotSupported keeps crypto11 from logging in: it takes "already logged in" for success, whatever the PIN.
	t.c11, err = crypto11.Configure(&crypto11.Config{
		Path: t.cfg.Module, TokenLabel: t.cfg.Label, LoginNotSupported: true,
		MaxSessions: 2, PoolWaitTimeout: t.cfg.PoolWait, // one that keeps the state alive, one to make and find keys
	})
	if err != nil {
		return openError(t.cfg, err)
	}
	defer func() {
		if err != nil {
			t.stop()
		}
	}()
	if t.p = pkcs11.New(t.cfg.Module); t.p == nil {
		return fault.New(fault.Unavailable, "PKCS#11 module cannot be loaded a second time")
	}
	if t.slot, err = findSlot(t.p, t.cfg.Label); err != nil {
		return err
	}
	if t.base, err = t.p.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return p11Error("opening a session", err)
	}
	if err := login(t.p, t.base, pkcs11.CKU_USER, pin); err != nil {
		return err
	}
	t.pool = newSessions(t.p, t.slot, t.cfg.MaxSessions, t.cfg.PoolWait)
	return nil
}

// settle finishes what an earlier process began and finds the keys that wrap.
func (t *Token) settle(f folder) error {
	more, err := t.finishDestroying(f)
	if err != nil {
		return err
	}
	t.findings = append(t.findings, more...)
	if f != "" { // a vendor's token may hold other programs' keys
		if more, err = t.lone(); err != nil {
			return err
		}
		t.findings = append(t.findings, more...)
	}
	if t.cfg.SigningOnly {
		return nil
	}
	if t.keyKEK, err = t.secretKey(keyKEK); err != nil {
		return err
	}
	t.objKEK, err = t.secretKey(objectKEK)
	return err
}

// stop takes everything down that start brought up, in the order that PKCS#11 demands: our sessions, then crypto11's, then C_Finalize.
func (t *Token) stop() {
	if t.pool != nil {
		t.pool.close()
	}
	if t.p != nil {
		if t.base != 0 {
			_ = t.p.CloseSession(t.base)
		}
		t.p.Destroy()
	}
	if t.c11 != nil {
		_ = t.c11.Close()
	}
}

// Close waits for operations that are under way, logs out and finalises the module. Later calls of any method fail; Close may be repeated.
func (t *Token) Close() error {
	t.closing.Do(func() {
		t.stop()
		process.release()
	})
	return nil
}

// Findings returns what Open found left behind by a crash and mended, oldest first; empty after an orderly end.
func (t *Token) Findings() []Finding { return append([]Finding(nil), t.findings...) }

// Module returns the path of the PKCS#11 module in use.
func (t *Token) Module() string { return t.cfg.Module }

// owner makes sure that C_Initialize and C_Finalize have one caller in the process. It is the one variable of this package, because the
// module's state (and SOFTHSM2_CONF, which says where it is) belongs to the process and not to a value.
type owner struct {
	mu    sync.Mutex
	taken bool
}

var process owner

func (o *owner) take() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken {
		return fault.New(fault.Conflict, "a token is already open in this process").
			WithHint("close it first: a process has one PKCS#11 module with one login")
	}
	o.taken = true
	return nil
}

func (o *owner) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken = false
}
