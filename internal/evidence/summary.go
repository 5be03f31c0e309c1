package evidence

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

// Live is what is true of a prescription at the moment of asking.
type Live struct {
	GeneratedAt time.Time `json:"generated_at"`
	GeneratedBy string    `json:"generated_by"` // program, version and appliance
	Status      string    `json:"status"`       // StatusSigned or StatusCancelled
	Exists      bool      `json:"exists"`       // the signed PDF is held

	Delivery    string          `json:"delivery_status,omitempty"`
	Lines       []Position      `json:"lines"`                           // of this prescription, oldest first
	Checkpoint  Checkpoint      `json:"checkpoint"`                      // of a tree that has all of them
	Backup      *Backup         `json:"backup,omitempty"`                // how they stand to the backup host
	Stamped     *CheckpointTime `json:"checkpoint_time_stamp,omitempty"` // another authority's, over a tree that has the signing
	Certificate CertificateNow  `json:"certificate"`                     // what the CA says of it now
	Revisions   []Revision      `json:"revisions,omitempty"`             // of the document, after the first: renewals
	Cancelled   *Cancellation   `json:"cancelled,omitempty"`             // exactly when Status is StatusCancelled
}

// Values of a prescription's status.
const (
	StatusSigned    = "signed"
	StatusCancelled = "cancelled"
)

// Backup says how the lines of a prescription stand to the host that holds a copy of the log.
type Backup struct {
	State    string    `json:"state"`                 // none, disabled, catching-up, comparing, mismatch, sync, async: docs/replication.md
	Cosigned bool      `json:"cosigned"`              // it has cosigned all of them
	Lines    uint64    `json:"cosigned_lines"`        // of the log that it has cosigned in all
	At       time.Time `json:"cosigned_at,omitzero"`  // when, by its clock
	By       string    `json:"cosigned_by,omitempty"` // verifier key of the cosignature
}

// CertificateNow is the state of the signer's certificate.
type CertificateNow struct {
	Serial    string     `json:"serial"`
	Status    string     `json:"status"` // valid, expired, revoked
	CheckedAt time.Time  `json:"checked_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	List      *List      `json:"crl,omitempty"` // what says so; in a pack always, and the pack has it
}

// List names a CRL.
type List struct {
	Number     string    `json:"number"` // decimal
	ThisUpdate time.Time `json:"this_update"`
}

// StateOn returns what a CRL of its issuer says of a certificate at a time: all that a pack says of it. Whose list it is the caller has checked.
func StateOn(crt *x509.Certificate, l *x509.RevocationList, at time.Time) CertificateNow {
	s := CertificateNow{Serial: fmt.Sprintf("%032x", crt.SerialNumber), Status: "valid", CheckedAt: at.UTC(), List: &List{ThisUpdate: l.ThisUpdate.UTC()}}
	if l.Number != nil {
		s.List.Number = l.Number.String()
	}
	if at.After(crt.NotAfter) {
		s.Status = "expired"
	}
	for _, e := range l.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(crt.SerialNumber) == 0 {
			when := e.RevocationTime.UTC()
			s.Status, s.RevokedAt, s.Reason = "revoked", &when, cert.Reason(e.ReasonCode).String()
		}
	}
	return s
}

// Revision is a later state of the signed PDF: the first is a byte prefix of it.
type Revision struct {
	SHA256 string    `json:"sha256"`
	Size   int64     `json:"size"`
	At     time.Time `json:"at"`
}

// Cancellation is who cancelled a prescription, and why.
type Cancellation struct {
	At    time.Time `json:"at"`
	Actor string    `json:"actor"`
	Reason
}

// Reason is why a prescription was cancelled, in somebody's own words, with the salt that keeps its hash in the log from telling them to who guesses.
type Reason struct {
	Text string `json:"reason"`
	Salt string `json:"reason_salt"` // 32 random bytes, hexadecimal
}

// NewReason returns a reason with its salt, which must be fresh randomness.
func NewReason(salt [32]byte, text string) Reason { return Reason{text, hex.EncodeToString(salt[:])} }

// SHA256 returns what the prescription_cancelled line has of a reason, as reason_sha256: the SHA-256 of its canonical JSON, hexadecimal.
func (r Reason) SHA256() (string, error) {
	if !isHash(r.Salt) || r.Text == "" {
		return "", errors.New("evidence: the reason of a cancellation has no salt of 32 bytes, or no text")
	}
	raw, err := canonical(r)
	return SHA256(raw), err
}

// added names the members that Summary adds to a core, top level and below. Without them a summary is the core again.
var added = struct{ top, prescription, pdf []string }{
	[]string{"generated_at", "generated_by", "core_sha256", "live"}, []string{"status"}, []string{"exists"},
}

// Summary returns the Evidence Summary as canonical JSON: the members of core as they are, and besides them generated_at, generated_by,
// core_sha256, prescription.status, signed_pdf.exists and live. core must be what Core returned.
//
//	CoreOf(Summary(core, live)) == core, live
func Summary(core []byte, live Live) ([]byte, error) {
	if _, err := parseCore(core); err != nil {
		return nil, err
	}
	if err := live.check(); err != nil {
		return nil, err
	}
	var top, prescription, pdf map[string]any
	if err := unmarshal(core, &top); err != nil {
		return nil, err
	}
	prescription, _ = top["prescription"].(map[string]any)
	pdf, _ = top["signed_pdf"].(map[string]any)
	top["generated_at"], top["generated_by"] = live.GeneratedAt.UTC(), live.GeneratedBy
	top["core_sha256"] = SHA256(core)
	prescription["status"], pdf["exists"] = live.Status, live.Exists
	top["live"] = live.utc()
	return canonical(top)
}

// CoreOf takes a summary apart. An error says what keeps it from being what Summary returned.
func CoreOf(summary []byte) (core []byte, live Live, err error) {
	var top map[string]any
	if err := unmarshal(summary, &top); err != nil {
		return nil, live, fmt.Errorf("evidence: the summary: %w", err)
	}
	prescription, _ := top["prescription"].(map[string]any)
	pdf, _ := top["signed_pdf"].(map[string]any)
	raw, err := json.Marshal(top["live"])
	if err != nil {
		return nil, live, fmt.Errorf("evidence: the summary: %w", err)
	}
	if err := strict(raw, &live); err != nil {
		return nil, live, fmt.Errorf("evidence: the summary's live part: %w", err)
	}
	for _, m := range []struct {
		of    map[string]any
		names []string
	}{{top, added.top}, {prescription, added.prescription}, {pdf, added.pdf}} {
		for _, name := range m.names {
			delete(m.of, name)
		}
	}
	if core, err = canonical(top); err != nil {
		return nil, live, err
	}
	again, err := Summary(core, live)
	if err != nil {
		return nil, live, err
	}
	if string(again) != string(summary) {
		return nil, live, fmt.Errorf("evidence: the summary is not its core with what it says of the present")
	}
	return core, live, nil
}

func (l Live) utc() Live {
	l.GeneratedAt, l.Certificate.CheckedAt = l.GeneratedAt.UTC(), l.Certificate.CheckedAt.UTC()
	l.Lines = utcLines(l.Lines)
	l.Checkpoint = l.Checkpoint.utc()
	if l.Stamped != nil {
		s := *l.Stamped
		s.Time = s.Time.UTC()
		l.Stamped = &s
	}
	return l
}

func (l *Live) check() error {
	switch {
	case l.Status != StatusSigned && l.Status != StatusCancelled:
		return fmt.Errorf("evidence: a prescription is signed or cancelled, not %q", l.Status)
	case (l.Cancelled != nil) != (l.Status == StatusCancelled):
		return fmt.Errorf("evidence: a prescription that is %s, with and without a cancellation", l.Status)
	case l.GeneratedAt.IsZero() || l.GeneratedBy == "":
		return fmt.Errorf("evidence: who made the summary, and when, is missing")
	case l.Checkpoint.Statement != l.Checkpoint.statement():
		return fmt.Errorf("evidence: the checkpoint's statement is not what its cosignatures amount to")
	}
	return nil
}
