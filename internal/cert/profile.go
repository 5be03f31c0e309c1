package cert

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are the operator's values in every certificate.
type Settings struct {
	Name           string `json:"name"`                      // stands before "Root CA", "Clinician CA", …; at most 24 characters
	Organization   string `json:"organization"`              // the operator's legal name
	OrganizationID string `json:"organization_id,omitempty"` // EN 319 412-1 §5.1.4, as "NTRGB-01234567"; may be empty
	Country        string `json:"country"`                   // ISO 3166-1 alpha-2
	BaseURL        string `json:"base_url"`                  // "http://pki.example.org": /ca/…, /crl/… and /ocsp are served there, in plain http
	PolicyArc      string `json:"policy_arc,omitempty"`      // dotted; the operator's own, every arc below 2^31; may be empty in a demo
	Demo           bool   `json:"demo,omitempty"`            // certificates carry a name and a policy of their own, so that none is ever taken for real
}

const (
	day  = 24 * time.Hour
	year = 365 * day

	// Backdating is how far before its making a certificate's validity begins: clocks differ. Never before its issuer's.
	Backdating = 2 * time.Minute
)

// demoArc is under the enterprise number that RFC 5612 sets aside for examples.
const demoArc = "1.3.6.1.4.1.32473.2019"

// Bounds are the least, the usual and the greatest validity of a kind of certificate.
type Bounds struct{ Min, Default, Max time.Duration }

// Profile says what one kind of certificate is. It is immutable, and every Profile that a Profiles hands out is right.
type Profile struct {
	kind       Kind
	settings   *Settings
	validity   Bounds
	keyUsage   x509.KeyUsage
	purpose    asn1.ObjectIdentifier // the only extended key usage, or nil
	critical   bool                  // of the extended key usage
	policies   []asn1.ObjectIdentifier
	algorithms []Algorithm
	keyLife    time.Duration // privateKeyUsagePeriod, 0 for none
	crl, ocsp  bool          // CRLDP, and OCSP in the AIA
	noCheck    bool
	maxPathLen int // of a CA; -1 for none
}

// Profiles holds one Profile for each kind.
type Profiles struct {
	settings Settings
	arc      asn1.ObjectIdentifier
	all      map[Kind]Profile
}

// NewProfiles checks the settings, all of them, and returns the profiles that follow from them.
func NewProfiles(s Settings) (*Profiles, error) {
	if s.PolicyArc == "" && s.Demo {
		s.PolicyArc = demoArc
	}
	s.BaseURL = strings.TrimSuffix(s.BaseURL, "/")
	arc, err := s.check()
	if err != nil {
		return nil, fmt.Errorf("cert: settings: %w", err)
	}
	p := &Profiles{settings: s, arc: arc}
	p.all = p.build()
	return p, nil
}

func (s *Settings) check() (asn1.ObjectIdentifier, error) {
	var problems []error
	for _, f := range []struct {
		what string
		text *string
		max  int
	}{{"name", &s.Name, 24}, {"organization", &s.Organization, maxAttribute}} {
		clean, err := CleanText(f.what, *f.text)
		if err == nil && len([]rune(clean)) > f.max {
			err = fmt.Errorf("%s has %d characters, %d are allowed", f.what, len([]rune(clean)), f.max)
		}
		problems = append(problems, err)
		*f.text = clean
	}
	if !isCountry(s.Country) {
		problems = append(problems, fmt.Errorf("country %q is not two capital letters", s.Country))
	}
	if s.OrganizationID != "" && !isOrganizationID(s.OrganizationID) {
		problems = append(problems, fmt.Errorf("organization identifier %q is not of the form NTRGB-01234567", s.OrganizationID))
	}
	if err := checkBaseURL(s.BaseURL); err != nil {
		problems = append(problems, err)
	}
	arc, err := parseArc(s.PolicyArc)
	return arc, errors.Join(append(problems, err)...)
}

func checkBaseURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !isIA5URL(text) {
		// EN 319 412-2 §4.4.1: http, and a fetch of revocation data over TLS would need revocation data.
		return fmt.Errorf("base URL %q is not a plain http://host[/path] in ASCII", text)
	}
	return nil
}

func isIA5URL(text string) bool {
	return len(text) <= 200 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// parseArc reads a dotted OID. Arcs of 2^31 and more, as 2.25.UUID has, are refused: encoding/asn1, and with it time stamps and most
// tools in Go, cannot read them.
func parseArc(text string) (asn1.ObjectIdentifier, error) {
	var arc asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, fmt.Errorf("policy arc %q is not a dotted object identifier with numbers below 2147483648", text)
		}
		arc = append(arc, int(n))
	}
	if len(arc) < 4 || len(arc) > 20 || arc[0] > 2 || (arc[0] < 2 && arc[1] > 39) {
		return nil, fmt.Errorf("policy arc %q is not an organization's object identifier", text)
	}
	if slices.Equal(arc[:4], []int{0, 4, 0, 2042}) || slices.Equal(arc[:4], []int{0, 4, 0, 2023}) {
		return nil, fmt.Errorf("policy arc %q is ETSI's: keys in software do not meet its policies", text)
	}
	return arc, nil
}

// Policy returns the certificate policy of end-entity kinds: arc.1.n of a real appliance, arc.0.n of a demo.
func (p *Profiles) Policy(k Kind) asn1.ObjectIdentifier {
	n := slices.Index([]Kind{Clinician, TSA, OCSP, TLSServer, TLSClient, Report}, k) + 1
	if n == 0 {
		panic("cert: " + string(k) + " has no policy of its own")
	}
	branch := 1
	if p.settings.Demo {
		branch = 0
	}
	return append(slices.Clone(p.arc), branch, n)
}

// TimeStampPolicy returns the policy that time-stamp tokens are issued under (RFC 3161 §2.4.2), beside those of certificates.
func (p *Profiles) TimeStampPolicy() asn1.ObjectIdentifier {
	oid := p.Policy(TSA)
	return append(oid[:len(oid)-1], 100)
}

// CASubject returns the DER name of a CA of this kind.
func (p *Profiles) CASubject(k Kind) []byte { return p.settings.caSubject(k).DER() }

// Settings returns the values the profiles were made from, checked and in normal form.
func (p *Profiles) Settings() Settings { return p.settings }

// For returns the profile of k.
func (p *Profiles) For(k Kind) Profile {
	profile, ok := p.all[k]
	if !ok {
		panic("cert: no such kind: " + string(k))
	}
	return profile
}

// Kind returns what the profile is of.
func (p Profile) Kind() Kind { return p.kind }

// Validity returns the bounds of the certificate's life.
func (p Profile) Validity() Bounds { return p.validity }

// KeyLife returns how long the private key may be used, 0 for as long as the certificate is valid.
func (p Profile) KeyLife() time.Duration { return p.keyLife }

// build states the profiles. This table is the whole of what differs between them; facts about each are checked again, from the
// finished certificate and not from this table, in lint.go.
func (p *Profiles) build() map[Kind]Profile {
	leaf := []Algorithm{ECDSAP256, ECDSAP384, RSA3072, RSA4096}
	caUsage := x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	under := func(kinds ...Kind) (list []asn1.ObjectIdentifier) {
		for _, k := range kinds {
			list = append(list, p.Policy(k))
		}
		return list
	}
	issuing := func(kinds ...Kind) Profile {
		return Profile{validity: Bounds{year, 10 * year, 15 * year}, keyUsage: caUsage, algorithms: leaf, crl: true, maxPathLen: 0, policies: under(append(kinds, OCSP)...)}
	}
	all := map[Kind]Profile{
		Root:             {validity: Bounds{2 * year, 20 * year, 30 * year}, keyUsage: caUsage, algorithms: []Algorithm{ECDSAP384}, maxPathLen: -1},
		ClinicianCA:      issuing(Clinician),
		TimeCA:           issuing(TSA),
		InfrastructureCA: issuing(TLSServer, TLSClient, Report),
		// EN 319 412-2 §4.3.2: type A, nonRepudiation alone. NSS refuses an only EKU of documentSigning, so there is none.
		Clinician: {validity: Bounds{day, 2 * year, 3 * year}, keyUsage: x509.KeyUsageContentCommitment, algorithms: leaf, crl: true, ocsp: true},
		TSA: {validity: Bounds{30 * day, 5 * year, 6 * year}, keyUsage: x509.KeyUsageDigitalSignature, purpose: oidEKUTimeStamping, critical: true,
			algorithms: leaf, keyLife: year, crl: true, ocsp: true},
		OCSP: {validity: Bounds{time.Hour, 30 * day, 30 * day}, keyUsage: x509.KeyUsageDigitalSignature, purpose: oidEKUOCSPSigning,
			algorithms: leaf, noCheck: true},
		TLSServer: {validity: Bounds{time.Hour, 90 * day, 398 * day}, keyUsage: x509.KeyUsageDigitalSignature, purpose: oidEKUServerAuth, algorithms: leaf, crl: true, ocsp: true},
		TLSClient: {validity: Bounds{time.Hour, year, 2 * year}, keyUsage: x509.KeyUsageDigitalSignature, purpose: oidEKUClientAuth, algorithms: leaf, crl: true, ocsp: true},
		// It outlasts the audits that its report is kept for. Without an EKU "openssl cms -verify" takes it as it is.
		Report: {validity: Bounds{day, 5 * year, 6 * year}, keyUsage: x509.KeyUsageDigitalSignature, algorithms: leaf, crl: true, ocsp: true},
	}
	for kind, profile := range all {
		profile.kind, profile.settings = kind, &p.settings
		if !kind.IsCA() {
			profile.policies = under(kind)
		}
		all[kind] = profile
	}
	return all
}
