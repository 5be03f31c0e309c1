package cert

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OCSPRequest is what a client asks: the state of one or more certificates, and perhaps a nonce to be repeated.
type OCSPRequest struct {
	CertIDs []CertID
	Nonce   []byte // 1 to 128 bytes, nil when there is none
}

// ParseOCSPRequest reads an OCSPRequest (RFC 6960 §4.1.1), DER, nothing after it. A signature on the request is allowed and ignored,
// as §4.1.2 leaves to the responder. The CertIDs refer to der, which must not change afterwards. An error means malformedRequest.
func ParseOCSPRequest(der []byte) (OCSPRequest, error) {
	r, err := parseOCSPRequest(der)
	if err != nil {
		return OCSPRequest{}, fmt.Errorf("cert: OCSP request: %w", err)
	}
	return r, nil
}

func parseOCSPRequest(der []byte) (r OCSPRequest, err error) {
	if len(der) > MaxOCSPRequest {
		return r, fmt.Errorf("has %d bytes, %d are allowed", len(der), MaxOCSPRequest)
	}
	in := cryptobyte.String(der)
	var outer, tbs, list cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() {
		return r, errors.New("is not exactly one DER SEQUENCE")
	}
	if !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return r, errors.New("tbsRequest is not a SEQUENCE")
	}
	if !outer.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) || !outer.Empty() {
		return r, errors.New("something other than optionalSignature follows tbsRequest")
	}
	if err := readVersion(&tbs); err != nil {
		return r, err
	}
	if !tbs.SkipOptionalASN1(cbasn1.Tag(1).Constructed().ContextSpecific()) {
		return r, errors.New("requestorName is malformed")
	}
	if !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		return r, errors.New("requestList is not a SEQUENCE")
	}
	if r.CertIDs, err = readRequestList(list); err != nil {
		return r, err
	}
	var ext cryptobyte.String
	var have bool
	if !tbs.ReadOptionalASN1(&ext, &have, cbasn1.Tag(2).Constructed().ContextSpecific()) || !tbs.Empty() {
		return r, errors.New("something other than requestExtensions follows requestList")
	}
	if !have {
		return r, nil
	}
	r.Nonce, err = readRequestExtensions(ext)
	return r, err
}

// readVersion reads [0] EXPLICIT Version DEFAULT v1, which may only be v1 (0).
func readVersion(in *cryptobyte.String) error {
	var version int
	if !in.ReadOptionalASN1Integer(&version, cbasn1.Tag(0).Constructed().ContextSpecific(), 0) {
		return errors.New("version is malformed")
	}
	if version != 0 {
		return fmt.Errorf("version is %d, only v1 (0) is defined", version)
	}
	return nil
}

func readRequestList(list cryptobyte.String) ([]CertID, error) {
	var ids []CertID
	for !list.Empty() {
		if len(ids) == MaxOCSPSingles {
			return nil, fmt.Errorf("asks for more than %d certificates", MaxOCSPSingles)
		}
		var one, ext cryptobyte.String
		var id CertID
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) {
			return nil, fmt.Errorf("Request %d is not a SEQUENCE", len(ids))
		}
		if err := readCertID(&one, &id); err != nil {
			return nil, fmt.Errorf("Request %d: %w", len(ids), err)
		}
		var have bool
		if !one.ReadOptionalASN1(&ext, &have, cbasn1.Tag(0).Constructed().ContextSpecific()) || !one.Empty() {
			return nil, fmt.Errorf("Request %d: something other than extensions follows CertID", len(ids))
		}
		if have {
			if _, err := readRequestExtensions(ext); err != nil {
				return nil, fmt.Errorf("Request %d: %w", len(ids), err)
			}
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errors.New("asks for no certificate")
	}
	return ids, nil
}

// readRequestExtensions returns the nonce, if any, and refuses a critical extension that is not understood (RFC 6960 §4.4).
func readRequestExtensions(in cryptobyte.String) (nonce []byte, err error) {
	list, err := readExtensions(in)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if e.id.Equal(oidOCSPNonce) {
			if nonce, err = readNonce(e.value); err != nil { // RFC 9654 §2.1: 0 or more than 128 octets are malformedRequest
				return nil, err
			}
			continue
		}
		if e.critical {
			return nil, fmt.Errorf("critical extension %v is not understood", e.id)
		}
	}
	return nonce, nil
}

// Marshal returns the request in DER. ParseOCSPRequest(r.Marshal()) equals r for every r with at least one CertID made by NewCertID.
func (r OCSPRequest) Marshal() ([]byte, error) {
	if len(r.CertIDs) == 0 || len(r.CertIDs) > MaxOCSPSingles || len(r.Nonce) > maxNonce {
		return nil, fmt.Errorf("cert: OCSP request of %d certificates with a nonce of %d bytes", len(r.CertIDs), len(r.Nonce))
	}
	for i, id := range r.CertIDs {
		if id.raw == nil && (hashOID(id.Hash) == nil || id.Serial == nil) {
			return nil, fmt.Errorf("cert: OCSP request: CertID %d is incomplete", i)
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range r.CertIDs {
					b.AddASN1(cbasn1.SEQUENCE, id.add)
				}
			})
			if r.Nonce != nil {
				b.AddASN1(cbasn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { addNonce(b, r.Nonce) })
			}
		})
	})
	return b.Bytes()
}

// addNonce writes Extensions with only the nonce.
func addNonce(b *cryptobyte.Builder, nonce []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addExtension(b, oidOCSPNonce, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
	})
}

// addExtension writes one Extension that is not critical.
func addExtension(b *cryptobyte.Builder, id asn1.ObjectIdentifier, value cryptobyte.BuilderContinuation) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// DecodeOCSPPath returns the DER request that a GET carries in the last part of its URL (RFC 6960 A.1): base64, URL-escaped. path is
// the escaped path after the responder's own, with or without the slash between them. It is not parsed.
func DecodeOCSPPath(path string) ([]byte, error) {
	if len(path) > 2*MaxOCSPRequest {
		return nil, fmt.Errorf("cert: OCSP path has %d characters, %d are allowed", len(path), 2*MaxOCSPRequest)
	}
	text, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, fmt.Errorf("cert: OCSP path: %w", err)
	}
	// Some clients use the URL-safe alphabet or leave the padding out, against A.1; both are unambiguous.
	text = strings.NewReplacer("-", "+", "_", "/", " ", "+").Replace(strings.TrimRight(text, "="))
	der, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("cert: OCSP path is not base64: %w", err)
	}
	return der, nil
}
