package ledger

import (
	"context"
	"fmt"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// FrontierAt returns the tree over the first size lines, ready to take the lines after them. NotFound: there are not so many.
func (l *Ledger) FrontierAt(ctx context.Context, size uint64) (chain.Frontier, error) {
	p := l.prover(ctx)
	if size > p.cur.Size() {
		return chain.Frontier{}, fault.New(fault.NotFound, fmt.Sprintf("the log has %d lines", p.cur.Size()))
	}
	return p.frontier(size)
}
