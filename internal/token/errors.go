package token

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// p11Error gives a PKCS#11 return value a kind and says during what it came. It never holds a PIN or key material.
func p11Error(during string, err error) error {
	if err == nil {
		return nil
	}
	cause := fmt.Errorf("%s: %w", during, err)
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		return cause
	}
	switch uint(rv) {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
		return fault.New(fault.Unauthorized, "the token refused the PIN").
			WithHint("token.pin_file in the configuration names the file that must hold the PIN with which the token was made").WithCause(cause)
	case pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return fault.New(fault.Unauthorized, "the token's PIN is locked, expired or not set").
			WithHint("unlock it with the security officer's PIN and the vendor's tool").WithCause(cause)
	case pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_SESSION_COUNT,
		pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_TOKEN_NOT_PRESENT,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return fault.New(fault.Unavailable, "the token does not answer as it should").
			WithHint("start again; if that does not help, see with --verbose what the token says").WithCause(cause)
	}
	return fault.New(fault.Internal, "the token refused an operation").WithCause(cause)
}

// openError tells the ways apart in which crypto11.Configure fails.
func openError(cfg Config, err error) error {
	var rv pkcs11.Error
	switch {
	case errors.As(err, &rv):
		return p11Error("initialising the PKCS#11 module", err)
	case strings.Contains(err.Error(), "could not find PKCS#11 token"):
		return noToken(cfg.Label).WithCause(err)
	case strings.Contains(err.Error(), "failed to open module"):
		return fault.New(fault.NotFound, "the PKCS#11 module cannot be loaded").
			WithHint(moduleHint).
			WithCause(fmt.Errorf("%s: %w", cfg.Module, err))
	}
	return fault.New(fault.Unavailable, "the PKCS#11 module does not start").WithCause(err)
}

func noToken(label string) *fault.Error {
	return fault.New(fault.NotFound, fmt.Sprintf("no token is labelled %q", label)).
		WithHint("correct token.label in the configuration: it is the label with which the token was made")
}

// refused gives an error of the operating system a text for the outside; others, and those that have one, stay as they are.
func refused(err error) error {
	var told *fault.Error
	public, hint := durable.Explain(err)
	if public == "" || errors.As(err, &told) {
		return err
	}
	return fault.New(fault.Unavailable, public).WithHint(hint).WithCause(err)
}
