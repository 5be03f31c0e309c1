package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/token"
)

// Request asks for one certificate.
type Request struct {
	Kind      cert.Kind
	Issuer    cert.Kind      // of an OCSP responder: the CA it speaks for
	Clinic    string         // of a clinician: the slug of the clinic it belongs to, [a-z0-9-], at most 63
	Subject   cert.Subject   // of a clinician or TLS peer; a clinician's given name and surname are taken from the common name when both are empty
	Sub       string         // of a clinician: whom the identity provider knows it as; kept for the binding
	Algorithm cert.Algorithm // "" for the default; must be empty with a CSR
	CSR       []byte         // TLS only: PKCS#10, for a key that is not in the token
	Validity  time.Duration  // 0 for the profile's default
	DNSNames  []string
	Addresses []netip.Addr
	Actor     string

	once crypto.PublicKey // of a report: its key, which is nowhere once it has signed
}

// Issue makes a certificate and the key for it (a clinician's is wrapped and leaves the token, others stay in it, a CSR brings its own).
// When it returns, the certificate's line is durable.
//
// Errors: Invalid (the request, or the lint's findings), Conflict (the clinic has a valid certificate of this or a confusable name: Renew or
// Revoke), Unavailable (no ceremony yet, or the time is not proven), Forbidden (the issuing CA has been revoked).
func (c *CA) Issue(ctx context.Context, r Request) (Certificate, error) {
	if r.Kind == cert.TSA || r.Kind == cert.OCSP { // one at a time with upkeep, which issues them too
		c.act.Lock()
		defer c.act.Unlock()
	}
	return c.issue(ctx, r, "")
}

// issue is Issue, as the successor of another certificate when renews names one.
func (c *CA) issue(ctx context.Context, r Request, renews string) (Certificate, error) {
	if err := r.normalise(c.cfg.Policy.Algorithm); err != nil {
		return Certificate{}, err
	}
	a, err := c.issuer(r)
	if err != nil {
		return Certificate{}, err
	}
	return c.issueBy(ctx, r, a, renews)
}

// issueBy makes the certificate that a normal request asks for.
func (c *CA) issueBy(ctx context.Context, r Request, a *authority, renews string) (Certificate, error) {
	if r.Algorithm == "" && r.CSR == nil {
		r.Algorithm = c.cfg.Policy.Algorithm
	}
	release, err := c.hold(r, renews)
	if err != nil {
		return Certificate{}, err
	}
	defer release()
	now, err := c.proven()
	if err != nil {
		return Certificate{}, err
	}
	// Tried with a key that is at hand, so that a wrong request costs no new one.
	if _, err := c.template(r, a, a.cert.PublicKey, now); err != nil {
		return Certificate{}, err
	}
	d := issuedDetails{entry: entry{Kind: r.Kind, Issuer: a.serial, Clinic: r.Clinic, Subject: r.Subject, Sub: r.Sub, Renews: renews}}
	pub, undo, err := c.keyFor(ctx, r, &d.entry)
	if err != nil {
		return Certificate{}, err
	}
	crt, err := c.sign(r, a, pub, now)
	if err == nil {
		d.fill(crt)
		err = c.record(ctx, r.Actor, d)
	}
	if err != nil {
		return Certificate{}, errors.Join(err, undo())
	}
	return c.Get(d.Serial)
}

// normalise fills in defaults and refuses what no profile would say something about.
func (r *Request) normalise(algorithm cert.Algorithm) error {
	invalid := func(text string) *fault.Error { return fault.New(fault.Invalid, text) }
	if _, err := cert.ParseKind(string(r.Kind)); err != nil || r.Kind.IsCA() {
		return invalid(fmt.Sprintf("certificates of kind %.40q are not issued here", r.Kind)).WithCause(err)
	}
	if r.Actor == "" {
		return invalid("the request does not say who asks")
	}
	if (r.Clinic != "") != (r.Kind == cert.Clinician) || r.Clinic != "" && !clinicSlug().MatchString(r.Clinic) {
		return invalid("a clinician's certificate, and no other, belongs to a clinic, named by a-z, 0-9 and hyphens")
	}
	if r.Sub != "" && (r.Kind != cert.Clinician || !isSub(r.Sub)) {
		return invalid("sub is for clinicians, and at most 255 printable ASCII characters")
	}
	if (r.once != nil) != (r.Kind == cert.Report) {
		return invalid("certificates of kind report are made by the appliance itself, each for one report")
	}
	if r.CSR != nil && r.Kind != cert.TLSServer && r.Kind != cert.TLSClient {
		return invalid("only TLS certificates are issued for a key that the token has not made")
	}
	if r.CSR != nil && r.Algorithm != "" {
		return invalid("a PKCS#10 request brings its own algorithm")
	}
	if r.Algorithm == "" && r.CSR == nil {
		r.Algorithm = algorithm
	}
	subject, err := r.Subject.Clean()
	if err != nil {
		return invalid("the subject cannot stand in a certificate").WithCause(err).WithHint(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if r.Kind == cert.Clinician && subject.GivenName == "" && subject.Surname == "" {
		// EN 319 412-2 §4.2.4 wants one of them; clients send the full name alone. The last word is taken for the surname.
		given, surname, found := strings.Cut(subject.CommonName, " ")
		if i := strings.LastIndex(subject.CommonName, " "); found {
			given, surname = subject.CommonName[:i], subject.CommonName[i+1:]
		}
		subject.GivenName, subject.Surname = given, surname
	}
	r.Subject = subject
	return nil
}

func clinicSlug() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) }

// issuer returns the newest CA for the request that is not revoked.
func (c *CA) issuer(r Request) (*authority, error) {
	kind := r.Kind.Issuer()
	if r.Kind == cert.OCSP {
		kind = r.Issuer
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.root == nil {
		return nil, errNotEstablished()
	}
	a := c.newest(kind)
	if a == nil {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("there is no CA of kind %.40q", kind))
	}
	if c.entries[a.serial].RevokedAt != nil {
		return nil, fault.New(fault.Forbidden, "the "+string(kind)+" has been revoked").WithHint(`"appliance ceremony rollover" makes a new one`)
	}
	return a, nil
}

// newest returns the CA of this kind that was made last, one that is not revoked before one that is. mu is held.
func (c *CA) newest(kind cert.Kind) *authority {
	var best *authority
	for _, serial := range c.order {
		a := c.cas[serial]
		if a == nil || a.kind != kind || best != nil && c.entries[serial].RevokedAt != nil {
			continue
		}
		best = a
	}
	return best
}

// hold keeps the name of a clinician from being issued twice at once, and refuses one that its clinic has already.
func (c *CA) hold(r Request, renews string) (release func(), err error) {
	if r.Kind != cert.Clinician {
		return func() {}, nil
	}
	keys, now := nameKeys(r.Clinic, r.Subject.CommonName), c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if c.held[key] {
			return nil, fault.New(fault.Conflict, "a certificate of this name is being issued just now")
		}
		for _, serial := range c.names[key] {
			if e := c.entries[serial]; serial != renews && e.RenewedBy == "" && e.RevokedAt == nil && !now.After(e.NotAfter) {
				return nil, errTaken(r, e)
			}
		}
	}
	for _, key := range keys {
		c.held[key] = true
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, key := range keys {
			delete(c.held, key)
		}
	}, nil
}

func errTaken(r Request, e *entry) error {
	text := fmt.Sprintf("clinic %s has a valid certificate for %q, serial %s", r.Clinic, e.Subject.CommonName, e.Serial)
	if e.Subject.CommonName != r.Subject.CommonName {
		text += ", a name that looks the same"
	}
	return fault.New(fault.Conflict, text).WithHint("renew or revoke that one")
}

// keyFor gets the public key and notes in e where the private one is. undo gives it up again.
func (c *CA) keyFor(ctx context.Context, r Request, e *entry) (pub crypto.PublicKey, undo func() error, err error) {
	if r.CSR != nil {
		csr, err := cert.ParseRequest(r.CSR)
		if err != nil {
			return nil, nil, fault.New(fault.Invalid, "the PKCS#10 request cannot be used").WithCause(err).WithHint(err.Error())
		}
		return csr.PublicKey, func() error { return nil }, nil
	}
	if r.once != nil {
		return r.once, func() error { return nil }, nil
	}
	algorithm, err := token.ParseAlgorithm(string(r.Algorithm))
	if err != nil {
		return nil, nil, err
	}
	if r.Kind == cert.Clinician {
		wrapped, pub, err := c.cfg.Keys.GenerateWrapped(algorithm)
		if err != nil {
			return nil, nil, fmt.Errorf("ca: making a clinician's key: %w", err)
		}
		// A crash after this leaves an object that nothing names: it opens with this token only, and signs for no certificate.
		if e.KeyObject, err = c.cfg.Objects.Put(ctx, "clinician-key", wrapped); err != nil {
			return nil, nil, fmt.Errorf("ca: keeping a clinician's key: %w", err)
		}
		return pub, func() error { return nil }, nil
	}
	k, key, err := c.makeKey(ctx, r.Actor, string(r.Kind), algorithm)
	if err != nil {
		return nil, nil, err
	}
	e.KeyLabel = k.Label
	return key.Public(), func() error { return c.dropKey(context.WithoutCancel(ctx), r.Actor, "not certified", k) }, nil
}

// template returns what the certificate is to say.
func (c *CA) template(r Request, a *authority, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	t, err := c.profiles.For(r.Kind).Template(cert.Request{Subject: r.Subject, PublicKey: pub, Validity: r.Validity, DNSNames: r.DNSNames, Addresses: r.Addresses}, a.cert, now, c.cfg.Rand)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the certificate asked for does not fit its profile").WithCause(err).WithHint(err.Error())
	}
	return t, nil
}

// sign makes the certificate.
func (c *CA) sign(r Request, a *authority, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	tmpl, err := c.template(r, a, pub, now)
	if err != nil {
		return nil, err
	}
	crt, err := c.linter.Sign(c.cfg.Rand, c.profiles.For(r.Kind), tmpl, a.cert, pub, a.key)
	var lint *cert.LintError
	if errors.As(err, &lint) {
		return nil, fault.New(fault.Invalid, "the certificate asked for has faults, and was not signed").WithCause(err).WithHint(lint.Error())
	}
	return crt, err
}

// fill copies what the certificate says.
func (d *issuedDetails) fill(crt *x509.Certificate) {
	d.Serial, d.Certificate = serialOf(crt.SerialNumber), crt.Raw
	d.NotBefore, d.NotAfter = crt.NotBefore.UTC(), crt.NotAfter.UTC()
	if d.Kind != cert.Clinician && d.Subject.CommonName == "" {
		d.Subject.CommonName = crt.Subject.CommonName
	}
	algorithm, err := cert.AlgorithmOf(crt.PublicKey)
	if err != nil {
		panic("ca: the linter let a key through that no profile allows: " + err.Error())
	}
	d.Algorithm = algorithm
}

// record makes the certificate known, in the log first.
func (c *CA) record(ctx context.Context, actor string, d issuedDetails) error {
	c.mu.RLock()
	taken := c.entries[d.Serial] != nil
	c.mu.RUnlock()
	if taken {
		return fmt.Errorf("ca: serial %s was drawn twice: the random source is broken", d.Serial)
	}
	if _, err := c.cfg.Ledger.Append(ctx, ledger.Event{Type: eventIssued, Actor: actor, Details: d}); err != nil {
		return fmt.Errorf("ca: recording a certificate: %w", err)
	}
	serials := []string{d.Serial}
	if d.Renews != "" {
		serials = append(serials, d.Renews)
	}
	if err := c.refresh(serials...); err != nil {
		return err
	}
	e, err := c.entry(d.Serial)
	if err != nil {
		return err
	}
	switch d.Kind {
	case cert.OCSP:
		return c.takeResponder(e)
	case cert.TSA:
		return c.takeTSA(e)
	}
	return nil
}

// Renew issues a new certificate, with a new key, for the subject of one that is still valid. The old one is not revoked, so what it signed
// stays good without further thought, but a clinician's signs no more: ByName and Usable know the new one only, so that revoking that ends all.
// Certificates with keys in the token can be renewed; a responder's and the TSA's Maintain renews when they are due, and here before. The TSA's successor is
// by the newest Time CA.
func (c *CA) Renew(ctx context.Context, serial string, validity time.Duration, actor string) (Certificate, error) {
	old, err := c.Get(serial)
	if err != nil {
		return Certificate{}, err
	}
	conflict := func(text string) *fault.Error { return fault.New(fault.Conflict, text) }
	own := old.Kind == cert.TSA || old.Kind == cert.OCSP
	switch {
	case old.Kind.IsCA():
		return Certificate{}, fault.New(fault.Invalid, "a CA gets its successor in a ceremony").WithHint(`"appliance ceremony rollover"`)
	case !old.KeyExists:
		return Certificate{}, fault.New(fault.Invalid, "the certificate's key is not in the token").WithHint("issue a new one from a PKCS#10 request")
	case old.Status != StatusValid:
		return Certificate{}, conflict("the certificate is " + string(old.Status) + ": renewal is for valid ones").WithHint("issue a new one")
	case old.RenewedBy != "":
		return Certificate{}, conflict("the certificate has been renewed by " + old.RenewedBy)
	}
	if own {
		return c.renewOwn(ctx, old, Request{Kind: old.Kind, Validity: validity, Actor: actor})
	}
	r := Request{Kind: old.Kind, Clinic: old.Clinic, Subject: old.Subject, Sub: old.Sub, Algorithm: old.Algorithm, Validity: validity, Actor: actor}
	crt, err := x509.ParseCertificate(old.DER)
	if err != nil {
		return Certificate{}, corrupt("certificate "+serial, err)
	}
	r.DNSNames = crt.DNSNames
	for _, ip := range crt.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			r.Addresses = append(r.Addresses, a)
		}
	}
	return c.issue(ctx, r, old.Serial)
}
