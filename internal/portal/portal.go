// Package portal is the part of the appliance that faces the network: the HTTPS API that booking apps call, the public endpoints that
// certificates and time-stamp clients point to, and a few plain pages.
//
// It holds no signing key and no database. It parses what comes from outside, renders prescriptions, prepares PDFs, and asks the signer, which
// verifies every token itself, for each act. What it knows of a caller it knows from the signer's answers.
package portal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/dmd"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
	"github.com/veripath/aes-appliance/internal/panel"
	"github.com/veripath/aes-appliance/internal/pdf"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Signer is the other process. *wire.Client is one; Call is as described there.
type Signer interface {
	Call(ctx context.Context, op wire.Op, in, out any, fd *os.File) (*os.File, error)
}

// Config says how a Portal works.
type Config struct {
	config.Portal
	Limits  config.Limits
	Signer  Signer
	Version string // of the program
	// Examined is the file with what the last examination of the machine came to (ExaminedFile); empty: none.
	Examined string
	Log      *slog.Logger // nil: silent
	Now      func() time.Time
	// Resolver looks names up of those that the portal connects to; nil: the system's.
	Resolver *net.Resolver
	// Dial makes the connections that the signer asks for; nil: the portal's own way out, which looks where a name leads.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Portal answers HTTP requests. It is safe for concurrent use.
type Portal struct {
	cfg      Config
	log      *slog.Logger
	renderer *prescription.Renderer
	panels   *panel.Drawer
	openapi  []byte
	pages    *pages
	metrics  *metrics
	egress   *egress

	callers  *limiter      // by clinic and sub
	public   *limiter      // by address
	failures *limiter      // by address: tokens that were refused
	heavy    chan struct{} // places to sign for callers who may give a PDF, which can be large
	light    chan struct{} // and for all others: most of their time is spent waiting for the signer's disk
	verifier chan struct{}
	relays   chan struct{} // places for what anyone may ask the signer: the rest of its time is for those with a token
	uploads  *intake       // bodies of anyone, by address
	orders   *intake       // bodies of callers, by clinic and sub
	reload   chan struct{} // has room for one: TLS files are to be read again

	medicines atomic.Pointer[dmd.Dictionary] // what SetMedicines said; nil: none

	ending  atomic.Bool             // no connection is kept for a further request
	handler http.Handler            // everything that HTTPS serves
	adjust  func(*acmeCertificates) // for tests; nil

	mu       sync.Mutex
	status   wire.Status // the last one that was asked for
	asked    time.Time
	root     *x509.Certificate
	dialling map[string]chan struct{} // places, by issuer: as many as the signer has realms
}

// New makes a Portal; the signer need not be there yet.
func New(cfg Config) (*Portal, error) {
	p := &Portal{cfg: cfg, log: cfg.Log, metrics: newMetrics(),
		callers: newLimiter(cfg.CallerRate, 2*cfg.CallerRate), public: newLimiter(cfg.PublicRate, 2*cfg.PublicRate),
		failures: newLimiter(cfg.PublicRate, 2*cfg.PublicRate),
		heavy:    make(chan struct{}, 4*runtime.GOMAXPROCS(0)), light: make(chan struct{}, 8*runtime.GOMAXPROCS(0)), verifier: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), relays: make(chan struct{}, maxRelays),
		uploads: newIntake(4*cfg.BodyBytes, cfg.BodyBytes), orders: newIntake(4*cfg.BodyBytes, 2*cfg.BodyBytes), dialling: map[string]chan struct{}{}, reload: make(chan struct{}, 1),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.cfg.Now == nil {
		p.cfg.Now = time.Now
	}
	p.egress = p.newEgress()
	var err error
	if p.renderer, err = prescription.NewRenderer(); err != nil {
		return nil, err
	}
	set, err := fonts.New()
	if err != nil {
		return nil, err
	}
	p.panels = panel.NewDrawer(set)
	mux := http.NewServeMux()
	if p.openapi, err = p.routes(mux); err != nil {
		return nil, err
	}
	if p.pages, err = newPages(p.openapi); err != nil {
		return nil, err
	}
	p.handler = p.secured(p.observed(p.passOCSP(p.guarded(mux))))
	return p, nil
}

// Handler returns what is served over HTTPS.
func (p *Portal) Handler() http.Handler { return p.handler }

// SetMedicines says by which dictionary prescriptions are checked from now on; nil for none. The signer checks them again by its own.
func (p *Portal) SetMedicines(d *dmd.Dictionary) { p.medicines.Store(d) }

// Reload has TLS files read again at once; what else the configuration says takes a restart.
func (p *Portal) Reload() {
	select {
	case p.reload <- struct{}{}:
	default: // it is asked for already
	}
}

// OpenAPI returns the description of the API, OpenAPI 3.1 in JSON.
func (p *Portal) OpenAPI() []byte { return p.openapi }

func (p *Portal) pdfLimits() pdf.Limits { return pdf.Limits{MaxSize: p.cfg.Limits.PDFBytes} }

// maxDials bounds how often one operation may ask for a connection to its realm.
const maxDials = 2

// call performs an operation of the signer. When the signer needs a connection to a realm, it is dialled and handed over, and the operation
// repeated: what the signer hears over it is between the signer and the realm's TLS certificate. It is repeated too when that came to nothing: the signer
// may still have keys that it believes.
func (p *Portal) call(ctx context.Context, op wire.Op, in, out any, fd *os.File) (*os.File, error) {
	var failed error
	for dials := 0; ; dials++ {
		started := time.Now()
		got, err := p.cfg.Signer.Call(ctx, op, in, out, fd)
		p.metrics.signer(string(op), err, time.Since(started))
		need, asked := errors.AsType[*wire.NeedDial](err)
		switch {
		case failed != nil && err != nil && fault.CodeOf(err) == "realm-keys-unavailable":
			return nil, failed // it says why
		case !asked || dials == maxDials:
			return got, err
		}
		if failed = p.dial(ctx, need); failed != nil {
			p.log.WarnContext(ctx, "a realm's keys", "issuer", need.Issuer, "cause", failed)
		}
	}
}

// dials are the places for connections to one issuer: a realm that does not answer keeps nobody from another.
func (p *Portal) dials(issuer string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialling[issuer] == nil {
		p.dialling[issuer] = make(chan struct{}, 4)
	}
	return p.dialling[issuer]
}

// dial gives the signer a connection to a realm.
func (p *Portal) dial(ctx context.Context, need *wire.NeedDial) error {
	release, err := slot(ctx, p.dials(need.Issuer))
	if err != nil {
		return err
	}
	defer release()
	unreachable := fault.New(fault.Unavailable, "the identity provider of the clinic cannot be reached").WithCode("realm-keys-unavailable")
	keys := wire.RealmKeys{Issuer: need.Issuer}
	if r := requestOf(ctx); r != nil {
		keys.Observed = r.observed()
	}
	err = p.egress.ofIssuer(ctx, need.Issuer, need.Address)
	var conn net.Conn
	if err == nil {
		conn, err = p.connect(ctx, egressRealm, need.Address)
	}
	if err != nil {
		// Whoever waits for these keys need not wait any longer; that there is no connection is all that the answer could say.
		_, _ = p.cfg.Signer.Call(ctx, wire.OpRealmKeys, keys, nil, nil)
		return unreachable.WithCause(fmt.Errorf("dialling %s for %s: %w", need.Address, need.Issuer, err))
	}
	defer conn.Close()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return unreachable.WithCause(fmt.Errorf("%T is not a TCP connection", conn))
	}
	fd, err := tcp.File()
	if err != nil {
		return unreachable.WithCause(err)
	}
	defer fd.Close()
	_, err = p.cfg.Signer.Call(ctx, wire.OpRealmKeys, keys, nil, fd)
	return err
}

// connect makes a connection for the signer.
func (p *Portal) connect(ctx context.Context, why, address string) (net.Conn, error) {
	if p.cfg.Dial != nil {
		return p.cfg.Dial(ctx, address)
	}
	return p.egress.dial(ctx, why, address)
}

// statusLife is how long a status is good for pages and panels.
const statusLife = 5 * time.Second

// lately returns the signer's status, at most statusLife old.
func (p *Portal) lately(ctx context.Context) (wire.Status, *x509.Certificate, error) {
	p.mu.Lock()
	status, root, fresh := p.status, p.root, p.cfg.Now().Sub(p.asked) < statusLife
	p.mu.Unlock()
	if fresh && root != nil {
		return status, root, nil
	}
	return p.now(ctx)
}

// now asks for the signer's status.
func (p *Portal) now(ctx context.Context) (wire.Status, *x509.Certificate, error) {
	var status wire.Status
	if _, err := p.call(ctx, wire.OpStatus, wire.Nothing{}, &status, nil); err != nil {
		return status, nil, err
	}
	root, err := x509.ParseCertificate(status.Root)
	if err != nil {
		return status, nil, fault.New(fault.Internal, "the signer's root certificate cannot be read").WithCause(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.root, p.asked = status, root, p.cfg.Now()
	return status, root, nil
}

// slot takes a place among at most cap(places) at once; release gives it back.
func slot(ctx context.Context, places chan struct{}) (release func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "the appliance is busy").WithCause(ctx.Err())
	}
}
