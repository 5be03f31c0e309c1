package token

import (
	"crypto"
	"crypto/sha256"
	"fmt"
	"testing"
)

// benchmarkSigner measures s at 1 and 32 goroutines, in signatures per second.
func benchmarkSigner(b *testing.B, s crypto.Signer, goroutines int) {
	digest := sha256.Sum256([]byte("benchmark"))
	b.SetParallelism(goroutines)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sig/s")
}

func BenchmarkSign(b *testing.B) {
	tok := openNew(b, Config{})
	signers := map[string]crypto.Signer{}
	order := []string{}
	for _, a := range []Algorithm{ECDSAP256, ECDSAP384, RSA3072} {
		k, err := tok.Generate(KeySpec{Label: a.String(), ID: []byte(a.String()), Algorithm: a})
		if err != nil {
			b.Fatal(err)
		}
		wrapped, pub, err := tok.GenerateWrapped(a)
		if err != nil {
			b.Fatal(err)
		}
		signers[a.String()], signers["wrapped-"+a.String()] = k, tok.WrappedSigner(wrapped, pub)
		order = append(order, a.String(), "wrapped-"+a.String())
	}
	for _, name := range order {
		b.Run(name+"/1", func(b *testing.B) { benchmarkSerial(b, signers[name]) })
		b.Run(name+"/32", func(b *testing.B) { benchmarkSigner(b, signers[name], 16) })
	}
}

func benchmarkSerial(b *testing.B, s crypto.Signer) {
	digest := sha256.Sum256([]byte("benchmark"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sig/s")
}

func BenchmarkSeal(b *testing.B) {
	tok := openNew(b, Config{})
	key := make([]byte, objectKeySize)
	sealed, err := tok.SealKey(key)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		for b.Loop() {
			if _, err := tok.SealKey(key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := tok.OpenKey(sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
	_ = fmt.Sprint()
}
