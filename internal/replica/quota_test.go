package replica

import (
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

func (b *backup) toldOf(kind AlarmKind, text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.alarms, func(a Alarm) bool { return a.Kind == kind && strings.Contains(a.Text, text) })
}

// TestQuota: a log that fills its share of the disk is stopped there, after the operator was told; nobody else is, heartbeats go on, what is counted survives a restart,
// and with a larger share it goes on from where it stopped.
func TestQuota(t *testing.T) {
	const other = "other.example/log"
	peers := []Peer{peerOf(t, testOrigin), peerOf(t, other)}
	peers[0].Quota = 1 << 20
	dir := t.TempDir()
	b := startBackup(t, backupOptions{dir: dir, peers: peers})
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	stop := run(t, s)
	size := func() uint64 { n, _ := p.log.Head(); return n }
	big := func(n int) string { return strings.Repeat(string(rune('a'+n)), 200<<10) }
	for n := range 4 {
		p.sign(big(n))
	}
	waitFor(t, s, size())
	b.rcv.check()
	if b.toldOf(AlarmDisk, "may have") {
		t.Error("told too early")
	}
	for n := range 3 {
		p.sign(big(n))
	}
	eventually(t, "refused", func() bool { return fault.CodeOf(s.Status().Problem) == "" && s.Status().Problem != nil })
	if st := s.Status(); fault.KindOf(st.Problem) != fault.Unavailable || !strings.Contains(fault.PublicOf(st.Problem), "its share of the backup's disk") || st.Stopped {
		t.Errorf("%+v", st)
	}
	b.rcv.check()
	b.rcv.check()
	if !b.toldOf(AlarmDisk, "may have") {
		t.Error("nobody is told")
	}
	q := openPrimary(t, t.TempDir(), other)
	free := q.shipper(b, nil)
	run(t, free)
	for n := range 8 {
		q.sign(big(n))
	}
	waitFor(t, free, 8)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.stop()

	b = startBackup(t, backupOptions{dir: dir, peers: peers})
	c := b.client("client "+testOrigin, testOrigin)
	if err := c.put(t.Context(), strings.Repeat("0", 64), 400<<10, strings.NewReader(big(1)+big(2))); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("after a restart: %v", err)
	}
	b.stop()
	peers[0].Quota = 8 << 20
	b = startBackup(t, backupOptions{dir: dir, peers: peers})
	s = p.shipper(b, nil)
	run(t, s)
	waitFor(t, s, size())
	if _, err := b.rcv.Verify(t.Context(), testOrigin); err != nil {
		t.Error(err)
	}
}

func TestLowSpace(t *testing.T) {
	b := startBackup(t, backupOptions{dir: t.TempDir()})
	told := false
	for _, step := range []struct {
		free uint64
		want int
	}{{100, 0}, {99, 1}, {1, 1}, {500, 1}, {50, 2}} {
		told = b.rcv.lowSpace(step.free, 1000, told)
		b.mu.Lock()
		n := len(b.alarms)
		b.mu.Unlock()
		if n != step.want {
			t.Errorf("%d of 1000 free: %d alarms, want %d", step.free, n, step.want)
		}
	}
}
