package signer_test

import (
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// TestClinicAtTheHead: the name on the page is the certificate's organisation, however it is written, or a trading name while the policy has it.
func TestClinicAtTheHead(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	h.must(t, wire.OpCertIssue, wire.CertIssue{CertType: "clinician", CommonName: "Ann Associate", Clinic: "a", Sub: h.doctor.Sub, Register: "GMC",
		RegistrationNumber: "7654321", Org: "St. Anne's Surgery"}, nil)
	open := func(id, name, clinic string) error {
		_, err := h.portal.open(t.Context(), wanted(h.token(t, nil), id, func(p *prescription.Prescription, _ *wire.SignOpen) {
			p.ClinicianCN, p.ClinicName = name, clinic
		}))
		return err
	}
	for id, good := range map[string][2]string{
		"RX-1": {h.doctor.Name, "WHARF LANE CLINIC"}, // no organisation in the certificate: the clinic as it is registered
		"RX-2": {"Ann Associate", "St Annes Surgery"},
	} {
		if err := open(id, good[0], good[1]); err != nil {
			t.Errorf("%s of %s: %v", good[1], good[0], err)
		}
	}
	wantCode(t, open("RX-3", "Ann Associate", "Wharf Lane Clinic"), fault.Forbidden, "clinic-mismatch", "the registered name, against the certificate")
	wantCode(t, open("RX-3", h.doctor.Name, "Wharf Skin"), fault.Forbidden, "clinic-mismatch", "a name that nobody registered")
	h.policy(t, "a", func(p *wire.Policy) { p.TradingNames = []string{"Wharf Skin"} })
	if err := open("RX-3", h.doctor.Name, "Wharf Skin"); err != nil {
		t.Errorf("a trading name: %v", err)
	}
	h.policy(t, "a", func(p *wire.Policy) { p.TradingNames = nil })
	wantCode(t, open("RX-4", h.doctor.Name, "Wharf Skin"), fault.Forbidden, "clinic-mismatch", "a trading name that was taken back")
}
