package replica

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
)

// openTestHost opens a host whose clock can be set.
func openTestHost(t *testing.T, now *time.Time) *Host {
	t.Helper()
	h, err := OpenHost(filepath.Join(t.TempDir(), "state"), func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func joinCode(t *testing.T, client, logKey, origin string, expires time.Time) (string, enrol.Join) {
	t.Helper()
	j := enrol.Join{Expires: expires.Truncate(time.Second), Primary: enrol.Key(keyOf(client).Public().(ed25519.PublicKey)), LogKey: keyOf(logKey).Public().(ed25519.PublicKey),
		Origin: origin, Backup: "backup.example:7443"}
	copy(j.Secret[:], client+origin+"0123456789abcdef")
	code, err := j.Code()
	if err != nil {
		t.Fatal(err)
	}
	return code, j
}

// redeem is what the protocol does once the TLS connection is there.
func redeem(h *Host, kind string, client Pin, secret []byte, payload any) ([]byte, error) {
	raw, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	_, answer, err := h.Redeem(nil, kind, client, raw, func(s []byte) bool { return string(s) == string(secret) })
	return answer, err
}

func TestCodesAreForOneClientAndATime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := openTestHost(t, &now)
	code, j := joinCode(t, "near", "log", "a.example/log", now.Add(time.Hour))
	key, err := j.VerifierKey()
	if err != nil {
		t.Fatal(err)
	}
	near, far, says := Pin(j.Primary), identityOf(t, "far").Pin(), JoinPayload{Origin: j.Origin, LogKey: key}
	if h.Open() {
		t.Error("strangers are let in although no code waits")
	}
	if _, err := redeem(h, KindJoin, near, j.Secret[:], says); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("a code that was never told: %v", err)
	}
	if _, err := h.Expect(code); err != nil || !h.Open() {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"another key":       second(redeem(h, KindJoin, far, j.Secret[:], says)),
		"another secret":    second(redeem(h, KindJoin, near, []byte("0123456789abcdef"), says)),
		"another kind":      second(redeem(h, KindRestore, near, j.Secret[:], RestorePayload{j.Origin})),
		"an unknown kind":   second(redeem(h, "delete", near, j.Secret[:], says)),
		"another log":       second(redeem(h, KindJoin, near, j.Secret[:], JoinPayload{"b.example/log", key})),
		"another log's key": second(redeem(h, KindJoin, near, j.Secret[:], JoinPayload{j.Origin, key + "x"})),
		"nothing":           second(redeem(h, KindJoin, near, j.Secret[:], nil)),
	} {
		if err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	for range 2 { // an answer can get lost
		if _, err := redeem(h, KindJoin, near, j.Secret[:], says); err != nil {
			t.Fatal(err)
		}
	}
	if h.Open() {
		t.Error("strangers are let in although the code was redeemed")
	}
	peers, err := h.Peers()
	if err != nil || len(peers) != 1 || peers[0].Origin != j.Origin || len(peers[0].Clients) != 1 || peers[0].Clients[0] != near || peers[0].LogKeys[0] != key {
		t.Errorf("%+v, %v", peers, err)
	}
	other, _ := joinCode(t, "near", "another-log", "a.example/log", now.Add(time.Hour))
	if _, err := h.Expect(other); fault.KindOf(err) != fault.Conflict {
		t.Errorf("another log of the same origin: %v", err)
	}
	now = now.Add(2 * time.Hour)
	if _, err := h.Expect(code); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("an expired code: %v", err)
	}
	if _, err := redeem(h, KindJoin, near, j.Secret[:], says); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("redeeming an expired code: %v", err)
	}
	if _, err := h.Expect(code[:50]); fault.KindOf(err) != fault.Invalid {
		t.Errorf("half a code: %v", err)
	}
}

func second(_ []byte, err error) error { return err }

func TestRestoreCodesLetOneReaderIn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := openTestHost(t, &now)
	if _, _, err := h.Allow("", time.Hour); fault.KindOf(err) != fault.NotFound {
		t.Errorf("allowing without a log: %v", err)
	}
	for _, origin := range []string{"a.example/log", "b.example/log"} {
		code, j := joinCode(t, "near", "log", origin, now.Add(time.Hour))
		key, err := j.VerifierKey()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Expect(code); err != nil {
			t.Fatal(err)
		}
		if _, err := redeem(h, KindJoin, Pin(j.Primary), j.Secret[:], JoinPayload{origin, key}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := h.Allow("", time.Hour); fault.KindOf(err) != fault.Invalid {
		t.Errorf("allowing one of two: %v", err)
	}
	code, r, err := h.Allow("b.example/log", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := enrol.ParseRestore(code); err != nil || parsed != r || Pin(r.Backup) != h.Identity.Pin() {
		t.Errorf("%+v, %v", parsed, err)
	}
	var alarms []Alarm
	rcv, err := NewReceiver(ReceiverConfig{Dir: h.Logs(), Identity: h.Identity, Name: h.Name, Key: h.Key, Now: time.Now, Alarm: func(a Alarm) { alarms = append(alarms, a) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rcv.Close() })
	if err := h.Attach(rcv, Limits{}); err != nil {
		t.Fatal(err)
	}
	bare, thief := identityOf(t, "bare").Pin(), identityOf(t, "thief").Pin()
	if _, err := redeem(h, KindRestore, bare, r.Secret[:], RestorePayload{"a.example/log"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("for another log: %v", err)
	}
	for range 2 {
		if _, err := redeem(h, KindRestore, bare, r.Secret[:], RestorePayload{"b.example/log"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(alarms) != 1 || alarms[0].Kind != AlarmRestore || alarms[0].Origin != "b.example/log" || !strings.Contains(alarms[0].Text, bare.String()) || strings.Contains(alarms[0].Text, code) {
		t.Errorf("who was told: %+v", alarms)
	}
	if _, err := redeem(h, KindRestore, thief, r.Secret[:], RestorePayload{"b.example/log"}); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("by a second machine: %v", err)
	}
	readers := func() (n int) {
		peers, err := h.Peers()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			n += len(p.Readers)
			if len(p.Readers) > 0 && (p.Origin != "b.example/log" || p.Readers[0] != bare) {
				t.Errorf("%+v", p)
			}
		}
		return n
	}
	if n := readers(); n != 1 {
		t.Errorf("%d may read", n)
	}
	now = now.Add(time.Hour)
	if n := readers(); n != 0 {
		t.Errorf("%d may read after the end", n)
	}
}

// TestHostKeepsItsKeys over an opening, and tells when one is damaged.
func TestHostKeepsItsKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := OpenHost(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenHost(dir, time.Now)
	if err != nil || again.Identity.Pin() != first.Identity.Pin() || again.Name != first.Name {
		t.Errorf("%v", err)
	}
	if err := again.RotateIdentity(); err != nil || again.Identity.Pin() == first.Identity.Pin() {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, cosignerName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenHost(dir, time.Now); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestHostsKeysAreMadeOnce: the service and a command that begin at the same moment, on a machine that has no keys yet, have the same ones.
func TestHostsKeysAreMadeOnce(t *testing.T) {
	for range 20 {
		dir := filepath.Join(t.TempDir(), "state")
		var hosts [6]*Host
		var wg sync.WaitGroup
		for i := range hosts {
			wg.Go(func() {
				h, err := OpenHost(dir, time.Now)
				if err != nil {
					t.Error(err)
				}
				hosts[i] = h
			})
		}
		wg.Wait()
		for _, h := range hosts {
			if t.Failed() || h.Identity.Pin() != hosts[0].Identity.Pin() || h.Name != hosts[0].Name {
				t.Fatal("two hosts in one folder have different keys")
			}
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*.pem*")); err != nil || len(left) != 2 {
			t.Errorf("%v %v", left, err)
		}
	}
}
