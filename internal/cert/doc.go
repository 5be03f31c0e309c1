// Package cert says what each kind of certificate, CRL and OCSP answer of the appliance's PKI is, and turns them from bytes into types
// and back.
//
// It does no I/O, keeps no state, and reads no clock: time and randomness are arguments. A Profile is parsed once from an operator's
// settings into a value that cannot describe a wrong certificate; Profile.Template makes the fields of one certificate, a Linter signs
// them with a throwaway key and looks for faults, and only then Sign lets the CA's key sign the very same bytes.
//
//	RFC 5280       certificates, CRLs                     profile.go extension.go crl.go
//	RFC 6960, 9654 OCSP and its nonce                     ocsp*.go
//	RFC 2986       PKCS#10 requests                       request.go
//	EN 319 412-1   semantics of a person's serialNumber   person.go
//	EN 319 412-2   certificates of natural persons        profile.go lint.go
//	RFC 3161 §2.3  certificates of time stamping units    profile.go
package cert
