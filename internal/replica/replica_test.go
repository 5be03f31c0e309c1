package replica

import (
	"bytes"
	"io"
	"testing"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// TestShip: lines and objects arrive, what is reported as cosigned is, shipping goes on after either side restarts, and everything can be read back.
func TestShip(t *testing.T) {
	dir := t.TempDir()
	p := openPrimary(t, t.TempDir(), testOrigin)
	b := startBackup(t, backupOptions{dir: dir})
	store := &memoryStore{}
	s := p.shipper(b, store)
	stop := run(t, s)
	p.tick(600)
	ids := []string{p.sign("one"), p.sign("two")}
	c := waitFor(t, s, 602)
	if want := p.log.Tree(); c.Tree != want {
		t.Errorf("cosigned %v, the log is %v", c.Tree, want)
	}
	cp, by, err := chain.OpenCosigned(c.Note, testOrigin, logKeyOf(t, testOrigin), b.rcv.Key())
	if err != nil || len(by) != 1 || cp.Tree != c.Tree || !by[0].Time.Equal(c.Time) {
		t.Errorf("the note: %+v %+v %v", cp, by, err)
	}
	if !bytes.Equal(copyOf(t, dir, testOrigin), exported(t, p.log)) {
		t.Error("the copy is not the log")
	}
	if st := s.Status(); !st.Connected || st.Lag != 0 || st.Size != 602 || st.Stopped || st.Problem != nil || st.Verdict.Relation != Equal && st.Verdict.Relation != Behind {
		t.Errorf("status: %+v", st)
	}
	// A heartbeat confirms the same lines anew.
	eventually(t, "a heartbeat", func() bool { return s.Last().Time.After(c.Time) && s.Last().Tree == c.Tree })

	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	p.tick(10)
	b = startBackup(t, backupOptions{dir: dir})
	s = p.shipper(b, store)
	if s.Last().Tree != c.Tree {
		t.Errorf("the store remembers %v", s.Last().Tree)
	}
	run(t, s)
	p.tick(10)
	waitFor(t, s, 622)
	if got := copyOf(t, dir, testOrigin); !bytes.Equal(got, exported(t, p.log)) {
		t.Error("the copy is not the log after a restart")
	}

	client := b.client("client "+testOrigin, testOrigin)
	for _, id := range ids {
		readObject(t, client, id)
	}
	held, err := client.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cp, _, err := chain.OpenCosigned(held, testOrigin, logKeyOf(t, testOrigin), b.rcv.Key()); err != nil || cp.Tree != p.log.Tree() {
		t.Errorf("the checkpoint that is held: %+v %v", cp, err)
	}
	for _, r := range [][2]uint64{{0, 622}, {0, 0}, {255, 257}, {300, 622}, {621, 622}, {622, 622}, {512, 600}} {
		lines, err := client.Lines(t.Context(), r[0], r[1])
		if err != nil {
			t.Fatal(r, err)
		}
		got, err := io.ReadAll(lines)
		lines.Close()
		var want bytes.Buffer
		if err := p.log.Export(t.Context(), &want, r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("lines %v: %d bytes, want %d, %v", r, len(got), want.Len(), err)
		}
	}
	if got := b.refusals(); len(got) > 0 {
		t.Errorf("refusals: %v", got)
	}
	if _, err := ledger.Verify(bytes.NewReader(copyOf(t, dir, testOrigin)), p.log.Tree()); err != nil {
		t.Error(err)
	}
}
