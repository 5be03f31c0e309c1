package portal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// certificates is where the listener's certificate comes from.
type certificates interface {
	// tlsConfig returns the configuration for the listener, which calls back for each handshake.
	tlsConfig() *tls.Config
	// challenge answers an ACME CA over plain http and reports whether it did.
	challenge(w http.ResponseWriter, r *http.Request) bool
	// run keeps the certificate fresh until ctx ends. It is called once the listeners are served: an ACME CA asks over them. ready is closed
	// when there is a certificate.
	run(ctx context.Context, ready chan<- struct{}) error
	// expires is the end of the present certificate's life, zero when there is none.
	expires() time.Time
}

func (p *Portal) source() (certificates, error) {
	if len(p.cfg.Hosts) == 0 {
		return nil, fault.New(fault.Invalid, "portal.hosts is not set: the TLS certificate needs a name").WithHint("set it in the configuration, for instance hosts = \"sign.clinic-signing.example\"")
	}
	if err := os.MkdirAll(p.cfg.StateDir, 0o700); err != nil {
		return nil, fault.New(fault.Unavailable, "cannot make the folder "+p.cfg.StateDir).WithCause(err)
	}
	switch p.cfg.TLS {
	case config.TLSFiles:
		return newFileCertificates(p)
	case config.TLSOwnCA:
		return newOwnCertificates(p)
	}
	return newACMECertificates(p)
}

// strict is the base of every listener: TLS 1.2 with authenticated encryption and forward secrecy only, TLS 1.3 with what Go has for it.
func strict() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
	}
}

// holder keeps the present certificate of a source that has one at a time.
type holder struct {
	mu      sync.RWMutex
	present *tls.Certificate
}

func (h *holder) set(c *tls.Certificate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.present = c
}

func (h *holder) get() *tls.Certificate {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.present
}

func (h *holder) expires() time.Time {
	if c := h.get(); c != nil {
		return c.Leaf.NotAfter
	}
	return time.Time{}
}

func (h *holder) tlsConfig() *tls.Config {
	c := strict()
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if present := h.get(); present != nil {
			return present, nil
		}
		return nil, errors.New("there is no certificate yet")
	}
	return c
}

func (*holder) challenge(http.ResponseWriter, *http.Request) bool { return false }

// fileCertificates are those of two files, read again when they change.
type fileCertificates struct {
	holder
	p       *Portal
	read    [2]time.Time // modification times of what is present
	stapler *stapler
}

func newFileCertificates(p *Portal) (*fileCertificates, error) {
	f := &fileCertificates{p: p, stapler: newStapler(p.egress)}
	return f, f.load()
}

// load reads both files if either has changed.
func (f *fileCertificates) load() error {
	var modified [2]time.Time
	for i, path := range []string{f.p.cfg.CertificateFile, f.p.cfg.KeyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return fault.New(fault.NotFound, "the TLS file "+path+" cannot be read").WithCause(err)
		}
		if i == 1 && durable.OpenToOthers(info) {
			return fault.New(fault.Forbidden, fmt.Sprintf("the TLS key %s may be read by others (mode %04o)", path, info.Mode().Perm())).WithHint("chmod 600 " + path)
		}
		modified[i] = info.ModTime()
	}
	if modified == f.read {
		return nil
	}
	c, err := tls.LoadX509KeyPair(f.p.cfg.CertificateFile, f.p.cfg.KeyFile)
	if err != nil {
		return fault.New(fault.Invalid, "the TLS certificate and key are not a pair").WithCause(err)
	}
	if err := covers(c.Leaf, f.p.cfg.Hosts); err != nil {
		return err
	}
	f.set(&c)
	f.read, f.stapler.due = modified, time.Time{}
	return nil
}

// covers checks that a certificate is for every host of the configuration.
func covers(leaf *x509.Certificate, hosts []string) error {
	for _, h := range hosts {
		if err := leaf.VerifyHostname(h); err != nil {
			return fault.New(fault.Invalid, "the TLS certificate is not for "+h+", which portal.hosts names").WithCause(err)
		}
	}
	return nil
}

// fileCheck is how often the files are looked at.
const fileCheck = 30 * time.Second

func (f *fileCertificates) run(ctx context.Context, ready chan<- struct{}) error {
	close(ready)
	for tick := time.NewTicker(fileCheck); ; {
		c, err := f.stapler.fresh(ctx, f.get(), f.p.cfg.Now())
		if err != nil && ctx.Err() == nil {
			f.p.log.WarnContext(ctx, "no new status of the TLS certificate from its CA", "cause", err)
		}
		f.set(c)
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		case <-f.p.reload:
		}
		if err := f.load(); err != nil { // the present one goes on
			f.p.log.ErrorContext(ctx, "the new TLS certificate is not used", "cause", err)
		}
	}
}
