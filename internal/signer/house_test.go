package signer_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// house is an appliance with two clinics, each with its realm of a real OpenID provider, whose signer answers on its sockets.
type house struct {
	cfg           signer.Config
	s             *signer.Signer
	provider      *oidctest.Provider
	portal, admin peer
	stop          func() // ends the serving, gracefully
	serial        string // of Doctor Clinician's credential in clinic a
	doctor        oidctest.Person
}

// peer is a process on one of the sockets. What it does about NeedDial is what the portal does.
type peer struct {
	*wire.Client
	path string
	to   string // where its connections to realms really lead; "" = where they should
}

func peerAt(path string) peer { return peer{Client: wire.New(path), path: path} }

// onSockets serves s on two sockets until stop, or the test's end.
func onSockets(t testing.TB, s *signer.Signer, cfg signer.ServerConfig) (portal, admin peer, stop func()) {
	t.Helper()
	if cfg.MaxDocument == 0 {
		cfg.MaxDocument = 1 << 20
	}
	dir, err := os.MkdirTemp("", "aes") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	listeners := map[string]*net.UnixListener{}
	for _, name := range []string{"portal", "admin"} {
		if listeners[name], err = wire.Listen(wire.Socket{Path: filepath.Join(dir, name), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- signer.NewServer(s, cfg).Serve(ctx, listeners["portal"], listeners["admin"]) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && s.Ledger().Err() == nil {
			t.Errorf("Serve: %v", err)
		}
	})
	portal, admin = peerAt(filepath.Join(dir, "portal")), peerAt(filepath.Join(dir, "admin"))
	t.Cleanup(func() {
		portal.Close()
		admin.Close()
		stop()
		os.RemoveAll(dir)
	})
	return portal, admin, stop
}

// newHouse founds the appliance. It is a demo, so that realms may be on loopback.
func newHouse(t testing.TB, cfg signer.ServerConfig) *house {
	t.Helper()
	return newHouseOf(t, cfg, oidctest.Options{})
}

// newHouseOf is newHouse with realms as o says; with a host they have TLS, and the appliance is no demo.
func newHouseOf(t testing.TB, cfg signer.ServerConfig, o oidctest.Options) *house {
	t.Helper()
	h := &house{cfg: settings(t), provider: oidctest.Start(t, o), doctor: oidctest.Doctor()}
	h.s = found(t, h.cfg, o.Host == "")
	h.portal, h.admin, h.stop = onSockets(t, h.s, cfg)
	for slug, issuer := range map[string]string{"a": h.provider.A.Issuer, "b": h.provider.B.Issuer} {
		h.must(t, wire.OpClinicAdd, wire.Clinic{Slug: slug, Name: map[string]string{"a": "Wharf Lane Clinic", "b": "Clinic b"}[slug]}, nil)
		h.must(t, wire.OpRealmAdd, wire.Realm{Clinic: slug, Issuer: issuer, CA: h.provider.CA}, nil)
	}
	h.serial = h.credential(t, "a", h.doctor.Name, h.doctor.Sub)
	return h
}

// must performs an operation of the operator's.
func (h *house) must(t testing.TB, op wire.Op, in, out any) {
	t.Helper()
	if _, err := h.admin.Call(t.Context(), op, in, out, nil); err != nil {
		t.Fatalf("%s: %v", op, err)
	}
}

func (h *house) credential(t testing.TB, clinic, name, sub string) string {
	t.Helper()
	var made wire.CertIssued
	h.must(t, wire.OpCertIssue, wire.CertIssue{CertType: "clinician", CommonName: name, Clinic: clinic, Sub: sub, Register: "GMC", RegistrationNumber: "7654321"}, &made)
	return made.Certificate.Serial
}

// policy changes a clinic's.
func (h *house) policy(t testing.TB, clinic string, change func(*wire.Policy)) {
	t.Helper()
	var page wire.ClinicPage
	h.must(t, wire.OpClinicList, wire.Nothing{}, &page)
	for _, c := range page.Clinics {
		if c.Slug == clinic {
			change(c.Policy)
			h.must(t, wire.OpClinicPolicy, wire.ClinicPolicy{Slug: clinic, Policy: *c.Policy}, nil)
		}
	}
}

// token lets somebody log in.
func (h *house) token(t testing.TB, change func(*oidctest.Person)) string {
	t.Helper()
	p := h.doctor
	if change != nil {
		change(&p)
	}
	return h.provider.A.Login(t, p).Access
}

// call performs an operation, dialling for the signer when it asks for that.
func (p peer) call(ctx context.Context, op wire.Op, in, out any, fd *os.File) (*os.File, error) {
	for range 3 {
		back, err := p.Call(ctx, op, in, out, fd)
		var need *wire.NeedDial
		if !errors.As(err, &need) {
			return back, err
		}
		to := need.Address
		if p.to != "" {
			to = p.to
		}
		conn, err := net.Dial("tcp", to)
		if err != nil {
			return nil, err
		}
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			return nil, err
		}
		_, err = p.Call(ctx, wire.OpRealmKeys, wire.RealmKeys{Issuer: need.Issuer}, nil, f)
		err = errors.Join(err, f.Close(), conn.Close())
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the signer asks for connections without end")
}

func creds(token string) wire.Credentials {
	return wire.Credentials{Token: token, Observed: wire.Observed{PeerIP: "192.0.2.7", ReceivedAt: time.Now(), RequestID: "req-1"},
		Asserted: wire.Asserted{BrowserIP: "198.51.100.9", UserAgent: "Browser/1.0"}}
}

// wanted is a request to sign, good unless changed.
func wanted(token, id string, change ...func(*prescription.Prescription, *wire.SignOpen)) wire.SignOpen {
	p := prescription.Demo(time.Now())
	p.PrescriptionID = id
	in := wire.SignOpen{Credentials: creds(token), Source: wire.SourceRendered, Consent: wire.Consent{Text: "I have checked it.", Timestamp: time.Now().Truncate(time.Minute)}}
	for _, c := range change {
		c(&p, &in)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	in.Prescription = raw
	return in
}

// remote is the signing half of an open operation, as pades knows it.
type remote struct {
	peer
	wire.SignOpened
}

func (r remote) SignatureSize() int { return r.SignOpened.SignatureSize }
func (r remote) StampSize() int     { return r.SignOpened.StampSize }

func (r remote) Sign(ctx context.Context, digest []byte) (pades.Signature, error) {
	var s wire.Signature
	_, err := r.call(ctx, wire.OpSign, wire.SignDigest{Operation: r.Operation, Digest: digest}, &s, nil)
	return pades.Signature{CMS: s.CMS, Material: pades.Material{Certs: s.Certs, OCSPs: s.OCSPs, CRLs: s.CRLs}}, err
}

func (r remote) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	var s wire.Stamped
	_, err := r.call(ctx, wire.OpStamp, wire.StampDigest{Operation: r.Operation, Digest: digest}, &s, nil)
	return s.Token, err
}

func (p peer) open(ctx context.Context, in wire.SignOpen) (remote, error) {
	r := remote{peer: p}
	_, err := p.call(ctx, wire.OpSignOpen, in, &r.SignOpened, nil)
	return r, err
}

func (r remote) document(ctx context.Context) (pades.Signed, error) {
	return pades.Sign(ctx, onePage(), r, pades.SignOptions{Name: r.Name, Time: r.Time})
}

func (r remote) complete(ctx context.Context, d pades.Signed) (done wire.SignResult, err error) {
	f, err := wire.Memfd("pdf", d.PDF)
	if err != nil {
		return done, err
	}
	defer f.Close()
	_, err = r.call(ctx, wire.OpComplete, wire.Complete{Operation: r.Operation, SignatureRange: d.Signature, StampRange: d.TimeStamp}, &done, f)
	return done, err
}

// sign does the whole of it.
func (p peer) sign(ctx context.Context, in wire.SignOpen) (wire.SignResult, pades.Signed, error) {
	r, err := p.open(ctx, in)
	if err != nil {
		return wire.SignResult{}, pades.Signed{}, err
	}
	if r.Done != nil {
		return *r.Done, pades.Signed{}, nil
	}
	d, err := r.document(ctx)
	if err != nil {
		return wire.SignResult{}, d, err
	}
	done, err := r.complete(ctx, d)
	return done, d, err
}

// download returns the document that the signer keeps.
func (p peer) download(ctx context.Context, op wire.Op, token, id string) (wire.DocumentInfo, []byte, error) {
	var info wire.DocumentInfo
	f, err := p.call(ctx, op, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: id}, &info, nil)
	if err != nil {
		return info, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return info, data, err
}

func wantCode(t *testing.T, err error, kind fault.Kind, code, what string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || fault.CodeOf(err) != code {
		t.Errorf("%s: error %v of kind %v and code %q, want %v, %q", what, err, fault.KindOf(err), fault.CodeOf(err), kind, code)
	}
}

// since returns the types of the lines from the one with that number on.
func (h *house) since(t *testing.T, line int) []string {
	t.Helper()
	return types(t, h.cfg)[line:]
}

func (h *house) lines(t *testing.T) int { return len(types(t, h.cfg)) }

func count(list []string, typ string) (n int) {
	for _, one := range list {
		if one == typ {
			n++
		}
	}
	return n
}

// logText is the whole log.
func (h *house) logText(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.cfg.StateDir, "audit_chain.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
