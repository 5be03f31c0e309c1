package cert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SingleResponse is the state of one certificate. Times are UTC, whole seconds; a zero time is absent.
type SingleResponse struct {
	CertID        CertID
	Status        OCSPStatus
	ThisUpdate    time.Time // the state was known to be so at this time
	NextUpdate    time.Time // newer information is available at or before this time
	RevokedAt     time.Time // only when revoked
	Reason        int       // CRLReason (RFC 5280 §5.3.1), 0 when absent
	ArchiveCutoff time.Time // the state of certificates that expired since then is still known (RFC 6960 §4.4.4)
}

// OCSPResponse is a parsed OCSPResponse. Its slices refer to Raw. Nothing in it is verified before CheckSignatureFrom or VerifyFrom.
type OCSPResponse struct {
	Raw              []byte
	Status           int // OCSPSuccessful, or an error status, which has no other field
	ProducedAt       time.Time
	ResponderName    []byte // the DER name, or nil when the responder is named by key
	ResponderKeyHash []byte // SHA-1 of the responder's subjectPublicKey, or nil when it is named by name
	Singles          []SingleResponse
	Certificates     []*x509.Certificate // embedded, as far as they can be parsed
	Nonce            []byte

	tbs, signature, algorithm []byte // algorithm is the whole AlgorithmIdentifier
}

// ParseOCSPResponse reads an OCSPResponse with a BasicOCSPResponse in it (RFC 6960 §4.2.1), strict DER, nothing after it. It keeps der.
func ParseOCSPResponse(der []byte) (*OCSPResponse, error) {
	r := &OCSPResponse{Raw: der}
	if err := r.parse(der); err != nil {
		return nil, fmt.Errorf("cert: OCSP response: %w", err)
	}
	return r, nil
}

func (r *OCSPResponse) parse(der []byte) error {
	if len(der) > MaxOCSPResponse {
		return fmt.Errorf("has %d bytes, %d are allowed", len(der), MaxOCSPResponse)
	}
	in := cryptobyte.String(der)
	var outer, wrapped cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() {
		return errors.New("is not exactly one DER SEQUENCE")
	}
	var have bool
	if !outer.ReadASN1Enum(&r.Status) || !outer.ReadOptionalASN1(&wrapped, &have, cbasn1.Tag(0).Constructed().ContextSpecific()) || !outer.Empty() {
		return errors.New("responseStatus or responseBytes is malformed")
	}
	if r.Status != OCSPSuccessful {
		if r.Status < 0 || r.Status > OCSPUnauthorized || r.Status == 4 || have {
			return fmt.Errorf("status %d is not defined, or an error status has a body", r.Status)
		}
		return nil
	}
	if !have {
		return errors.New("is successful but has no responseBytes")
	}
	var rb, basic cryptobyte.String
	var kind cryptobyte.String
	if !wrapped.ReadASN1(&rb, cbasn1.SEQUENCE) || !wrapped.Empty() || !rb.ReadASN1Element(&kind, cbasn1.OBJECT_IDENTIFIER) ||
		!rb.ReadASN1(&basic, cbasn1.OCTET_STRING) || !rb.Empty() {
		return errors.New("responseBytes is malformed")
	}
	if !bytes.Equal(kind, mustOID(oidOCSPBasic)) {
		return fmt.Errorf("response type %x is not id-pkix-ocsp-basic", []byte(kind))
	}
	return r.parseBasic(basic)
}

// parseBasic reads BasicOCSPResponse.
func (r *OCSPResponse) parseBasic(in cryptobyte.String) error {
	var seq, tbs, alg, certs cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Element(&tbs, cbasn1.SEQUENCE) || !seq.ReadASN1Element(&alg, cbasn1.SEQUENCE) {
		return errors.New("BasicOCSPResponse is malformed")
	}
	var sig []byte
	if !seq.ReadASN1BitStringAsBytes(&sig) {
		return errors.New("signature is not a BIT STRING")
	}
	r.tbs, r.algorithm, r.signature = tbs, alg, sig
	var have bool
	if !seq.ReadOptionalASN1(&certs, &have, cbasn1.Tag(0).Constructed().ContextSpecific()) || !seq.Empty() {
		return errors.New("something other than certs follows the signature")
	}
	if have {
		if err := r.parseCertificates(certs); err != nil {
			return err
		}
	}
	return r.parseData(tbs)
}

func (r *OCSPResponse) parseCertificates(in cryptobyte.String) error {
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return errors.New("certs is not a SEQUENCE")
	}
	for n := 0; !seq.Empty(); n++ {
		var one cryptobyte.String
		if !seq.ReadASN1Element(&one, cbasn1.SEQUENCE) || n == maxOCSPCerts {
			return fmt.Errorf("certs is malformed or has more than %d certificates", maxOCSPCerts)
		}
		// A certificate that cannot be read is not the responder's for us; without the responder's, verification says so.
		if c, err := x509.ParseCertificate(one); err == nil {
			r.Certificates = append(r.Certificates, c)
		}
	}
	return nil
}

// parseData reads ResponseData.
func (r *OCSPResponse) parseData(tbs cryptobyte.String) error {
	var data, list, ext cryptobyte.String
	if !tbs.ReadASN1(&data, cbasn1.SEQUENCE) {
		return errors.New("tbsResponseData is malformed")
	}
	if err := readVersion(&data); err != nil {
		return err
	}
	if err := r.parseResponder(&data); err != nil {
		return err
	}
	if err := readTime(&data, &r.ProducedAt, "producedAt"); err != nil {
		return err
	}
	if !data.ReadASN1(&list, cbasn1.SEQUENCE) {
		return errors.New("responses is not a SEQUENCE")
	}
	for !list.Empty() {
		var s SingleResponse
		if err := readSingle(&list, &s); err != nil {
			return fmt.Errorf("SingleResponse %d: %w", len(r.Singles), err)
		}
		if r.Singles = append(r.Singles, s); len(r.Singles) > 1024 {
			return errors.New("more than 1024 SingleResponses")
		}
	}
	var have bool
	if !data.ReadOptionalASN1(&ext, &have, cbasn1.Tag(1).Constructed().ContextSpecific()) || !data.Empty() {
		return errors.New("something other than responseExtensions follows responses")
	}
	if !have {
		return nil
	}
	list2, err := readExtensions(ext)
	if err != nil {
		return err
	}
	for _, e := range list2 {
		if e.id.Equal(oidOCSPNonce) {
			r.Nonce, err = readNonce(e.value)
		} else if e.critical {
			err = fmt.Errorf("critical extension %v is not understood", e.id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseResponder reads ResponderID: [1] Name or [2] KeyHash, both explicit.
func (r *OCSPResponse) parseResponder(data *cryptobyte.String) error {
	var id, key cryptobyte.String
	if data.PeekASN1Tag(cbasn1.Tag(1).Constructed().ContextSpecific()) {
		var name cryptobyte.String
		if !data.ReadASN1(&id, cbasn1.Tag(1).Constructed().ContextSpecific()) || !id.ReadASN1Element(&name, cbasn1.SEQUENCE) || !id.Empty() {
			return errors.New("responderID byName is malformed")
		}
		r.ResponderName = name
		return nil
	}
	if !data.ReadASN1(&id, cbasn1.Tag(2).Constructed().ContextSpecific()) || !id.ReadASN1(&key, cbasn1.OCTET_STRING) || !id.Empty() {
		return errors.New("responderID is malformed")
	}
	if len(key) != crypto.SHA1.Size() {
		return fmt.Errorf("responderID byKey has %d bytes, SHA-1 has 20", len(key))
	}
	r.ResponderKeyHash = key
	return nil
}

func readSingle(list *cryptobyte.String, s *SingleResponse) error {
	var one cryptobyte.String
	if !list.ReadASN1(&one, cbasn1.SEQUENCE) {
		return errors.New("is not a SEQUENCE")
	}
	if err := readCertID(&one, &s.CertID); err != nil {
		return err
	}
	if err := readCertStatus(&one, s); err != nil {
		return err
	}
	if err := readTime(&one, &s.ThisUpdate, "thisUpdate"); err != nil {
		return err
	}
	var next, ext cryptobyte.String
	var have bool
	if !one.ReadOptionalASN1(&next, &have, cbasn1.Tag(0).Constructed().ContextSpecific()) {
		return errors.New("nextUpdate is malformed")
	}
	if have {
		if err := readTime(&next, &s.NextUpdate, "nextUpdate"); err != nil || !next.Empty() {
			return errors.Join(errors.New("nextUpdate is malformed"), err)
		}
		if s.NextUpdate.Before(s.ThisUpdate) {
			return errors.New("nextUpdate is before thisUpdate")
		}
	}
	if !one.ReadOptionalASN1(&ext, &have, cbasn1.Tag(1).Constructed().ContextSpecific()) || !one.Empty() {
		return errors.New("something other than singleExtensions follows nextUpdate")
	}
	if !have {
		return nil
	}
	extensions, err := readExtensions(ext)
	if err != nil {
		return err
	}
	for _, e := range extensions {
		value := cryptobyte.String(e.value)
		if e.id.Equal(oidOCSPArchiveCutoff) {
			err = readTime(&value, &s.ArchiveCutoff, "archiveCutoff")
		} else if e.critical {
			err = fmt.Errorf("critical extension %v is not understood", e.id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readCertStatus reads CertStatus: good [0] NULL, revoked [1] RevokedInfo, unknown [2] NULL, all implicit.
func readCertStatus(one *cryptobyte.String, s *SingleResponse) error {
	var content cryptobyte.String
	var tag cbasn1.Tag
	if !one.ReadAnyASN1(&content, &tag) {
		return errors.New("certStatus is malformed")
	}
	switch tag {
	case cbasn1.Tag(0).ContextSpecific(), cbasn1.Tag(2).ContextSpecific():
		s.Status = OCSPGood
		if tag == cbasn1.Tag(2).ContextSpecific() {
			s.Status = OCSPUnknown
		}
		if !content.Empty() {
			return errors.New("certStatus has a content where NULL belongs")
		}
		return nil
	case cbasn1.Tag(1).Constructed().ContextSpecific():
	default:
		return fmt.Errorf("certStatus has tag %#x", uint8(tag))
	}
	s.Status = OCSPRevoked
	if err := readTime(&content, &s.RevokedAt, "revocationTime"); err != nil {
		return err
	}
	var reason cryptobyte.String
	var have bool
	if !content.ReadOptionalASN1(&reason, &have, cbasn1.Tag(0).Constructed().ContextSpecific()) || !content.Empty() {
		return errors.New("RevokedInfo is malformed")
	}
	if have && (!reason.ReadASN1Enum(&s.Reason) || !reason.Empty() || s.Reason < 0 || s.Reason > 10 || s.Reason == 7) {
		return errors.New("revocationReason is not one of RFC 5280's")
	}
	return nil
}

// CheckSignatureFrom reports whether the response was signed by cert's key. Whether cert may speak for the issuer is VerifyFrom's matter.
func (r *OCSPResponse) CheckSignatureFrom(cert *x509.Certificate) error {
	if r.Status != OCSPSuccessful {
		return fmt.Errorf("cert: OCSP response with status %d is not signed", r.Status)
	}
	alg, err := signatureAlgorithm(r.algorithm)
	if err != nil {
		return fmt.Errorf("cert: OCSP response: %w", err)
	}
	if err := cert.CheckSignature(alg, r.tbs, r.signature); err != nil {
		return fmt.Errorf("cert: OCSP response: signature by %q: %w", cert.Subject, err)
	}
	return nil
}

// Names reports whether the ResponderID names cert.
func (r *OCSPResponse) Names(cert *x509.Certificate) bool {
	if r.ResponderName != nil {
		return bytes.Equal(r.ResponderName, cert.RawSubject)
	}
	key, err := subjectPublicKey(cert.RawSubjectPublicKeyInfo)
	return err == nil && bytes.Equal(r.ResponderKeyHash, digest(crypto.SHA1, key))
}

// VerifyFrom returns the certificate that signed the response after checking that it may speak for issuer (RFC 6960 §4.2.2.2): it is
// issuer itself, or issuer issued it with id-kp-OCSPSigning. The responder's certificate is looked for in the response and in extra.
// Validity times are the caller's to judge.
func (r *OCSPResponse) VerifyFrom(issuer *x509.Certificate, extra ...*x509.Certificate) (*x509.Certificate, error) {
	if r.Names(issuer) && r.CheckSignatureFrom(issuer) == nil {
		return issuer, nil
	}
	problem := errors.New("cert: OCSP response: the responder's certificate is neither in it nor at hand")
	for _, c := range slices.Concat(r.Certificates, extra) {
		if !r.Names(c) {
			continue
		}
		if problem = r.CheckSignatureFrom(c); problem != nil {
			continue
		}
		if problem = mayRespond(c, issuer); problem == nil {
			return c, nil
		}
	}
	return nil, problem
}

// mayRespond reports whether issuer has made c its OCSP responder.
func mayRespond(c, issuer *x509.Certificate) error {
	if !bytes.Equal(c.RawIssuer, issuer.RawSubject) || !issuer.IsCA {
		return fmt.Errorf("cert: OCSP responder %q was not issued by %q", c.Subject, issuer.Subject)
	}
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return fmt.Errorf("cert: OCSP responder %q: signature by %q: %w", c.Subject, issuer.Subject, err)
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return fmt.Errorf("cert: OCSP responder %q lacks id-kp-OCSPSigning", c.Subject)
	}
	return nil
}

// HasOCSPNoCheck reports whether c carries id-pkix-ocsp-nocheck: its own status need not be asked (RFC 6960 §4.2.2.2.1).
func HasOCSPNoCheck(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidOCSPNoCheck) {
			return true
		}
	}
	return false
}
