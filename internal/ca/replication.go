package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"

	"github.com/veripath/aes-appliance/internal/fault"
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

// ReplicationKeyOf returns the replication key that has this public half. NotFound: there is none, or no more.
func (c *CA) ReplicationKeyOf(pub ed25519.PublicKey) (crypto.Signer, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	label := ""
	for _, k := range c.keys {
		if k.Purpose == purposeReplication && k.State == eventKeyCreated && bytes.Equal(k.Public, der) {
			label = k.Label
		}
	}
	c.mu.RUnlock()
	if label == "" {
		return nil, fault.New(fault.NotFound, "the key by which the backup knows this appliance is not in the token").WithHint(`enrol the backup anew: "appliance backup replace"`)
	}
	return c.key(label, pub)
}

// RetireReplicationKeys destroys the replication keys but the newest and the one that has this public half.
func (c *CA) RetireReplicationKeys(ctx context.Context, actor string, keep ed25519.PublicKey) error {
	c.act.Lock()
	defer c.act.Unlock()
	der, err := x509.MarshalPKIXPublicKey(keep)
	if err != nil {
		return err
	}
	newest, _ := c.newestKey(purposeReplication)
	c.mu.RLock()
	var old []keyState
	for _, k := range c.keys {
		if k.Purpose == purposeReplication && k.State == eventKeyCreated && k.Label != newest.Label && !bytes.Equal(k.Public, der) {
			old = append(old, k)
		}
	}
	c.mu.RUnlock()
	for _, k := range old {
		if err := c.dropKey(ctx, actor, "superseded", k); err != nil {
			return err
		}
	}
	return nil
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
