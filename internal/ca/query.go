package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"golang.org/x/text/unicode/norm"
)

// Status is the state of a certificate.
type Status string

const (
	StatusValid   Status = "valid"
	StatusExpired Status = "expired"
	StatusRevoked Status = "revoked"
)

// Certificate is one issued certificate and what became of it.
type Certificate struct {
	Serial         string         `json:"serial"` // 32 hexadecimal digits
	Kind           cert.Kind      `json:"cert_type"`
	CommonName     string         `json:"common_name"`
	Clinic         string         `json:"clinic,omitempty"`
	Subject        cert.Subject   `json:"subject"`
	Sub            string         `json:"sub,omitempty"`
	Algorithm      cert.Algorithm `json:"algorithm"`
	NotBefore      time.Time      `json:"not_before"`
	NotAfter       time.Time      `json:"not_after"`
	Status         Status         `json:"status"`
	KeyExists      bool           `json:"key_exists"` // its private key is here: in the token, or wrapped in an object
	IssuedAt       time.Time      `json:"issued_at"`
	RevokedAt      *time.Time     `json:"revoked_at,omitempty"`
	Reason         string         `json:"reason,omitempty"`
	InvalidityDate *time.Time     `json:"invalidity_date,omitempty"`
	Renews         string         `json:"renews,omitempty"`
	RenewedBy      string         `json:"renewed_by,omitempty"`
	Issuer         string         `json:"issuer_serial"`
	DER            []byte         `json:"certificate,omitempty"` // not in lists
}

// describe turns an entry into a Certificate as of now. mu is held.
func (c *CA) describe(e *entry, now time.Time) Certificate {
	d := Certificate{Serial: e.Serial, Kind: e.Kind, CommonName: e.Subject.CommonName, Clinic: e.Clinic, Subject: e.Subject, Sub: e.Sub, Algorithm: e.Algorithm,
		NotBefore: e.NotBefore, NotAfter: e.NotAfter, Status: StatusValid, RevokedAt: e.RevokedAt, Reason: e.Reason, InvalidityDate: e.Invalidity,
		Renews: e.Renews, RenewedBy: e.RenewedBy, Issuer: e.Issuer}
	if e.IssuedAt != nil {
		d.IssuedAt = *e.IssuedAt
	}
	d.KeyExists = e.KeyObject != "" || e.KeyLabel != "" && c.keys[e.KeyLabel].State == eventKeyCreated
	switch {
	case e.RevokedAt != nil:
		d.Status = StatusRevoked
	case now.After(e.NotAfter):
		d.Status = StatusExpired
	}
	return d
}

func (c *CA) entry(serial string) (*entry, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.entries[serial]; e != nil {
		return e, nil
	}
	return nil, errNoCertificate(serial)
}

// Get returns one certificate with its DER.
func (c *CA) Get(serial string) (Certificate, error) {
	serial, err := parseSerial(serial)
	if err != nil {
		return Certificate{}, err
	}
	e, err := c.entry(serial)
	if err != nil {
		return Certificate{}, err
	}
	crt, err := c.certificate(serial)
	if err != nil {
		return Certificate{}, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	d := c.describe(e, c.now())
	d.DER = crt.Raw
	return d, nil
}

// Filter selects certificates. Zero values select all.
type Filter struct {
	Kind   cert.Kind
	Clinic string
	Status Status
	After  string // serial of the last one of the page before
	Limit  int    // at most; 0 is 100, never more than 1000
}

// List returns certificates in the order of their issuance, and whether there are more. NotFound: Filter.After is no certificate.
func (c *CA) List(f Filter) (list []Certificate, more bool, err error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	c.mu.RLock()
	defer c.mu.RUnlock()
	start, now := 0, c.now()
	if f.After != "" {
		if start = slices.Index(c.order, f.After) + 1; start == 0 {
			return nil, false, errNoCertificate(f.After)
		}
	}
	for _, serial := range c.order[start:] {
		e := c.entries[serial]
		if f.Kind != "" && e.Kind != f.Kind || f.Clinic != "" && e.Clinic != f.Clinic {
			continue
		}
		d := c.describe(e, now)
		if f.Status != "" && d.Status != f.Status {
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, d)
	}
	return list, false, nil
}

// ByName returns the certificate with which this clinic's clinician of exactly this name signs: the newest that is valid. NotFound has the text
// that booking apps know.
func (c *CA) ByName(clinic, name string) (Certificate, error) {
	name = norm.NFC.String(name)
	now := c.now()
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, serial := range slices.Backward(c.names[nameKeys(clinic, name)[0]]) {
		e := c.entries[serial]
		// The folded name finds, the name itself decides: another spelling is another name.
		if d := c.describe(e, now); e.Subject.CommonName == name && d.Status == StatusValid && e.RenewedBy == "" {
			return d, nil
		}
	}
	return Certificate{}, fault.New(fault.NotFound, fmt.Sprintf("Certificate not found for clinician: %.200s", name))
}

// Expiring returns valid certificates that end within d and have no successor, the soonest first. Those that Maintain renews are among them
// only when their renewal is overdue.
func (c *CA) Expiring(d time.Duration) []Certificate {
	now := c.now()
	c.mu.RLock()
	defer c.mu.RUnlock()
	var list []Certificate
	for _, serial := range c.order {
		e := c.entries[serial]
		if one := c.describe(e, now); one.Status == StatusValid && one.RenewedBy == "" && !one.NotAfter.After(now.Add(d)) && !c.renewsItself(e, now) {
			list = append(list, one)
		}
	}
	slices.SortStableFunc(list, func(a, b Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return list
}

// renewsItself reports whether e is a certificate that Maintain renews, and not yet overdue. mu is held.
func (c *CA) renewsItself(e *entry, now time.Time) bool {
	switch e.Kind {
	case cert.OCSP:
		return e.NotAfter.After(now.Add(c.cfg.Policy.OCSPRenewal))
	case cert.TSA:
		return e.NotAfter.After(now.Add(c.cfg.Policy.TSARenewal))
	case cert.Report: // it signed once, and has no successor
		return true
	}
	return false
}

// Root returns the root's certificate, nil before the ceremony.
func (c *CA) Root() *x509.Certificate {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.root
}

// Chain returns the certificate and those above it, the root last.
func (c *CA) Chain(serial string) ([]*x509.Certificate, error) {
	k, err := c.credential(context.Background(), serial, false)
	if err != nil {
		return nil, err
	}
	return k.chain, nil
}

// Published returns the DER of a CA's certificate or list by the file name that certificates point to ("clinician-ca-0123456789abcdef.cer" or
// ".crl"). NotFound for any other name.
func (c *CA) Published(name string) (der []byte, contentType string, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.root != nil {
		switch name {
		case cert.FileName(cert.Root, c.root) + ".cer":
			return c.root.Raw, "application/pkix-cert", nil
		case cert.FileName(cert.Root, c.root) + ".crl":
			return c.rootCRL.Raw, "application/pkix-crl", nil
		}
	}
	for _, a := range c.cas {
		switch name {
		case cert.FileName(a.kind, a.cert) + ".cer":
			return a.cert.Raw, "application/pkix-cert", nil
		case cert.FileName(a.kind, a.cert) + ".crl":
			if list := a.crl.Load(); list != nil {
				return list.der, "application/pkix-crl", nil
			}
		}
	}
	return nil, "", fault.New(fault.NotFound, "no CA publishes a file of that name")
}

// credential is a certificate with its chain, and its key if it is a clinician's.
type credential struct {
	chain []*x509.Certificate
	key   crypto.Signer
}

// credential finds one, in memory if it was used lately.
func (c *CA) credential(ctx context.Context, serial string, withKey bool) (*credential, error) {
	serial, err := parseSerial(serial)
	if err != nil {
		return nil, err
	}
	if k, ok := c.credentials.get(serial); ok && (k.key != nil || !withKey) {
		return k, nil
	}
	e, err := c.entry(serial)
	if err != nil {
		return nil, err
	}
	crt, err := c.certificate(serial)
	if err != nil {
		return nil, err
	}
	k := &credential{chain: []*x509.Certificate{crt}}
	if e.Kind != cert.Root {
		root := c.Root()
		if a, err := c.authority(e.Issuer); err == nil {
			k.chain = append(k.chain, a.cert)
		}
		k.chain = append(k.chain, root)
	}
	if withKey {
		if e.KeyObject == "" {
			return nil, fault.New(fault.Forbidden, "the certificate with serial number "+serial+" is not a clinician's, or its key is not here")
		}
		wrapped, err := c.cfg.Objects.Get(ctx, e.KeyObject)
		if err != nil {
			return nil, fmt.Errorf("ca: the wrapped key of %s: %w", serial, err)
		}
		k.key = c.cfg.Keys.WrappedSigner(wrapped, crt.PublicKey)
	}
	c.credentials.put(serial, k)
	return k, nil
}

// Signer returns the key of a clinician's certificate. Whether it may be used now is for Usable to say.
func (c *CA) Signer(ctx context.Context, serial string) (crypto.Signer, error) {
	k, err := c.credential(ctx, serial, true)
	if err != nil {
		return nil, err
	}
	return k.key, nil
}

// TimeStamper returns what the TSA works with now; it changes when Maintain renews it.
func (c *CA) TimeStamper() (*TimeStamper, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.tsa == nil {
		return nil, errNotEstablished()
	}
	return c.tsa, nil
}

// CheckpointKey returns the Ed25519 key that signs the log's checkpoints.
func (c *CA) CheckpointKey() (crypto.Signer, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.log == nil {
		return nil, errNotEstablished()
	}
	return c.log, nil
}

// Able says why no document can be signed now, whoever asks; nil when nothing stands in the way.
//
// Errors: Unavailable (the root's CRL, or the time).
func (c *CA) Able() error {
	now, err := c.proven()
	if err != nil {
		return err
	}
	return errors.Join(c.certain(), c.rootListLasts(now))
}

// Usable says whether the certificate may sign a document now: a clinician's, valid, neither it nor its CA revoked, and the root's CRL, which
// every document needs, not about to run out.
//
// Errors: NotFound, Forbidden (with the reason), Unavailable (the root's CRL, or the time).
func (c *CA) Usable(serial string) error {
	serial, err := parseSerial(serial)
	if err != nil {
		return err
	}
	e, err := c.entry(serial)
	if err != nil {
		return err
	}
	now, err := c.proven()
	if err != nil {
		return err
	}
	forbidden := func(text string) error {
		return fault.New(fault.Forbidden, "the certificate with serial number "+serial+" "+text)
	}
	if err := errors.Join(c.certain(), c.rootListLasts(now)); err != nil {
		return err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	issuer := c.entries[e.Issuer]
	switch {
	case e.Kind != cert.Clinician:
		return forbidden("is not a clinician's")
	case e.RevokedAt != nil:
		return forbidden("was revoked at " + e.RevokedAt.Format(time.RFC3339))
	case e.RenewedBy != "":
		// Whoever revokes a clinician's newest certificate must have ended all: an older one cannot take its place.
		return forbidden("has been renewed: the one that signs is " + e.RenewedBy)
	case issuer == nil || issuer.RevokedAt != nil:
		return forbidden("was issued by a CA that has been revoked")
	case now.Before(e.NotBefore) || now.After(e.NotAfter):
		return forbidden(fmt.Sprintf("is valid only from %s to %s", e.NotBefore.Format(time.RFC3339), e.NotAfter.Format(time.RFC3339)))
	}
	return nil
}
