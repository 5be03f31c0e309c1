package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// Expect is what a token must say.
type Expect struct {
	Issuer            string        // exactly
	Now               time.Time     // the time to judge by
	Leeway            time.Duration // between the realm's clock and Now; 0 is none
	Audiences         []string      // aud must hold one of them; none given: any or no aud
	AuthorizedParties []string      // azp must be one of them; none given: any
}

// header is the JOSE header as far as it matters.
type header struct {
	Alg  string          `json:"alg"`
	Kid  string          `json:"kid"`
	Typ  string          `json:"typ"`
	Crit json.RawMessage `json:"crit"`
	JWK  json.RawMessage `json:"jwk"`
	JKU  json.RawMessage `json:"jku"`
	X5C  json.RawMessage `json:"x5c"`
	X5U  json.RawMessage `json:"x5u"`
	Zip  json.RawMessage `json:"zip"`
}

// parts is a token taken apart, nothing of it verified.
type parts struct {
	header  header
	payload []byte
}

// split takes a compact JWS apart (RFC 7515 §7.1): three parts in strict base64url, the first two JSON objects.
func split(token string) (parts, error) {
	var p parts
	if len(token) > MaxToken {
		return p, refuse(TooLarge, fmt.Sprintf("the token has %d bytes, more than %d", len(token), MaxToken))
	}
	first, rest, ok1 := strings.Cut(token, ".")
	second, third, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || strings.Contains(third, ".") {
		return p, refuse(Malformed, "the token does not have three parts")
	}
	b64 := base64.RawURLEncoding.Strict()
	raw, err := b64.DecodeString(first)
	if err != nil || strings.ContainsAny(token, "\r\n") { // the decoder passes over line ends
		return p, refuseFor(Malformed, "the token's header is not base64url", err)
	}
	if p.payload, err = b64.DecodeString(second); err != nil {
		return p, refuseFor(Malformed, "the token's payload is not base64url", err)
	}
	if _, err := b64.DecodeString(third); err != nil {
		return p, refuseFor(Malformed, "the token's signature is not base64url", err)
	}
	if err := decode(raw, &p.header); err != nil {
		return p, refuseFor(Malformed, "the token's header is not a JSON object", err)
	}
	return p, nil
}

// Issuer returns what a token claims as its issuer, unverified: only to look it up among the issuers that are registered.
func Issuer(token string) (string, error) {
	p, err := split(token)
	if err != nil {
		return "", err
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := decode(p.payload, &c); err != nil {
		return "", refuseFor(Malformed, "the token's payload is not a JSON object", err)
	}
	if c.Issuer == "" {
		return "", refuse(Malformed, "the token names no issuer")
	}
	return c.Issuer, nil
}

// Verify returns the claims of an access token that one of keys signed and that is as expected. Every error is an *Error with its Reason.
func Verify(token string, keys Keys, e Expect) (Claims, error) {
	c, err := Read(token, keys)
	if err != nil {
		return c, err
	}
	return c, c.Check(e)
}

// Read returns the claims of an access token that one of keys signed: the part of Verify that says the same of the same token and key for ever. Nothing
// in them counts before Check. Every error is an *Error with its Reason.
func Read(token string, keys Keys) (Claims, error) {
	p, err := split(token)
	if err != nil {
		return Claims{}, err
	}
	if err := p.header.check(); err != nil {
		return Claims{}, err
	}
	key, ok := keys.Find(p.header.Kid)
	if !ok {
		return Claims{}, refuse(UnknownKid, "the token is signed with a key that its realm does not publish")
	}
	if err := key.verify(token, p.header.Alg); err != nil {
		return Claims{}, err
	}
	c, err := parseClaims(p)
	if err != nil {
		return Claims{}, err
	}
	c.TokenHash, c.InputHash = Hash(token), Hash(token[:strings.LastIndexByte(token, '.')])
	return c, nil
}

// check refuses what no realm's access token has. RFC 8725 §3.1, §3.11; RFC 9068 §2.1.
func (h header) check() error {
	if !allowed(h.Alg) {
		return refuse(BadAlgorithm, fmt.Sprintf("tokens signed with alg %.20q are not accepted", h.Alg))
	}
	if h.Crit != nil || h.Zip != nil {
		return refuse(Malformed, "the token's header has extensions that are not understood (crit, zip)") // RFC 7515 §4.1.11
	}
	if h.JWK != nil || h.JKU != nil || h.X5C != nil || h.X5U != nil {
		return refuse(Malformed, "the token's header brings its own key")
	}
	if h.Kid == "" {
		return refuse(Malformed, "the token's header names no key (kid)")
	}
	switch strings.TrimPrefix(strings.ToLower(h.Typ), "application/") {
	case "jwt", "at+jwt":
		return nil
	}
	return refuse(WrongType, fmt.Sprintf("the token's header says typ %.20q, which is no access token", h.Typ))
}

// allowed reports whether alg is an asymmetric algorithm in use: never none, never HS.
func allowed(alg string) bool {
	return slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}, alg)
}

// fits reports whether alg is one for this type of key. RFC 7518 §3.4 ties a curve to one hash.
func fits(alg string, pub crypto.PublicKey) bool {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[p.Params().Name] == alg
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// verify checks the signature with this key alone.
func (k Key) verify(token, alg string) error {
	if k.Algorithm != "" && k.Algorithm != alg || !fits(alg, k.Public) {
		return refuse(BadAlgorithm, fmt.Sprintf("alg %s does not fit the realm's key %.80q", alg, k.ID))
	}
	if _, err := jws.Verify([]byte(token), jws.WithKey(jwa.SignatureAlgorithm(alg), k.Public)); err != nil {
		return refuseFor(BadSignature, "the token's signature is not by the realm's key", err)
	}
	return nil
}
