// Package cms reads, makes and verifies RFC 5652 SignedData as CAdES (EN 319 122-1) and PAdES (EN 319 142-1) use it, and as RFC 3161
// uses it for time-stamp tokens.
//
// What it makes is DER, with one SignerInfo whose signed attributes are content-type, message-digest and signing-certificate-v2 and
// nothing else. What it reads may come from any signer: DER, except that the order within a SET is not insisted on; signed attributes
// are verified over the bytes as they were sent, never over a new encoding of them.
//
// The package does no I/O and knows nothing of trust: Verify proves that a certificate's key made a signature over a content, the chain
// above that certificate is the caller's to judge.
package cms

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
)

// Limits on what Parse reads. Legitimate signatures stay far below them; a CMS that carries whole CRLs is what the size is for.
const (
	MaxSize         = 16 << 20 // bytes of a ContentInfo
	MaxCertificates = 128
	MaxRevocations  = 128 // CRLs and OCSP answers
	MaxSigners      = 16
	MaxAttributes   = 64 // in one set of attributes
	MaxValues       = 16 // in one attribute
)

// Reasons for which Parse, SignerCertificate and Verify fail: every error of theirs wraps exactly one of these.
var (
	ErrMalformed   = errors.New("cms: malformed")                                  // not the DER structure that the standard asks for
	ErrLimit       = errors.New("cms: too large")                                  // a limit above was exceeded
	ErrUnsupported = errors.New("cms: not supported")                              // an algorithm or a form that is not dealt with here
	ErrWeak        = errors.New("cms: weak algorithm")                             // MD5, SHA-1, RSA under 2048 bits
	ErrAlgorithm   = errors.New("cms: algorithms contradict each other")           // digest, signature, key, RFC 6211 attribute
	ErrCertificate = errors.New("cms: signer's certificate not found")             // none of those at hand is the one that signed
	ErrESS         = errors.New("cms: certificate is not the one that was signed") // ESSCertID names another certificate
	ErrAttributes  = errors.New("cms: signed attributes missing or repeated")      // content-type or message-digest
	ErrContentType = errors.New("cms: content type differs from the signed one")
	ErrDigest      = errors.New("cms: content differs from what was signed") // message-digest is that of another content
	ErrSignature   = errors.New("cms: signature does not verify")
)

// SignedData is one RFC 5652 §5.1 SignedData in its ContentInfo. Parse, Sign and WithTimeStamp make it; its fields are to be read only.
type SignedData struct {
	Version      int
	ContentType  asn1.ObjectIdentifier // eContentType
	Content      []byte                // eContent; nil when detached
	Certificates []*x509.Certificate   // in the order of the set
	Unreadable   [][]byte              // certificate choices that crypto/x509 does not read (attribute certificates, odd curves)
	CRLs         [][]byte              // CertificateList, DER
	OCSPs        [][]byte              // OCSPResponse, DER (RFC 5940)
	Signers      []SignerInfo

	raw  []byte // the ContentInfo
	head []byte // elements of SignedData before signerInfos
}

// SignerInfo is one RFC 5652 §5.3 SignerInfo.
type SignerInfo struct {
	Version            int
	SID                SID
	DigestHash         crypto.Hash // SHA-256, SHA-384 or SHA-512; 0 for every other algorithm, and then Acceptable says why not
	DigestAlgorithm    AlgorithmIdentifier
	SignatureAlgorithm AlgorithmIdentifier
	SignedAttrs        []Attribute
	UnsignedAttrs      []Attribute
	MessageDigest      []byte // the message-digest attribute; nil when it is missing or repeated
	Signature          []byte

	signedRaw []byte // the [0] element as it stands in the input
	head      []byte // elements of SignerInfo before unsignedAttrs
}

// SID is a SignerIdentifier: RawIssuer and Serial, or SubjectKeyID.
type SID struct {
	RawIssuer    []byte // Name, DER
	Serial       *big.Int
	SubjectKeyID []byte
}

// Attribute is an RFC 5652 §5.3 Attribute; every value is one DER element.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}

// Bytes returns the DER of the ContentInfo. It is not to be changed.
func (s *SignedData) Bytes() []byte { return s.raw }

// Object identifiers, by the names that the standards give them.
var (
	oidData                 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}         // id-data
	oidSignedData           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}         // id-signedData
	oidContentType          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}         // id-contentType
	oidMessageDigest        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}         // id-messageDigest
	oidAlgorithmProtection  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 52}        // id-aa-cmsAlgorithmProtect
	oidSigningCertificate   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12} // id-aa-signingCertificate
	oidTimeStampToken       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14} // id-aa-timeStampToken
	oidSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47} // id-aa-signingCertificateV2
	oidRevocationInfoOCSP   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 16, 2}         // id-ri-ocsp-response
)

// IDData returns id-data, the content type of what a PAdES signature signs (EN 319 142-1 §6.3).
func IDData() asn1.ObjectIdentifier { return append(asn1.ObjectIdentifier(nil), oidData...) }
