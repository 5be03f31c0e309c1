package activation_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// lab is an activation over a real log, with a clock that the test moves.
type lab struct {
	t      testing.TB
	dir    string
	demo   bool
	timing activation.Timing

	mu sync.Mutex
	at time.Time

	index  *index.DB
	ledger *ledger.Ledger
	*activation.Activation
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, dir: t.TempDir(), at: time.Now().UTC()}
	l.open()
	t.Cleanup(l.close)
	return l
}

func (l *lab) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

func (l *lab) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = l.at.Add(d)
}

func (l *lab) open() {
	l.t.Helper()
	var err error
	if l.index, err = index.Open(filepath.Join(l.dir, "index.db"), plainKeys{}); err != nil {
		l.t.Fatal(err)
	}
	l.ledger, err = ledger.Open(context.Background(), ledger.Config{Dir: l.dir, Index: l.index, Folds: []ledger.Fold{activation.Fold()}, Now: l.now})
	if err != nil {
		l.t.Fatal(err)
	}
	l.Activation, err = activation.Open(context.Background(), activation.Config{Ledger: l.ledger, Demo: l.demo, Timing: l.timing})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) close() {
	if err := errors.Join(l.ledger.Close(), l.index.Close()); err != nil {
		l.t.Error(err)
	}
}

func (l *lab) reopen() {
	l.t.Helper()
	l.close()
	l.open()
}

// clinic registers a clinic whose realm is issuer.
func (l *lab) clinic(slug, issuer, ca string, change func(*activation.Policy)) {
	l.t.Helper()
	p := activation.DefaultPolicy()
	if change != nil {
		change(&p)
	}
	ctx := context.Background()
	if _, err := l.AddClinic(ctx, activation.Clinic{Slug: slug, Name: "Clinic " + slug, Policy: p}, "operator"); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.AddRealm(ctx, activation.Realm{Issuer: issuer, Clinic: slug, CA: ca}, "operator"); err != nil {
		l.t.Fatal(err)
	}
}

// line is a line of the log as far as tests look at it.
type line struct {
	Type, Actor string
	Details     map[string]any
}

// lines returns those of some types, in order; all without types.
func (l *lab) lines(types ...string) (list []line) {
	l.t.Helper()
	size, _ := l.ledger.Head()
	for seq := range size {
		r, err := l.ledger.Read(seq)
		if err != nil {
			l.t.Fatal(err)
		}
		if len(types) > 0 && !slices.Contains(types, r.Type) {
			continue
		}
		one := line{Type: r.Type, Actor: r.Actor}
		if err := json.Unmarshal(r.Details, &one.Details); err != nil {
			l.t.Fatal(err)
		}
		list = append(list, one)
	}
	return list
}

// portal dials for the activation, as the process that has the network does.
type portal struct {
	*lab
	to    string // where every connection really leads
	mu    sync.Mutex
	dials []string // addresses that were asked for
}

func (p *portal) dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.dials)
}

// dial hands over a connection for what was asked; the error of the fetch is the signer's own affair.
func (p *portal) dial(need *activation.NeedKeys) error {
	p.mu.Lock()
	p.dials = append(p.dials, need.Address)
	p.mu.Unlock()
	var conn net.Conn
	if p.to != "" {
		c, err := net.Dial("tcp", p.to)
		if err != nil {
			p.t.Fatal(err)
		}
		conn = c
	}
	return p.FetchKeys(context.Background(), need.Issuer, conn, p.now())
}

// who authenticates a token and dials when that is asked for, once.
func (p *portal) who(token string) (activation.Caller, error) {
	c, err := p.Authenticate(context.Background(), token, p.now())
	var need *activation.NeedKeys
	if !errors.As(err, &need) {
		return c, err
	}
	_ = p.dial(need)
	return p.Authenticate(context.Background(), token, p.now())
}

func wantCode(t testing.TB, name string, err error, kind fault.Kind, code string) {
	t.Helper()
	if err == nil || fault.CodeOf(err) != code || fault.KindOf(err) != kind {
		t.Errorf("%s: %v (%s, %s), want %s, %s", name, err, fault.KindOf(err), fault.CodeOf(err), kind, code)
	}
}

// credential is one that the caller may sign with.
func credential(c activation.Caller) activation.Credential {
	return activation.Credential{Serial: "0badc0de", CommonName: "Doctor Clinician", Clinic: c.Clinic, BoundSub: c.Sub}
}

func (l *lab) request(c activation.Caller) activation.Request {
	return activation.Request{
		Caller: c, Credential: credential(c), ClinicianName: "Doctor Clinician", ContentSHA256: sha256.Sum256([]byte("content")),
		Consent: activation.Consent{Text: "I consent.", Timestamp: l.now().Add(-time.Minute)}, Reference: "RX-1", Now: l.now(),
	}
}

// serve answers every connection with what answer does, until the test ends.
func serve(t testing.TB, answer func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); answer(c) }()
		}
	}()
	return ln.Addr().String()
}

// plainKeys stand for the token's: what seals the index is not this package's to test.
type plainKeys struct{}

func (plainKeys) SealKey(key []byte) ([]byte, error)    { return bytes.Clone(key), nil }
func (plainKeys) OpenKey(sealed []byte) ([]byte, error) { return bytes.Clone(sealed), nil }
