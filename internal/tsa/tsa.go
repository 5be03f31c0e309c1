// Package tsa is a time-stamping authority: RFC 3161 requests, or imprints, in; time-stamp tokens out (RFC 3161, RFC 5816, EN 319 422).
//
// A token's time is the second in which its imprint was received, from a clock that has proven itself; no proof, no token. Tokens carry
// an accuracy, no ordering, no extensions and no tsa field: the signing certificate names the authority.
package tsa

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// MaxAccuracy is the coarsest accuracy that a token may state (EN 319 421 §7.7.2).
const MaxAccuracy = time.Second

// Clock gives the time, or says why it cannot.
type Clock interface{ Now() (clock.Reading, error) }

// Config is what an authority consists of.
type Config struct {
	Policy      asn1.ObjectIdentifier // the one policy under which it issues
	Accuracy    time.Duration         // stated in every token, whole microseconds; a reading with an error of more than half of it is not used
	Certificate *x509.Certificate     // critical extended key usage timeStamping and nothing else
	Chain       []*x509.Certificate   // embedded besides Certificate, from its issuer upwards
	Key         crypto.Signer         // safe for concurrent use
	Clock       Clock
	Rand        io.Reader
	OnIssue     func(Outcome) // called once for every request or imprint, before the answer leaves; may be nil
	// Release is called by Respond with what a token says, before that leaves; an error keeps it back. Whoever calls Stamp answers for it himself. May be nil.
	Release func(context.Context, tsp.TSTInfo) error
}

// Outcome is what became of one request.
type Outcome struct {
	Info    tsp.TSTInfo   // what was signed; zero when refused
	Reading clock.Reading // of the clock; zero when it was not asked or did not say
	Failure *tsp.Failure  // what the client was told; nil when a token was issued
	Cause   error         // for the log: the error behind Failure, when there is more than the request
}

// TSA issues time-stamp tokens. It is safe for concurrent use.
type TSA struct {
	cfg      Config
	full     *cms.Producer // with certificates
	bare     *cms.Producer // certReq false
	serials  *serials
	from, to time.Time // when the certificate and its key may be used
	size     int
}

// New checks that the certificate is one of a time-stamping authority and the key is its key.
func New(cfg Config) (*TSA, error) {
	switch {
	case cfg.Certificate == nil || cfg.Key == nil || cfg.Clock == nil || cfg.Rand == nil:
		return nil, errors.New("tsa: certificate, key, clock and randomness are needed")
	case len(cfg.Policy) < 2:
		return nil, errors.New("tsa: a policy OID is needed")
	case cfg.Accuracy <= 0 || cfg.Accuracy > MaxAccuracy || cfg.Accuracy%time.Microsecond != 0:
		return nil, fault.New(fault.Invalid, fmt.Sprintf("time-stamp accuracy %v is not between 1µs and %v", cfg.Accuracy, MaxAccuracy))
	}
	if err := checkCertificate(cfg.Certificate); err != nil {
		return nil, err
	}
	if err := checkChain(cfg.Certificate, cfg.Chain); err != nil {
		return nil, err
	}
	t := &TSA{cfg: cfg}
	var err error
	if t.from, t.to, err = usable(cfg.Certificate); err != nil {
		return nil, err
	}
	p := cms.SignParams{ContentType: tsp.ContentType(), Hash: hashFor(cfg.Certificate), Certificate: cfg.Certificate, Chain: cfg.Chain}
	if t.full, err = cms.NewProducer(p, cfg.Key); err != nil {
		return nil, fmt.Errorf("tsa: %w", err)
	}
	p.EmbedNone = true
	if t.bare, err = cms.NewProducer(p, cfg.Key); err != nil {
		return nil, fmt.Errorf("tsa: %w", err)
	}
	if t.serials, err = newSerials(cfg.Rand); err != nil {
		return nil, err
	}
	t.size, err = t.largest()
	return t, err
}

// hashFor returns the hash that goes with the strength of the certificate's key.
func hashFor(cert *x509.Certificate) crypto.Hash {
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); ok {
		switch bits := key.Params().BitSize; {
		case bits > 384:
			return crypto.SHA512
		case bits > 256:
			return crypto.SHA384
		}
	}
	return crypto.SHA256
}

// largest returns the size of a token whose every element is as long as it gets.
func (t *TSA) largest() (int, error) {
	info := tsp.TSTInfo{
		Policy:   t.cfg.Policy,
		Imprint:  tsp.Imprint{Hash: crypto.SHA512, Digest: make([]byte, crypto.SHA512.Size())},
		Serial:   new(big.Int).Lsh(big.NewInt(1), 8*tsp.MaxSerial-1),
		GenTime:  time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		Accuracy: t.cfg.Accuracy,
		Nonce:    new(big.Int).Lsh(big.NewInt(1), 8*tsp.MaxNonce-2),
	}
	content, err := info.Marshal()
	if err != nil {
		return 0, fmt.Errorf("tsa: %w", err)
	}
	return t.full.MaxSize(len(content)), nil
}

// TokenSize returns an upper bound, in bytes, for every token that Stamp and Respond make.
func (t *TSA) TokenSize() int { return t.size }

// Stamp returns a token over imprint with the authority's certificates, and what it says. The error is a fault: Unavailable when the time
// is not proven, Invalid when the imprint is wrong.
func (t *TSA) Stamp(ctx context.Context, imprint tsp.Imprint) (token []byte, info tsp.TSTInfo, err error) {
	token, out := t.issue(ctx, tsp.Request{Imprint: imprint, CertReq: true})
	t.report(out)
	if out.Failure == nil {
		return token, out.Info, nil
	}
	return nil, tsp.TSTInfo{}, stampFault(out)
}

// stampFault turns a refusal into an error for a caller within the program.
func stampFault(out Outcome) error {
	kind := fault.Internal
	switch out.Failure.Info {
	case tsp.TimeNotAvailable:
		kind = fault.Unavailable
	case tsp.BadAlg, tsp.BadDataFormat:
		kind = fault.Invalid
	case tsp.SystemFailure:
		if out.Cause != nil {
			kind = fault.KindOf(out.Cause)
		}
	}
	return fault.New(kind, "no time stamp: "+out.Failure.Text).WithHint(fault.HintOf(out.Cause)).WithCause(out.Cause)
}

// Respond answers a TimeStampReq. The answer is the DER of a TimeStampResp whatever the request is.
func (t *TSA) Respond(ctx context.Context, request []byte) []byte {
	req, err := tsp.ParseRequest(request)
	if err != nil {
		return t.refuse(Outcome{Failure: failureOf(err)})
	}
	if req.Policy != nil && !req.Policy.Equal(t.cfg.Policy) {
		return t.refuse(Outcome{Failure: &tsp.Failure{Info: tsp.UnacceptedPolicy, Text: fmt.Sprintf("the policy here is %v", t.cfg.Policy)}})
	}
	token, out := t.issue(ctx, req)
	if out.Failure != nil {
		return t.refuse(out)
	}
	der, err := tsp.Response{Status: tsp.Granted, Token: token}.Marshal()
	if err == nil && t.cfg.Release != nil {
		err = t.cfg.Release(ctx, out.Info)
	}
	if err != nil {
		return t.refuse(systemFailure(out, err))
	}
	t.report(out)
	return der
}

// failureOf returns what a client is told about err of tsp.ParseRequest.
func failureOf(err error) *tsp.Failure {
	var f *tsp.Failure
	if errors.As(err, &f) {
		return f
	}
	return &tsp.Failure{Info: tsp.BadRequest, Text: "the request cannot be read"}
}

// refuse reports out and returns the response that tells the client.
func (t *TSA) refuse(out Outcome) []byte {
	t.report(out)
	der, err := out.Failure.Response().Marshal()
	if err != nil {
		panic("tsa: a refusal made here cannot be encoded: " + err.Error())
	}
	return der
}

func (t *TSA) report(out Outcome) {
	if t.cfg.OnIssue != nil {
		t.cfg.OnIssue(out)
	}
}

// issue makes a token for req, whose policy is accepted.
func (t *TSA) issue(ctx context.Context, req tsp.Request) ([]byte, Outcome) {
	var out Outcome
	if err := req.Imprint.Check(); err != nil {
		out.Failure = failureOf(err)
		return nil, out
	}
	if err := ctx.Err(); err != nil {
		return nil, systemFailure(out, err)
	}
	info, out := t.prepare(ctx, req)
	if out.Failure != nil {
		return nil, out
	}
	content, err := info.Marshal()
	if err != nil {
		return nil, systemFailure(out, err)
	}
	producer := t.bare
	if req.CertReq { // RFC 3161 §2.4.1: the certificate that ESSCertID names, if and only if it is asked for
		producer = t.full
	}
	token, err := producer.Sign(t.cfg.Rand, content, nil)
	if err != nil {
		return nil, systemFailure(out, err)
	}
	out.Info = info
	return token, out
}

// prepare asks the clock and fills in a TSTInfo.
func (t *TSA) prepare(ctx context.Context, req tsp.Request) (tsp.TSTInfo, Outcome) {
	var out Outcome
	reading, err := t.read(ctx)
	if err != nil {
		out.Failure = &tsp.Failure{Info: tsp.TimeNotAvailable, Text: "the time is not known at present to the accuracy that the policy promises"}
		out.Cause = err
		return tsp.TSTInfo{}, out
	}
	out.Reading = reading
	now := genTime(reading)
	if now.Before(t.from) || now.After(t.to) {
		return tsp.TSTInfo{}, systemFailure(out, fault.New(fault.Unavailable, fmt.Sprintf("the time-stamping key may be used from %s to %s only",
			t.from.Format(time.RFC3339), t.to.Format(time.RFC3339))).WithHint("issue a new time-stamping certificate"))
	}
	serial, err := t.serials.next()
	if err != nil {
		return tsp.TSTInfo{}, systemFailure(out, err)
	}
	return tsp.TSTInfo{
		Policy: t.cfg.Policy, Imprint: req.Imprint, Serial: serial, GenTime: now, Accuracy: t.cfg.Accuracy,
		Nonce: req.Nonce, // RFC 3161 §2.4.2: the same value as in the request, and present if and only if it was there
	}, out
}

// genTime is a reading in whole seconds: OCSP answers, made after the token, have no finer time, and must not look as if they had been
// made before it.
func genTime(r clock.Reading) time.Time { return r.Time.UTC().Truncate(time.Second) }

// read returns a reading whose second is true within the accuracy: what the clock may be wrong by and what genTime cuts off stay within it
// together (RFC 3161 §2.4.2). Towards the end of a second that can mean to wait for the next one, at most as long as the clock may be wrong.
func (t *TSA) read(ctx context.Context) (clock.Reading, error) {
	for {
		r, err := t.cfg.Clock.Now()
		if err != nil || !r.Proven {
			return r, err
		}
		if 2*r.MaxError > t.cfg.Accuracy {
			return r, fault.New(fault.Unavailable, fmt.Sprintf("a clock error of %v is too much for the accuracy of %v", r.MaxError, t.cfg.Accuracy))
		}
		late := r.Time.Sub(genTime(r))
		if late+r.MaxError <= t.cfg.Accuracy {
			return r, nil
		}
		select {
		case <-time.After(time.Second - late):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// systemFailure returns out as a refusal that does not let cause out.
func systemFailure(out Outcome, cause error) Outcome {
	out.Info = tsp.TSTInfo{}
	out.Failure = &tsp.Failure{Info: tsp.SystemFailure, Text: "the time-stamping unit cannot sign at present"}
	out.Cause = cause
	return out
}
