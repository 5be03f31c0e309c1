package tsp

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/der"
)

// Status is a PKIStatus (RFC 3161 §2.4.2).
type Status int

const (
	Granted                Status = 0 // a token, as requested
	GrantedWithMods        Status = 1 // a token, with modifications
	Rejection              Status = 2
	Waiting                Status = 3
	RevocationWarning      Status = 4
	RevocationNotification Status = 5
)

// maxTexts bounds the parts of a statusString.
const maxTexts = 16

// Response is a TimeStampResp: a token when Status is Granted or GrantedWithMods, and none otherwise.
type Response struct {
	Status   Status
	FailInfo FailInfo // the first failure; 0 = none
	Text     string   // statusString, its parts joined by a line feed when there are several
	Token    []byte   // TimeStampToken, DER
}

func (r Response) granted() bool { return r.Status == Granted || r.Status == GrantedWithMods }

// check holds what RFC 3161 §2.4.2 demands of the elements together.
func (r Response) check() error {
	switch {
	case r.Status < Granted || r.Status > RevocationNotification:
		return fmt.Errorf("tsp: status %d does not exist", r.Status)
	case r.granted() && len(r.Token) == 0:
		return errors.New("tsp: a granted response has no token")
	case !r.granted() && len(r.Token) != 0:
		return errors.New("tsp: a response that is not granted has a token")
	case r.granted() && r.FailInfo != 0:
		return errors.New("tsp: a granted response has a failInfo")
	case !utf8.ValidString(r.Text):
		return errors.New("tsp: statusString is not UTF-8")
	}
	return nil
}

// Marshal returns the DER of r. It fails when r could not be parsed again.
func (r Response) Marshal() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	info := der.AppendUnsigned(nil, casn1.INTEGER, []byte{byte(r.Status)}) // PKIStatusInfo
	if r.Text != "" {
		text := der.Append(nil, casn1.UTF8String, []byte(r.Text))
		info = der.Append(info, casn1.SEQUENCE, text) // PKIFreeText
	}
	if r.FailInfo != 0 {
		info = der.Append(info, casn1.BIT_STRING, failBits(r.FailInfo))
	}
	n := der.Size(len(info)) + len(r.Token)
	b := der.AppendHeader(make([]byte, 0, der.Size(n)), casn1.SEQUENCE, n)
	b = der.Append(b, casn1.SEQUENCE, info)
	return append(b, r.Token...), nil
}

// failBits returns a BIT STRING's contents with the one bit of f: a named bit list ends with its last 1 (X.690 §11.2.2).
func failBits(f FailInfo) []byte {
	bit := f.Bit()
	out := make([]byte, 2+bit/8)
	out[0] = byte(7 - bit%8)
	out[len(out)-1] = 0x80 >> (bit % 8)
	return out
}

// ParseResponse reads a TimeStampResp. Of the token it checks only that it is one DER SEQUENCE.
//
// ParseResponse(r.Marshal()) == r for every r that can be marshalled.
func ParseResponse(der []byte) (Response, error) {
	if len(der) > MaxResponse {
		return Response{}, fmt.Errorf("tsp: response of %d bytes, at most %d are read", len(der), MaxResponse)
	}
	bad := func(what string) (Response, error) {
		return Response{}, fmt.Errorf("tsp: %s of TimeStampResp is missing or not DER", what)
	}
	in := cryptobyte.String(der)
	var seq, info, token cryptobyte.String
	var status int64
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&info, casn1.SEQUENCE) || !info.ReadASN1Integer(&status) {
		return bad("status")
	}
	r := Response{Status: Status(status)}
	if info.PeekASN1Tag(casn1.SEQUENCE) {
		var texts cryptobyte.String
		if !info.ReadASN1(&texts, casn1.SEQUENCE) || texts.Empty() {
			return bad("statusString")
		}
		for n := 0; !texts.Empty(); n++ {
			var text cryptobyte.String
			if n == maxTexts || !texts.ReadASN1(&text, casn1.UTF8String) {
				return bad("statusString")
			}
			if n > 0 {
				r.Text += "\n"
			}
			r.Text += string(text)
		}
	}
	if info.PeekASN1Tag(casn1.BIT_STRING) {
		var fail asn1.BitString
		if !info.ReadASN1BitString(&fail) {
			return bad("failInfo")
		}
		r.FailInfo = firstBit(fail)
	}
	if !info.Empty() {
		return bad("PKIStatusInfo")
	}
	if !seq.Empty() {
		if !seq.ReadASN1Element(&token, casn1.SEQUENCE) || !seq.Empty() {
			return bad("timeStampToken")
		}
		r.Token = token
	}
	if err := r.check(); err != nil {
		return Response{}, err
	}
	return r, nil
}

// firstBit returns the first failure in a PKIFailureInfo, SystemFailure for bits that RFC 3161 does not know.
func firstBit(s asn1.BitString) FailInfo {
	for i, b := range s.Bytes {
		if b == 0 {
			continue
		}
		if bit := 8*i + bits.LeadingZeros8(b); bit <= SystemFailure.Bit() {
			return FailInfo(bit + 1)
		}
		return SystemFailure
	}
	return 0
}
