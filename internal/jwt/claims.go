package jwt

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Claims is what a verified access token says. Text is as the realm wrote it: display names (Name, Username) are editable by their users and
// prove nothing; Sub does.
type Claims struct {
	Issuer, Sub, Username, Name string
	Roles                       []string  // realm roles by name, a client's roles as "client/role"; nil when the token tells none
	ACR                         string    // "" when absent
	AuthTime                    time.Time // of the log-in; zero when absent
	IssuedAt, Expires           time.Time
	NotBefore                   time.Time // zero when absent
	JTI, SID                    string
	AuthorizedParty             string // the client that the token was issued to: azp, else client_id
	Audience                    []string
	Kid, Alg                    string
	ServiceAccount              bool     // a client's own token: no person stands behind it
	TokenHash                   [32]byte // SHA-256 of the token as it came
	InputHash                   [32]byte // SHA-256 of its signing input (RFC 7515 §2): the same for all forms that an ECDSA signature can be brought into
}

// HasRole reports whether the token carries the role: a realm role by name, or "client/role".
func (c Claims) HasRole(role string) bool { return slices.Contains(c.Roles, role) }

// payload is a Keycloak access token, or one after RFC 9068 §2.2.
type payload struct {
	Issuer        string                     `json:"iss"`
	Sub           string                     `json:"sub"`
	Username      string                     `json:"preferred_username"`
	Name          string                     `json:"name"`
	Typ           *string                    `json:"typ"`
	ACR           string                     `json:"acr"`
	AuthTime      *float64                   `json:"auth_time"`
	IssuedAt      *float64                   `json:"iat"`
	NotBefore     *float64                   `json:"nbf"`
	Expires       *float64                   `json:"exp"`
	JTI           string                     `json:"jti"`
	SID           string                     `json:"sid"`
	AZP           string                     `json:"azp"`
	ClientID      string                     `json:"client_id"`
	ClientHost    *string                    `json:"clientHost"`
	ClientAddress *string                    `json:"clientAddress"`
	Audience      audience                   `json:"aud"`
	Realm         *struct{ Roles []string }  `json:"realm_access"`
	Resource      map[string]json.RawMessage `json:"resource_access"`
}

// audience is one string or a list of them (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(raw []byte) error {
	var one string
	if err := json.Unmarshal(raw, &one); err == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// maxText bounds each claim that is kept.
const maxText = 512

// parseClaims reads the payload of a token whose signature is good.
func parseClaims(p parts) (Claims, error) {
	var d payload
	if err := decode(p.payload, &d); err != nil {
		return Claims{}, refuseFor(Malformed, "the token's claims are not what an access token has", err)
	}
	c := Claims{
		Issuer: d.Issuer, Sub: d.Sub, Username: d.Username, Name: d.Name, ACR: d.ACR, JTI: d.JTI, SID: d.SID,
		AuthorizedParty: d.AZP, Audience: d.Audience, Kid: p.header.Kid, Alg: p.header.Alg,
	}
	if c.AuthorizedParty == "" {
		c.AuthorizedParty = d.ClientID
	}
	// Keycloak names the account of a client so, and tells the client's address; RFC 9068 §2.2: without an end user, sub is the client.
	c.ServiceAccount = strings.HasPrefix(strings.ToLower(d.Username), "service-account-") || d.ClientHost != nil || d.ClientAddress != nil ||
		d.Sub != "" && (d.Sub == d.ClientID || d.Sub == d.AZP)
	if err := d.checkType(p.header.Typ); err != nil {
		return c, err
	}
	if err := c.times(d); err != nil {
		return c, err
	}
	if err := c.roles(d); err != nil {
		return c, err
	}
	for name, text := range map[string]string{"sub": c.Sub, "preferred_username": c.Username, "name": c.Name, "acr": c.ACR, "jti": c.JTI, "sid": c.SID, "azp": c.AuthorizedParty} {
		if len(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
			return c, refuse(Malformed, "the token's "+name+" is too long or not text")
		}
	}
	if c.Sub == "" || len(c.Sub) > 255 || strings.Contains(c.Sub, " ") || !printable(c.Sub) { // OpenID Connect Core §2: 255 ASCII characters
		return c, refuse(Malformed, "the token's sub is missing, or is not 1 to 255 printable ASCII characters")
	}
	return c, nil
}

// checkType refuses ID and refresh tokens, which Keycloak marks in the payload. RFC 9068 marks access tokens in the header instead.
func (d payload) checkType(headerTyp string) error {
	if d.Typ == nil && strings.HasSuffix(strings.ToLower(headerTyp), "at+jwt") || d.Typ != nil && *d.Typ == "Bearer" {
		return nil
	}
	if d.Typ == nil {
		return refuse(WrongType, "the token does not say that it is an access token (typ)")
	}
	return refuse(WrongType, fmt.Sprintf("this is a token of type %.20q, not an access token", *d.Typ))
}

// times reads the NumericDates. exp and iat are required (RFC 9068 §2.2).
func (c *Claims) times(d payload) error {
	if d.Expires == nil || d.IssuedAt == nil {
		return refuse(Malformed, "the token does not say when it was issued and when it expires")
	}
	for _, f := range []struct {
		from *float64
		to   *time.Time
	}{{d.Expires, &c.Expires}, {d.IssuedAt, &c.IssuedAt}, {d.AuthTime, &c.AuthTime}, {d.NotBefore, &c.NotBefore}} {
		if f.from == nil || *f.from == 0 && f.from != d.Expires && f.from != d.IssuedAt { // older Keycloaks write 0 for none
			continue
		}
		if *f.from < 1 || *f.from > 1<<40 || math.IsNaN(*f.from) {
			return refuse(Malformed, "a time in the token is out of range")
		}
		*f.to = time.Unix(int64(*f.from), 0).UTC()
	}
	return nil
}

// maxRoles bounds what is kept of roles; a token of MaxToken bytes could hold more.
const maxRoles = 500

// roles gathers realm_access and resource_access.
func (c *Claims) roles(d payload) error {
	if d.Realm != nil {
		c.Roles = append([]string{}, d.Realm.Roles...)
	}
	for client, raw := range d.Resource {
		var r struct{ Roles []string }
		if err := json.Unmarshal(raw, &r); err != nil {
			return refuseFor(Malformed, "the token's resource_access is not what Keycloak writes", err)
		}
		for _, role := range r.Roles {
			c.Roles = append(c.Roles, client+"/"+role)
		}
	}
	if len(c.Roles) > maxRoles {
		return refuse(Malformed, fmt.Sprintf("the token has %d roles, more than %d", len(c.Roles), maxRoles))
	}
	slices.Sort(c.Roles)
	return nil
}

// Check holds the claims against what is expected now. RFC 9068 §4.
func (c Claims) Check(e Expect) error {
	if c.Issuer != e.Issuer {
		return refuse(WrongIssuer, fmt.Sprintf("the token is by issuer %.200q, not by the clinic's realm", c.Issuer))
	}
	if !e.Now.Before(c.Expires.Add(e.Leeway)) {
		return refuse(Expired, "the token expired at "+c.Expires.Format(time.RFC3339))
	}
	for _, from := range []time.Time{c.NotBefore, c.IssuedAt} {
		if e.Now.Add(e.Leeway).Before(from) {
			return refuse(NotYet, "the token is not valid before "+from.Format(time.RFC3339))
		}
	}
	if len(e.Audiences) > 0 && !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(e.Audiences, a) }) {
		return refuse(WrongClient, fmt.Sprintf("the token is for audience %.200q, which the clinic does not accept", strings.Join(c.Audience, " ")))
	}
	if len(e.AuthorizedParties) > 0 && !slices.Contains(e.AuthorizedParties, c.AuthorizedParty) {
		return refuse(WrongClient, fmt.Sprintf("the token was issued to client %.200q, which the clinic does not accept", c.AuthorizedParty))
	}
	return nil
}

// Hash is Claims.TokenHash of a token.
func Hash(token string) [32]byte { return sha256.Sum256([]byte(token)) }
