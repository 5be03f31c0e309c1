package signer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/wire"
)

// find returns a prescription of the caller's clinic; those of other clinics do not exist for it.
func (v *Server) find(ctx context.Context, in wire.Credentials, id string) (activation.Caller, *record, error) {
	c, k, err := v.known(ctx, in, id)
	if err != nil {
		return c, nil, err
	}
	rec, err := v.s.recall(k)
	return c, rec, err
}

// known is find that does not look at the prescription's line.
func (v *Server) known(ctx context.Context, in wire.Credentials, id string) (activation.Caller, *kept, error) {
	c, err := v.authenticate(ctx, in)
	if err != nil {
		return c, nil, err
	}
	none := fault.New(fault.NotFound, "the clinic has no prescription of that ID").WithCode("prescription-not-found")
	if id == "" || len(id) > maxIDLength || strings.ContainsRune(id, 0) {
		return c, nil, none
	}
	k, err := v.s.lookUp(recordKey(c.Clinic, id))
	if err == nil && k == nil {
		err = none
	}
	if err == nil {
		err = v.mayAct(ctx, c, in)
	}
	return c, k, err
}

// released returns why a prescription whose answer has not left yet is not to be seen either: the backup must have its lines first.
func (v *Server) released(ctx context.Context, rec *record) error {
	_, err := v.settle(ctx, rec.newest().Line)
	return err
}

// access records that somebody gets to see something of a prescription. It is called before anything is unsealed.
func (v *Server) access(ctx context.Context, event string, c activation.Caller, rec *record, in wire.Credentials, pdf string) error {
	o, a := cleanObserved(in.Observed), cleanAsserted(in.Asserted)
	_, err := v.s.ledger.Append(ctx, ledger.Event{Type: event, Actor: c.Actor(), Details: accessed{
		PrescriptionID: rec.PrescriptionID, Clinic: c.Clinic, ActorSub: c.Sub, IP: actorIP(o, a), UserAgent: a.UserAgent, PDF: pdf, RequestID: o.RequestID,
	}})
	return err
}

// document answers OpDocument.
func (v *Server) document(ctx context.Context, in wire.DocumentRef, _ *os.File) (wire.DocumentInfo, *os.File, error) {
	c, rec, err := v.find(ctx, in.Credentials, in.PrescriptionID)
	if err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	which := revision{PDF: rec.PDF, Size: rec.Size, Line: rec.Line}
	read := v.signedPDF
	if in.Newest {
		which, read = rec.newest(), v.newestPDF
	}
	if _, err := v.settle(ctx, which.Line); err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	if err := v.access(ctx, eventDownloaded, c, rec, in.Credentials, which.PDF); err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	if err := v.room(ctx, which.Size); err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	pdf, err := read(ctx, rec)
	if err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	fd, err := wire.Memfd("document", pdf)
	return rec.info(".pdf", which.PDF, which.Size), fd, err
}

// room takes what a document of that size needs of memory until the answer has left: a peer that reads nothing must not make the signer hold more and more.
func (v *Server) room(ctx context.Context, size int64) error {
	giveBack, err := v.memory.Take(ctx, documentTimes*size)
	if err == nil {
		wire.After(ctx, giveBack)
	}
	return err
}

// signedPDF unseals the document; the line said what it must be.
func (v *Server) signedPDF(ctx context.Context, rec *record) ([]byte, error) {
	pdf, err := v.s.document(ctx, rec)
	if err != nil {
		return nil, err
	}
	if hexSum(pdf) != rec.PDF {
		return nil, fault.New(fault.Corrupt, "the document that is kept is not the one that was signed")
	}
	return pdf, nil
}

func (r *record) info(ending, sha string, size int64) wire.DocumentInfo {
	return wire.DocumentInfo{PrescriptionID: r.PrescriptionID, FileName: fileName(r.PrescriptionID) + ending, SHA256: sha, Size: size, SignedAt: r.SignedAt}
}

// fileName makes an ID fit for any file system and any header.
func fileName(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, id)
}

// evidence answers OpEvidence.
func (v *Server) evidence(ctx context.Context, in wire.PrescriptionRef) (wire.Evidence, error) {
	c, rec, err := v.find(ctx, in.Credentials, in.PrescriptionID)
	if err != nil {
		return wire.Evidence{}, err
	}
	if err := v.released(ctx, rec); err != nil {
		return wire.Evidence{}, err
	}
	if err := v.access(ctx, eventEvidence, c, rec, in.Credentials, rec.PDF); err != nil {
		return wire.Evidence{}, err
	}
	d, err := v.unseal(ctx, rec)
	if err != nil {
		return wire.Evidence{}, err
	}
	live, err := v.live(ctx, rec)
	if err != nil {
		return wire.Evidence{}, err
	}
	head, err := v.headOver(ctx, rec.lines())
	if err != nil {
		return wire.Evidence{}, err
	}
	live.Checkpoint = evidence.NewCheckpoint(head)
	if err := v.putStamp(ctx, rec.Line, head, &live, nil); err != nil {
		return wire.Evidence{}, err
	}
	summary, err := evidence.Summary(d.Core, live)
	return wire.Evidence{Evidence: summary}, err
}

// unseal returns the dossier; the line said what its core must be.
func (v *Server) unseal(ctx context.Context, rec *record) (dossier, error) {
	d, err := v.s.dossier(ctx, rec)
	if err == nil && evidence.SHA256(d.Core) != rec.Core {
		err = fault.New(fault.Corrupt, "the evidence that is kept is not that of the signing")
	}
	return d, err
}

// live says what is true of a prescription now.
func (v *Server) live(ctx context.Context, rec *record) (evidence.Live, error) {
	now := v.s.clock.Estimate()
	crt, err := v.s.ca.Get(rec.Certificate)
	if err != nil {
		return evidence.Live{}, err
	}
	held, err := v.holds(ctx, rec)
	if err != nil {
		return evidence.Live{}, err
	}
	l := evidence.Live{
		GeneratedAt: now, GeneratedBy: "aes-appliance " + v.s.cfg.Version + ", " + v.s.cfg.PKI.Name, Status: rec.status(), Exists: held, Revisions: rec.renewals(),
		Certificate: evidence.CertificateNow{Serial: crt.Serial, Status: string(crt.Status), CheckedAt: now, RevokedAt: crt.RevokedAt, Reason: crt.Reason},
	}
	b := v.s.backup.Say(rec.last() + 1)
	l.Backup = &evidence.Backup{State: string(b.State), Cosigned: b.Cosigned, Lines: b.Lines, At: b.At, By: b.By}
	for _, seq := range rec.lines() {
		r, err := v.s.ledger.Read(seq)
		if err != nil {
			return l, err
		}
		l.Lines = append(l.Lines, position(r))
	}
	if rec.Cancelled != nil {
		reason, err := v.reason(ctx, rec)
		if err != nil {
			return l, err
		}
		l.Cancelled = &evidence.Cancellation{At: rec.Cancelled.At, Actor: rec.Cancelled.Sub, Reason: reason}
	}
	return l, nil
}

// holds says whether the document is here and whole.
func (v *Server) holds(ctx context.Context, rec *record) (bool, error) {
	err := v.s.objects.Check(ctx, rec.Document)
	if k := fault.KindOf(err); err != nil && (k == fault.NotFound || k == fault.Corrupt) {
		v.log.ErrorContext(ctx, "a signed document is not held any more", "object", rec.Document, "error", err)
		return false, nil
	}
	return err == nil, err
}

// lines are where in the log a prescription's acts are, in order.
func (r *record) lines() []uint64 {
	list := []uint64{r.CreatedLine, r.Line}
	if r.Cancelled != nil {
		list = append(list, r.Cancelled.Line)
	}
	for _, one := range r.Revisions {
		list = append(list, one.Line)
	}
	slices.Sort(list)
	return list
}

// Sizes of a page of prescriptions.
const (
	defaultPage = 50
	maxPage     = 100
)

// prescriptions answers OpPrescriptions.
func (v *Server) prescriptions(ctx context.Context, in wire.PrescriptionsRequest) (wire.PrescriptionPage, error) {
	c, err := v.authenticate(ctx, in.Credentials)
	if err != nil {
		return wire.PrescriptionPage{}, err
	}
	if err := v.mayAct(ctx, c, in.Credentials); err != nil {
		return wire.PrescriptionPage{}, err
	}
	limit := in.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	var before uint64
	if in.Cursor != "" {
		if before, err = strconv.ParseUint(in.Cursor, 10, 63); err != nil || before == 0 {
			return wire.PrescriptionPage{}, fault.New(fault.Invalid, "the cursor is not one that was given out")
		}
	}
	list, more, err := v.s.page(c.Clinic, before, limit)
	if err != nil {
		return wire.PrescriptionPage{}, err
	}
	// What a list says of a prescription is an answer too: it rests on all lines of those that are shown.
	var newest uint64
	for _, one := range list {
		newest = max(newest, one.last())
	}
	if len(list) > 0 {
		if _, err := v.settle(ctx, newest); err != nil {
			return wire.PrescriptionPage{}, err
		}
	}
	o := cleanObserved(in.Observed)
	_, err = v.s.ledger.Append(ctx, ledger.Event{Type: eventListed, Actor: c.Actor(), Details: map[string]any{
		"clinic": c.Clinic, "actor_sub": c.Sub, "ip": actorIP(o, in.Asserted), "count": len(list), "request_id": o.RequestID,
	}})
	if err != nil {
		return wire.PrescriptionPage{}, err
	}
	page := wire.PrescriptionPage{Prescriptions: make([]wire.PrescriptionSummary, 0, len(list))}
	for _, l := range list {
		one, err := v.shown(ctx, l)
		if err != nil {
			return wire.PrescriptionPage{}, err
		}
		page.Prescriptions = append(page.Prescriptions, one)
	}
	if more {
		page.Next = strconv.FormatUint(list[len(list)-1].Line, 10)
	}
	return page, nil
}

// shown is what a list says of a prescription: of one that is damaged, what can be said.
func (v *Server) shown(ctx context.Context, l listed) (wire.PrescriptionSummary, error) {
	s, err := wire.PrescriptionSummary{PrescriptionID: l.id, Status: l.status(), SignedAt: l.Signed}, l.bad
	if l.Cancelled != nil {
		s.CancelledAt = l.Cancelled.At
	}
	if l.rec != nil {
		s, err = v.summary(ctx, l.rec)
	}
	if fault.KindOf(err) == fault.Corrupt {
		v.log.ErrorContext(ctx, "what is kept of a prescription cannot be read", "line", l.Line, "error", err, "hint", fault.HintOf(err))
		s.Incomplete, err = true, nil
	}
	return s, err
}

// summary unseals what a list shows of a prescription. With an error comes what the log alone says.
func (v *Server) summary(ctx context.Context, rec *record) (wire.PrescriptionSummary, error) {
	s := wire.PrescriptionSummary{
		PrescriptionID: rec.PrescriptionID, ClinicianCN: rec.ClinicianCN, Status: rec.status(), SignedAt: rec.SignedAt, SHA256: rec.PDF, Size: rec.Size,
		Level: rec.Level, Label: rec.label(),
	}
	if rec.Cancelled != nil {
		s.CancelledAt = rec.Cancelled.At
	}
	d, err := v.unseal(ctx, rec)
	if err != nil {
		return s, err
	}
	var asked content
	if err := wire.Decode(d.Content, &asked); err != nil {
		return s, fault.New(fault.Corrupt, "what is kept of the prescription cannot be read").WithCause(err)
	}
	p := asked.Prescription
	s.MedicationName, s.Strength, s.Form, s.Quantity = p.MedicationName, p.Strength, p.Form, p.Quantity
	s.PharmacyODS, s.PharmacyName = p.PharmacyODS, p.PharmacyName
	if rec.Cancelled != nil {
		reason, err := v.reason(ctx, rec)
		if err != nil {
			return s, err
		}
		s.CancelReason = reason.Text
	}
	return s, nil
}

// cancel answers OpCancel. A prescription is cancelled once; asking again gets the same answer.
func (v *Server) cancel(ctx context.Context, in wire.CancelRequest) (wire.Cancelled, error) {
	c, k, err := v.known(ctx, in.Credentials, in.PrescriptionID)
	if err != nil {
		return wire.Cancelled{}, err
	}
	if c.Kind == activation.Service {
		return wire.Cancelled{}, fault.New(fault.Forbidden, "a service account cannot cancel a prescription").
			WithHint("send the token of a clinician or an administrator").WithCode(activation.ServiceRefused)
	}
	if err := v.s.gate.RequireLogin(ctx, c, string(wire.OpCancel), v.s.clock.Estimate()); err != nil {
		return wire.Cancelled{}, err
	}
	if strings.TrimSpace(in.Reason) == "" || len(in.Reason) > maxReason || !utf8.ValidString(in.Reason) {
		return wire.Cancelled{}, fault.New(fault.Invalid, fmt.Sprintf("the reason is missing, or not UTF-8 of at most %d bytes", maxReason))
	}
	if err := v.s.backup.Await(ctx); err != nil {
		return wire.Cancelled{}, err
	}
	key := recordKey(c.Clinic, in.PrescriptionID)
	release, err := v.ops.hold(ctx, "cancel "+string(key))
	if err != nil {
		return wire.Cancelled{}, err
	}
	defer release()
	if k, err = v.s.lookUp(key); err != nil {
		return wire.Cancelled{}, err
	}
	if k.Cancelled != nil {
		return v.cancelled(ctx, in.PrescriptionID, k)
	}
	reason, hash, err := v.putReason(ctx, in.Reason)
	if err != nil {
		return wire.Cancelled{}, err
	}
	o := cleanObserved(in.Observed)
	_, err = v.s.ledger.Append(ctx, ledger.Event{Type: eventCancelled, Actor: c.Actor(), Details: cancelled{
		PrescriptionID: in.PrescriptionID, Clinic: c.Clinic, ActorSub: c.Sub, ActorIP: actorIP(o, in.Asserted), Reason: reason, ReasonSHA256: hash, RequestID: o.RequestID,
	}})
	if err != nil {
		return wire.Cancelled{}, err
	}
	if k, err = v.s.lookUp(key); err != nil {
		return wire.Cancelled{}, err
	}
	return v.cancelled(ctx, in.PrescriptionID, k)
}

// cancelled is what whoever cancelled is told, once the backup has it.
func (v *Server) cancelled(ctx context.Context, id string, k *kept) (wire.Cancelled, error) {
	b, err := v.settle(ctx, k.Cancelled.Line)
	if err != nil {
		return wire.Cancelled{}, err
	}
	l, err := v.s.listed(id, k)
	if err != nil {
		return wire.Cancelled{}, err
	}
	s, err := v.shown(ctx, l)
	return wire.Cancelled{PrescriptionSummary: s, Backup: b}, err
}

// pack answers OpPack.
func (v *Server) pack(ctx context.Context, in wire.PrescriptionRef, _ *os.File) (wire.DocumentInfo, *os.File, error) {
	c, rec, err := v.find(ctx, in.Credentials, in.PrescriptionID)
	if err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	if err := v.released(ctx, rec); err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	if err := v.access(ctx, eventPack, c, rec, in.Credentials, rec.newest().PDF); err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	if err := v.room(ctx, rec.newest().Size); err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	var zip bytes.Buffer
	if err := v.writePack(ctx, rec, &zip); err != nil {
		return wire.DocumentInfo{}, nil, err
	}
	fd, err := wire.Memfd("pack", zip.Bytes())
	return rec.info(".evidence.zip", hexSum(zip.Bytes()), int64(zip.Len())), fd, err
}
