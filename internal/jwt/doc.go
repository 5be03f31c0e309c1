// Package jwt turns a realm's access token into verified claims. It is pure: the time and the realm's keys are arguments.
//
// A token is believed only in this order: its form, an algorithm from a fixed list that fits the type of the key named by kid, the signature
// by that key, and then its claims (RFC 9068 §4, RFC 8725 §3). Nothing in a token says where a key is to be had: headers that try (jwk, jku,
// x5c, x5u) are refused.
package jwt

import "errors"

// Limits of what is looked at.
const (
	MaxToken = 16 << 10  // bytes of a token in compact form
	MaxJWKS  = 256 << 10 // bytes of a JWK set
	MaxKeys  = 100       // keys in a JWK set, of any kind
)

// Reason says why a token or a set of keys is refused. The values are stable: they end as problem types.
type Reason string

// The reasons.
const (
	Malformed    Reason = "token-malformed"     // not a JWT of the form that access tokens have
	TooLarge     Reason = "token-too-large"     // more than MaxToken bytes
	BadAlgorithm Reason = "token-algorithm"     // alg is not allowed, or does not fit the key
	UnknownKid   Reason = "token-unknown-key"   // the realm has no such key
	BadSignature Reason = "token-signature"     // the key that kid names did not sign it
	WrongIssuer  Reason = "token-issuer"        // iss is not exactly the realm's
	Expired      Reason = "token-expired"       // exp has passed
	NotYet       Reason = "token-not-yet-valid" // nbf or iat is in the future
	WrongType    Reason = "token-type"          // an ID or refresh token, or something else that is no access token
	WrongClient  Reason = "token-audience"      // issued for another audience or to another client than the clinic accepts
	BadKeys      Reason = "realm-keys"          // a JWK set that cannot be used
)

// Error is a refusal. Errors of the same Reason are equal to errors.Is.
type Error struct {
	Reason Reason
	Text   string // what is wrong, with what operand; may be shown to whoever sent the token
	Cause  error  // for the log
}

// Refusals to compare with, by errors.Is.
var (
	ErrMalformed  = &Error{Reason: Malformed}
	ErrTooLarge   = &Error{Reason: TooLarge}
	ErrAlgorithm  = &Error{Reason: BadAlgorithm}
	ErrUnknownKid = &Error{Reason: UnknownKid}
	ErrSignature  = &Error{Reason: BadSignature}
	ErrIssuer     = &Error{Reason: WrongIssuer}
	ErrExpired    = &Error{Reason: Expired}
	ErrNotYet     = &Error{Reason: NotYet}
	ErrType       = &Error{Reason: WrongType}
	ErrAudience   = &Error{Reason: WrongClient}
	ErrKeys       = &Error{Reason: BadKeys}
)

// Error returns the text and the cause: for logs.
func (e *Error) Error() string {
	text := e.Text
	if text == "" {
		text = string(e.Reason)
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return "jwt: " + text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is a refusal for the same reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// ReasonOf returns why err refuses, "" when it is no refusal of this package.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func refuse(r Reason, text string) error { return &Error{Reason: r, Text: text} }

func refuseFor(r Reason, text string, cause error) error {
	return &Error{Reason: r, Text: text, Cause: cause}
}
