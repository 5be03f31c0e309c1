package signer

import (
	"context"
	"encoding/hex"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/tsp"
	"github.com/veripath/aes-appliance/internal/wire"
)

// public counts what anonymous callers were answered, for one aggregated line at a time, and keeps them from taking all of the token's sessions.
type public struct {
	slots           chan struct{}
	granted, failed atomic.Int64 // time stamps
}

func newPublic() public { return public{slots: make(chan struct{}, max(1, runtime.NumCPU()/2))} }

// maxPublicRequest bounds what a time-stamp or OCSP request has, in bytes.
const maxPublicRequest = 64 << 10

// publicWait is how long an anonymous request waits for its turn.
const publicWait = 2 * time.Second

// timeStamp answers OpTSA: a TimeStampResp whatever comes.
func (v *Server) timeStamp(ctx context.Context, in wire.DER) (wire.DER, error) {
	if len(in.DER) > maxPublicRequest {
		return v.noStamp(tsp.BadDataFormat, "the request is too long")
	}
	wait := time.NewTimer(publicWait)
	defer wait.Stop()
	select {
	case v.public.slots <- struct{}{}:
		defer func() { <-v.public.slots }()
	case <-wait.C:
		return v.noStamp(tsp.SystemFailure, "too many requests: try again later")
	case <-ctx.Done():
		return wire.DER{}, ctx.Err()
	}
	der := v.s.TSA().Respond(ctx, in.DER)
	if r, err := tsp.ParseResponse(der); err == nil && len(r.Token) > 0 {
		v.public.granted.Add(1)
	} else {
		v.public.failed.Add(1)
	}
	return wire.DER{DER: der}, nil
}

func (v *Server) noStamp(info tsp.FailInfo, text string) (wire.DER, error) {
	v.public.failed.Add(1)
	der, err := (&tsp.Failure{Info: info, Text: text}).Response().Marshal()
	return wire.DER{DER: der}, err
}

// publicLine records the time stamps that anonymous callers got since the last such line; of OCSP answers ca keeps count itself.
func (v *Server) publicLine(ctx context.Context) error {
	granted, failed := v.public.granted.Swap(0), v.public.failed.Swap(0)
	if granted == 0 && failed == 0 {
		return nil
	}
	_, err := v.s.ledger.Append(ctx, ledger.Event{Type: eventPublic, Actor: "system", Details: map[string]any{"time_stamps": granted, "time_stamps_refused": failed}})
	return err
}

// ocsp answers OpOCSP: an OCSPResponse whatever comes. ca bounds how many are signed at once.
func (v *Server) ocsp(ctx context.Context, in wire.DER) (wire.DER, error) {
	if len(in.DER) > maxPublicRequest {
		return wire.DER{DER: cert.OCSPFailure(cert.OCSPMalformedRequest)}, nil
	}
	return wire.DER{DER: v.s.ca.OCSP(ctx, in.DER)}, nil
}

func (v *Server) published(_ context.Context, in wire.PublishedRequest) (wire.Published, error) {
	der, contentType, err := v.s.ca.Published(in.Name)
	return wire.Published{DER: der, ContentType: contentType}, err
}

// status answers OpStatus.
func (v *Server) status(context.Context, wire.Nothing) (wire.Status, error) {
	lines, head := v.s.ledger.Head()
	st := wire.Status{
		Lines: lines, Head: hex.EncodeToString(head[:]), Version: v.s.cfg.Version, Demo: v.s.Demo(), Root: v.s.Root().Raw, Listener: v.s.ca.Issuing(cert.InfrastructureCA), Open: v.ops.count(),
		Clock: wire.Clock{Mode: v.s.cfg.Clock.Mode},
	}
	because := func(err error) {
		if err != nil {
			st.Reasons = append(st.Reasons, fault.PublicOf(err))
		}
	}
	reading, err := v.s.clock.Now()
	because(err)
	if err == nil {
		st.Clock.Time, st.Clock.Proven, st.Clock.MaxError = reading.Time, reading.Proven, reading.MaxError
		because(v.s.ca.Able())
	}
	because(v.s.ledger.Err())
	because(v.s.room())
	_, st.LogKey, err = v.s.logKey()
	because(err)
	because(v.s.verified.maySign())
	because(v.s.backup.MaySign())
	st.Verified = v.s.verified.say()
	st.Backup = statement(v.s.backup.Say(lines))
	st.Witnessed = v.sayWitnessed()
	st.Ready = len(st.Reasons) == 0
	return st, nil
}

// realmKeys answers OpRealmKeys: the connection is the portal's, what is said over it is the signer's.
func (v *Server) realmKeys(ctx context.Context, in wire.RealmKeys, fd *os.File) (wire.Nothing, *os.File, error) {
	if fd == nil { // the portal could not dial
		return wire.Nothing{}, nil, v.s.gate.FetchKeys(ctx, in.Issuer, nil, v.s.clock.Estimate())
	}
	conn, err := tcp(fd)
	if err != nil {
		return wire.Nothing{}, nil, err
	}
	return wire.Nothing{}, nil, v.s.gate.FetchKeys(ctx, in.Issuer, conn, v.s.clock.Estimate())
}

// listenerValidity is short: the portal asks again by itself.
const listenerValidity = 90 * 24 * time.Hour

// listener answers OpListener: a certificate for the names of the configuration, whatever the request's own say.
func (v *Server) listener(ctx context.Context, in wire.ListenerRequest) (wire.ListenerCertificate, error) {
	names := v.settings.Load().ListenerNames
	if len(names) == 0 {
		return wire.ListenerCertificate{}, fault.New(fault.Forbidden, "the configuration gives the portal no names").WithHint(`set portal.hosts, and portal.tls = "own-ca"`)
	}
	r := ca.Request{Kind: cert.TLSServer, Subject: cert.Subject{CommonName: names[0]}, CSR: in.CSR, Validity: listenerValidity, Actor: "portal"}
	for _, n := range names {
		if addr, err := netip.ParseAddr(n); err == nil {
			r.Addresses = append(r.Addresses, addr)
		} else {
			r.DNSNames = append(r.DNSNames, n)
		}
	}
	if len(in.CSR) == 0 || len(in.CSR) > maxPublicRequest {
		return wire.ListenerCertificate{}, fault.New(fault.Invalid, "the PKCS#10 request is missing, or too long")
	}
	if ok, _ := v.issues.take("portal", time.Now()); !ok {
		return wire.ListenerCertificate{}, tooMuch("the portal was given too many certificates within an hour")
	}
	made, err := v.s.ca.Issue(ctx, r)
	if err != nil {
		v.issues.back("portal") // the portal asks every other second until the time is proven, say: it must have one left then
		return wire.ListenerCertificate{}, err
	}
	chain, err := v.s.ca.Chain(made.Serial)
	if err != nil {
		return wire.ListenerCertificate{}, err
	}
	var out wire.ListenerCertificate
	for _, c := range chain[:len(chain)-1] {
		out.Chain = append(out.Chain, c.Raw)
	}
	return out, nil
}
