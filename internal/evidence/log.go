package evidence

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// logPart is the lines of the log that a pack holds.
type logPart struct {
	lines  []PackLine
	parsed []chain.Line
}

// parseLog parses the lines: each must be one by itself, with the hash of what it says.
func parseLog(lines []PackLine) (logPart, error) {
	p := logPart{lines: lines}
	for _, l := range lines {
		parsed, err := chain.ParseLine(l.Line)
		if err != nil {
			return p, fmt.Errorf("line %d of the log: %w", l.Seq, err)
		}
		p.parsed = append(p.parsed, parsed)
	}
	return p, nil
}

// check checks how the lines follow each other: in order of their numbers and times, and linked where they are neighbours.
func (p *logPart) check() error {
	for i := 1; i < len(p.lines); i++ {
		a, b := p.lines[i-1].Seq, p.lines[i].Seq
		switch {
		case b <= a:
			return fmt.Errorf("line %d comes after line %d", b, a)
		case p.parsed[i].Time.Before(p.parsed[i-1].Time):
			return fmt.Errorf("line %d is older than line %d", b, a)
		case b == a+1 && p.parsed[i].Prev != p.parsed[i-1].Hash:
			return fmt.Errorf("line %d does not follow line %d: its prev_hash is another", b, a)
		}
	}
	return nil
}

// included checks every line's proof.
func (p *logPart) included(c Checkpoint) error {
	tree, err := c.tree()
	if err != nil {
		return err
	}
	for _, l := range p.lines {
		if err := chain.VerifyInclusion(chain.LeafHash(l.Line), l.Seq, tree, l.Proof); err != nil {
			return err
		}
	}
	return nil
}

// events checks that the log says what the core says.
func (v *verification) events() error {
	signedAt, createdAt := -1, -1
	for i, l := range v.log.parsed {
		switch l.EventType {
		case EventSigned:
			if signedAt >= 0 {
				return errors.New("there are two prescription_signed lines")
			}
			signedAt = i
		case EventCreated:
			if createdAt >= 0 {
				return errors.New("there are two signature_created lines")
			}
			createdAt = i
		}
	}
	if signedAt < 0 || createdAt < 0 || createdAt > signedAt {
		return errors.New("there is no prescription_signed line after a signature_created line")
	}
	c := v.core
	var s SignedDetails
	if err := json.Unmarshal(v.log.parsed[signedAt].Details, &s); err != nil {
		return fmt.Errorf("the prescription_signed line: %w", err)
	}
	var made struct {
		Signature   string `json:"signature"`
		Certificate string `json:"certificate_serial"`
		Digest      string `json:"document_digest"`
	}
	if err := json.Unmarshal(v.log.parsed[createdAt].Details, &made); err != nil {
		return fmt.Errorf("the signature_created line: %w", err)
	}
	signature, digest := c.text(pillarCryptographic, "signature"), c.text(pillarCryptographic, "document_digest")
	if err := v.keySeen(); err != nil {
		return err
	}
	return differences([]difference{
		{"prescription_id in prescription_signed", s.PrescriptionID, c.Prescription.ID},
		{"pdf_sha256 in prescription_signed", s.PDF, c.PDF.SHA256},
		{"evidence_sha256 in prescription_signed", s.Core, SHA256(v.files[nameCore])},
		{"signature in prescription_signed", s.Signature, signature},
		{"actor_sub in prescription_signed", s.ActorSub, c.Actor.Sub},
		{"actor_acr in prescription_signed", s.ActorACR, c.Actor.ACR},
		{"signature in signature_created", made.Signature, signature},
		{"document_digest in signature_created", made.Digest, digest},
		{"certificate_serial in signature_created", serial(made.Certificate), serial(c.text(pillarCryptographic, "certificate_serial"))},
	})
}

// renewals checks that the log says of each later state of the document what the summary says.
func (v *verification) renewals() error {
	if len(v.renewed) != len(v.live.Revisions) {
		return fmt.Errorf("the log tells of %d renewals, the summary of %d", len(v.renewed), len(v.live.Revisions))
	}
	from := v.core.PDF.SHA256
	for i, r := range v.renewed {
		s := v.live.Revisions[i]
		err := differences([]difference{
			{"prescription_id in prescription_renewed", r.PrescriptionID, v.core.Prescription.ID},
			{"clinic in prescription_renewed", r.Clinic, v.core.Prescription.Clinic},
			{"from_sha256 in prescription_renewed", r.From, from},
			{"pdf_sha256 in prescription_renewed", r.PDF, s.SHA256},
			{"pdf_size in prescription_renewed", fmt.Sprint(r.Size), fmt.Sprint(s.Size)},
			{"the line's time", r.at.UTC().Format(time.RFC3339Nano), s.At.UTC().Format(time.RFC3339Nano)},
		})
		if err != nil {
			return err
		}
		from = r.PDF
	}
	return nil
}

// renewedLine is a prescription_renewed line.
type renewedLine struct {
	RenewedDetails
	at time.Time
}

// readRenewed collects the lines of renewals.
func (v *verification) readRenewed() error {
	for _, l := range v.log.parsed {
		if l.EventType != EventRenewed {
			continue
		}
		r := renewedLine{at: l.Time}
		if err := json.Unmarshal(l.Details, &r.RenewedDetails); err != nil {
			return fmt.Errorf("the prescription_renewed line: %w", err)
		}
		v.renewed = append(v.renewed, r)
	}
	return nil
}

// keySeen checks that the line of the realm's key, if there is one, is about the key that the core says verified the token.
func (v *verification) keySeen() error {
	for _, l := range v.log.parsed {
		if l.EventType != EventKeyFirstSeen {
			continue
		}
		var seen struct {
			Issuer     string `json:"issuer"`
			Thumbprint string `json:"thumbprint"`
		}
		if err := json.Unmarshal(l.Details, &seen); err != nil {
			return fmt.Errorf("the realm_key_first_seen line: %w", err)
		}
		err := differences([]difference{
			{"issuer in realm_key_first_seen", seen.Issuer, v.core.text(pillarIdentity, "token_issuer")},
			{"thumbprint in realm_key_first_seen", seen.Thumbprint, v.core.text(pillarIdentity, "realm_key_thumbprint")},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type difference struct{ what, got, want string }

// differences returns an error that names every pair that is not equal.
func differences(pairs []difference) error {
	var errs []error
	for _, p := range pairs {
		if p.got != p.want {
			errs = append(errs, fmt.Errorf("%s is %q, not %q", p.what, p.got, p.want))
		}
	}
	return errors.Join(errs...)
}

// named checks that the lines are those that the core and the summary name, all of them and no other.
func (v *verification) named() error {
	var inCore []Position
	var firstSeen *Position
	if err := v.core.value(pillarCustody, "lines", &inCore); err != nil {
		return err
	}
	if err := v.core.value(pillarIdentity, "realm_key_first_seen", &firstSeen); err != nil {
		return err
	}
	if firstSeen != nil {
		inCore = append(inCore, *firstSeen)
	}
	wanted := map[uint64]bool{}
	for _, p := range append(inCore, v.live.Lines...) {
		i, found := slices.BinarySearchFunc(v.log.lines, p.Seq, func(l PackLine, seq uint64) int {
			switch {
			case l.Seq < seq:
				return -1
			case l.Seq > seq:
				return 1
			}
			return 0
		})
		if !found {
			return fmt.Errorf("line %d (%s) is missing", p.Seq, p.EventType)
		}
		l := v.log.parsed[i]
		if hex.EncodeToString(l.Hash[:]) != p.Hash || l.EventType != p.EventType || !l.Time.Equal(p.Time) {
			return fmt.Errorf("line %d is not the %s line that the evidence names", p.Seq, p.EventType)
		}
		wanted[p.Seq] = true
	}
	for _, l := range v.log.lines {
		if !wanted[l.Seq] {
			return fmt.Errorf("nothing names line %d", l.Seq)
		}
	}
	return nil
}

// status checks the prescription's status against the lines.
func (v *verification) status() error {
	cancelled := slices.ContainsFunc(v.log.parsed, func(l chain.Line) bool { return l.EventType == EventCancelled })
	if cancelled != (v.live.Status == StatusCancelled) {
		return fmt.Errorf("the summary says %s, and the lines say otherwise", v.live.Status)
	}
	for _, l := range v.log.parsed {
		if l.EventType != EventCancelled {
			continue
		}
		if err := v.cancelledBy(l); err != nil {
			return err
		}
	}
	return nil
}

// cancelledBy checks that a cancellation is of this prescription, and that the summary says when it was, by whom and why.
func (v *verification) cancelledBy(l chain.Line) error {
	var d struct {
		ID     string `json:"prescription_id"`
		Clinic string `json:"clinic"`
		Sub    string `json:"actor_sub"`
		Reason string `json:"reason_sha256"`
	}
	if err := json.Unmarshal(l.Details, &d); err != nil {
		return fmt.Errorf("the prescription_cancelled line: %w", err)
	}
	if !l.Time.Equal(v.live.Cancelled.At) {
		return errors.New("the summary says that it was cancelled at another time than the line")
	}
	reason, err := v.live.Cancelled.Reason.SHA256()
	if err != nil {
		return err
	}
	return differences([]difference{
		{"reason_sha256 in prescription_cancelled", d.Reason, reason},
		{"prescription_id in prescription_cancelled", d.ID, v.core.Prescription.ID},
		{"clinic in prescription_cancelled", d.Clinic, v.core.Prescription.Clinic},
		{"actor_sub in prescription_cancelled", d.Sub, v.live.Cancelled.Actor},
	})
}
