package pades

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// MaxSignatures bounds what Validate judges in one file, document time stamps included. A yearly renewal takes a century to get there.
const MaxSignatures = 100

// clockSkew is how far a time made elsewhere may lie ahead of the time of validation.
const clockSkew = 5 * time.Minute

// ValidateOptions say what to trust, and when.
type ValidateOptions struct {
	Roots  []*x509.Certificate // trust anchors; nothing in the file is one. Without any, no signature passes
	At     time.Time           // the time to judge at, mandatory: now, unless asked what would have been said then
	Limits pdf.Limits

	// Material is what the caller holds besides the file, all of it existing now: fresh status of its own certificates, say. It can show a
	// revocation that the file does not know; it does not raise the level that the file reaches.
	Material Material
}

// Validate judges every signature and document time stamp in data by ETSI EN 319 102-1, with what the file itself holds and the caller
// gives: nothing is fetched, so the status of a certificate is as good as the one stored with the signature, and a revocation that was
// published later is not known here.
//
// A file that cannot be read is an error (of fault's kinds Invalid, Unsupported, TooLarge), which an edge maps to "could not judge". A
// file without signatures has a Report that says so. The work is linear in the size of the file, but for the number of its signatures.
//
// What counts, in short:
//
//   - The newest document time stamp is judged at At, each older one at the time that the newer ones prove it existed, the signatures
//     last (§5.6.3). So a file stays valid after its signer's certificate has expired, and after the time stamp's if it was renewed before.
//   - A status is fresh if it was made after the proven time or was not yet due for an update then; never if it is older than the
//     certificate, or its own signer's certificate had expired before the status is proven to have existed.
//   - What later revisions did is allowed or "modified after signing"; see difference.go for the list.
func Validate(ctx context.Context, data []byte, o ValidateOptions) (*Report, error) {
	if o.At.IsZero() {
		return nil, fault.New(fault.Invalid, "the time to validate at is missing")
	}
	f, err := pdf.Open(data, o.Limits)
	if err != nil {
		return nil, err
	}
	v := &validation{at: o.At, file: f, revisions: f.Revisions(), trust: newTrust(o.Roots), extra: o.Material}
	sum := sha256.Sum256(data)
	v.report = &Report{ValidatedAt: o.At.UTC(), Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Revisions: len(v.revisions), Signatures: []SignatureReport{}}
	v.revocations = newRevocations(v.trust, o.At, len(v.revisions))
	if err := v.readSignatures(); err != nil {
		return nil, err
	}
	v.readRisks()
	if len(v.items) > 0 {
		if err := v.judge(ctx); err != nil {
			return nil, err
		}
	}
	for _, it := range v.items {
		v.report.Signatures = append(v.report.Signatures, it.report)
	}
	v.report.finish()
	return v.report, nil
}

// validation is one call of Validate.
type validation struct {
	at          time.Time
	file        *pdf.File
	revisions   []pdf.Revision
	extra       Material
	items       []*item // oldest first
	trust       *trust
	revocations *revocations
	history     *history
	past        []proof // valid document time stamps, newest first
	report      *Report
}

// judge makes the checks, in an order in which each finds what it needs.
func (v *validation) judge(ctx context.Context) error {
	for i, it := range v.items {
		if err := ctx.Err(); err != nil {
			return err
		}
		it.checkGap(v.items[:i])
	}
	if err := v.digest(ctx); err != nil {
		return err
	}
	for _, it := range v.items {
		it.checkCMS(v.trust)
	}
	if err := v.readMaterial(); err != nil {
		return err
	}
	v.compare()
	if err := ctx.Err(); err != nil {
		return err
	}
	v.judgeTimeStamps()
	for _, it := range v.items {
		if err := ctx.Err(); err != nil {
			return err
		}
		if it.report.Kind != KindTimeStamp {
			v.judgeSignature(it)
		}
	}
	for _, it := range v.items {
		v.checkEarly(it)
		it.conclude()
	}
	v.warnDemo()
	return nil
}

// readSignatures finds the signatures and starts their reports.
func (v *validation) readSignatures() error {
	signatures, err := v.file.Signatures()
	if err != nil {
		return err
	}
	if len(signatures) > MaxSignatures {
		return fault.New(fault.TooLarge, fmt.Sprintf("the document has %d signatures, at most %d are judged", len(signatures), MaxSignatures))
	}
	for i := range signatures {
		it := newItem(v.file, &signatures[i])
		if it.sig.Revision >= 0 {
			it.report.CoversWholeDocument = it.sig.ByteRange[2]+it.sig.ByteRange[3] == int64(len(v.file.Bytes()))
		}
		v.items = append(v.items, it)
	}
	return nil
}

func (v *validation) readRisks() {
	risks, err := Risks(v.file)
	if err != nil {
		v.report.Warnings = append(v.report.Warnings, "the document could not be searched for active content: "+fault.PublicOf(err))
	}
	for _, r := range risks {
		v.report.Warnings = append(v.report.Warnings, r.Text)
	}
}

// digest hashes what each signature covers. ByteRanges that end with successive revisions share what they have in common, so that the
// whole costs two passes over the file for each hash algorithm, however many signatures there are.
func (v *validation) digest(ctx context.Context) error {
	running := map[crypto.Hash]*prefix{}
	for _, it := range v.items {
		if it.failure != nil || it.hash() == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		h := it.hash()
		p := running[h]
		if p == nil {
			p = newPrefix(h, v.file.Bytes())
			running[h] = p
		}
		digest, err := p.digest(it.sig.ByteRange)
		if err != nil {
			return err
		}
		it.digest = digest
	}
	return nil
}

// readMaterial takes certificates and revocation data from the DSS: of the newest revision, and of those that document time stamps cover,
// which prove that it existed then.
func (v *validation) readMaterial() error {
	last := len(v.revisions) - 1
	wanted := map[int]bool{last: true}
	for _, it := range v.items {
		if it.report.Kind == KindTimeStamp && it.sig.Revision >= 0 {
			wanted[it.sig.Revision] = true
		}
	}
	for r := range v.revisions {
		if !wanted[r] {
			continue
		}
		f, err := v.file.At(r)
		if err != nil {
			return err
		}
		dss, err := pdf.ReadDSS(f)
		if err != nil {
			v.report.Warnings = append(v.report.Warnings, fmt.Sprintf("the document security store of revision %d cannot be read: %s", r+1, firstLine(err)))
			continue
		}
		v.trust.addDER(dss.Certs...)
		v.revocations.addOCSP(dss.OCSPs...)
		v.revocations.addCRL(dss.CRLs...)
		held := make(map[[32]byte]bool, len(dss.OCSPs)+len(dss.CRLs))
		for _, list := range [][][]byte{dss.OCSPs, dss.CRLs} {
			for _, der := range list {
				held[sha256.Sum256(der)] = true
			}
		}
		v.revocations.inDSS[r] = held
	}
	for _, it := range v.items {
		it.offer(v.trust, v.revocations)
	}
	v.trust.addDER(v.extra.Certs...)
	v.revocations.addOCSP(v.extra.OCSPs...)
	v.revocations.addCRL(v.extra.CRLs...)
	return nil
}

// compare makes the difference analysis and says of each signature what came after it.
func (v *validation) compare() {
	signatures := make([]pdf.Signature, len(v.items))
	for i, it := range v.items {
		signatures[i] = *it.sig
	}
	h, err := compareRevisions(v.file, signatures)
	for _, it := range v.items {
		switch {
		case it.sig.Revision < 0:
		case err != nil && it.sig.Revision < len(v.revisions)-1:
			it.fail(indeterminate(FormatFailure, "what later revisions changed could not be found out: %s", firstLine(err)))
		case err == nil:
			it.report.Changes, it.report.Modified = h.since(it.sig)
			if panel := h.panelAfter(it.sig); panel != "" {
				it.warn("%s: look whether it covers what was signed", panel)
			}
		}
	}
}
