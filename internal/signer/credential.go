package signer

import (
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// credential is a clinician's certificate made ready for signing.
type credential struct {
	serial   string
	chain    []*x509.Certificate // the clinician's first, the root last
	producer *cms.Producer
}

// maxCredentials bounds how many are kept ready; making one ready again costs one object read.
const maxCredentials = 4096

// credential returns the certificate with this serial, ready for signing if it may sign now.
func (s *Signer) credential(ctx context.Context, serial string) (*credential, error) {
	if err := s.ca.Usable(serial); err != nil {
		return nil, err
	}
	s.mu.Lock()
	c := s.credentials[serial]
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	key, err := s.ca.Signer(ctx, serial)
	if err != nil {
		return nil, err
	}
	chain, err := s.ca.Chain(serial)
	if err != nil {
		return nil, err
	}
	// EN 319 142-1 §6.3: the whole path may be embedded; the root goes into the DSS only.
	producer, err := cms.NewProducer(cms.SignParams{
		ContentType: cms.IDData(), Hash: crypto.SHA256, Certificate: chain[0], Chain: chain[1 : len(chain)-1],
	}, key)
	if err != nil {
		return nil, err
	}
	c = &credential{serial: serial, chain: chain, producer: producer}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.credentials) >= maxCredentials {
		clear(s.credentials)
	}
	s.credentials[serial] = c
	return c, nil
}

// material returns what validates a signature of c that stamper time-stamped as info says: every status is made after that moment.
func (s *Signer) material(ctx context.Context, c *credential, stamper *x509.Certificate, info tsp.TSTInfo) (pades.Material, error) {
	if s.cfg.Signing.StatusInLaterSecond {
		if err := s.waitBeyond(ctx, info.GenTime); err != nil {
			return pades.Material{}, err
		}
	}
	m, err := s.ca.Material(ctx, c.chain[0], stamper)
	return pades.Material(m), err
}

// waitBeyond returns when the second that begins at t is over by the proven clock.
func (s *Signer) waitBeyond(ctx context.Context, t time.Time) error {
	for {
		now, err := s.Now()
		if err != nil {
			return err
		}
		left := t.Add(time.Second).Sub(now)
		if left <= 0 {
			return nil
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TokenMaterial implements pades.Archivist for tokens of this appliance's own authority, the present one or an earlier one.
func (s *Signer) TokenMaterial(ctx context.Context, token []byte) (pades.Material, error) {
	signed, err := cms.Parse(token)
	if err != nil {
		return pades.Material{}, err
	}
	crt, err := signed.SignerCertificate(0)
	if err != nil {
		return pades.Material{}, err
	}
	m, err := s.ca.Material(ctx, crt)
	return pades.Material(m), err
}

// Now implements pades.Archivist.
func (s *Signer) Now() (time.Time, error) {
	r, err := s.clock.Now()
	return r.Time, err
}

// Find returns the certificate with which this clinician signs.
func (s *Signer) Find(clinic, name string) (ca.Certificate, error) { return s.ca.ByName(clinic, name) }
