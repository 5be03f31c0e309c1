// Package fault gives an error a kind, a text that may be shown to whoever asked, and a cause that may not.
//
// Inside the program errors are wrapped with %w as usual; a fault.Error is made where the text for the outside is known. Edges (command
// line, API, RFC 3161 responses) look at KindOf, PublicOf and HintOf and at nothing else.
package fault

import "errors"

// Kind says what sort of failure an error is; one table at each edge maps it to exit codes, HTTP statuses or RFC 3161 failInfo.
type Kind uint8

const (
	Internal     Kind = iota // a broken invariant or an unforeseen error; also the kind of every error that has none
	Invalid                  // the input is wrong, and the text says how
	NotFound                 // what was named does not exist
	Conflict                 // it exists already, with other content
	Unauthorized             // who asks is not known
	Forbidden                // who asks may not do this, or the document forbids it
	TooLarge                 // a limit was exceeded
	Unsupported              // understood, but not dealt with here
	Unavailable              // cannot be done now; trying again later may help
	Corrupt                  // what was stored is not what was written
)

var names = [...]string{"internal", "invalid", "not-found", "conflict", "unauthorized", "forbidden", "too-large", "unsupported", "unavailable", "corrupt"}

// String returns the kind's stable name, as used in logs and problem types.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return names[Internal]
}

// ParseKind returns the kind of that name, Internal for a name that is none. ParseKind(k.String()) == k.
func ParseKind(name string) Kind {
	for k, n := range names {
		if n == name {
			return Kind(k)
		}
	}
	return Internal
}

// Error is an error for the outside. Public and Hint hold no secret and no path of the cause; Cause goes to the log only.
type Error struct {
	Kind   Kind
	Code   string // names this very failure where clients tell it from others of its kind: lower case and hyphens, never changed; may be empty
	Public string // what is wrong, one sentence without a full stop
	Hint   string // what to do about it; may be empty
	Cause  error
}

// New returns an Error of kind k with the text that may be shown.
func New(k Kind, public string) *Error { return &Error{Kind: k, Public: public} }

// WithHint returns a copy of e that says what to do.
func (e *Error) WithHint(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

// WithCode returns a copy of e with the name by which clients know it.
func (e *Error) WithCode(code string) *Error {
	c := *e
	c.Code = code
	return &c
}

// WithCause returns a copy of e that wraps err.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.Cause = err
	return &c
}

// Error returns the public text followed by the cause: for logs, not for the outside.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Public + ": " + e.Cause.Error()
	}
	return e.Public
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of the outermost fault.Error in err's tree, Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// PublicOf returns the text that may be shown for err; an error without one is only called internal.
func PublicOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Public
	}
	return "internal error"
}

// HintOf returns what to do about err, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// CodeOf returns the stable name of err, or "".
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
