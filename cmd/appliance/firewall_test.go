package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// TestHangup: when the terminal is gone, what changes the machine hears of it and can undo its half; under nohup it goes on.
func TestHangup(t *testing.T) {
	// Whatever else becomes of the signal, it does not end this process.
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	hangUp := func(ctx context.Context, within time.Duration) bool {
		t.Helper()
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(within):
			return false
		}
	}
	ctx, stop := untilHangup(t.Context())
	defer stop()
	if !hangUp(ctx, 20*time.Second) {
		t.Error("it does not hear that the terminal is gone")
	}
	signal.Ignore(syscall.SIGHUP)
	ctx, stop = untilHangup(t.Context())
	defer stop()
	if hangUp(ctx, 500*time.Millisecond) {
		t.Error("under nohup it ends all the same")
	}
}
