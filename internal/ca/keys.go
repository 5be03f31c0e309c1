package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/token"
)

// purposeCheckpoint is the one purpose of a key that is not a kind of certificate: it signs the log's checkpoints.
const purposeCheckpoint = "checkpoint"

// actorSelf is who acts when nobody asked: upkeep.
const actorSelf = "system"

// makeKey makes a key pair in the token under a name that the log knows before and after.
func (c *CA) makeKey(ctx context.Context, actor, purpose string, a token.Algorithm) (keyState, crypto.Signer, error) {
	var id [16]byte
	if _, err := io.ReadFull(c.cfg.Rand, id[:]); err != nil {
		return keyState{}, nil, fmt.Errorf("ca: random key ID: %w", err)
	}
	d := keyDetails{ID: hex.EncodeToString(id[:]), Purpose: purpose, Algorithm: a.String()}
	d.Label = purpose + "-" + d.ID[:8]
	if err := c.keyEvent(ctx, eventKeyIntended, actor, d); err != nil {
		return keyState{}, nil, err
	}
	// A crash from here on leaves a key whose last event is key_intended: Open marks it as unfinished.
	key, err := c.cfg.Keys.Generate(token.KeySpec{Label: d.Label, ID: id[:], Algorithm: a})
	if err != nil {
		return keyState{}, nil, fmt.Errorf("ca: making key %s: %w", d.Label, err)
	}
	if d.Public, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return keyState{}, nil, fmt.Errorf("ca: public key of %s: %w", d.Label, err)
	}
	// The line may be durable although this fails, and then the log has a key that must exist: which it is, Open will see.
	if err := c.keyEvent(context.WithoutCancel(ctx), eventKeyCreated, actor, d); err != nil {
		return keyState{}, nil, err
	}
	return keyState{keyDetails: d, State: eventKeyCreated}, key, nil
}

// keyEvent records an event about a key, then remembers it.
func (c *CA) keyEvent(ctx context.Context, event, actor string, d keyDetails) error {
	r, err := c.cfg.Ledger.Append(ctx, ledger.Event{Type: event, Actor: actor, Details: d})
	if err != nil {
		return fmt.Errorf("ca: recording %s of %s: %w", event, d.Label, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys[d.Label] = keyState{keyDetails: d, State: event, At: r.Time}
	return nil
}

// dropKey destroys a key, the line first.
func (c *CA) dropKey(ctx context.Context, actor, reason string, k keyState) error {
	d := k.keyDetails
	d.Public, d.Reason = nil, reason
	id, err := hex.DecodeString(d.ID)
	if err != nil {
		return fmt.Errorf("ca: key %q: key_id in the log: %w", d.Label, err)
	}
	if err := c.keyEvent(ctx, eventKeyDestroyed, actor, d); err != nil {
		return err
	}
	// A crash here leaves a key whose last event is key_destroyed: Open destroys it.
	if err := c.cfg.Keys.Destroy(d.Label, id); err != nil && fault.KindOf(err) != fault.NotFound {
		return fmt.Errorf("ca: destroying key %s: %w", d.Label, err)
	}
	return nil
}

// sweepGrace is how long a key stays after a line has said that it was never finished. A log whose end was cut off makes keys that are in use look
// so: whoever puts the right log back within that time finds them.
const sweepGrace = 7 * 24 * time.Hour

// sweep destroys the keys that the log says are given up, and marks those that were never finished, also those of end entities that no certificate
// came to use: they go at a later Open. Keys that the log does not know at all are left alone, and with them all others: before every key there is
// a line, so lines are missing, and a log that was cut or restored from an old backup must not cost a CA its key.
func (c *CA) sweep(ctx context.Context) error {
	inToken, err := c.cfg.Keys.Keys()
	if err != nil {
		return fmt.Errorf("ca: listing the token's keys: %w", err)
	}
	used := map[string]bool{}
	for _, e := range c.entries {
		used[e.KeyLabel] = true
	}
	for _, info := range inToken {
		if k, known := c.keys[info.Label]; !known || hex.EncodeToString(info.ID) != k.ID {
			c.cfg.Log.WarnContext(ctx, "the token holds a key that the log does not know: lines may be missing from the log; no key is destroyed", "label", info.Label)
			return nil
		}
	}
	for _, info := range inToken {
		if err := c.sweepKey(ctx, c.keys[info.Label], used[info.Label]); err != nil {
			return err
		}
	}
	return nil
}

func (c *CA) sweepKey(ctx context.Context, k keyState, used bool) error {
	ofEndEntity := slices.Contains([]string{string(cert.TSA), string(cert.OCSP), string(cert.TLSServer), string(cert.TLSClient)}, k.Purpose)
	switch {
	case k.State == eventKeyIntended, k.State == eventKeyCreated && !used && ofEndEntity:
		d := k.keyDetails
		d.Public, d.Reason = nil, "never finished"
		return c.keyEvent(ctx, eventKeyUnfinished, actorSelf, d)
	case k.State == eventKeyUnfinished && c.now().Sub(k.At) < sweepGrace, k.State == eventKeyCreated:
		return nil
	}
	if err := c.dropKey(ctx, actorSelf, "unfinished", k); err != nil {
		return err
	}
	c.cfg.Log.InfoContext(ctx, "destroyed an unfinished key", "label", k.Label)
	return nil
}
