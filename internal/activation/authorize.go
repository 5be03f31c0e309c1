package activation

import (
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Credential is a clinician's certificate as far as it matters here. Whether it is valid is for the CA to say.
type Credential struct {
	Serial, CommonName, Clinic string
	BoundSub                   string // whom it is bound to; "" = nobody yet
}

// Consent is what the patient, or the clinician for the patient, agreed to. It is the booking app's word.
type Consent struct {
	Text      string
	Timestamp time.Time
}

// Request asks whether one document may be signed.
type Request struct {
	Caller        Caller
	Credential    Credential
	ClinicianName string   // as the booking app sends it
	ContentSHA256 [32]byte // of what is to be signed, as was agreed to: the canonical prescription
	Consent       Consent
	Reference     string // the prescription's ID, for the log
	Now           time.Time
}

// Level is how far the person's control over the signature is proven.
type Level string

// LevelToken: the clinician's own access token. LevelService: a client's token, which is no advanced electronic signature in law.
const (
	LevelToken   Level = "token"
	LevelService Level = "service-account"
)

// ServiceLabel is what has to stand by every result of LevelService. HMR 2012 reg 219(5).
const ServiceLabel = "made under a service account's token: reduced evidence, not an advanced electronic signature of the clinician"

// Authorization allows one signature, by one credential, on one document. It is safe for concurrent use: of two who use it, one succeeds.
type Authorization struct {
	Caller        Caller
	Serial        string
	ContentSHA256 [32]byte
	Consent       Consent
	Level         Level
	Label         string // ServiceLabel, or ""
	Granted       time.Time
	Expires       time.Time // no use after it: the token's end, or Timing.Authorise after Granted

	mu     sync.Mutex
	used   bool
	digest [32]byte
}

// Authorize decides whether the caller may sign this with this credential now, and counts it against the policy's caps if so. Every refusal is an event.
//
// Errors, each with its code: Forbidden (role, acr, binding, name, clinic), Unauthorized (the token has expired since, the log-in is too old: a new one
// helps), Invalid (consent), Unavailable (the caps: waiting helps).
func (a *Activation) Authorize(ctx context.Context, r Request) (*Authorization, error) {
	no := r.refusal(a.cfg.Timing.Leeway)
	if no == nil {
		no = a.spent.take(r.Caller, r.Now)
	}
	if no != nil {
		d := refusedDetails{Clinic: r.Caller.Clinic, Issuer: r.Caller.Issuer, Sub: r.Caller.Sub, Certificate: r.Credential.Serial, Reference: r.Reference}
		a.noteRefusal(ctx, eventRefused, r.Caller.Actor(), d.with(no), r.Now)
		return nil, no
	}
	g := &Authorization{
		Caller: r.Caller, Serial: r.Credential.Serial, ContentSHA256: r.ContentSHA256, Consent: r.Consent, Level: LevelToken,
		Granted: r.Now, Expires: r.Now.Add(a.cfg.Timing.Authorise),
	}
	if r.Caller.Kind == Service {
		g.Level, g.Label = LevelService, ServiceLabel
	}
	if end := r.Caller.Expires.Add(a.cfg.Timing.Leeway); end.Before(g.Expires) {
		g.Expires = end
	}
	return g, nil
}

// Stands says whether what g rests on is still so: its caller's realm is registered for the clinic, and the clinic's policy is the one that was looked at. It is
// asked right before the use: an operator who removes a realm, or changes a policy, does not wait for what was authorised before. reference is what the
// signature is for. Errors: Unauthorized, Conflict; each is an event.
func (a *Activation) Stands(ctx context.Context, g *Authorization, reference string, now time.Time) error {
	c := g.Caller
	var no *fault.Error
	if r, err := a.realm(c.Issuer); err != nil || r.Clinic != c.Clinic {
		no = refuse(UnknownRealm, fault.Unauthorized, "the realm has been removed since this was authorised", "")
	} else if clinic, err := a.Clinic(c.Clinic); err != nil || !reflect.DeepEqual(clinic.Policy, c.Policy) {
		no = refuse(PolicyChanged, fault.Conflict, "the clinic's policy has changed since this was authorised", "ask for a new authorisation")
	}
	if no == nil {
		return nil
	}
	d := refusedDetails{Clinic: c.Clinic, Issuer: c.Issuer, Sub: c.Sub, Certificate: g.Serial, Reference: reference}
	a.noteRefusal(ctx, eventRefused, c.Actor(), d.with(no), now)
	return no
}

// refusal returns why not, nil when nothing speaks against it.
func (r Request) refusal(leeway time.Duration) *fault.Error {
	c, k := r.Caller, r.Credential
	if !r.Now.Before(c.Expires.Add(leeway)) {
		return refuse("token-expired", fault.Unauthorized, "the token expired at "+c.Expires.Format(time.RFC3339), "log in again, or refresh the token, and send the new one")
	}
	if c.Kind != Clinician && c.Kind != Service {
		return missing(c.Claims, c.Policy.ClinicianRole)
	}
	if c.Kind == Clinician {
		if no := c.freshLogin(r.Now, leeway); no != nil {
			return no
		}
	}
	if k.Clinic != c.Clinic || k.Clinic == "" {
		return refuse(OtherClinic, fault.Forbidden, "the certificate belongs to another clinic than the token", "")
	}
	// P4: the name on the certificate is the clinician's full name as it was sent. It selects; what is proven is the binding below.
	if k.CommonName == "" || norm.NFC.String(r.ClinicianName) != k.CommonName {
		return refuse(OtherName, fault.Forbidden, "the certificate is not in the clinician's name", "send the name exactly as it is in the certificate")
	}
	if k.BoundSub == "" {
		return refuse(Unbound, fault.Forbidden, "the certificate is not bound to a person of the realm yet",
			"an administrator binds it to the clinician's sub: POST /certificates/"+k.Serial+"/bind")
	}
	if c.Kind == Clinician && k.BoundSub != c.Sub {
		return refuse(OtherSub, fault.Forbidden, "the certificate is bound to another person than the one who is logged in", "the clinician named must log in and sign")
	}
	switch {
	case r.Consent.Text == "" || r.Consent.Timestamp.IsZero():
		return refuse(NoConsent, fault.Invalid, "the consent is missing: its text, and when it was given", "send consent_text and consent_timestamp")
	case r.Consent.Timestamp.After(r.Now.Add(consentLeeway)):
		return refuse(NoConsent, fault.Invalid, "the consent is dated in the future", "send consent_timestamp as it was given, with its time zone")
	}
	return nil
}

// consentLeeway is how far a booking app's clock may be ahead.
const consentLeeway = 5 * time.Minute

// Use spends the authorisation on the SHA-256 digest of one document. Errors: Conflict (used already), Forbidden (too late), Invalid (no digest).
func (g *Authorization) Use(digest []byte, now time.Time) error {
	if len(digest) != sha256.Size {
		return fault.New(fault.Invalid, fmt.Sprintf("a document digest has %d bytes, not %d", sha256.Size, len(digest)))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.used {
		return refuse(AuthorisationUsed, fault.Conflict, "the authorisation has been used", "ask for a new one: it is for one document, once")
	}
	// Spent even if it is too late: whoever tries twice gets the same answer.
	g.used = true
	copy(g.digest[:], digest)
	if !now.Before(g.Expires) {
		return refuse(AuthorisationExpired, fault.Forbidden, "the authorisation was not used in time", "ask for a new one")
	}
	return nil
}

// Digest returns what the authorisation was used for; ok is false while it was not.
func (g *Authorization) Digest() (digest [32]byte, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.digest, g.used
}
