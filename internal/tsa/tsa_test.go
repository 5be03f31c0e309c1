package tsa_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/tsp"
)

var ctx = context.Background()

// TestTokenSaysWhatWasAsked checks every field of a token, and that nothing is in it that facts and standards leave out.
func TestTokenSaysWhatWasAsked(t *testing.T) {
	p := pkis["P-256"]()
	authority := newTSA(t, config(p))
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, certReq := range []bool{true, false} {
			r := tsp.Request{Imprint: imprintOf(h, "data"), Nonce: big.NewInt(-1 << 40), CertReq: certReq, Policy: policy}
			resp := ask(t, authority, r)
			if resp.Status != tsp.Granted || resp.Text != "" {
				t.Fatalf("%v: %+v", h, resp)
			}
			s, info := open(t, resp.Token, p.cert)
			if !info.Imprint.Equal(r.Imprint) || info.Nonce.Cmp(r.Nonce) != 0 || !info.Policy.Equal(policy) || info.Accuracy != time.Second ||
				info.Ordering || info.TSA != nil || !info.GenTime.Equal(now.Truncate(time.Second)) || info.Serial.Sign() <= 0 || info.Serial.BitLen() != 159 {
				t.Errorf("%v: %+v", h, info)
			}
			if want := map[bool]int{true: 2, false: 0}[certReq]; len(s.Certificates) != want {
				t.Errorf("certReq %v: %d certificates", certReq, len(s.Certificates))
			}
			if s.Version != 3 || !s.ContentType.Equal(tsp.ContentType()) || len(s.Signers) != 1 || len(s.Signers[0].UnsignedAttrs) != 0 {
				t.Errorf("%v: %+v", h, s)
			}
			ids, err := s.Signers[0].SigningCertificates()
			if err != nil || len(ids) != 1 || ids[0].Hash == crypto.SHA1 || !ids[0].Matches(p.cert) { // RFC 5816 §2.2.1
				t.Errorf("%v: ESSCertIDs %v, error %v", h, ids, err)
			}
		}
	}
	resp := ask(t, authority, tsp.Request{Imprint: imprintOf(crypto.SHA256, "data")})
	if _, info := open(t, resp.Token, p.cert); info.Nonce != nil {
		t.Error("a nonce that was not asked for")
	}
}

func TestHashFollowsTheKey(t *testing.T) {
	for name, want := range map[string]crypto.Hash{"P-256": crypto.SHA256, "P-384": crypto.SHA384, "P-521": crypto.SHA512, "RSA-3072": crypto.SHA256} {
		token, _, err := newTSA(t, config(pkis[name]())).Stamp(ctx, imprintOf(crypto.SHA256, "x"))
		if err != nil {
			t.Fatal(err)
		}
		s, _ := open(t, token)
		if s.Signers[0].DigestHash != want {
			t.Errorf("%s signs with %v", name, s.Signers[0].DigestHash)
		}
	}
}

func TestStampSaysTheSameAsItsToken(t *testing.T) {
	authority := newTSA(t, config(pkis["P-256"]()))
	token, info, err := authority.Stamp(ctx, imprintOf(crypto.SHA512, "x"))
	if err != nil {
		t.Fatal(err)
	}
	_, got := open(t, token)
	a, errA := got.Marshal()
	b, errB := info.Marshal()
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%+v, the token says %+v", info, got)
	}
}

func TestRequestsRefused(t *testing.T) {
	var outcomes []tsa.Outcome
	cfg := config(pkis["P-256"]())
	cfg.OnIssue = func(o tsa.Outcome) { outcomes = append(outcomes, o) }
	authority := newTSA(t, cfg)
	good := marshal(t, tsp.Request{Imprint: imprintOf(crypto.SHA256, "x")})
	sha224 := bytes.Replace(bytes.Clone(good), []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}, []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04}, 1)
	for name, c := range map[string]struct {
		request []byte
		info    tsp.FailInfo
	}{
		"nothing":         {nil, tsp.BadDataFormat},
		"junk":            {[]byte("GET / HTTP/1.1"), tsp.BadDataFormat},
		"a tail":          {append(bytes.Clone(good), 0), tsp.BadDataFormat},
		"SHA-224":         {sha224, tsp.BadAlg},
		"too long":        {make([]byte, tsp.MaxRequest+1), tsp.BadRequest},
		"another policy":  {marshal(t, tsp.Request{Imprint: imprintOf(crypto.SHA256, "x"), Policy: asn1.ObjectIdentifier{1, 2, 3}}), tsp.UnacceptedPolicy},
		"policy's parent": {marshal(t, tsp.Request{Imprint: imprintOf(crypto.SHA256, "x"), Policy: policy[:len(policy)-1]}), tsp.UnacceptedPolicy},
	} {
		outcomes = nil
		resp, err := tsp.ParseResponse(authority.Respond(ctx, c.request))
		if err != nil || resp.Status != tsp.Rejection || resp.FailInfo != c.info || resp.Text == "" {
			t.Errorf("%s: %+v, error %v, want %v", name, resp, err, c.info)
		}
		if len(outcomes) != 1 || outcomes[0].Failure == nil || outcomes[0].Failure.Info != c.info || outcomes[0].Info.Serial != nil {
			t.Errorf("%s: reported as %+v", name, outcomes)
		}
	}
	outcomes = nil
	if authority.Respond(ctx, good); len(outcomes) != 1 || outcomes[0].Failure != nil || outcomes[0].Info.Serial == nil || !outcomes[0].Reading.Proven {
		t.Errorf("a token was reported as %+v", outcomes)
	}
}

// failingKey cannot sign.
type failingKey struct {
	crypto.Signer
	err error
}

func (k failingKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, k.err }

// dryRand has n bytes.
type dryRand struct{ n int }

func (r *dryRand) Read(b []byte) (int, error) {
	if r.n < len(b) {
		return 0, io.ErrUnexpectedEOF
	}
	r.n -= len(b)
	return len(b), nil
}

// TestNoTokenWithout lists what makes the authority refuse although the request is good, as clients and callers within see it.
func TestNoTokenWithout(t *testing.T) {
	secret := fault.New(fault.Unavailable, "slot 3 of the token is busy").WithHint("wait")
	p := pkis["P-256"]()
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		change func(*tsa.Config)
		info   tsp.FailInfo
		kind   fault.Kind
	}{
		"proven time":   {ctx, func(cfg *tsa.Config) { cfg.Clock = fakeClock{err: secret} }, tsp.TimeNotAvailable, fault.Unavailable},
		"accurate time": {ctx, func(cfg *tsa.Config) { cfg.Accuracy = 19 * time.Millisecond }, tsp.TimeNotAvailable, fault.Unavailable},
		"a key":         {ctx, func(cfg *tsa.Config) { cfg.Key = failingKey{p.key, secret} }, tsp.SystemFailure, fault.Unavailable},
		"reason":        {ctx, func(cfg *tsa.Config) { cfg.Key = failingKey{p.key, errors.New("slot 3 of the token burns")} }, tsp.SystemFailure, fault.Internal},
		"randomness":    {ctx, func(cfg *tsa.Config) { cfg.Rand = &dryRand{8} }, tsp.SystemFailure, fault.Internal},
		"patience":      {canceled, func(cfg *tsa.Config) {}, tsp.SystemFailure, fault.Internal},
		"a certificate that is valid yet": {ctx, func(cfg *tsa.Config) {
			cfg.Clock = fakeClock{reading: clock.Reading{Time: p.cert.NotBefore.Add(-time.Second), Proven: true}}
		}, tsp.SystemFailure, fault.Unavailable},
		"a certificate that is valid still": {ctx, func(cfg *tsa.Config) {
			cfg.Clock = fakeClock{reading: clock.Reading{Time: p.cert.NotAfter.Add(time.Second), Proven: true}}
		}, tsp.SystemFailure, fault.Unavailable},
		"a key that may sign yet": {ctx, func(cfg *tsa.Config) {
			cfg.Certificate = p.issue(func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, keyPeriod(now.Add(time.Minute), now.Add(time.Hour)))
			})
		}, tsp.SystemFailure, fault.Unavailable},
		"a key that may sign still": {ctx, func(cfg *tsa.Config) {
			cfg.Certificate = p.issue(func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, keyPeriod(time.Time{}, now.Add(-time.Minute)))
			})
		}, tsp.SystemFailure, fault.Unavailable},
	} {
		var last tsa.Outcome
		cfg := config(p)
		cfg.OnIssue = func(o tsa.Outcome) { last = o }
		c.change(&cfg)
		authority := newTSA(t, cfg)
		resp, err := tsp.ParseResponse(authority.Respond(c.ctx, marshal(t, tsp.Request{Imprint: imprintOf(crypto.SHA256, "x")})))
		if err != nil || resp.Status != tsp.Rejection || resp.FailInfo != c.info {
			t.Errorf("without %s: %+v, error %v", name, resp, err)
		}
		if strings.Contains(resp.Text, "slot 3") || last.Cause == nil {
			t.Errorf("without %s: the client is told %q, the log %v", name, resp.Text, last.Cause)
		}
		token, _, err := authority.Stamp(c.ctx, imprintOf(crypto.SHA256, "x"))
		if token != nil || fault.KindOf(err) != c.kind {
			t.Errorf("without %s: Stamp gives %v (%v)", name, err, fault.KindOf(err))
		}
	}
}

// readings is a clock that gives one reading after another.
type readings struct{ list []clock.Reading }

func (r *readings) Now() (clock.Reading, error) {
	first := r.list[0]
	if len(r.list) > 1 {
		r.list = r.list[1:]
	}
	return first, nil
}

// TestGenTimeStaysWithinTheAccuracy: what the clock may be wrong by and the fraction that genTime leaves out are one second together at most.
func TestGenTimeStaysWithinTheAccuracy(t *testing.T) {
	second := now.Truncate(time.Second)
	at := func(d, e time.Duration) clock.Reading {
		return clock.Reading{Time: second.Add(d), MaxError: e, Proven: true}
	}
	for name, c := range map[string]struct {
		list []clock.Reading
		want time.Time
	}{
		"early enough":       {[]clock.Reading{at(700*time.Millisecond, 300*time.Millisecond), at(time.Hour, 0)}, second},
		"late: the next one": {[]clock.Reading{at(999*time.Millisecond, 2*time.Millisecond), at(1001*time.Millisecond, 2*time.Millisecond)}, second.Add(time.Second)},
		"too inexact":        {[]clock.Reading{at(0, 501*time.Millisecond)}, time.Time{}},
	} {
		cfg := config(pkis["P-256"]())
		cfg.Clock = &readings{c.list}
		_, info, err := newTSA(t, cfg).Stamp(ctx, imprintOf(crypto.SHA256, "x"))
		if !info.GenTime.Equal(c.want) || (err != nil) != c.want.IsZero() {
			t.Errorf("%s: genTime %v, error %v, want %v", name, info.GenTime, err, c.want)
		}
	}
}

func TestStampRefusesWrongImprints(t *testing.T) {
	authority := newTSA(t, config(pkis["P-256"]()))
	for name, imprint := range map[string]tsp.Imprint{
		"none": {}, "SHA-1": {Hash: crypto.SHA1, Digest: make([]byte, 20)}, "short": {Hash: crypto.SHA256, Digest: make([]byte, 31)},
	} {
		if token, _, err := authority.Stamp(ctx, imprint); fault.KindOf(err) != fault.Invalid || token != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyPeriodBounds signs in the first and the last second of a privateKeyUsagePeriod.
func TestKeyPeriodBounds(t *testing.T) {
	p := pkis["P-256"]()
	from, to := now.Truncate(time.Second), now.Truncate(time.Second).Add(time.Minute)
	cfg := config(p)
	cfg.Certificate = p.issue(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, keyPeriod(from, to)) })
	for at, good := range map[time.Time]bool{from: true, from.Add(-1): false, to.Add(time.Second - 1): true, to.Add(time.Second): false} {
		cfg.Clock = fakeClock{reading: clock.Reading{Time: at, Proven: true}}
		if _, _, err := newTSA(t, cfg).Stamp(ctx, imprintOf(crypto.SHA256, "x")); (err == nil) != good {
			t.Errorf("at %v of %v to %v: %v", at, from, to, err)
		}
	}
}

// TestUnprovenTimeIsReported issues on a flagged reading, and says so to whoever logs.
func TestUnprovenTimeIsReported(t *testing.T) {
	cfg := config(pkis["P-256"]())
	cfg.Clock = fakeClock{reading: clock.Reading{Time: now}}
	reported := false
	cfg.OnIssue = func(o tsa.Outcome) { reported = o.Failure == nil && !o.Reading.Proven }
	if _, _, err := newTSA(t, cfg).Stamp(ctx, imprintOf(crypto.SHA256, "x")); err != nil || !reported {
		t.Errorf("error %v, reported %v", err, reported)
	}
}

func TestSerialsNeverRepeat(t *testing.T) {
	cfg := config(pkis["P-256"]())
	cfg.Key = quickKey{cfg.Key}
	var mu sync.Mutex
	seen := map[string]bool{}
	cfg.OnIssue = func(o tsa.Outcome) {
		mu.Lock()
		defer mu.Unlock()
		if s := o.Info.Serial.String(); seen[s] {
			t.Errorf("serial %s twice", s)
		} else {
			seen[s] = true
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		authority := newTSA(t, cfg) // as after a restart, or in another process
		for range 2 {
			wg.Go(func() {
				for range 200 {
					if _, _, err := authority.Stamp(ctx, imprintOf(crypto.SHA256, "x")); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if len(seen) != 3200 {
		t.Errorf("%d serials", len(seen))
	}
}

// TestSerialsOfOneStartDiffer does without randomness, so that the count alone keeps serials apart.
func TestSerialsOfOneStartDiffer(t *testing.T) {
	cfg := config(pkis["P-256"]())
	cfg.Rand, cfg.Key = &dryRand{1 << 20}, quickKey{cfg.Key}
	authority := newTSA(t, cfg)
	var last *big.Int
	for range 1000 {
		_, info, err := authority.Stamp(ctx, imprintOf(crypto.SHA256, "x"))
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && info.Serial.Cmp(last) <= 0 {
			t.Fatalf("%v after %v", info.Serial, last)
		}
		last = info.Serial
	}
}

// quickKey makes signatures of the right length that are none.
type quickKey struct{ crypto.Signer }

func (k quickKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 72), nil
}

func TestTokenSizeIsAnUpperBound(t *testing.T) {
	for name, get := range pkis {
		p := get()
		authority := newTSA(t, config(p))
		for range 10 {
			token, _, err := authority.Stamp(ctx, imprintOf(crypto.SHA512, "x"))
			if err != nil {
				t.Fatal(err)
			}
			most := tsp.Request{Imprint: imprintOf(crypto.SHA512, "x"), CertReq: true, Nonce: new(big.Int).SetBytes(bytes.Repeat([]byte{0x7f}, tsp.MaxNonce))}
			largest := ask(t, authority, most).Token
			if len(token) > authority.TokenSize() || len(largest) > authority.TokenSize() || authority.TokenSize()-len(largest) > 16 {
				t.Errorf("%s: %d and %d bytes, at most %d are promised", name, len(token), len(largest), authority.TokenSize())
			}
		}
	}
}

func FuzzRespond(f *testing.F) {
	p := pkis["P-256"]()
	authority, err := tsa.New(config(p))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(f, tsp.Request{Imprint: imprintOf(crypto.SHA256, "x")}))
	f.Add(marshal(f, tsp.Request{Imprint: imprintOf(crypto.SHA512, "x"), Policy: policy, Nonce: big.NewInt(1), CertReq: true}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, request []byte) {
		resp, err := tsp.ParseResponse(authority.Respond(ctx, request))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Status != tsp.Granted {
			if resp.FailInfo == 0 {
				t.Errorf("refused without a failInfo: %+v", resp)
			}
			return
		}
		r, err := tsp.ParseRequest(request)
		if err != nil {
			t.Fatalf("a token for a request that cannot be parsed: %v", err)
		}
		if _, info := open(t, resp.Token, p.cert); !info.Imprint.Equal(r.Imprint) {
			t.Error("a token for another imprint")
		}
	})
}
