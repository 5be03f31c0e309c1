package pades

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// failure is why a signature or time stamp did not pass.
type failure struct {
	indication Indication
	sub        SubIndication
	text       string
}

// Error returns the reason in words.
func (f *failure) Error() string { return f.text }

func failed(sub SubIndication, format string, args ...any) *failure {
	return &failure{TotalFailed, sub, fmt.Sprintf(format, args...)}
}

func indeterminate(sub SubIndication, format string, args ...any) *failure {
	return &failure{Indeterminate, sub, fmt.Sprintf(format, args...)}
}

// use is when a key was used: what is claimed, and by when it is proven. For a signer's key both are the best signature time; for a time
// stamp, the token's own genTime and the oldest time at which the token is known to have existed.
type use struct {
	claimed, proven time.Time
	revision        int // index of the revision that the token is in, whose DSS it vouches for; -1 for none
}

// purpose is what a certificate is used for.
type purpose int

const (
	toSign purpose = iota
	toStamp
)

// Limits on what one file can make a validation verify, in certificates and signature checks (2 ms each at worst, for P-521). They are far
// above what honest files need; what is beyond them is not found, so that nothing passes for it.
const (
	maxCertificates = 512
	maxPathChecks   = 250
	maxStatusChecks = 300
	maxRSABits      = 8192
)

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

// path is a certification path: the end entity first, the trust anchor last.
type path []*x509.Certificate

// trust builds certification paths and keeps those that it built. It serves one validation.
type trust struct {
	anchors *x509.CertPool
	pool    *x509.CertPool // the CAs' among the others
	all     []*x509.Certificate
	known   map[string]bool                // by Raw
	paths   map[string][]path              // by the end entity's Raw
	issuers map[string][]*x509.Certificate // pool, by RawSubject
	checks  int                            // spent of maxPathChecks
}

func newTrust(roots []*x509.Certificate) *trust {
	t := &trust{anchors: x509.NewCertPool(), pool: x509.NewCertPool(), known: map[string]bool{}, paths: map[string][]path{},
		issuers: map[string][]*x509.Certificate{}}
	for _, c := range roots {
		t.anchors.AddCert(c)
		t.known[string(c.Raw)] = true // an anchor that is in the file too would be tried, and verified, twice
	}
	return t
}

// add makes certificates available to path building. Those above maxCertificates are left out.
func (t *trust) add(certs ...*x509.Certificate) {
	for _, c := range certs {
		if key, rsaKey := c.PublicKey.(*rsa.PublicKey); rsaKey && key.N.BitLen() > maxRSABits {
			continue
		}
		if t.known[string(c.Raw)] || len(t.all) >= maxCertificates {
			continue
		}
		t.known[string(c.Raw)] = true
		t.all = append(t.all, c)
		if c.IsCA {
			t.pool.AddCert(c)
			t.issuers[string(c.RawSubject)] = append(t.issuers[string(c.RawSubject)], c)
		}
	}
}

// addDER is add for certificates as they stand in a DSS. What cannot be read is no one's issuer.
func (t *trust) addDER(ders ...[]byte) {
	for _, der := range ders {
		if t.known[string(der)] || len(t.all) >= maxCertificates {
			continue
		}
		if c, err := x509.ParseCertificate(der); err == nil {
			t.add(c)
		}
	}
}

// responders returns the certificates that an OCSP response which issuer answers for can have been signed with.
func (t *trust) responders(issuer *x509.Certificate) []*x509.Certificate {
	const most = 4
	var list []*x509.Certificate
	for _, c := range t.all {
		if len(list) < most && bytes.Equal(c.RawIssuer, issuer.RawSubject) && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			list = append(list, c)
		}
	}
	return list
}

// find returns the paths from c to the trust anchors, the signatures, names, basic constraints, path lengths and name constraints of
// which crypto/x509 verified (RFC 5280 §6.1). They need not be valid at at: that is best's matter.
func (t *trust) find(c *x509.Certificate, at time.Time) ([]path, error) {
	key := string(c.Raw)
	if found := t.paths[key]; slices.ContainsFunc(found, func(p path) bool { return p.outside(at) == nil }) {
		return found, nil
	}
	// Out of its validity a certificate still has a chain, which says what to report and what level was reached.
	times := []time.Time{at}
	if at.Before(c.NotBefore) || at.After(c.NotAfter) {
		times = []time.Time{c.NotAfter, c.NotBefore}
	} else {
		times = append(times, c.NotBefore)
	}
	var problem error
	if t.checks += t.cost(c); t.checks > maxPathChecks {
		return nil, errors.New("the file holds too many certificates that could be in it")
	}
	for _, when := range times {
		chains, err := c.Verify(x509.VerifyOptions{Roots: t.anchors, Intermediates: t.pool, CurrentTime: when, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil {
			problem = errors.Join(problem, err)
			continue
		}
		for _, chain := range chains {
			t.paths[key] = append(t.paths[key], chain)
		}
		return t.paths[key], nil
	}
	return nil, problem
}

// cost estimates the signature checks of a search for paths from c: by the number of CA certificates that names lead to. crypto/x509 stops
// at 100, which a maze of cross-certificates makes it do and an ordinary hierarchy never.
func (t *trust) cost(c *x509.Certificate) int {
	seen := map[*x509.Certificate]bool{}
	for queue := []*x509.Certificate{c}; len(queue) > 0; queue = queue[1:] {
		for _, issuer := range t.issuers[string(queue[0].RawIssuer)] {
			if !seen[issuer] {
				seen[issuer] = true
				queue = append(queue, issuer)
			}
		}
	}
	switch n := len(seen); {
	case n <= 4:
		return 1 + n
	case n <= 8:
		return 4 * n
	}
	return 100
}

// outside returns the first certificate of p that is not valid at at, nil when all are.
func (p path) outside(at time.Time) *x509.Certificate {
	for _, c := range p {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return c
		}
	}
	return nil
}

// best returns the path from c that serves at at, or else any, with the reason why it does not serve. EN 319 102-1 §5.2.6.
func (t *trust) best(c *x509.Certificate, at time.Time, what string) (path, *failure) {
	paths, err := t.find(c, at)
	if len(paths) == 0 {
		var unknown x509.UnknownAuthorityError
		if err == nil || errors.As(err, &unknown) {
			return nil, indeterminate(NoCertificateChainFound, "no path leads from the certificate of %s %q to a trust anchor", what, name(c))
		}
		return nil, indeterminate(ChainGeneralFailure, "the certificate path of %s %q is not sound: %s", what, name(c), firstLine(err))
	}
	for _, p := range paths {
		if p.outside(at) == nil {
			return p, nil
		}
	}
	p := paths[0]
	bad := p.outside(at)
	if at.Before(bad.NotBefore) {
		// The proven time is the latest at which the signature can have been made, EN 319 102-1 §5.5.4 step 5.
		return p, failed(NotYetValid, "%s existed at %s, before the certificate of %q was valid (from %s)", what, stamp3339(at), name(bad), stamp3339(bad.NotBefore))
	}
	return p, indeterminate(OutOfBoundsNoPOE, "the certificate of %q expired at %s, and nothing proves that %s is older: it is judged at %s",
		name(bad), stamp3339(bad.NotAfter), what, stamp3339(at))
}

// checkUsage reports whether the end entity of p may do what it did, and whether its keys are strong enough. RFC 5280 §4.2.1.3,
// RFC 3161 §2.3.
func (p path) checkUsage(for_ purpose, what string) *failure {
	c := p[0]
	if ku := c.KeyUsage; ku != 0 && ku&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return indeterminate(ChainConstraintsFailure, "the key usage of the certificate of %s %q allows no signatures", what, name(c))
	}
	switch for_ {
	case toStamp:
		if !onlyTimeStamping(c) {
			return indeterminate(ChainConstraintsFailure, "the certificate of %s %q is not one for time stamps: its extended key usage must be timeStamping alone, and critical", what, name(c))
		}
	case toSign:
		if c.IsCA && len(p) > 1 {
			return indeterminate(ChainConstraintsFailure, "the certificate of %s %q is a CA's", what, name(c))
		}
		if !maySignDocuments(c) {
			return indeterminate(ChainConstraintsFailure, "the extended key usage of the certificate of %s %q is not for documents", what, name(c))
		}
	}
	// A CA that names purposes issues for no other ones; what the anchor says of itself does not count (RFC 5280 §6.1.1 (d)).
	for _, ca := range p[1:max(1, len(p)-1)] {
		allowed := maySignDocuments(ca)
		if for_ == toStamp {
			allowed = len(ca.ExtKeyUsage) == 0 && len(ca.UnknownExtKeyUsage) == 0 || slices.Contains(ca.ExtKeyUsage, x509.ExtKeyUsageAny) ||
				slices.Contains(ca.ExtKeyUsage, x509.ExtKeyUsageTimeStamping)
		}
		if !allowed {
			return indeterminate(ChainConstraintsFailure, "the extended key usage of the CA %q does not take in what %s is for", name(ca), what)
		}
	}
	for _, c := range p {
		if err := weak(c); err != nil {
			return indeterminate(CryptoConstraintsFailure, "the certificate of %q: %v", name(c), err)
		}
	}
	return nil
}

// onlyTimeStamping reports whether c is a TSA's: RFC 3161 §2.3 wants one purpose, and the extension critical.
func onlyTimeStamping(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(c.UnknownExtKeyUsage) != 0 {
		return false
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage) {
			return e.Critical
		}
	}
	return false
}

// Purposes that are the signing of documents: RFC 9336, and what Adobe and Microsoft used before.
var documentPurposes = []asn1.ObjectIdentifier{
	{1, 3, 6, 1, 5, 5, 7, 3, 36}, {1, 2, 840, 113583, 1, 1, 5}, {1, 3, 6, 1, 4, 1, 311, 10, 3, 12},
}

// maySignDocuments reports whether c names no purpose, or one that takes in the signing of documents. RFC 5280 §4.2.1.12: a certificate is for
// the purposes that it names, and one for TLS is not for documents.
func maySignDocuments(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageEmailProtection) ||
		slices.ContainsFunc(c.UnknownExtKeyUsage, func(u asn1.ObjectIdentifier) bool {
			return slices.ContainsFunc(documentPurposes, u.Equal)
		})
}

// weak reports a key under 112 bits of security (ETSI TS 119 312 §6).
func weak(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < 2048 {
			return fmt.Errorf("an RSA key of %d bits is too short", n)
		}
	case *ecdsa.PublicKey:
		if n := key.Curve.Params().BitSize; n < 256 {
			return fmt.Errorf("an elliptic curve of %d bits is too small", n)
		}
	}
	return nil
}

// name returns what to call the holder of c.
func name(c *x509.Certificate) string {
	if cn := c.Subject.CommonName; cn != "" {
		return cn
	}
	return distinguishedName(c.RawSubject)
}

// newSigner returns who c says its holder is.
func newSigner(c *x509.Certificate) *Signer {
	s := &Signer{Name: name(c), RegistrationNumber: c.Subject.SerialNumber, Issuer: distinguishedName(c.RawIssuer), Serial: serialText(c.SerialNumber),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC()}
	if o := c.Subject.Organization; len(o) > 0 {
		s.Organisation = o[0]
	}
	if o := c.Subject.Country; len(o) > 0 {
		s.Country = o[0]
	}
	return s
}

// stamp3339 formats t for a person, in UTC.
func stamp3339(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
