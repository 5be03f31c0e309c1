package portal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Listeners are what Serve answers on; it closes them.
type Listeners struct {
	HTTPS   net.Listener // TLS is put on it here
	HTTP    net.Listener // plain
	Metrics net.Listener // loopback
}

// Listen opens the listeners that the configuration names.
func (p *Portal) Listen() (Listeners, error) {
	var l Listeners
	for _, one := range []struct {
		to      *net.Listener
		address string
	}{{&l.HTTPS, p.cfg.Listen}, {&l.HTTP, p.cfg.ListenHTTP}, {&l.Metrics, p.cfg.ListenMetrics}} {
		opened, err := net.Listen("tcp", one.address)
		if err != nil {
			l.close()
			return Listeners{}, fault.New(fault.Unavailable, "cannot listen on "+one.address).WithCause(err).WithHint("is something else listening there, or does the port need a privilege?")
		}
		*one.to = opened
	}
	return l, nil
}

func (l Listeners) close() {
	for _, one := range []net.Listener{l.HTTPS, l.HTTP, l.Metrics} {
		if one != nil {
			one.Close()
		}
	}
}

// stopTime is how long requests in flight have after ctx has ended.
const stopTime = 25 * time.Second

// Serve answers until ctx ends, then lets what is in flight finish. ready is called once there is a TLS certificate.
func (p *Portal) Serve(ctx context.Context, l Listeners, ready func()) error {
	// ACME asks, and browsers are sent, where the portal really listens: under systemd that is for the socket unit to say.
	p.cfg.Portal.Listen, p.cfg.ListenHTTP = l.HTTPS.Addr().String(), l.HTTP.Addr().String()
	source, err := p.source()
	if err != nil {
		l.close()
		return err
	}
	p.metrics.gauge("aes_portal_tls_certificate_expires_seconds", func() float64 {
		if t := source.expires(); !t.IsZero() {
			return float64(t.Unix())
		}
		return 0
	})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	secure := p.server(p.handler)
	secure.TLSConfig = source.tlsConfig()
	secure.MaxHeaderBytes = readHeader
	servers := []*http.Server{secure, p.server(p.plain(source)), p.server(p.inside())}
	var running sync.WaitGroup
	crowds := []*crowd{newCrowd(l.HTTPS, p.cfg.TrustedProxies), newCrowd(l.HTTP, p.cfg.TrustedProxies)}
	running.Go(func() { cancel(secure.ServeTLS(crowds[0], "", "")) })
	running.Go(func() { cancel(servers[1].Serve(crowds[1])) })
	running.Go(func() { cancel(servers[2].Serve(l.Metrics)) })
	// What is in flight may wait for the signer to have a connection, also while this portal is ending: a new signer compares itself with the backup host before it signs.
	dialling, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	for range dialers {
		running.Go(func() { p.dialFor(dialling) })
	}
	certified := make(chan struct{})
	running.Go(func() {
		if err := source.run(ctx, certified); err != nil {
			cancel(err)
		}
	})
	select {
	case <-certified:
		ready()
		<-ctx.Done()
	case <-ctx.Done():
	}
	p.ending.Store(true)
	for _, c := range crowds {
		c.Close() // what has connected and was not taken waits on systemd's socket for who comes next
	}
	for _, c := range crowds {
		c.settle()
	}
	err = p.stop(servers)
	hangUp()
	running.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, http.ErrServerClosed) && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("portal: serving: %w", cause)
	}
	return err
}

// stop ends the servers: no new requests, and stopTime for those that run.
func (p *Portal) stop(servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	var ending sync.WaitGroup
	for _, s := range servers {
		ending.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				p.log.Warn("requests were cut off at the end", "cause", err)
				s.Close()
			}
		})
	}
	ending.Wait()
	return nil
}

// server has the limits of time and size that every listener has.
func (p *Portal) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       p.cfg.RequestTime,
		WriteTimeout:      p.cfg.RequestTime + 5*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// plain is what plain http serves: ACME's challenges, what certificates point to, and the way to HTTPS for a browser. A request with a token is
// refused, not sent on: whoever sent it must learn that the token has been in the clear.
func (p *Portal) plain(source certificates) http.Handler {
	public := p.handler
	refuse := p.secured(p.observed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Authorization") == "" && !strings.HasPrefix(r.URL.Path, "/api/") {
			to := url.URL{Scheme: "https", Host: p.authority(), Path: r.URL.Path, RawQuery: r.URL.RawQuery}
			http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
			return
		}
		writeProblem(w, p.problem(r.Context(), problem("https-only", "The request came over plain http.")))
	})))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		switch {
		case source.challenge(w, r):
		case path == rootPath, path == logKeyPath:
			refuse.ServeHTTP(w, r)
		case path == "/ocsp", path == "/tsa", strings.HasPrefix(path, "/ocsp/"), strings.HasPrefix(path, "/crl/"), strings.HasPrefix(path, "/ca/"):
			public.ServeHTTP(w, r)
		default:
			refuse.ServeHTTP(w, r)
		}
	})
}

// authority is the portal's own host, with its port when that is not 443.
func (p *Portal) authority() string {
	host := p.cfg.Hosts[0]
	if port := portOf(p.cfg.Listen); port != 443 && port != 0 {
		return net.JoinHostPort(host, fmt.Sprint(port))
	}
	return host
}

// inside is what loopback serves.
func (p *Portal) inside() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		p.metrics.write(w)
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if status, _, err := p.now(ctx); err == nil { // without the signer these are unknown, and absent
			writeBackup(w, status)
		}
		if p.cfg.Examined != "" {
			writeExamined(w, p.cfg.Examined)
		}
	})
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	return mux
}

// readiness is what /readyz says.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
	Version string   `json:"version"`
	Signer  string   `json:"signer_version,omitempty"`
	Lines   uint64   `json:"log_lines,omitempty"`
}

func (p *Portal) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	says := readiness{Version: p.cfg.Version}
	status, _, err := p.now(ctx)
	if err != nil {
		says.Reasons = []string{fault.PublicOf(err)}
	} else {
		says.Ready, says.Reasons, says.Signer, says.Lines = status.Ready, status.Reasons, status.Version, status.Lines
	}
	w.Header().Set("Content-Type", "application/json")
	if !says.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(says) // the client is gone
}
