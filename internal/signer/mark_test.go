package signer_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/tsp"
	"github.com/veripath/aes-appliance/internal/wire"
)

// lastLine is the newest line's type and time.
func lastLine(t *testing.T, cfg signer.Config) (string, time.Time) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(cfg.StateDir, ledger.FileName))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	var l struct {
		Entry struct {
			Type string    `json:"event_type"`
			Time time.Time `json:"timestamp"`
		} `json:"entry"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &l); err != nil {
		t.Fatal(err)
	}
	return l.Entry.Type, l.Entry.Time
}

// setRight is a time service that sets the clock, and the time d that passes then. The error is what the signer says of the time in between.
func (k *kernel) setRight(s *signer.Signer, d time.Duration) error {
	k.set(func(k *kernel) { k.shift, k.unsync = 0, false })
	_, err := s.Now()
	k.set(func(k *kernel) { k.slept += d })
	return err
}

// again closes the appliance and opens it with another kernel, as a machine is that booted anew. closed says what happens in between.
func again(t *testing.T, s *signer.Signer, cfg signer.Config, k *kernel, closed func()) (*signer.Signer, signer.Config) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if closed != nil {
		closed()
	}
	cfg.Kernel = k
	s, err := signer.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, cfg
}

// TestClockBehindTheLogIsRefusedAfterARestart: what time a signature was proven to be made at is in the log, and nowhere else: with the index gone, as after a
// restore, it still is the mark.
func TestClockBehindTheLogIsRefusedAfterARestart(t *testing.T) {
	for name, closed := range map[string]func(signer.Config){
		"restart": func(signer.Config) {}, "without the index": func(cfg signer.Config) {
			if err := os.Remove(filepath.Join(cfg.StateDir, "index.db")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(t)
			s := found(t, cfg, false)
			serial := clinician(t, s)
			g := begin(t, s, serial)
			if _, err := sign(t, g); err != nil { // and no document: a crash is enough
				t.Fatal(err)
			}
			s, cfg = again(t, s, cfg, &kernel{shift: -time.Minute, slept: 10 * time.Second}, func() { closed(cfg) })
			_, err := s.Now()
			wantKind(t, err, fault.Unavailable, "a clock 50 seconds behind the last signature")
			_, err = s.Stamp(context.Background(), make([]byte, 32))
			wantKind(t, err, fault.Unavailable, "a time stamp before the last signature")
			_, err = s.Begin(context.Background(), "test", serial)
			wantKind(t, err, fault.Unavailable, "a signature before the last one")
			cfg.Kernel.(*kernel).setRight(s, time.Minute)
			if _, err := s.Stamp(context.Background(), make([]byte, 32)); err != nil {
				t.Errorf("with the right time: %v", err)
			}
		})
	}
}

// TestWrongClockLeavesNothingBehind: while the clock is wrong and not proven, lines are written, certificates revoked, lists published. None bears the wrong
// time, and when the clock is right all goes on at once, also after a restart.
func TestWrongClockLeavesNothingBehind(t *testing.T) {
	for name, shift := range map[string]time.Duration{"ahead": 11 * 365 * 24 * time.Hour, "behind": -30 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(t)
			s := found(t, cfg, false)
			serial, other := clinician(t, s), clinicianNamed(t, s, "Bea Example")
			if _, err := sign(t, begin(t, s, serial)); err != nil {
				t.Fatal(err)
			}
			work := func(s *signer.Signer, serial string) {
				t.Helper()
				if _, err := s.CA().Revoke(context.Background(), serial, 0, time.Time{}, "test"); err != nil {
					t.Fatal(err)
				}
				if _, at := lastLine(t, cfg); time.Since(at).Abs() > time.Minute {
					t.Errorf("a line bears the time %v", at)
				}
				_, err := s.Begin(context.Background(), "test", serial)
				wantKind(t, err, fault.Unavailable, "signing by a wrong clock")
			}
			cfg.Kernel.(*kernel).set(func(k *kernel) { k.shift, k.unsync = shift, true })
			work(s, other)
			another := ""
			s, cfg = again(t, s, cfg, &kernel{}, nil)
			if another = clinicianNamed(t, s, "Cleo Example"); another == "" {
				t.Fatal("no certificate")
			}
			// A wrong RTC at boot, before the time service has set it.
			s, cfg = again(t, s, cfg, &kernel{shift: shift, unsync: true}, nil)
			work(s, another)
			wantKind(t, cfg.Kernel.(*kernel).setRight(s, 11*time.Second), fault.Unavailable, "the time right after a step")
			if _, err := sign(t, begin(t, s, serial)); err != nil {
				t.Errorf("once the clock is right: %v", err)
			}
			s, _ = again(t, s, cfg, &kernel{slept: 12 * time.Second}, nil)
			if _, err := sign(t, begin(t, s, serial)); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}

// TestLineOfTheFutureBlocksNothing: a line that is a day ahead, from a time service that was wrong for a moment, is no mark: nothing was signed or stamped.
func TestLineOfTheFutureBlocksNothing(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	serial := clinician(t, s)
	s, cfg = again(t, s, cfg, &kernel{shift: 24 * time.Hour}, nil)
	clinicianNamed(t, s, "Bea Example")
	if _, at := lastLine(t, cfg); time.Until(at) < 23*time.Hour {
		t.Fatalf("the line bears %v", at)
	}
	s, cfg = again(t, s, cfg, &kernel{}, nil)
	done, err := sign(t, begin(t, s, serial))
	if err != nil {
		t.Fatal(err)
	}
	if len(done.PDF) == 0 {
		t.Error("no document")
	}
	if _, at := lastLine(t, cfg); time.Until(at) < 23*time.Hour {
		t.Errorf("the log went back to %v", at)
	}
}

func genTime(t *testing.T, token []byte) time.Time {
	t.Helper()
	signed, err := cms.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	info, err := tsp.ParseTSTInfo(signed.Content)
	if err != nil {
		t.Fatal(err)
	}
	return info.GenTime
}

// stamped asks for a time stamp as anybody may.
func stamped(t *testing.T, p peer) (time.Time, error) {
	t.Helper()
	sum := sha256.Sum256([]byte("data"))
	ask := tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: sum[:]}, CertReq: true}
	der, err := ask.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var out wire.DER
	if _, err := p.Call(t.Context(), wire.OpTSA, wire.DER{DER: der}, &out, nil); err != nil {
		return time.Time{}, err
	}
	r, err := tsp.ParseResponse(out.DER)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Token) == 0 {
		return time.Time{}, fault.New(fault.Unavailable, r.Text)
	}
	return genTime(t, r.Token), nil
}

// TestTimeStampsDoNotGoBack: what anybody was given a time stamp of is covered by a line before it leaves. Whoever kills the signer and turns the clock back,
// if only by seconds, gets none that is earlier; who stops it waits for nothing.
func TestTimeStampsDoNotGoBack(t *testing.T) {
	cfg := settings(t)
	if err := found(t, cfg, false).Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "appliance.toml")
	sockets, err := os.MkdirTemp("", "aes")
	if err == nil {
		err = os.WriteFile(file, configText(cfg), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sockets)
	child, errs := startChild(t, file, sockets)
	portal := peerAt(filepath.Join(sockets, "portal"))
	defer portal.Close()
	waitReady(t, portal, errs)
	before := len(allTypes(t, cfg))
	var last time.Time
	began := time.Now()
	for range 20 {
		if last, err = stamped(t, portal); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(allTypes(t, cfg)) - before; n == 0 || n > 2+int(time.Since(began)/(10*time.Second)) {
		t.Errorf("20 time stamps are %d lines", n)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() // killed: it says so

	k := &kernel{shift: -time.Since(last) - 2*time.Second}
	cfg.Kernel = k
	s, err := signer.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	_, err = s.Stamp(t.Context(), make([]byte, 32))
	wantKind(t, err, fault.Unavailable, "two seconds before the last time stamp")
	k.setRight(s, 11*time.Second)
	token, err := s.Stamp(t.Context(), make([]byte, 32))
	if err != nil {
		t.Fatalf("after the lease: %v", err)
	}
	if at := genTime(t, token); at.Before(last) {
		t.Errorf("%v after %v", at, last)
	}
}

// TestStopEndsTheLease: a signer that was stopped and started again stamps at once, and nothing before what it had stamped.
func TestStopEndsTheLease(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	portal, _, stop := onSockets(t, s, signer.ServerConfig{})
	if _, err := stamped(t, portal); err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = again(t, s, cfg, &kernel{}, nil)
	if _, err := s.Stamp(t.Context(), make([]byte, 32)); err != nil {
		t.Errorf("at once: %v", err)
	}
	s, _ = again(t, s, cfg, &kernel{shift: -5 * time.Minute}, nil)
	_, err := s.Stamp(t.Context(), make([]byte, 32))
	wantKind(t, err, fault.Unavailable, "before what was stamped")
}

// TestUnprovenTimeIsNoRefusal: while the time is not proven, whoever is refused on its account alone is told so, and to try again; what had ended before has ended.
func TestUnprovenTimeIsNoRefusal(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, k := t.Context(), h.cfg.Kernel.(*kernel)
	good := h.token(t, nil)
	if _, _, err := h.portal.sign(ctx, wanted(good, "RX-1")); err != nil {
		t.Fatal(err)
	}
	header, claims := oidctest.Decode(t, good)
	old := h.provider.A.Sign(t, header, oidctest.With(claims, map[string]any{"iat": time.Now().Add(-time.Hour).Unix(), "exp": time.Now().Add(-time.Minute).Unix()}))
	who := func(token string) error {
		_, err := h.portal.call(ctx, wire.OpAuthenticate, wire.AuthRequest{Credentials: creds(token)}, nil, nil)
		return err
	}
	for _, shift := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		// A jump while it runs: the time goes on by a clock that nobody sets.
		k.set(func(k *kernel) { k.shift, k.unsync = shift, true })
		if err := who(good); err != nil {
			t.Errorf("by %v: %v", shift, err)
		}
		wantCode(t, who(old), fault.Unauthorized, "token-expired", "what had ended")
		_, err := h.portal.open(ctx, wanted(good, "RX-2"))
		wantCode(t, err, fault.Unavailable, "clock-unproven", "signing")
	}
	before := h.lines(t)
	for _, shift := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		h.stop()
		h.s, h.cfg = again(t, h.s, h.cfg, &kernel{shift: shift, slept: time.Hour, unsync: true}, nil)
		h.portal, h.admin, h.stop = onSockets(t, h.s, signer.ServerConfig{Settings: signer.Settings{ListenerNames: []string{"sign.example.org"}}})
		fresh := h.provider.A.Sign(t, header, oidctest.With(claims, map[string]any{"iat": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(time.Hour).Unix(), "exp": time.Now().Add(2 * time.Hour).Unix()}))
		wantCode(t, who(fresh), fault.Unavailable, "clock-unproven", "a token of now, after a boot")
		if shift < 0 {
			wantCode(t, who(old), fault.Unauthorized, "token-expired", "what had ended, after a boot")
		}
		for range 31 { // more than the portal is given within an hour: what it does not get does not count
			if _, err := h.portal.call(ctx, wire.OpListener, wire.ListenerRequest{CSR: csr(t, "sign.example.org")}, nil, nil); fault.KindOf(err) != fault.Unavailable || fault.CodeOf(err) != "" {
				t.Errorf("the portal's certificate, after a boot: %v", err)
			}
		}
		h.must(t, wire.OpClinicAdd, wire.Clinic{Slug: map[bool]string{true: "ahead", false: "behind"}[shift > 0], Name: "Clinic"}, nil)
	}
	for _, typ := range h.since(t, before) {
		if typ == "token_refused" && count(h.since(t, before), typ) > 1 {
			t.Error("a refusal that nobody can be sure of is a line")
			break
		}
	}
	// Proven again: a line says so, and from it on lines bear proven times.
	k = h.cfg.Kernel.(*kernel)
	k.set(func(k *kernel) { k.shift, k.unsync, k.slept = 0, false, time.Hour+11*time.Second })
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		k.set(func(k *kernel) { k.slept += time.Second })
		if typ, at := lastLine(t, h.cfg); typ == "clock_high_water" {
			if d := time.Until(at); d < time.Hour {
				t.Errorf("it bears %v", at)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("no line says that the time is proven again")
		}
	}
	if _, err := h.portal.call(ctx, wire.OpListener, wire.ListenerRequest{CSR: csr(t, "sign.example.org")}, nil, nil); err != nil {
		t.Errorf("the portal's certificate, with the time proven: %v", err)
	}
}
