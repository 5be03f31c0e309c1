package tsa

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/fault"
)

var (
	oidExtKeyUsage           = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidPrivateKeyUsagePeriod = asn1.ObjectIdentifier{2, 5, 29, 16}
)

// checkCertificate demands of cert what verifiers demand of a time-stamping certificate.
func checkCertificate(cert *x509.Certificate) error {
	refuse := func(what string) error {
		return fault.New(fault.Invalid, fmt.Sprintf("the certificate of %q cannot be used for time stamps: %s", cert.Subject.CommonName, what)).
			WithHint("issue a certificate of kind tsa")
	}
	critical := false
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(oidExtKeyUsage) {
			critical = ext.Critical
		}
	}
	switch {
	// RFC 3161 §2.3: one instance of the extension, critical, with timeStamping alone.
	case len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(cert.UnknownExtKeyUsage) > 0:
		return refuse("timeStamping must be its only extended key usage")
	case !critical:
		return refuse("its extended key usage must be critical")
	// As openssl's check of the purpose has it: digitalSignature, nonRepudiation or both, and nothing else.
	case cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0:
		return refuse("its key usage must have digitalSignature")
	case cert.KeyUsage&^(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0:
		return refuse("its key usage must have nothing but digitalSignature")
	case cert.IsCA:
		return refuse("it is a CA's")
	case len(cert.UnhandledCriticalExtensions) > 0:
		return refuse(fmt.Sprintf("its critical extension %v is not understood", cert.UnhandledCriticalExtensions[0]))
	}
	return nil
}

// checkChain demands that each certificate of chain issued the one before it, so that a token never carries a stranger's.
func checkChain(cert *x509.Certificate, chain []*x509.Certificate) error {
	for _, issuer := range chain {
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			return fault.New(fault.Invalid, fmt.Sprintf("%q did not issue the certificate of %q", issuer.Subject.CommonName, cert.Subject.CommonName)).WithCause(err)
		}
		cert = issuer
	}
	return nil
}

// usable returns the time within which cert's private key may sign: its validity, narrowed by privateKeyUsagePeriod.
func usable(cert *x509.Certificate) (from, to time.Time, err error) {
	from, to = cert.NotBefore, cert.NotAfter
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidPrivateKeyUsagePeriod) {
			continue
		}
		if from, to, err = narrow(from, to, ext.Value); err != nil {
			return from, to, err
		}
	}
	if !from.Before(to) {
		err = fault.New(fault.Invalid, fmt.Sprintf("the time-stamping certificate can be used at no time: from %s to %s",
			from.Format(time.RFC3339), to.Format(time.RFC3339)))
	}
	return from, to, err
}

// narrow applies a PrivateKeyUsagePeriod (RFC 3280 §4.2.1.4): notBefore [0] and notAfter [1], GeneralizedTime, implicit, each optional.
func narrow(from, to time.Time, der []byte) (time.Time, time.Time, error) {
	bad := fault.New(fault.Invalid, "the privateKeyUsagePeriod of the time-stamping certificate is not DER")
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() || seq.Empty() {
		return from, to, bad
	}
	for i := range 2 {
		var text cryptobyte.String
		var present bool
		if !seq.ReadOptionalASN1(&text, &present, casn1.Tag(i).ContextSpecific()) {
			return from, to, bad
		}
		if !present {
			continue
		}
		t, err := time.Parse("20060102150405Z", string(text))
		if err != nil {
			return from, to, bad.WithCause(err)
		}
		if i == 0 && t.After(from) {
			from = t
		}
		if i == 1 && t.Before(to) {
			to = t
		}
	}
	if !seq.Empty() {
		return from, to, bad
	}
	return from, to, nil
}
