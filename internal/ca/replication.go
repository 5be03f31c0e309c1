package ca

import (
	"context"
	"crypto"
	"crypto/x509"

	"github.com/veripath/aes-appliance/internal/token"
)

// purposeReplication is the purpose of the keys that the appliance shows to its backup hosts.
const purposeReplication = "replication"

// ReplicationKey returns the Ed25519 key that the appliance shows to its backup host, the newest that there is. It makes one when there is none.
func (c *CA) ReplicationKey(ctx context.Context, actor string) (crypto.Signer, error) {
	c.act.Lock()
	defer c.act.Unlock()
	if k, ok := c.newestKey(purposeReplication); ok {
		pub, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return nil, corrupt("the replication key in the log", err)
		}
		return c.key(k.Label, pub)
	}
	_, key, err := c.makeKey(ctx, actor, purposeReplication, token.Ed25519)
	return key, err
}

// NewReplicationKey makes another one, which ReplicationKey returns from then on. The old ones stay in the token: a backup host may know only them yet.
func (c *CA) NewReplicationKey(ctx context.Context, actor string) (crypto.Signer, error) {
	c.act.Lock()
	defer c.act.Unlock()
	_, key, err := c.makeKey(ctx, actor, purposeReplication, token.Ed25519)
	return key, err
}

// newestKey returns the newest key of a purpose that exists.
func (c *CA) newestKey(purpose string) (newest keyState, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, k := range c.keys {
		if k.Purpose == purpose && k.State == eventKeyCreated && (!ok || k.At.After(newest.At)) {
			newest, ok = k, true
		}
	}
	return newest, ok
}
