package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/objects"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

func TestPrescriptionFromTokenToEvidence(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	var who wire.Caller
	if _, err := h.portal.call(ctx, wire.OpAuthenticate, wire.AuthRequest{Credentials: creds(token)}, &who, nil); err != nil {
		t.Fatal(err)
	}
	if who.Clinic != "a" || who.Sub != h.doctor.Sub || who.Kind != wire.KindClinician || who.ACR != "2" {
		t.Errorf("%+v", who)
	}
	before := h.lines(t)
	done, doc, err := h.portal.sign(ctx, wanted(token, "RX-134"))
	if err != nil {
		t.Fatal(err)
	}
	if got := h.since(t, before); !slices.Equal(got, []string{"signature_created", "prescription_signed"}) {
		t.Errorf("signing left the lines %v", got)
	}
	whole := sha256.Sum256(doc.PDF)
	if done.SHA256 != hex.EncodeToString(whole[:]) || done.PrescriptionID != "RX-134" || done.Level != "token" || done.Label != "" || done.Status != wire.StatusSigned ||
		done.Certificate != h.serial || done.Size != int64(len(doc.PDF)) {
		t.Errorf("%+v", done)
	}
	report, err := pades.Validate(ctx, doc.PDF, pades.ValidateOptions{Roots: []*x509.Certificate{h.s.Root()}, At: time.Now()})
	if err != nil || !report.Good() {
		t.Errorf("%v %+v", err, report)
	}

	before = h.lines(t)
	info, kept, err := h.portal.download(ctx, wire.OpDocument, token, "RX-134")
	if err != nil || !bytes.Equal(kept, doc.PDF) || info.FileName != "RX-134.pdf" || info.SHA256 != done.SHA256 {
		t.Errorf("%+v, %v", info, err)
	}
	var ev wire.Evidence
	if _, err := h.portal.call(ctx, wire.OpEvidence, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: "RX-134"}, &ev, nil); err != nil {
		t.Fatal(err)
	}
	core, live, err := evidence.CoreOf(ev.Evidence)
	if err != nil || evidence.SHA256(core) != done.EvidenceSHA256 || live.Status != "signed" || len(live.Lines) != 2 {
		t.Errorf("%v, %+v", err, live)
	}
	for _, want := range []string{h.doctor.Sub, "Zoë Anne Example", "198.51.100.9", "Browser/1.0", "I have checked it.", h.doctor.Username, "realm_key_first_seen"} {
		if !strings.Contains(string(ev.Evidence), want) {
			t.Errorf("the evidence does not say %q", want)
		}
	}
	_, zip, err := h.portal.download(ctx, wire.OpPack, token, "RX-134")
	if err != nil {
		t.Fatal(err)
	}
	pack, err := evidence.VerifyPack(ctx, bytes.NewReader(zip), int64(len(zip)), evidence.VerifyOptions{})
	if err != nil || pack.ExitCode == 1 || pack.PrescriptionID != "RX-134" {
		t.Errorf("%v, %+v", err, pack)
	}
	var page wire.PrescriptionPage
	if _, err := h.portal.call(ctx, wire.OpPrescriptions, wire.PrescriptionsRequest{Credentials: creds(token)}, &page, nil); err != nil {
		t.Fatal(err)
	}
	if len(page.Prescriptions) != 1 || page.Prescriptions[0].MedicationName != "Amoxicillin" || page.Next != "" {
		t.Errorf("%+v", page)
	}
	if got := h.since(t, before); !slices.Equal(got, []string{"prescription_pdf_downloaded", "evidence_summary_downloaded", "evidence_pack_downloaded", "prescriptions_listed"}) {
		t.Errorf("reading left the lines %v", got)
	}
	h.nothingOfThePatient(t)
}

// nothingOfThePatient looks into every file of the state.
func (h *house) nothingOfThePatient(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(h.cfg.StateDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range []string{"Zoë", "Example", "Amoxicillin", "9990000018", "Orchard", "1985-03-14", "I have checked"} {
			if bytes.Contains(data, []byte(secret)) && !strings.Contains(path, "token") {
				t.Errorf("%s holds %q", filepath.Base(path), secret)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPagesOfPrescriptionsAndCancellation(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	for _, id := range []string{"RX-1", "RX-2", "RX-3"} {
		if _, _, err := h.portal.sign(ctx, wanted(token, id)); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	cursor := ""
	for range 3 {
		var page wire.PrescriptionPage
		if _, err := h.portal.call(ctx, wire.OpPrescriptions, wire.PrescriptionsRequest{Credentials: creds(token), Limit: 2, Cursor: cursor}, &page, nil); err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Prescriptions {
			all = append(all, p.PrescriptionID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if !slices.Equal(all, []string{"RX-3", "RX-2", "RX-1"}) {
		t.Errorf("pages %v", all)
	}
	other := h.provider.B.Login(t, h.doctor).Access
	var page wire.PrescriptionPage
	if _, err := h.portal.call(ctx, wire.OpPrescriptions, wire.PrescriptionsRequest{Credentials: creds(other)}, &page, nil); err != nil || len(page.Prescriptions) != 0 {
		t.Errorf("another clinic sees %+v, %v", page, err)
	}

	var one wire.Cancelled
	cancel := wire.CancelRequest{Credentials: creds(token), PrescriptionID: "RX-2"}
	_, err := h.portal.call(ctx, wire.OpCancel, cancel, &one, nil)
	wantKind(t, err, fault.Invalid, "cancelling without a reason")
	for _, reason := range []string{"Zoë is allergic", "another reason"} { // the first counts
		cancel.Reason = reason
		if _, err := h.portal.call(ctx, wire.OpCancel, cancel, &one, nil); err != nil {
			t.Fatal(err)
		}
		if one.Status != wire.StatusCancelled || one.CancelReason != "Zoë is allergic" || one.CancelledAt.IsZero() {
			t.Errorf("%+v", one)
		}
	}
	if n := count(h.since(t, 0), "prescription_cancelled"); n != 1 {
		t.Errorf("prescription_cancelled stands %d times in the log", n)
	}
	cancel.Token = other
	_, err = h.portal.call(ctx, wire.OpCancel, cancel, nil, nil)
	wantCode(t, err, fault.NotFound, "prescription-not-found", "cancelling another clinic's")
	var ev wire.Evidence
	if _, err := h.portal.call(ctx, wire.OpEvidence, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: "RX-2"}, &ev, nil); err != nil {
		t.Fatal(err)
	}
	if _, live, err := evidence.CoreOf(ev.Evidence); err != nil || live.Cancelled == nil || live.Cancelled.Text != "Zoë is allergic" || len(live.Lines) != 3 {
		t.Errorf("%+v, %v", live, err)
	}
	if _, _, err := h.portal.download(ctx, wire.OpPack, token, "RX-2"); err != nil {
		t.Errorf("the pack of a cancelled prescription: %v", err)
	}
	h.nothingOfThePatient(t)
}

func TestOperationThatIsNotCompletedIsClosed(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Lifetime: time.Second})
	ctx, token := t.Context(), h.token(t, nil)
	r, err := h.portal.open(ctx, wanted(token, "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := r.document(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); count(h.since(t, 0), "signing_incomplete") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the operation stays open")
		}
	}
	_, err = r.complete(ctx, doc)
	wantKind(t, err, fault.NotFound, "completing too late")
	if done, _, err := h.portal.sign(ctx, wanted(token, "RX-1")); err != nil || done.Repeated {
		t.Errorf("signing anew: %+v, %v", done, err)
	}

	r, err = h.portal.open(ctx, wanted(token, "RX-2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Sign(ctx, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.portal.call(ctx, wire.OpAbort, wire.Abort{Operation: r.Operation, Reason: "the browser went away"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := h.since(t, h.lines(t)-1); !slices.Equal(got, []string{"signing_incomplete"}) {
		t.Errorf("giving up left %v", got)
	}
}

func TestStoppingClosesWhatIsOpen(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	r, err := h.portal.open(t.Context(), wanted(h.token(t, nil), "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Sign(t.Context(), make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	h.stop()
	if got := h.since(t, h.lines(t)-2); !slices.Equal(got, []string{"signing_incomplete", "system_shutdown"}) {
		t.Errorf("the log ends with %v", got)
	}
	_, err = h.portal.Call(t.Context(), wire.OpStatus, wire.Nothing{}, nil, nil)
	wantCode(t, err, fault.Unavailable, "signer-unreachable", "asking a signer that has stopped")
}

func TestNothingIsDoneWhenTheLogIsGone(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	r, err := h.portal.open(ctx, wanted(token, "RX-2"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := r.document(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.s.Ledger().Close(); err != nil {
		t.Fatal(err)
	}
	_, err = r.complete(ctx, doc)
	wantKind(t, err, fault.Unavailable, "completing without a log")
	_, _, err = h.portal.download(ctx, wire.OpDocument, token, "RX-1")
	wantKind(t, err, fault.Unavailable, "reading without a log")
	var st wire.Status
	if _, err := h.portal.call(ctx, wire.OpStatus, wire.Nothing{}, &st, nil); err != nil || st.Ready || len(st.Reasons) == 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestServiceAccountIsReducedAndLabelled(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx := t.Context()
	_, _, err := h.portal.sign(ctx, wanted(h.provider.A.Service(t), "RX-1"))
	wantKind(t, err, fault.Forbidden, "a service account where the policy has it off")
	h.policy(t, "a", func(p *wire.Policy) { p.ServiceAccounts = "reduced" })
	done, _, err := h.portal.sign(ctx, wanted(h.provider.A.Service(t), "RX-1"))
	if err != nil || !strings.Contains(done.Label, "not an advanced electronic signature") {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestEvidenceOfALostDocument: document and dossier are one object, so where its file is changed or gone there is neither, and what is said names the file.
func TestEvidenceOfALostDocument(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	token := h.token(t, nil)
	if _, _, err := h.portal.sign(t.Context(), wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	if held, err := h.held(t, token, "RX-1"); err != nil || !held {
		t.Errorf("it is held: %v, %v", held, err)
	}
	path := h.objectOf(t, "RX-1")
	flip(t, path)
	if _, err := h.held(t, token, "RX-1"); fault.KindOf(err) != fault.Corrupt || !strings.Contains(fault.HintOf(err), filepath.Base(path)) {
		t.Errorf("changed: %v, hint %q", err, fault.HintOf(err))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := h.held(t, token, "RX-1"); fault.KindOf(err) != fault.Corrupt || !strings.Contains(fault.HintOf(err), filepath.Base(path)) {
		t.Errorf("gone: %v, hint %q", err, fault.HintOf(err))
	}
}

// TestKeptApart: a state from before has document and dossier as two objects. Both are read, and evidence says that it
// holds the document as long as it does.
func TestKeptApart(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	_, doc, err := h.portal.sign(ctx, wanted(token, "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.s.KeepApart(ctx, "a", "RX-1", "RX-2"); err != nil {
		t.Fatal(err)
	}
	if _, got, err := h.portal.download(ctx, wire.OpDocument, token, "RX-2"); err != nil || !bytes.Equal(got, doc.PDF) {
		t.Errorf("the document: %v", err)
	}
	held := func() bool {
		t.Helper()
		held, err := h.held(t, token, "RX-2")
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	if !held() {
		t.Error("it is held")
	}
	path := h.objectOf(t, "RX-2")
	flip(t, path)
	if held() {
		t.Error("it is said to be held, and is another file")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if held() {
		t.Error("it is said to be held, and is gone")
	}
}

// held asks for the evidence of a prescription, and says whether that holds the document to be here.
func (h *house) held(t *testing.T, token, id string) (bool, error) {
	t.Helper()
	var got wire.Evidence
	if _, err := h.portal.call(t.Context(), wire.OpEvidence, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: id}, &got, nil); err != nil {
		return false, err
	}
	var summary struct {
		PDF struct {
			Exists bool `json:"exists"`
		} `json:"signed_pdf"`
	}
	if err := json.Unmarshal(got.Evidence, &summary); err != nil {
		t.Fatal(err)
	}
	return summary.PDF.Exists, nil
}

// objectOf is the file that the line of a prescription names as its document.
func (h *house) objectOf(t *testing.T, id string) string {
	t.Helper()
	for line := range strings.Lines(h.logText(t)) {
		if strings.Contains(line, `"prescription_signed"`) && strings.Contains(line, `"prescription_id":"`+id+`"`) {
			_, object, _ := strings.Cut(line, `"document_object":"`)
			return filepath.Join(h.cfg.StateDir, "objects", objects.Place(object[:64]))
		}
	}
	t.Fatalf("no line about %s", id)
	return ""
}

// flip changes a bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestIndexMayBeLost: everything is in the log and the objects.
func TestIndexMayBeLost(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := context.Background(), h.token(t, nil)
	in := wanted(token, "RX-1", func(_ *prescription.Prescription, in *wire.SignOpen) { in.IdempotencyKey = "k" })
	first, doc, err := h.portal.sign(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(h.cfg.StateDir, "index.db")); err != nil {
		t.Fatal(err)
	}
	if h.s, err = signer.Open(ctx, h.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.s.Close() })
	h.portal, h.admin, h.stop = onSockets(t, h.s, signer.ServerConfig{})
	again, _, err := h.portal.sign(ctx, in)
	again.Repeated = false
	if err != nil || again != first {
		t.Errorf("%+v, %v", again, err)
	}
	if _, kept, err := h.portal.download(ctx, wire.OpDocument, token, "RX-1"); err != nil || !bytes.Equal(kept, doc.PDF) {
		t.Errorf("the document: %v", err)
	}
}

// TestLostObjectIsDamage: what the log says was signed is never said not to exist.
func TestLostObjectIsDamage(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	removed := 0
	err := filepath.WalkDir(filepath.Join(h.cfg.StateDir, "objects"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && len(d.Name()) == sha256.Size*2 {
			removed++
			return os.Remove(path)
		}
		return err
	})
	if err != nil || removed == 0 {
		t.Fatalf("%d objects removed, %v", removed, err)
	}
	for _, op := range []wire.Op{wire.OpDocument, wire.OpPack} {
		_, _, err := h.portal.download(ctx, op, token, "RX-1")
		wantKind(t, err, fault.Corrupt, string(op))
	}
	_, _, err = h.portal.sign(ctx, wanted(token, "RX-1"))
	wantKind(t, err, fault.Corrupt, "signing again")
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-2")); err != nil {
		t.Fatal(err)
	}
	var page wire.PrescriptionPage
	_, err = h.portal.call(ctx, wire.OpPrescriptions, wire.PrescriptionsRequest{Credentials: creds(token)}, &page, nil)
	if err != nil || len(page.Prescriptions) != 2 {
		t.Fatalf("one that is damaged hides the others: %+v, %v", page, err)
	}
	if whole := page.Prescriptions[0]; whole.Incomplete || whole.PrescriptionID != "RX-2" || whole.MedicationName == "" {
		t.Errorf("the whole one: %+v", whole)
	}
	if lost := page.Prescriptions[1]; !lost.Incomplete || lost.PrescriptionID != "RX-1" || lost.SHA256 == "" || lost.Status != "signed" || lost.MedicationName != "" {
		t.Errorf("the damaged one: %+v", lost)
	}
}
