package signer_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// trusting verifies with what the appliance publishes beside its state: the root and the log's key.
func (h *house) trusting(t *testing.T) evidence.VerifyOptions {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.cfg.StateDir, signer.RootPEMName))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(h.cfg.StateDir, signer.LogKeyName))
	if err != nil {
		t.Fatal(err)
	}
	return evidence.VerifyOptions{LogKeys: []string{strings.TrimSpace(string(key))}, JudgePDF: func(ctx context.Context, pdf []byte, crls [][]byte) (evidence.PDFJudgement, error) {
		r, err := pades.Validate(ctx, pdf, pades.ValidateOptions{Roots: []*x509.Certificate{root}, At: time.Now(), Material: pades.Material{CRLs: crls}})
		if err != nil {
			return evidence.PDFJudgement{}, err
		}
		result := evidence.Fail
		if r.Good() {
			result = evidence.Pass
		}
		return evidence.PDFJudgement{Result: result, Summary: r.Summary}, nil
	}}
}

// TestPacksStandUp: every pack is valid for who trusts the root and the log's key, through a prescription's life.
func TestPacksStandUp(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	check := func(when, status string) {
		t.Helper()
		_, zip, err := h.portal.download(ctx, wire.OpPack, token, "RX-1")
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		r, err := evidence.VerifyPack(ctx, bytes.NewReader(zip), int64(len(zip)), h.trusting(t))
		if err != nil || r.Verdict != evidence.Valid || r.Status != status {
			t.Fatalf("%s: %v\n%s", when, err, r.Text())
		}
	}
	check("signed", evidence.StatusSigned)
	if _, err := h.portal.call(ctx, wire.OpCancel, wire.CancelRequest{Credentials: creds(token), PrescriptionID: "RX-1", Reason: "wrong strength"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	check("cancelled", evidence.StatusCancelled)
	time.Sleep(2 * time.Second) // a revocation has whole seconds, a time stamp an accuracy of one: within that, nothing says which came first
	boss := h.token(t, func(p *oidctest.Person) { p.Sub, p.Roles = "boss", []string{"aes-admin"} })
	if _, err := h.portal.call(ctx, wire.OpCertRevoke, wire.CertRevoke{Credentials: creds(boss), Serial: h.serial, Reason: "superseded"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	check("after the certificate was revoked", evidence.StatusCancelled)
	var ev wire.Evidence
	if _, err := h.portal.call(ctx, wire.OpEvidence, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: "RX-1"}, &ev, nil); err != nil {
		t.Fatal(err)
	}
	_, live, err := evidence.CoreOf(ev.Evidence)
	if err != nil || live.Cancelled == nil || live.Cancelled.Text != "wrong strength" {
		t.Fatalf("%+v, %v", live.Cancelled, err)
	}
	// The log has the reason's hash, and without the salt nobody finds the reason by trying.
	line, err := h.s.Ledger().Read(live.Lines[len(live.Lines)-1].Seq)
	if err != nil {
		t.Fatal(err)
	}
	its, _ := live.Cancelled.SHA256()
	if text := string(line.Details); !strings.Contains(text, `"reason_sha256":"`+its+`"`) || strings.Contains(text, "strength") ||
		strings.Contains(text, evidence.SHA256([]byte("wrong strength"))) || strings.Contains(text, live.Cancelled.Salt) {
		t.Errorf("the line: %s", text)
	}
}
