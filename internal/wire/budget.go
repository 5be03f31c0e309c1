package wire

import (
	"context"
	"sync"
)

// Budget bounds what is held at once, bytes say: whoever wants more waits for its turn. It is safe for concurrent use.
type Budget struct {
	size  int64
	turn  chan struct{} // held by the one who waits for room
	freed chan struct{} // tells that one that there may be

	mu   sync.Mutex
	free int64
}

// NewBudget returns a Budget of that size.
func NewBudget(size int64) *Budget {
	return &Budget{size: size, free: size, turn: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
}

// Take takes n, or all there is when that is less, and returns what gives it back: call it once. Those who wait are served one after the other, so that
// many small ones do not keep a large one from its turn. The error is that of ctx.
func (b *Budget) Take(ctx context.Context, n int64) (giveBack func(), err error) {
	n = min(max(n, 0), b.size)
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for !b.grab(n) {
		select {
		case <-b.freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() { b.give(n) }, nil
}

func (b *Budget) grab(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.free < n {
		return false
	}
	b.free -= n
	return true
}

func (b *Budget) give(n int64) {
	b.mu.Lock()
	b.free += n
	b.mu.Unlock()
	select {
	case b.freed <- struct{}{}:
	default: // it is known already
	}
}

// after holds what is to be done once an answer has left.
type after struct {
	mu   sync.Mutex
	todo []func()
}

type afterKey struct{}

// After has f run once the answer of the operation that ctx belongs to has left, or cannot leave any more. Outside an operation it runs f at once.
func After(ctx context.Context, f func()) {
	a, ok := ctx.Value(afterKey{}).(*after)
	if !ok {
		f()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.todo = append(a.todo, f)
}

func (a *after) run() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.todo {
		f()
	}
}
