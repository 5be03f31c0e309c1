package signer

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/tsp"
	"github.com/veripath/aes-appliance/internal/wire"
)

// StampSize implements pades.Stamper.
func (s *Signer) StampSize() int { return s.time.Load().TokenSize() + sizeSlack }

// Stamp implements pades.Stamper: a time-stamp token over a SHA-256 digest.
func (s *Signer) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	token, info, err := s.time.Load().Stamp(ctx, tsp.Imprint{Hash: crypto.SHA256, Digest: digest})
	if err != nil {
		return nil, err
	}
	return token, s.cover(ctx, info.GenTime, 0)
}

// Renewed records that a document got a further document time stamp.
func (s *Signer) Renewed(ctx context.Context, actor string, before, after []byte) error {
	from, to := sha256.Sum256(before), sha256.Sum256(after)
	return s.recordRenewed(ctx, actor, renewed{From: hex.EncodeToString(from[:]), To: hex.EncodeToString(to[:]), Size: int64(len(after))})
}

func (s *Signer) recordRenewed(ctx context.Context, actor string, d renewed) error {
	_, err := s.ledger.Append(ctx, ledger.Event{Type: eventRenewed, Actor: actor, Details: d})
	return err
}

// renewOpen answers OpRenewOpen: a renewal by an operator's command while this signer runs. The document stays with the command.
func (v *Server) renewOpen(context.Context, wire.Nothing) (wire.RenewOpened, error) {
	now, err := v.s.Now()
	return wire.RenewOpened{Time: now, StampSize: v.s.StampSize()}, err
}

func (v *Server) renewMaterial(ctx context.Context, in wire.DER) (wire.Material, error) {
	if len(in.DER) > maxPublicRequest {
		return wire.Material{}, fault.New(fault.TooLarge, "the time-stamp token is too long")
	}
	m, err := v.s.TokenMaterial(ctx, in.DER)
	if err != nil && fault.KindOf(err) == fault.Internal { // what it is told is a token
		err = fault.New(fault.Invalid, "the time-stamp token cannot be renewed here").WithCause(err)
	}
	return wire.Material{Certs: m.Certs, OCSPs: m.OCSPs, CRLs: m.CRLs}, err
}

func (v *Server) renewStamp(ctx context.Context, in wire.RenewStamp) (wire.Stamped, error) {
	if len(in.Digest) != sha256.Size {
		return wire.Stamped{}, fault.New(fault.Invalid, "a digest has 32 bytes")
	}
	token, err := v.s.Stamp(ctx, in.Digest)
	return wire.Stamped{Token: token}, err
}

func (v *Server) renewed(ctx context.Context, in wire.Renewed) (wire.Nothing, error) {
	for _, hash := range []string{in.From, in.To} {
		if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != hash {
			return wire.Nothing{}, fault.New(fault.Invalid, "a document is named by its SHA-256, hexadecimal")
		}
	}
	if in.Size < 1 || in.From == in.To {
		return wire.Nothing{}, fault.New(fault.Invalid, "that is no renewed document")
	}
	return wire.Nothing{}, v.s.recordRenewed(ctx, operatorActor, renewed{From: in.From, To: in.To, Size: in.Size})
}
