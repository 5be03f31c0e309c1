package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/etsi" // registers the ETSI ESI lints; the package zlint would drag in every browser's rules
	_ "github.com/zmap/zlint/v3/lints/rfc"  // registers the lints of the RFCs
)

// Finding is one fault that a lint found.
type Finding struct {
	Lint   string // zlint's name of it, or "profile" for this package's own
	Detail string
}

// LintError is the refusal to sign what has faults.
type LintError struct {
	Kind     Kind
	Findings []Finding
}

// Error names the kind and every finding.
func (e *LintError) Error() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "cert: lint of a %s certificate:", e.Kind)
	for _, f := range e.Findings {
		fmt.Fprintf(&b, " [%s] %s;", f.Lint, f.Detail)
	}
	return b.String()
}

// Linter signs certificates, each first with a throwaway key: what that shows to be faulty the CA's key never signs. The throwaway keys
// are made when first needed, one per algorithm, and sign nothing that leaves the process. It is safe for concurrent use.
type Linter struct {
	lints []*lint.CertificateLint
	crls  []*lint.RevocationListLint
	conf  lint.Configuration
	rand  io.Reader

	mu   sync.Mutex
	keys map[x509.SignatureAlgorithm]crypto.Signer
}

// NewLinter returns a Linter whose throwaway keys come from rand.
func NewLinter(rand io.Reader) (*Linter, error) {
	// Without a filter, rules for web certificates (CABF, browsers) would be held against a person's.
	sources := lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813, lint.EtsiEsi}
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: sources})
	if err != nil {
		return nil, fmt.Errorf("cert: lints: %w", err)
	}
	l := &Linter{rand: rand, conf: registry.GetConfiguration(), keys: map[x509.SignatureAlgorithm]crypto.Signer{}}
	l.lints, l.crls = registry.CertificateLints().Lints(), registry.RevocationListLints().Lints()
	if len(l.lints) < 100 { // an upgrade that registers differently must not turn the lint off
		return nil, fmt.Errorf("cert: only %d lints are registered", len(l.lints))
	}
	return l, nil
}

// throwaway returns the key that stands in for a CA's of the same algorithm.
func (l *Linter) throwaway(alg x509.SignatureAlgorithm) (crypto.Signer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key := l.keys[alg]; key != nil {
		return key, nil
	}
	var key crypto.Signer
	var err error
	switch alg {
	case x509.ECDSAWithSHA256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), l.rand)
	case x509.ECDSAWithSHA384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), l.rand)
	case x509.SHA256WithRSA:
		key, err = rsa.GenerateKey(l.rand, 2048)
	default:
		err = fmt.Errorf("cert: no throwaway key for %v", alg)
	}
	if err != nil {
		return nil, err
	}
	l.keys[alg] = key
	return key, nil
}

// Lint signs the template with a throwaway key and returns the TBSCertificate that the CA's key may sign. The error is a *LintError
// when there are findings; zlint's notices count as well as its warnings and errors.
func (l *Linter) Lint(p Profile, t, issuer *x509.Certificate, pub crypto.PublicKey) (tbs []byte, err error) {
	key, err := l.throwaway(t.SignatureAlgorithm)
	if err != nil {
		return nil, err
	}
	parent := *t // of the root
	if issuer != nil {
		parent = *issuer
	}
	parent.PublicKey = key.Public()
	der, err := x509.CreateCertificate(l.rand, t, &parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("cert: throwaway %s certificate: %w", p.kind, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cert: throwaway %s certificate: %w", p.kind, err)
	}
	findings, err := l.Findings(der)
	if err != nil {
		return nil, err
	}
	if p.kind == Root {
		// RFC 5280 §4.2.1.1 lets a self-signed certificate go without this; signed with a throwaway key it is not self-signed.
		findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.Lint == "e_ext_authority_key_identifier_no_key_identifier" })
	}
	findings = append(p.check(c, issuer), findings...)
	if len(findings) > 0 {
		return nil, &LintError{Kind: p.kind, Findings: findings}
	}
	return c.RawTBSCertificate, nil
}

// Examine holds a finished certificate, made elsewhere, against its profile and the lints. issuer is nil for the root. The signature is not
// looked at. The error is a *LintError when there are findings.
func (l *Linter) Examine(p Profile, c, issuer *x509.Certificate) error {
	findings, err := l.Findings(c.Raw)
	if err != nil {
		return err
	}
	if findings = append(p.check(c, issuer), findings...); len(findings) > 0 {
		return &LintError{Kind: p.kind, Findings: findings}
	}
	return nil
}

// Findings runs zlint's RFC and ETSI lints over a certificate and returns what is worse than passed.
func (l *Linter) Findings(der []byte) ([]Finding, error) {
	z, err := zx509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cert: zcrypto cannot read the certificate: %w", err)
	}
	var findings []Finding
	for _, one := range l.lints {
		findings = addFinding(findings, one.Name, one.Execute(z, l.conf))
	}
	return findings, nil
}

// FindingsCRL runs zlint's RFC lints over a CRL.
func (l *Linter) FindingsCRL(der []byte) ([]Finding, error) {
	z, err := zx509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("cert: zcrypto cannot read the CRL: %w", err)
	}
	var findings []Finding
	for _, one := range l.crls {
		findings = addFinding(findings, one.Name, one.Execute(z, l.conf))
	}
	return findings, nil
}

func addFinding(list []Finding, name string, r *lint.LintResult) []Finding {
	if r == nil || slices.Contains([]lint.LintStatus{lint.NA, lint.NE, lint.Pass, lint.Reserved}, r.Status) {
		return list
	}
	return append(list, Finding{Lint: name, Detail: r.Status.String() + " " + r.Details})
}

// Sign lints the template and then has the CA's key sign the very bytes that passed. The certificate comes back parsed, its signature
// checked. issuer is nil for the root, whose key signs itself.
func (l *Linter) Sign(rand io.Reader, p Profile, t, issuer *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	tbs, err := l.Lint(p, t, issuer, pub)
	if err != nil {
		return nil, err
	}
	parent := t
	if issuer != nil {
		parent = issuer
	}
	der, err := x509.CreateCertificate(rand, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("cert: signing a %s certificate: %w", p.kind, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cert: signed %s certificate: %w", p.kind, err)
	}
	if !bytes.Equal(c.RawTBSCertificate, tbs) {
		return nil, errors.New("cert: what was signed is not what was linted")
	}
	if issuer == nil {
		issuer = c
	}
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return nil, fmt.Errorf("cert: signed %s certificate: %w", p.kind, err)
	}
	return c, nil
}
