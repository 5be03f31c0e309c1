package signer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/signer"
)

// TestLossOfTimeIsOnRecord: when the proof of time goes, the log says so and why; when it is back, that too, and once each (EN 319 421 §7.12).
func TestLossOfTimeIsOnRecord(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Clock: signer.ClockWatch{Every: time.Millisecond, Settle: 20 * time.Millisecond}})
	k := h.cfg.Kernel.(*kernel)
	count := func(event string) int { return strings.Count(h.logText(t), `"event_type":"`+event+`"`) }
	until := func(lost, regained int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); count("clock_proof_lost") != lost || count("clock_proof_regained") != regained; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d losses and %d returns are on record, not %d and %d", count("clock_proof_lost"), count("clock_proof_regained"), lost, regained)
			}
		}
	}
	until(0, 0)
	k.set(func(k *kernel) { k.unsync = true })
	until(1, 0)
	if text := h.logText(t); !strings.Contains(text, `"details":{"reason":"the clock is not synchronised"}`) {
		t.Error("the log does not say why")
	}
	if _, _, err := h.portal.sign(t.Context(), wanted(h.token(t, nil), "RX-1")); err == nil {
		t.Error("it was signed without proof of time")
	}
	k.set(func(k *kernel) { k.unsync = false })
	until(1, 1)
	k.set(func(k *kernel) { k.unsync = true })
	until(2, 1)
}
