package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
)

// bookingRequest is the body of POST /api/sign.
type bookingRequest struct {
	prescription.Prescription
	ConsentText      string    `json:"consent_text"`
	ConsentTimestamp time.Time `json:"consent_timestamp"`
	ClientIP         string    `json:"client_ip"`
	ClientUserAgent  string    `json:"client_user_agent"`
}

// newBooking is the demo's prescription, under an ID that no other run of the demo has used.
func newBooking(now time.Time) bookingRequest {
	p := prescription.Demo(now)
	p.PrescriptionID = "DEMO-" + strings.ReplaceAll(now.UTC().Format("20060102-150405.000"), ".", "-")
	return bookingRequest{
		Prescription: p, ConsentText: "I have reviewed this prescription and sign it.", ConsentTimestamp: now.UTC().Truncate(time.Second),
		ClientIP: "203.0.113.9", ClientUserAgent: "Mozilla/5.0 (X11; Linux x86_64)", // an address that RFC 5737 keeps for examples
	}
}

// visitor calls the API as a booking app would, and shows each call.
type visitor struct {
	h   *demoHouse
	out io.Writer
}

// visit is one call: the status that is expected, and what is to be said of the answer when it is the right one.
type visit struct {
	method, path, token string
	body                any // nil, a PDF, or what goes as JSON
	status              int
	remark              func(reply) (string, error)
}

// reply is the answer to a visit.
type reply struct {
	body   []byte
	header http.Header
	took   time.Duration
}

// pay makes a visit and shows it.
func (v visitor) pay(ctx context.Context, one visit) error {
	got, status, err := v.call(ctx, one)
	if err != nil {
		return err
	}
	if status != one.status {
		return fault.New(fault.Internal, fmt.Sprintf("the portal answers %s %s with %d, not %d: %.300s", one.method, one.path, status, one.status, got.body)).
			WithHint("this is a defect: please report it with " + v.h.files.signerLog + " and " + v.h.files.portalLog)
	}
	text, err := one.remark(got)
	if err != nil {
		return fault.New(fault.Internal, one.method+" "+one.path+" has another answer than it should: "+err.Error()).WithHint("this is a defect: please report it")
	}
	_, err = fmt.Fprintf(v.out, "  %-4s %-47s %d  %s\n", one.method, one.path, status, text)
	return err
}

func (v visitor) call(ctx context.Context, one visit) (got reply, status int, err error) {
	data, kind := []byte(nil), ""
	switch body := one.body.(type) {
	case nil:
	case []byte:
		data, kind = body, "application/pdf"
	default:
		if data, err = json.Marshal(body); err != nil {
			return got, 0, err
		}
		kind = "application/json"
	}
	q, err := http.NewRequestWithContext(ctx, one.method, v.h.url+one.path, bytes.NewReader(data))
	if err != nil {
		return got, 0, err
	}
	if kind != "" {
		q.Header.Set("Content-Type", kind)
	}
	if one.token != "" {
		q.Header.Set("Authorization", "Bearer "+one.token)
	}
	began := time.Now()
	answer, err := v.h.client.Do(q)
	if err != nil {
		return got, 0, fault.New(fault.Unavailable, "the portal does not answer "+one.method+" "+one.path).WithCause(err).WithHint("what it said is in " + v.h.files.portalLog)
	}
	defer answer.Body.Close()
	got.body, err = io.ReadAll(answer.Body)
	got.header, got.took = answer.Header, time.Since(began)
	return got, answer.StatusCode, err
}

// problemOf is the remark on a refusal, which must be of that type.
func problemOf(want string) func(reply) (string, error) {
	return func(r reply) (string, error) {
		var p struct {
			Type   string `json:"type"`
			Detail string `json:"detail"`
			Errors []struct {
				Field string `json:"field"`
				Text  string `json:"text"`
			} `json:"errors"`
		}
		if err := json.Unmarshal(r.body, &p); err != nil {
			return "", err
		}
		if p.Type != "/problems/"+want {
			return "", fmt.Errorf("a problem of type %q, not %q", p.Type, want)
		}
		for i, e := range p.Errors {
			p.Detail += strings.Repeat(";", min(i, 1)) + " " + e.Field + " " + e.Text
		}
		return want + ": " + p.Detail, nil
	}
}

// demoSigned is what the booking app got.
type demoSigned struct{ pdf, evidence, pack []byte }

// demoTour goes through the API, writes what came to files, and verifies it.
func (a *app) demoTour(ctx context.Context, h *demoHouse) error {
	v := visitor{h: h, out: a.stdout}
	got, err := v.use(ctx)
	if err != nil {
		return err
	}
	if err := v.beRefused(ctx); err != nil {
		return err
	}
	f, err := pades.Open(got.pdf, limits(h.cfg))
	if err != nil {
		return err
	}
	rendered := got.pdf[:f.Revisions()[0].End] // what was signed: the signature and all after it are appended to it
	for _, one := range []struct {
		name string
		data []byte
	}{{h.files.plain, rendered}, {h.files.signed, got.pdf}, {h.files.evidence, got.evidence}, {h.files.pack, got.pack}} {
		if err := writeOutput(one.name, one.data); err != nil {
			return err
		}
	}
	return a.demoVerify(ctx, h, got)
}

// use is what goes well.
func (v visitor) use(ctx context.Context) (got demoSigned, err error) {
	fmt.Fprintf(v.out, "The booking app, with a token of %s's\n", v.h.clinician.CommonName)
	token, err := v.h.token(url.Values{})
	if err != nil {
		return got, err
	}
	want := newBooking(time.Now())
	id := want.PrescriptionID
	for _, one := range []visit{
		{method: "POST", path: "/api/sign", body: want, remark: func(r reply) (string, error) {
			err := got.signed(r.body, false)
			return fmt.Sprintf("%s signed in %d ms, %d bytes", id, r.took.Milliseconds(), len(got.pdf)), err
		}},
		{method: "POST", path: "/api/sign", body: want, remark: func(r reply) (string, error) {
			return "asked again: the same answer, and nothing is signed twice", got.signed(r.body, true)
		}},
		{method: "GET", path: "/api/pdf/" + id, remark: func(r reply) (string, error) {
			return "the same bytes, " + r.header.Get("Content-Disposition"), got.same(r.body, r.header.Get("X-Content-SHA256"))
		}},
		{method: "GET", path: "/api/evidence/" + id, remark: func(r reply) (string, error) {
			got.evidence = r.body
			return summarise(r.body, v.h.backup.By)
		}},
		{method: "GET", path: "/api/evidence/" + id + "/pack", remark: func(r reply) (string, error) {
			got.pack = r.body
			return fmt.Sprintf("evidence pack, %d bytes", len(r.body)), nil
		}},
	} {
		one.token, one.status = token, http.StatusOK
		if err := v.pay(ctx, one); err != nil {
			return got, err
		}
	}
	return got, v.pay(ctx, visit{method: "POST", path: "/api/verify", body: got.pdf, status: http.StatusOK, remark: func(r reply) (string, error) {
		var report struct {
			Summary string `json:"summary"`
		}
		err := json.Unmarshal(r.body, &report)
		return report.Summary, err
	}})
}

// signed takes the document out of an answer to POST /api/sign; a repeated one must be the same.
func (d *demoSigned) signed(answer []byte, repeated bool) error {
	var a struct {
		PDF      []byte `json:"pdf_base64"`
		SHA256   string `json:"pdf_sha256"`
		Repeated bool   `json:"repeated"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return err
	}
	if a.Repeated != repeated {
		return fmt.Errorf("repeated is %t", a.Repeated)
	}
	if !repeated {
		d.pdf = a.PDF
	}
	return d.same(a.PDF, a.SHA256)
}

// same compares a document, and the SHA-256 that came with it, with the one signed.
func (d *demoSigned) same(pdf []byte, hash string) error {
	sum := sha256.Sum256(d.pdf)
	if !bytes.Equal(pdf, d.pdf) || hash != hex.EncodeToString(sum[:]) {
		return errors.New("another document than the one signed")
	}
	return nil
}

// summarise names what stands out in an Evidence Summary.
func summarise(answer []byte, cosigner string) (string, error) {
	var e struct {
		Type  string `json:"evidence_type"`
		Actor struct {
			Username string `json:"username"`
			ACR      string `json:"authentication_context_ref"`
		} `json:"actor_evidence"`
		Live struct {
			Backup evidence.Backup `json:"backup"`
		} `json:"live"`
	}
	if err := json.Unmarshal(answer, &e); err != nil {
		return "", err
	}
	if b := e.Live.Backup; !b.Cosigned || b.By != cosigner {
		return "", fmt.Errorf("the backup host's cosignature is missing: %+v", b)
	}
	name, _, _ := strings.Cut(cosigner, "+")
	return fmt.Sprintf("%s: signed by %s, logged in at level %s; its lines are cosigned by %s", e.Type, e.Actor.Username, e.Actor.ACR, name), nil
}

// beRefused is what must not be done.
func (v visitor) beRefused(ctx context.Context) error {
	fmt.Fprintln(v.out, "\nis refused")
	morphine := newBooking(time.Now())
	morphine.PrescriptionID += "-MORPHINE"
	morphine.MedicationName, morphine.SNOMEDCode, morphine.ControlledDrugSchedule = "Morphine sulfate", "", prescription.Schedule2
	other := newBooking(time.Now())
	other.PrescriptionID += "-OTHER"
	for _, c := range []struct {
		status  int
		problem string
		token   url.Values
		body    bookingRequest
	}{
		{http.StatusUnauthorized, "token-expired", url.Values{"ttl": {"-300"}}, other},
		{http.StatusForbidden, "acr-too-low", url.Values{"acr": {"1"}}, other},
		{http.StatusForbidden, "certificate-of-another", url.Values{"sub": {"somebody-else-of-that-name"}}, other},
		{http.StatusUnprocessableEntity, "controlled-drug", url.Values{}, morphine},
	} {
		token, err := v.h.token(c.token)
		if err != nil {
			return err
		}
		if err := v.pay(ctx, visit{method: "POST", path: "/api/sign", token: token, body: c.body, status: c.status, remark: problemOf(c.problem)}); err != nil {
			return err
		}
	}
	return nil
}

// demoVerify validates what came as anybody would, with the root as the only trust, and says where to look.
func (a *app) demoVerify(ctx context.Context, h *demoHouse, got demoSigned) error {
	roots, err := readCertificates(h.files.root)
	if err != nil {
		return err
	}
	options := pades.ValidateOptions{Roots: roots, At: time.Now(), Limits: limits(h.cfg)}
	report, err := pades.Validate(ctx, got.pdf, options)
	if err != nil {
		return err
	}
	logKey := filepath.Join(h.cfg.StateDir, signer.LogKeyName)
	keys, err := a.logKeys([]string{logKey})
	if err != nil {
		return err
	}
	text := []byte("witness backup " + h.backup.By + "\nquorum backup\n")
	if err := writeOutput(h.files.witnesses, text); err != nil {
		return err
	}
	policy, err := chain.ParsePolicy(text)
	if err != nil {
		return err
	}
	pack, err := verifyPack(ctx, got.pack, options, evidence.VerifyOptions{LogKeys: keys, Policy: policy})
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := writeJSON(&b, report); err != nil {
		return err
	}
	if err := writeOutput(h.files.verify, []byte(b.String())); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\nVerified without the appliance\n  the PDF             %s\n  the evidence pack   %s\n", report.Summary, pack.Summary)
	if err := a.demoLook(h); err != nil {
		return err
	}
	if !report.Good() || pack.ExitCode != exitGood {
		return fault.New(fault.Internal, "the signed prescription or its evidence does not validate").WithHint("this is a defect: please report it with " + h.files.verify)
	}
	return nil
}

// demoLook says where to look, and what to try.
func (a *app) demoLook(h *demoHouse) error {
	t := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprint(t, "\nLook at\n")
	for _, look := range [][2]string{
		{h.files.signed, "what the clinician signed: open it in any PDF reader"},
		{h.files.plain, "the same before: the signed file begins with exactly these bytes"},
		{h.files.evidence, "the Evidence Summary"},
		{h.files.pack, "the evidence pack, for a court"},
		{h.files.root, "the root certificate, for your own validator"},
		{h.files.verify, "the whole verdict on the PDF"},
		{filepath.Join(h.cfg.StateDir, ledger.FileName), "the log: every act so far is a line"},
	} {
		fmt.Fprintf(t, "  %s\t%s\n", look[0], look[1])
	}
	program := os.Args[0]
	fmt.Fprintf(t, "\nTry\n  %[1]s verify %[2]s --trust %[3]s\n  %[1]s verify %[4]s --trust %[3]s --log-key %[5]s --witness-keys %[7]s\n  %[1]s demo --serve --dir %[6]s\n",
		program, h.files.signed, h.files.root, h.files.pack, filepath.Join(h.cfg.StateDir, signer.LogKeyName), h.files.dir, h.files.witnesses)
	return t.Flush()
}
