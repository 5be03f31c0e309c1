package signer_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// BenchmarkPrescription is one prescription over the portal's socket, from the token to the answer, the portal's part (digests, embedding) included.
func BenchmarkPrescription(b *testing.B) {
	h := newHouse(b, signer.ServerConfig{})
	h.policy(b, "a", func(p *wire.Policy) { p.SignaturesPerToken, p.SignaturesPerMinute = 1_000_000, 1_000_000 })
	token := h.token(b, nil)
	var n atomic.Int64
	for _, clients := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			b.SetParallelism((clients + 1) / 2) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, _, err := h.portal.sign(b.Context(), wanted(token, fmt.Sprintf("B-%d", n.Add(1)))); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prescriptions/s")
		})
	}
}
