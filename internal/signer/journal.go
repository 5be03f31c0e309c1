package signer

import (
	"context"
	"sync"

	"github.com/veripath/aes-appliance/internal/ledger"
)

// journal is the log with a line that is owed: whoever only reads leaves none behind, and before the first act comes the line that says in
// which state the appliance was opened for it.
type journal struct {
	*ledger.Ledger

	mu   sync.Mutex
	owed *ledger.Event // nil: none, or it is in the log
}

// open makes e the line that comes before the next one.
func (j *journal) open(e ledger.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.owed = &e
}

// Append implements ca.Ledger, see ledger.Ledger.Append.
func (j *journal) Append(ctx context.Context, e ledger.Event) (ledger.Record, error) {
	if err := j.settle(ctx); err != nil {
		return ledger.Record{}, err
	}
	return j.Ledger.Append(ctx, e)
}

// settle writes the line that is owed. Others wait meanwhile, so that theirs come after it.
func (j *journal) settle(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.owed == nil {
		return nil
	}
	if _, err := j.Ledger.Append(ctx, *j.owed); err != nil {
		return err
	}
	j.owed = nil
	return nil
}
