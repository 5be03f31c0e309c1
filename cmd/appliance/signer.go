package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) signerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "signer",
		Short: "Run the process that holds the keys and the log (systemd starts it)",
		Long: `Answers the portal on signer.portal_socket and the operator's commands on signer.admin_socket, until it is told to stop (SIGTERM): what is in
flight is finished then. SIGHUP reads again what can change while it runs: limits.pdf_bytes, portal.hosts, portal.tls, signer.admin_clinic.

It opens no network socket. Under systemd it says when it is ready, and its watchdog ends it when the log takes no more lines.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runSigner(cmd.Context()) },
	}
}

// serverSettings are what a running signer can take up anew.
func serverSettings(cfg config.Config) signer.Settings {
	s := signer.Settings{MaxDocument: cfg.Limits.PDFBytes, AdminClinic: cfg.Signer.AdminClinic}
	if cfg.Portal.TLS == config.TLSOwnCA {
		s.ListenerNames = cfg.Portal.Hosts
	}
	return s
}

func (a *app) runSigner(ctx context.Context) (err error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	pin, err := readPIN(cfg.Token.PINFile)
	if err != nil {
		return err
	}
	log := a.serviceLogger()
	s, err := signer.Open(ctx, signer.Config{Config: cfg, PIN: pin, Version: version, Log: log})
	clear(pin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return a.serveSigner(ctx, s, cfg, log)
}

// serveSigner answers on the sockets that cfg names until ctx ends.
func (a *app) serveSigner(ctx context.Context, s *signer.Signer, cfg config.Config, log *slog.Logger) error {
	portal, err := wire.Listen(wire.Socket{Path: cfg.Signer.PortalSocket, Mode: portalMode(cfg), Group: cfg.Signer.PortalGroup})
	if err != nil {
		return err
	}
	defer os.Remove(cfg.Signer.PortalSocket)
	defer portal.Close()
	admin, err := wire.Listen(wire.Socket{Path: cfg.Signer.AdminSocket, Mode: 0o600})
	if err != nil {
		return err
	}
	defer os.Remove(cfg.Signer.AdminSocket)
	defer admin.Close()

	v := signer.NewServer(s, signer.ServerConfig{
		Settings: serverSettings(cfg), Lifetime: cfg.Signer.OperationTime,
		Reload: func() (signer.Settings, error) {
			next, err := a.loadConfig()
			return serverSettings(next), err
		},
	})
	side, stop := context.WithCancel(ctx)
	ended := a.besides(side, v, s.Ledger(), log)
	notify(log, daemon.SdNotifyReady)
	lines, _ := s.Ledger().Head()
	log.InfoContext(ctx, "ready", "portal_socket", cfg.Signer.PortalSocket, "admin_socket", cfg.Signer.AdminSocket, "lines", lines, "demo", s.Demo())
	told := context.AfterFunc(ctx, func() { notify(log, daemon.SdNotifyStopping) })
	defer told()
	err = v.Serve(ctx, portal, admin)
	stop()
	<-ended
	return err
}

// portalMode lets the portal's group in when there is one.
func portalMode(cfg config.Config) os.FileMode {
	if cfg.Signer.PortalGroup == "" {
		return 0o600
	}
	return 0o660
}

// notify tells systemd; without it this does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", "state", state, "error", err)
	}
}

// besides runs what goes on beside the answering: reload on SIGHUP, the watchdog, the log's mirror in the journal.
func (a *app) besides(ctx context.Context, v *signer.Server, l *ledger.Ledger, log *slog.Logger) (ended <-chan struct{}) {
	done := make(chan struct{})
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	mirrored := make(chan struct{})
	go func() {
		defer close(mirrored)
		if journal.Enabled() {
			mirror(ctx, l, log)
		}
	}()
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
				<-mirrored
				return
			case <-watch:
				if v.Healthy() == nil {
					notify(log, daemon.SdNotifyWatchdog)
				}
			case <-hangup:
				reload(ctx, v, log)
			}
		}
	}()
	return done
}

// reload takes up a changed configuration. sd_notify(3): RELOADING comes with the time at which it began, and READY when it is over.
func reload(ctx context.Context, v *signer.Server, log *slog.Logger) {
	notify(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
	if err := v.Reload(ctx); err != nil {
		log.ErrorContext(ctx, "the configuration was not taken up: the old one stays", "error", err)
	} else {
		log.InfoContext(ctx, "configuration taken up")
	}
	notify(log, daemon.SdNotifyReady)
}

// mirror writes each line of the log that is made from now on to the journal as well: another place, for those who watch. The log itself is the record.
func mirror(ctx context.Context, l *ledger.Ledger, log *slog.Logger) {
	next, _ := l.Head()
	for {
		size, err := l.Wait(ctx, next)
		if err != nil {
			return
		}
		for ; next < size; next++ {
			r, err := l.Read(next)
			if err == nil {
				err = journal.Send(fmt.Sprintf("%s by %s: %s", r.Type, r.Actor, r.Details), journal.PriNotice, map[string]string{
					"AES_LINE": strconv.FormatUint(r.Seq, 10), "AES_EVENT_TYPE": r.Type, "AES_ACTOR": r.Actor, "AES_HASH": hex.EncodeToString(r.Hash[:]),
					"SYSLOG_IDENTIFIER": "aes-audit",
				})
			}
			if err != nil {
				log.WarnContext(ctx, "a line was not mirrored in the journal", "line", next, "error", err)
			}
		}
	}
}

// serviceLogger writes to standard error, which systemd takes into the journal.
func (a *app) serviceLogger() *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}
