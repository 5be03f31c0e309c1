package signer

import (
	"context"
	"encoding/json"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// readFounded reads what the appliance was founded as, and whether that came to its end; of a new log nothing.
func (s *Signer) readFounded() error {
	return s.ledger.View(func(tx *index.Tx) error {
		s.complete = tx.Bucket(bucketOrigin).Get([]byte("complete")) != nil
		raw := tx.Bucket(bucketOrigin).Get([]byte("founded"))
		if raw == nil {
			return nil
		}
		if err := json.Unmarshal(raw, &s.founded); err != nil {
			return fault.New(fault.Corrupt, "the first line of the log cannot be understood").WithCause(err)
		}
		return nil
	})
}

// closeOpenSignatures ends each signature_created that no document was completed for: whoever asked has had no answer.
func (s *Signer) closeOpenSignatures(ctx context.Context) error {
	var open []string
	err := s.ledger.View(func(tx *index.Tx) error {
		for key := range tx.Bucket(bucketOpen).Seek(nil) {
			open = append(open, string(key))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, signature := range open {
		_, err := s.ledger.Append(ctx, ledger.Event{Type: eventIncomplete, Actor: "system",
			Details: incomplete{Signature: signature, Reason: "the process ended before the document was complete"}})
		if err != nil {
			return err
		}
	}
	return nil
}

// withRoom does what a start must write. On a full disk the log's reserve goes first, for the little that it takes; the log makes it anew when there is room.
func withRoom[T any](cfg Config, do func() (T, error)) (T, error) {
	out, err := do()
	if !durable.Full(err) || ledger.GiveUpReserve(cfg.fs(), cfg.StateDir) != nil {
		return out, err
	}
	return do()
}

// Begun puts on record that the appliance is up, as a service is at its start; whoever opens it for one act has that line before the act.
func (s *Signer) Begun(ctx context.Context) error { return s.ledger.settle(ctx) }

// maintainAtStart is Maintain for a start, which does not fail because of what must wait for a proven time: the upkeep tries again.
func (s *Signer) maintainAtStart(ctx context.Context) error {
	_, err := s.ca.Maintain(ctx)
	if err == nil || fault.KindOf(err) != fault.Unavailable || s.ledger.Err() != nil {
		return err
	}
	s.due.Store(true)
	s.log.WarnContext(ctx, "upkeep must wait", "error", err)
	return nil
}
