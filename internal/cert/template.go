package cert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"time"
)

// Request is what one certificate is to say beyond its profile.
type Request struct {
	Subject   Subject // of a person or a TLS peer; other kinds name themselves
	PublicKey crypto.PublicKey
	Validity  time.Duration // 0 for the profile's default, cut short at the issuer's end; any other is refused if it does not fit
	DNSNames  []string      // TLS only
	Addresses []netip.Addr  // TLS only
}

// Template returns the fields of a new certificate, for Linter.Sign to sign. issuer is nil for the root only. rand gives the serial.
func (p Profile) Template(r Request, issuer *x509.Certificate, now time.Time, rand io.Reader) (*x509.Certificate, error) {
	t, err := p.template(r, issuer, now, rand)
	if err != nil {
		return nil, fmt.Errorf("cert: %s certificate: %w", p.kind, err)
	}
	return t, nil
}

func (p Profile) template(r Request, issuer *x509.Certificate, now time.Time, rand io.Reader) (*x509.Certificate, error) {
	if (issuer == nil) != (p.kind == Root) {
		return nil, errors.New("the root has no issuer, and everything else has one")
	}
	algorithm, err := AlgorithmOf(r.PublicKey)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.algorithms, algorithm) {
		return nil, fmt.Errorf("a key of %s is not allowed, %v are", algorithm, p.algorithms)
	}
	ski, err := SubjectKeyID(r.PublicKey)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SubjectKeyId: ski, KeyUsage: p.keyUsage, BasicConstraintsValid: p.kind.IsCA(), IsCA: p.kind.IsCA()}
	if t.SerialNumber, err = NewSerial(rand); err != nil {
		return nil, err
	}
	if err := p.setSubject(t, r.Subject, issuer); err != nil {
		return nil, err
	}
	if err := p.setValidity(t, r.Validity, issuer, now); err != nil {
		return nil, err
	}
	if err := p.setNames(t, r); err != nil {
		return nil, err
	}
	if p.kind.IsCA() {
		t.MaxPathLen, t.MaxPathLenZero = p.maxPathLen, p.maxPathLen == 0
	}
	signer := r.PublicKey
	if issuer != nil {
		signer = issuer.PublicKey
		p.setIssuerPointers(t, issuer)
	}
	if t.SignatureAlgorithm, _, err = AlgorithmFor(signer); err != nil {
		return nil, err
	}
	if len(p.policies) > 0 {
		t.ExtraExtensions = append(t.ExtraExtensions, certificatePolicies(p.policies))
	}
	if p.purpose != nil {
		t.ExtraExtensions = append(t.ExtraExtensions, extendedKeyUsage(p.purpose, p.critical))
	}
	if p.noCheck {
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidOCSPNoCheck, Value: []byte{5, 0}}) // RFC 6960 §4.2.2.2.1: NULL
	}
	if p.keyLife > 0 {
		end := t.NotBefore.Add(p.keyLife)
		if end.After(t.NotAfter) {
			end = t.NotAfter
		}
		t.ExtraExtensions = append(t.ExtraExtensions, privateKeyUsagePeriod(t.NotBefore, end))
	}
	return t, nil
}

// setIssuerPointers says where the issuer's certificate, its list and its responder are.
func (p Profile) setIssuerPointers(t *x509.Certificate, issuer *x509.Certificate) {
	name := FileName(p.issuerKind(issuer), issuer)
	t.IssuingCertificateURL = []string{p.settings.BaseURL + "/ca/" + name + ".cer"}
	if p.crl {
		t.CRLDistributionPoints = []string{p.settings.BaseURL + "/crl/" + name + ".crl"}
	}
	if p.ocsp {
		t.OCSPServer = []string{p.settings.BaseURL + "/ocsp"}
	}
}

// FileName returns the name, without suffix, under which a CA's certificate and list are published: its kind and the first half of
// its key identifier, so that a CA's successor never takes its place.
func FileName(k Kind, ca *x509.Certificate) string {
	return string(k) + "-" + hex.EncodeToString(ca.SubjectKeyId[:min(8, len(ca.SubjectKeyId))])
}

// issuerKind returns the kind of the CA that issues this certificate; for OCSP responders it is told from the issuer's name.
func (p Profile) issuerKind(issuer *x509.Certificate) Kind {
	if k := p.kind.Issuer(); k != "" {
		return k
	}
	for _, k := range IssuingCAs() {
		if bytes.Equal(issuer.RawSubject, p.settings.caSubject(k).DER()) {
			return k
		}
	}
	return ""
}

// caSubject returns the name of a CA. A demo's says so first.
func (s *Settings) caSubject(k Kind) Subject {
	title := map[Kind]string{Root: "Root CA", ClinicianCA: "Clinician CA", TimeCA: "Time CA", InfrastructureCA: "Infrastructure CA"}[k]
	return s.own(title)
}

// own returns the name of something of the operator's.
func (s *Settings) own(title string) Subject {
	name := s.Name + " " + title
	if s.Demo {
		name = "DEMO ONLY " + name
	}
	return Subject{Country: s.Country, Organization: s.Organization, OrganizationID: s.OrganizationID, CommonName: name}
}

// setSubject fills in the name: a CA's, TSA's or responder's own, a person's or TLS peer's as asked.
func (p Profile) setSubject(t *x509.Certificate, s Subject, issuer *x509.Certificate) error {
	if issuer != nil {
		k := p.issuerKind(issuer)
		if k == "" || !bytes.Equal(issuer.RawSubject, p.settings.caSubject(k).DER()) {
			return fmt.Errorf("%q does not issue it", issuer.Subject.CommonName)
		}
	}
	tag := hex.EncodeToString(t.SubjectKeyId[:4])
	switch p.kind {
	case Root, ClinicianCA, TimeCA, InfrastructureCA:
		s = p.settings.caSubject(p.kind)
	case TSA:
		s = p.settings.own("TSU " + tag) // EN 319 422: each time-stamping unit is named apart
	case Report:
		s = p.settings.own("Report " + tag)
	case OCSP:
		s = p.settings.own(map[Kind]string{ClinicianCA: "Clinician", TimeCA: "Time", InfrastructureCA: "Infrastructure"}[p.issuerKind(issuer)] + " OCSP " + tag)
	}
	s, err := s.Clean()
	if err != nil {
		return err
	}
	if err := p.checkSubject(s); err != nil {
		return err
	}
	t.RawSubject = s.DER()
	if p.kind == Clinician && s.SerialNumber != "" {
		id, err := ParsePersonID(s.SerialNumber)
		if err != nil {
			return err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, qcStatements(id.authority()))
	}
	return nil
}

func (p Profile) checkSubject(s Subject) error {
	if s.CommonName == "" {
		return errors.New("common name is missing")
	}
	if p.kind != Clinician {
		if s.GivenName != "" || s.Surname != "" || s.SerialNumber != "" {
			return errors.New("given name, surname and serial number are for persons")
		}
		return nil
	}
	// EN 319 412-2 §4.2.4: countryName, commonName, and givenName or surname.
	if s.Country == "" || s.GivenName == "" && s.Surname == "" {
		return errors.New("country, and given name or surname, are missing")
	}
	if s.OrganizationID != "" {
		return errors.New("a person has no organization identifier")
	}
	// Two persons must not have one name (RFC 5280 §4.1.2.6): the number of a register, or at least the clinic, tells them apart.
	if s.SerialNumber == "" && s.Organization == "" {
		return errors.New("neither a professional number nor an organization tells this person from another of the same name")
	}
	return nil
}

// days writes a span of time for people.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d == time.Hour:
		return "1 hour"
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return d.String()
}

// setValidity bounds the life: a little backdating, never before the issuer's, never beyond it.
func (p Profile) setValidity(t *x509.Certificate, want time.Duration, issuer *x509.Certificate, now time.Time) error {
	life := want
	if want == 0 {
		life = p.validity.Default
	}
	if life < p.validity.Min || life > p.validity.Max {
		return fmt.Errorf("a validity of %s is not within %s to %s", days(life), days(p.validity.Min), days(p.validity.Max))
	}
	now = now.UTC().Truncate(time.Second)
	t.NotBefore = now.Add(-Backdating)
	if issuer != nil && t.NotBefore.Before(issuer.NotBefore) {
		t.NotBefore = issuer.NotBefore
	}
	if t.NotBefore.After(now) {
		return fmt.Errorf("the issuer's validity begins only at %s", issuer.NotBefore.Format(time.RFC3339))
	}
	t.NotAfter = now.Add(life - time.Second) // RFC 5280 §4.1.2.5: both ends belong to it
	if issuer == nil || !t.NotAfter.After(issuer.NotAfter) {
		return nil
	}
	if want != 0 || !now.Add(p.validity.Min).Before(issuer.NotAfter) {
		return fmt.Errorf("it would outlive its issuer, whose validity ends at %s", issuer.NotAfter.Format(time.RFC3339))
	}
	t.NotAfter = issuer.NotAfter
	return nil
}

// setNames sets the subject alternative names of TLS certificates.
func (p Profile) setNames(t *x509.Certificate, r Request) error {
	n := len(r.DNSNames) + len(r.Addresses)
	if p.kind != TLSServer && p.kind != TLSClient {
		if n > 0 {
			return errors.New("names of hosts are for TLS certificates")
		}
		return nil
	}
	if n > 100 || n == 0 && p.kind == TLSServer {
		return fmt.Errorf("%d names of hosts, 1 to 100 are needed", n)
	}
	for _, name := range r.DNSNames {
		if !dnsName().MatchString(name) || len(name) > 253 {
			return fmt.Errorf("%q is not a host's name in lower case, without wildcard", name)
		}
		t.DNSNames = append(t.DNSNames, name)
	}
	for _, a := range r.Addresses {
		if !a.IsValid() || a.Zone() != "" {
			return fmt.Errorf("%v is not an address", a)
		}
		t.IPAddresses = append(t.IPAddresses, a.Unmap().AsSlice())
	}
	return nil
}

func dnsName() *regexp.Regexp {
	const label = `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
	return regexp.MustCompile(`^` + label + `(\.` + label + `)*$`)
}
