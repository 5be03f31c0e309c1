package pades

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// maxTokens bounds the signature time stamps of one signature; those after it prove nothing.
const maxTokens = 8

// How reasons name what they are about.
const (
	whatSignature = "the signature"
	whatTimeStamp = "the time stamp"
)

// token is one RFC 3161 time-stamp token.
type token struct {
	signed   *cms.SignedData
	info     tsp.TSTInfo
	cert     *x509.Certificate // of the TSA, once its signature is verified
	imprint  bool              // it is known to be over what it should be over
	path     path
	failure  *failure
	provenAt time.Time
	status   []*status // of path, by index
}

// parseToken reads a token in DER.
func parseToken(der []byte) *token {
	signed, err := cms.Parse(der)
	if err != nil {
		return &token{failure: cmsFailure(whatTimeStamp, err)}
	}
	return readToken(signed)
}

// readToken reads what a token says. RFC 3161 §2.4.2.
func readToken(signed *cms.SignedData) *token {
	t := &token{signed: signed}
	if !signed.ContentType.Equal(tsp.ContentType()) || signed.Content == nil {
		t.failure = failed(FormatFailure, "the time stamp holds no TSTInfo")
		return t
	}
	if len(signed.Signers) != 1 {
		t.failure = failed(FormatFailure, "the time stamp has %d signers instead of one", len(signed.Signers))
		return t
	}
	var err error
	if t.info, err = tsp.ParseTSTInfo(signed.Content); err != nil {
		var refused *tsp.Failure
		if errors.As(err, &refused) && refused.Info == tsp.BadAlg {
			t.failure = indeterminate(CryptoConstraintsFailure, "the time stamp: %s", firstLine(err))
		} else {
			t.failure = failed(FormatFailure, "the time stamp: %s", firstLine(err))
		}
	}
	return t
}

// checkImprint compares the token with the bytes that it should be over, and verifies it.
func (t *token) checkImprint(data []byte) {
	if t.failure != nil {
		return
	}
	h := t.info.Imprint.Hash.New()
	h.Write(data)
	t.check(h.Sum(nil))
}

// check compares the token's imprint with digest and verifies the token's own signature.
func (t *token) check(digest []byte) {
	if t.failure != nil {
		return
	}
	if !t.info.Imprint.Equal(tsp.Imprint{Hash: t.info.Imprint.Hash, Digest: digest}) {
		t.failure = failed(HashFailure, "the time stamp is over something else: its imprint differs")
		return
	}
	t.imprint = true
	// RFC 3161 §2.4.1, RFC 5816: the signing-certificate attribute is mandatory.
	if ids, err := t.signed.Signers[0].SigningCertificates(); err == nil && len(ids) == 0 {
		t.failure = failed(FormatFailure, "the time stamp does not say with which certificate it was signed")
		return
	}
	// The TSA's certificate may stand in the token or elsewhere; the caller has offered what there is in later passes.
	t.verify()
}

func (t *token) verify(extra ...*x509.Certificate) {
	cert, err := t.signed.Verify(0, nil, extra...)
	if err != nil {
		t.failure = cmsFailure(whatTimeStamp, err)
		if errors.Is(err, cms.ErrDigest) {
			t.failure = failed(SigCryptoFailure, "the time stamp was changed: its content is not what its authority signed")
		}
		return
	}
	t.cert = cert
}

// retry verifies a token again that came without certificates (RFC 3161 §2.4.1 certReq), with those of the file.
func (t *token) retry(trust *trust) {
	if t.imprint && t.cert == nil && len(t.signed.Certificates)+len(t.signed.Unreadable) == 0 && t.failure != nil && t.failure.sub == NoSigningCertificateFound {
		t.failure = nil
		t.verify(trust.all...)
	}
}

// sound reports whether the token is cryptographically what it says, trusted or not.
func (t *token) sound() bool { return t.cert != nil }

// checkToken verifies the token of a document time stamp. ISO 32000-2 §12.8.5.
func (it *item) checkToken() {
	if it.token == nil {
		it.token = readToken(it.signed)
	}
	if it.digest != nil {
		it.token.check(it.digest)
	}
	if it.token.cert != nil {
		it.cert = it.token.cert
		it.report.Signer = newSigner(it.cert)
	}
	if !it.token.info.GenTime.IsZero() {
		t := it.token.info.GenTime
		it.report.ClaimedTime = &t
	}
}

func (t *token) report() TimeStampReport {
	r := TimeStampReport{Indication: TotalPassed, ProvenAt: t.provenAt.UTC()}
	if !t.info.GenTime.IsZero() {
		r.Time, r.Policy, r.Serial = t.info.GenTime, t.info.Policy.String(), t.info.Serial.Text(16)
		if t.info.Accuracy > 0 {
			r.Accuracy = t.info.Accuracy.String()
		}
	}
	if t.cert != nil {
		r.Authority = newSigner(t.cert)
	}
	if t.failure != nil {
		r.Indication, r.SubIndication, r.Reasons = t.failure.indication, t.failure.sub, []string{t.failure.text}
	}
	r.Certificates = certificateReports(t.path, t.status)
	return r
}
