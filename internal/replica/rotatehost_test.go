package replica

import (
	"slices"
	"testing"
	"time"
)

// TestRotationThatStopsHalfWay: the host knows the primary's new key, and the primary stops before it has noted that, or never learns it. Its old key goes on being
// let in; with the new one's first line it goes.
func TestRotationThatStopsHalfWay(t *testing.T) {
	now := time.Now()
	h := openTestHost(t, &now)
	rcv, err := NewReceiver(ReceiverConfig{Dir: h.Logs(), Identity: h.Identity, Name: h.Name, Key: h.Key, Now: time.Now, Arrived: h.Arrived, Codes: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rcv.Close() })
	if err := h.Attach(rcv, Limits{}); err != nil {
		t.Fatal(err)
	}
	knows := func(names ...string) {
		t.Helper()
		var want []Pin
		for _, n := range names {
			want = append(want, identityOf(t, n).Pin())
		}
		s, _, _ := rcv.log(LogID(testOrigin), Pin{})
		if s == nil || !slices.Equal(s.peer.Clients, want) {
			t.Errorf("%+v, want %v", s, names)
		}
	}
	joins := func(client string) {
		t.Helper()
		code, j := joinCode(t, client, "log "+testOrigin, testOrigin, now.Add(time.Hour))
		key, err := j.VerifierKey()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Expect(code); err != nil {
			t.Fatal(err)
		}
		for range 2 { // an answer can get lost
			if _, err := redeem(h, KindJoin, Pin(j.Primary), j.Secret[:], JoinPayload{testOrigin, key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	joins("first")
	knows("first")
	joins("second")
	knows("second", "first")
	joins("third") // the second never came
	knows("third", "first")
	if err := h.Arrived(testOrigin, identityOf(t, "first").Pin()); err != nil {
		t.Fatal(err)
	}
	knows("third", "first")
	if err := h.Arrived(testOrigin, identityOf(t, "third").Pin()); err != nil {
		t.Fatal(err)
	}
	knows("third")
	joins("first") // and back
	knows("first", "third")
	joins("third")
	knows("third")
}
