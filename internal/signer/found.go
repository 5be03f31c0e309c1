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
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/token"
)

// Founding says how an appliance comes into being.
type Founding struct {
	Demo     bool                           // for good: its certificates say so, and an unproven clock is allowed
	Actor    string                         // who does it, for the log
	Ceremony func(rootToken string) ca.Root // holds the key ceremony in a process of its own, with the root's token in that folder
}

// unfinished is the folder, beside the state folder, in which an appliance is founded.
func unfinished(stateDir string) string { return stateDir + ".new" }

// Found makes a new appliance in cfg.StateDir: token, log, CAs by a key ceremony, time-stamping authority. It returns it open.
//
// It is made in the folder StateDir.new, which becomes StateDir when it is complete: a crash before that leaves no appliance, and the next Found
// clears away what it left; nothing was ever signed with it.
//
// Errors: Conflict (there is something in StateDir already), Unavailable (another process is founding it), and those of the parts.
func Found(ctx context.Context, cfg Config, f Founding) (s *Signer, err error) {
	building := cfg
	building.StateDir = unfinished(cfg.StateDir)
	if err := os.MkdirAll(building.StateDir, 0o700); err != nil {
		return nil, fault.New(fault.Unavailable, "cannot make the folder "+building.StateDir).WithCause(err)
	}
	lock, err := take(building.StateDir)
	if err != nil {
		return nil, err
	}
	if err := build(ctx, cfg.StateDir, building, f); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return openTaken(ctx, cfg, lock) // the lock went along with the folder
}

// build makes the appliance in its folder and moves that to its place. The caller holds the lock in it.
func build(ctx context.Context, place string, cfg Config, f Founding) error {
	if there, err := Founded(place); err != nil {
		return err
	} else if there {
		return errors.Join(fault.New(fault.Conflict, "there is something in "+place+" already").
			WithHint("an appliance is founded once, in an empty folder"), os.RemoveAll(cfg.StateDir))
	}
	if err := clearUnfinished(cfg.StateDir); err != nil {
		return err
	}
	s, err := initialise(ctx, cfg)
	if err != nil {
		return err
	}
	if err := errors.Join(s.found(ctx, f), s.Close()); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Every part has made itself durable. A crash before this rename leaves no appliance, one after it a whole one.
	if err := os.Rename(cfg.StateDir, place); err != nil {
		return fault.New(fault.Unavailable, "cannot move the new appliance to "+place).WithCause(err).
			WithHint("the folder that is to hold it must be one that the appliance's user may write to, and " + place + " no mount point")
	}
	if err := (durable.OS{}).SyncDir(filepath.Dir(place)); err != nil {
		return fmt.Errorf("syncing the folder of %s: %w", place, err)
	}
	return nil
}

// clearUnfinished removes what an earlier founding left, all but the lock that this one holds.
func clearUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clearing away an unfinished founding: %w", err)
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("clearing away an unfinished founding: %w", err)
		}
	}
	return nil
}

// initialise makes the token and opens the parts over it.
func initialise(ctx context.Context, cfg Config) (*Signer, error) {
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
	return open(ctx, cfg)
}

func (s *Signer) found(ctx context.Context, f Founding) error {
	s.founded = founded{Demo: f.Demo, Clock: s.cfg.Clock.Mode, Version: s.cfg.Version, Origin: originOf(s.cfg.Config)}
	if _, err := s.ledger.Append(ctx, ledger.Event{Type: eventFounded, Actor: f.Actor, Details: s.founded}); err != nil {
		return err
	}
	if err := s.openCA(ctx); err != nil {
		return err
	}
	return s.ca.Establish(ctx, f.Actor, f.Ceremony(filepath.Join(s.cfg.StateDir, RootDir)))
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

// Issue issues a certificate, see ca.CA.Issue.
func (s *Signer) Issue(ctx context.Context, r ca.Request) (ca.Certificate, error) {
	if r.Kind == cert.Clinician && r.Algorithm == "" {
		r.Algorithm = cert.Algorithm(s.cfg.PKI.ClinicianKey)
	}
	return s.ca.Issue(ctx, r)
}
