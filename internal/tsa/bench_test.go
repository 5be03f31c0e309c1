package tsa_test

import (
	"context"
	"crypto"
	"path/filepath"
	"testing"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/token"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// BenchmarkToken compares time-stamp tokens with bare signatures of the same P-256 key in SoftHSM2, at the same concurrency. The goal is
// 60 % of the bare rate.
func BenchmarkToken(b *testing.B) {
	key := tokenKey(b)
	cfg := config(newPKI(key, nil))
	var err error
	if cfg.Clock, err = clock.Open(clock.Config{Mode: clock.Unproven}); err != nil {
		b.Fatal(err)
	}
	authority := newTSA(b, cfg)
	imprint := imprintOf(crypto.SHA256, "data")
	request := marshal(b, tsp.Request{Imprint: imprint, CertReq: true})
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"bare", func() error { _, err := key.Sign(nil, imprint.Digest, crypto.SHA256); return err }},
		{"stamp", func() error { _, _, err := authority.Stamp(ctx, imprint); return err }},
		{"respond", func() error { authority.Respond(ctx, request); return nil }},
	} {
		b.Run(c.name+"/1", func(b *testing.B) { rate(b, 0, c.do) })
		b.Run(c.name+"/32", func(b *testing.B) { rate(b, 16, c.do) })
	}
}

// BenchmarkOverhead is what a token costs besides the signature.
func BenchmarkOverhead(b *testing.B) {
	cfg := config(pkis["P-256"]())
	cfg.Key = quickKey{cfg.Key}
	var err error
	if cfg.Clock, err = clock.Open(clock.Config{Mode: clock.Unproven}); err != nil {
		b.Fatal(err)
	}
	authority := newTSA(b, cfg)
	imprint := imprintOf(crypto.SHA256, "data")
	b.ReportAllocs()
	rate(b, 0, func() error { _, _, err := authority.Stamp(ctx, imprint); return err })
}

// rate runs do in per goroutines on each core, or in one when per is 0.
func rate(b *testing.B, per int, do func() error) {
	if per == 0 {
		for b.Loop() {
			if err := do(); err != nil {
				b.Fatal(err)
			}
		}
	} else {
		b.SetParallelism(per)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per_second")
}

// tokenKey makes a P-256 key in a SoftHSM2 token of its own.
func tokenKey(b *testing.B) crypto.Signer {
	b.Helper()
	cfg := token.Config{Dir: filepath.Join(b.TempDir(), "token"), Label: "bench", PIN: []byte("123456")}
	if err := token.Init(cfg, []byte("12345678")); err != nil {
		b.Fatal(err)
	}
	t, err := token.Open(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := t.Close(); err != nil {
			b.Error(err)
		}
	})
	key, err := t.Generate(token.KeySpec{Label: "tsa", ID: []byte("tsa"), Algorithm: token.ECDSAP256})
	if err != nil {
		b.Fatal(err)
	}
	return key
}

var _ tsa.Clock = (*clock.Clock)(nil)
