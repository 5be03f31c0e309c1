package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/objects"
	"github.com/veripath/aes-appliance/internal/replica"
)

// forgedLog is a log of lines that were written by hand, as what is shipped.
type forgedLog struct{ lines [][]byte }

func (l forgedLog) Head() (uint64, chain.Hash) {
	last, err := chain.ParseLine(bytes.TrimSuffix(l.lines[len(l.lines)-1], []byte("\n")))
	if err != nil {
		panic(err)
	}
	return uint64(len(l.lines)), last.Hash
}

func (l forgedLog) Wait(ctx context.Context, size uint64) (uint64, error) {
	if size < uint64(len(l.lines)) {
		return uint64(len(l.lines)), nil
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

func (l forgedLog) Export(_ context.Context, w io.Writer, from, to uint64) error {
	for _, line := range l.lines[from:to] {
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

func (l forgedLog) FrontierAt(_ context.Context, size uint64) (f chain.Frontier, _ error) {
	for _, line := range l.lines[:size] {
		f.Append(chain.LeafHash(bytes.TrimSuffix(line, []byte("\n"))))
	}
	return f, nil
}

// forge makes the copy that v holds another one: with a line more, all hashes right, the checkpoint signed by a key of the forger's and cosigned by the host's own.
// It is what who has taken the backup host over can do.
func (v *vault) forge() {
	t := v.t
	state := filepath.Join(v.dir, "state")
	h, err := replica.OpenHost(state, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := h.Peers()
	if err != nil || len(peers) != 1 {
		t.Fatal(peers, err)
	}
	p := peers[0]
	log := forgedLog{bytes.SplitAfter(v.log(), []byte("\n"))}
	log.lines = log.lines[:len(log.lines)-1]
	_, prev := log.Head()
	line, _, err := chain.AppendLine(nil, prev, chain.Entry{Time: time.Now().Truncate(time.Microsecond), EventType: "realm_added_by_a_thief", Actor: "thief", Details: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	log.lines = append(log.lines, append(line, '\n'))
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	logKey, err := chain.VerifierKey(p.Origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	thief, err := replica.NewIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	id := replica.LogID(p.Origin)
	was := filepath.Join(t.TempDir(), "was")
	if err := os.Rename(filepath.Join(h.Logs(), id), was); err != nil {
		t.Fatal(err)
	}
	peer, err := json.Marshal(map[string]any{"origin": p.Origin, "log_key": logKey, "client": thief.Pin().String(), "address": v.address, "joined": time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "peers", id), peer, 0o600); err != nil {
		t.Fatal(err)
	}
	sealed, err := objects.Open(filepath.Join(was, "objects"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	v.fill(h, replica.ShipperConfig{Log: log, Objects: sealed, Key: key, ClientConfig: replica.ClientConfig{Origin: p.Origin, Identity: thief, Server: h.Identity.Pin()}})
}

// fill ships a log to the host's state, in this process.
func (v *vault) fill(h *replica.Host, cfg replica.ShipperConfig) {
	t := v.t
	r, err := replica.NewReceiver(replica.ReceiverConfig{Dir: h.Logs(), Identity: h.Identity, Name: h.Name, Key: h.Key, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := h.Attach(r, replica.Limits{}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	served, shipped := make(chan error, 1), make(chan error, 1)
	go func() { served <- r.Serve(ctx, l) }()
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
	cfg.Keys, cfg.Now, cfg.Rand = []chain.WitnessKey{r.Key()}, time.Now, rand.New(rand.NewPCG(1, 2))
	cfg.Store = replica.FileStore{FS: durable.OS{}, Path: filepath.Join(t.TempDir(), "cosigned")}
	s, err := replica.NewShipper(cfg)
	if err != nil {
		t.Fatal(err)
	}
	go func() { shipped <- s.Run(ctx) }()
	size, _ := cfg.Log.Head()
	if _, err := s.Wait(ctx, size); err != nil {
		t.Error(err)
	}
	cancel()
	if err := errors.Join(<-shipped, <-served); err != nil {
		t.Error(err)
	}
}

// TestRestoreFromALyingBackup: who has taken the backup host over adds lines to the log, which with right hashes and a key of their own look like any. The token's own
// key, which they cannot open, is what a restored log must be signed by; a log that is all of their making, key and token, is refused by the key that the operator kept.
func TestRestoreFromALyingBackup(t *testing.T) {
	identity := ""
	e, v := newBackedEstate(t, func(e *estate) { identity = e.recipient() })
	state, pin := filepath.Join(e.dir, "demo", "state"), filepath.Join(e.dir, "demo", "pin")
	logKey, err := os.ReadFile(filepath.Join(state, "log-key.txt"))
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "log-key.txt")
	if err := os.WriteFile(kept, logKey, 0o600); err != nil {
		t.Fatal(err)
	}
	e.portal.stop()
	e.signer.stop()
	v.stop()
	for _, path := range []string{state, pin} {
		if err := os.Rename(path, path+".lost"); err != nil {
			t.Fatal(err)
		}
	}
	v.forge()
	v.start()
	restore := []string{"--config", e.config, "backup", "restore", "--from", v.address, "--identity", identity}
	refusesTo(t, "is not signed by the key of the token", append(restore, "--code", v.allow())...)
	refusesTo(t, "is not signed by the log's key that you kept", append(restore, "--code", v.allow(), "--log-key", kept)...)
	for _, path := range []string{state, state + ".restoring", pin} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("a restore that was refused left %s: %v", path, err)
		}
	}
}
