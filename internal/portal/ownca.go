package portal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// ownCertificates are issued by the appliance's own Infrastructure CA, for the names of the configuration. The key is made here, anew for each.
type ownCertificates struct {
	holder
	p *Portal
}

const ownFile = "own-ca.pem" // key and chain together, so that they are replaced together

// Times of ownCertificates.
const (
	ownRetry  = 2 * time.Second
	ownStaple = time.Hour // how often a fresh OCSP answer is stapled
)

func newOwnCertificates(p *Portal) (*ownCertificates, error) {
	o := &ownCertificates{p: p}
	c, err := o.stored()
	if err != nil {
		return nil, err
	}
	if c != nil {
		o.set(c)
	}
	return o, nil
}

// stored returns the certificate on disk, nil when there is none that will do.
func (o *ownCertificates) stored() (*tls.Certificate, error) {
	data, err := os.ReadFile(filepath.Join(o.p.cfg.StateDir, ownFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "the portal's TLS key cannot be read").WithCause(err)
	}
	c, err := tls.X509KeyPair(data, data)
	if err != nil || covers(c.Leaf, o.p.cfg.Hosts) != nil || !o.p.cfg.Now().Before(c.Leaf.NotAfter) {
		return nil, nil
	}
	return &c, nil
}

// renewAt is when two thirds of a certificate's life are over.
func renewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

func (o *ownCertificates) run(ctx context.Context, ready chan<- struct{}) error {
	told := false
	for {
		wait := ownStaple
		if err := o.refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			o.p.log.WarnContext(ctx, "no new TLS certificate or status from the appliance's own CA yet", "cause", err)
			wait = ownRetry
		}
		if c := o.get(); c != nil && !told {
			close(ready)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// refresh gets a new certificate when the present one is old, not of the present root or not of the CA that issues now, and a new status for it.
func (o *ownCertificates) refresh(ctx context.Context) error {
	status, root, err := o.p.now(ctx)
	if err != nil {
		return err
	}
	c := o.get()
	if c == nil || o.p.cfg.Now().After(renewAt(c.Leaf)) || chainsTo(c, root) != nil || !issuedBy(c, status.Listener) {
		if c, err = o.issue(ctx); err != nil {
			return err
		}
		o.set(c)
	}
	stapled, err := o.staple(ctx, c)
	if err != nil {
		return err
	}
	o.set(stapled)
	return nil
}

// issuedBy reports whether the certificate is by the CA with this serial; so is any when the signer does not say which.
func issuedBy(c *tls.Certificate, serial string) bool {
	if serial == "" || len(c.Certificate) < 2 {
		return serial == ""
	}
	ca, err := x509.ParseCertificate(c.Certificate[1])
	return err == nil && fmt.Sprintf("%032x", ca.SerialNumber) == serial
}

func chainsTo(c *tls.Certificate, root *x509.Certificate) error {
	top, err := x509.ParseCertificate(c.Certificate[len(c.Certificate)-1])
	if err != nil {
		return err
	}
	return top.CheckSignatureFrom(root)
}

// issue makes a key and has the signer certify it.
func (o *ownCertificates) issue(ctx context.Context) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("portal: making a TLS key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: o.p.cfg.Hosts[0]}}, key)
	if err != nil {
		return nil, fmt.Errorf("portal: making a request for a TLS certificate: %w", err)
	}
	var got wire.ListenerCertificate
	if _, err := o.p.call(ctx, wire.OpListener, wire.ListenerRequest{CSR: csr}, &got, nil); err != nil {
		return nil, err
	}
	return o.store(got.Chain, key)
}

func (o *ownCertificates) store(chain [][]byte, key crypto.Signer) (*tls.Certificate, error) {
	var b bytes.Buffer
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("portal: encoding the TLS key: %w", err)
	}
	blocks := []*pem.Block{{Type: "PRIVATE KEY", Bytes: der}}
	for _, c := range chain {
		blocks = append(blocks, &pem.Block{Type: "CERTIFICATE", Bytes: c})
	}
	for _, block := range blocks {
		if err := pem.Encode(&b, block); err != nil {
			return nil, fmt.Errorf("portal: encoding the TLS certificate: %w", err)
		}
	}
	c, err := tls.X509KeyPair(b.Bytes(), b.Bytes())
	if err != nil {
		return nil, fault.New(fault.Internal, "the signer's TLS certificate does not fit the key").WithCause(err)
	}
	if err := covers(c.Leaf, o.p.cfg.Hosts); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(durable.OS{}, filepath.Join(o.p.cfg.StateDir, ownFile), b.Bytes(), 0o600); err != nil {
		return nil, fault.New(fault.Unavailable, "the portal's TLS key cannot be stored").WithCause(err)
	}
	return &c, nil
}

// staple returns c with an OCSP answer about it (RFC 6066 §8).
func (o *ownCertificates) staple(ctx context.Context, c *tls.Certificate) (*tls.Certificate, error) {
	if len(c.Certificate) < 2 {
		return c, nil
	}
	issuer, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		return nil, fmt.Errorf("portal: reading the chain of the TLS certificate: %w", err)
	}
	id, err := cert.NewCertID(crypto.SHA1, issuer, c.Leaf.SerialNumber) // RFC 5019 §2.1.1: what TLS clients expect
	if err != nil {
		return nil, err
	}
	ask, err := cert.OCSPRequest{CertIDs: []cert.CertID{id}}.Marshal()
	if err != nil {
		return nil, err
	}
	var answer wire.DER
	if _, err := o.p.call(ctx, wire.OpOCSP, wire.DER{DER: ask}, &answer, nil); err != nil {
		return nil, err
	}
	r, err := cert.ParseOCSPResponse(answer.DER)
	if err != nil || r.Status != 0 || len(r.Singles) != 1 || r.Singles[0].Status != cert.OCSPGood {
		return c, nil // without: a client asks itself
	}
	stapled := *c
	stapled.OCSPStaple = answer.DER
	return &stapled, nil
}
