package signer

import (
	"context"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// examine answers OpExamine: what only the process that has the token and the log open can see. It changes nothing.
func (v *Server) examine(context.Context, wire.Nothing) (wire.Examined, error) {
	c := v.s.ca
	out := wire.Examined{Keys: []wire.KeyExamined{}, Warnings: c.Warnings()}
	for _, k := range c.ExamineKeys() {
		one := wire.KeyExamined{Label: k.Label, Purpose: k.Purpose, Algorithm: k.Algorithm}
		if k.Trouble != nil {
			one.Trouble = fault.PublicOf(k.Trouble)
			v.log.Error("a key of the token", "label", k.Label, "error", k.Trouble)
		}
		out.Keys = append(out.Keys, one)
	}
	authorities, err := c.ExamineAuthorities()
	if err != nil {
		return wire.Examined{}, err
	}
	for _, a := range authorities {
		one := wire.Authority{Kind: string(a.Kind), Serial: a.Serial, Name: a.Certificate.Subject.CommonName, DER: a.Certificate.Raw, NotAfter: a.Certificate.NotAfter,
			Revoked: a.Revoked, Due: a.Due, File: a.File, Newest: a.Newest}
		if a.Sample != nil {
			one.Sample = a.Sample.Raw
		}
		out.Authorities = append(out.Authorities, one)
	}
	own, overdue := c.OwnExamined()
	out.Own, out.Overdue = describeAll(own), describeAll(overdue)
	out.RootListEnds, out.RootListStops = c.RootListLasts()
	r, err := v.s.backup.Report()
	if err != nil {
		return wire.Examined{}, err
	}
	out.TokenBackup = wire.TokenBackupAge{At: r.TokenAt, Recipients: len(v.s.cfg.Token.BackupRecipients), Due: r.TokenDue}
	out.Copy = wire.DrillHeld{At: r.Copy.At, From: r.Copy.From, Lines: r.Copy.Lines}
	out.Drill = wire.DrillHeld{At: r.Drill.At, From: r.Drill.From, Lines: r.Drill.Lines}
	return out, nil
}
