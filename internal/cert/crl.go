package cert

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidExpiredCertsOnCRL = asn1.ObjectIdentifier{2, 5, 29, 60}
	oidInvalidityDate    = asn1.ObjectIdentifier{2, 5, 29, 24}
)

// Reason is a CRLReason (RFC 5280 §5.3.1) that this PKI uses. certificateHold and removeFromCRL are not among them: a certificate is
// valid or it is not, and validators of documents refuse a hold.
type Reason int

const (
	ReasonUnspecified          Reason = 0
	ReasonKeyCompromise        Reason = 1
	ReasonCACompromise         Reason = 2
	ReasonAffiliationChanged   Reason = 3
	ReasonSuperseded           Reason = 4
	ReasonCessationOfOperation Reason = 5
	ReasonPrivilegeWithdrawn   Reason = 9
)

// reasonNames are the names of RFC 5280's CRLReason, at the index of their number.
var reasonNames = [...]string{0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded",
	5: "cessationOfOperation", 9: "privilegeWithdrawn"}

// ParseReason returns the reason with this name.
func ParseReason(name string) (Reason, error) {
	for i, n := range reasonNames {
		if n == name && n != "" {
			return Reason(i), nil
		}
	}
	return 0, fmt.Errorf("cert: %q is not a reason for revocation (unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn)", name)
}

// String returns the reason's name in RFC 5280.
func (r Reason) String() string {
	if r.Valid() {
		return reasonNames[r]
	}
	return fmt.Sprintf("Reason(%d)", int(r))
}

// Valid reports whether r is one of the reasons in use.
func (r Reason) Valid() bool { return r >= 0 && int(r) < len(reasonNames) && reasonNames[r] != "" }

// Revocation is one entry of a CRL.
type Revocation struct {
	Serial         *big.Int
	At             time.Time // when the CA revoked it
	Reason         Reason
	InvalidityDate time.Time // since when the key is known or suspected to be bad; zero for unknown (RFC 5280 §5.3.2)
}

// CRLTemplate is what a CA says in a CRL.
type CRLTemplate struct {
	Number     *big.Int // strictly growing per issuer, at most 20 octets (RFC 5280 §5.2.3)
	ThisUpdate time.Time
	NextUpdate time.Time
	Revoked    []Revocation
	// ExpiredSince says that certificates which expired at or after it stay listed (X.509 expiredCertsOnCRL, RFC-less; EN 319 411-1 wants
	// it of a CA that keeps them). Zero leaves the extension out.
	ExpiredSince time.Time
}

// CreateCRL returns the issuer's CRL in DER, with the authority key identifier and the number (RFC 5280 §5.2.1, §5.2.3), signed by key.
func CreateCRL(rand io.Reader, t CRLTemplate, issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	alg, _, err := AlgorithmFor(issuer.PublicKey)
	if err != nil {
		return nil, err
	}
	if t.Number == nil || t.Number.Sign() < 0 || t.Number.BitLen() > 159 {
		return nil, errors.New("cert: a CRL's number has 1 to 159 bits and is not negative")
	}
	if !t.NextUpdate.After(t.ThisUpdate) {
		return nil, errors.New("cert: a CRL's nextUpdate is after its thisUpdate")
	}
	list := &x509.RevocationList{SignatureAlgorithm: alg, Number: t.Number, ThisUpdate: t.ThisUpdate.UTC().Truncate(time.Second),
		NextUpdate: t.NextUpdate.UTC().Truncate(time.Second)}
	for _, r := range t.Revoked {
		if !r.Reason.Valid() || r.Serial == nil || r.At.After(t.ThisUpdate) {
			return nil, fmt.Errorf("cert: CRL entry %x: reason %v at %s is not possible", r.Serial, r.Reason, r.At.UTC().Format(time.RFC3339))
		}
		entry := x509.RevocationListEntry{SerialNumber: r.Serial, RevocationTime: r.At.UTC().Truncate(time.Second), ReasonCode: int(r.Reason)}
		if !r.InvalidityDate.IsZero() {
			entry.ExtraExtensions = []pkix.Extension{{Id: oidInvalidityDate, Value: generalizedTime(r.InvalidityDate)}}
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, entry)
	}
	if !t.ExpiredSince.IsZero() {
		list.ExtraExtensions = []pkix.Extension{{Id: oidExpiredCertsOnCRL, Value: generalizedTime(t.ExpiredSince)}}
	}
	der, err := x509.CreateRevocationList(rand, list, issuer, key)
	if err != nil {
		return nil, fmt.Errorf("cert: CRL of %q: %w", issuer.Subject, err)
	}
	return der, nil
}

// ParseCRL reads a CRL in DER, nothing after it. Its signature is not checked: CheckSignatureFrom does that.
func ParseCRL(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("cert: CRL: %w", err)
	}
	if len(list.Raw) != len(der) {
		return nil, fmt.Errorf("cert: CRL: %d bytes follow it", len(der)-len(list.Raw))
	}
	return list, nil
}

// FindRevocation returns the entry for the serial in a CRL, with its invalidity date, and whether there is one.
func FindRevocation(list *x509.RevocationList, serial *big.Int) (Revocation, bool) {
	for i := range list.RevokedCertificateEntries {
		e := &list.RevokedCertificateEntries[i]
		if e.SerialNumber.Cmp(serial) != 0 {
			continue
		}
		r := Revocation{Serial: e.SerialNumber, At: e.RevocationTime, Reason: Reason(e.ReasonCode)}
		for _, x := range e.Extensions {
			if x.Id.Equal(oidInvalidityDate) {
				value := cryptobyte.String(x.Value)
				value.ReadASN1GeneralizedTime(&r.InvalidityDate)
			}
		}
		return r, true
	}
	return Revocation{}, false
}

// ExpiredCertsOnCRL returns the time of the extension with that name, zero when it is absent or malformed.
func ExpiredCertsOnCRL(list *x509.RevocationList) time.Time {
	var t time.Time
	for _, x := range list.Extensions {
		if x.Id.Equal(oidExpiredCertsOnCRL) {
			value := cryptobyte.String(x.Value)
			value.ReadASN1GeneralizedTime(&t)
		}
	}
	return t
}

// generalizedTime returns t in DER, in whole seconds, as RFC 5280 §4.1.2.5.2 wants it.
func generalizedTime(t time.Time) []byte {
	var b cryptobyte.Builder
	b.AddASN1GeneralizedTime(t.UTC())
	return b.BytesOrPanic()
}

// element wraps content in a DER element with this tag.
func element(tag cbasn1.Tag, content cryptobyte.BuilderContinuation) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, content)
	return b.BytesOrPanic()
}
