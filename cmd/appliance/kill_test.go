package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/token"
)

// How TestKilled is run; "make soak" kills more often.
var (
	kills    = flag.Int("kills", 100, "how often TestKilled kills a process")
	killSeed = flag.Uint64("kill-seed", 0, "what chooses the moments of TestKilled; 0: any")
)

// TestKilled kills the signer and the portal at random moments, again and again, while clients sign, read, cancel and administer, and keep what they
// were answered; now and then the index goes too, and the log's end is torn as a power cut would tear it. Nothing that was acknowledged is lost,
// nothing that left was without its line, and every signature has one end.
func TestKilled(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kill-seed=%d", seed)
	s := newSiege(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for who := range besiegers {
		wg.Go(func() { s.attack(who, seed, stop) })
	}
	m := &marauder{siege: s, rng: rand.New(rand.NewPCG(seed, 0))}
	begun := time.Now()
	for m.killed < *kills && !t.Failed() {
		time.Sleep(time.Duration(m.rng.IntN(400)) * time.Millisecond)
		m.strike()
	}
	took := time.Since(begun)
	close(stop)
	wg.Wait()
	s.portal.stop()
	s.signer.stop()
	s.acknowledged()
	s.log.consistent(t)
	s.keysHaveLines()
	if s.log.last != "system_shutdown" {
		t.Errorf("the last line is %s", s.log.last)
	}
	run(t, "--config", s.config, "audit", "verify")
	t.Logf("%d kills of the signer, %d of the portal in %.0f s; %d index files deleted, %d tails torn; %d prescriptions and %d certificates acknowledged, %d requests repeated, %d ms the longest wait; lines: %v",
		m.signers, m.portals, took.Seconds(), m.unindexed, m.torn, len(s.kept), len(s.serials), s.retries.Load(), s.longest.Load(), s.log.types)
	if len(s.kept) == 0 || m.torn > 0 && s.log.types["log_tail_set_aside"] < m.torn {
		t.Errorf("%d tails were torn, %d set aside", m.torn, s.log.types["log_tail_set_aside"])
	}

	s.signer = start(t, "--config", s.config, "signer")
	s.portal = start(t, "--config", s.config, "portal")
	s.everything()
	s.portal.stop()
	s.signer.stop()
	s.acknowledged()
}

// marauder kills.
type marauder struct {
	*siege
	rng                                       *rand.Rand
	killed, signers, portals, unindexed, torn int
}

// strike kills one process or both, and starts again what was killed; now and then it kills again while that starts.
func (m *marauder) strike() {
	m.t.Helper()
	what := m.rng.IntN(10)
	if what < 4 || what == 9 {
		m.portal.kill()
		m.portals++
		m.killed++
	}
	if what >= 4 {
		m.signer.kill()
		m.signers++
		m.killed++
		m.ravage()
		for m.rng.IntN(8) == 0 {
			early := launch(m.t, program(m.t, "--config", m.config, "signer"))
			time.Sleep(time.Duration(m.rng.IntN(250)) * time.Millisecond)
			early.kill()
			m.signers++
			m.killed++
		}
		m.signer = start(m.t, "--config", m.config, "signer")
	}
	if what < 4 || what == 9 {
		m.portal = start(m.t, "--config", m.config, "portal")
	}
}

// ravage does to a dead signer's state what must not matter.
func (m *marauder) ravage() {
	m.t.Helper()
	m.acknowledged()
	state := m.log.dir
	if m.rng.IntN(6) == 0 {
		m.unindexed++
		for _, name := range []string{"index.db", "index.db.state"} {
			if err := os.Remove(filepath.Join(state, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				m.t.Fatal(err)
			}
		}
	}
	if m.rng.IntN(6) > 0 {
		return
	}
	m.torn++
	line := []byte(`{"prev_hash":"4f2a7c1e` + string(make([]byte, m.rng.IntN(600))))
	tails := [][]byte{line[:1+m.rng.IntN(22)], line, make([]byte, 1+m.rng.IntN(5000)), append(make([]byte, 100), '\n')}
	f, err := os.OpenFile(m.log.path(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = f.Write(tails[m.rng.IntN(len(tails))])
	if err := errors.Join(err, f.Close()); err != nil {
		m.t.Fatal(err)
	}
}

// keysHaveLines looks into the token: every key in it has its line, and every key that a line made and none destroyed is in it.
func (s *siege) keysHaveLines() {
	s.t.Helper()
	cfg, err := config.Load(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	pin, err := readPIN(cfg.Token.PINFile)
	if err != nil {
		s.t.Fatal(err)
	}
	k, err := token.Open(context.Background(), token.Config{Module: cfg.Token.Module, Dir: filepath.Join(cfg.StateDir, "token"), Label: cfg.Token.Label, PIN: pin})
	if err != nil {
		s.t.Fatal(err)
	}
	defer k.Close()
	list, err := k.Keys()
	if err != nil {
		s.t.Fatal(err)
	}
	there := map[string]bool{}
	for _, key := range list {
		there[key.Label] = true
		if state := s.log.keys[key.Label]; state != "key_created" && state != "key_unfinished" {
			s.t.Errorf("the token has the key %s, of which the log says last: %q", key.Label, s.log.keys[key.Label])
		}
	}
	for label, state := range s.log.keys {
		if state == "key_created" && !there[label] {
			s.t.Errorf("the log has the key %s, and the token does not", label)
		}
	}
}
