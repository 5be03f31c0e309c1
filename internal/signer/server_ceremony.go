package signer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// ceremonyBegin answers OpCeremonyBegin: it makes the keys of the new CAs and says what the root is to certify.
func (v *Server) ceremonyBegin(ctx context.Context, in wire.CeremonyBegin) (out wire.CeremonyBegun, err error) {
	var o ca.Rollover
	for _, name := range in.Succeed {
		o.Succeed = append(o.Succeed, cert.Kind(name))
	}
	for _, gone := range in.Revoke {
		o.Revoke = append(o.Revoke, ca.CeremonyRevocation(gone))
	}
	r, err := v.s.ca.BeginRollover(ctx, operatorActor, o)
	if err != nil {
		return out, err
	}
	out.Request, err = json.Marshal(r)
	return out, err
}

// ceremonyComplete answers OpCeremonyComplete: what the root made is checked, recorded in one line, and used from then on.
func (v *Server) ceremonyComplete(ctx context.Context, in wire.CeremonyComplete) (out wire.CeremonyDone, err error) {
	var answer ca.CeremonyAnswer
	d := json.NewDecoder(bytes.NewReader(in.Answer))
	d.DisallowUnknownFields()
	if err := d.Decode(&answer); err != nil {
		return out, fault.New(fault.Invalid, "the ceremony's answer is not of the expected form").WithCause(err)
	}
	if err := v.s.CompleteCeremony(ctx, operatorActor, answer); err != nil {
		return out, err
	}
	for _, kind := range append(cert.IssuingCAs(), cert.TSA, cert.OCSP) {
		list, _, err := v.s.ca.List(ca.Filter{Kind: kind, Limit: 1000})
		if err != nil {
			return out, err
		}
		for _, c := range list {
			if c.RenewedBy == "" {
				out.Certificates = append(out.Certificates, describe(c))
			}
		}
	}
	out.CRLExpires = v.s.ca.RootCRLExpires().UTC().Format(time.RFC3339)
	return out, nil
}

// CompleteCeremony takes up what a later ceremony made, see ca.CA.Complete: new CAs, and with them a TSA and responders with new keys. The token, which has
// these keys now, is backed up.
func (s *Signer) CompleteCeremony(ctx context.Context, actor string, a ca.CeremonyAnswer) error {
	if err := s.ca.Complete(ctx, actor, a); err != nil {
		return err
	}
	if err := s.openTSA(); err != nil { // it is another one when the Time CA is
		return fmt.Errorf("taking up the time-stamping authority: %w", err)
	}
	_, err := s.Maintain(ctx)
	return err
}
