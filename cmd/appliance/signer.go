package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/dmd"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) signerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "signer",
		Short: "Run the process that holds the keys and the log (systemd starts it)",
		Long: `Answers the portal on signer.portal_socket and the operator's commands on signer.admin_socket, until it is told to stop (SIGTERM): what is in
flight is finished then. SIGHUP reads again what can change while it runs: limits.pdf_bytes,
medicines.dmd, portal.hosts, portal.tls, signer.admin_clinic.

It opens no network socket. Under systemd it takes the sockets named portal and admin from their units, or makes its own when there are none, says
when it is ready, and its watchdog ends it when the log takes no more lines.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.starts(cmd.Context(), a.runSigner) },
	}
}

// serverSettings are what a running signer can take up anew.
func serverSettings(cfg config.Config, medicines *dmd.Dictionary) signer.Settings {
	s := signer.Settings{MaxDocument: cfg.Limits.PDFBytes, AdminClinic: cfg.Signer.AdminClinic, Medicines: medicines}
	if cfg.Portal.TLS == config.TLSOwnCA {
		s.ListenerNames = cfg.Portal.Hosts
	}
	return s
}

func (a *app) runSigner(ctx context.Context) (err error) {
	if err := unseen(); err != nil {
		return err
	}
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	pins, err := readPINs(cfg.Token.PINFile)
	if err != nil {
		return err
	}
	log := a.serviceLogger()
	tuneMemory(ctx)
	portal, admin, err := givenSigner(cfg)
	if err != nil {
		return err
	}
	var on []*net.UnixListener
	if portal != nil {
		on = []*net.UnixListener{portal, admin}
	}
	s, err := withPIN(pins, func(pin []byte) (*signer.Signer, error) {
		return openSigner(ctx, signer.Config{Config: cfg, PIN: pin, Version: version, Log: log}, on, supervised{log: log})
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return a.serveSigner(ctx, s, cfg, log, on)
}

// serveSigner answers on its two sockets, systemd's or its own, until ctx ends.
func (a *app) serveSigner(ctx context.Context, s *signer.Signer, cfg config.Config, log *slog.Logger, on []*net.UnixListener) error {
	medicines, err := loadMedicines(cfg)
	if err != nil {
		return err
	}
	outside, err := loadOutside(cfg)
	if err != nil {
		return err
	}
	if on == nil {
		portal, admin, release, err := signerSockets(cfg)
		if err != nil {
			return err
		}
		defer release()
		on = []*net.UnixListener{portal, admin}
	}
	v := signer.NewServer(s, signer.ServerConfig{
		Backup:   &connector{s, cfg.Replication, log},
		Settings: serverSettings(cfg, medicines), Lifetime: cfg.Signer.OperationTime, Reload: a.rereadSettings, Outside: outside,
	})
	side, stop := context.WithCancel(ctx)
	mirrored := make(chan struct{})
	go func() {
		defer close(mirrored)
		if journal.Enabled() {
			mirror(side, s.Ledger(), log)
		}
	}()
	beside := supervised{log: log, healthy: v.Healthy, reload: v.Reload}
	ended := beside.beside(side)
	a.ready(beside)
	lines, _ := s.Ledger().Head()
	log.InfoContext(ctx, "ready", "portal_socket", cfg.Signer.PortalSocket, "admin_socket", cfg.Signer.AdminSocket, "lines", lines, "demo", s.Demo())
	err = v.Serve(ctx, on[0], on[1])
	stop()
	<-ended
	<-mirrored
	return err
}

// loadOutside reads what the configuration names of those who vouch for the log besides the appliance.
func loadOutside(cfg config.Config) (o signer.Outside, err error) {
	l := cfg.Log
	o.Every, o.Stamp, o.StampEvery = l.WitnessEvery, l.StampURL, l.StampEvery
	if o.Policy, err = readPolicy(l.WitnessPolicy); err != nil {
		return o, err
	}
	if l.StampRoots != "" {
		if o.StampRoots, err = readCertificates(l.StampRoots); err != nil {
			return o, err
		}
	}
	if l.WitnessRoots == "" {
		return o, nil
	}
	roots, err := readCertificates(l.WitnessRoots)
	if err != nil {
		return o, err
	}
	o.Roots = x509.NewCertPool()
	for _, c := range roots {
		o.Roots.AddCert(c)
	}
	return o, nil
}

// rereadSettings reads the configuration again, and what it names.
func (a *app) rereadSettings() (signer.Settings, error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return signer.Settings{}, err
	}
	medicines, err := loadMedicines(cfg)
	return serverSettings(cfg, medicines), err
}

// givenSigner takes systemd's sockets, nil when there are none. They stay when they are closed: they are systemd's.
func givenSigner(cfg config.Config) (portal, admin *net.UnixListener, err error) {
	sockets, err := given("portal", "admin")
	if err != nil || sockets == nil {
		return nil, nil, err
	}
	if portal, err = givenUnix(sockets["portal"], cfg.Signer.PortalSocket, portalMode(cfg)); err != nil {
		return nil, nil, err
	}
	admin, err = givenUnix(sockets["admin"], cfg.Signer.AdminSocket, adminMode)
	return portal, admin, err
}

// signerSockets makes the sockets of the configuration; release ends them.
func signerSockets(cfg config.Config) (portal, admin *net.UnixListener, release func(), err error) {
	if portal, err = wire.Listen(wire.Socket{Path: cfg.Signer.PortalSocket, Mode: portalMode(cfg), Group: cfg.Signer.PortalGroup}); err != nil {
		return nil, nil, nil, err
	}
	remove := func() { portal.Close(); os.Remove(cfg.Signer.PortalSocket) }
	if admin, err = wire.Listen(wire.Socket{Path: cfg.Signer.AdminSocket, Mode: adminMode}); err != nil {
		remove()
		return nil, nil, nil, err
	}
	return portal, admin, func() { remove(); admin.Close(); os.Remove(cfg.Signer.AdminSocket) }, nil
}

// adminMode is for the signer's user and root.
const adminMode os.FileMode = 0o600

// portalMode lets the portal's group in when there is one.
func portalMode(cfg config.Config) os.FileMode {
	if cfg.Signer.PortalGroup == "" {
		return 0o600
	}
	return 0o660
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
