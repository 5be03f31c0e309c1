package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/wire"
)

// guard gives errors on their way out the form that wire knows, and refuses everything once the log takes no more lines: what cannot be recorded is
// not done.
func (v *Server) guard(table map[wire.Op]wire.Handler) map[wire.Op]wire.Handler {
	for op, h := range table {
		table[op] = func(ctx context.Context, raw wire.Raw, fd *os.File) (any, *os.File, error) {
			if err := v.s.ledger.Err(); err != nil && op != wire.OpStatus {
				return nil, nil, err
			}
			out, outFD, err := h(ctx, raw, fd)
			var need *activation.NeedKeys
			if errors.As(err, &need) {
				err = &wire.NeedDial{Issuer: need.Issuer, Address: need.Address}
			}
			return out, outFD, diskFault(err)
		}
	}
	return table
}

// authenticate verifies the token of a request. Who the portal says it is does not count.
//
// What needs no proven time (reading, administration) goes on while the clock cannot prove it: an appliance whose time service is down must still show
// what it holds, and revoke. It goes by the clock's estimate, which setting the clock back does not move: no token comes to life again. Nothing is signed
// meanwhile: signOpen and sign ask for a proven time first.
func (v *Server) authenticate(ctx context.Context, c wire.Credentials) (activation.Caller, error) {
	if c.Token == "" {
		return activation.Caller{}, fault.New(fault.Unauthorized, "there is no token").
			WithHint("send the clinician's access token: Authorization: Bearer …").WithCode("token-missing")
	}
	return v.s.gate.Authenticate(ctx, c.Token, v.s.clock.Estimate())
}

func (v *Server) whoIs(ctx context.Context, in wire.AuthRequest) (wire.Caller, error) {
	c, err := v.authenticate(ctx, in.Credentials)
	if err != nil {
		return wire.Caller{}, err
	}
	return wire.Caller{
		Clinic: c.Clinic, Issuer: c.Issuer, Sub: c.Sub, Username: c.Username, Name: c.Name, Roles: c.Roles, ACR: c.ACR, AuthTime: c.AuthTime,
		Expires: c.Expires, Kind: string(c.Kind), GivenPDFAllowed: c.Policy.GivenPDF, MaxDocument: v.settings.Load().MaxDocument,
	}, nil
}

// signOpen answers OpSignOpen. The order: what time is it, who asks, what is asked, has it been answered before, is it right today, may this person
// sign it.
func (v *Server) signOpen(ctx context.Context, in wire.SignOpen) (wire.SignOpened, error) {
	now, err := v.s.Now()
	if err != nil {
		return wire.SignOpened{}, clockFault(err)
	}
	c, err := v.authenticate(ctx, in.Credentials)
	if err != nil {
		return wire.SignOpened{}, err
	}
	want, err := newRequest(in, c)
	if err != nil {
		return wire.SignOpened{}, v.refused(ctx, c, want, err)
	}
	if in.RepeatOnly {
		done, err := v.before(ctx, c, want)
		if err != nil { // who asks for what somebody else had signed is told that there is such a thing
			return wire.SignOpened{}, v.refused(ctx, c, want, err)
		}
		if done == nil {
			return wire.SignOpened{}, fault.New(fault.NotFound, "this was not signed before")
		}
		return wire.SignOpened{Done: done}, nil
	}
	op, done, err := v.reserve(ctx, c, want)
	if err != nil {
		return wire.SignOpened{}, v.refused(ctx, c, want, err)
	}
	if done != nil {
		return wire.SignOpened{Done: done}, nil
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	if err := op.want.validate(now, v.settings.Load().Medicines); err != nil {
		v.ops.end(op)
		return wire.SignOpened{}, v.refused(ctx, c, want, err)
	}
	opened, err := v.open(ctx, op)
	if err != nil {
		v.ops.end(op)
		return wire.SignOpened{}, err
	}
	return opened, nil
}

// refused records that somebody known asked for what is not done. Refusals of activation have their own lines.
func (v *Server) refused(ctx context.Context, c activation.Caller, want request, err error) error {
	if k := fault.KindOf(err); k != fault.Invalid && k != fault.Forbidden && k != fault.Conflict && k != fault.NotFound {
		return err
	}
	return errors.Join(err, v.noteRefusal(ctx, eventRefused, c, refusal{
		PrescriptionID: clean(want.prescription.PrescriptionID, maxIDLength), ActorIP: actorIP(want.observed, want.asserted),
		Kind: fault.KindOf(err).String(), Code: fault.CodeOf(err), RequestID: want.observed.RequestID,
	}))
}

// noteRefusal records a refusal within the person's allowance of lines. Whoever has gone meanwhile, or says that it has, is recorded all the same.
func (v *Server) noteRefusal(ctx context.Context, event string, c activation.Caller, d refusal) error {
	ok, without := v.refusals.take(person(c), time.Now())
	if !ok {
		return nil
	}
	d.Clinic, d.ActorSub, d.Suppressed = c.Clinic, c.Sub, without
	_, err := v.s.ledger.Append(context.WithoutCancel(ctx), ledger.Event{Type: event, Actor: c.Actor(), Details: d})
	return err
}

// mayAct counts something that a person does besides signing, all of which are lines. Unavailable: it was too much within a minute.
func (v *Server) mayAct(ctx context.Context, c activation.Caller, in wire.Credentials) error {
	if ok, _ := v.acts.take(person(c), time.Now()); ok {
		return nil
	}
	o := cleanObserved(in.Observed)
	err := tooMuch("more was read or administered within a minute than one person may")
	return errors.Join(err, v.noteRefusal(ctx, eventAccessRefused, c, refusal{
		ActorIP: actorIP(o, in.Asserted), Kind: fault.Unavailable.String(), Code: err.Code, RequestID: o.RequestID,
	}))
}

// tooMuch is the error of a rate that was exceeded.
func tooMuch(text string) *fault.Error {
	return fault.New(fault.Unavailable, text).WithHint("wait a minute").WithCode("rate-limited")
}

// reserve returns a new operation, or what the same content was answered before. It waits for an operation on the same content to end.
func (v *Server) reserve(ctx context.Context, c activation.Caller, want request) (*operation, *wire.SignResult, error) {
	for {
		op := &operation{caller: c, want: want, keys: want.lockKeys(c.Clinic), expires: time.Now().Add(v.cfg.Lifetime), gone: wire.Gone(ctx)}
		busy, err := v.ops.reserve(op)
		if err != nil {
			return nil, nil, err
		}
		if busy == nil {
			// Looked up only now: nobody else can sign it between the look and the reservation.
			done, err := v.before(ctx, c, want)
			if err != nil || done != nil {
				op.mu.Lock()
				v.ops.end(op)
				op.mu.Unlock()
				return nil, done, err
			}
			return op, nil, nil
		}
		if person(busy.caller) != person(c) || !bytes.Equal(busy.want.content, want.content) || busy.want.repeat != want.repeat {
			return nil, nil, conflict("another request about this prescription, or with this Idempotency-Key, is being dealt with")
		}
		select {
		case <-busy.finished:
		case <-busy.gone: // it will never be finished, so this one takes its place
			// Its last step may still be at work, and then comes to its end by itself.
			busy.mu.Lock()
			var err error
			if !busy.ended {
				err = v.end(ctx, busy, lostPeer)
			}
			busy.mu.Unlock()
			if err != nil {
				return nil, nil, err
			}
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func conflict(text string) error {
	return fault.New(fault.Conflict, text).WithHint("a prescription's ID, and an Idempotency-Key, stand for one content for good: use new ones").WithCode("prescription-conflict")
}

// before returns the answer that the same content got, nil when the prescription is new. Conflict: it was other content, or another person's.
func (v *Server) before(ctx context.Context, c activation.Caller, want request) (*wire.SignResult, error) {
	key := recordKey(c.Clinic, want.prescription.PrescriptionID)
	under, err := v.s.repeated(want.repeat)
	if err != nil {
		return nil, err
	}
	if under != nil && !bytes.Equal(under, key) {
		return nil, fault.New(fault.Conflict, "the Idempotency-Key was used for another prescription").
			WithHint("use a new key for each prescription").WithCode("idempotency-conflict")
	}
	k, err := v.s.lookUp(key)
	if err != nil || k == nil {
		return nil, err
	}
	rec, err := v.s.recall(k)
	if err != nil {
		return nil, err
	}
	if rec.ActorSub != c.Sub || rec.ActorIssuer != c.Issuer {
		return nil, conflict("a prescription of this ID was signed by somebody else")
	}
	d, err := v.s.dossier(ctx, rec)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(d.Content, want.content) {
		return nil, conflict("a prescription of this ID was signed with other content")
	}
	done, err := v.answer(ctx, rec)
	if err != nil {
		return nil, err
	}
	done.Repeated = true
	return &done, nil
}

// answer is what whoever asked for the signature is told, once the backup has it.
func (v *Server) answer(ctx context.Context, rec *record) (wire.SignResult, error) {
	b, err := v.settle(ctx, rec.last()) // the cancellation as well: the answer says it
	if err != nil {
		return wire.SignResult{}, err
	}
	done := rec.result()
	done.Backup = b
	return done, nil
}

// open makes an operation ready to sign: credential, binding, authorisation. op.mu is held.
func (v *Server) open(ctx context.Context, op *operation) (opened wire.SignOpened, err error) {
	p, c := &op.want.prescription, op.caller
	crt, err := v.s.ca.ByName(c.Clinic, p.ClinicianCN)
	if err != nil {
		return opened, v.refused(ctx, c, op.want, withCode(err, fault.NotFound, "certificate-not-found"))
	}
	if err := op.want.prescriber(crt.Subject.SerialNumber); err != nil {
		return opened, v.refused(ctx, c, op.want, err)
	}
	clinic, err := v.s.gate.Clinic(c.Clinic)
	if err != nil {
		return opened, err
	}
	if err := op.want.clinic(crt.Subject.Organization, clinic.Name, c.Policy.TradingNames); err != nil {
		return opened, v.refused(ctx, c, op.want, err)
	}
	now, err := v.begin(ctx)
	if err != nil {
		return opened, err
	}
	op.bound = crt.Sub
	op.allowed, err = v.s.gate.Authorize(ctx, activation.Request{
		Caller: c, Credential: activation.Credential{Serial: crt.Serial, CommonName: crt.CommonName, Clinic: crt.Clinic, BoundSub: crt.Sub},
		ClinicianName: p.ClinicianCN, ContentSHA256: sum(op.want.content), Reference: p.PrescriptionID, Now: now,
		Consent: activation.Consent{Text: op.want.consent.Text, Timestamp: op.want.consent.Timestamp},
	})
	if err != nil {
		return opened, err
	}
	if op.signing, err = v.s.Begin(ctx, c.Actor(), crt.Serial); err != nil {
		return opened, err
	}
	op.signing.on = onToken{Token: hex.EncodeToString(c.InputHash[:]), Expires: c.Expires.UTC(), Clinic: c.Clinic, Sub: c.Sub}
	return wire.SignOpened{
		Operation: op.id, Name: crt.CommonName, RegisterName: string(p.ProfessionalRegister), RegistrationNumber: p.ProfessionalRegistrationNumber, Time: now,
		SignatureSize: op.signing.SignatureSize(), StampSize: op.signing.StampSize(), Policy: wire.SignPolicy{GivenPDFAllowed: c.Policy.GivenPDF}, Expires: op.expires,
	}, nil
}

// withCode gives an error of that kind a code, and leaves any other as it is.
func withCode(err error, k fault.Kind, code string) error {
	if fault.KindOf(err) != k {
		return err
	}
	return fault.New(k, fault.PublicOf(err)).WithHint(fault.HintOf(err)).WithCode(code).WithCause(err)
}

// sign answers OpSign: the one signature that the operation was authorised for.
func (v *Server) sign(ctx context.Context, in wire.SignDigest) (wire.Signature, error) {
	op, err := v.ops.take(in.Operation)
	if err != nil {
		return wire.Signature{}, err
	}
	defer op.mu.Unlock()
	now, err := v.s.Now()
	if err != nil {
		return wire.Signature{}, clockFault(err)
	}
	if err := v.s.gate.Stands(ctx, op.allowed, op.want.prescription.PrescriptionID, now); err != nil {
		return wire.Signature{}, errors.Join(err, v.end(ctx, op, "it is not authorised any more"))
	}
	if err := op.allowed.Use(in.Digest, now); err != nil {
		return wire.Signature{}, err
	}
	sig, err := op.signing.Sign(ctx, in.Digest)
	if err != nil {
		// The authorisation is spent: nothing can come of this operation any more.
		return wire.Signature{}, errors.Join(err, v.end(ctx, op, "no signature could be made"))
	}
	if op.reading, err = v.s.clock.Now(); err != nil {
		return wire.Signature{}, errors.Join(clockFault(err), v.end(ctx, op, "the clock stopped being proven"))
	}
	return wire.Signature{CMS: sig.CMS, Certs: sig.Material.Certs, OCSPs: sig.Material.OCSPs, CRLs: sig.Material.CRLs}, nil
}

// stamp answers OpStamp: the document time stamp, once, after the signature.
func (v *Server) stamp(ctx context.Context, in wire.StampDigest) (wire.Stamped, error) {
	op, err := v.ops.take(in.Operation)
	if err != nil {
		return wire.Stamped{}, err
	}
	defer op.mu.Unlock()
	token, err := op.signing.Stamp(ctx, in.Digest)
	return wire.Stamped{Token: token}, err
}

func (v *Server) abort(ctx context.Context, in wire.Abort) (wire.Nothing, error) {
	op, err := v.ops.take(in.Operation)
	if err != nil {
		return wire.Nothing{}, err
	}
	defer op.mu.Unlock()
	return wire.Nothing{}, v.end(ctx, op, "given up: "+clean(in.Reason, 200))
}

// complete answers OpComplete. The order is what the promise rests on: the document is the one that was signed; it and its evidence are sealed and
// durable; the line; only then the answer. A crash before the line leaves an object that nothing names, and a signature_created that the next start closes;
// a crash after it leaves an answer that the same request gets again.
func (v *Server) complete(ctx context.Context, in wire.Complete, fd *os.File) (wire.SignResult, *os.File, error) {
	op, err := v.ops.take(in.Operation)
	if err != nil {
		return wire.SignResult{}, nil, err
	}
	defer op.mu.Unlock()
	if err := op.signing.completable(); err != nil { // before anything is read
		return wire.SignResult{}, nil, err
	}
	largest := v.settings.Load().MaxDocument + maxGrowth
	giveBack, err := v.memory.Take(ctx, documentTimes*min(sizeOf(fd), largest))
	if err != nil {
		return wire.SignResult{}, nil, err
	}
	defer giveBack()
	pdf, err := wire.ReadDocument(fd, largest)
	if err != nil {
		return wire.SignResult{}, nil, err
	}
	whole, err := op.signing.check(pades.Signed{PDF: pdf, Signature: in.SignatureRange, TimeStamp: in.StampRange})
	if err != nil {
		return wire.SignResult{}, nil, err
	}
	d, err := v.seal(ctx, op, pdf, hex.EncodeToString(whole[:]))
	if err != nil {
		return wire.SignResult{}, nil, fmt.Errorf("keeping prescription %s: %w", op.id, err)
	}
	line, err := v.s.ledger.Append(ctx, ledger.Event{Type: eventPrescriptionSigned, Actor: op.caller.Actor(), Details: d})
	if err != nil {
		return wire.SignResult{}, nil, err
	}
	op.signing.ended = true
	v.ops.end(op)
	rec := record{kept: &kept{Line: line.Seq}, prescriptionSigned: d, At: line.Time}
	done, err := v.answer(ctx, &rec)
	return done, nil, err
}

// sizeOf is what a descriptor says that it holds; one that is no document says so when it is read.
func sizeOf(f *os.File) int64 {
	if f == nil {
		return 0
	}
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// maxGrowth is what signature, DSS and time stamp add to a document at most.
const maxGrowth = 1 << 20
