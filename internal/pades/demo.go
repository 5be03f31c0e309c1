package pades

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
)

// A demo's appliance makes its own root and stamps with whatever clock it finds. Its files validate against that root, as they should, and
// prove nothing; the report says so beside the verdict.
const demoWarning = "made by a demonstration appliance: no evidence of time or identity"

// demoArc is what the policies of a demo are under: of the enterprise number that RFC 5612 sets aside for examples.
var demoArc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 2019}

// demoName is how the names of a demo's CAs and authorities begin.
const demoName = "DEMO ONLY"

func underDemoArc(policy asn1.ObjectIdentifier) bool {
	return len(policy) >= len(demoArc) && slices.Equal(policy[:len(demoArc)], demoArc)
}

// demoCertificate reports whether c, or who issued it, says that it is a demo's.
func demoCertificate(c *x509.Certificate) bool {
	return strings.HasPrefix(c.Subject.CommonName, demoName) || strings.HasPrefix(c.Issuer.CommonName, demoName) ||
		slices.ContainsFunc(c.PolicyIdentifiers, underDemoArc)
}

// demo reports whether anything that it rests on is a demo's: the signer's certificates or a time stamp, judged good or not.
func (it *item) demo() bool {
	tokens := it.stamps
	if it.token != nil {
		tokens = append(slices.Clone(tokens), it.token)
	}
	certs := slices.Clone(it.path)
	if it.cert != nil {
		certs = append(certs, it.cert)
	}
	for _, t := range tokens {
		if underDemoArc(t.info.Policy) {
			return true
		}
		certs = append(certs, t.path...)
		if t.cert != nil {
			certs = append(certs, t.cert)
		}
	}
	return slices.ContainsFunc(certs, demoCertificate)
}

// warnDemo says of each signature and of the whole file that it is a demo's.
func (v *validation) warnDemo() {
	for _, it := range v.items {
		if it.demo() {
			it.warn(demoWarning)
			v.report.demo = true
		}
	}
	if v.report.demo {
		v.report.Warnings = slices.Insert(v.report.Warnings, 0, demoWarning)
	}
}
