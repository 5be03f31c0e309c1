package portal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// stapler keeps an OCSP answer of another CA about the listener's certificate (RFC 6066 §8). Where there is none to be had, clients ask themselves.
type stapler struct {
	client *http.Client
	due    time.Time // of the next question
	until  time.Time // end of the life of what is stapled
}

// Times and bounds of stapling.
const (
	stapleTime  = 10 * time.Second // for one question
	stapleRetry = 10 * time.Minute // after one that failed
	stapleMost  = 6 * time.Hour    // between two questions, whatever the answer's life
	maxStaple   = 16 << 10         // bytes
)

func newStapler(out *egress) *stapler {
	return &stapler{client: &http.Client{Timeout: stapleTime, Transport: &http.Transport{DisableKeepAlives: true, DialContext: out.client(egressOCSP)},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// fresh returns c with what is to be stapled at now: the answer that it has while that lives, or a new one when it is time. The error says why there is
// no new one; c is good all the same.
func (s *stapler) fresh(ctx context.Context, c *tls.Certificate, now time.Time) (*tls.Certificate, error) {
	if len(c.OCSPStaple) > 0 && !now.Before(s.until) {
		bare := *c
		bare.OCSPStaple = nil
		c = &bare
	}
	if now.Before(s.due) || len(c.Certificate) < 2 || len(c.Leaf.OCSPServer) == 0 {
		return c, nil
	}
	s.due = now.Add(stapleRetry)
	issuer, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		return c, err
	}
	der, answer, err := s.ask(ctx, c.Leaf, issuer)
	if err != nil {
		return c, err
	}
	if answer.Status != ocsp.Good || answer.ThisUpdate.After(now.Add(time.Hour)) || !answer.NextUpdate.After(now) {
		return c, fmt.Errorf("the CA's answer has status %d, of %v until %v", answer.Status, answer.ThisUpdate, answer.NextUpdate)
	}
	stapled := *c
	stapled.OCSPStaple = der
	s.until = answer.NextUpdate
	s.due = now.Add(min(stapleMost, answer.NextUpdate.Sub(now)/2))
	return &stapled, nil
}

// ask puts the question to the first responder that the certificate names, and checks the answer's signature.
func (s *stapler) ask(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, *ocsp.Response, error) {
	question, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: crypto.SHA1}) // RFC 5019 §2.1.1
	if err != nil {
		return nil, nil, err
	}
	if !strings.HasPrefix(leaf.OCSPServer[0], "http://") {
		return nil, nil, errors.New("the certificate's OCSP responder is not on plain http")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, leaf.OCSPServer[0], bytes.NewReader(question))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	r.Header.Set("Accept", "application/ocsp-response")
	got, err := s.client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer got.Body.Close()
	der, err := io.ReadAll(io.LimitReader(got.Body, maxStaple+1))
	if err != nil || got.StatusCode != http.StatusOK || len(der) > maxStaple {
		return nil, nil, fmt.Errorf("the OCSP responder answered %d with %d bytes: %w", got.StatusCode, len(der), errors.Join(err))
	}
	answer, err := ocsp.ParseResponseForCert(der, leaf, issuer)
	return der, answer, err
}
