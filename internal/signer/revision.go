package signer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// kindRenewal is a sealed object: what a renewal appended to a document.
const kindRenewal = "renewal"

// renewalOpened is the details of eventRenewalOpened.
type renewalOpened struct {
	PrescriptionID string `json:"prescription_id"`
	Clinic         string `json:"clinic"`
	PDF            string `json:"pdf_sha256"`
}

// prescriptionRenewed is the details of eventPrescriptionRenewed.
type prescriptionRenewed struct {
	PrescriptionID string `json:"prescription_id"`
	Clinic         string `json:"clinic"`
	From           string `json:"from_sha256"`
	PDF            string `json:"pdf_sha256"`             // of the whole document
	Size           int64  `json:"pdf_size"`               // likewise
	Tail           string `json:"renewal_object"`         // what was appended
	TSA            string `json:"tsa_certificate_serial"` // of the new time stamp
	GenTime        string `json:"gen_time"`               // likewise
	TimeStamp      string `json:"time_stamp_serial"`      // likewise
}

// revision is a state of a document, as a line tells of it.
type revision struct {
	PDF     string    `json:"pdf_sha256"`
	Size    int64     `json:"pdf_size"`
	Tail    string    `json:"renewal_object,omitempty"` // "" for what was signed
	TSA     string    `json:"tsa_certificate_serial"`   // of its newest time stamp
	GenTime string    `json:"gen_time"`                 // likewise
	Line    uint64    `json:"line"`
	At      time.Time `json:"at"` // of that line
}

// stampedBefore says whether the document's newest time stamp is from before a time.
func (k *kept) stampedBefore(t time.Time) bool {
	made, err := time.Parse(time.RFC3339Nano, k.StampedAt)
	return err == nil && made.Before(t)
}

// newest is the document as it is now.
func (r *record) newest() revision {
	if n := len(r.Revisions); n > 0 {
		return r.Revisions[n-1]
	}
	return revision{PDF: r.PDF, Size: r.Size, TSA: r.TSA, GenTime: r.GenTime, Line: r.Line, At: r.At}
}

// renewals are what the evidence says of the states after the first.
func (r *record) renewals() (list []evidence.Revision) {
	for _, one := range r.Revisions {
		list = append(list, evidence.Revision{SHA256: one.PDF, Size: one.Size, At: one.At.UTC()})
	}
	return list
}

func (prescriptionFold) renewed(tx *index.Tx, r ledger.Record) error {
	var d prescriptionRenewed
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	key := recordKey(d.Clinic, d.PrescriptionID)
	k, err := getKept(tx, key)
	if err != nil || k == nil { // a line cannot be refused any more
		return err
	}
	k.StampedBy, k.StampedAt = d.TSA, d.GenTime
	k.Revisions = append(k.Revisions, revision{PDF: d.PDF, Size: d.Size, Tail: d.Tail, TSA: d.TSA, GenTime: d.GenTime, Line: r.Seq, At: r.Time})
	return putKept(tx, key, *k)
}

// newestPDF unseals the document in its newest state; the line said what it must be.
func (v *Server) newestPDF(ctx context.Context, rec *record) ([]byte, error) {
	pdf, err := v.signedPDF(ctx, rec)
	if err != nil || len(rec.Revisions) == 0 {
		return pdf, err
	}
	for _, r := range rec.Revisions {
		tail, err := v.s.kept(ctx, r.Tail)
		if err != nil {
			return nil, err
		}
		pdf = append(pdf, tail...)
	}
	if hexSum(pdf) != rec.newest().PDF {
		return nil, fault.New(fault.Corrupt, "the document that is kept is not the one that was renewed").
			WithHint("what was signed is kept apart from its renewals, and can be downloaded")
	}
	return pdf, nil
}
