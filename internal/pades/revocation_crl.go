package pades

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/cert"
)

// fromCRL returns the status of c in a CRL that issuer signed and that speaks of c (RFC 5280 §6.3.3).
func (r *revocations) fromCRL(s *source, c, issuer *x509.Certificate) (status, bool) {
	if !bytes.Equal(s.list.RawIssuer, issuer.RawSubject) || !covers(s.list, c) || !r.signedBy(s, issuer) {
		return status{}, false
	}
	st := status{source: s, kind: "CRL", signer: issuer, produced: s.list.ThisUpdate, this: s.list.ThisUpdate, next: s.list.NextUpdate,
		keptSince: cert.ExpiredCertsOnCRL(s.list)}
	if entry, listed := cert.FindRevocation(s.list, c.SerialNumber); listed {
		st.revoked, st.revokedAt, st.reason, st.invalidSince = true, entry.At, int(entry.Reason), entry.InvalidityDate
	}
	return st, true
}

// signedBy reports whether issuer signed the CRL. One CRL speaks of many certificates, and is verified once.
func (r *revocations) signedBy(s *source, issuer *x509.Certificate) bool {
	if s.signed == nil {
		s.signed = map[string]bool{}
	}
	known, have := s.signed[string(issuer.Raw)]
	if !have {
		if r.checks++; r.checks > maxStatusChecks {
			return false
		}
		known = s.list.CheckSignatureFrom(issuer) == nil
		s.signed[string(issuer.Raw)] = known
	}
	return known
}

var oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// covers reports whether list speaks of certificates like c: RFC 5280 §5.2.5 restrictions are understood, other critical extensions (delta
// CRLs among them) make it unusable.
func covers(list *x509.RevocationList, c *x509.Certificate) bool {
	for _, e := range list.Extensions {
		if e.Id.Equal(oidIssuingDistributionPoint) {
			if !coversPoint(e.Value, c) {
				return false
			}
		} else if e.Critical {
			return false
		}
	}
	return true
}

// coversPoint reads an IssuingDistributionPoint. Indirect CRLs, and those for some reasons or attribute certificates only, are not used.
func coversPoint(value []byte, c *x509.Certificate) bool {
	in := cryptobyte.String(value)
	var seq, point cryptobyte.String
	var have bool
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() || !seq.ReadOptionalASN1(&point, &have, casn1.Tag(0).ContextSpecific().Constructed()) {
		return false
	}
	if have && !samePoint(point, c) {
		return false
	}
	for !seq.Empty() {
		var flag cryptobyte.String
		var tag casn1.Tag
		if !seq.ReadAnyASN1(&flag, &tag) {
			return false
		}
		switch on := len(flag) == 1 && flag[0] != 0; tag {
		case casn1.Tag(1).ContextSpecific(): // onlyContainsUserCerts
			if on && c.IsCA {
				return false
			}
		case casn1.Tag(2).ContextSpecific(): // onlyContainsCACerts
			if on && !c.IsCA {
				return false
			}
		default: // onlySomeReasons, indirectCRL, onlyContainsAttributeCerts
			if on || len(flag) != 1 {
				return false
			}
		}
	}
	return true
}

// samePoint reports whether one of the names of a DistributionPointName is among c's CRL distribution points (RFC 5280 §6.3.3 (b)(2)(i)).
func samePoint(point cryptobyte.String, c *x509.Certificate) bool {
	var names cryptobyte.String
	if !point.ReadASN1(&names, casn1.Tag(0).ContextSpecific().Constructed()) {
		return false // relative to the issuer's name: no one uses it
	}
	for !names.Empty() {
		var one cryptobyte.String
		var tag casn1.Tag
		if !names.ReadAnyASN1(&one, &tag) {
			return false
		}
		if tag == casn1.Tag(6).ContextSpecific() && slices.Contains(c.CRLDistributionPoints, string(one)) {
			return true
		}
	}
	return false
}
