package portal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

// TestCommittedDescription: docs/openapi.json is what is served.
func TestCommittedDescription(t *testing.T) {
	p, _ := newPortal(t, nil)
	const path = "../../docs/openapi.json"
	if *update {
		if err := os.WriteFile(path, p.OpenAPI(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	served := ask(p, "GET", "/openapi.json", "")
	if !bytes.Equal(committed, served.Body.Bytes()) {
		t.Errorf("docs/openapi.json is not what is served: go test ./internal/portal -run TestCommittedDescription -update")
	}
	if served.Header().Get("Content-Type") != "application/openapi+json" {
		t.Errorf("served as %q", served.Header().Get("Content-Type"))
	}
	var doc document
	if err := json.Unmarshal(committed, &doc); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/sign", "/api/pdf/{prescription_id}", "/api/evidence/{prescription_id}", "/api/prescriptions", "/api/verify", "/certificates/issue",
		"/certificates", "/certificates/{serial}/revoke", "/certificates/{serial}/bind", "/tsa", "/ocsp", "/crl/{name}", "/ca/{name}", "/log/checkpoint", "/api/prescriptions/{prescription_id}/cancel"} {
		if doc.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
	body := doc.Components.Schemas["SignBody"]
	for _, name := range []string{"prescription_id", "consent_text", "controlled_drug_schedule"} {
		if !slices.Contains(body.Required, name) {
			t.Errorf("%s is not described as required: %v", name, body.Required)
		}
	}
	if slices.Contains(body.Required, "pdf_base64") || len(body.Properties) != 30 {
		t.Errorf("%d fields are described, of which required: %v", len(body.Properties), body.Required)
	}
}

func TestTokenRefused(t *testing.T) {
	p, d := newPortal(t, nil)
	for name, c := range map[string]struct {
		headers []string
		status  int
		code    string
		asks    int
	}{
		"none":     {nil, 401, "token-missing", 0},
		"basic":    {[]string{"Authorization", "Basic eDp5"}, 401, "token-missing", 0},
		"empty":    {[]string{"Authorization", "Bearer "}, 401, "token-malformed", 0},
		"two":      {[]string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, 401, "token-malformed", 0},
		"blank":    {[]string{"Authorization", "Bearer a b"}, 401, "token-malformed", 0},
		"controls": {[]string{"Authorization", "Bearer a\x01"}, 401, "token-malformed", 0},
		"huge":     {[]string{"Authorization", "Bearer " + strings.Repeat("a", maxToken+1)}, 401, "token-too-large", 0},
		"forged":   {[]string{"Authorization", "Bearer forged"}, 401, "token-signature", 1},
		"expired":  {[]string{"Authorization", "bearer expired"}, 401, "token-expired", 1},
		"roleless": {[]string{"Authorization", "Bearer roleless"}, 403, "role-missing", 1},
	} {
		for _, target := range []string{"POST /api/sign", "GET /api/prescriptions", "GET /api/pdf/RX-1", "GET /api/evidence/RX-1", "GET /api/evidence/RX-1/pack",
			"POST /api/prescriptions/RX-1/cancel", "POST /certificates/issue", "GET /certificates", "POST /certificates/ab/revoke", "POST /certificates/ab/bind"} {
			before := len(d.asked)
			method, path, _ := strings.Cut(target, " ")
			w := ask(p, method, path, "{}", c.headers...)
			got := problemOf(t, w)
			if w.Code != c.status || got.Type != "/problems/"+c.code {
				t.Errorf("%s, %s: %d %s", name, target, w.Code, got.Type)
			}
			if strings.Contains(w.Body.String(), os.ErrInvalid.Error()) {
				t.Errorf("%s: the cause is shown: %s", name, w.Body)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (c.status == 401) {
				t.Errorf("%s: WWW-Authenticate %q with %d", name, w.Header().Get("WWW-Authenticate"), w.Code)
			}
			if len(d.asked)-before != c.asks {
				t.Errorf("%s, %s: the signer was asked %d times", name, target, len(d.asked)-before)
			}
		}
	}
}

func TestContentRefusedAllFieldsAtOnce(t *testing.T) {
	p, d := newPortal(t, nil)
	body := signJSON(t, func(f map[string]any) {
		delete(f, "patient_name")
		delete(f, "consent_text")
		f["snomed_code"], f["quantity"], f["colour"], f["consent_timestamp"] = "39732311000001105", 21, "red", "yesterday"
	})
	w := ask(p, "POST", "/api/sign", body, authorised("Content-Type", "application/json")...)
	got := problemOf(t, w)
	if w.Code != 422 || got.Type != "/problems/invalid-content" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var fields []string
	for _, e := range got.Errors {
		fields = append(fields, e.Field)
		if e.Code == "" || e.Text == "" {
			t.Errorf("%+v", e)
		}
	}
	for _, want := range []string{"patient_name", "consent_text", "snomed_code", "quantity", "colour", "consent_timestamp"} {
		if !slices.Contains(fields, want) {
			t.Errorf("%s is not reported: %v", want, fields)
		}
	}
	if strings.Contains(w.Body.String(), "39732311000001105") || strings.Contains(w.Body.String(), "yesterday") {
		t.Errorf("what was sent is repeated: %s", w.Body)
	}
	if d.count(wire.OpSignOpen) != 0 {
		t.Error("the signer was asked to sign it")
	}
}

func TestEachContentProblemHasItsType(t *testing.T) {
	p, _ := newPortal(t, nil)
	for name, c := range map[string]struct {
		change func(map[string]any)
		status int
		code   string
	}{
		"no consent":        {func(f map[string]any) { delete(f, "consent_text"); delete(f, "consent_timestamp") }, 422, "consent-missing"},
		"null consent":      {func(f map[string]any) { f["consent_text"] = nil }, 422, "consent-missing"},
		"schedule 2":        {func(f map[string]any) { f["controlled_drug_schedule"] = "2" }, 422, "controlled-drug"},
		"no schedule":       {func(f map[string]any) { delete(f, "controlled_drug_schedule") }, 422, "invalid-content"},
		"bad IP":            {func(f map[string]any) { f["client_ip"] = "localhost" }, 422, "invalid-content"},
		"bad base64":        {func(f map[string]any) { f["pdf_base64"] = "%PDF" }, 422, "invalid-content"},
		"empty PDF":         {func(f map[string]any) { f["pdf_base64"] = "" }, 422, "invalid-content"},
		"PDF of breaks":     {func(f map[string]any) { f["pdf_base64"] = "\n" }, 422, "invalid-content"},
		"PDF not permitted": {func(f map[string]any) { f["pdf_base64"] = "JVBERi0=" }, 403, "given-pdf-not-allowed"},
	} {
		w := ask(p, "POST", "/api/sign", signJSON(t, c.change), authorised("Content-Type", "application/json")...)
		if got := problemOf(t, w); w.Code != c.status || got.Type != "/problems/"+c.code || got.WhatToDo == "" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestBodyRefused(t *testing.T) {
	p, _ := newPortal(t, nil)
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		code              string
	}{
		"no JSON":       {"application/json", "x=1", 400, "invalid-json"},
		"array":         {"application/json", "[]", 400, "invalid-json"},
		"cut":           {"application/json", `{"a": "b"`, 400, "invalid-json"},
		"two":           {"application/json", `{}{}`, 400, "invalid-json"},
		"deep":          {"application/json", `{"a":` + strings.Repeat("[", 20000) + `}`, 400, "invalid-json"},
		"text":          {"text/plain", "{}", 415, "unsupported"},
		"empty PDF":     {"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"pdf\"; filename=\"a.pdf\"\r\n\r\n\r\n--x--\r\n", 422, "invalid-content"},
		"no boundary":   {"multipart/form-data", "--x--", 422, "invalid-request"},
		"broken form":   {"multipart/form-data; boundary=x", "--x\r\nno", 422, "invalid-request"},
		"too large":     {"application/json", `{"a":"` + strings.Repeat("b", 2<<20) + `"}`, 413, "too-large"},
		"large":         {"application/json", `{"a":"` + strings.Repeat("b", 300<<10) + `"}`, 413, "too-large"},
		"twice":         {"application/json", `{"dosage":"a","dosage":"b"}`, 422, "invalid-content"},
		"other case":    {"application/json", `{"Dosage":"a"}`, 422, "invalid-content"},
		"many unknowns": {"application/json", "{" + strings.Repeat(`"x":1,`, 9999) + `"y":1}`, 422, "invalid-content"},
	} {
		w := ask(p, "POST", "/api/sign", c.body, authorised("Content-Type", c.contentType)...)
		if got := problemOf(t, w); w.Code != c.status || got.Type != "/problems/"+c.code {
			t.Errorf("%s: %d %.300s", name, w.Code, w.Body)
		}
	}
}

// TestWhatTheSignerIsAsked: the prescription as checked, the consent, and what is known of the caller, each in its place.
func TestWhatTheSignerIsAsked(t *testing.T) {
	p, d := newPortal(t, func(c *Config) { c.TrustedProxies = prefixesOf("192.0.2.0/24") })
	d.do[wire.OpSignOpen] = func(any, *os.File) (any, *os.File, error) {
		return nil, nil, fault.New(fault.NotFound, "Certificate not found for clinician: Doctor Clinician").WithCode("certificate-not-found")
	}
	w := ask(p, "POST", "/api/sign", signJSON(t, nil), authorised("Content-Type", "application/json", "Idempotency-Key", "k-1",
		"X-Forwarded-For", "203.0.113.9, 198.51.100.4", "User-Agent", "Browser/1\x01.0")...)
	if got := problemOf(t, w); w.Code != 404 || got.Type != "/problems/certificate-not-found" || got.Detail != "Certificate not found for clinician: Doctor Clinician" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	in := d.last(wire.OpSignOpen).(wire.SignOpen)
	if in.Token != goodToken || in.IdempotencyKey != "k-1" || in.Source != wire.SourceRendered || in.Consent.Text == "" || in.Consent.Timestamp.IsZero() {
		t.Errorf("%+v", in)
	}
	if in.Observed.PeerIP != "198.51.100.4" || in.Asserted.BrowserIP != "203.0.113.9" || in.Asserted.UserAgent != "Browser/1.0" || in.Observed.RequestID != w.Header().Get("X-Request-ID") {
		t.Errorf("observed %+v, asserted %+v", in.Observed, in.Asserted)
	}
	if !strings.Contains(string(in.Prescription), `"medication_name":"Amoxicillin"`) {
		t.Errorf("prescription %s", in.Prescription)
	}
}

// TestFormIsTheSame: multipart/form-data with the same names asks for the same.
func TestFormIsTheSame(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpSignOpen] = func(any, *os.File) (any, *os.File, error) { return nil, nil, fault.New(fault.Conflict, "enough") }
	fields := signFields(t)
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	ask(p, "POST", "/api/sign", string(raw), authorised("Content-Type", "application/json")...)
	first := d.last(wire.OpSignOpen).(wire.SignOpen)
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for name, value := range fields {
		form.WriteField(name, value.(string))
	}
	form.Close()
	w := ask(p, "POST", "/api/sign", b.String(), authorised("Content-Type", form.FormDataContentType())...)
	if got := problemOf(t, w); got.Type != "/problems/conflict" {
		t.Fatalf("%s", w.Body)
	}
	if second := d.last(wire.OpSignOpen).(wire.SignOpen); string(first.Prescription) != string(second.Prescription) || first.Consent != second.Consent {
		t.Errorf("%s\n%s", first.Prescription, second.Prescription)
	}
}

// TestOperationThatIsGone: a signer that was restarted in the midst of a signature knows nothing of it. That is no 404 for the booking app, which asks again.
func TestOperationThatIsGone(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpSignOpen] = func(any, *os.File) (any, *os.File, error) {
		return wire.SignOpened{Operation: "op-1", Name: "Doctor Clinician", RegisterName: "GMC", RegistrationNumber: "7654321", Time: time.Now(), SignatureSize: 4000, StampSize: 2000}, nil, nil
	}
	d.do[wire.OpSign] = func(any, *os.File) (any, *os.File, error) {
		return nil, nil, fault.New(fault.NotFound, "there is no such signing operation, or it has ended")
	}
	w := ask(p, "POST", "/api/sign", signJSON(t, nil), authorised("Content-Type", "application/json")...)
	if got := problemOf(t, w); w.Code != 503 || got.Type != "/problems/unavailable" || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestFailedOperationIsGivenUp: what was opened and could not be finished is aborted, also when the caller has gone.
func TestFailedOperationIsGivenUp(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpSignOpen] = func(any, *os.File) (any, *os.File, error) {
		return wire.SignOpened{Operation: "op-1", Name: "Doctor Clinician", RegisterName: "GMC", RegistrationNumber: "7654321", Time: time.Now(), SignatureSize: 4000, StampSize: 2000}, nil, nil
	}
	d.do[wire.OpSign] = func(any, *os.File) (any, *os.File, error) {
		return nil, nil, fault.New(fault.Unavailable, "the time is not proven").WithCode("clock-unproven").WithCause(errors.New("chrony is gone"))
	}
	d.do[wire.OpAbort] = func(any, *os.File) (any, *os.File, error) { return wire.Nothing{}, nil, nil }
	w := ask(p, "POST", "/api/sign", signJSON(t, nil), authorised("Content-Type", "application/json")...)
	if got := problemOf(t, w); w.Code != 503 || got.Type != "/problems/clock-unproven" || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "chrony is gone") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if in := d.last(wire.OpSign).(wire.SignDigest); in.Operation != "op-1" || len(in.Digest) != 32 {
		t.Errorf("%+v", in)
	}
	if in := d.last(wire.OpAbort).(wire.Abort); in.Operation != "op-1" {
		t.Errorf("%+v", in)
	}
}

func TestRepeatedRequestGetsTheSameAnswer(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpSignOpen] = func(any, *os.File) (any, *os.File, error) {
		return wire.SignOpened{Done: &wire.SignResult{PrescriptionID: "RX-134", SHA256: "ab", Size: 4, Status: "signed", Level: "token", Repeated: true, SignedAt: time.Unix(1e9, 0).UTC()}}, nil, nil
	}
	d.do[wire.OpDocument] = func(any, *os.File) (any, *os.File, error) {
		fd, err := wire.Memfd("x", []byte("%PDF"))
		return wire.DocumentInfo{PrescriptionID: "RX-134", FileName: "RX-134.pdf", SHA256: "ab", Size: 4}, fd, err
	}
	w := ask(p, "POST", "/api/sign", signJSON(t, func(f map[string]any) { f["client_ip"] = "203.0.113.9" }), authorised("Content-Type", "application/json")...)
	var got signAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(w.Body.String(), `"pdf_base64":"`+base64.StdEncoding.EncodeToString([]byte("%PDF"))+`"`) || !got.Repeated || got.PDFPath != "/api/pdf/RX-134" || got.EvidencePath != "/api/evidence/RX-134" {
		t.Errorf("%+v", got)
	}
	if r := got.Record; r.PrescriptionID != "RX-134" || r.PDFSHA256 != "ab" || r.ClientIP != "203.0.113.9" || r.ConsentText == "" || r.Status != "signed" || r.SignedPDFPath != "/api/pdf/RX-134" {
		t.Errorf("%+v", r)
	}
}

// TestYesterdaysRequestGetsItsAnswer: a retry after midnight is no longer right in itself, and is answered all the same when it was signed. The signer is
// asked for nothing more than that.
func TestYesterdaysRequestGetsItsAnswer(t *testing.T) {
	p, d := newPortal(t, nil)
	var signed bool
	d.do[wire.OpSignOpen] = func(in any, _ *os.File) (any, *os.File, error) {
		if !in.(wire.SignOpen).RepeatOnly {
			t.Error("the signer was asked to sign it")
		}
		if !signed {
			return nil, nil, fault.New(fault.NotFound, "not before")
		}
		return wire.SignOpened{Done: &wire.SignResult{PrescriptionID: "RX-134", Repeated: true}}, nil, nil
	}
	d.do[wire.OpDocument] = func(any, *os.File) (any, *os.File, error) {
		fd, err := wire.Memfd("x", []byte("%PDF"))
		return wire.DocumentInfo{PrescriptionID: "RX-134", FileName: "RX-134.pdf", Size: 4}, fd, err
	}
	yesterday := signJSON(t, func(f map[string]any) { f["appropriate_date"] = prescription.UKDate(time.Now().Add(-24 * time.Hour)) })
	try := func() *httptest.ResponseRecorder {
		return ask(p, "POST", "/api/sign", yesterday, authorised("Content-Type", "application/json")...)
	}
	if w := try(); w.Code != 422 || problemOf(t, w).Errors[0].Field != "appropriate_date" {
		t.Errorf("never signed: %d %s", w.Code, w.Body)
	}
	signed = true
	if w := try(); w.Code != 200 || !strings.Contains(w.Body.String(), `"repeated":true`) {
		t.Errorf("signed yesterday: %d %s", w.Code, w.Body)
	}
}

func TestDownloadHasTheHeadersThatClientsKnow(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpDocument] = func(in any, _ *os.File) (any, *os.File, error) {
		if in != any(wire.DocumentRef{Credentials: in.(wire.DocumentRef).Credentials, PrescriptionID: "RX-134"}) {
			return nil, nil, fault.New(fault.NotFound, "there is no such prescription")
		}
		fd, err := wire.Memfd("x", []byte("%PDF-x"))
		return wire.DocumentInfo{FileName: "RX-134.pdf", SHA256: strings.Repeat("ab", 32), Size: 6}, fd, err
	}
	w := ask(p, "GET", "/api/pdf/RX-134", "", authorised()...)
	for name, want := range map[string]string{"X-Content-SHA256": strings.Repeat("ab", 32), "Content-Disposition": `attachment; filename="RX-134.pdf"`,
		"Content-Type": "application/pdf", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if w.Body.String() != "%PDF-x" {
		t.Errorf("%q", w.Body)
	}
	if got := problemOf(t, ask(p, "GET", "/api/pdf/RX-135", "", authorised()...)); got.Type != "/problems/not-found" {
		t.Errorf("%+v", got)
	}
	if got := disposition("Rezept-Ä.pdf"); got != "attachment; filename*=utf-8''Rezept-%C3%84.pdf" {
		t.Errorf("disposition: %s", got)
	}
}

func TestEvidencePassesUnchanged(t *testing.T) {
	p, d := newPortal(t, nil)
	const evidence = `{"evidence_type":"PAdES-B-LTA Evidence Summary","patient":"Zoë <&>"}`
	d.do[wire.OpEvidence] = func(any, *os.File) (any, *os.File, error) {
		return wire.Evidence{Evidence: wire.Raw(evidence)}, nil, nil
	}
	w := ask(p, "GET", "/api/evidence/RX-134", "", authorised()...)
	if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != evidence && !jsonEqual(got, evidence) {
		t.Errorf("%d %s", w.Code, got)
	}
}

func jsonEqual(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && x.(map[string]any)["patient"] == y.(map[string]any)["patient"]
}

func TestCertificates(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpCertIssue] = func(any, *os.File) (any, *os.File, error) {
		return wire.CertIssued{Certificate: wire.Certificate{Serial: "ab12", CommonName: "Doctor Clinician", KeyExists: true, Status: "valid"}, Chain: [][]byte{d.root.Raw, d.root.Raw}}, nil, nil
	}
	d.do[wire.OpCertList] = func(any, *os.File) (any, *os.File, error) {
		return wire.CertPage{Certificates: []wire.Certificate{{Serial: "ab12", CommonName: "Doctor Clinician", KeyExists: true, Status: "valid"}}}, nil, nil
	}
	d.do[wire.OpCertRevoke] = func(any, *os.File) (any, *os.File, error) {
		return wire.Certificate{Serial: "ab12", Status: "revoked"}, nil, nil
	}
	w := ask(p, "POST", "/certificates/issue", `{"common_name":"Doctor Clinician","org":"Clinic","country":"GB","cert_type":"clinician","validity_days":365,"sub":"s-2"}`,
		authorised("Content-Type", "application/json")...)
	var got issued
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got.Serial != "ab12" || len(got.Chain) != 1 || !strings.HasPrefix(got.CertificatePEM, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if in := d.last(wire.OpCertIssue).(wire.CertIssue); in.ValidityDays != 365 || in.Sub != "s-2" || in.Token != goodToken {
		t.Errorf("%+v", in)
	}
	w = ask(p, "GET", "/certificates?status=valid&limit=5", "", authorised()...)
	if !strings.Contains(w.Body.String(), `"key_exists":true`) || d.last(wire.OpCertList).(wire.CertListRequest).Limit != 5 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = ask(p, "POST", "/certificates/AB:12/revoke", `{"reason":"keyCompromise"}`, authorised("Content-Type", "application/json")...)
	if w.Code != 200 || d.last(wire.OpCertRevoke).(wire.CertRevoke).Serial != "ab12" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, c := range []struct{ path, body string }{
		{"/certificates/issue", `{"common_name":"X","cert_type":"root"}`}, {"/certificates/issue", `{"cert_type":"clinician"}`},
		{"/certificates/issue", `{"common_name":"X","cert_type":"clinician","extra":1}`}, {"/certificates/issue", `{"common_name":"X","cert_type":"tls-client","csr":"x"}`},
		{"/certificates/ab12/revoke", `{"reason":"certificateHold"}`}, {"/certificates/ab12/bind", `{"sub":""}`}, {"/certificates/zz/revoke", `{"reason":"superseded"}`},
	} {
		w := ask(p, "POST", c.path, c.body, authorised("Content-Type", "application/json")...)
		if got := problemOf(t, w); w.Code != 422 || got.Type != "/problems/invalid-request" || len(got.Errors) == 0 {
			t.Errorf("%s %s: %d %s", c.path, c.body, w.Code, w.Body)
		}
	}
}

func TestUnknownAddressesAreProblems(t *testing.T) {
	p, _ := newPortal(t, nil)
	if got := problemOf(t, ask(p, "GET", "/api/nothing", "")); got.Type != "/problems/not-found" {
		t.Errorf("%+v", got)
	}
	w := ask(p, "DELETE", "/api/sign", "")
	if got := problemOf(t, w); got.Type != "/problems/method-not-allowed" || w.Header().Get("Allow") != "POST" {
		t.Errorf("%+v, Allow %q", got, w.Header().Get("Allow"))
	}
	if w := ask(p, "GET", "/healthz", ""); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
