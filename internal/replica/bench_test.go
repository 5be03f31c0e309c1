package replica

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/ledger"
)

var (
	entries     = flag.Int("entries", 100_000, "how many lines BenchmarkCatchUp ships")
	childFolder = flag.String("child-receiver", "", "be a receiver over this folder: what the benchmarks start as another process")
)

// TestMain is the receiver of the benchmarks when it is asked to be.
func TestMain(m *testing.M) {
	flag.Parse()
	if *childFolder == "" {
		os.Exit(m.Run())
	}
	if err := serveChild(*childFolder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveChild(dir string) error {
	id, err := NewIdentity(keyOf("receiver"))
	if err != nil {
		return err
	}
	rcv, err := NewReceiver(ReceiverConfig{Dir: dir, Identity: id, Name: "backup.example", Key: keyOf("cosigner"), Now: time.Now})
	if err != nil {
		return err
	}
	var t testing.T
	if err := rcv.SetPeers([]Peer{peerOf(&t, testOrigin)}); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(ln.Addr())
	return errors.Join(rcv.Serve(ctx, ln), rcv.Close())
}

// child is a receiver in a process of its own.
type child struct {
	cmd  *exec.Cmd
	addr string
}

func startChild(t testing.TB, dir string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], "-child-receiver", dir)}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		if err := c.cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c.addr = strings.TrimSpace(line)
	return c
}

func (c *child) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", c.addr)
}

// peak returns the most memory that the process ever had, in MiB.
func (c *child) peak(t testing.TB) float64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func (c *child) shipper(t testing.TB, p *primary) *Shipper {
	t.Helper()
	s, err := NewShipper(ShipperConfig{
		ClientConfig: ClientConfig{Origin: p.origin, Identity: identityOf(t, "client "+p.origin), Server: identityOf(t, "receiver").Pin(), Dial: c.dial},
		Log:          p.log, Objects: p.objs, Key: keyOf("log " + p.origin), Keys: []chain.WitnessKey{cosignerKey(t)}, Store: &memoryStore{}, Now: time.Now, Rand: testRand(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// BenchmarkShip: entries/s from 256 clients that each wait for the cosignature of its line; ledger and receiver both sync, in two processes.
func BenchmarkShip(b *testing.B) {
	p := openPrimary(b, b.TempDir(), testOrigin)
	c := startChild(b, b.TempDir())
	s := c.shipper(b, p)
	run(b, s)
	const clients = 256
	b.ResetTimer()
	began := time.Now()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range clients {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				r, err := p.log.Append(context.Background(), ledger.Event{Type: "bench", Actor: "bench", Details: benchDetails})
				if err == nil {
					_, err = s.Wait(context.Background(), r.Seq+1)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "per_s")
	b.ReportMetric(c.peak(b), "receiver_mib")
}

var benchDetails = map[string]any{"prescription_id": "RX-000134", "actor_sub": "f3b1c9d2-6f0e-4f5b-9a53-0d4cf1f4a6e1", "actor_acr": "gold",
	"actor_ip": "203.0.113.17", "pdf_sha256": "866c53b564c94ea106fdf0c1fbc170b9fb2f48abfaa6a336ac749072c5084283"}

// BenchmarkSynced: one client, one line at a time; with the time that the line alone takes.
func BenchmarkSynced(b *testing.B) {
	for _, object := range []bool{false, true} {
		b.Run(map[bool]string{false: "line", true: "object"}[object], func(b *testing.B) {
			p := openPrimary(b, b.TempDir(), testOrigin)
			c := startChild(b, b.TempDir())
			s := c.shipper(b, p)
			run(b, s)
			var local time.Duration
			for b.Loop() {
				began := time.Now()
				if object {
					p.sign("content")
				} else {
					p.tick(1)
				}
				local += time.Since(began)
				size, _ := p.log.Head()
				if _, err := s.Wait(context.Background(), size); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(local.Seconds()*1000/float64(b.N), "local_ms")
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "synced_ms")
		})
	}
}

// BenchmarkCatchUp: a backup that has nothing gets a log of -entries lines; then the receiver starts over that copy.
func BenchmarkCatchUp(b *testing.B) {
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		b.Fatal(err)
	}
	writeLog(b, filepath.Join(dir, "log", LogFile), *entries)
	p := openPrimary(b, dir, testOrigin)
	for b.Loop() {
		folder := b.TempDir()
		c := startChild(b, folder)
		s := c.shipper(b, p)
		began := time.Now()
		stop := run(b, s)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		if _, err := s.Wait(ctx, uint64(*entries)); err != nil {
			b.Fatal(err)
		}
		cancel()
		b.ReportMetric(time.Since(began).Seconds(), "total_s")
		b.ReportMetric(float64(*entries)/time.Since(began).Seconds(), "per_s")
		b.ReportMetric(c.peak(b), "receiver_mib")
		if err := stop(); err != nil {
			b.Fatal(err)
		}
		again := copyTree(b, folder)
		began = time.Now()
		rcv, err := NewReceiver(ReceiverConfig{Dir: again, Identity: identityOf(b, "receiver"), Name: "backup.example", Key: keyOf("cosigner"), Now: time.Now})
		if err == nil {
			err = rcv.SetPeers([]Peer{peerOf(b, testOrigin)})
		}
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "restart_s")
		if err := rcv.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// writeLog writes a log of n lines.
func writeLog(t testing.TB, path string, n int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var prev chain.Hash
	var line []byte
	details := []byte(`{"actor_acr":"gold","actor_ip":"203.0.113.17","actor_sub":"f3b1c9d2-6f0e-4f5b-9a53-0d4cf1f4a6e1","prescription_id":"RX-000134"}`)
	for i := range n {
		if line, prev, err = chain.AppendLine(line[:0], prev, chain.Entry{Time: time.UnixMicro(1e15 + int64(i)), EventType: "bench", Actor: "bench", Details: details}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// countFS counts what reaches the disk.
type countFS struct {
	durable.OS
	syncs *atomic.Int64
}

type countFile struct {
	durable.File
	syncs *atomic.Int64
}

type countVolume struct {
	durable.Volume
	syncs *atomic.Int64
}

func (c countFS) Open(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := c.OS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return countFile{f, c.syncs}, nil
}

func (c countFS) SyncDir(dir string) error {
	c.syncs.Add(1)
	return c.OS.SyncDir(dir)
}

func (c countFS) Volume(dir string) (durable.Volume, error) {
	v, err := c.OS.Volume(dir)
	return countVolume{v, c.syncs}, err
}

func (c countFile) Sync() error {
	c.syncs.Add(1)
	return c.File.Sync()
}

func (c countVolume) Sync() error {
	c.syncs.Add(1)
	return c.Volume.Sync()
}

// TestSyncedCost says what one synced act costs the backup: two syncs for its line (line, state), one more for its object. docs/performance.md says
// the same.
func TestSyncedCost(t *testing.T) {
	var syncs atomic.Int64
	b := startBackup(t, backupOptions{dir: t.TempDir(), fs: countFS{syncs: &syncs}})
	p := openPrimary(t, t.TempDir(), testOrigin)
	s := p.shipper(b, nil)
	s.cfg.Heartbeat = time.Hour
	run(t, s)
	p.tick(1)
	waitFor(t, s, 1)
	for _, act := range []struct {
		name string
		do   func()
		want int64
	}{{"a line", func() { p.tick(1) }, 2}, {"a line with an object", func() { p.sign("x") }, 3}, {"a line again", func() { p.tick(1) }, 2}} {
		before := syncs.Load()
		act.do()
		size, _ := p.log.Head()
		waitFor(t, s, size)
		if got := syncs.Load() - before; got != act.want {
			t.Errorf("%s: %d syncs, want %d", act.name, got, act.want)
		}
	}
}
