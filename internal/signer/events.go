package signer

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Event types that this package writes; docs/audit-log.md lists all.
const (
	eventFounded     = "appliance_founded"    // first line of a log: what kind of appliance this is, for good
	eventStartup     = "system_startup"       // the first act after an opening: the token, the keys and the clock were found in order
	eventClock       = "clock_high_water"     // no time stamp after this line bears an earlier time
	eventClockLost   = "clock_proof_lost"     // the kernel does not prove the time any more: nothing is stamped
	eventClockProven = "clock_proof_regained" // and does again
	eventCreated     = "signature_created"    // a signature exists; its line precedes its leaving this process
	eventSigned      = "document_signed"      // the document that holds it is complete
	eventIncomplete  = "signing_incomplete"   // a signature_created whose document was never completed
	eventRenewed     = "document_renewed"     // a document got a further document time stamp

	eventPrescriptionSigned  = "prescription_signed"             // document_signed of a prescription: this line precedes the answer
	eventRenewalOpened       = "prescription_opened_for_renewal" // this line precedes the unsealing
	eventPrescriptionRenewed = "prescription_renewed"            // its document got a further time stamp; what was signed stays beside it
	eventCancelled           = "prescription_cancelled"          // it is not to be dispensed; nothing is deleted
	eventListed              = "prescriptions_listed"            // somebody saw a page of what a clinic prescribed
	eventDownloaded          = "prescription_pdf_downloaded"     // this line precedes the unsealing
	eventEvidence            = "evidence_summary_downloaded"     // likewise
	eventPack                = "evidence_pack_downloaded"        // likewise
	eventRefused             = "signing_refused"                 // somebody known asked for what is not done
	eventAccessRefused       = "access_refused"                  // somebody reads or administers more than is allowed
	eventKeyFirstSeen        = "realm_key_first_seen"            // activation's
	eventReloaded            = "configuration_reloaded"
	eventMedicines           = "medicines_dictionary_in_use" // by which extract of dm+d schedules are decided from here on
	eventShutdown            = "system_shutdown"
	eventStamped             = "checkpoint_time_stamped" // by another authority; the line holds the checkpoint and the token
	eventPublic              = "public_requests"         // how many anonymous requests were answered since the last such line
	eventAuditReport         = "audit_report_signed"     // a report of the appliance about itself; the line precedes its leaving

	eventPINChanged = "token_pin_changed" // a backup of the token is due

	eventCeremony = "ceremony_completed" // package ca's: from here on there are keys that something can be signed with
)

// founded is the details of eventFounded.
type founded struct {
	Demo    bool   `json:"demo"`    // nothing made here is ever to be taken for real
	Clock   string `json:"clock"`   // clock.mode at founding
	Version string `json:"version"` // of the program
	Origin  string `json:"origin"`  // of the log, in checkpoints: for good, whatever pki.base_url becomes
}

// created is the details of eventCreated.
type created struct {
	Signature   string    `json:"signature"` // identifies this signing operation: SHA-256 of the signature value, hexadecimal
	Certificate string    `json:"certificate_serial"`
	Digest      string    `json:"document_digest"` // SHA-256 of the ByteRange, hexadecimal
	GenTime     time.Time `json:"gen_time"`        // of the signature time stamp
	TimeStamp   string    `json:"time_stamp_serial"`
	ClockProven bool      `json:"clock_proven"`
	onToken
}

// onToken is what a signature was authorised by, when that was a token: package activation counts it against the token's caps, also after a restart. The
// token itself is nowhere, only the SHA-256 of what its realm signed.
type onToken struct {
	Token   string    `json:"token_input_sha256,omitempty"`
	Expires time.Time `json:"token_expires,omitzero"`
	Clinic  string    `json:"clinic,omitempty"`
	Sub     string    `json:"actor_sub,omitempty"`
}

// medicines is the details of eventMedicines.
type medicines struct {
	InUse   bool   `json:"in_use"`            // false: there is none from here on
	Release string `json:"release,omitempty"` // of dm+d
	File    string `json:"file_sha256,omitempty"`
	Extract string `json:"extract_sha256,omitempty"` // of TRUD's archive
	Codes   int    `json:"codes,omitempty"`
}

// signed is the details of eventSigned.
type signed struct {
	Signature string `json:"signature"`
	PDF       string `json:"pdf_sha256"`
	Size      int64  `json:"pdf_size"`
	GenTime   string `json:"gen_time"`          // of the document time stamp
	TimeStamp string `json:"time_stamp_serial"` // of the document time stamp
}

// incomplete is the details of eventIncomplete.
type incomplete struct {
	Signature string `json:"signature"`
	Reason    string `json:"reason"`
}

// renewed is the details of eventRenewed.
type renewed struct {
	From string `json:"from_sha256"`
	To   string `json:"to_sha256"`
	Size int64  `json:"pdf_size"`
}

const (
	foldName     = "signer/2"
	bucketOpen   = foldName + "/open"    // signature -> time of its line, for those whose document is not complete
	bucketOrigin = foldName + "/founded" // "founded" -> details, "complete" -> "yes" once there was a ceremony
)

// fold keeps which signatures are still open, and what the appliance was founded as.
type fold struct{}

func (fold) Name() string { return foldName }

// Apply implements ledger.Fold.
func (fold) Apply(tx *index.Tx, r ledger.Record) error {
	switch r.Type {
	case eventFounded:
		return tx.Bucket(bucketOrigin).Put([]byte("founded"), r.Details)
	case eventCeremony:
		return tx.Bucket(bucketOrigin).Put([]byte("complete"), []byte("yes"))
	case eventCreated:
		var d created
		if err := json.Unmarshal(r.Details, &d); err != nil {
			return fmt.Errorf("line %d, %s: %w", r.Seq, r.Type, err)
		}
		return tx.Bucket(bucketOpen).Put([]byte(d.Signature), []byte(r.Time.Format(time.RFC3339Nano)))
	case eventSigned, eventIncomplete, eventPrescriptionSigned:
		var d incomplete // the field that all three share
		if err := json.Unmarshal(r.Details, &d); err != nil {
			return fmt.Errorf("line %d, %s: %w", r.Seq, r.Type, err)
		}
		return tx.Bucket(bucketOpen).Delete([]byte(d.Signature))
	}
	return nil
}
