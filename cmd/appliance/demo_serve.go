package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/veripath/aes-appliance/internal/demorealm"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Periods of what demoServe keeps fresh, well within the life of a token and the age that a consent may have.
const (
	refreshTokens = 10 * time.Minute
	bodyAge       = 6 * time.Hour
)

// demoServe keeps the API up until ctx ends, and writes the files that a shell needs for it anew every refresh. env is there only while everything
// answers.
func (a *app) demoServe(ctx context.Context, h *demoHouse, refresh time.Duration) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal is gone
	defer stop()
	if err := h.writeChain(ctx); err != nil {
		return err
	}
	body := newBooking(time.Now())
	if err := h.probe(ctx); err != nil {
		return err
	}
	defer func() {
		if gone := os.Remove(h.files.env); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	if err := h.writeEnv(body); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Try it in another terminal. Tokens are good for an hour: the first line again brings new ones.\n\n")
	for _, l := range demoLines(h.files.env) {
		if l.what != "" {
			fmt.Fprintf(a.stdout, "# %s\n", l.what)
		}
		fmt.Fprintln(a.stdout, l.line)
	}
	fmt.Fprintf(a.stdout, "\nReady at %s. Ctrl-C ends it.\n", h.url)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(a.stdout, "Stopping.")
			return nil // a process that ended is the cause of ctx, and the caller's to tell
		case now := <-tick.C:
			if now.Sub(body.ConsentTimestamp) > bodyAge || body.AppropriateDate != prescription.UKDate(now) {
				body = newBooking(now)
			}
			if err := h.writeEnv(body); err != nil {
				return err
			}
		}
	}
}

// writeChain writes the clinician's certificate and its issuer's, for who asks after its status.
func (h *demoHouse) writeChain(ctx context.Context) error {
	var got wire.CertIssued
	if err := h.ask(ctx, wire.OpCertGet, wire.CertRef{Serial: h.clinician.Serial}, &got); err != nil {
		return err
	}
	if len(got.Chain) < 2 {
		return fault.New(fault.Internal, "the clinician's certificate has no chain")
	}
	for i, name := range []string{h.files.clinician, h.files.clinicianCA} {
		if err := writeOutput(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: got.Chain[i]})); err != nil {
			return err
		}
	}
	return nil
}

// probe makes sure that both tokens are taken, over TLS, through both processes, before anybody is told that they are.
func (h *demoHouse) probe(ctx context.Context) error {
	for path, form := range map[string]url.Values{"/api/prescriptions": {}, "/certificates": {"person": {demorealm.Admin}}} {
		token, err := h.token(form)
		if err != nil {
			return err
		}
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+path, nil)
		if err != nil {
			return err
		}
		q.Header.Set("Authorization", "Bearer "+token)
		got, err := h.client.Do(q)
		if err != nil {
			return err
		}
		got.Body.Close()
		if got.StatusCode != http.StatusOK {
			return fault.New(fault.Internal, fmt.Sprintf("the portal answers GET %s with %s", path, got.Status)).WithHint("what it said is in " + h.files.portalLog)
		}
	}
	return nil
}

// writeEnv writes the body of a request to sign, and then the variables, of which the tokens are new.
func (h *demoHouse) writeEnv(body bookingRequest) error {
	raw, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		return err
	}
	if err := writeOutput(h.files.body, append(raw, '\n')); err != nil {
		return err
	}
	doctor, err := h.token(url.Values{})
	if err != nil {
		return err
	}
	admin, err := h.token(url.Values{"person": {demorealm.Admin}})
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Made by \"appliance demo --serve\", and gone when that has ended. The tokens are good for an hour and exchanged before.\n")
	for _, v := range [][2]string{
		{"URL", h.url}, {"CA", h.files.root}, {"TOKEN", doctor}, {"ADMIN_TOKEN", admin}, {"ISSUER", h.realm.Issuer()}, {"CLINIC", demoClinic},
		{"HTTP_URL", "http://" + h.cfg.Portal.ListenHTTP}, {"METRICS_URL", "http://" + h.cfg.Portal.ListenMetrics}, {"DEMO", h.files.dir}, {"RX", body.PrescriptionID},
	} {
		b.WriteString(v[0] + "=" + quoteShell(v[1]) + "\n")
	}
	if err := durable.WriteFile(durable.OS{}, h.files.env, []byte(b.String()), 0o600); err != nil {
		return fault.New(fault.Unavailable, "cannot write "+h.files.env+reason(err)).WithCause(err)
	}
	return nil
}

// quoteShell makes one word of s, whatever is in it (POSIX XCU §2.2.2).
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

type demoLine struct{ what, line string }

// demoLines are for a POSIX shell, to be pasted in this order. A test runs them as they are printed.
func demoLines(env string) []demoLine {
	const (
		doctor = `curl -sS --fail-with-body --cacert "$CA" -H "Authorization: Bearer $TOKEN" `
		admin  = `curl -sS --fail-with-body --cacert "$CA" -H "Authorization: Bearer $ADMIN_TOKEN" `
		public = `curl -sS --fail-with-body --cacert "$CA" `
	)
	return []demoLine{
		{"the variables", ". " + quoteShell(env)},
		{"sign: sign.json is a prescription; the same again is the same answer, another one wants another prescription_id",
			doctor + `-H 'Content-Type: application/json' --data-binary @"$DEMO/sign.json" -o "$RX.json" "$URL/api/sign"`},
		{"the signed PDF, the Evidence Summary, the evidence pack", doctor + `-o "$RX.pdf" "$URL/api/pdf/$RX"`},
		{"", doctor + `"$URL/api/evidence/$RX"`},
		{"", doctor + `-o "$RX.zip" "$URL/api/evidence/$RX/pack"`},
		{"verify, without a token", public + `-H 'Content-Type: application/pdf' --data-binary @"$RX.pdf" -o "$RX.verdict.json" "$URL/api/verify"`},
		{"what the clinic has signed", doctor + `"$URL/api/prescriptions?limit=5"`},
		{"a time stamp (RFC 3161), without a token", `openssl ts -query -data "$RX.pdf" -sha256 -cert -out "$RX.tsq"`},
		{"", public + `-H 'Content-Type: application/timestamp-query' --data-binary @"$RX.tsq" -o "$RX.tsr" "$URL/tsa"`},
		{"", `openssl ts -verify -queryfile "$RX.tsq" -in "$RX.tsr" -CAfile "$CA"`},
		{"the clinician's certificate's status (RFC 6960), without a token", `openssl ocsp -issuer "$DEMO/clinician-ca.pem" -cert "$DEMO/clinician.pem" -reqout "$RX.ocsp-request"`},
		{"", public + `-H 'Content-Type: application/ocsp-request' --data-binary @"$RX.ocsp-request" -o "$RX.ocsp" "$URL/ocsp"`},
		{"", `openssl ocsp -issuer "$DEMO/clinician-ca.pem" -cert "$DEMO/clinician.pem" -respin "$RX.ocsp" -no_nonce -CAfile "$CA" -verify_other "$DEMO/clinician-ca.pem"`},
		{"issue a certificate, with the administrator's token; list them", admin + `-H 'Content-Type: application/json' -d '{"common_name":"Nurse '"$(date +%s%N)"'","org":"Wharf Lane Clinic","country":"GB","cert_type":"clinician","validity_days":365,"register":"NMC","registration_number":"12A3456B","sub":"nurse-'"$(date +%s%N)"'"}' "$URL/certificates/issue"`},
		{"", admin + `"$URL/certificates?limit=5"`},
		{"other tokens: person=doctor|admin|service sub= name= username= roles= acr= auth_age= ttl= aud= azp= claims={JSON}", `TOKEN_OF_YESTERDAY=$(curl -sS --fail-with-body -d ttl=-86400 "$ISSUER/token")`},
	}
}
