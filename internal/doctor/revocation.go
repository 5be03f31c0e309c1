package doctor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/wire"
)

// maxList bounds a list that is fetched, in bytes.
const maxList = 64 << 20

// skew is by how much another clock may be ahead.
const skew = time.Minute

func (e *exam) revocation(ctx context.Context, s *sheet) {
	said, err := e.signer.examined(ctx)
	if err != nil {
		s.unasked("revocation.root_crl", err)
		s.unasked("revocation.crl", err)
		s.unasked("revocation.ocsp", err)
		return
	}
	client := e.relying(ctx, s)
	if client == nil {
		return
	}
	fine := map[string]int{}
	for _, a := range said.Authorities {
		e.oneAuthority(ctx, s, client, said, a, fine)
	}
	if n := fine["revocation.crl"]; n > 0 {
		s.ok("revocation.crl", "%d lists were fetched over http: signed by their CAs, and fresh", n)
	}
	if n := fine["revocation.ocsp"]; n > 0 {
		s.ok("revocation.ocsp", "the status of %d certificates was asked over http: good, signed by who may, and fresh", n)
	}
}

// relying finds a way to what certificates point to: by the name in them, as a relying party does; when that name does not lead here, that is bad for every
// relying party, and what this machine serves is judged over loopback all the same.
func (e *exam) relying(ctx context.Context, s *sheet) *http.Client {
	base, err := url.Parse(e.Appliance.PKI.BaseURL)
	if err != nil || base.Host == "" {
		s.bad("revocation.crl", "correct pki.base_url", "pki.base_url is no address")
		return nil
	}
	address := base.Host
	if base.Port() == "" {
		address = net.JoinHostPort(base.Hostname(), "80")
	}
	conn, err := e.m.Dial(ctx, "tcp", address)
	if err == nil {
		conn.Close()
		return plainClient(e.m, nil)
	}
	_, port, _ := net.SplitHostPort(e.Appliance.Portal.ListenHTTP)
	here := net.JoinHostPort(e.local(e.Appliance.Portal.ListenHTTP), port)
	s.bad("revocation.crl", "let the DNS name "+base.Hostname()+" point to this machine and tcp "+port+" in: every certificate that was issued names it",
		"what certificates point to is not reached by its name, %s: %v; judged over %s instead", address, err, here)
	return plainClient(e.m, func(ctx context.Context, network, _ string) (net.Conn, error) { return e.m.Dial(ctx, network, here) })
}

func (e *exam) oneAuthority(ctx context.Context, s *sheet, client *http.Client, said wire.Examined, a wire.Authority, fine map[string]int) {
	ca, err := x509.ParseCertificate(a.DER)
	if err != nil {
		s.unknown("revocation.crl", cureSigner, "the certificate of %s cannot be read: %v", a.Name, err)
		return
	}
	if ca.NotAfter.Before(e.Now()) {
		return // its last list stays as it is
	}
	if e.list(ctx, s, client, a, ca) {
		fine["revocation.crl"]++
	}
	if a.Sample == nil || isRoot(a) {
		return
	}
	sample, err := x509.ParseCertificate(a.Sample)
	if err == nil {
		err = e.status(ctx, client, sample, ca)
	}
	if err != nil {
		s.bad("revocation.ocsp", curePortal+"; "+cureSigner, "the status of the newest certificate of %s: %v", a.Name, err)
		return
	}
	fine["revocation.ocsp"]++
}

// list fetches and judges a CA's list; it reports whether one that is no root's is as it must be.
func (e *exam) list(ctx context.Context, s *sheet, client *http.Client, a wire.Authority, ca *x509.Certificate) bool {
	check := "revocation.crl"
	if isRoot(a) {
		check = "revocation.root_crl"
	}
	at := e.Appliance.PKI.BaseURL + "/crl/" + a.File + ".crl"
	status, der, err := get(ctx, client, at, maxList)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s answers %d", at, status)
	}
	if err != nil {
		s.bad(check, curePortal, "the list of %s cannot be fetched: %v", a.Name, err)
		return false
	}
	list, err := cert.ParseCRL(der)
	if err == nil {
		err = list.CheckSignatureFrom(ca)
	}
	if err == nil && list.ThisUpdate.After(e.Now().Add(skew)) {
		err = errors.New("it is of the future: is this machine's clock right?")
	}
	if err != nil {
		s.bad(check, cureSigner, "the list of %s is not good: %v", a.Name, err)
		return false
	}
	left, life := e.left(list.NextUpdate), list.NextUpdate.Sub(list.ThisUpdate)
	if isRoot(a) {
		e.rootList(s, list, left)
		return false
	}
	switch {
	case left <= 0:
		s.bad(check, cureSigner, "the list of %s ran out at %s", a.Name, list.NextUpdate.Format(time.RFC3339))
	case left < life/3:
		s.warn(check, cureSigner+": it is published anew daily", "the list of %s is good for %s only", a.Name, days(left))
	default:
		return true
	}
	return false
}

// rootList judges the root's: only a ceremony makes the next.
func (e *exam) rootList(s *sheet, list *x509.RevocationList, left time.Duration) {
	const check, cure = "revocation.root_crl", "hold a ceremony that signs the root's list again (/usr/share/doc/aes-appliance/operations.md, \"The root's list runs out\")"
	ends := list.NextUpdate.Format(time.DateOnly)
	var f *Finding
	switch {
	case left < 2*24*time.Hour:
		f = s.bad(check, cure, "the root's list ends on %s, in %s: nothing is signed any more", ends, days(left))
	case left < warnEnd:
		f = s.warn(check, cure, "the root's list ends on %s, in %s; two days before, signing stops", ends, days(left))
	default:
		f = s.ok(check, "the root's list, fetched over http, is good until %s", ends)
	}
	f.with("next_update", list.NextUpdate)
}

// status asks for a certificate's status where the certificate says (RFC 6960 A.1, POST), and judges the answer as §3.2 says.
func (e *exam) status(ctx context.Context, client *http.Client, c, issuer *x509.Certificate) error {
	if len(c.OCSPServer) == 0 {
		return errors.New("it names no responder")
	}
	id, err := cert.NewCertID(crypto.SHA1, issuer, c.SerialNumber)
	if err != nil {
		return err
	}
	nonce := make([]byte, 16)
	if _, err := e.Rand.Read(nonce); err != nil {
		return err
	}
	der, err := cert.OCSPRequest{CertIDs: []cert.CertID{id}, Nonce: nonce}.Marshal()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.OCSPServer[0], bytes.NewReader(der))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	code, body, err := do(client, r, cert.MaxOCSPResponse)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s answers %d", c.OCSPServer[0], code)
	}
	return e.judgeStatus(body, nonce, c, issuer)
}

func (e *exam) judgeStatus(body, nonce []byte, c, issuer *x509.Certificate) error {
	answer, err := cert.ParseOCSPResponse(body)
	if err != nil {
		return err
	}
	if answer.Status != cert.OCSPSuccessful {
		return fmt.Errorf("the responder answers with error %d", answer.Status)
	}
	by, err := answer.VerifyFrom(issuer)
	if err != nil {
		return err
	}
	now := e.Now()
	switch {
	case now.Before(by.NotBefore.Add(-skew)) || now.After(by.NotAfter):
		return fmt.Errorf("the responder's certificate is valid from %s to %s only", by.NotBefore.Format(time.RFC3339), by.NotAfter.Format(time.RFC3339))
	case answer.Nonce != nil && !bytes.Equal(answer.Nonce, nonce):
		return errors.New("the answer is to another question: its nonce differs")
	case len(answer.Singles) != 1 || !answer.Singles[0].CertID.Matches(c, issuer):
		return errors.New("the answer is about another certificate")
	case answer.Singles[0].Status != cert.OCSPGood:
		return fmt.Errorf("it says %s", answer.Singles[0].Status)
	case answer.Singles[0].ThisUpdate.After(now.Add(skew)) || !answer.Singles[0].NextUpdate.After(now):
		return fmt.Errorf("it holds from %s to %s", answer.Singles[0].ThisUpdate.Format(time.RFC3339), answer.Singles[0].NextUpdate.Format(time.RFC3339))
	}
	return nil
}
