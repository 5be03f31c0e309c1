package signer_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/dmd"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// medicines is the dictionary of the test extract.
func medicines(t *testing.T) *dmd.Dictionary {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if err := w.AddFS(os.DirFS("../dmd/testdata/extract")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := dmd.Import(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPortalCannotSignAControlledDrug: the signer looks the code up itself, whatever a portal that has no dictionary let pass; the log and the evidence
// say by which release it was decided.
func TestPortalCannotSignAControlledDrug(t *testing.T) {
	d := medicines(t)
	var next signer.Settings
	h := newHouse(t, signer.ServerConfig{Settings: signer.Settings{Medicines: d}, Reload: func() (signer.Settings, error) { return next, nil }})
	token := h.token(t, nil)
	with := func(code string, schedule prescription.Schedule) func(*prescription.Prescription, *wire.SignOpen) {
		return func(p *prescription.Prescription, _ *wire.SignOpen) {
			p.SNOMEDCode, p.ControlledDrugSchedule = code, schedule
		}
	}
	for _, c := range []struct {
		code     string
		schedule prescription.Schedule
		want     string // code of the refusal; "" = opened
	}{
		{"99000101000001104", "none", "controlled-drug"},
		{"99001291000001109", "5", "controlled-drug"}, // a brand's pack
		{"99000241000001109", "none", "invalid-content"},
		{"99000241000001109", "4", ""},
		{"99001431000001109", "none", ""}, // not in the dictionary
	} {
		opened, err := h.portal.open(t.Context(), wanted(token, "RX-"+c.code[6:11]+string(c.schedule), with(c.code, c.schedule)))
		if fault.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%s stated %q: %v, want %q", c.code, c.schedule, err, c.want)
		}
		if err == nil {
			if _, err := h.portal.call(t.Context(), wire.OpAbort, wire.Abort{Operation: opened.Operation, Reason: "enough"}, nil, nil); err != nil {
				t.Error(err)
			}
		}
	}

	for id, code := range map[string]string{"RX-known": "39732311000001104", "RX-unknown": "99001431000001109"} {
		if _, _, err := h.portal.sign(t.Context(), wanted(token, id, with(code, "none"))); err != nil {
			t.Fatal(err)
		}
		var e wire.Evidence
		if _, err := h.portal.call(t.Context(), wire.OpEvidence, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: id}, &e, nil); err != nil {
			t.Fatal(err)
		}
		var summary struct {
			Pillars map[string]map[string]struct {
				Value any    `json:"value"`
				Basis string `json:"basis"`
			} `json:"pillars"`
		}
		if err := json.Unmarshal([]byte(e.Evidence), &summary); err != nil {
			t.Fatal(err)
		}
		release, file, basis := d.Release, d.SHA256, "verified"
		if id == "RX-unknown" {
			release, file, basis = "", "", "asserted"
		}
		intent := summary.Pillars["intent"]
		if intent["dmd_release"].Value != release || intent["dmd_sha256"].Value != file || intent["controlled_drug_schedule"].Value != "none" || intent["controlled_drug_schedule"].Basis != basis {
			t.Errorf("%s: %v", id, intent)
		}
	}

	for _, then := range []*dmd.Dictionary{d, nil, nil} { // the same, none, still none: one line
		next.Medicines = then
		h.must(t, wire.OpReload, wire.Nothing{}, nil)
	}
	if _, err := h.portal.open(t.Context(), wanted(token, "RX-after", with("99000101000001104", "none"))); err != nil {
		t.Errorf("without a dictionary: %v", err)
	}
	var told []string
	for line := range strings.Lines(h.logText(t)) {
		if strings.Contains(line, `"medicines_dictionary_in_use"`) {
			told = append(told, line)
		}
	}
	if len(told) != 2 || !strings.Contains(told[0], d.SHA256) || !strings.Contains(told[0], `"release":"2026-11-16"`) || !strings.Contains(told[1], `"details":{"in_use":false}`) {
		t.Errorf("the log says %q", told)
	}
}

// TestWhatWasSignedIsAnsweredForGood: rules that change after the signing do not take the answer away; what was never signed is not signed by asking for
// a repetition.
func TestWhatWasSignedIsAnsweredForGood(t *testing.T) {
	var next signer.Settings
	h := newHouse(t, signer.ServerConfig{Reload: func() (signer.Settings, error) { return next, nil }})
	token := h.token(t, nil)
	drug := func(p *prescription.Prescription, _ *wire.SignOpen) { p.SNOMEDCode = "99000101000001104" }
	ask := wanted(token, "RX-1", drug)
	first, _, err := h.portal.sign(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	next.Medicines = medicines(t) // in which it is a controlled drug
	h.must(t, wire.OpReload, wire.Nothing{}, nil)
	ask.RepeatOnly = true
	for range 2 {
		if again, _, err := h.portal.sign(t.Context(), ask); err != nil || !again.Repeated || again.SHA256 != first.SHA256 {
			t.Errorf("%+v, %v", again, err)
		}
		ask.RepeatOnly = false
	}
	other := wanted(token, "RX-2", drug)
	_, err = h.portal.open(t.Context(), other)
	wantCode(t, err, fault.Invalid, "controlled-drug", "a new one")
	other.RepeatOnly = true
	if _, err := h.portal.open(t.Context(), other); fault.KindOf(err) != fault.NotFound {
		t.Errorf("asked for a repetition: %v", err)
	}
	other = wanted(token, "RX-3")
	other.RepeatOnly = true
	if _, err := h.portal.open(t.Context(), other); fault.KindOf(err) != fault.NotFound {
		t.Errorf("asked for a repetition of what could be signed: %v", err)
	}
}
