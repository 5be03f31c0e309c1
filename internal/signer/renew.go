package signer

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"

	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// StampSize implements pades.Stamper.
func (s *Signer) StampSize() int { return s.time.Load().TokenSize() + sizeSlack }

// Stamp implements pades.Stamper: a time-stamp token over a SHA-256 digest.
func (s *Signer) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	token, _, err := s.time.Load().Stamp(ctx, tsp.Imprint{Hash: crypto.SHA256, Digest: digest})
	return token, err
}

// Renewed records that a document got a further document time stamp.
func (s *Signer) Renewed(ctx context.Context, actor string, before, after []byte) error {
	from, to := sha256.Sum256(before), sha256.Sum256(after)
	_, err := s.ledger.Append(ctx, ledger.Event{Type: eventRenewed, Actor: actor, Details: renewed{
		From: hex.EncodeToString(from[:]), To: hex.EncodeToString(to[:]), Size: int64(len(after)),
	}})
	return err
}
