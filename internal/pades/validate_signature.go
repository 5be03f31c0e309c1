package pades

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// item is one signature dictionary under validation.
type item struct {
	sig    *pdf.Signature
	report SignatureReport

	signed *cms.SignedData   // nil when Contents is none
	digest []byte            // of the ByteRange
	cert   *x509.Certificate // whose key made the signature, once that is verified
	token  *token            // of a document time stamp
	stamps []*token          // signature time stamps

	failure  *failure // the first that decides, nil so far
	baseline []string // why it is no PAdES baseline signature
	path     path     // of the signer
}

// newItem reads what the signature dictionary says.
func newItem(f *pdf.File, sig *pdf.Signature) *item {
	it := &item{sig: sig}
	br := sig.ByteRange
	it.report = SignatureReport{Field: sig.Field, Kind: KindSignature, Format: string(sig.SubFilter), Level: LevelNone,
		ByteRange: br[:], Revision: sig.Revision + 1, DocMDP: sig.DocMDP, Reason: textOf(f, sig.Dict["Reason"]), Location: textOf(f, sig.Dict["Location"])}
	switch {
	case isTimeStamp(sig):
		it.report.Kind = KindTimeStamp
	case sig.DocMDP > 0:
		it.report.Kind = KindCertification
	}
	if m, ok := parseDate(textOf(f, sig.Dict["M"])); ok {
		it.report.ClaimedTime = &m
	}
	switch {
	case sig.Problem != nil:
		it.fail(failed(FormatFailure, "%s", strings.TrimPrefix(firstLine(sig.Problem), fmt.Sprintf("PDF: signature %q: ", sig.Field))))
	case sig.Revision < 0:
		it.fail(failed(FormatFailure, "its ByteRange %v does not end with a revision of the document", br))
	case br[0] != 0 || br[1] != sig.ContentsOffset || br[2] != sig.ContentsEnd || br[3] < 0:
		it.fail(failed(FormatFailure, "its ByteRange %v is not everything but its own Contents", br))
	case (sig.Type == "DocTimeStamp") != isTimeStamp(sig):
		it.fail(failed(FormatFailure, "its Type %s and its SubFilter %s contradict each other", sig.Type, sig.SubFilter))
	}
	it.parse()
	return it
}

// parse reads Contents. Unreadable Contents are the signature's failure; a form that is not judged here is indeterminate.
func (it *item) parse() {
	switch it.sig.SubFilter {
	case "ETSI.CAdES.detached", "adbe.pkcs7.detached", "ETSI.RFC3161":
	default:
		it.fail(indeterminate(SigConstraintsFailure, "signatures with SubFilter %q are not judged here", string(it.sig.SubFilter)))
		return
	}
	if len(it.sig.Contents) == 0 {
		it.fail(failed(FormatFailure, "its Contents are empty"))
		return
	}
	der, err := cms.TrimPadding(it.sig.Contents)
	if err == nil {
		it.signed, err = cms.Parse(der)
	}
	if err != nil {
		it.signed = nil
		it.fail(cmsFailure("its Contents", err))
		return
	}
	if len(it.signed.Signers) != 1 {
		it.fail(failed(FormatFailure, "it has %d signers instead of one", len(it.signed.Signers))) // ISO 32000-2 §12.8.3.3.1
	}
}

// fail records a reason not to pass; the first decides.
func (it *item) fail(f *failure) {
	if it.failure == nil {
		it.failure = f
	}
	it.report.Reasons = append(it.report.Reasons, f.text)
}

func (it *item) warn(format string, args ...any) {
	it.report.Warnings = append(it.report.Warnings, fmt.Sprintf(format, args...))
}

// hash returns the algorithm that the ByteRange is to be hashed with, 0 when it does not matter any more.
func (it *item) hash() crypto.Hash {
	if it.signed == nil || len(it.signed.Signers) != 1 {
		return 0
	}
	if it.report.Kind == KindTimeStamp {
		if it.token == nil {
			it.token = readToken(it.signed)
		}
		return it.token.info.Imprint.Hash
	}
	if it.signed.Signers[0].Acceptable() != nil {
		return 0
	}
	return it.signed.Signers[0].DigestHash
}

// checkGap compares the gap of the ByteRange with those of the other signatures: one Contents belongs to one dictionary.
func (it *item) checkGap(others []*item) {
	for _, other := range others {
		a, b := it.sig, other.sig
		if a.ContentsOffset < b.ContentsEnd && b.ContentsOffset < a.ContentsEnd {
			it.fail(failed(FormatFailure, "it shares its Contents with the signature %q", b.Field))
		}
	}
}

// checkCMS verifies the signature value. EN 319 102-1 §5.2.7.
func (it *item) checkCMS(t *trust) {
	if it.signed == nil || len(it.signed.Signers) != 1 {
		return
	}
	if it.report.Kind == KindTimeStamp {
		it.checkToken()
		return
	}
	if it.signed.Content != nil {
		it.fail(failed(FormatFailure, "its CMS holds a content of its own besides the document"))
	}
	it.checkBaseline()
	if tokens, err := it.signed.TimeStamps(0); err == nil {
		for _, der := range tokens[:min(len(tokens), maxTokens)] {
			it.stamps = append(it.stamps, parseToken(der))
		}
	}
	if it.failure != nil {
		it.guess()
		return
	}
	if len(it.signed.Signers[0].SignedAttrs) == 0 {
		it.fail(indeterminate(SigConstraintsFailure, "it has no signed attributes: such signatures are not judged here"))
		it.guess()
		return
	}
	cert, err := it.signed.Verify(0, it.digest)
	if err != nil {
		it.fail(cmsFailure("the signature", err))
		it.guess()
		return
	}
	it.cert = cert
	it.report.Signer = newSigner(cert)
	for _, s := range it.stamps {
		s.checkImprint(it.signed.Signers[0].Signature)
	}
}

// guess names the signer of a signature that does not verify, as it names itself.
func (it *item) guess() {
	if cert, err := it.signed.SignerCertificate(0); err == nil {
		it.report.Signer = newSigner(cert)
		it.warn("the signer named here is the one that the signature names, nothing proves it")
	}
}

// offer makes the certificates and revocation data inside the signature and its tokens available.
func (it *item) offer(t *trust, r *revocations) {
	list := []*cms.SignedData{it.signed}
	for _, s := range it.stamps {
		list = append(list, s.signed)
	}
	for _, signed := range list {
		if signed == nil {
			continue
		}
		t.add(signed.Certificates...)
		r.addCRL(signed.CRLs...)
		r.addOCSP(signed.OCSPs...)
	}
	if it.signed != nil && len(it.signed.Signers) == 1 {
		ocsps, crls := revocationArchive(it.signed.Signers[0].SignedAttrs)
		r.addOCSP(ocsps...)
		r.addCRL(crls...)
	}
}

var (
	oidData                 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSigningTime          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidSigningCertificate   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	oidSignaturePolicy      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 15}
	oidCommitmentType       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 16}
	oidSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidRevocationArchive    = asn1.ObjectIdentifier{1, 2, 840, 113583, 1, 1, 8}
)

// checkBaseline notes what is missing for B-B: EN 319 142-1 §6.3 table 1, the rows that a signature can be held to afterwards.
func (it *item) checkBaseline() {
	si := &it.signed.Signers[0]
	no := func(format string, args ...any) { it.baseline = append(it.baseline, fmt.Sprintf(format, args...)) }
	if it.sig.SubFilter != "ETSI.CAdES.detached" {
		no("SubFilter is %s", it.sig.SubFilter)
	}
	if !it.signed.ContentType.Equal(oidData) {
		no("the content type is not id-data")
	}
	has := func(oid asn1.ObjectIdentifier) bool {
		for _, a := range si.SignedAttrs {
			if a.Type.Equal(oid) {
				return true
			}
		}
		return false
	}
	if !has(oidSigningCertificateV2) && !has(oidSigningCertificate) {
		no("the attribute signing-certificate-v2 is missing")
	}
	if has(oidSigningTime) {
		no("the attribute signing-time is present")
	}
	if cert, err := it.signed.SignerCertificate(0); err != nil || cert == nil {
		no("the signer's certificate is not in the signature")
	}
	if it.sig.Dict["Cert"] != nil {
		no("the signature dictionary has an entry Cert")
	}
	if it.report.ClaimedTime == nil {
		no("the signature dictionary has no entry M")
	}
	if it.report.Reason != "" && (has(oidCommitmentType) || has(oidSignaturePolicy)) {
		no("the signature dictionary has a Reason beside a commitment type or a signature policy")
	}
}

// cmsFailure maps the errors of package cms. EN 319 102-1 tables 5 and 6.
func cmsFailure(what string, err error) *failure {
	text := strings.TrimPrefix(firstLine(err), "cms: ")
	switch {
	case errors.Is(err, cms.ErrDigest):
		return failed(HashFailure, "the document is not what was signed: its digest differs from the signed one")
	case errors.Is(err, cms.ErrSignature), errors.Is(err, cms.ErrAlgorithm):
		return failed(SigCryptoFailure, "%s: %s", what, text)
	case errors.Is(err, cms.ErrCertificate), errors.Is(err, cms.ErrESS):
		return indeterminate(NoSigningCertificateFound, "%s: %s", what, text)
	case errors.Is(err, cms.ErrWeak):
		return indeterminate(CryptoConstraintsFailure, "%s: %s", what, text)
	case errors.Is(err, cms.ErrUnsupported), errors.Is(err, cms.ErrLimit):
		return indeterminate(SigConstraintsFailure, "%s: %s", what, text)
	}
	return failed(FormatFailure, "%s: %s", what, text)
}

// revocationArchive reads Adobe's signed attribute adbe-revocationInfoArchival: SEQUENCE { [0] SEQUENCE OF CRL, [1] SEQUENCE OF OCSPResponse }.
func revocationArchive(attrs []cms.Attribute) (ocsps, crls [][]byte) {
	for _, a := range attrs {
		if !a.Type.Equal(oidRevocationArchive) {
			continue
		}
		in := cryptobyte.String(a.Values[0])
		var seq cryptobyte.String
		if !in.ReadASN1(&seq, casn1.SEQUENCE) {
			return nil, nil
		}
		for i, out := range []*[][]byte{&crls, &ocsps} {
			var list cryptobyte.String
			tag := casn1.Tag(i).ContextSpecific().Constructed()
			if !seq.PeekASN1Tag(tag) {
				continue
			}
			var inner cryptobyte.String
			if !seq.ReadASN1(&list, tag) || !list.ReadASN1(&inner, casn1.SEQUENCE) {
				return nil, nil
			}
			for !inner.Empty() {
				var one cryptobyte.String
				if !inner.ReadASN1Element(&one, casn1.SEQUENCE) {
					return nil, nil
				}
				*out = append(*out, bytes.Clone(one))
			}
		}
		return ocsps, crls
	}
	return nil, nil
}

// textOf returns the text string o, "" when it is none.
func textOf(f *pdf.File, o pdf.Object) string {
	if value, err := f.Resolve(o); err == nil {
		if s, ok := value.(pdf.String); ok {
			return pdf.Text(s)
		}
	}
	return ""
}

// parseDate reads a date string (ISO 32000-2 §7.9.4): D:YYYYMMDDHHmmSSOHH'mm, all from the month on optional.
func parseDate(s string) (time.Time, bool) {
	s = strings.TrimPrefix(s, "D:")
	digits := 0
	for digits < len(s) && digits < 14 && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	const layout = "20060102150405"
	if digits < 4 || digits%2 != 0 {
		return time.Time{}, false
	}
	zone := strings.ReplaceAll(s[digits:], "'", "")
	switch {
	case zone == "" || zone == "Z" || zone == "Z0000" || zone == "Z00":
		zone = "+0000"
	case len(zone) == 3:
		zone += "00"
	}
	t, err := time.Parse(layout[:digits]+"-0700", s[:digits]+zone)
	return t.UTC(), err == nil
}

// firstLine returns the text of err up to the first line break: errors of several parts put one on each line.
func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
