package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/veripath/aes-appliance/internal/fault"
)

// supervised is what a service manager deals with beside what a process answers.
type supervised struct {
	log     *slog.Logger
	healthy func() error                    // asked before the watchdog is told that the process lives
	reload  func(ctx context.Context) error // on SIGHUP; on an error the old configuration stays
}

// beside tells systemd that the process lives and when it stops, and reloads on SIGHUP, until ctx ends; ended is closed when that is over.
func (s supervised) beside(ctx context.Context) (ended <-chan struct{}) {
	done := make(chan struct{})
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		defer close(done)
		defer signal.Stop(hangup)
		var watch <-chan time.Time
		if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
			t := time.NewTicker(interval / 3)
			defer t.Stop()
			watch = t.C
		}
		for {
			select {
			case <-ctx.Done():
				s.notify(daemon.SdNotifyStopping)
				return
			case <-watch:
				if s.healthy() == nil {
					s.notify(daemon.SdNotifyWatchdog)
				}
			case <-hangup:
				s.reloaded(ctx)
			}
		}
	}()
	return done
}

// reloaded takes up a changed configuration. sd_notify(3): RELOADING comes with the time at which it began, and READY when it is over.
func (s supervised) reloaded(ctx context.Context) {
	s.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	if err := s.reload(ctx); err != nil {
		s.log.ErrorContext(ctx, "the configuration was not taken up: the old one stays", "error", err)
	} else {
		s.log.InfoContext(ctx, "configuration taken up")
	}
	s.notify(daemon.SdNotifyReady)
}

// ready tells systemd that a service has begun.
func (a *app) ready(s supervised) {
	a.begun.Store(true)
	if a.failures != nil {
		_, _ = a.failures.WriteAt([]byte{0}, 0) // it is memory
	}
	s.notify(daemon.SdNotifyReady)
}

// notify tells systemd; without it this does nothing.
func (s supervised) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd was not told", "state", state, "error", err)
	}
}

// given takes systemd's sockets (sd_listen_fds(3)), one of each name; nil when it gives none.
func given(names ...string) (map[string]net.Listener, error) {
	found, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "systemd's sockets cannot be taken").WithCause(err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	taken := map[string]net.Listener{}
	for _, name := range names {
		if len(found[name]) != 1 || found[name][0] == nil {
			return nil, fault.New(fault.Invalid, "systemd gives no socket named "+name+", or several").
				WithHint(fmt.Sprintf("FileDescriptorName= in the socket units is one of %q, each once", names))
		}
		taken[name] = found[name][0]
		delete(found, name)
	}
	for name := range found {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("systemd gives a socket named %.40q, which nobody serves", name)).
			WithHint(fmt.Sprintf("FileDescriptorName= in the socket units is one of %q, each once", names))
	}
	return taken, nil
}

// givenUnix is a socket of systemd's at path, which nobody beyond mode can connect to: who may is decided by the unit then, and a slip there
// would open the signer to every user of the machine.
func givenUnix(l net.Listener, path string, mode os.FileMode) (*net.UnixListener, error) {
	u, ok := l.(*net.UnixListener)
	if !ok || u.Addr().String() != path {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("systemd's socket is %s, and the configuration names %s", l.Addr(), path)).
			WithHint("give ListenStream= in the socket unit and the configuration the same path")
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "systemd's socket "+path+" cannot be looked at").WithCause(err)
	}
	if wide := info.Mode().Perm() &^ mode; wide != 0 {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("systemd's socket %s has mode %04o, and may have %04o at most", path, info.Mode().Perm(), mode)).
			WithHint(fmt.Sprintf("set SocketMode=%04o in the socket unit", mode))
	}
	return u, nil
}
