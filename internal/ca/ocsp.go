package ca

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// What counts counts, for the aggregated line.
const (
	countGood = iota // as cert.OCSPStatus
	countRevoked
	countUnknown
	countCached
	countRefused
)

const (
	maxCachedRequest = 256 // bytes; an ordinary question about one certificate has about 110
	slotWait         = 250 * time.Millisecond
)

// answer is a signed answer without nonce that may be given again.
type answer struct {
	der   []byte
	about *entry    // the very entry it was made from: any change replaces that
	until time.Time // by the machine's clock
}

// OCSP answers a request (RFC 6960), always in DER: errors are the unsigned ones. Only public requests come here; for documents there is Status.
func (c *CA) OCSP(ctx context.Context, request []byte) []byte {
	der, status := c.ocsp(ctx, request)
	if status != cert.OCSPSuccessful {
		c.counts[countRefused].Add(1)
		return cert.OCSPFailure(status)
	}
	return der
}

func (c *CA) ocsp(ctx context.Context, request []byte) (der []byte, status int) {
	r, err := cert.ParseOCSPRequest(request)
	if err != nil {
		return nil, cert.OCSPMalformedRequest
	}
	a, singles, about := c.singles(r.CertIDs)
	if a == nil {
		return nil, cert.OCSPUnauthorized // RFC 6960 §2.3: about no CA that this responder speaks for
	}
	now := c.now()
	repeatable := len(singles) == 1 && r.Nonce == nil && about != nil && len(request) <= maxCachedRequest
	if repeatable {
		if have, ok := c.answers.get(string(request)); ok && have.about == about && now.Before(have.until) && c.certain() == nil {
			c.counts[countCached].Add(1)
			return have.der, cert.OCSPSuccessful
		}
	}
	if !c.slot(ctx) {
		return nil, cert.OCSPTryLater
	}
	defer func() { <-c.signing }()
	der, err = c.respond(a, singles, r.Nonce, now)
	if err != nil {
		c.cfg.Log.ErrorContext(ctx, "no OCSP answer", "ca", a.kind, "error", err)
		if fault.KindOf(err) == fault.Unavailable {
			return nil, cert.OCSPTryLater
		}
		return nil, cert.OCSPInternalError
	}
	for _, s := range singles {
		c.counts[s.Status].Add(1)
	}
	if repeatable {
		c.answers.put(string(request), answer{der, about, now.Add(c.cfg.Policy.OCSPCache)})
	}
	return der, cert.OCSPSuccessful
}

// slot waits, not for long, for one of the slots: public questions must not take all of the token's sessions from those who sign documents.
func (c *CA) slot(ctx context.Context) bool {
	select {
	case c.signing <- struct{}{}:
		return true
	default:
	}
	wait := time.NewTimer(slotWait)
	defer wait.Stop()
	select {
	case c.signing <- struct{}{}:
		return true
	case <-wait.C:
	case <-ctx.Done():
	}
	return false
}

// certain returns nil as long as memory is known to hold all that the log does.
func (c *CA) certain() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.broken != nil {
		return fault.New(fault.Unavailable, "the state of certificates is uncertain after a failed write").WithCause(c.broken).WithHint("restart the signer")
	}
	return nil
}

// singles says of every CertID what is known. One answer is signed by one CA's responder, so it is the first CA asked about that is spoken
// for; certificates of another are unknown to it. about is the entry of a single question's certificate.
func (c *CA) singles(ids []cert.CertID) (a *authority, list []cert.SingleResponse, about *entry) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, id := range ids {
		if a = c.issuers[string(id.NameHash)+string(id.KeyHash)]; a != nil {
			break
		}
	}
	if a == nil {
		return nil, nil, nil
	}
	for _, id := range ids {
		one := cert.SingleResponse{CertID: id, Status: cert.OCSPUnknown}
		if c.issuers[string(id.NameHash)+string(id.KeyHash)] == a && id.Serial.Sign() > 0 && id.Serial.BitLen() <= 128 {
			if e := c.entries[serialOf(id.Serial)]; e != nil && e.Issuer == a.serial {
				e.answer(&one)
				about = e
			}
		}
		list = append(list, one)
	}
	return a, list, about
}

// answer fills in the state.
func (e *entry) answer(one *cert.SingleResponse) {
	one.Status = cert.OCSPGood
	if e.RevokedAt == nil {
		return
	}
	one.Status, one.RevokedAt = cert.OCSPRevoked, *e.RevokedAt
	if reason, err := cert.ParseReason(e.Reason); err == nil {
		one.Reason = int(reason)
	}
}

// respond signs the answer with a's responder.
func (c *CA) respond(a *authority, singles []cert.SingleResponse, nonce []byte, now time.Time) ([]byte, error) {
	unavailable := func(text string) *fault.Error { return fault.New(fault.Unavailable, text) }
	if err := c.certain(); err != nil {
		return nil, err
	}
	r := a.responder.Load()
	if r == nil || now.Before(r.Certificate().NotBefore) || now.After(r.Certificate().NotAfter) {
		return nil, unavailable("the " + string(a.kind) + " has no OCSP responder that is valid now")
	}
	for i := range singles {
		one := &singles[i]
		if one.Status == cert.OCSPRevoked && one.RevokedAt.After(now) {
			now = one.RevokedAt // the log's clock is never behind its own lines; the machine's can be
		}
	}
	next := now.Add(c.cfg.Policy.OCSPValidity)
	for i := range singles {
		singles[i].ThisUpdate, singles[i].NextUpdate, singles[i].ArchiveCutoff = now, next, a.cert.NotBefore
	}
	return r.Sign(c.cfg.Rand, cert.OCSPTemplate{ProducedAt: now, Singles: singles, Nonce: nonce})
}

// Status returns one fresh OCSP answer for each certificate, made at proven time, as the DSS of a document wants it. Every certificate is one
// that the issuing CAs issued, and is not revoked.
//
// Errors: Unavailable (time, responder), Forbidden (a certificate is revoked), NotFound (not ours).
func (c *CA) Status(ctx context.Context, certs ...*x509.Certificate) ([][]byte, error) {
	now, err := c.proven()
	if err != nil {
		return nil, err
	}
	list := make([][]byte, 0, len(certs))
	for _, crt := range certs {
		serial := serialOf(crt.SerialNumber)
		e, err := c.entry(serial)
		if err != nil {
			return nil, err
		}
		a, err := c.authority(e.Issuer)
		if err != nil {
			return nil, err
		}
		if e.RevokedAt != nil {
			return nil, fault.New(fault.Forbidden, "the certificate with serial number "+serial+" was revoked at "+e.RevokedAt.Format(time.RFC3339))
		}
		id := a.id
		id.Serial = crt.SerialNumber
		der, err := c.fresh.get(freshKey{a.responder.Load(), serial}, now, func() ([]byte, error) {
			return c.respond(a, []cert.SingleResponse{{CertID: id, Status: cert.OCSPGood}}, nil, now)
		})
		if err != nil {
			return nil, err
		}
		list = append(list, der)
	}
	return list, nil
}

// Material is what a document's DSS needs for the chains of some certificates, in DER.
type Material struct{ Certs, OCSPs, CRLs [][]byte }

// Material returns, for each certificate, its chain with the root, a fresh answer about it and its responder's certificate, and once the root's
// CRL, which speaks for the CAs. Errors as of Status, and Unavailable when the root's CRL is about to run out.
func (c *CA) Material(ctx context.Context, certs ...*x509.Certificate) (Material, error) {
	var m Material
	now, err := c.proven()
	if err != nil {
		return m, err
	}
	if err := c.rootListLasts(now); err != nil {
		return m, err
	}
	answers, err := c.Status(ctx, certs...)
	if err != nil {
		return m, err
	}
	seen := map[string]bool{}
	add := func(crt *x509.Certificate) {
		if !seen[string(crt.Raw)] {
			seen[string(crt.Raw)] = true
			m.Certs = append(m.Certs, crt.Raw)
		}
	}
	for _, crt := range certs {
		chain, err := c.Chain(serialOf(crt.SerialNumber))
		if err != nil {
			return m, err
		}
		for _, link := range chain {
			add(link)
		}
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	m.OCSPs, m.CRLs = answers, [][]byte{c.rootCRL.Raw}
	return m, nil
}

// rootListLasts refuses when the root's CRL runs out too soon for a document to carry it.
func (c *CA) rootListLasts(now time.Time) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.root == nil {
		return errNotEstablished()
	}
	if c.rootCRL.NextUpdate.After(now.Add(c.cfg.Policy.RootCRLRefuse)) {
		return nil
	}
	return fault.New(fault.Unavailable, "the root's CRL runs out at "+c.rootCRL.NextUpdate.UTC().Format(time.RFC3339)+", too soon to sign documents with it").
		WithHint(`"appliance ceremony sign-list" has the root sign it again`)
}

// logAnswers writes the aggregated line of public answers, at most one an hour and none for silence. act is held.
func (c *CA) logAnswers(ctx context.Context) error {
	now := c.now()
	if now.Sub(c.counted) < time.Hour {
		return nil
	}
	var n [5]uint64
	var sum uint64
	for i := range n {
		n[i] = c.counts[i].Load()
		sum += n[i]
	}
	c.counted = now
	if sum == 0 {
		return nil
	}
	details := map[string]uint64{"good": n[countGood], "revoked": n[countRevoked], "unknown": n[countUnknown], "repeated": n[countCached], "refused": n[countRefused]}
	if _, err := c.cfg.Ledger.Append(ctx, ledger.Event{Type: eventAnswers, Actor: actorSelf, Details: details}); err != nil {
		return fmt.Errorf("ca: recording OCSP answers: %w", err)
	}
	for i := range n {
		c.counts[i].Add(-n[i])
	}
	return nil
}
