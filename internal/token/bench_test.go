package token

import (
	"crypto"
	"crypto/sha256"
	"syscall"
	"testing"
	"time"
)

// measure runs f b.N times on 1 or on many goroutines and reports what it costs in CPU time (of Go and of the module, which wall time on a
// busy machine does not show) and how often a second it runs.
func measure(b *testing.B, goroutines int, f func() error) {
	b.SetParallelism(goroutines) // per core
	b.ReportAllocs()
	start := cpuTime(b)
	if goroutines == 1 {
		for b.Loop() {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
	} else {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.ReportMetric(float64(cpuTime(b)-start)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSign(b *testing.B) {
	tok := openNew(b)
	digest := sha256.Sum256([]byte("benchmark"))
	for _, a := range []Algorithm{ECDSAP256, ECDSAP384, RSA3072} {
		wrapped, pub, err := tok.GenerateWrapped(a)
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range []struct {
			name string
			crypto.Signer
		}{{a.String(), generate(b, tok, a.String(), a)}, {"wrapped-" + a.String(), tok.WrappedSigner(wrapped, pub)}} {
			sign := func() error {
				_, err := s.Sign(nil, digest[:], crypto.SHA256)
				return err
			}
			b.Run(s.name+"/1", func(b *testing.B) { measure(b, 1, sign) })
			b.Run(s.name+"/32", func(b *testing.B) { measure(b, 16, sign) })
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	tok := openNew(b)
	key := make([]byte, objectKeySize)
	sealed, err := tok.SealKey(key)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		measure(b, 1, func() error { _, err := tok.SealKey(key); return err })
	})
	b.Run("open", func(b *testing.B) {
		measure(b, 1, func() error { _, err := tok.OpenKey(sealed); return err })
	})
}

func BenchmarkOpen(b *testing.B) {
	cfg := initNew(b)
	measure(b, 1, func() error {
		tok, err := Open(b.Context(), cfg)
		if err != nil {
			return err
		}
		return tok.Close()
	})
}
