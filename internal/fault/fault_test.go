package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

func TestOutermostFaultSpeaks(t *testing.T) {
	secret := errors.New("pin 1234 refused")
	inner := fault.New(fault.NotFound, "no such key").WithCause(secret)
	err := fmt.Errorf("signing: %w", fault.New(fault.Unavailable, "the token is busy").WithHint("try again").WithCause(inner))

	if got := fault.KindOf(err); got != fault.Unavailable {
		t.Errorf("kind = %v", got)
	}
	if got := fault.PublicOf(err); got != "the token is busy" {
		t.Errorf("public = %q", got)
	}
	if got := fault.HintOf(err); got != "try again" {
		t.Errorf("hint = %q", got)
	}
	if !errors.Is(err, secret) {
		t.Error("the cause is lost to the log")
	}
}

func TestErrorWithoutFaultShowsNothing(t *testing.T) {
	err := errors.New("open /var/lib/secret: denied")
	if got := fault.PublicOf(err); got != "internal error" {
		t.Errorf("public = %q", got)
	}
	if got := fault.KindOf(err); got != fault.Internal {
		t.Errorf("kind = %v", got)
	}
	if fault.HintOf(err) != "" || fault.KindOf(nil) != fault.Internal {
		t.Error("nothing known must stay nothing")
	}
}

func TestWithDoesNotChangeTheOriginal(t *testing.T) {
	base := fault.New(fault.Invalid, "x")
	_ = base.WithHint("h").WithCause(errors.New("c"))
	if base.Hint != "" || base.Cause != nil {
		t.Error("a shared fault was changed")
	}
}

func TestKindsAreFoundByTheirNames(t *testing.T) {
	for k := fault.Internal; k <= fault.Corrupt; k++ {
		if got := fault.ParseKind(k.String()); got != k {
			t.Errorf("ParseKind(%q) = %v", k.String(), got)
		}
	}
	if fault.ParseKind("nonsense") != fault.Internal {
		t.Error("an unknown name must be internal")
	}
}

func TestCodeIsTheOutermostErrors(t *testing.T) {
	inner := fault.New(fault.Unauthorized, "x").WithCode("token-expired")
	if got := fault.CodeOf(fmt.Errorf("y: %w", inner)); got != "token-expired" {
		t.Errorf("code = %q", got)
	}
	if got := fault.CodeOf(fault.New(fault.Invalid, "z").WithCause(inner)); got != "" {
		t.Errorf("code of an error around another = %q", got)
	}
	if fault.CodeOf(errors.New("x")) != "" || inner.Code == "" {
		t.Error("an error without a code has one")
	}
}
