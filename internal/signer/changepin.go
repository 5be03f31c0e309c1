package signer

import (
	"context"
	"errors"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/token"
)

// ChangePIN gives the token of an appliance that nobody has open another PIN (cfg.PIN is the one until now), opens it with that, and records it; the token's backups from before hold the
// old one with the old token.object, so that a new backup is due. Interrupted, it does the same again, and may record it twice.
//
// Errors: those of Open and of token.ChangePIN.
func ChangePIN(ctx context.Context, cfg Config, newPIN []byte, actor string) (err error) {
	if there, err := Founded(cfg.StateDir); err != nil {
		return err
	} else if !there {
		return fault.New(fault.NotFound, "there is no appliance in "+cfg.StateDir)
	}
	if err := ownAlone(cfg.StateDir); err != nil {
		return err
	}
	lock, err := take(cfg.StateDir)
	if err != nil {
		return err
	}
	s := &Signer{cfg: cfg, log: cfg.Log}
	if err := token.ChangePIN(ctx, s.tokenConfig(), newPIN); err != nil {
		return errors.Join(err, lock.Close())
	}
	cfg.PIN, cfg.Token.BackupRecipients = newPIN, nil // the next start backs it up: here the PIN is not where that looks for it
	s, err = openTaken(ctx, cfg, lock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	_, err = s.ledger.Append(ctx, ledger.Event{Type: eventPINChanged, Actor: actor, Details: struct{}{}})
	return err
}
