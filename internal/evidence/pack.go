package evidence

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// Pack is what an evidence pack is made of.
type Pack struct {
	CreatedAt    time.Time
	Core         []byte              // as Core returned it
	Summary      []byte              // as Summary returned it for the same core
	PDF          []byte              // the signed document whose SHA-256 the core has, with what the renewals appended that the summary names
	Certificates []*x509.Certificate // every certificate of the signer's, the time stamps' and the CRLs' paths, the root last
	CRLs         [][]byte            // DER, made now: of the root and of each issuing CA
	Lines        []PackLine          // in ascending order; among them that of prescription_signed
	Checkpoint   []byte              // the signed note over a tree that has all lines, cosigned where it is
	Stamped      *Stamped            // nil when there is none
	LogKey       string              // verifier key of the log, for those who have it from elsewhere to compare
}

// Stamped is a checkpoint that another authority time-stamped.
type Stamped struct {
	Note   []byte       // the signed checkpoint
	Token  []byte       // RFC 3161, over SHA-256 of Note or another hash of it
	Growth []chain.Hash // RFC 6962 §2.1.2, from its tree to that of the pack's checkpoint
}

// PackLine is a line of the log with the proof that it is in the checkpoint's tree.
type PackLine struct {
	Seq   uint64       // counted from 0
	Line  []byte       // without its newline
	Proof []chain.Hash // RFC 6962 §2.1.1 audit path
}

// Event types that a pack's verification reads.
const (
	EventCreated      = "signature_created"
	EventKeyFirstSeen = "realm_key_first_seen"
	EventSigned       = "prescription_signed"
	EventCancelled    = "prescription_cancelled"
	EventRenewed      = "prescription_renewed"
)

// SignedDetails is what evidence needs of the details of a prescription_signed line, which holds at least these.
type SignedDetails struct {
	PrescriptionID string `json:"prescription_id"`
	PDF            string `json:"pdf_sha256"`
	Core           string `json:"evidence_sha256"` // SHA256(core)
	Signature      string `json:"signature"`       // Input.Signature.ID, as in signature_created
	ActorSub       string `json:"actor_sub"`
	ActorACR       string `json:"actor_acr"`
	ActorIP        string `json:"actor_ip"`
}

// RenewedDetails is what evidence needs of the details of a prescription_renewed line, which holds at least these.
type RenewedDetails struct {
	PrescriptionID string `json:"prescription_id"`
	Clinic         string `json:"clinic"`
	From           string `json:"from_sha256"`
	PDF            string `json:"pdf_sha256"` // of the whole document
	Size           int64  `json:"pdf_size"`
	GenTime        string `json:"gen_time"`          // of the time stamp that it got
	TimeStamp      string `json:"time_stamp_serial"` // likewise
}

// WritePack writes p as an evidence pack, a zip file of at most 160 MiB in memory. It refuses what VerifyPack would call invalid, so that no pack
// leaves that does not stand up; whether the PDF's signatures are valid it does not judge.
func WritePack(ctx context.Context, w io.Writer, p Pack) error {
	files, err := p.files()
	if err != nil {
		return err
	}
	archive, err := encodeArchive(files)
	if err != nil {
		return err
	}
	report, err := VerifyPack(ctx, bytes.NewReader(archive), int64(len(archive)), VerifyOptions{})
	if err != nil {
		return err
	}
	var wrong []error
	for _, c := range report.Checks {
		if c.Result == Fail {
			wrong = append(wrong, fmt.Errorf("%s: %s", c.Name, c.Text))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("evidence: the pack would not verify: %w", errors.Join(wrong...))
	}
	_, err = w.Write(archive)
	return err
}

// files returns the entries of the pack's archive.
func (p *Pack) files() ([]entry, error) {
	if p.CreatedAt.IsZero() {
		return nil, errors.New("evidence: a pack without the time it was made at")
	}
	c, err := parseCore(p.Core)
	if err != nil {
		return nil, err
	}
	_, live, err := CoreOf(p.Summary)
	if err != nil {
		return nil, err
	}
	text, err := readme(readmeVersion, c, &live, p.CreatedAt)
	if err != nil {
		return nil, err
	}
	lines, proofs := encodeLines(p.Lines, p.Checkpoint)
	certs := make([][]byte, len(p.Certificates))
	for i, crt := range p.Certificates {
		certs[i] = crt.Raw
	}
	var files []entry
	for i, data := range [][]byte{
		text, p.PDF, p.Core, p.Summary, encodePEM(pemCertificate, certs), encodePEM(pemCRL, p.CRLs), lines, p.Checkpoint, logKeyText(p.LogKey),
	} {
		files = append(files, entry{listed[i].name, data})
	}
	if p.Stamped != nil {
		more, err := p.Stamped.files(p.Checkpoint)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	files = append(files, proofs...)
	list, err := canonical(newManifest(readmeVersion, p.CreatedAt, c.Prescription.ID, files))
	if err != nil {
		return nil, err
	}
	return append([]entry{files[0], {nameManifest, list}}, files[1:]...), nil
}
