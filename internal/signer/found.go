package signer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/token"
)

// Founding says how an appliance comes into being.
type Founding struct {
	Demo     bool    // for good: its certificates say so, and an unproven clock is allowed
	Actor    string  // who does it, for the log
	Ceremony ca.Root // holds the key ceremony in a process of its own
}

// Found makes a new appliance in cfg.StateDir: token, log, CAs by a key ceremony, time-stamping authority. It returns it open.
//
// A crash in between leaves a folder that Open refuses, saying so: nothing was ever signed with it. Conflict: there is something there already.
func Found(ctx context.Context, cfg Config, f Founding) (*Signer, error) {
	if entries, err := os.ReadDir(cfg.StateDir); err == nil && len(entries) > 0 {
		return nil, fault.New(fault.Conflict, "there is something in "+cfg.StateDir+" already").
			WithHint("an appliance is founded once, in an empty folder")
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fault.New(fault.Unavailable, "cannot make the folder "+cfg.StateDir).WithCause(err)
	}
	s := &Signer{cfg: cfg}
	soPIN, err := NewPIN() // kept nowhere: a token whose user PIN is lost is restored from its backup, not reset
	if err != nil {
		return nil, err
	}
	err = token.Init(s.tokenConfig(), soPIN)
	clear(soPIN)
	if err != nil {
		return nil, err
	}
	if s, err = open(ctx, cfg); err != nil {
		return nil, err
	}
	if err := s.found(ctx, f); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Signer) found(ctx context.Context, f Founding) error {
	s.founded = founded{Demo: f.Demo, Clock: s.cfg.Clock.Mode, Version: s.cfg.Version}
	if _, err := s.ledger.Append(ctx, ledger.Event{Type: eventFounded, Actor: f.Actor, Details: s.founded}); err != nil {
		return err
	}
	if err := s.openCA(ctx); err != nil {
		return err
	}
	if err := s.ca.Establish(ctx, f.Actor, f.Ceremony); err != nil {
		return err
	}
	return s.start(ctx)
}

// NewPIN returns a random PIN of 128 bits that any PKCS#11 module takes.
func NewPIN() ([]byte, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("making a PIN: %w", err)
	}
	pin := make([]byte, base64.RawURLEncoding.EncodedLen(len(raw)))
	base64.RawURLEncoding.Encode(pin, raw)
	clear(raw)
	return pin, nil
}

// ceremonyToken is what a ceremony works with: the root's own token, made if there is none.
func ceremonyToken(ctx context.Context, module, dir string, pin []byte) (*token.Token, error) {
	cfg := token.Config{Module: module, Dir: dir, Label: "aes-root", PIN: pin, SigningOnly: true}
	if _, err := os.Stat(filepath.Join(dir, "tokens")); errors.Is(err, os.ErrNotExist) {
		soPIN, err := NewPIN()
		if err != nil {
			return nil, err
		}
		err = token.Init(cfg, soPIN)
		clear(soPIN)
		if err != nil {
			return nil, err
		}
	}
	return token.Open(ctx, cfg)
}

// Ceremony does what only the root's key can do, in a process that has no other token open.
func Ceremony(ctx context.Context, module, dir string, pin []byte, cfg ca.RootConfig, r ca.CeremonyRequest) (a ca.CeremonyAnswer, err error) {
	t, err := ceremonyToken(ctx, module, dir, pin)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	cfg.Keys = ca.TokenKeys(t)
	return ca.RootCeremony(ctx, cfg, r)
}

// Issue issues a certificate, see ca.CA.Issue.
func (s *Signer) Issue(ctx context.Context, r ca.Request) (ca.Certificate, error) {
	if r.Kind == cert.Clinician && r.Algorithm == "" {
		r.Algorithm = cert.Algorithm(s.cfg.PKI.ClinicianKey)
	}
	return s.ca.Issue(ctx, r)
}
