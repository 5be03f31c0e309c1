package ca_test

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// fill records n certificates: one real one, under other serials and names, many lines at a time so that they share their fsync.
func (m *machine) fill(n int) {
	m.t.Helper()
	size, _ := m.ledger.Head()
	m.issue(doctor("north", "Ann Good"))
	line, err := m.ledger.Read(size)
	if err != nil {
		m.t.Fatal(err)
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range 256 {
		wg.Go(func() {
			for i := range next {
				var d map[string]any
				if err := json.Unmarshal(line.Details, &d); err != nil {
					m.t.Error(err)
					continue
				}
				d["serial"], d["clinic"] = fmt.Sprintf("%032x", i+1), fmt.Sprintf("clinic-%d", i%100)
				d["subject"].(map[string]any)["common_name"] = "Doctor " + letters(i)
				if _, err := m.ledger.Append(context.Background(), ledger.Event{Type: line.Type, Actor: "admin", Details: d}); err != nil {
					m.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// letters counts in letters, which a name may have where digits look odd.
func letters(i int) string {
	if i < 26 {
		return string(rune('A' + i))
	}
	return letters(i/26-1) + string(rune('a'+i%26))
}

// TestStartWithTenThousandCertificates holds the goal: less than a second of a processor's time, whatever else the machine does, with an index that is there, and memory
// in proportion. How long it takes on a clock, vmtests.TestColdStart holds on a machine of its own.
func TestStartWithTenThousandCertificates(t *testing.T) {
	m := newAppliance(t)
	m.fill(10_000)
	m.close()
	m.ca = nil
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start, used := time.Now(), cpuTime(t)
	if err := m.tryOpen(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	used = cpuTime(t) - used
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("start with 10,000 certificates: %v, %v of a processor, %d KB", took, used, heap>>10)
	if used > time.Second || heap > 64<<20 {
		t.Errorf("start took %v of a processor and %d KB", used, heap>>10)
	}
	if _, err := m.ca.ByName("clinic-7", "Doctor "+letters(7)); err != nil {
		t.Error(err)
	}
}

// cpuTime is what this process has used, user and system.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkOCSP(b *testing.B) {
	m, _ := newHardAppliance(b)
	c, err := m.ca.Issue(context.Background(), doctor("north", "Ann Good"))
	if err != nil {
		b.Fatal(err)
	}
	chain, err := m.ca.Chain(c.Serial)
	if err != nil {
		b.Fatal(err)
	}
	id, err := cert.NewCertID(crypto.SHA1, chain[1], chain[0].SerialNumber)
	if err != nil {
		b.Fatal(err)
	}
	for name, nonce := range map[string][]byte{"nonce": []byte("0123456789abcdef"), "repeated": nil} {
		der, err := cert.OCSPRequest{CertIDs: []cert.CertID{id}, Nonce: nonce}.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if r := m.ca.OCSP(context.Background(), der); len(r) < 100 {
						b.Fatalf("%x", r)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
		})
	}
}

func BenchmarkMaterial(b *testing.B) {
	m, _ := newHardAppliance(b)
	c, err := m.ca.Issue(context.Background(), doctor("north", "Ann Good"))
	if err != nil {
		b.Fatal(err)
	}
	tsa, err := m.ca.TimeStamper()
	if err != nil {
		b.Fatal(err)
	}
	leaf := parse(b, c.DER)
	for b.Loop() {
		if _, err := m.ca.Material(context.Background(), leaf, tsa.Certificate); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSigner(b *testing.B) {
	m, _ := newHardAppliance(b)
	c, err := m.ca.Issue(context.Background(), doctor("north", "Ann Good"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		found, err := m.ca.ByName("north", "Ann Good")
		if err != nil || found.Serial != c.Serial {
			b.Fatal(err)
		}
		if err := m.ca.Usable(c.Serial); err != nil {
			b.Fatal(err)
		}
		if _, err := m.ca.Signer(context.Background(), c.Serial); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	m, _ := newHardAppliance(b)
	n := 0
	for b.Loop() {
		n++
		if _, err := m.ca.Issue(context.Background(), doctor("north", "Doctor "+letters(n))); err != nil {
			b.Fatal(err)
		}
	}
}
