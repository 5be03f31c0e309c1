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
}
