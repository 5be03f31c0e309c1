package tsp

import "fmt"

// FailInfo is a PKIFailureInfo (RFC 3161 §2.4.2). The zero value is none; Bit gives the number that the standard uses.
type FailInfo uint8

const (
	BadAlg              FailInfo = 1 + 0  // unrecognised or unsupported algorithm identifier
	BadRequest          FailInfo = 1 + 2  // transaction not permitted or supported
	BadDataFormat       FailInfo = 1 + 5  // the data submitted has the wrong format
	TimeNotAvailable    FailInfo = 1 + 14 // the TSA's time source is not available
	UnacceptedPolicy    FailInfo = 1 + 15 // the requested policy is not supported
	UnacceptedExtension FailInfo = 1 + 16 // the requested extension is not supported
	AddInfoNotAvailable FailInfo = 1 + 17 // the additional information requested could not be understood or is not available
	SystemFailure       FailInfo = 1 + 25 // the request cannot be handled due to system failure
)

// Bit returns the bit of PKIFailureInfo, -1 for none.
func (f FailInfo) Bit() int { return int(f) - 1 }

// String returns the name that RFC 3161 gives the failure.
func (f FailInfo) String() string {
	switch f {
	case 0:
		return "none"
	case BadAlg:
		return "badAlg"
	case BadRequest:
		return "badRequest"
	case BadDataFormat:
		return "badDataFormat"
	case TimeNotAvailable:
		return "timeNotAvailable"
	case UnacceptedPolicy:
		return "unacceptedPolicy"
	case UnacceptedExtension:
		return "unacceptedExtension"
	case AddInfoNotAvailable:
		return "addInfoNotAvailable"
	case SystemFailure:
		return "systemFailure"
	}
	return fmt.Sprintf("failInfo bit %d", f.Bit())
}

// Failure is a refusal that a TimeStampResp can carry; Text is for the client to read.
type Failure struct {
	Info FailInfo
	Text string
}

func (f *Failure) Error() string { return fmt.Sprintf("tsp: %s (%v)", f.Text, f.Info) }

// Response returns the TimeStampResp that tells a client of f.
func (f *Failure) Response() Response {
	return Response{Status: Rejection, FailInfo: f.Info, Text: f.Text}
}

func malformed(what string) error {
	return &Failure{Info: BadDataFormat, Text: what + " is missing or not DER"}
}
