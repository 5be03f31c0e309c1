package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/veripath/aes-appliance/internal/doctor"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Files of a signed report.
const (
	auditReportFile = "report.json"
	auditTextFile   = "report.txt"
	auditSignature  = "report.json.p7s"
	auditStamp      = "report.json.tsr"
	auditRoot       = "root.pem"
	auditReadme     = "README.txt"
)

// auditReadmeText says what is what, and how to judge it with openssl alone.
const auditReadmeText = `A report of an AES appliance about itself.

report.json      what was examined, and what it says of each clause; the signer's own words stand under "signer"
report.txt       the same for reading; report.json counts
report.json.p7s  signature over report.json (CMS, detached, DER), by a key that signed nothing else and is destroyed
report.json.tsr  time stamp over report.json (RFC 3161)
root.pem         the appliance's root certificate: compare its SHA-256 with what the operator gave you by another way

Judge it with OpenSSL 3, in this folder:

  openssl x509 -in root.pem -noout -fingerprint -sha256
  openssl cms -verify -binary -inform DER -in report.json.p7s -content report.json -CAfile root.pem -out /dev/null
  openssl ts -verify -data report.json -in report.json.tsr -CAfile root.pem

The first shows whose it is, the second says "Verification successful", the third "Verification: OK".
`

// auditMachine examines this machine in full and writes a signed report of it into a new folder.
func (a *app) auditMachine(ctx context.Context, dir string) (_ doctor.Report, err error) {
	if onDisk(dir) {
		return doctor.Report{}, fault.New(fault.Conflict, dir+" is there already").WithHint("name a folder that is not: a report is never written over another")
	}
	// Made before anything is examined or signed: a report that cannot be written leaves no line.
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".audit-")
	if err != nil {
		return doctor.Report{}, cannotWrite(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	cfg, err := a.examined(doctor.Primary)
	if err != nil {
		return doctor.Report{}, err
	}
	if cfg.Broken != nil {
		return doctor.Report{}, cfg.Broken
	}
	r, err := a.examineMachine(ctx, examination{Role: doctor.Primary, Full: true})
	if err != nil {
		return r, err
	}
	audit := doctor.NewAudit(r, cfg.Appliance.Token.Module == "")
	raw, err := json.Marshal(audit)
	if err != nil {
		return r, err
	}
	var signed wire.AuditSigned
	if err := a.administer(ctx, wire.OpAuditReport, wire.AuditReport{Examined: raw}, &signed); err != nil {
		return r, fmt.Errorf("signing the report: %w", err)
	}
	return r, writeAudit(tmp, dir, audit, signed)
}

// writeAudit fills the folder tmp, which then gets its name: it appears whole or not at all.
func writeAudit(tmp, dir string, audit doctor.Audit, signed wire.AuditSigned) error {
	if len(signed.Chain) == 0 {
		return errors.New("the signer returned no certificate")
	}
	var text bytes.Buffer
	if err := audit.WriteText(&text); err != nil {
		return err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Chain[len(signed.Chain)-1]})
	for name, data := range map[string][]byte{auditReportFile: signed.Report, auditTextFile: text.Bytes(), auditSignature: signed.Signature, auditStamp: signed.TimeStamp, auditRoot: root, auditReadme: []byte(auditReadmeText)} {
		if err := os.WriteFile(filepath.Join(tmp, name), data, 0o600); err != nil {
			return cannotWrite(dir, err)
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return cannotWrite(dir, err)
	}
	return nil
}

func cannotWrite(dir string, err error) error {
	return fault.New(fault.Unavailable, "cannot write the report into "+dir+reason(err)).WithHint("name a folder that does not exist yet, in one that this user may write").WithCause(err)
}
