package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// serveChild is a signer in a process of its own, to be killed: its state, and the folder for its sockets.
func serveChild(configFile, sockets string) error {
	cfg, err := config.Load(configFile)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := signer.Open(ctx, signer.Config{Config: cfg, PIN: []byte("pin-12345678"), Version: "test", Kernel: &kernel{}})
	if err != nil {
		return err
	}
	portal, err := wire.Listen(wire.Socket{Path: filepath.Join(sockets, "portal"), Mode: 0o600})
	if err != nil {
		return err
	}
	admin, err := wire.Listen(wire.Socket{Path: filepath.Join(sockets, "admin"), Mode: 0o600})
	if err != nil {
		return err
	}
	return signer.NewServer(s, signer.ServerConfig{Settings: signer.Settings{MaxDocument: 1 << 20}}).Serve(ctx, portal, admin)
}

// TestKilledAtAnyMoment kills the signer while several clients sign, again and again: what was acknowledged is there, under the same answer; what was
// signed has its line and its end; and the chain verifies.
func TestKilledAtAnyMoment(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	h.policy(t, "a", func(p *wire.Policy) { p.SignaturesPerToken, p.SignaturesPerMinute = 100000, 100000 })
	token := h.token(t, nil)
	h.stop()
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "appliance.toml")
	if err := os.WriteFile(file, configText(h.cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "aes")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sockets)
	portal := peerAt(filepath.Join(sockets, "portal"))
	defer portal.Close()

	var mu sync.Mutex
	told := map[string]wire.SignResult{}
	asked := map[string]wire.SignOpen{}
	for round := range 6 {
		child, errs := startChild(t, file, sockets)
		waitReady(t, portal, errs)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for client := range 4 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					in := wanted(token, fmt.Sprintf("RX-%d-%d-%d", round, client, n))
					id := fmt.Sprintf("RX-%d-%d-%d", round, client, n)
					mu.Lock()
					asked[id] = in
					mu.Unlock()
					done, _, err := portal.sign(ctx, in)
					switch {
					case err == nil:
						mu.Lock()
						told[id] = done
						mu.Unlock()
					case fault.KindOf(err) != fault.Unavailable && ctx.Err() == nil:
						t.Errorf("%s: %v", id, err)
						return
					default:
						return // killed
					}
				}
			})
		}
		time.Sleep(300*time.Millisecond + time.Duration(rand.IntN(500))*time.Millisecond)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		child.Wait() // killed: it says so
		wg.Wait()
		cancel()
	}
	if len(told) == 0 {
		t.Fatal("nothing was signed at all")
	}
	h.afterKills(t, token, told, asked)
}

// afterKills opens the appliance once more and looks at what became of everything.
func (h *house) afterKills(t *testing.T, token string, told map[string]wire.SignResult, asked map[string]wire.SignOpen) {
	t.Helper()
	ctx := context.Background()
	var err error
	if h.s, err = signer.Open(ctx, h.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.s.Close() })
	portal, _, _ := onSockets(t, h.s, signer.ServerConfig{})
	reads := 1000 // a person may read 1,200 in a minute; which of them is chance
	for id, first := range told {
		again, _, err := portal.sign(ctx, asked[id])
		again.Repeated, first.Repeated = false, false
		if err != nil || again != first {
			t.Errorf("%s was acknowledged as %+v, and is now %+v, %v", id, first, again, err)
		}
		if reads--; reads < 0 {
			continue
		}
		_, pdf, err := portal.download(ctx, wire.OpDocument, token, id)
		if err != nil || hexSum(pdf) != first.SHA256 {
			t.Errorf("the document of %s: %v", id, err)
		}
	}
	list := types(t, h.cfg)
	created, signed, incomplete := count(list, "signature_created"), count(list, "prescription_signed"), count(list, "signing_incomplete")
	t.Logf("%d acknowledged; %d signatures, %d completed, %d incomplete, %d starts", len(told), created, signed, incomplete, count(list, "system_startup"))
	if created != signed+incomplete || signed < len(told) {
		t.Errorf("%d signatures, %d completed, %d incomplete, %d acknowledged", created, signed, incomplete, len(told))
	}
	file, err := os.Open(filepath.Join(h.cfg.StateDir, ledger.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := ledger.Verify(file); err != nil {
		t.Errorf("the chain: %v", err)
	}
}

func startChild(t *testing.T, file, sockets string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd := exec.Command(program, "serve", file, sockets)
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, &errs
}

func waitReady(t *testing.T, p peer, errs *bytes.Buffer) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := p.Call(t.Context(), wire.OpStatus, wire.Nothing{}, nil, nil); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the signer does not come up: %s", errs)
		}
	}
}

// configText writes the configuration of settings again.
func configText(cfg signer.Config) []byte {
	return fmt.Appendf(nil, `state_dir = %q
[pki]
base_url = "http://pki.example.org"
name = "Test"
organisation = "Test Ltd"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.7"
[token]
label = "test"
pin_file = %q
`, cfg.StateDir, cfg.Token.PINFile)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
