package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/tsp"
	"github.com/veripath/aes-appliance/internal/wire"
)

// auditSigned is the details of eventAuditReport.
type auditSigned struct {
	Report      string `json:"report_sha256"`
	Size        int    `json:"report_size"`
	Certificate string `json:"certificate_serial"` // of its one-time key
	Lines       uint64 `json:"lines"`              // of the log, as the report says
}

// auditReport answers OpAuditReport: it puts what it knows itself before what was examined, and signs both, as bytes that it wrote. The key signs this report and
// nothing else ever (ca.IssueOnce).
func (v *Server) auditReport(ctx context.Context, in wire.AuditReport) (wire.AuditSigned, error) {
	examined := bytes.TrimSpace(in.Examined)
	if len(examined) > wire.MaxAuditReport {
		return wire.AuditSigned{}, fault.New(fault.TooLarge, fmt.Sprintf("a report has at most %d bytes", wire.MaxAuditReport))
	}
	if len(examined) == 0 || examined[0] != '{' {
		return wire.AuditSigned{}, fault.New(fault.Invalid, "a report is a JSON object")
	}
	now, err := v.s.clock.Now()
	if err != nil {
		return wire.AuditSigned{}, err
	}
	status, err := v.status(ctx, wire.Nothing{})
	if err != nil {
		return wire.AuditSigned{}, err
	}
	report, err := json.MarshalIndent(wire.Attested{Schema: wire.AuditSchema, At: now.Time.Truncate(time.Second), Proven: now.Proven, Signer: status, Examined: examined}, "", "  ")
	if err != nil {
		return wire.AuditSigned{}, fault.New(fault.Invalid, "what was examined is no JSON").WithCause(err)
	}
	return v.signReport(ctx, append(report, '\n'), status.Lines)
}

func (v *Server) signReport(ctx context.Context, report []byte, lines uint64) (wire.AuditSigned, error) {
	digest := sha256.Sum256(report)
	key, chain, err := v.s.ca.IssueOnce(ctx, operatorActor)
	if err != nil {
		return wire.AuditSigned{}, err
	}
	producer, err := cms.NewProducer(cms.SignParams{Hash: crypto.SHA256, Certificate: chain[0], Chain: chain[1 : len(chain)-1]}, key)
	if err != nil {
		return wire.AuditSigned{}, err
	}
	signature, err := producer.Sign(v.s.rand, nil, digest[:])
	if err != nil {
		return wire.AuditSigned{}, err
	}
	token, err := v.s.Stamp(ctx, digest[:])
	if err != nil {
		return wire.AuditSigned{}, err
	}
	stamp, err := tsp.Response{Status: tsp.Granted, Token: token}.Marshal()
	if err != nil {
		return wire.AuditSigned{}, err
	}
	details := auditSigned{Report: hexSum(report), Size: len(report), Certificate: fmt.Sprintf("%032x", chain[0].SerialNumber), Lines: lines}
	if _, err := v.s.ledger.Append(ctx, ledger.Event{Type: eventAuditReport, Actor: operatorActor, Details: details}); err != nil {
		return wire.AuditSigned{}, err
	}
	out := wire.AuditSigned{Report: report, Signature: signature, TimeStamp: stamp}
	for _, c := range chain {
		out.Chain = append(out.Chain, c.Raw)
	}
	return out, nil
}
