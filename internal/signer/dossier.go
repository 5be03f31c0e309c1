package signer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/tsp"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Kinds of the sealed objects of a prescription.
const (
	kindKept   = "prescription" // dossier and document; states may have both apart, as "evidence" and "signed-pdf"
	kindReason = "cancellation"
)

// dossier is what is kept of a prescription besides the document: what was asked for, and the core of the evidence.
type dossier struct {
	Content []byte `json:"content"` // canonical JSON of type content
	Core    []byte `json:"core"`    // evidence.Core
}

func sum(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }

func hexSum(b []byte) string {
	s := sum(b)
	return hex.EncodeToString(s[:])
}

// kept unseals an object that a line of the log names. That it is missing is damage: to whoever asks, the prescription is there. Errors: Corrupt.
func (s *Signer) kept(ctx context.Context, id string) ([]byte, error) {
	data, err := s.objects.Get(ctx, id)
	return data, damaged(err)
}

func damaged(err error) error {
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	return fault.New(fault.Corrupt, fault.PublicOf(err)).WithHint(fault.HintOf(err)).WithCause(err)
}

// An object of kindKept is the length of the dossier (8 bytes, big-endian), the dossier in JSON, and the document: docs/audit-log.md.
const (
	lengthSize = 8
	maxDossier = 1 << 20 // bytes; several times the largest that the bounds of a request allow
)

// keep seals dossier and document as one object, makes it durable, and returns its ID.
func (s *Signer) keep(ctx context.Context, d dossier, pdf []byte) (string, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	if len(raw) > maxDossier {
		return "", fmt.Errorf("signer: a dossier of %d bytes", len(raw))
	}
	length := binary.BigEndian.AppendUint64(nil, uint64(len(raw)))
	return s.objects.PutFrom(ctx, kindKept, io.MultiReader(bytes.NewReader(length), bytes.NewReader(raw), bytes.NewReader(pdf)))
}

// readDossier reads a dossier from the beginning of what keep sealed, and leaves r at the document.
func readDossier(r io.Reader) ([]byte, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(length[:])
	if n > maxDossier {
		return nil, fmt.Errorf("signer: a dossier of %d bytes", n)
	}
	raw := make([]byte, n)
	_, err := io.ReadFull(r, raw)
	return raw, err
}

// dossier unseals what is kept of a prescription besides the document, however large that is. Errors: Corrupt.
func (s *Signer) dossier(ctx context.Context, rec *record) (d dossier, err error) {
	var raw []byte
	if rec.Dossier != "" {
		raw, err = s.kept(ctx, rec.Dossier)
	} else {
		raw, err = s.firstOf(ctx, rec.Document)
	}
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, unreadable(err)
	}
	return d, nil
}

// firstOf unseals the dossier at the beginning of an object.
func (s *Signer) firstOf(ctx context.Context, id string) ([]byte, error) {
	r, err := s.objects.Open(ctx, id)
	if err != nil {
		return nil, damaged(err)
	}
	defer r.Close()
	raw, err := readDossier(r)
	if err != nil && fault.KindOf(err) == fault.Internal { // not what reading itself says
		err = unreadable(err)
	}
	return raw, err
}

// document unseals a prescription's document. Errors: Corrupt.
func (s *Signer) document(ctx context.Context, rec *record) ([]byte, error) {
	raw, err := s.kept(ctx, rec.Document)
	if err != nil || rec.Dossier != "" {
		return raw, err
	}
	rest := bytes.NewReader(raw)
	if _, err := readDossier(rest); err != nil {
		return nil, unreadable(err)
	}
	return raw[len(raw)-rest.Len():], nil
}

func unreadable(cause error) error {
	return fault.New(fault.Corrupt, "what is kept of the prescription cannot be read").WithCause(cause)
}

// putReason seals why a prescription is cancelled, with a salt, and returns the object's ID and the hash for the line.
func (v *Server) putReason(ctx context.Context, text string) (id, hash string, err error) {
	var salt [32]byte
	rand.Read(salt[:]) // never fails (crypto/rand since Go 1.24)
	r := evidence.NewReason(salt, text)
	if hash, err = r.SHA256(); err != nil {
		return "", "", err
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return "", "", err
	}
	id, err = v.s.objects.Put(ctx, kindReason, raw)
	return id, hash, err
}

// reason unseals why a prescription was cancelled.
func (v *Server) reason(ctx context.Context, rec *record) (r evidence.Reason, err error) {
	raw, err := v.s.kept(ctx, rec.Cancelled.Reason)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fault.New(fault.Corrupt, "what is kept of the cancellation cannot be read").WithCause(err)
	}
	return r, nil
}

// seal fixes the evidence of a finished document, makes both durable as an object, and returns what the line says of them.
func (v *Server) seal(ctx context.Context, op *operation, pdf []byte, pdfSum string) (prescriptionSigned, error) {
	core, err := v.core(op, pdfSum, int64(len(pdf)))
	if err != nil {
		return prescriptionSigned{}, err
	}
	document, err := v.s.keep(ctx, dossier{Content: op.want.content, Core: core}, pdf)
	if err != nil {
		return prescriptionSigned{}, err
	}
	g, c, w := op.signing, op.caller, &op.want
	return prescriptionSigned{
		PrescriptionID: w.prescription.PrescriptionID, Clinic: c.Clinic, ClinicianCN: w.prescription.ClinicianCN,
		ActorIssuer: c.Issuer, ActorSub: c.Sub, ActorUsername: c.Username, ActorACR: c.ACR, ActorIP: actorIP(w.observed, w.asserted),
		KeyThumbprint: c.KeyThumbprint, Kind: string(c.Kind), Level: wire.LevelToken, Source: w.source,
		Signature: g.signature, CreatedLine: g.line.Seq, Certificate: g.credential.serial,
		TSA: fmt.Sprintf("%032x", g.time.certificate.SerialNumber), PDF: pdfSum, Size: int64(len(pdf)), Document: document, Core: evidence.SHA256(core),
		SignedAt: g.info.GenTime.UTC(), GenTime: g.docInfo.GenTime.UTC().Format(time.RFC3339Nano), TimeStamp: g.docInfo.Serial.Text(16),
		Idempotency: w.repeat, RequestID: w.observed.RequestID,
	}, nil
}

// core gathers what is known now.
func (v *Server) core(op *operation, pdfSum string, size int64) ([]byte, error) {
	g, c, w := op.signing, op.caller, &op.want
	crt := g.credential.chain[0]
	root := v.s.Root()
	algorithm, err := algorithmName(crt)
	if err != nil {
		return nil, err
	}
	seen, err := v.s.firstSeen(keySeen{c.Issuer, c.KeyThumbprint})
	if err != nil {
		return nil, err
	}
	in := evidence.Input{
		Prescription: evidence.Prescription{
			ID: w.prescription.PrescriptionID, Clinic: c.Clinic, ClinicianName: w.prescription.ClinicianCN, PatientName: w.prescription.PatientName,
			MedicationName: w.prescription.MedicationName, SignedAt: g.info.GenTime, ContentSHA256: w.sha(),
		},
		Document: evidence.Document{SHA256: pdfSum, Size: size, Source: w.source},
		Token: evidence.Token{
			Issuer: c.Issuer, Sub: c.Sub, Username: c.Username, Name: c.Name, ACR: c.ACR, AuthTime: c.AuthTime, IssuedAt: c.IssuedAt, Expires: c.Expires,
			JTI: c.JTI, SID: c.SID, AuthorizedParty: c.AuthorizedParty, Audience: c.Audience, Roles: c.Roles, SHA256: hex.EncodeToString(c.TokenHash[:]),
			Algorithm: c.Alg, Kid: c.Kid, KeyThumbprint: c.KeyThumbprint, KeyFirstSeen: seen,
		},
		Request: evidence.Request{
			PeerIP: w.observed.PeerIP, RequestID: w.observed.RequestID, ReceivedAt: w.observed.ReceivedAt,
			BrowserIP: w.asserted.BrowserIP, UserAgent: w.asserted.UserAgent,
		},
		Consent: evidence.Consent{Text: w.consent.Text, Timestamp: w.consent.Timestamp.UTC().Format(time.RFC3339Nano)},
		Signature: evidence.Signature{
			ID: g.signature, Digest: hex.EncodeToString(g.digest), Algorithm: algorithm, CertificateSerial: g.credential.serial,
			CertificateSHA256: hexSum(crt.Raw), CommonName: crt.Subject.CommonName, RegistrationNumber: crt.Subject.SerialNumber, BoundSub: op.bound,
			Issuer: crt.Issuer.CommonName, RootSHA256: hexSum(root.Raw), Stamps: []evidence.Stamp{stampOf(g.info), stampOf(g.docInfo)},
			Chain: chainOf(g.credential.chain), Revocation: revocationOf(g.material),
		},
		Clock:      evidence.Clock{Proven: op.reading.Proven, MaxError: op.reading.MaxError},
		Medicine:   w.medicine,
		Activation: evidence.Activation{Level: evidence.LevelToken, Kind: evidenceKind(c)},
		Lines:      []evidence.Position{position(g.line)},
	}
	rand.Read(in.Salt[:]) // never fails (crypto/rand since Go 1.24)
	return evidence.Core(in)
}

func evidenceKind(c activation.Caller) evidence.Kind {
	if c.Kind == activation.Service {
		return evidence.KindService
	}
	return evidence.KindClinician
}

func chainOf(path []*x509.Certificate) []evidence.Certificate {
	out := make([]evidence.Certificate, len(path))
	for i, c := range path {
		out[i] = evidence.Certificate{Name: c.Subject.CommonName, Serial: fmt.Sprintf("%032x", c.SerialNumber), SHA256: hexSum(c.Raw)}
	}
	return out
}

// revocationOf names what the document holds on the status of its certificates.
func revocationOf(m pades.Material) (out []evidence.Revocation) {
	for _, der := range m.OCSPs {
		out = append(out, evidence.Revocation{Type: "ocsp", SHA256: hexSum(der)})
	}
	for _, der := range m.CRLs {
		out = append(out, evidence.Revocation{Type: "crl", SHA256: hexSum(der)})
	}
	return out
}

func stampOf(t tsp.TSTInfo) evidence.Stamp {
	return evidence.Stamp{Time: t.GenTime, Serial: t.Serial.Text(16), Policy: t.Policy.String()}
}

func position(r ledger.Record) evidence.Position {
	return evidence.Position{Seq: r.Seq, EventType: r.Type, Time: r.Time, Hash: hex.EncodeToString(r.Hash[:])}
}

// algorithmName says in words what the holder of crt signs with.
func algorithmName(crt *x509.Certificate) (string, error) {
	switch key := crt.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Params().Name + " with SHA-256", nil
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d (PKCS#1 v1.5) with SHA-256", key.N.BitLen()), nil
	case ed25519.PublicKey:
		return "Ed25519", nil
	}
	a, err := cert.AlgorithmOf(crt.PublicKey)
	return string(a), err
}
