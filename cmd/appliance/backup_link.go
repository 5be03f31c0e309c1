package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/replica"
	"github.com/veripath/aes-appliance/internal/signer"
)

// connector is package replica as package backup wants it, over connections that the portal makes.
type connector struct {
	s   *signer.Signer
	cfg config.Replication
	log *slog.Logger
}

// Ship implements backup.Connector.
func (c *connector) Ship(p backup.Peer, key crypto.Signer) (backup.Link, error) {
	logKey, _, err := c.s.LogKey()
	if err != nil {
		return nil, err
	}
	id, err := replica.NewIdentity(key)
	if err != nil {
		return nil, err
	}
	server, err := replica.ParsePin(p.Receiver)
	if err != nil {
		return nil, err
	}
	cosigner, err := chain.ParseWitnessKey(p.Cosigner)
	if err != nil {
		return nil, err
	}
	shipper, err := replica.NewShipper(replica.ShipperConfig{
		ClientConfig: replica.ClientConfig{Origin: c.s.Origin(), Identity: id, Server: server, Dial: c.dial(p.Address)},
		Log:          c.s.Ledger(), Objects: c.s.Objects(), Key: logKey, Keys: []chain.WitnessKey{cosigner},
		Store:     replica.FileStore{FS: durable.OS{}, Path: c.s.CosignedFile(p.Cosigner)},
		Heartbeat: c.cfg.Heartbeat, Now: time.Now, Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), Logger: c.log,
	})
	if err != nil {
		return nil, err
	}
	return &link{shipper: shipper, origin: c.s.Origin(), cosigner: cosigner}, nil
}

func (c *connector) dial(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return c.s.Backup().Dials().Dial(ctx, address) }
}

// Enrol implements backup.Connector.
func (c *connector) Enrol(ctx context.Context, o backup.Offer, key crypto.Signer) (backup.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	id, err := replica.NewIdentity(key)
	if err != nil {
		return backup.Identity{}, err
	}
	_, verifier, err := c.s.LogKey()
	if err != nil {
		return backup.Identity{}, err
	}
	payload, err := json.Marshal(replica.JoinPayload{Origin: c.s.Origin(), LogKey: verifier})
	if err != nil {
		return backup.Identity{}, err
	}
	pin, answer, err := replica.Redeem(ctx, replica.Redemption{Dial: c.dial(o.Address), Identity: id, Kind: replica.KindJoin, Secret: o.Secret[:], Payload: payload})
	if err != nil {
		return backup.Identity{}, err
	}
	var said replica.JoinAnswer
	if err := json.Unmarshal(answer, &said); err != nil {
		return backup.Identity{}, fmt.Errorf("the backup's answer to the join code: %w", err)
	}
	return backup.Identity{Receiver: pin.String(), Cosigner: said.Cosigner}, nil
}

// Fetch implements backup.Connector: over a connection of its own, as the primary that the host knows.
func (c *connector) Fetch(ctx context.Context, p backup.Peer, key crypto.Signer, dir string) (out backup.Copied, err error) {
	_, logKey, err := c.s.LogKey()
	if err != nil {
		return out, err
	}
	id, err := replica.NewIdentity(key)
	if err != nil {
		return out, err
	}
	server, err := replica.ParsePin(p.Receiver)
	if err != nil {
		return out, err
	}
	client, err := replica.NewClient(ctx, replica.ClientConfig{Origin: c.s.Origin(), Identity: id, Server: server, Dial: c.dial(p.Address)})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	got, err := replica.Fetch(ctx, client, replica.Trust{Origin: c.s.Origin(), LogKey: logKey, Cosigner: p.Cosigner}, dir)
	return backup.Copied{From: p.Address, Lines: got.Size, Root: hex.EncodeToString(got.Root[:]), At: got.Cosigned, Objects: got.Objects}, err
}

// link is a replica.Shipper as package backup wants it.
type link struct {
	shipper  *replica.Shipper
	origin   string
	cosigner chain.WitnessKey
}

// Run implements backup.Link.
func (l *link) Run(ctx context.Context) error { return l.shipper.Run(ctx) }

// Wait implements backup.Link.
func (l *link) Wait(ctx context.Context, lines uint64) error {
	_, err := l.shipper.Wait(ctx, lines)
	return err
}

// Status implements backup.Link.
func (l *link) Status() backup.LinkStatus {
	st := l.shipper.Status()
	out := backup.LinkStatus{Connected: st.Connected, Compared: st.Verdict != nil && st.Verdict.Good()}
	if c := st.Cosigned; c.Note != nil {
		out.Cosigned = chain.Cosigned{Checkpoint: chain.Checkpoint{Origin: l.origin, Tree: c.Tree}, Note: c.Note, By: []chain.Cosignature{{Key: l.cosigner, Time: c.Time}}}
	}
	if st.Problem != nil {
		out.Trouble = inOneLine(st.Problem)
	}
	if st.Stopped { // by a verdict, or because the receiver refused what it was sent
		out.Mismatch = inOneLine(st.Problem)
	}
	return out
}

// inOneLine is an error with its remedy in one line.
func inOneLine(err error) string {
	text := fault.PublicOf(err)
	if hint := fault.HintOf(err); hint != "" {
		text += " (" + hint + ")"
	}
	return text
}
