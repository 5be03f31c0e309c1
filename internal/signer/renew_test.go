package signer_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// TestRenewalOverTheSocket: an operator's command gets a time stamp and what validates it, and what it says of documents is a line or refused.
func TestRenewalOverTheSocket(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx := t.Context()
	var opened wire.RenewOpened
	if _, err := h.admin.Call(ctx, wire.OpRenewOpen, wire.Nothing{}, &opened, nil); err != nil || opened.Time.IsZero() {
		t.Fatalf("%+v, %v", opened, err)
	}
	var stamped wire.Stamped
	if _, err := h.admin.Call(ctx, wire.OpRenewStamp, wire.RenewStamp{Digest: bytes.Repeat([]byte{7}, 32)}, &stamped, nil); err != nil || len(stamped.Token) == 0 || len(stamped.Token) > opened.StampSize {
		t.Fatalf("%d bytes of %d, %v", len(stamped.Token), opened.StampSize, err)
	}
	var m wire.Material
	if _, err := h.admin.Call(ctx, wire.OpRenewMaterial, wire.DER{DER: stamped.Token}, &m, nil); err != nil || len(m.Certs) < 3 || len(m.OCSPs) == 0 || len(m.CRLs) == 0 {
		t.Errorf("%d certificates, %d answers, %d lists, %v", len(m.Certs), len(m.OCSPs), len(m.CRLs), err)
	}
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	if _, err := h.admin.Call(ctx, wire.OpRenewed, wire.Renewed{From: a, To: b, Size: 5}, nil, nil); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		op wire.Op
		in any
	}{
		"a short digest":    {wire.OpRenewStamp, wire.RenewStamp{Digest: make([]byte, 31)}},
		"no token":          {wire.OpRenewMaterial, wire.DER{DER: []byte("token")}},
		"half a token":      {wire.OpRenewMaterial, wire.DER{DER: stamped.Token[:200]}},
		"no hash":           {wire.OpRenewed, wire.Renewed{From: "", To: b, Size: 5}},
		"capitals":          {wire.OpRenewed, wire.Renewed{From: strings.ToUpper(a), To: b, Size: 5}},
		"the same document": {wire.OpRenewed, wire.Renewed{From: a, To: a, Size: 5}},
		"an empty document": {wire.OpRenewed, wire.Renewed{From: a, To: b}},
		"a patient's name":  {wire.OpRenewed, wire.Renewed{From: a, To: "Zoë Anne Example", Size: 5}},
		"an unknown member": {wire.OpRenewed, map[string]any{"from": a, "to": b, "size": 5, "note": "x"}},
	} {
		_, err := h.admin.Call(ctx, c.op, c.in, nil, nil)
		wantKind(t, err, fault.Invalid, what)
	}
}
