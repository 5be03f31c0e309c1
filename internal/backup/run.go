package backup

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Periods of what Run does.
const (
	offerInterval = 2 * time.Second
	retryInterval = 30 * time.Second
	watchInterval = 250 * time.Millisecond
	startInterval = 20 * time.Millisecond // until the log was compared with the backup: somebody waits for that
)

// Run keeps a Link to the enrolled backup host, and takes offers up, until ctx ends.
func (k *Keeper) Run(ctx context.Context, c Connector) error {
	var offers sync.WaitGroup
	defer offers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	offers.Go(func() { k.offers(ctx, c) })
	for ctx.Err() == nil {
		changed, err := k.stuck(k.keep(ctx, c))
		if err == nil {
			continue
		}
		k.cfg.Log.ErrorContext(ctx, "nothing can be shipped to the backup", "error", err)
		select {
		case <-changed:
		case <-time.After(retryInterval):
		case <-ctx.Done():
		}
	}
	return nil
}

// stuck keeps why there is no Link, for the status, and returns what tells of a change.
func (k *Keeper) stuck(why error) (changed <-chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.trouble = ""
	if why != nil {
		k.trouble = fault.PublicOf(why)
	}
	return k.changed, why
}

// offers tries each offer as long as it stands.
func (k *Keeper) offers(ctx context.Context, c Connector) {
	for ctx.Err() == nil {
		k.mu.Lock()
		offer, changed := k.offer, k.changed
		k.mu.Unlock()
		if offer != nil {
			k.enrol(ctx, c, *offer)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// keep ships to the enrolled backup host until there is another one, or none.
func (k *Keeper) keep(ctx context.Context, c Connector) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	peer := k.enrolled()
	if peer != nil {
		pub, err := publicKey(peer.Primary)
		if err != nil {
			return err
		}
		key, err := k.cfg.KeyOf(pub) // the one that this host knows: a newer one may be on its way
		if err != nil {
			return err
		}
		link, err := c.Ship(*peer, key)
		if err != nil {
			return err
		}
		k.mu.Lock()
		k.link = link
		k.mu.Unlock()
		running.Go(func() {
			if err := link.Run(ctx); err != nil && ctx.Err() == nil {
				k.cfg.Log.ErrorContext(ctx, "shipping to the backup ended", "backup", peer.Address, "error", err)
			}
		})
		running.Go(func() { k.watch(ctx, peer, link) })
	}
	for {
		k.mu.Lock()
		changed := k.changed
		k.mu.Unlock()
		if !same(peer, k.enrolled()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// same says whether a Link to one is a Link to the other.
func same(a, b *Peer) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Address == b.Address && a.Receiver == b.Receiver && a.Cosigner == b.Cosigner && a.Primary == b.Primary && a.EnrolledAt.Equal(b.EnrolledAt)
}

// enrol tries an offer until it is taken up, expires, or another is made.
func (k *Keeper) enrol(ctx context.Context, c Connector, o Offer) {
	tick := time.NewTicker(offerInterval)
	defer tick.Stop()
	for {
		if current := k.current(o); !current || !k.cfg.Now().Before(o.Expires) {
			if current {
				k.update(func() { k.offer = nil })
			}
			return
		}
		err := k.tryEnrol(ctx, c, o)
		if err == nil || ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		if k.offer != nil && k.offer.Secret == o.Secret {
			k.offer.Trouble = err.Error()
		}
		k.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// current says whether o is the offer that stands.
func (k *Keeper) current(o Offer) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.offer != nil && k.offer.Secret == o.Secret
}

func (k *Keeper) tryEnrol(ctx context.Context, c Connector, o Offer) error {
	key, err := k.cfg.Key(ctx, actorSelf)
	if err != nil {
		return err
	}
	id, err := c.Enrol(ctx, o, key)
	if err != nil {
		return err
	}
	if _, err := chain.ParseWitnessKey(id.Cosigner); err != nil {
		return fmt.Errorf("backup: the backup host's cosigner key: %w", err)
	}
	// The host knows us from here on; a crash before the line leaves it waiting for one that never comes, until the next enrolment.
	return k.take(context.WithoutCancel(ctx), o, id, publicName(key))
}

// publicName is how a key is written in lines and status.
func publicName(key crypto.Signer) string { return fmt.Sprintf("%s%x", keyPrefix, key.Public()) }

const keyPrefix = "ed25519:"

// publicKey reads what publicName wrote.
func publicKey(name string) (ed25519.PublicKey, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(name, keyPrefix))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("backup: %.100q is not a key", name)
	}
	return raw, nil
}

// watch records what becomes of a link: that the backup has caught up, that the log differs, what was cosigned last.
func (k *Keeper) watch(ctx context.Context, peer *Peer, link Link) {
	var caughtUp sync.WaitGroup
	defer caughtUp.Wait()
	if !peer.Synchronised {
		caughtUp.Go(func() {
			lines, _ := k.cfg.Ledger.Head()
			if link.Wait(ctx, lines) != nil {
				return
			}
			if err := k.synchronise(ctx, peer, lines); err != nil && ctx.Err() == nil {
				k.cfg.Log.ErrorContext(ctx, "recording that the backup has caught up", "error", err)
			}
		})
	}
	for {
		s, pause := k.now(), watchInterval
		if s.state == Comparing {
			pause = startInterval
		}
		if s.Mismatch != "" {
			if err := k.mismatched(ctx, peer, s.Mismatch); err != nil && ctx.Err() == nil {
				k.cfg.Log.ErrorContext(ctx, "recording that the log differs from the backup's", "error", err)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
