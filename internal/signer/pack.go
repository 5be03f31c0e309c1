package signer

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/evidence"
)

// writePack writes the evidence pack of a prescription: everything from one state of the log.
func (v *Server) writePack(ctx context.Context, rec *record, w io.Writer) error {
	pdf, err := v.newestPDF(ctx, rec)
	if err != nil {
		return err
	}
	d, err := v.unseal(ctx, rec)
	if err != nil {
		return err
	}
	live, err := v.live(ctx, rec)
	if err != nil {
		return err
	}
	live.Backup = nil // what it has of the log, the checkpoint's cosignatures say; the rest nothing in a pack would show
	p := evidence.Pack{Core: d.Core, PDF: pdf}
	if err = v.proofs(ctx, rec, &live, &p); err != nil {
		return err
	}
	if err := v.material(rec, &live, &p); err != nil {
		return err
	}
	if p.Summary, err = evidence.Summary(d.Core, live); err != nil {
		return err
	}
	return evidence.WritePack(ctx, w, p)
}

// proofs puts the prescription's lines, their proofs and a signed checkpoint over them into p, and what the checkpoint is into live.
func (v *Server) proofs(ctx context.Context, rec *record, live *evidence.Live, p *evidence.Pack) error {
	lines := rec.lines()
	seen, err := v.s.firstSeen(keySeen{rec.ActorIssuer, rec.KeyThumbprint})
	if err != nil {
		return err
	}
	if seen != nil { // the core names it, and it is before all others
		lines = append([]uint64{seen.Seq}, lines...)
	}
	head, err := v.headOver(ctx, lines)
	if err != nil {
		return err
	}
	_, proofs, err := v.s.ledger.ProveAt(ctx, head.Size, lines...)
	if err != nil {
		return err
	}
	for _, one := range proofs {
		p.Lines = append(p.Lines, evidence.PackLine{Seq: one.Seq, Line: one.Line, Proof: one.Path})
	}
	if _, p.LogKey, err = v.s.logKey(); err != nil {
		return err
	}
	p.Checkpoint, live.Checkpoint = head.Note, evidence.NewCheckpoint(head)
	return v.putStamp(ctx, rec.Line, head, live, p)
}

// logKey returns the key that signs checkpoints, and its public half as a note's verifier key.
func (s *Signer) logKey() (crypto.Signer, string, error) {
	key, err := s.ca.CheckpointKey()
	if err != nil {
		return nil, "", err
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, "", fmt.Errorf("signer: the checkpoint key is a %T", key.Public())
	}
	public, err := chain.VerifierKey(s.Origin(), pub)
	return key, public, err
}

// material puts the certificates of everybody who signed something in the document, and the present CRLs of their issuers, into p; into live what the
// list says of the signer's certificate, and when that was.
func (v *Server) material(rec *record, live *evidence.Live, p *evidence.Pack) error {
	seen := map[string]bool{}
	root := v.s.Root()
	var signer *x509.Certificate
	stamped := []string{rec.TSA}
	for _, r := range rec.Revisions {
		stamped = append(stamped, r.TSA)
	}
	slices.Sort(stamped)
	for _, serial := range append([]string{rec.Certificate}, slices.Compact(stamped)...) {
		path, err := v.s.ca.Chain(serial)
		if err != nil {
			return err
		}
		if signer == nil {
			signer = path[0]
		}
		for _, c := range path {
			if !seen[string(c.Raw)] && !c.Equal(root) {
				seen[string(c.Raw)] = true
				p.Certificates = append(p.Certificates, c)
			}
		}
	}
	p.Certificates = append(p.Certificates, root)
	crl, err := v.s.ca.CRL(cert.Root)
	if err != nil {
		return err
	}
	p.CRLs = append(p.CRLs, crl)
	for _, serial := range []string{rec.Certificate, rec.TSA} {
		if crl, err = v.s.ca.CRLOver(serial); err != nil {
			return err
		}
		p.CRLs = append(p.CRLs, crl)
	}
	list, err := x509.ParseRevocationList(p.CRLs[1])
	if err != nil {
		return err
	}
	live.GeneratedAt = v.s.clock.Estimate().UTC().Truncate(time.Second)
	if live.GeneratedAt.Before(list.ThisUpdate) { // a list may be of the second in which this is
		live.GeneratedAt = list.ThisUpdate.UTC()
	}
	p.CreatedAt, live.Certificate = live.GeneratedAt, evidence.StateOn(signer, list, live.GeneratedAt)
	return nil
}
