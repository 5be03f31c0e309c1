package signer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/dmd"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Bounds of what comes with a request.
const (
	maxConsent     = 4000 // bytes
	maxIdempotency = 255
	maxReason      = 1000
	maxIDLength    = 128
	maxAddress     = 64
	maxUserAgent   = 512
	consentLeeway  = 5 * time.Minute // by which a booking app's clock may be ahead
	consentAge     = 24 * time.Hour
)

// request is what is asked to be signed, checked and in its canonical form.
type request struct {
	prescription prescription.Prescription
	consent      wire.Consent
	source       string
	observed     wire.Observed
	asserted     wire.Asserted
	medicine     evidence.Medicine // what decided that it is no drug that is refused
	repeat       string            // idempotency hash; "" = none given
	content      []byte            // canonical JSON of all that makes it "the same content": not the token, not when or from where it came
}

// content is the form in which two requests are compared, and kept.
type content struct {
	Prescription prescription.Prescription `json:"prescription"`
	Consent      contentConsent            `json:"consent"`
	Source       string                    `json:"source"`
	Given        string                    `json:"given_sha256"`
}

type contentConsent struct {
	Text      string `json:"text"`
	Timestamp string `json:"timestamp"`
}

// newRequest reads what was asked for, as far as that does not depend on the time: what was signed once is answered for good.
func newRequest(in wire.SignOpen, c activation.Caller) (request, error) {
	r := request{consent: in.Consent, source: in.Source, observed: cleanObserved(in.Observed), asserted: cleanAsserted(in.Asserted)}
	invalid := func(text string) *fault.Error { return fault.New(fault.Invalid, text) }
	if err := wire.Decode(in.Prescription, &r.prescription); err != nil {
		return r, invalid("the prescription is not one").WithCause(err)
	}
	r.prescription = r.prescription.Normalize()
	if len(r.prescription.PrescriptionID) > maxIDLength || strings.ContainsRune(r.prescription.PrescriptionID, 0) {
		return r, invalid("the prescription's ID is too long")
	}
	isGiven := in.Source == wire.SourceGiven
	switch {
	case !isGiven && in.Source != wire.SourceRendered:
		return r, invalid(fmt.Sprintf("a document of source %.20q", in.Source))
	case isGiven != isSHA256(in.GivenSHA256) || !isGiven && in.GivenSHA256 != "":
		return r, invalid("a document given comes with its SHA-256, and no other does")
	case isGiven && !c.Policy.GivenPDF:
		return r, fault.New(fault.Forbidden, "the clinic's policy does not allow a PDF of its own").
			WithHint("send the prescription's data alone: the appliance makes the PDF").WithCode("given-pdf-not-allowed")
	}
	if len(in.IdempotencyKey) > maxIdempotency {
		return r, invalid(fmt.Sprintf("an Idempotency-Key has at most %d bytes", maxIdempotency))
	}
	if in.IdempotencyKey != "" {
		r.repeat = hashOf("idempotency", c.Clinic, c.Issuer, c.Sub, in.IdempotencyKey)
	}
	raw, err := json.Marshal(content{
		Prescription: r.prescription, Source: in.Source, Given: in.GivenSHA256,
		Consent: contentConsent{Text: in.Consent.Text, Timestamp: in.Consent.Timestamp.UTC().Format(time.RFC3339Nano)},
	})
	if err != nil {
		return r, err
	}
	r.content, err = chain.Canonical(nil, raw)
	return r, err
}

// validate says whether it may be signed now. What it refuses, the portal has refused before, unless the portal is not what it should be, or has not
// read the same medicines yet.
func (r *request) validate(now time.Time, medicines *dmd.Dictionary) error {
	if problems := r.prescription.Validate(now, medicines); len(problems) > 0 {
		code := "invalid-content"
		if slices.ContainsFunc(problems, func(p prescription.Problem) bool { return p.Code == prescription.ControlledDrug }) {
			code = "controlled-drug"
		}
		return withCode(prescription.Invalid(problems), fault.Invalid, code)
	}
	r.medicine.Schedule = string(r.prescription.ControlledDrugSchedule)
	if _, known := medicines.Schedule(r.prescription.SNOMEDCode); known {
		r.medicine.DMDRelease, r.medicine.DMDSHA256 = medicines.Release, medicines.SHA256
	}
	return checkConsent(r.consent, now)
}

func checkConsent(c wire.Consent, now time.Time) error {
	switch {
	case strings.TrimSpace(c.Text) == "" || c.Timestamp.IsZero():
		return fault.New(fault.Invalid, "the clinician's consent, its text and its time, is missing").
			WithHint("send consent.text and consent.timestamp").WithCode("consent-missing")
	case len(c.Text) > maxConsent || !utf8.ValidString(c.Text):
		return fault.New(fault.Invalid, fmt.Sprintf("the text of the consent is not UTF-8 of at most %d bytes", maxConsent)).WithCode("consent-invalid")
	case strings.ContainsFunc(c.Text, misleading):
		return fault.New(fault.Invalid, "the text of the consent holds characters that cannot be seen, or that turn others round").
			WithHint("send the words as the clinician saw them").WithCode("consent-invalid")
	case c.Timestamp.After(now.Add(consentLeeway)):
		return fault.New(fault.Invalid, "the consent's timestamp is in the future").WithHint("set the booking app's clock right").WithCode("consent-invalid")
	case now.Sub(c.Timestamp) > consentAge:
		return fault.New(fault.Invalid, "the consent is older than a day").WithHint("ask the clinician again").WithCode("consent-invalid")
	}
	return nil
}

// prescriber holds the register and the number that the page will show against those in the certificate: the page says whose the signature is.
// A certificate without a number leaves them the caller's word. Errors: Forbidden.
func (r *request) prescriber(serialNumber string) error {
	p := &r.prescription
	if id, err := cert.NewPersonID(string(p.ProfessionalRegister), p.ProfessionalRegistrationNumber); serialNumber == "" || err == nil && id.String() == serialNumber {
		return nil
	}
	return fault.New(fault.Forbidden, "the register and the number in it (professional_register, professional_registration_number) are not those of the clinician's certificate").
		WithHint("send them as the certificate has them; where that is wrong, have it revoked and another one issued").WithCode("registration-mismatch")
}

// clinic holds the name at the head of the page against the organisation in the clinician's certificate (where it has none, the name under which the clinic
// is registered) and the clinic's trading names. Case, spaces and punctuation may differ, letters that only look alike may not. Errors: Forbidden.
func (r *request) clinic(organisation, registered string, trading []string) error {
	if organisation == "" {
		organisation = registered
	}
	head := cert.Fold(r.prescription.ClinicName)
	if head != "" && slices.ContainsFunc(append([]string{organisation}, trading...), func(name string) bool { return cert.Fold(name) == head }) {
		return nil
	}
	return fault.New(fault.Forbidden, "the clinic's name (clinic_name) is neither the organisation of the clinician's certificate nor a trading name of the clinic").
		WithHint("send the name as the certificate has it; an operator adds another one that the clinic trades under: appliance clinic policy SLUG --trading-name NAME").
		WithCode("clinic-mismatch")
}

// misleading is a character that makes a text look like another one: a control, one that turns the direction, or what stands for bytes that are no text.
func misleading(r rune) bool {
	return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError
}

// sha returns the SHA-256 of the content, hexadecimal.
func (r *request) sha() string {
	sum := sha256.Sum256(r.content)
	return hex.EncodeToString(sum[:])
}

// hashOf hashes parts so that no other parts give the same.
func hashOf(parts ...string) string {
	raw, err := json.Marshal(parts)
	if err != nil {
		panic("signer: strings cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func isSHA256(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && strings.ToLower(s) == s
}

// clean makes text of a peer fit for the log: valid UTF-8 without control characters, at most n bytes.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

func cleanObserved(o wire.Observed) wire.Observed {
	return wire.Observed{PeerIP: clean(o.PeerIP, maxAddress), ReceivedAt: o.ReceivedAt.UTC(), RequestID: clean(o.RequestID, maxAddress)}
}

func cleanAsserted(a wire.Asserted) wire.Asserted {
	return wire.Asserted{BrowserIP: clean(a.BrowserIP, maxAddress), UserAgent: clean(a.UserAgent, maxUserAgent)}
}

// actorIP is where the actor is: by the booking app's word, else what the portal saw.
func actorIP(o wire.Observed, a wire.Asserted) string {
	if a.BrowserIP != "" {
		return clean(a.BrowserIP, maxAddress)
	}
	return clean(o.PeerIP, maxAddress)
}

// lockKeys are what one operation at a time may be about: a clinic's prescription, and an idempotency key.
func (r *request) lockKeys(clinic string) []string {
	keys := []string{"prescription " + string(recordKey(clinic, r.prescription.PrescriptionID))}
	if r.repeat != "" {
		keys = append(keys, "repeat "+r.repeat)
	}
	return slices.Clip(keys)
}
