package wire

import (
	"context"
	"errors"

	"github.com/veripath/aes-appliance/internal/fault"
)

// NeedDial is the answer of an operation that cannot go on before the signer has had a connection to Address (host:port, TCP): dial it, hand
// the connection over with OpRealmKeys for Issuer, and repeat the operation. Its kind is fault.Unavailable.
type NeedDial struct {
	Issuer  string `json:"issuer"`
	Address string `json:"address"`
}

// Error implements error.
func (n *NeedDial) Error() string {
	return "a connection to " + n.Address + " is needed for " + n.Issuer
}

// Unwrap gives the error its kind and public text.
func (n *NeedDial) Unwrap() error {
	return fault.New(fault.Unavailable, "the keys of the realm are not known yet").WithHint("try again in a moment").WithCode("realm-keys-unavailable")
}

// failure is an error on its way to the other process: what fault lets out, and never the cause.
type failure struct {
	Kind   string    `json:"kind"`
	Code   string    `json:"code,omitempty"`
	Public string    `json:"public"`
	Hint   string    `json:"hint,omitempty"`
	Dial   *NeedDial `json:"dial,omitempty"`
}

func newFailure(err error) *failure {
	if fault.KindOf(err) == fault.Internal && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		err = fault.New(fault.Unavailable, "the operation took too long").WithHint("try again").WithCode("timeout").WithCause(err)
	}
	f := &failure{Kind: fault.KindOf(err).String(), Code: fault.CodeOf(err), Public: fault.PublicOf(err), Hint: fault.HintOf(err)}
	errors.As(err, &f.Dial)
	return f
}

// err returns the error as the caller meets it: a *fault.Error, whose cause is a *NeedDial when a connection is asked for.
func (f *failure) err() error {
	e := &fault.Error{Kind: fault.ParseKind(f.Kind), Code: f.Code, Public: f.Public, Hint: f.Hint}
	if f.Dial != nil {
		e.Cause = f.Dial
	}
	return e
}
