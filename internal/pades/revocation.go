package pades

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

// Limits on revocation material. What is above them in a file is left out; missing material never makes a signature pass.
const (
	maxAnswers      = 256
	maxLists        = 64
	maxResponders   = 3              // OCSP responders one above the other whose own status must be known
	undatedLifetime = 24 * time.Hour // of a status without nextUpdate: RFC 6960 §4.2.2.1 says newer information is always available
)

// source is one OCSP response or CRL from the file.
type source struct {
	digest [32]byte // of its DER: its identity for proofs of existence
	ocsp   *cert.OCSPResponse
	list   *x509.RevocationList
	signed map[string]bool // of a CRL, by the Raw of a CA: whether it signed it
}

// status is what one authentic source says of one certificate.
type status struct {
	source       *source
	kind         string            // OCSP, CRL
	signer       *x509.Certificate // the CA, or its delegated responder
	produced     time.Time         // when it was signed, as it says
	this, next   time.Time         // next may be zero
	revoked      bool
	revokedAt    time.Time
	reason       int
	invalidSince time.Time // invalidityDate of a CRL entry; zero when absent
	keptSince    time.Time // certificates that expired since then are still listed; zero when not said
}

// revocations holds the revocation material of one file, and what was found out about it.
type revocations struct {
	trust    *trust
	at       time.Time // of validation
	sources  []*source
	byDigest map[[32]byte]*source
	existed  map[[32]byte]time.Time // the oldest proven time at which a source existed; absent: at
	inDSS    []map[[32]byte]bool    // by revision: what its DSS held; nil where it was not read
	found    map[string][]status    // by certificate and issuer
	checks   int                    // spent of maxStatusChecks
}

func newRevocations(t *trust, at time.Time, revisions int) *revocations {
	return &revocations{trust: t, at: at, byDigest: map[[32]byte]*source{}, existed: map[[32]byte]time.Time{},
		inDSS: make([]map[[32]byte]bool, revisions), found: map[string][]status{}}
}

// addOCSP and addCRL take material in DER. What cannot be read says nothing of anyone.
func (r *revocations) addOCSP(ders ...[]byte) {
	for _, der := range ders {
		digest := sha256.Sum256(der)
		if r.byDigest[digest] != nil {
			continue
		}
		parsed, err := cert.ParseOCSPResponse(der)
		if err != nil || parsed.Status != cert.OCSPSuccessful || len(r.sources) >= maxAnswers+maxLists {
			continue
		}
		r.trust.add(parsed.Certificates...)
		r.keep(&source{digest: digest, ocsp: parsed})
	}
}

func (r *revocations) addCRL(ders ...[]byte) {
	for _, der := range ders {
		digest := sha256.Sum256(der)
		if r.byDigest[digest] != nil {
			continue
		}
		parsed, err := cert.ParseCRL(der)
		if err != nil || len(r.sources) >= maxAnswers+maxLists {
			continue
		}
		r.keep(&source{digest: digest, list: parsed})
	}
}

func (r *revocations) keep(s *source) {
	r.byDigest[s.digest] = s
	r.sources = append(r.sources, s)
	clear(r.found)
}

// vouch records that a valid document time stamp proves that what the DSS of its revision holds existed at t.
func (r *revocations) vouch(revision int, t time.Time) {
	for digest := range r.inDSS[revision] {
		if old, have := r.existed[digest]; !have || t.Before(old) {
			r.existed[digest] = t
		}
	}
}

// existedAt returns the oldest time at which s is known to have existed when u is judged. A time stamp vouches for the DSS under it while it
// is being judged itself: its own genTime is the claim under test, and a status that the token covers cannot be younger than the token.
func (r *revocations) existedAt(s *source, u use) time.Time {
	t, have := r.existed[s.digest]
	if !have {
		t = r.at
	}
	if u.revision >= 0 && r.inDSS[u.revision][s.digest] && u.claimed.Before(t) {
		return u.claimed
	}
	return t
}

// of returns what the authentic sources say of c, which issuer issued. Times are not judged.
func (r *revocations) of(c, issuer *x509.Certificate) []status {
	key := string(c.Raw) + string(issuer.Raw)
	if list, have := r.found[key]; have {
		return list
	}
	list := []status{}
	for _, s := range r.sources {
		if s.ocsp != nil {
			list = append(list, r.fromOCSP(s, c, issuer)...)
		} else if one, ok := r.fromCRL(s, c, issuer); ok {
			list = append(list, one)
		}
	}
	r.found[key] = list
	return list
}

// fromOCSP returns the statuses of c in an OCSP response that issuer, or a responder that issuer authorised, signed (RFC 6960 §3.2).
func (r *revocations) fromOCSP(s *source, c, issuer *x509.Certificate) []status {
	var list []status
	var signer *x509.Certificate
	for i := range s.ocsp.Singles {
		one := &s.ocsp.Singles[i]
		if one.Status == cert.OCSPUnknown || !one.CertID.Matches(c, issuer) {
			continue
		}
		if signer == nil {
			// One check under the CA's own key, two for each certificate that the responder may have.
			var extra []*x509.Certificate
			named := count(s.ocsp.Certificates, s.ocsp.Names)
			if named == 0 {
				extra = r.trust.responders(issuer)
				named = count(extra, s.ocsp.Names)
			}
			if r.checks += 1 + 2*named; r.checks > maxStatusChecks {
				return nil
			}
			var err error
			if signer, err = s.ocsp.VerifyFrom(issuer, extra...); err != nil {
				return nil
			}
		}
		list = append(list, status{source: s, kind: "OCSP", signer: signer, produced: s.ocsp.ProducedAt, this: one.ThisUpdate, next: one.NextUpdate,
			revoked: one.Status == cert.OCSPRevoked, revokedAt: one.RevokedAt, reason: one.Reason, keptSince: one.ArchiveCutoff})
	}
	return list
}

func count(certs []*x509.Certificate, is func(*x509.Certificate) bool) int {
	n := 0
	for _, c := range certs {
		if is(c) {
			n++
		}
	}
	return n
}

// judge returns the status of c, issued by issuer, for a use of a key in whose path c stands. EN 319 102-1 §5.2.5, §5.6.2.1.
func (r *revocations) judge(c, issuer *x509.Certificate, u use, what string) (*status, *failure) {
	return r.judgeAt(c, issuer, u, what, 0)
}

func (r *revocations) judgeAt(c, issuer *x509.Certificate, u use, what string, depth int) (*status, *failure) {
	var good *status
	var revoked *status
	var unfit []string
	list := r.of(c, issuer)
	for i := range list {
		s := &list[i]
		if why := r.unusable(s, c, issuer, u, depth); why != "" {
			unfit = append(unfit, s.describe()+" "+why)
			continue
		}
		if s.revoked {
			if revoked == nil || s.revokedAt.Before(revoked.revokedAt) {
				revoked = s
			}
			continue
		}
		if why := s.stale(c, u); why != "" {
			unfit = append(unfit, s.describe()+" "+why)
			continue
		}
		if good == nil || s.this.After(good.this) {
			good = s
		}
	}
	if revoked != nil && !revoked.harmless(u, what == whatTimeStamp) {
		sub := RevokedNoPOE
		if c.IsCA {
			sub = RevokedCANoPOE
		}
		return revoked, indeterminate(sub, "the certificate of %q was revoked at %s (%s), and nothing proves that %s is older: it is judged at %s",
			name(c), stamp3339(revoked.revokedAt), reasonText(revoked.reason), what, stamp3339(u.proven))
	}
	if revoked != nil { // revoked later than the use: known to have been good until then
		return revoked, nil
	}
	if good != nil {
		return good, nil
	}
	if len(unfit) > 0 {
		slices.Sort(unfit)
		return nil, indeterminate(TryLater, "the file holds no usable revocation status of the certificate of %q: %s", name(c), unfit[0])
	}
	return nil, indeterminate(TryLater, "the file holds no revocation status of the certificate of %q", name(c))
}

// unusable says why s says nothing at all about c when u is judged, "" when it does.
func (r *revocations) unusable(s *status, c, issuer *x509.Certificate, u use, depth int) string {
	switch {
	case s.this.Before(c.NotBefore):
		return "is older than the certificate"
	case s.produced.After(r.at.Add(clockSkew)) || s.this.After(r.at.Add(clockSkew)):
		return "is from the future"
	case s.produced.Before(s.signer.NotBefore) || s.produced.After(s.signer.NotAfter):
		return "was signed outside the validity of its signer's certificate"
	case r.existedAt(s.source, u).After(s.signer.NotAfter):
		// Otherwise whoever gets hold of an expired responder's key could write the past anew. EN 319 102-1 §5.6.2.2.4.
		return "is not proven to have existed while its signer's certificate was valid"
	}
	if s.signer.Equal(issuer) || cert.HasOCSPNoCheck(s.signer) {
		return ""
	}
	// RFC 6960 §4.2.2.2.1: without nocheck the responder's own status counts.
	if depth >= maxResponders {
		return "comes from a responder whose own status cannot be known"
	}
	if _, f := r.judgeAt(s.signer, issuer, use{s.produced, s.produced, u.revision}, "the answer", depth+1); f != nil {
		return "comes from a responder that is not known to be unrevoked"
	}
	return ""
}

// stale says why s does not show that c was good when it was used, "" when it does.
func (s *status) stale(c *x509.Certificate, u use) string {
	if s.this.After(c.NotAfter) && (s.keptSince.IsZero() || s.keptSince.After(c.NotAfter)) {
		return "was made after the certificate had expired, when the CA need not list it any more"
	}
	if !s.this.Before(u.claimed) {
		return ""
	}
	end := s.next
	if end.IsZero() {
		end = s.this.Add(undatedLifetime)
	}
	if u.claimed.After(end) {
		return "was out of date at " + stamp3339(u.claimed)
	}
	return ""
}

// harmless reports whether a revocation leaves the use u standing: it came later. RFC 3161 §4: when a TSA's certificate was revoked for a
// reason that says the key is not compromised, tokens from before stay valid; otherwise all fall that are not proven to be older.
func (s *status) harmless(u use, token bool) bool {
	if u.proven.Before(s.revokedAt) {
		return true
	}
	orderly := s.reason == int(cert.ReasonAffiliationChanged) || s.reason == int(cert.ReasonSuperseded) || s.reason == int(cert.ReasonCessationOfOperation)
	return token && orderly && u.claimed.Before(s.revokedAt)
}

// known reports whether the DSS of a revision holds an authentic status of c at all, however old: what EN 319 142-1 §6.3 asks of B-LT.
func (r *revocations) known(c, issuer *x509.Certificate, revision int) bool {
	held := r.inDSS[revision]
	return slices.ContainsFunc(r.of(c, issuer), func(s status) bool { return held[s.source.digest] && !s.this.Before(c.NotBefore) })
}

func (s *status) describe() string {
	return fmt.Sprintf("the %s of %s by %q", map[string]string{"OCSP": "OCSP answer", "CRL": "CRL"}[s.kind], stamp3339(s.this), name(s.signer))
}

func (s *status) report() *RevocationReport {
	r := &RevocationReport{Source: s.kind, Status: "good", ThisUpdate: s.this.UTC(), Signer: distinguishedName(s.signer.RawSubject)}
	if !s.next.IsZero() {
		next := s.next.UTC()
		r.NextUpdate = &next
	}
	if s.revoked {
		at := s.revokedAt.UTC()
		r.Status, r.RevokedAt, r.Reason = "revoked", &at, reasonText(s.reason)
	}
	return r
}

// reasonText names a CRLReason (RFC 5280 §5.3.1).
func reasonText(reason int) string {
	if r := cert.Reason(reason); r.Valid() {
		return r.String()
	}
	switch reason {
	case 6:
		return "certificateHold"
	case 8:
		return "removeFromCRL"
	case 10:
		return "aACompromise"
	}
	return "unspecified"
}
