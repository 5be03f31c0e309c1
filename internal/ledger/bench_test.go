package ledger

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// benchDetails is about what a prescription_signed event holds.
func benchDetails(i int) map[string]any {
	return map[string]any{
		"prescription_id": fmt.Sprintf("RX-%d", i), "actor_sub": "0b8a7a1e-9a5c-4d2f-8f0e-1f0a9b1f7a11", "actor_acr": "2", "actor_ip": "192.0.2.17",
		"pdf_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "object": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
	}
}

// bigLog writes a log of n lines without fsync and returns its bytes.
func bigLog(b testing.TB, n int) []byte {
	b.Helper()
	var out []byte
	var s chain.State
	for i := range n {
		d, err := encodeDetails(benchDetails(i))
		if err != nil {
			b.Fatal(err)
		}
		at := start.Add(time.Duration(i) * time.Millisecond)
		line, h, err := chain.AppendLine(out, s.Head, chain.Entry{Time: at, EventType: "prescription_signed", Actor: "clinician:0b8a7a1e", Details: d})
		if err != nil {
			b.Fatal(err)
		}
		s.Head = h
		out = append(line, '\n')
	}
	return out
}

func BenchmarkVerify(b *testing.B) {
	const n = 200_000
	data := bigLog(b, n)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if rep, err := Verify(bytes.NewReader(data)); err != nil || rep.Size != n {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 8, 64, 256, 1024} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			p := newPlace(b)
			p.now = time.Now
			l, db := p.open()
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range clients {
				wg.Go(func() {
					for {
						i := int(next.Add(1))
						if i > b.N {
							return
						}
						if _, err := l.Append(context.Background(), Event{Type: "prescription_signed", Actor: "clinician:0b8a7a1e", Details: benchDetails(i)}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			b.StopTimer()
			closeBoth(b, l, db)
		})
	}
}

// BenchmarkOpen opens a log of a million lines with its index, and without.
func BenchmarkOpen(b *testing.B) {
	const n = 1_000_000
	p := newPlace(b)
	if err := os.Mkdir(filepath.Join(p.dir, "log"), 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(p.logPath(), bigLog(b, n), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("rebuild", func(b *testing.B) {
		for b.Loop() {
			if err := os.RemoveAll(p.indexPath()); err != nil {
				b.Fatal(err)
			}
			l, db := p.open()
			if size, _ := l.Head(); size != n {
				b.Fatal(size)
			}
			closeBoth(b, l, db)
		}
	})
	b.Run("present", func(b *testing.B) {
		for b.Loop() {
			l, db := p.open()
			closeBoth(b, l, db)
		}
	})
	b.Run("read", func(b *testing.B) {
		l, db := p.open()
		defer closeBoth(b, l, db)
		for i := 0; b.Loop(); i++ {
			if _, err := l.Read(uint64(i*7919) % n); err != nil {
				b.Fatal(err)
			}
		}
	})
}
