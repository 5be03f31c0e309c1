package replica

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// TestRotation changes each of the keys in turn, the new one made known to the other side before it is used and the old one taken away after; no line is
// lost, and what the old keys signed stays verifiable.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	p := openPrimary(t, t.TempDir(), testOrigin)
	newLogKey, err := chain.VerifierKey(testOrigin, keyOf("new log key").Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	newCosigner, err := chain.NewCosigner("backup.example", keyOf("new cosigner"))
	if err != nil {
		t.Fatal(err)
	}
	oldLogKey := logKeyOf(t, testOrigin)
	store := &memoryStore{}
	lines := uint64(0)
	for _, step := range []struct {
		what               string
		logKeys            []string
		clients            []string
		key, client        string
		oldKeys            []string
		cosigner, identity string
		trusted            []chain.WitnessKey
	}{
		{"as enrolled", []string{oldLogKey}, []string{"old"}, "log " + testOrigin, "old", nil, "cosigner", "receiver", []chain.WitnessKey{cosignerKey(t)}},
		{"a new client key", []string{oldLogKey}, []string{"old", "new"}, "log " + testOrigin, "new", nil, "cosigner", "receiver", []chain.WitnessKey{cosignerKey(t)}},
		{"a new log key", []string{oldLogKey, newLogKey}, []string{"new"}, "new log key", "new", []string{oldLogKey}, "cosigner", "receiver", []chain.WitnessKey{cosignerKey(t)}},
		{"the old log key gone", []string{newLogKey}, []string{"new"}, "new log key", "new", nil, "cosigner", "receiver", []chain.WitnessKey{cosignerKey(t)}},
		{"a new cosigner", []string{newLogKey}, []string{"new"}, "new log key", "new", nil, "new cosigner", "receiver", []chain.WitnessKey{newCosigner.Key(), cosignerKey(t)}},
		{"a new identity", []string{newLogKey}, []string{"new"}, "new log key", "new", nil, "new cosigner", "new receiver", []chain.WitnessKey{newCosigner.Key()}},
	} {
		peer := Peer{Origin: testOrigin, LogKeys: step.logKeys}
		for _, c := range step.clients {
			peer.Clients = append(peer.Clients, identityOf(t, c).Pin())
		}
		b := startBackup(t, backupOptions{dir: dir, peers: []Peer{peer}, identity: step.identity, cosigner: step.cosigner})
		s, err := NewShipper(ShipperConfig{
			ClientConfig: ClientConfig{Origin: testOrigin, Identity: identityOf(t, step.client), Server: identityOf(t, step.identity).Pin(), Dial: b.dial},
			Log:          p.log, Objects: p.objs, Key: keyOf(step.key), OldKeys: step.oldKeys, Keys: step.trusted, Store: store,
			Heartbeat: 50 * time.Millisecond, Now: time.Now, Rand: testRand(),
		})
		if err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		stop := run(t, s)
		p.tick(3)
		lines += 3
		c := waitFor(t, s, lines)
		// The state is the new key's from the next heartbeat on: only then may the old one go.
		eventually(t, "a cosignature by the newest key", func() bool {
			_, by, err := chain.OpenCosigned(s.Last().Note, testOrigin, step.logKeys[len(step.logKeys)-1], step.trusted[0])
			return err == nil && len(by) == 1 && s.Last().Time.After(c.Time)
		})
		if err := stop(); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		if got := b.refusals(); len(got) > 0 {
			t.Errorf("%s: %v", step.what, got)
		}
		b.stop()
	}
	if !bytes.Equal(copyOf(t, dir, testOrigin), exported(t, p.log)) {
		t.Error("the copy is not the log")
	}
}

// TestUnknownLogKey: a key that the receiver does not know yet is refused and tried again; it ships once it is known.
func TestUnknownLogKey(t *testing.T) {
	other := peerOf(t, testOrigin)
	var err error
	if other.LogKeys[0], err = chain.VerifierKey(testOrigin, keyOf("another").Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	b := startBackup(t, backupOptions{dir: t.TempDir(), peers: []Peer{other}})
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	run(t, s)
	p.tick(1)
	eventually(t, "a refusal", func() bool {
		var refused *Refusal
		return errors.As(s.Status().Problem, &refused) && refused.Kind == RefusedSignature && !s.Status().Stopped
	})
	if err := b.rcv.SetPeers([]Peer{peerOf(t, testOrigin)}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, s, 1)
}

// TestDeadBackup: without a backup Wait gives up in time, nothing stops for good, and shipping begins by itself when it comes back.
func TestDeadBackup(t *testing.T) {
	dir := t.TempDir()
	b := startBackup(t, backupOptions{dir: dir})
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	b.stop()
	run(t, s)
	p.tick(1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Wait(ctx, 1); fault.KindOf(err) != fault.Unavailable || fault.HintOf(err) == "" {
		t.Errorf("waiting: %v", err)
	}
	if _, err := s.Compare(t.Context()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("comparing: %v", err)
	}
	if st := s.Status(); st.Connected || st.Stopped || st.Lag != 1 || fault.KindOf(st.Problem) != fault.Unavailable {
		t.Errorf("status: %+v", st)
	}
	again := startBackup(t, backupOptions{dir: dir})
	b.mu.Lock()
	b.ln = again.ln
	b.mu.Unlock()
	waitFor(t, s, 1)
}

// TestOnePeerCannotStarveAnother: a primary that begins requests and does not go on with them takes its own places, not those of others.
func TestOnePeerCannotStarveAnother(t *testing.T) {
	const slow = "slow.example/log"
	b := startBackup(t, backupOptions{dir: t.TempDir(), peers: []Peer{peerOf(t, testOrigin), peerOf(t, slow)}})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var bodies []*io.PipeWriter
	for range 3 {
		c := b.client("client "+slow, slow)
		for i := range 20 {
			r, w := io.Pipe()
			bodies = append(bodies, w)
			path := "/append"
			method := http.MethodPost
			if i%2 == 0 {
				path, method = "/objects/"+LogID("a")+LogID("b"), http.MethodPut
			}
			go func() {
				resp, err := c.do(ctx, method, path, 1<<20, r)
				if err == nil {
					resp.Body.Close()
				}
			}()
		}
	}
	// And half-open connections that never say anything.
	for range 20 {
		conn, err := net.Dial("tcp", b.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	time.Sleep(100 * time.Millisecond)
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	run(t, s)
	p.tick(50)
	p.sign("content")
	waitFor(t, s, 51)
	cancel()
	for _, w := range bodies {
		w.Close()
	}
}

// TestAppendOnlyFiles: where the file system can hold the files append-only and this process may ask for it, nothing but appending works; where not, that
// shows. Either way a torn tail is dealt with and shipping goes on.
func TestAppendOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, LogID(testOrigin), LogFile)
	t.Cleanup(func() {
		_ = setAppendOnly(path, false)
		_ = setAppendOnly(filepath.Join(filepath.Dir(path), RefusalsFile), false)
	})
	p := openPrimary(t, t.TempDir(), testOrigin)
	for range 2 {
		b := startBackup(t, backupOptions{dir: dir, appendOnly: true})
		s := p.shipper(b, nil)
		stop := run(t, s)
		p.tick(3)
		size, _ := p.log.Head()
		waitFor(t, s, size)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		is, err := AppendOnly(path)
		if err != nil || b.rcv.Status()[0].AppendOnly != is {
			t.Errorf("the status says %v: %v %v", b.rcv.Status()[0].AppendOnly, is, err)
		}
		t.Logf("append-only: %v", is)
		if is && (os.Truncate(path, 0) == nil || os.Remove(path) == nil || os.WriteFile(path, nil, 0o600) == nil) {
			t.Error("an append-only file was changed")
		}
		b.stop()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("half a li"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	startBackup(t, backupOptions{dir: dir, appendOnly: true}).stop()
	if !bytes.Equal(copyOf(t, dir, testOrigin), exported(t, p.log)) {
		t.Error("the copy is not the log")
	}
	if aside, err := filepath.Glob(path + ".aside-*"); err != nil || len(aside) != 2 {
		t.Errorf("set aside: %v %v", aside, err)
	}
}

// TestRottenLog: what the primary's disk makes of lines before they are shipped is not signed, and not sent.
func TestRottenLog(t *testing.T) {
	for name, change := range map[string]func(line []byte) []byte{
		"a byte": func(line []byte) []byte {
			line[len(line)/2] ^= 1
			return line
		},
		"another line with a right hash": func(line []byte) []byte {
			e := entriesOf(t, line)
			e[0].Actor = "tesT"
			prev, err := chain.ParseLine(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil {
				t.Fatal(err)
			}
			out, _, err := chain.AppendLine(nil, prev.Prev, e[0])
			if err != nil {
				t.Fatal(err)
			}
			return append(out, '\n')
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBackup(t, backupOptions{dir: t.TempDir()})
			dir := t.TempDir()
			p := openPrimary(t, dir, testOrigin)
			p.tick(3)
			path := filepath.Join(dir, "log", LogFile)
			log, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			last := bytes.LastIndexByte(log[:len(log)-1], '\n') + 1
			if err := os.WriteFile(path, append(bytes.Clone(log[:last]), change(bytes.Clone(log[last:]))...), 0o600); err != nil {
				t.Fatal(err)
			}
			s := p.shipper(b, nil)
			run(t, s)
			eventually(t, "it is found", func() bool { return fault.KindOf(s.Status().Problem) == fault.Corrupt })
			if st := b.rcv.Status()[0]; st.Size != 0 || st.Refusals != 0 {
				t.Errorf("something of it was sent: %+v", st)
			}
			if err := os.WriteFile(path, log, 0o600); err != nil {
				t.Fatal(err)
			}
			waitFor(t, s, 3)
		})
	}
}
