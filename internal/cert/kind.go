package cert

import (
	"fmt"
	"slices"
	"strings"
)

// Kind names a kind of certificate. The values are fixed: they stand in the log, in file names and in the API.
type Kind string

const (
	Root             Kind = "root"
	ClinicianCA      Kind = "clinician-ca"
	TimeCA           Kind = "time-ca"
	InfrastructureCA Kind = "infrastructure-ca"
	Clinician        Kind = "clinician"
	TSA              Kind = "tsa"
	OCSP             Kind = "ocsp"
	TLSServer        Kind = "tls-server"
	TLSClient        Kind = "tls-client"
	Report           Kind = "report" // signs one report of the appliance about itself, with a key that is destroyed after it
)

// Kinds returns every kind, issuers before what they issue.
func Kinds() []Kind {
	return []Kind{Root, ClinicianCA, TimeCA, InfrastructureCA, Clinician, TSA, OCSP, TLSServer, TLSClient, Report}
}

// IssuingCAs returns the kinds of the CAs under the root: three, so that one stolen key cannot forge both a signature and its time.
func IssuingCAs() []Kind { return []Kind{ClinicianCA, TimeCA, InfrastructureCA} }

// ParseKind returns the kind with this name.
func ParseKind(name string) (Kind, error) {
	if k := Kind(name); slices.Contains(Kinds(), k) {
		return k, nil
	}
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return "", fmt.Errorf("cert: %q is not a kind of certificate (%s)", name, strings.Join(names, ", "))
}

// IsCA reports whether certificates of this kind issue others.
func (k Kind) IsCA() bool { return k == Root || slices.Contains(IssuingCAs(), k) }

// Issuer returns the only kind of CA that issues k, or "" for an OCSP responder, which each issuing CA has its own of: a responder must
// be issued by the CA whose certificates it speaks for (RFC 6960 §4.2.2.2).
func (k Kind) Issuer() Kind {
	switch k {
	case Root, ClinicianCA, TimeCA, InfrastructureCA:
		return Root
	case Clinician:
		return ClinicianCA
	case TSA:
		return TimeCA
	case TLSServer, TLSClient, Report:
		return InfrastructureCA
	}
	return ""
}
