package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
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
		Long: `Serves the HTTPS API and the pages on portal.listen, /ocsp, /crl and /ca as plain http on portal.listen_http, and /metrics and /readyz on
portal.listen_metrics, until it is told to stop (SIGTERM): what is in flight is finished then. SIGHUP reads the files of tls = "files" again.

It holds no signing key and no database, and asks the signer on signer.portal_socket for every act. Under systemd it takes the sockets named https,
http and metrics from their unit, and says when it has a TLS certificate.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runPortal(cmd.Context()) },
	}
}

func (a *app) runPortal(ctx context.Context) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	log := a.serviceLogger()
	client := wire.New(cfg.Signer.PortalSocket)
	p, err := newPortal(cfg, client, log)
	if err != nil {
		return err
	}
	l, err := portalListeners(p)
	if err != nil {
		return err
	}
	ended := a.besidesPortal(ctx, p, log)
	err = p.Serve(ctx, l, func() {
		notify(log, daemon.SdNotifyReady)
		log.InfoContext(ctx, "ready", "https", l.HTTPS.Addr().String(), "http", l.HTTP.Addr().String(), "metrics", l.Metrics.Addr().String(), "host", cfg.Portal.Hosts[0])
	})
	<-ended
	return errors.Join(err, client.Close())
}

// newPortal makes the portal that cfg describes.
func newPortal(cfg config.Config, s portal.Signer, log *slog.Logger) (*portal.Portal, error) {
	return portal.New(portal.Config{Portal: cfg.Portal, Limits: cfg.Limits, Signer: s, Version: version, Log: log})
}

// portalListeners takes systemd's sockets (sd_listen_fds(3)), or opens those of the configuration.
func portalListeners(p *portal.Portal) (portal.Listeners, error) {
	given, err := activation.ListenersWithNames()
	if err != nil {
		return portal.Listeners{}, fault.New(fault.Unavailable, "systemd's sockets cannot be taken").WithCause(err)
	}
	if len(given) == 0 {
		return p.Listen()
	}
	var l portal.Listeners
	for _, one := range []struct {
		name string
		to   *net.Listener
	}{{"https", &l.HTTPS}, {"http", &l.HTTP}, {"metrics", &l.Metrics}} {
		if len(given[one.name]) != 1 {
			return portal.Listeners{}, fault.New(fault.Invalid, "systemd gives no socket named "+one.name+", or several").
				WithHint("FileDescriptorName= in the socket units is https, http and metrics, once each")
		}
		*one.to = given[one.name][0]
	}
	return l, nil
}

// besidesPortal tells systemd that the process lives and when it stops, and has the TLS files read again on SIGHUP.
func (a *app) besidesPortal(ctx context.Context, p *portal.Portal, log *slog.Logger) (ended <-chan struct{}) {
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
				notify(log, daemon.SdNotifyStopping)
				return
			case <-watch:
				notify(log, daemon.SdNotifyWatchdog)
			case <-hangup:
				notify(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
				p.Reload()
				notify(log, daemon.SdNotifyReady)
			}
		}
	}()
	return done
}
