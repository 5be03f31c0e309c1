package evidence

import (
	"crypto/x509"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// Pack is what an evidence pack is made of.
type Pack struct {
	CreatedAt    time.Time
	Core         []byte              // as Core returned it
	Summary      []byte              // as Summary returned it for the same core
	PDF          []byte              // the signed document whose SHA-256 the core has
	Certificates []*x509.Certificate // every certificate of the signer's, the time stamps' and the CRLs' paths, the root last
	CRLs         [][]byte            // DER, made now: of the root and of each issuing CA
	Lines        []PackLine          // in ascending order; among them that of prescription_signed
	Checkpoint   []byte              // the signed note over a tree that has all lines
	LogKey       string              // verifier key of the log, for those who have it from elsewhere to compare
}

// PackLine is a line of the log with the proof that it is in the checkpoint's tree.
type PackLine struct {
	Seq   uint64       // counted from 0
	Line  []byte       // without its newline
	Proof []chain.Hash // RFC 6962 §2.1.1 audit path
}

// Event types that a pack's verification reads.
const (
	EventCreated   = "signature_created"
	EventSigned    = "prescription_signed"
	EventCancelled = "prescription_cancelled"
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
