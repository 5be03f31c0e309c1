package portal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/veripath/aes-appliance/internal/fault"
)

// acmeCertificates are issued by an ACME CA (RFC 8555), which asks back over plain http (http-01) or TLS (tls-alpn-01, RFC 8737): over the
// portal's own listeners, which therefore must be served before. certmagic keeps them fresh, stapled and stored.
type acmeCertificates struct {
	p      *Portal
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
	cached chan struct{} // has room for one: something has come into the cache

	once sync.Once
}

func newACMECertificates(p *Portal) (*acmeCertificates, error) {
	a := &acmeCertificates{p: p, cached: make(chan struct{}, 1)}
	roots, err := rootsFrom(p.cfg.ACMERootsFile)
	if err != nil {
		return nil, err
	}
	quiet := zap.NewNop() // what matters comes through OnEvent
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		Logger:           quiet,
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:            &certmagic.FileStorage{Path: filepath.Join(p.cfg.StateDir, "acme")},
		Logger:             quiet,
		DefaultServerName:  p.cfg.Hosts[0],
		FallbackServerName: p.cfg.Hosts[0],
		OnEvent:            a.event,
		OCSP:               certmagic.OCSPConfig{HTTPProxy: p.egress.only(egressOCSP, plainHTTP)},
	})
	a.issuer = certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{
		CA: p.cfg.ACMEDirectory, TestCA: p.cfg.ACMEDirectory, Email: p.cfg.ACMEEmail, Agreed: true, TrustedRoots: roots, Logger: quiet,
		// In vain it tries to bind what the portal has bound, then finds it answering, and leaves the answer to it.
		ListenHost: hostOf(p.cfg.ListenHTTP), AltHTTPPort: portOf(p.cfg.ListenHTTP), AltTLSALPNPort: portOf(p.cfg.Listen),
		HTTPProxy: p.egress.only(egressACME, sameHost(p.cfg.ACMEDirectory)),
	})
	if p.adjust != nil {
		p.adjust(a)
	}
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
}

// rootsFrom reads PEM; nil, the system's, when there is no file.
func rootsFrom(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.New(fault.NotFound, "the file of portal.acme_roots_file cannot be read").WithCause(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fault.New(fault.Invalid, "the file of portal.acme_roots_file holds no certificate")
	}
	return pool, nil
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address) // checked by config
	return host
}

func portOf(address string) int {
	_, port, _ := net.SplitHostPort(address) // checked by config
	n, _ := strconv.Atoi(port)
	return n
}

func (a *acmeCertificates) event(ctx context.Context, event string, data map[string]any) error {
	switch event {
	case "cached_managed_cert":
		select {
		case a.cached <- struct{}{}:
		default:
		}
	case "cert_obtained":
		a.p.log.InfoContext(ctx, "a TLS certificate was issued", "host", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		a.p.log.LogAttrs(ctx, slog.LevelError, "no TLS certificate was issued", slog.Any("host", data["identifier"]), slog.String("cause", fmt.Sprint(data["error"])))
	}
	return nil
}

func (a *acmeCertificates) tlsConfig() *tls.Config {
	c := strict()
	c.NextProtos = append(c.NextProtos, "acme-tls/1") // RFC 8737 §6.2
	c.GetCertificate = a.config.GetCertificate
	return c
}

func (a *acmeCertificates) challenge(w http.ResponseWriter, r *http.Request) bool {
	return a.issuer.HandleHTTPChallenge(w, r)
}

func (a *acmeCertificates) run(ctx context.Context, ready chan<- struct{}) error {
	defer a.cache.Stop()
	if err := a.config.ManageAsync(ctx, a.p.cfg.Hosts); err != nil {
		return fault.New(fault.Unavailable, "the ACME certificate cannot be managed").WithCause(err)
	}
	for {
		if a.all() {
			a.once.Do(func() { close(ready) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.cached:
		case <-time.After(time.Second):
		}
	}
}

// all reports whether there is a certificate for each host.
func (a *acmeCertificates) all() bool {
	for _, h := range a.p.cfg.Hosts {
		if len(a.cache.AllMatchingCertificates(h)) == 0 {
			return false
		}
	}
	return true
}

func (a *acmeCertificates) expires() time.Time {
	var first time.Time
	for _, h := range a.p.cfg.Hosts {
		for _, c := range a.cache.AllMatchingCertificates(h) {
			if c.Leaf != nil && (first.IsZero() || c.Leaf.NotAfter.Before(first)) {
				first = c.Leaf.NotAfter
			}
		}
	}
	return first
}
