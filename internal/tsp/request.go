package tsp

import (
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/der"
)

// Request is a TimeStampReq (RFC 3161 §2.4.1) without extensions, of which this service knows none.
type Request struct {
	Imprint
	Policy  asn1.ObjectIdentifier // nil = whichever the TSA has
	Nonce   *big.Int              // nil = none
	CertReq bool                  // the token is to hold the TSA's certificate
}

// Marshal returns the DER of r. It fails when r could not be parsed again.
func (r Request) Marshal() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if err := checkNonce(r.Nonce); err != nil {
		return nil, err
	}
	b := r.Imprint.append([]byte(version1))
	if r.Policy != nil {
		var err error
		if b, err = der.AppendOID(b, r.Policy); err != nil {
			return nil, fmt.Errorf("tsp: policy: %w", err)
		}
	}
	if r.Nonce != nil {
		b = der.AppendInt(b, r.Nonce)
	}
	if r.CertReq {
		b = append(b, isTrue...)
	}
	return der.Append(nil, casn1.SEQUENCE, b), nil
}

// ParseRequest reads a TimeStampReq. The error is a *Failure: what the client is to be told.
//
// ParseRequest(r.Marshal()) == r for every r that can be marshalled. An explicit certReq FALSE, which DER would leave out, is let pass:
// clients send it, and a request is not signed.
func ParseRequest(der []byte) (Request, error) {
	if len(der) > MaxRequest {
		return Request{}, &Failure{Info: BadRequest, Text: fmt.Sprintf("request of %d bytes, at most %d are read", len(der), MaxRequest)}
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() {
		return Request{}, malformed("TimeStampReq")
	}
	var version int64
	if !seq.ReadASN1Integer(&version) {
		return Request{}, malformed("version")
	}
	if version != 1 {
		return Request{}, &Failure{Info: BadRequest, Text: fmt.Sprintf("version %d, only version 1 exists", version)}
	}
	var r Request
	var err error
	if r.Imprint, err = readImprint(&seq); err != nil {
		return Request{}, err
	}
	if seq.PeekASN1Tag(casn1.OBJECT_IDENTIFIER) && !seq.ReadASN1ObjectIdentifier(&r.Policy) {
		// Well-formed or not, it is an identifier that encoding/asn1 cannot hold, such as one under 2.25, and so none of ours.
		return Request{}, &Failure{Info: UnacceptedPolicy, Text: "the policy asked for is not served here"}
	}
	if seq.PeekASN1Tag(casn1.INTEGER) {
		if r.Nonce, err = readNonce(&seq); err != nil {
			return Request{}, err
		}
	}
	if seq.PeekASN1Tag(casn1.BOOLEAN) && !seq.ReadASN1Boolean(&r.CertReq) {
		return Request{}, malformed("certReq")
	}
	if seq.PeekASN1Tag(explicit(0)) {
		// RFC 3161 §2.4.1: an extension that is not recognised, critical or not, is answered with unacceptedExtension.
		return Request{}, &Failure{Info: UnacceptedExtension, Text: "no request extension is supported"}
	}
	if !seq.Empty() {
		return Request{}, malformed("end of TimeStampReq")
	}
	return r, nil
}
