package signer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Bounds of what is open at once.
const (
	maxOperations       = 4096
	maxOperationsPerSub = 64
)

// operation is one prescription between OpSignOpen and OpComplete. Its identifier is known to nobody but the connection that opened it.
type operation struct {
	id       string
	caller   activation.Caller
	want     request
	keys     []string // what no other operation may be about meanwhile
	expires  time.Time
	gone     <-chan struct{} // closed when that connection has ended: nobody can finish it any more
	finished chan struct{}   // closed when it has ended, whatever way

	mu      sync.Mutex // one step at a time
	signing *Signing   // nil until it is opened
	allowed *activation.Authorization
	bound   string // the sub that the credential is bound to
	reading clock.Reading
	ended   bool
}

// person names whoever a token speaks for, across clinics.
func person(c activation.Caller) string { return c.Clinic + " " + c.Issuer + " " + c.Sub }

// operations holds those that are open. Lock order: an operation's mu before operations.mu.
type operations struct {
	mu     sync.Mutex
	byID   map[string]*operation
	byKey  map[string]*operation
	perSub map[string]int
	closed bool
}

func newOperations() *operations {
	return &operations{byID: map[string]*operation{}, byKey: map[string]*operation{}, perSub: map[string]int{}}
}

// reserve takes op in, unless another is about the same thing: that one is returned.
func (o *operations) reserve(op *operation) (busy *operation, err error) {
	id := make([]byte, 16)
	rand.Read(id) // never fails (crypto/rand since Go 1.24)
	op.id, op.finished = hex.EncodeToString(id), make(chan struct{})
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, fault.New(fault.Unavailable, "the signer is stopping").WithHint("try again in a moment")
	}
	for _, key := range op.keys {
		if other := o.byKey[key]; other != nil {
			return other, nil
		}
	}
	if len(o.byID) >= maxOperations || o.perSub[person(op.caller)] >= maxOperationsPerSub {
		return nil, fault.New(fault.Unavailable, "too many prescriptions are being signed at once").WithHint("wait for some to be finished").WithCode("signing-limit")
	}
	o.byID[op.id] = op
	o.perSub[person(op.caller)]++
	for _, key := range op.keys {
		o.byKey[key] = op
	}
	return nil, nil
}

// hold waits until nobody else holds what key names.
func (o *operations) hold(ctx context.Context, key string) (release func(), err error) {
	op := &operation{id: key, keys: []string{key}, finished: make(chan struct{})}
	for {
		o.mu.Lock()
		other := o.byKey[key]
		if other == nil {
			o.byKey[key] = op
			o.mu.Unlock()
			return func() {
				o.mu.Lock()
				defer o.mu.Unlock()
				delete(o.byKey, key)
				close(op.finished)
			}, nil
		}
		o.mu.Unlock()
		select {
		case <-other.finished:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take returns the operation with its lock held. NotFound: there is none, or no more.
func (o *operations) take(id string) (*operation, error) {
	o.mu.Lock()
	op := o.byID[id]
	o.mu.Unlock()
	gone := fault.New(fault.NotFound, "there is no such signing operation, or it has ended").WithHint("begin again: the same content is never signed twice")
	if op == nil {
		return nil, gone
	}
	op.mu.Lock()
	if op.ended {
		op.mu.Unlock()
		return nil, gone
	}
	return op, nil
}

// end takes an operation out and lets go of whoever waits for it. op.mu is held.
func (o *operations) end(op *operation) {
	if op.ended {
		return
	}
	op.ended = true
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byID, op.id)
	for _, key := range op.keys {
		delete(o.byKey, key)
	}
	person := person(op.caller)
	if o.perSub[person]--; o.perSub[person] <= 0 {
		delete(o.perSub, person)
	}
	close(op.finished)
}

// list returns those that are open and of which is true.
func (o *operations) list(of func(*operation) bool) []*operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []*operation
	for _, op := range o.byID {
		if of(op) {
			all = append(all, op)
		}
	}
	return all
}

// orphaned says whether the connection that opened it has ended.
func (op *operation) orphaned() bool {
	select {
	case <-op.gone:
		return true
	default:
		return false
	}
}

func (o *operations) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byID)
}

// shut lets nothing new in.
func (o *operations) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// abandon ends the operations and closes the signatures that they leave without a document. One that is being worked on just now is left for the next
// time: a slow one must not keep the others open.
func (v *Server) abandon(ctx context.Context, of func(*operation) bool, reason string) error {
	var errs []error
	for _, op := range v.ops.list(of) {
		if !op.mu.TryLock() {
			continue
		}
		if !op.ended {
			errs = append(errs, v.end(ctx, op, reason))
		}
		op.mu.Unlock()
	}
	return errors.Join(errs...)
}

// end ends one operation, whose lock is held: what it signed and did not complete is recorded as incomplete.
func (v *Server) end(ctx context.Context, op *operation, reason string) error {
	defer v.ops.end(op)
	if op.signing == nil {
		return nil
	}
	return op.signing.Abandon(context.WithoutCancel(ctx), reason)
}

// begin waits until a prescription may be begun, and returns the time at which it is.
func (v *Server) begin(ctx context.Context) (time.Time, error) {
	if err := v.s.backup.Await(ctx); err != nil {
		return time.Time{}, err
	}
	now, err := v.s.Now()
	if err != nil {
		return now, clockFault(err)
	}
	return now, nil
}

func clockFault(err error) error {
	return fault.New(fault.Unavailable, fault.PublicOf(err)).WithHint(fault.HintOf(err)).WithCode("clock-unproven").WithCause(err)
}
