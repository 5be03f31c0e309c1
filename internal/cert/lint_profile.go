package cert

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// mark says how an extension has to stand in a certificate.
type mark int

const (
	plain    mark = iota // present, not critical
	critical             // present and critical
	optional             // absent, or present and not critical
)

// expectation is what a finished certificate of a kind must look like. It is written down apart from the profiles that make them, so
// that a mistake in one shows in the other.
type expectation struct {
	extensions map[string]mark
	keyUsage   []byte // DER BIT STRING
	purpose    asn1.ObjectIdentifier
	ocsp       bool // the AIA names a responder beside caIssuers
	maxLife    time.Duration
}

// expectations holds facts that validators were found to insist on: RFC 5280 §4.2, EN 319 412-2 §4, RFC 3161 §2.3, RFC 6960 §4.2.2.2.
func expectations(k Kind) expectation {
	base := func(more map[string]mark) map[string]mark {
		m := map[string]mark{oidKeyUsage.String(): critical, oidSubjectKeyID.String(): plain}
		if k != Root {
			m[oidAuthorityKeyID.String()], m[oidPolicies.String()], m[oidAuthorityInfo.String()] = plain, plain, plain
		}
		maps.Copy(m, more)
		return m
	}
	signing, repudiation, digital := []byte{3, 2, 1, 0x06}, []byte{3, 2, 6, 0x40}, []byte{3, 2, 7, 0x80}
	switch k {
	case Root:
		return expectation{base(map[string]mark{oidBasicConstraints.String(): critical}), signing, nil, false, 31 * year}
	case ClinicianCA, TimeCA, InfrastructureCA:
		return expectation{base(map[string]mark{oidBasicConstraints.String(): critical, oidCRLDistribution.String(): plain}), signing, nil, false, 16 * year}
	case Clinician:
		return expectation{base(map[string]mark{oidCRLDistribution.String(): plain, oidQCStatements.String(): optional}), repudiation, nil, true, 3*year + day}
	case TSA:
		return expectation{base(map[string]mark{oidCRLDistribution.String(): plain, oidExtKeyUsage.String(): critical, oidPrivateKeyUsage.String(): plain}),
			digital, oidEKUTimeStamping, true, 6*year + day}
	case OCSP:
		return expectation{base(map[string]mark{oidExtKeyUsage.String(): plain, oidOCSPNoCheck.String(): plain}), digital, oidEKUOCSPSigning, false, 31 * day}
	case TLSServer:
		return expectation{base(map[string]mark{oidCRLDistribution.String(): plain, oidExtKeyUsage.String(): plain, oidSubjectAltName.String(): plain}), digital, oidEKUServerAuth, true, 399 * day}
	case TLSClient:
		return expectation{base(map[string]mark{oidCRLDistribution.String(): plain, oidExtKeyUsage.String(): plain, oidSubjectAltName.String(): optional}), digital, oidEKUClientAuth, true, 2*year + day}
	case Report:
		return expectation{base(map[string]mark{oidCRLDistribution.String(): plain}), digital, nil, true, 6*year + day}
	}
	panic("cert: no expectation for " + string(k))
}

// checker collects findings about one certificate.
type checker struct {
	c        *x509.Certificate
	findings []Finding
}

func (k *checker) want(ok bool, format string, args ...any) {
	if !ok {
		k.findings = append(k.findings, Finding{Lint: "profile", Detail: fmt.Sprintf(format, args...)})
	}
}

// value returns an extension's value, nil when it is absent.
func (k *checker) value(id asn1.ObjectIdentifier) []byte {
	for _, e := range k.c.Extensions {
		if e.Id.Equal(id) {
			return e.Value
		}
	}
	return nil
}

// check holds a certificate (of any signature) against the facts about its kind.
func (p Profile) check(c, issuer *x509.Certificate) []Finding {
	k, e := &checker{c: c}, expectations(p.kind)
	k.want(c.Version == 3, "version %d", c.Version)
	k.want(c.SerialNumber.Sign() > 0 && c.SerialNumber.BitLen() <= 128, "serial of %d bits", c.SerialNumber.BitLen())
	k.checkExtensions(e)
	k.want(bytes.Equal(k.value(oidKeyUsage), e.keyUsage), "keyUsage is %x, not %x", k.value(oidKeyUsage), e.keyUsage)
	if e.purpose != nil {
		want := extendedKeyUsage(e.purpose, false).Value
		k.want(bytes.Equal(k.value(oidExtKeyUsage), want), "extended key usage is %x, not %x", k.value(oidExtKeyUsage), want)
	}
	ski, err := SubjectKeyID(c.PublicKey)
	k.want(err == nil && bytes.Equal(ski, c.SubjectKeyId), "subject key identifier is not the key's")
	k.want(c.NotAfter.After(c.NotBefore) && c.NotAfter.Sub(c.NotBefore) <= e.maxLife, "valid from %v to %v", c.NotBefore, c.NotAfter)
	k.checkSubject(p)
	if p.kind.IsCA() {
		k.want(c.IsCA && c.BasicConstraintsValid, "is no CA")
		k.want(c.MaxPathLenZero == (p.kind != Root) && (p.kind != Root || c.MaxPathLen == -1), "path length is %d", c.MaxPathLen)
	}
	if issuer == nil {
		k.want(bytes.Equal(c.RawIssuer, c.RawSubject), "root's issuer is not its subject")
		return k.findings
	}
	k.checkIssued(p, e, issuer)
	return k.findings
}

// checkExtensions wants exactly the expected extensions, each once and with the right criticality.
func (k *checker) checkExtensions(e expectation) {
	seen := map[string]bool{}
	for _, x := range k.c.Extensions {
		id := x.Id.String()
		m, known := e.extensions[id]
		k.want(known, "extension %s does not belong here", id)
		k.want(!seen[id], "extension %s comes twice", id)
		k.want(!known || x.Critical == (m == critical), "extension %s: critical is %v", id, x.Critical)
		seen[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(e.extensions)) {
		k.want(seen[id] || e.extensions[id] == optional, "extension %s is missing", id)
	}
}

// checkIssued looks at what ties the certificate to its issuer.
func (k *checker) checkIssued(p Profile, e expectation, issuer *x509.Certificate) {
	c := k.c
	k.want(bytes.Equal(c.RawIssuer, issuer.RawSubject), "issuer's name differs")
	k.want(len(c.AuthorityKeyId) > 0 && bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId), "authority key identifier is not the issuer's")
	k.want(!c.NotBefore.Before(issuer.NotBefore) && !c.NotAfter.After(issuer.NotAfter), "validity is not within the issuer's")
	k.want(len(c.IssuingCertificateURL) == 1 && allHTTP(c.IssuingCertificateURL), "caIssuers is %q", c.IssuingCertificateURL)
	k.want(len(c.OCSPServer) == map[bool]int{true: 1}[e.ocsp] && allHTTP(c.OCSPServer), "OCSP is %q", c.OCSPServer)
	k.want(allHTTP(c.CRLDistributionPoints), "CRL distribution points are %q", c.CRLDistributionPoints)
	k.want(len(c.PolicyIdentifiers) == len(c.Policies) && (p.kind.IsCA() || len(c.Policies) == 1), "policies are %v", c.Policies)
	for _, policy := range c.PolicyIdentifiers {
		// Neither anyPolicy nor one of ETSI's: keys in software do not meet those.
		k.want(!policy.Equal(asn1.ObjectIdentifier{2, 5, 29, 32, 0}) && !bytes.HasPrefix(mustOID(policy)[2:], []byte{0x04, 0x00}), "policy %v claims too much", policy)
	}
	if p.kind == TSA {
		from, to, err := PrivateKeyUsagePeriod(c)
		k.want(err == nil && from.Equal(c.NotBefore) && !to.After(c.NotAfter) && to.Sub(from) <= year, "private key usage period from %v to %v: %v", from, to, err)
	}
}

func allHTTP(urls []string) bool {
	return !slices.ContainsFunc(urls, func(u string) bool { return !strings.HasPrefix(u, "http://") })
}

// checkSubject reads the name's DER and wants each attribute at most once, with the right string type.
func (k *checker) checkSubject(p Profile) {
	attributes, err := readName(k.c.RawSubject)
	k.want(err == nil, "subject: %v", err)
	has := func(id asn1.ObjectIdentifier) bool { _, ok := attributes[id.String()]; return ok }
	for id, a := range attributes {
		printable := id == oidCountry.String() || id == oidSerialNumber.String()
		k.want(printable == (a.tag == cbasn1.PrintableString) && (printable || a.tag == cbasn1.UTF8String), "subject attribute %s has string type %d", id, a.tag)
		k.want(utf8.RuneCountInString(a.value) <= maxAttribute && a.value != "", "subject attribute %s has %d characters", id, utf8.RuneCountInString(a.value))
		if !printable {
			clean, err := CleanText("subject attribute "+id, a.value)
			k.want(err == nil && clean == a.value, "subject attribute %s is not clean: %v", id, err)
		}
	}
	k.want(has(oidCommonName), "subject has no common name")
	if p.kind != Clinician {
		return
	}
	k.want(has(oidCountry), "subject has no country")
	k.want(has(oidGivenName) || has(oidSurname), "subject has neither given name nor surname")
	k.want(has(oidSerialNumber) == (k.value(oidQCStatements) != nil), "serialNumber and qcStatements come together")
	if id, err := ParsePersonID(attributes[oidSerialNumber.String()].value); has(oidSerialNumber) {
		k.want(err == nil && bytes.Equal(k.value(oidQCStatements), qcStatements(id.authority()).Value), "qcStatements do not explain the serialNumber: %v", err)
	}
}

type attribute struct {
	tag   cbasn1.Tag
	value string
}

// readName returns the attributes of a DER name with one attribute in each RDN, none twice.
func readName(der []byte) (map[string]attribute, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, fmt.Errorf("is not a SEQUENCE")
	}
	list := map[string]attribute{}
	for !seq.Empty() {
		var set, one, value cryptobyte.String
		var id asn1.ObjectIdentifier
		var a attribute
		if !seq.ReadASN1(&set, cbasn1.SET) || !set.ReadASN1(&one, cbasn1.SEQUENCE) || !set.Empty() || !one.ReadASN1ObjectIdentifier(&id) ||
			!one.ReadAnyASN1(&value, &a.tag) || !one.Empty() {
			return nil, fmt.Errorf("RDN %d is malformed or has two attributes", len(list))
		}
		if _, twice := list[id.String()]; twice {
			return nil, fmt.Errorf("attribute %v comes twice", id)
		}
		a.value = string(value)
		list[id.String()] = a
	}
	return list, nil
}
