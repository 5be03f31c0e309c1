package activation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/jwt"
)

// Kind is what sort of caller someone is.
type Kind string

// The kinds of caller.
const (
	Clinician Kind = "clinician" // a person with the clinician role; may be an administrator as well
	Service   Kind = "service"   // a client's own account: reduced evidence
	Admin     Kind = "admin"     // a person with the admin role alone
)

// Caller is who a token speaks for, as of the time it was authenticated.
type Caller struct {
	Clinic string
	Kind   Kind
	Admin  bool // holds the admin role; whether it may be used now is for RequireAdmin to say
	jwt.Claims
	KeyThumbprint string // of the realm's key that verified the token (RFC 7638)
	Policy        Policy // the clinic's, when the token was verified
}

// Actor returns how the log names the caller.
func (c Caller) Actor() string {
	if c.Sub == "" {
		return unknown
	}
	return c.Sub
}

// unknown is the actor of whom no realm has vouched for.
const unknown = "unknown"

// Authenticate returns whom an access token speaks for. The issuer is looked up among the registered ones: one that is not there causes nothing but
// a refusal. Each refusal is an event.
//
// Errors: *NeedKeys (see there); Unauthorized (the token is not to be believed), Forbidden (it is, but its holder has no part here),
// Unavailable (the realm's keys could not be had; what the time is decides, and it is not proven).
func (a *Activation) Authenticate(ctx context.Context, token string, now time.Time) (Caller, error) {
	issuer, err := a.believed.issuer(token)
	if err != nil {
		return Caller{}, a.disbelieve(ctx, refuseToken(err), refusedDetails{}, now)
	}
	r, err := a.realm(issuer)
	if err != nil {
		no := refuse(UnknownRealm, fault.Unauthorized, "the token's issuer is not the realm of a registered clinic",
			`register the realm with "appliance realm add", exactly as the token has it in iss`)
		return Caller{}, a.disbelieve(ctx, no, refusedDetails{}, now)
	}
	clinic, err := a.Clinic(r.Clinic)
	if err != nil {
		return Caller{}, err
	}
	id := refusedDetails{Clinic: r.Clinic, Issuer: issuer}
	claims, key, err := a.verify(ctx, r, token, clinic.Policy, now)
	var need *NeedKeys
	var no *fault.Error
	switch {
	case errors.As(err, &need):
		return Caller{}, err
	case errors.As(err, &no):
		if err := a.undecided(no, now); err != nil {
			return Caller{}, err
		}
		return Caller{}, a.disbelieve(ctx, no, id, now)
	case err != nil:
		return Caller{}, err
	}
	c := Caller{Clinic: r.Clinic, Claims: claims, KeyThumbprint: key.Thumbprint, Policy: clinic.Policy}
	if no := c.classify(); no != nil {
		id.Sub = c.Sub
		a.noteRefusal(ctx, eventRefused, c.Actor(), id.with(no), now)
		return Caller{}, no
	}
	return c, nil
}

// undecided returns why a refusal on account of the time cannot be told: it may be another time than now. nil when it stands.
func (a *Activation) undecided(no *fault.Error, now time.Time) error {
	switch {
	case a.cfg.Unproven == nil || !slices.Contains([]string{string(jwt.Expired), string(jwt.NotYet), OldLogin}, no.Code):
		return nil
	case no.Code != string(jwt.NotYet) && a.cfg.Reached(now): // what had ended by then has ended
		return nil
	}
	return a.cfg.Unproven()
}

func (d refusedDetails) with(no *fault.Error) refusedDetails {
	d.Code = no.Code
	return d
}

// disbelieve records that a token was not believed and returns why.
func (a *Activation) disbelieve(ctx context.Context, no *fault.Error, d refusedDetails, now time.Time) error {
	a.noteRefusal(ctx, eventTokenRefused, unknown, d.with(no), now)
	return no
}

// verify verifies a token with the realm's keys, having them fetched when that is due.
func (a *Activation) verify(ctx context.Context, r *realm, token string, p Policy, now time.Time) (jwt.Claims, jwt.Key, error) {
	e := jwt.Expect{Issuer: r.Issuer, Now: now, Leeway: a.cfg.Timing.Leeway, Audiences: p.Audiences, AuthorizedParties: p.AuthorizedParties}
	w := wantFresh
	for try := 0; ; try++ {
		keys, fetch, wait := r.keys.get(w, now, a.cfg.Timing)
		if fetch {
			return jwt.Claims{}, jwt.Key{}, &NeedKeys{Issuer: r.Issuer, Address: r.where.address}
		}
		claims, key, err := a.believed.read(token, keys)
		if err == nil {
			err = claims.Check(e)
		}
		if err == nil {
			return claims, key, nil
		}
		if !errors.Is(err, jwt.ErrUnknownKid) {
			return jwt.Claims{}, jwt.Key{}, refuseToken(err)
		}
		if try == 0 && w == wantFresh && keys.Len() > 0 {
			w = wantKid
			continue // asks again, now for the sake of the unknown kid
		}
		if wait != nil && try < 2 && r.keys.await(ctx, wait, a.cfg.Timing.Await) {
			continue
		}
		if keys.Len() == 0 {
			return jwt.Claims{}, jwt.Key{}, refuse(NoKeys, fault.Unavailable, "the keys of the token's realm could not be fetched",
				"try again; if it lasts: is the realm up, and can the appliance reach it?")
		}
		return jwt.Claims{}, jwt.Key{}, refuseToken(err)
	}
}

// classify says what sort of caller it is, or why none.
func (c *Caller) classify() *fault.Error {
	p := c.Policy
	clinician := c.HasRole(p.ClinicianRole)
	if c.ServiceAccount {
		if p.ServiceAccounts != ServiceReduced {
			return refuse(ServiceRefused, fault.Forbidden, "the token is a service account's, and the clinic's policy accepts none",
				"send the clinician's own access token: a service account cannot sign for a person (regulation 219(5))")
		}
		if !slices.Contains(p.ServiceClients, c.AuthorizedParty) {
			return refuse(ServiceRefused, fault.Forbidden, fmt.Sprintf("the clinic's policy does not name the service account of client %.100q", c.AuthorizedParty),
				`add the client with "appliance clinic policy", or send the clinician's own access token`)
		}
		if !clinician {
			return missing(c.Claims, p.ClinicianRole)
		}
		c.Kind = Service
		return nil
	}
	c.Admin = c.HasRole(p.AdminRole)
	switch {
	case clinician:
		c.Kind = Clinician
	case c.Admin:
		c.Kind = Admin
	default:
		return missing(c.Claims, p.ClinicianRole)
	}
	return nil
}

func missing(c jwt.Claims, role string) *fault.Error {
	hint := "give the user the role in the realm, then log in again"
	if c.Roles == nil {
		hint = "the token tells no roles at all: is it a lightweight access token? Turn that off for the client, or add the roles scope"
	}
	return refuse(MissingRole, fault.Forbidden, fmt.Sprintf("the token does not have the role %q", role), hint)
}

// RequireAdmin says whether the caller may administer now: a person with the admin role who has logged in as strongly, and as lately, as the clinic's
// policy wants of those who sign. act is what for, for the log. Errors: Forbidden, Unauthorized.
func (a *Activation) RequireAdmin(ctx context.Context, c Caller, act string, now time.Time) error {
	if !c.Admin {
		return a.refuseAct(ctx, c, act, missing(c.Claims, c.Policy.AdminRole), now)
	}
	return a.RequireLogin(ctx, c, act, now)
}

// RequireLogin says whether the caller has logged in as strongly, and as lately, as the clinic's policy wants of those who sign. act is what for, for the log.
// Errors: Forbidden, Unauthorized, Unavailable (the time is not proven).
func (a *Activation) RequireLogin(ctx context.Context, c Caller, act string, now time.Time) error {
	if no := c.freshLogin(now, a.cfg.Timing.Leeway); no != nil {
		if err := a.undecided(no, now); err != nil && !c.AuthTime.IsZero() {
			return err
		}
		return a.refuseAct(ctx, c, act, no, now)
	}
	return nil
}

// refuseAct records that somebody known may not do something, and returns why.
func (a *Activation) refuseAct(ctx context.Context, c Caller, act string, no *fault.Error, now time.Time) error {
	d := refusedDetails{Clinic: c.Clinic, Issuer: c.Issuer, Sub: c.Sub, Reference: act}
	a.noteRefusal(ctx, eventRefused, c.Actor(), d.with(no), now)
	return no
}

// freshLogin checks acr and auth_time. Keycloak lets users lower their acr, so it is looked at every time.
func (c Caller) freshLogin(now time.Time, leeway time.Duration) *fault.Error {
	if !slices.Contains(c.Policy.ACRValues, c.ACR) || c.ACR == "" {
		return refuse(WeakLogin, fault.Forbidden, fmt.Sprintf("the log-in was of level %q (acr), which the clinic does not accept for this", c.ACR),
			fmt.Sprintf("log in again with acr_values=%s", c.Policy.ACRValues[0]))
	}
	age := time.Duration(c.Policy.MaxAuthAge) * time.Second
	switch {
	case c.AuthTime.IsZero():
		return refuse(OldLogin, fault.Forbidden, "the token does not say when its holder logged in (auth_time)", "add the basic scope to the client, then log in again")
	case now.Sub(c.AuthTime) > age+leeway:
		return refuse(OldLogin, fault.Unauthorized, "the log-in at "+c.AuthTime.Format(time.RFC3339)+" is longer ago than the clinic accepts", "log in again")
	case c.AuthTime.After(now.Add(leeway)):
		return refuse(OldLogin, fault.Unauthorized, "the token says that its holder logs in in the future (auth_time)", "the clock of the realm or of the appliance is wrong")
	}
	return nil
}
