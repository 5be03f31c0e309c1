package activation

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/veripath/aes-appliance/internal/fault"
)

// What a policy says of tokens of a client's own account, without a person behind them.
const (
	ServiceOff     = "off"     // refused
	ServiceReduced = "reduced" // may sign with the clinic's bound credentials; labelled as no AES
)

// Policy is what one clinic demands. Set it whole: DefaultPolicy is where to begin.
type Policy struct {
	ACRValues           []string `json:"acr_values"`            // a person's token must carry one of them to sign; never empty
	MaxAuthAge          int64    `json:"max_auth_age_seconds"`  // since the log-in (auth_time), for a person to sign
	Audiences           []string `json:"audiences"`             // aud must hold one of them; empty: not looked at
	AuthorizedParties   []string `json:"authorized_parties"`    // azp must be one of them; empty: not looked at. Not both empty
	ServiceAccounts     string   `json:"service_accounts"`      // ServiceOff or ServiceReduced
	ServiceClients      []string `json:"service_clients"`       // the clients whose own accounts ServiceReduced is for
	GivenPDF            bool     `json:"given_pdf"`             // a PDF that the booking app made may be signed
	SignaturesPerToken  int      `json:"signatures_per_token"`  // at most, with one token
	SignaturesPerMinute int      `json:"signatures_per_minute"` // at most, by one person or client
	AdminRole           string   `json:"admin_role"`            // realm role, or "client/role"
	ClinicianRole       string   `json:"clinician_role"`        // likewise
	// TradingNames may stand at the head of a prescription besides the organisation of the clinician's certificate; empty: that alone.
	TradingNames []string `json:"trading_names,omitempty"`
}

// DefaultPolicy is strict: second-level log-in within 12 hours, tokens made for this appliance, no service accounts, no PDFs given.
func DefaultPolicy() Policy {
	return Policy{
		ACRValues: []string{"2"}, MaxAuthAge: 12 * 3600, Audiences: []string{"aes-portal"}, AuthorizedParties: []string{},
		ServiceAccounts: ServiceOff, ServiceClients: []string{"aes-signer-sa"},
		SignaturesPerToken: 200, SignaturesPerMinute: 60, AdminRole: "aes-admin", ClinicianRole: "clinician",
	}
}

// Bounds of a policy.
const (
	maxListed     = 20
	maxValue      = 200
	maxAuthAge    = 30 * 24 * 3600
	maxSignatures = 1_000_000
)

// Check returns everything that is wrong with p in one fault.Invalid, nil when nothing is.
func (p Policy) Check() error {
	var wrong []string
	add := func(bad bool, text string) {
		if bad {
			wrong = append(wrong, text)
		}
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"acr_values", p.ACRValues}, {"audiences", p.Audiences}, {"authorized_parties", p.AuthorizedParties}, {"service_clients", p.ServiceClients}, {"trading_names", p.TradingNames}} {
		add(len(list.values) > maxListed, fmt.Sprintf("%s has more than %d values", list.name, maxListed))
		add(slices.ContainsFunc(list.values, func(v string) bool { return !sensible(v) }), list.name+" holds a value that is empty, too long or not text")
	}
	add(len(p.ACRValues) == 0, "acr_values is empty: name the values that your realm gives to a log-in strong enough to sign")
	add(len(p.Audiences) == 0 && len(p.AuthorizedParties) == 0, "neither audiences nor authorized_parties is set: any client's tokens would do")
	add(p.MaxAuthAge < 1 || p.MaxAuthAge > maxAuthAge, fmt.Sprintf("max_auth_age_seconds is not between 1 and %d", maxAuthAge))
	add(p.ServiceAccounts != ServiceOff && p.ServiceAccounts != ServiceReduced, "service_accounts is neither off nor reduced")
	add(p.ServiceAccounts == ServiceReduced && len(p.ServiceClients) == 0, "service_accounts is reduced, but service_clients names none")
	add(p.SignaturesPerToken < 1 || p.SignaturesPerToken > maxSignatures, fmt.Sprintf("signatures_per_token is not between 1 and %d", maxSignatures))
	add(p.SignaturesPerMinute < 1 || p.SignaturesPerMinute > maxSignatures, fmt.Sprintf("signatures_per_minute is not between 1 and %d", maxSignatures))
	add(!sensible(p.AdminRole) || !sensible(p.ClinicianRole), "a role's name is empty, too long or not text")
	add(p.AdminRole == p.ClinicianRole, "admin_role and clinician_role are the same: whoever signs could issue certificates")
	if wrong == nil {
		return nil
	}
	return fault.New(fault.Invalid, "the policy is not one: "+strings.Join(wrong, "; "))
}

func sensible(v string) bool {
	return v != "" && len(v) <= maxValue && utf8.ValidString(v) && v == strings.TrimSpace(v) &&
		!strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c == 0x7f })
}
