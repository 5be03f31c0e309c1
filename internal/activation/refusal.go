package activation

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Codes of the refusals besides the jwt.Reasons: stable, they end as problem types. Each refusal is a *fault.Error with its code.
const (
	UnknownRealm         = "realm-unknown"          // the issuer is not registered
	NoKeys               = "realm-keys-unavailable" // the realm's keys could not be had
	RealmCertificate     = "realm-certificate"      // whoever answered for the realm is not the realm, by its TLS certificate
	RealmChurn           = "realm-keys-churn"       // the realm publishes other keys again and again
	MissingRole          = "role-missing"           // neither clinician nor admin, or not the one that is needed
	ServiceRefused       = "service-account"        // a service account, where the clinic's policy allows none
	WeakLogin            = "acr-too-low"            // acr is not one that the clinic's policy names
	OldLogin             = "login-too-old"          // auth_time is absent, or longer ago than the policy allows
	OtherClinic          = "other-clinic"           // the credential belongs to another clinic
	OtherName            = "name-mismatch"          // the certificate's name is not the clinician's
	Unbound              = "certificate-unbound"    // the credential is bound to nobody yet
	OtherSub             = "certificate-of-another" // the credential is bound to another person
	NoConsent            = "consent-missing"        // no consent, or one in the future
	TokenSpent           = "token-signature-cap"    // the token has signed as often as it may
	TooFast              = "signature-rate"         // more signatures in a minute than the policy allows
	PolicyChanged        = "policy-changed"         // since the authorisation
	AuthorisationUsed    = "authorisation-used"     // an authorisation is for one document, once
	AuthorisationExpired = "authorisation-expired"  // it was not used in time
)

func refuse(code string, k fault.Kind, public, hint string) *fault.Error {
	return fault.New(k, public).WithHint(hint).WithCode(code)
}

// hintFor says what a caller can do about a token that is not believed.
func hintFor(r jwt.Reason) string {
	switch r {
	case jwt.Expired:
		return "log in again, or refresh the token, and send the new one"
	case jwt.NotYet:
		return "the clock of the realm or of the appliance is wrong"
	case jwt.WrongType:
		return "send the access token, not the ID or refresh token"
	case jwt.WrongClient:
		return `let the realm put an accepted audience into the token (an audience mapper), or change the clinic's policy with "appliance clinic policy"`
	case jwt.UnknownKid:
		return "log in again; if that does not help, the realm signs with a key that it does not publish"
	}
	return "send the access token as the realm issued it"
}

// refuseToken is the refusal of a token that jwt does not believe.
func refuseToken(err error) *fault.Error {
	reason, kind := jwt.ReasonOf(err), fault.Unauthorized
	var e *jwt.Error
	public := "the token is not valid"
	if errors.As(err, &e) && e.Text != "" {
		public = e.Text
	}
	if reason == jwt.TooLarge {
		kind = fault.TooLarge
	}
	return refuse(string(reason), kind, public, hintFor(reason)).WithCause(err)
}

// refusedDetails is a line about a refusal. It holds nothing of the token but claims that were verified.
type refusedDetails struct {
	Code        string `json:"code"`
	Clinic      string `json:"clinic,omitempty"`
	Issuer      string `json:"issuer,omitempty"`
	Sub         string `json:"sub,omitempty"`
	Certificate string `json:"certificate_serial,omitempty"`
	Reference   string `json:"reference,omitempty"`  // what the signature was for
	Suppressed  int    `json:"suppressed,omitempty"` // refusals of this kind and origin since the last such line that have none of their own
}

// noteRefusal records a refusal. Whoever can only be refused must not make the log grow without bound: each origin has an allowance of lines, and the
// next line counts what went without.
func (a *Activation) noteRefusal(ctx context.Context, kind, actor string, d refusedDetails, now time.Time) {
	origin := d.Clinic + " " + d.Sub
	ok, suppressed := a.refusals.take(kind, origin, now)
	if !ok {
		return
	}
	// Which clinic a token is for is anybody's word until it is believed: all of those share one more allowance.
	if d.Sub == "" {
		if ok, _ := a.strangers.take(kind, "", now); !ok {
			a.refusals.without(kind, origin, suppressed+1)
			return
		}
	}
	d.Suppressed = suppressed
	// The refusal stands whether or not it could be recorded; a log that takes no lines ends signing by itself.
	if _, err := a.cfg.Ledger.Append(context.WithoutCancel(ctx), ledger.Event{Type: kind, Actor: actor, Details: d}); err != nil {
		a.cfg.Log.ErrorContext(ctx, "a refusal could not be recorded", "code", d.Code, "error", err.Error())
	}
}

// limiter gives each origin an allowance of lines: a burst, then a steady rate.
type limiter struct {
	burst, rate float64 // rate: lines a second

	mu      sync.Mutex
	buckets map[string]*allowance
}

type allowance struct {
	left       float64
	at         time.Time
	suppressed int
}

const (
	refusalBurst   = 30.0
	refusalRate    = 0.2   // lines a second
	strangerBurst  = 120.0 // of all whom no realm vouches for
	strangerRate   = 0.5
	refusalOrigins = 4096 // that are remembered
	changeBurst    = 12.0 // of a realm's keys
	changeRate     = 1.0 / 900
)

func newLimiter(burst, rate float64) *limiter {
	return &limiter{burst: burst, rate: rate, buckets: map[string]*allowance{}}
}

// without takes back that an origin had a line: it goes without, as n do now.
func (l *limiter) without(kind, origin string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.buckets[kind+" "+origin]; b != nil {
		b.suppressed += n
	}
}

// take reports whether there may be a line now, and how many went without since the last.
func (l *limiter) take(kind, origin string, now time.Time) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := kind + " " + origin
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= refusalOrigins {
			l.forget(now)
		}
		if len(l.buckets) >= refusalOrigins { // origins are persons that a realm vouches for: this many refused ones share one allowance
			key = kind
			b = l.buckets[key]
		}
		if b == nil {
			b = &allowance{left: l.burst, at: now}
			l.buckets[key] = b
		}
	}
	if gone := now.Sub(b.at).Seconds(); gone > 0 {
		b.left, b.at = min(l.burst, b.left+gone*l.rate), now
	}
	if b.left < 1 {
		b.suppressed++
		return false, 0
	}
	b.left--
	suppressed, b.suppressed = b.suppressed, 0
	return true, suppressed
}

// forget drops allowances that are whole again and have nothing left to tell. mu is held.
func (l *limiter) forget(now time.Time) {
	for key, b := range l.buckets {
		if b.suppressed == 0 && b.left+now.Sub(b.at).Seconds()*l.rate >= l.burst {
			delete(l.buckets, key)
		}
	}
}
