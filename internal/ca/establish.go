package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/token"
)

// Root holds a ceremony: in its own process, over the root's own token.
type Root func(context.Context, CeremonyRequest) (CeremonyAnswer, error)

// Establish takes a new appliance from nothing to ready: the CAs' keys, the ceremony, and what follows from it.
func (c *CA) Establish(ctx context.Context, actor string, root Root) error {
	r, err := c.Begin(ctx, actor)
	if err != nil {
		return err
	}
	a, err := root(ctx, r)
	if err != nil {
		return err
	}
	return c.Complete(ctx, actor, a)
}

// Begin returns what a ceremony is to do: certify CAs of these kinds, or all that are missing when none is named. It makes their keys; keys of
// an earlier ceremony that never came to its end are used again. With no kind missing or named, the ceremony only signs the root's CRL
// again.
func (c *CA) Begin(ctx context.Context, actor string, kinds ...cert.Kind) (CeremonyRequest, error) {
	c.act.Lock()
	defer c.act.Unlock()
	r := CeremonyRequest{Settings: c.cfg.Settings, Requests: map[cert.Kind][]byte{}}
	c.mu.RLock()
	if c.root != nil {
		r.Root, r.CRL = c.root.Raw, c.rootCRL.Raw
	}
	for _, k := range cert.IssuingCAs() {
		if c.newest(k) == nil && !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	c.mu.RUnlock()
	for _, k := range kinds {
		if !slices.Contains(cert.IssuingCAs(), k) {
			return r, fault.New(fault.Invalid, fmt.Sprintf("%.40q is not an issuing CA", k))
		}
		csr, err := c.pendingRequest(ctx, actor, k)
		if err != nil {
			return r, err
		}
		r.Requests[k] = csr
	}
	return r, nil
}

// pendingRequest makes a PKCS#10 request for a CA's key that no certificate has yet, making the key when there is none.
func (c *CA) pendingRequest(ctx context.Context, actor string, k cert.Kind) ([]byte, error) {
	subject := cert.Subject{CommonName: string(k)} // the root names it; this only has to be a name
	if state, ok := c.pendingKey(k); ok {
		pub, err := x509.ParsePKIXPublicKey(state.Public)
		if err != nil {
			return nil, corrupt("the key "+state.Label+" in the log", err)
		}
		key, err := c.key(state.Label, pub)
		if err != nil {
			return nil, corrupt("the key "+state.Label, err)
		}
		return cert.CreateRequest(c.cfg.Rand, subject, key)
	}
	algorithm, err := token.ParseAlgorithm(string(c.cfg.Policy.Algorithm))
	if err != nil {
		return nil, err
	}
	_, key, err := c.makeKey(ctx, actor, string(k), algorithm)
	if err != nil {
		return nil, err
	}
	return cert.CreateRequest(c.cfg.Rand, subject, key)
}

// pendingKey returns a CA key that exists and that no certificate names.
func (c *CA) pendingKey(k cert.Kind) (keyState, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for label, state := range c.keys {
		used := slices.ContainsFunc(c.order, func(serial string) bool { return c.entries[serial].KeyLabel == label })
		if state.Purpose == string(k) && state.State == eventKeyCreated && !used {
			return state, true
		}
	}
	return keyState{}, false
}

// Complete checks what a ceremony answered, records it in one line, and does the upkeep that makes the appliance ready: checkpoint key,
// responders, TSA, CRLs. Errors: Invalid, when the answer does not fit the keys, the root in use, or the time.
func (c *CA) Complete(ctx context.Context, actor string, a CeremonyAnswer) error {
	if err := c.install(ctx, actor, a); err != nil {
		return err
	}
	_, err := c.Maintain(ctx)
	return err
}

func (c *CA) install(ctx context.Context, actor string, a CeremonyAnswer) error {
	c.act.Lock()
	defer c.act.Unlock()
	d, root, err := c.examine(a)
	if err != nil {
		return fault.New(fault.Invalid, "the ceremony's answer cannot be accepted").WithCause(err).WithHint(err.Error())
	}
	if _, err := c.cfg.Ledger.Append(ctx, ledger.Event{Type: eventCeremony, Actor: actor, Details: d}); err != nil {
		return fmt.Errorf("ca: recording a ceremony: %w", err)
	}
	serials := []string{}
	for _, one := range d.Certificates {
		serials = append(serials, one.Serial)
	}
	for _, gone := range d.Revoked {
		serials = append(serials, gone.Serial)
	}
	if err := c.refresh(serials...); err != nil {
		return err
	}
	list, err := cert.ParseCRL(d.CRL)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.root, c.rootCRL = root, list
	c.mu.Unlock()
	for _, one := range d.Certificates {
		if !slices.Contains(cert.IssuingCAs(), one.Kind) {
			continue
		}
		e, err := c.entry(one.Serial)
		if err != nil {
			return err
		}
		if err := c.takeAuthority(e); err != nil {
			return err
		}
	}
	return nil
}

// examine holds an answer against what is known, and puts it into the form of its line.
func (c *CA) examine(a CeremonyAnswer) (d ceremonyDetails, root *x509.Certificate, err error) {
	if root, err = x509.ParseCertificate(a.Root); err != nil {
		return d, nil, fmt.Errorf("root certificate: %w", err)
	}
	known := c.Root()
	if known != nil && !bytes.Equal(known.Raw, root.Raw) {
		return d, nil, fmt.Errorf("root certificate is not the one in use")
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return d, nil, fmt.Errorf("root certificate: %w", err)
	}
	if err := c.linter.Examine(c.profiles.For(cert.Root), root, nil); err != nil {
		return d, nil, err
	}
	if known == nil {
		one := issuedDetails{entry: entry{Kind: cert.Root, Issuer: serialOf(root.SerialNumber)}}
		one.fill(root)
		d.Certificates = append(d.Certificates, one)
	}
	for _, kind := range cert.IssuingCAs() {
		der, ok := a.Certificates[kind]
		if !ok && known == nil {
			return d, nil, fmt.Errorf("certificate of the %s is missing", kind)
		}
		if !ok {
			continue
		}
		one, err := c.examineCA(kind, der, root)
		if err != nil {
			return d, nil, fmt.Errorf("certificate of the %s: %w", kind, err)
		}
		d.Certificates = append(d.Certificates, one)
	}
	return d, root, c.examineCRL(&d, a.CRL, root)
}

// examineCA wants a certificate of this root, for the key that awaits it.
func (c *CA) examineCA(kind cert.Kind, der []byte, root *x509.Certificate) (issuedDetails, error) {
	crt, err := x509.ParseCertificate(der)
	if err != nil {
		return issuedDetails{}, err
	}
	if err := crt.CheckSignatureFrom(root); err != nil {
		return issuedDetails{}, err
	}
	if err := c.linter.Examine(c.profiles.For(kind), crt, root); err != nil {
		return issuedDetails{}, err
	}
	k, ok := c.pendingKey(kind)
	if !ok || !bytes.Equal(k.Public, crt.RawSubjectPublicKeyInfo) {
		return issuedDetails{}, fmt.Errorf("it is not for the key that awaits one")
	}
	if _, err := c.entry(serialOf(crt.SerialNumber)); err == nil {
		return issuedDetails{}, fmt.Errorf("its serial number has been used")
	}
	one := issuedDetails{entry: entry{Kind: kind, Issuer: serialOf(root.SerialNumber), KeyLabel: k.Label}}
	one.fill(crt)
	return one, nil
}

// examineCRL wants a list of this root, newer than the one in use and not older than any certificate that it speaks of.
func (c *CA) examineCRL(d *ceremonyDetails, der []byte, root *x509.Certificate) error {
	list, err := cert.ParseCRL(der)
	if err != nil {
		return err
	}
	if err := list.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("root CRL: %w", err)
	}
	c.mu.RLock()
	old := c.rootCRL
	c.mu.RUnlock()
	if list.Number == nil || old != nil && list.Number.Cmp(old.Number) <= 0 {
		return fmt.Errorf("root CRL number %v does not follow the one in use", list.Number)
	}
	if now := c.now(); !list.NextUpdate.After(now) || list.ThisUpdate.After(now.Add(cert.Backdating)) {
		return fmt.Errorf("root CRL is for %s to %s, and it is %s here: compare the two machines' clocks", list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	for _, one := range d.Certificates {
		if list.ThisUpdate.Before(one.NotBefore) {
			return fmt.Errorf("root CRL is older than the %s", one.Kind)
		}
	}
	d.CRL, d.Number, d.ThisUpdate, d.NextUpdate = der, list.Number.String(), list.ThisUpdate.UTC(), list.NextUpdate.UTC()
	for _, e := range list.RevokedCertificateEntries {
		d.Revoked = append(d.Revoked, ceremonyRevoked{Serial: serialOf(e.SerialNumber), At: e.RevocationTime.UTC(), Reason: cert.Reason(e.ReasonCode).String()})
	}
	return nil
}
