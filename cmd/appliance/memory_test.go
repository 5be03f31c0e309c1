package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemoryIsGivenBack: what a busy time left on the heap is collected once the process is idle, though the heap is far from where collecting begins.
func TestMemoryIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tuneMemory(ctx)
		runtime.GC()
		var kept [][]byte
		for range 64 {
			kept = append(kept, make([]byte, 64<<10))
		}
		runtime.KeepAlive(kept)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		kept = nil
		time.Sleep(4 * idleInterval)
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if after.NumForcedGC == before.NumForcedGC {
			t.Errorf("idle for %v, and nothing was given back of %d KiB", 4*idleInterval, before.HeapAlloc>>10)
		}
	})
}
