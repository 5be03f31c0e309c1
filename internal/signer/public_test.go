package signer_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

func TestAnonymousOperations(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Settings: signer.Settings{ListenerNames: []string{"sign.example.org", "192.0.2.1"}}})
	ctx := t.Context()
	var st wire.Status
	if _, err := h.portal.call(ctx, wire.OpStatus, wire.Nothing{}, &st, nil); err != nil || !st.Ready || !st.Demo || len(st.Root) == 0 || st.Lines == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	for _, op := range []wire.Op{wire.OpTSA, wire.OpOCSP} {
		for _, request := range [][]byte{nil, []byte("nonsense"), make([]byte, 100<<10)} {
			var out wire.DER
			if _, err := h.portal.call(ctx, op, wire.DER{DER: request}, &out, nil); err != nil || len(out.DER) == 0 || out.DER[0] != 0x30 {
				t.Errorf("%s answers %x, %v", op, out.DER, err)
			}
		}
	}
	_, err := h.portal.call(ctx, wire.OpPublished, wire.PublishedRequest{Name: "../pin"}, nil, nil)
	wantKind(t, err, fault.NotFound, "a file that no CA publishes")
	h.stop()
	if text := h.logText(t); !strings.Contains(text, `"time_stamps_refused":3`) {
		t.Error("no aggregated line about time stamps")
	}
}

func TestListenerCertificateIsForTheConfiguredNamesOnly(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Settings: signer.Settings{ListenerNames: []string{"sign.example.org", "192.0.2.1"}}})
	var out wire.ListenerCertificate
	if _, err := h.portal.call(t.Context(), wire.OpListener, wire.ListenerRequest{CSR: csr(t, "evil.example.org")}, &out, nil); err != nil {
		t.Fatal(err)
	}
	crt, err := x509.ParseCertificate(out.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(crt.DNSNames, []string{"sign.example.org"}) || len(crt.IPAddresses) != 1 || crt.Subject.CommonName == "evil.example.org" {
		t.Errorf("%v %v %v", crt.DNSNames, crt.IPAddresses, crt.Subject)
	}
	_, err = h.portal.call(t.Context(), wire.OpListener, wire.ListenerRequest{}, nil, nil)
	wantKind(t, err, fault.Invalid, "no request")
}
