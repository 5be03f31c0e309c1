package cert

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// What a profile is, for those who write it down.

// Algorithms returns the kinds of key that a certificate may be for.
func (p Profile) Algorithms() []Algorithm { return slices.Clone(p.algorithms) }

// Policies returns the certificate policies that a certificate states; of a CA, those that it may issue under.
func (p Profile) Policies() []asn1.ObjectIdentifier { return slices.Clone(p.policies) }

// KeyUsage returns the bits of the (critical) key usage.
func (p Profile) KeyUsage() x509.KeyUsage { return p.keyUsage }

// Published reports whether a certificate names a CRL, and an OCSP responder.
func (p Profile) Published() (crl, ocsp bool) { return p.crl, p.ocsp }

// CAName returns the common name of a CA of this kind.
func (p *Profiles) CAName(k Kind) string { return p.settings.caSubject(k).CommonName }

// Reasons returns the names of the reasons for which a certificate can be revoked.
func Reasons() (names []string) {
	for i, name := range reasonNames {
		if Reason(i).Valid() {
			names = append(names, name)
		}
	}
	return names
}
