package signer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/wire"
)

// prescriptionSigned is the details of eventPrescriptionSigned. Nothing in it names the patient or the medicine: that is in the sealed objects.
type prescriptionSigned struct {
	PrescriptionID string    `json:"prescription_id"`
	Clinic         string    `json:"clinic"`
	ClinicianCN    string    `json:"clinician_cn"`
	ActorIssuer    string    `json:"actor_issuer"`
	ActorSub       string    `json:"actor_sub"`
	ActorUsername  string    `json:"actor_username"`
	ActorACR       string    `json:"actor_acr"`
	ActorIP        string    `json:"actor_ip"`             // the browser's by the booking app's word, else the peer's
	KeyThumbprint  string    `json:"realm_key_thumbprint"` // of the key that verified the token
	Kind           string    `json:"kind"`                 // clinician or service
	Level          string    `json:"level"`
	Source         string    `json:"source"`
	Signature      string    `json:"signature"`    // of eventCreated
	CreatedLine    uint64    `json:"created_line"` // where that is
	Certificate    string    `json:"certificate_serial"`
	TSA            string    `json:"tsa_certificate_serial"`
	PDF            string    `json:"pdf_sha256"`
	Size           int64     `json:"pdf_size"`
	Document       string    `json:"document_object"`           // of kindKept; with Dossier, the document alone
	Dossier        string    `json:"evidence_object,omitempty"` // as lines had it while document and dossier were objects of their own
	Core           string    `json:"evidence_sha256"`
	SignedAt       time.Time `json:"signed_at"`         // of the signature's time stamp
	GenTime        string    `json:"gen_time"`          // of the document time stamp
	TimeStamp      string    `json:"time_stamp_serial"` // of the document time stamp
	Idempotency    string    `json:"idempotency,omitempty"`
	RequestID      string    `json:"request_id"`
}

// cancelled is the details of eventCancelled. The reason is somebody's free text, so it is sealed.
type cancelled struct {
	PrescriptionID string `json:"prescription_id"`
	Clinic         string `json:"clinic"`
	ActorSub       string `json:"actor_sub"`
	ActorIP        string `json:"actor_ip"`
	Reason         string `json:"reason_object"`
	ReasonSHA256   string `json:"reason_sha256"` // evidence.Reason.SHA256, which has a salt
	RequestID      string `json:"request_id"`
}

// accessed is the details of eventDownloaded, eventEvidence and eventPack.
type accessed struct {
	PrescriptionID string `json:"prescription_id"`
	Clinic         string `json:"clinic"`
	ActorSub       string `json:"actor_sub"`
	IP             string `json:"ip"`
	UserAgent      string `json:"user_agent"`
	PDF            string `json:"pdf_sha256"`
	RequestID      string `json:"request_id"`
}

// refusal is the details of eventRefused. It does not say what was wrong with the content: that could be a patient's name.
type refusal struct {
	PrescriptionID string `json:"prescription_id"`
	Clinic         string `json:"clinic"`
	ActorSub       string `json:"actor_sub"`
	ActorIP        string `json:"actor_ip"`
	Kind           string `json:"kind"`
	Code           string `json:"code,omitempty"`
	RequestID      string `json:"request_id"`
	Suppressed     int    `json:"suppressed,omitempty"` // refusals of this person since the last such line that have none of their own
}

// kept is what the index has of a prescription: its line, and what came of it. What was signed the line itself says; its hash, which the index vouches for, tells it
// from any other that somebody put in its place.
type kept struct {
	Line      uint64        `json:"line"` // eventPrescriptionSigned
	Hash      []byte        `json:"hash"` // of that line
	Signed    time.Time     `json:"signed_at"`
	StampedBy string        `json:"stamped_by"` // serial number of the certificate of the document's newest time stamp
	StampedAt string        `json:"stamped_at"` // the GenTime of that
	Cancelled *cancellation `json:"cancelled,omitempty"`
	Revisions []revision    `json:"revisions,omitempty"` // of the document, after what was signed: renewals, the oldest first
}

// record is all that the log says of a prescription.
type record struct {
	*kept
	prescriptionSigned
	At time.Time // of its line
}

type cancellation struct {
	At     time.Time `json:"at"`
	Sub    string    `json:"sub"`
	Reason string    `json:"reason_object"`
	Line   uint64    `json:"line"`
}

const (
	prescriptionFoldName = "prescription/3"
	bucketRecord         = prescriptionFoldName + "/record" // clinic, 0, prescription -> kept
	bucketPage           = prescriptionFoldName + "/page"   // clinic, 0, line (8 bytes) -> prescription
	bucketKey            = prescriptionFoldName + "/key"    // issuer, 0, thumbprint of a realm's key -> line (8 bytes)
	bucketRepeat         = prescriptionFoldName + "/repeat" // idempotency hash -> clinic, 0, prescription
)

// recordKey is the key of a prescription. Neither part holds a zero byte.
func recordKey(clinic, id string) []byte { return []byte(clinic + "\x00" + id) }

func pageKey(clinic string, line uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(clinic+"\x00"), line)
}

// keySeen is what the evidence needs of activation's line about a realm's new key.
type keySeen struct {
	Issuer     string `json:"issuer"`
	Thumbprint string `json:"thumbprint"`
}

func (k keySeen) key() []byte { return []byte(k.Issuer + "\x00" + k.Thumbprint) }

// prescriptionFold keeps the prescriptions of each clinic, and where in the log each realm's keys first appeared.
type prescriptionFold struct{}

func (prescriptionFold) Name() string { return prescriptionFoldName }

// Apply implements ledger.Fold.
func (f prescriptionFold) Apply(tx *index.Tx, r ledger.Record) error {
	var err error
	switch r.Type {
	case eventPrescriptionSigned:
		err = f.signed(tx, r)
	case eventCancelled:
		err = f.cancelled(tx, r)
	case eventPrescriptionRenewed:
		err = f.renewed(tx, r)
	case eventKeyFirstSeen:
		var d keySeen
		if err = json.Unmarshal(r.Details, &d); err == nil {
			err = tx.Bucket(bucketKey).Put(d.key(), binary.BigEndian.AppendUint64(nil, r.Seq))
		}
	}
	if err != nil {
		return fmt.Errorf("line %d, %s: %w", r.Seq, r.Type, err)
	}
	return nil
}

func (prescriptionFold) signed(tx *index.Tx, r ledger.Record) error {
	var d prescriptionSigned
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	key := recordKey(d.Clinic, d.PrescriptionID)
	if err := putKept(tx, key, kept{Line: r.Seq, Hash: r.Hash[:], Signed: d.SignedAt, StampedBy: d.TSA, StampedAt: d.GenTime}); err != nil {
		return err
	}
	if err := tx.Bucket(bucketPage).Put(pageKey(d.Clinic, r.Seq), []byte(d.PrescriptionID)); err != nil {
		return err
	}
	if d.Idempotency == "" {
		return nil
	}
	return tx.Bucket(bucketRepeat).Put([]byte(d.Idempotency), key)
}

func (prescriptionFold) cancelled(tx *index.Tx, r ledger.Record) error {
	var d cancelled
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return err
	}
	key := recordKey(d.Clinic, d.PrescriptionID)
	k, err := getKept(tx, key)
	if err != nil || k == nil { // a line cannot be refused any more
		return err
	}
	k.Cancelled = &cancellation{At: r.Time, Sub: d.ActorSub, Reason: d.Reason, Line: r.Seq}
	return putKept(tx, key, *k)
}

func (k *kept) status() string {
	if k.Cancelled != nil {
		return wire.StatusCancelled
	}
	return wire.StatusSigned
}

// last is the last line that tells of it.
func (k *kept) last() uint64 {
	last := k.Line
	if k.Cancelled != nil {
		last = max(last, k.Cancelled.Line)
	}
	for _, one := range k.Revisions {
		last = max(last, one.Line)
	}
	return last
}

// getKept returns what the index has under key, nil when there is none.
func getKept(tx *index.Tx, key []byte) (*kept, error) {
	raw := tx.Bucket(bucketRecord).Get(key)
	if raw == nil {
		return nil, nil
	}
	k := new(kept)
	return k, json.Unmarshal(raw, k)
}

func putKept(tx *index.Tx, key []byte, k kept) error {
	raw, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketRecord).Put(key, raw)
}

// result is what whoever asked for the signature is told, the first time and every time after.
func (r *record) result() wire.SignResult {
	out := wire.SignResult{
		PrescriptionID: r.PrescriptionID, SHA256: r.PDF, SignedAt: r.SignedAt, Size: r.Size, EvidenceSHA256: r.Core, Level: r.Level, Label: r.label(),
		Certificate: r.Certificate, Status: r.status(),
	}
	return out
}

func (r *record) label() string {
	if r.Kind == string(activation.Service) {
		return activation.ServiceLabel
	}
	return ""
}

// lookUp returns what the index has under key, nil when there is none.
func (s *Signer) lookUp(key []byte) (k *kept, err error) {
	err = s.ledger.View(func(tx *index.Tx) error { k, err = getKept(tx, key); return err })
	return k, err
}

// recall reads a prescription's line. Corrupt: it is not the one that was written.
func (s *Signer) recall(k *kept) (*record, error) {
	line, err := s.line(k.Line)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(line.Hash[:], k.Hash) || line.Type != eventPrescriptionSigned {
		return nil, fault.New(fault.Corrupt, fmt.Sprintf("line %d of the log is not the one that was written there", k.Line+1)).
			WithHint("compare the log with the backup's copy: appliance audit verify, appliance backup status")
	}
	rec := &record{kept: k, At: line.Time}
	return rec, json.Unmarshal(line.Details, &rec.prescriptionSigned)
}

// line reads a line that the index knows of, which it does a moment before the line can be read.
func (s *Signer) line(seq uint64) (ledger.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := s.ledger.Wait(ctx, seq); err != nil {
		return ledger.Record{}, err
	}
	return s.ledger.Read(seq)
}

// repeated returns the key of the prescription that was signed under this idempotency hash, nil when there is none.
func (s *Signer) repeated(hash string) (key []byte, err error) {
	if hash == "" {
		return nil, nil
	}
	err = s.ledger.View(func(tx *index.Tx) error {
		key = tx.Bucket(bucketRepeat).Get([]byte(hash))
		return nil
	})
	return key, err
}

// listed is a prescription as it is shown: what the index has of it, and what its line says.
type listed struct {
	id string
	*kept
	rec *record
	bad error // instead of rec: why the line cannot be believed
}

// listed recalls what can be recalled: a damaged line must not hide the others, nor keep anybody from cancelling.
func (s *Signer) listed(id string, k *kept) (listed, error) {
	l := listed{id: id, kept: k}
	l.rec, l.bad = s.recall(k)
	if fault.KindOf(l.bad) != fault.Corrupt {
		return l, l.bad
	}
	return l, nil
}

// page returns up to limit prescriptions of a clinic that are older than the line before, the newest first; 0 is the newest of all.
func (s *Signer) page(clinic string, before uint64, limit int) (list []listed, more bool, err error) {
	if before == 0 {
		before = 1<<64 - 1
	}
	prefix := string(recordKey(clinic, ""))
	err = s.ledger.View(func(tx *index.Tx) error {
		for key, id := range tx.Bucket(bucketPage).Descend(pageKey(clinic, before)) {
			if len(key) != len(prefix)+8 || string(key[:len(prefix)]) != prefix {
				return nil
			}
			if len(list) == limit {
				more = true
				return nil
			}
			k, err := getKept(tx, recordKey(clinic, string(id)))
			if err == nil && k == nil {
				err = fmt.Errorf("%w: line %d of %s is of no prescription", index.ErrDamaged, binary.BigEndian.Uint64(key[len(prefix):]), clinic)
			}
			if err != nil {
				return err
			}
			list = append(list, listed{id: string(id), kept: k})
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	for i, one := range list {
		if list[i], err = s.listed(one.id, one.kept); err != nil {
			return nil, false, err
		}
	}
	return list, more, nil
}

// firstSeen returns the line in which a realm's key first appeared, nil when there is none.
func (s *Signer) firstSeen(k keySeen) (*evidence.Position, error) {
	if have, ok := s.seen.Load(k); ok {
		return have.(*evidence.Position), nil
	}
	var raw []byte
	err := s.ledger.View(func(tx *index.Tx) error {
		raw = tx.Bucket(bucketKey).Get(k.key())
		return nil
	})
	if err != nil || len(raw) != 8 {
		return nil, err
	}
	line, err := s.line(binary.BigEndian.Uint64(raw))
	if err != nil {
		return nil, err
	}
	p := position(line)
	s.seen.Store(k, &p)
	return &p, nil
}
