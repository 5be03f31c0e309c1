package main

import (
	"sync"
	"testing"
	"time"
)

// TestStopFinishesWhatIsInFlight stops each process in turn under load, as an operator does: whoever was being served gets the answer, and no signature
// is left without its document. Those who come later are told to come again.
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	s := newSiege(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for who := range besiegers {
		wg.Go(func() { s.attack(who, 1, stop) })
	}
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		s.signer.stop()
		s.acknowledged()
		if s.log.last != "system_shutdown" {
			t.Errorf("the last line is %s", s.log.last)
		}
		s.signer = start(t, "--config", s.config, "signer")
		time.Sleep(300 * time.Millisecond)
		s.portal.stop()
		s.portal = start(t, "--config", s.config, "portal")
	}
	close(stop)
	wg.Wait()
	s.portal.stop()
	s.signer.stop()
	s.acknowledged()
	s.log.consistent(t)
	if s.lost.Load() > 0 || s.log.types["signing_incomplete"] > 0 {
		t.Errorf("of %d prescriptions %d were signed without an answer, and %d signatures have no document", len(s.kept), s.lost.Load(), s.log.types["signing_incomplete"])
	}
	t.Logf("%d prescriptions, %d requests repeated", len(s.kept), s.retries.Load())
}
