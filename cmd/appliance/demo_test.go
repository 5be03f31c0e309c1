package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// TestInterruptedDemoCanBeRepeated interrupts a demo at moments from its beginning to its end; the next one works all the same, and what it
// said before it ended was that it was interrupted.
func TestInterruptedDemoCanBeRepeated(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	for i, when := range []func(string) bool{ // each begins where the one before was stopped
		exists("."), exists("pin"), exists("appliance.toml"), exists("state.new/token/new"), exists("state.new/token/tokens"),
		exists("state.new/audit_chain.jsonl"), exists("state.new/root"), exists("state.new/root/tokens"), exists("state"),
	} {
		s := []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM}[i%3]
		var problems bytes.Buffer
		cmd := exec.Command(program, "demo", "--dir", dir)
		cmd.Stderr = &problems
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); !when(dir) && time.Now().Before(end); {
			time.Sleep(200 * time.Microsecond)
		}
		if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if text := problems.String(); strings.Contains(text, "error: ") && !strings.Contains(text, "error: interrupted") {
			t.Errorf("moment %d, %v: %s", i, s, text)
		}
	}
	for range 2 {
		if out, err := exec.Command(program, "demo", "--dir", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "state.*")); left != nil {
		t.Errorf("%v is left", left)
	}
}

func exists(name string) func(string) bool {
	return func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
}

// drifting is a clock that the test takes the time service away from.
type drifting struct{ unsynchronised atomic.Bool }

func (k *drifting) Sample(bool) (clock.Sample, error) {
	now := time.Now()
	return clock.Sample{Wall: now, Boot: time.Duration(now.UnixNano()), State: clock.State{Unsynchronised: k.unsynchronised.Load(), MaxError: time.Millisecond}}, nil
}

// TestDemoClaimsNoProofOfTimeThatIsNotThere: the setting alone proves nothing.
func TestDemoClaimsNoProofOfTimeThatIsNotThere(t *testing.T) {
	s, dir := openDemo(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(filepath.Join(dir, "appliance.toml"))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := readPIN(cfg.Token.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	var kernel drifting
	cfg.Clock.Mode = clock.System
	if s, err = signer.Open(context.Background(), signer.Config{Config: cfg, PIN: pin, Version: version, Kernel: &kernel}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	operations := signer.NewServer(s, signer.ServerConfig{}).Admin()
	for _, unproven := range []bool{false, true} {
		kernel.unsynchronised.Store(unproven)
		var out bytes.Buffer
		answer, _, err := operations[wire.OpStatus](context.Background(), wire.Raw("{}"), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = (&app{stdout: &out}).demoIntroduce(answer.(wire.Status), nil, wire.Certificate{})
		if claimed := strings.Contains(out.String(), "proven by"); claimed == unproven || (err != nil) != unproven {
			t.Errorf("unproven %v: %v\n%s", unproven, err, &out)
		}
	}
}
