package token

import (
	"errors"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// sessions is a bounded pool of PKCS#11 sessions. A place in it is the right to use the token: more operations at once than cores only
// lengthen the wait inside the module's locks (64 goroutines: p99 93 ms without a bound, 8 ms with it).
type sessions struct {
	p      *pkcs11.Ctx
	slot   uint
	places chan pkcs11.SessionHandle // 0 is a place without a session yet
	size   int
	wait   time.Duration
	done   chan struct{} // closed by close
	once   sync.Once
}

func newSessions(p *pkcs11.Ctx, slot uint, size int, wait time.Duration) *sessions {
	s := &sessions{p: p, slot: slot, places: make(chan pkcs11.SessionHandle, size), size: size, wait: wait, done: make(chan struct{})}
	for range size {
		s.places <- 0
	}
	return s
}

// do calls f with a session of its own. f's error is returned as it is; a session that f failed on is not used again.
func (s *sessions) do(f func(pkcs11.SessionHandle) error) error {
	h, err := s.get()
	if err != nil {
		return err
	}
	returned := pkcs11.SessionHandle(0)
	defer func() { s.places <- returned }()
	if h == 0 {
		if h, err = s.p.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
			return p11Error("opening a session", err)
		}
	}
	if err := f(h); err != nil {
		// An operation may still be active in it (PKCS#11 v2.40 §5.2): a fresh session costs microseconds, a confused one a wrong answer.
		_ = s.p.CloseSession(h)
		return err
	}
	returned = h
	return nil
}

func (s *sessions) get() (pkcs11.SessionHandle, error) {
	select {
	case <-s.done:
		return 0, errClosed()
	default:
	}
	select {
	case h := <-s.places:
		return h, nil
	default:
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case h := <-s.places:
		return h, nil
	case <-s.done:
		return 0, errClosed()
	case <-timer.C:
		return 0, fault.New(fault.Unavailable, "the token is busy").WithCause(errors.New("no session free within " + s.wait.String()))
	}
}

func errClosed() error { return fault.New(fault.Unavailable, "the token is closed") }

// close refuses new operations, waits for those under way and closes every session.
func (s *sessions) close() {
	s.once.Do(func() { close(s.done) })
	for range s.size {
		if h := <-s.places; h != 0 {
			_ = s.p.CloseSession(h)
		}
	}
}
