package main

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/portal"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) portalCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "portal",
		Short: "Run the process that faces the network (systemd starts it)",
		Long: `Serves the HTTPS API and the pages on portal.listen, /ocsp, /crl, /ca and /tsa as plain http on portal.listen_http, and /metrics and /readyz on
portal.listen_metrics, until it is told to stop (SIGTERM): what is in flight is finished then. SIGHUP reads the
files of tls = "files" and of medicines.dmd again.

It holds no signing key and no database, and asks the signer on signer.portal_socket for every act. Under systemd it takes the sockets named https,
http and metrics from their unit, and says when it has a TLS certificate.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.starts(cmd.Context(), a.runPortal) },
	}
}

func (a *app) runPortal(ctx context.Context) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	medicines, err := loadMedicines(cfg)
	if err != nil {
		return err
	}
	log := a.serviceLogger()
	tuneMemory(ctx)
	client := wire.New(cfg.Signer.PortalSocket)
	p, err := newPortal(cfg, client, log)
	if err != nil {
		return err
	}
	p.SetMedicines(medicines)
	l, err := portalListeners(p)
	if err != nil {
		return err
	}
	s := supervised{log: log, healthy: func() error { return nil }, reload: func(context.Context) error { return a.reloadPortal(p) }}
	ended := s.beside(ctx)
	err = p.Serve(ctx, l, func() {
		a.ready(s)
		log.InfoContext(ctx, "ready", "https", l.HTTPS.Addr().String(), "http", l.HTTP.Addr().String(), "metrics", l.Metrics.Addr().String(), "host", cfg.Portal.Hosts[0])
	})
	<-ended
	return errors.Join(err, client.Close())
}

// newPortal makes the portal that cfg describes.
func newPortal(cfg config.Config, s portal.Signer, log *slog.Logger) (*portal.Portal, error) {
	return portal.New(portal.Config{Portal: cfg.Portal, Limits: cfg.Limits, Signer: s, Version: version, Log: log,
		Examined: portal.ExaminedFile(cfg.Signer.PortalSocket)})
}

// reloadPortal has the TLS files and the medicines read again.
func (a *app) reloadPortal(p *portal.Portal) error {
	p.Reload()
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	medicines, err := loadMedicines(cfg)
	if err == nil {
		p.SetMedicines(medicines)
	}
	return err
}

// portalListeners takes systemd's sockets, or opens those of the configuration.
func portalListeners(p *portal.Portal) (portal.Listeners, error) {
	sockets, err := given("https", "http", "metrics")
	if err != nil {
		return portal.Listeners{}, err
	}
	if sockets == nil {
		return p.Listen()
	}
	l := portal.Listeners{HTTPS: sockets["https"], HTTP: sockets["http"], Metrics: sockets["metrics"]}
	if host, ok := l.Metrics.Addr().(*net.TCPAddr); !ok || !host.IP.IsLoopback() {
		return portal.Listeners{}, fault.New(fault.Invalid, "systemd's socket named metrics is not on loopback: "+l.Metrics.Addr().String()).
			WithHint("set ListenStream=127.0.0.1:9464 in its unit: what it tells is for this machine")
	}
	return l, nil
}
