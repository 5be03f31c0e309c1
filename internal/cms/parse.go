package cms

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Parse reads one ContentInfo with a SignedData, without anything after it, and keeps der, which must not change from then on.
// Algorithms are not judged here: see Acceptable and Verify.
//
// Parse(s.Bytes()) yields s again, for every s that Sign and WithTimeStamp return.
func Parse(der []byte) (*SignedData, error) { return parse(der, nil) }

// TrimPadding returns the one DER element that contents begins with: the rest, the padding of a PDF's Contents, must be zeros.
func TrimPadding(contents []byte) ([]byte, error) {
	rest := cryptobyte.String(contents)
	if _, err := take(&rest, casn1.SEQUENCE, "the signature"); err != nil {
		return nil, err
	}
	element := contents[:len(contents)-len(rest)]
	for i, b := range rest {
		if b != 0 {
			return nil, fmt.Errorf("%w: byte %#02x at offset %d, after the signature, where only zeros may follow", ErrMalformed, b, len(element)+i)
		}
	}
	return element, nil
}

// parse is Parse, taking certificates that equal one of known from there.
func parse(der []byte, known []*x509.Certificate) (*SignedData, error) {
	if len(der) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrLimit, len(der), MaxSize)
	}
	in := cryptobyte.String(der)
	contentInfo, err := take(&in, casn1.SEQUENCE, "ContentInfo")
	if err != nil {
		return nil, err
	}
	if !in.Empty() {
		return nil, fmt.Errorf("%w: %d bytes after the ContentInfo", ErrMalformed, len(in))
	}
	contentType, err := takeOID(&contentInfo, "contentType")
	if err != nil {
		return nil, err
	}
	if !contentType.Equal(oidSignedData) {
		return nil, fmt.Errorf("%w: content type %v instead of id-signedData", ErrUnsupported, contentType)
	}
	wrapper, err := take(&contentInfo, explicit(0), "content")
	if err != nil {
		return nil, err
	}
	body, err := take(&wrapper, casn1.SEQUENCE, "SignedData")
	if err != nil {
		return nil, err
	}
	if !wrapper.Empty() || !contentInfo.Empty() {
		return nil, fmt.Errorf("%w: bytes after the SignedData", ErrMalformed)
	}
	s := &SignedData{raw: der}
	if err := s.read(body, known); err != nil {
		return nil, err
	}
	return s, nil
}

// read reads the elements of a SignedData.
func (s *SignedData) read(body cryptobyte.String, known []*x509.Certificate) error {
	all := body
	if !body.ReadASN1Integer(&s.Version) || s.Version < 1 || s.Version > 5 {
		return fmt.Errorf("%w: version of SignedData", ErrMalformed)
	}
	if err := skipDigestAlgorithms(&body); err != nil {
		return err
	}
	if err := s.readContent(&body); err != nil {
		return err
	}
	if err := s.readCertificates(&body, known); err != nil {
		return err
	}
	if err := s.readRevocations(&body); err != nil {
		return err
	}
	s.head = all[:len(all)-len(body)]
	infos, err := take(&body, casn1.SET, "signerInfos")
	if err != nil {
		return err
	}
	if !body.Empty() {
		return fmt.Errorf("%w: bytes after signerInfos", ErrMalformed)
	}
	for !infos.Empty() {
		if len(s.Signers) == MaxSigners {
			return fmt.Errorf("%w: more than %d signers", ErrLimit, MaxSigners)
		}
		info, err := take(&infos, casn1.SEQUENCE, "SignerInfo")
		if err != nil {
			return err
		}
		var si SignerInfo
		if err := si.read(info); err != nil {
			return err
		}
		s.Signers = append(s.Signers, si)
	}
	return nil
}

// skipDigestAlgorithms passes over the hint that digestAlgorithms is (RFC 5652 §5.1): what counts is said by each SignerInfo.
func skipDigestAlgorithms(body *cryptobyte.String) error {
	set, err := take(body, casn1.SET, "digestAlgorithms")
	if err != nil {
		return err
	}
	for n := 0; !set.Empty(); n++ {
		if n == MaxSigners {
			return fmt.Errorf("%w: more than %d digest algorithms", ErrLimit, MaxSigners)
		}
		if _, err := readAlgorithm(&set); err != nil {
			return err
		}
	}
	return nil
}

// readContent reads EncapsulatedContentInfo (RFC 5652 §5.2).
func (s *SignedData) readContent(body *cryptobyte.String) error {
	encap, err := take(body, casn1.SEQUENCE, "encapContentInfo")
	if err != nil {
		return err
	}
	if s.ContentType, err = takeOID(&encap, "eContentType"); err != nil {
		return err
	}
	if encap.Empty() {
		return nil
	}
	wrapper, err := take(&encap, explicit(0), "eContent")
	if err != nil {
		return err
	}
	content, err := take(&wrapper, casn1.OCTET_STRING, "eContent")
	if err != nil {
		return err
	}
	if !wrapper.Empty() || !encap.Empty() {
		return fmt.Errorf("%w: bytes after eContent", ErrMalformed)
	}
	s.Content = content
	if s.Content == nil {
		s.Content = []byte{}
	}
	return nil
}

// readCertificates reads certificates [0] IMPLICIT CertificateSet OPTIONAL. A certificate that crypto/x509 does not read is kept apart:
// it may belong to a chain that no one asks about.
func (s *SignedData) readCertificates(body *cryptobyte.String, known []*x509.Certificate) error {
	var set cryptobyte.String
	var present bool
	if !body.ReadOptionalASN1(&set, &present, explicit(0)) {
		return fmt.Errorf("%w: certificates", ErrMalformed)
	}
	for n := 0; !set.Empty(); n++ {
		if n == MaxCertificates {
			return fmt.Errorf("%w: more than %d certificates", ErrLimit, MaxCertificates)
		}
		var element cryptobyte.String
		var tag casn1.Tag
		if !set.ReadAnyASN1Element(&element, &tag) {
			return fmt.Errorf("%w: certificate %d of the set", ErrMalformed, n)
		}
		cert := findRaw(known, element)
		if cert == nil && tag == casn1.SEQUENCE {
			cert, _ = x509.ParseCertificate(element) // why it is unreadable matters only when it is the signer's; see SignerCertificate
		}
		if cert == nil {
			s.Unreadable = append(s.Unreadable, element)
			continue
		}
		s.Certificates = append(s.Certificates, cert)
	}
	return nil
}

func findRaw(certs []*x509.Certificate, raw []byte) *x509.Certificate {
	for _, c := range certs {
		if bytes.Equal(c.Raw, raw) {
			return c
		}
	}
	return nil
}

// readRevocations reads crls [1] IMPLICIT RevocationInfoChoices OPTIONAL (RFC 5652 §10.2.1, RFC 5940).
func (s *SignedData) readRevocations(body *cryptobyte.String) error {
	var set cryptobyte.String
	var present bool
	if !body.ReadOptionalASN1(&set, &present, explicit(1)) {
		return fmt.Errorf("%w: crls", ErrMalformed)
	}
	for n := 0; !set.Empty(); n++ {
		if n == MaxRevocations {
			return fmt.Errorf("%w: more than %d CRLs and OCSP answers", ErrLimit, MaxRevocations)
		}
		var element cryptobyte.String
		var tag casn1.Tag
		if !set.ReadAnyASN1Element(&element, &tag) {
			return fmt.Errorf("%w: element %d of crls", ErrMalformed, n)
		}
		if tag == casn1.SEQUENCE {
			s.CRLs = append(s.CRLs, element)
			continue
		}
		other, err := take(&element, explicit(1), "element of crls")
		if err != nil {
			return err
		}
		format, err := takeOID(&other, "otherRevInfoFormat")
		if err != nil {
			return err
		}
		if format.Equal(oidRevocationInfoOCSP) {
			s.OCSPs = append(s.OCSPs, other)
		}
	}
	return nil
}

// read reads the elements of a SignerInfo (RFC 5652 §5.3).
func (si *SignerInfo) read(info cryptobyte.String) error {
	all := info
	if !info.ReadASN1Integer(&si.Version) || si.Version != 1 && si.Version != 3 {
		return fmt.Errorf("%w: version of SignerInfo", ErrMalformed)
	}
	var err error
	if si.SID, err = readSID(&info); err != nil {
		return err
	}
	if si.DigestAlgorithm, err = readAlgorithm(&info); err != nil {
		return err
	}
	si.DigestHash, _ = hashByID(si.DigestAlgorithm) // judged by kind
	before := info
	if info.PeekASN1Tag(explicit(0)) {
		set, err := take(&info, explicit(0), "signedAttrs")
		if err != nil {
			return err
		}
		si.signedRaw = before[:len(before)-len(info)]
		if si.SignedAttrs, err = readAttributes(set, "signedAttrs"); err != nil {
			return err
		}
	}
	if si.SignatureAlgorithm, err = readAlgorithm(&info); err != nil {
		return err
	}
	signature, err := take(&info, casn1.OCTET_STRING, "signature")
	if err != nil {
		return err
	}
	si.Signature = signature
	si.head = all[:len(all)-len(info)]
	if !info.Empty() {
		set, err := take(&info, explicit(1), "unsignedAttrs")
		if err != nil {
			return err
		}
		if si.UnsignedAttrs, err = readAttributes(set, "unsignedAttrs"); err != nil {
			return err
		}
	}
	if !info.Empty() {
		return fmt.Errorf("%w: bytes after the SignerInfo", ErrMalformed)
	}
	si.MessageDigest, _ = si.octets(oidMessageDigest, "message-digest")
	return nil
}

// readSID reads a SignerIdentifier.
func readSID(info *cryptobyte.String) (SID, error) {
	if info.PeekASN1Tag(casn1.Tag(0).ContextSpecific()) {
		id, err := take(info, casn1.Tag(0).ContextSpecific(), "subjectKeyIdentifier")
		return SID{SubjectKeyID: id}, err
	}
	seq, err := take(info, casn1.SEQUENCE, "issuerAndSerialNumber")
	if err != nil {
		return SID{}, err
	}
	var name cryptobyte.String
	serial := new(big.Int)
	if !seq.ReadASN1Element(&name, casn1.SEQUENCE) || !seq.ReadASN1Integer(serial) || !seq.Empty() {
		return SID{}, fmt.Errorf("%w: issuerAndSerialNumber", ErrMalformed)
	}
	return SID{RawIssuer: name, Serial: serial}, nil
}

// readAttributes reads a SET OF Attribute. Its order is not checked: see the package comment.
func readAttributes(set cryptobyte.String, what string) ([]Attribute, error) {
	if set.Empty() {
		return nil, fmt.Errorf("%w: %s is empty", ErrMalformed, what)
	}
	var attrs []Attribute
	for !set.Empty() {
		if len(attrs) == MaxAttributes {
			return nil, fmt.Errorf("%w: more than %d attributes in %s", ErrLimit, MaxAttributes, what)
		}
		seq, err := take(&set, casn1.SEQUENCE, "attribute in "+what)
		if err != nil {
			return nil, err
		}
		var a Attribute
		if a.Type, err = takeOID(&seq, "attribute type in "+what); err != nil {
			return nil, err
		}
		values, err := take(&seq, casn1.SET, "attribute values in "+what)
		if err != nil {
			return nil, err
		}
		if values.Empty() || !seq.Empty() {
			return nil, fmt.Errorf("%w: attribute %v in %s", ErrMalformed, a.Type, what)
		}
		for !values.Empty() {
			var v cryptobyte.String
			var tag casn1.Tag
			if len(a.Values) == MaxValues {
				return nil, fmt.Errorf("%w: more than %d values of attribute %v", ErrLimit, MaxValues, a.Type)
			}
			if !values.ReadAnyASN1Element(&v, &tag) {
				return nil, fmt.Errorf("%w: value of attribute %v", ErrMalformed, a.Type)
			}
			a.Values = append(a.Values, v)
		}
		attrs = append(attrs, a)
	}
	return attrs, nil
}
