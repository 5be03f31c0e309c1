package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Waits between two attempts to open an appliance whose disk is full or does not work: each twice the one before.
const (
	firstWait   = time.Second
	longestWait = time.Minute
	roomLook    = time.Second // between two looks for room: with it there is no more waiting
)

// openSigner opens the appliance and puts on record that it is up. On systemd's sockets it does not give up because of the disk, to be started anew each second:
// it tries again by itself, ever less often, and says meanwhile to everybody who asks why nothing can be done. The manager need not know of that.
func openSigner(ctx context.Context, cfg signer.Config, on []*net.UnixListener, beside supervised) (*signer.Signer, error) {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		s, err := signer.Open(ctx, cfg)
		if err == nil {
			if err = s.Begun(ctx); err == nil {
				return s, nil
			}
			err = errors.Join(err, s.Close())
		}
		if on == nil || !ofTheDisk(err) {
			return nil, err
		}
		beside.log.ErrorContext(ctx, "cannot begin, and tries again by itself", "error", err, "hint", fault.HintOf(err), "at_the_latest_in", wait)
		beside.notify(fmt.Sprintf("STATUS=cannot begin: %s", fault.PublicOf(err)))
		if err := refuse(ctx, err, on, cfg.StateDir, wait, beside.log); err != nil {
			return nil, err
		}
	}
}

// ofTheDisk reports whether err is what a disk says that is full or does not work.
func ofTheDisk(err error) bool {
	return durable.Full(err) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// refuse answers everything on the sockets with why, until it is time to try again.
func refuse(ctx context.Context, why error, on []*net.UnixListener, dir string, wait time.Duration, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	portal, admin := signer.Refused(why)
	done := make(chan error, 2)
	for n, table := range []map[wire.Op]wire.Handler{portal, admin} {
		f, err := on[n].File() // the end of the serving closes its own
		if err != nil {
			return fmt.Errorf("systemd's socket: %w", err)
		}
		l, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("systemd's socket: %w", err)
		}
		go func() { done <- wire.Serve(ctx, l.(*net.UnixListener), table, nil) }()
	}
	look := time.NewTicker(roomLook)
	defer look.Stop()
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			waiting = false
		case <-look.C:
			if free, err := durable.Room(dir); err == nil && durable.Full(why) && free >= signer.LeastRoom {
				log.InfoContext(ctx, "there is room again", "bytes", free)
				waiting = false
			}
		}
	}
	cancel()
	err := errors.Join(<-done, <-done)
	return err
}
