package pades

import (
	"context"
	"time"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// Material is what a validator needs besides the signature itself, all in DER: certificates (trust anchor included: a validator that
// builds proof of existence wants to find it in the file), OCSP responses and CRLs. EN 319 142-1 §5.4.2.
type Material struct {
	Certs, OCSPs, CRLs [][]byte
}

// DSS returns m as the dictionary that pdf writes.
func (m Material) dss() pdf.DSS { return pdf.DSS{Certs: m.Certs, OCSPs: m.OCSPs, CRLs: m.CRLs} }

// Signature is what an Authority gives for one document digest.
type Signature struct {
	CMS      []byte   // SignedData with id-aa-timeStampToken over its signature value: PAdES-B-T
	Material Material // for the signer's and the time stamp's chains; every status made after the time stamp
}

// Authority holds the key of one credential, and the time-stamping authority, for one signing operation.
type Authority interface {
	// SignatureSize returns how many bytes of DER Sign gives at most, from the real chain and a real token.
	SignatureSize() int
	// Sign signs the SHA-256 digest of a document's ByteRange.
	Sign(ctx context.Context, digest []byte) (Signature, error)
	Stamper
}

// Stamper makes document time stamps.
type Stamper interface {
	// StampSize returns how many bytes of DER Stamp gives at most.
	StampSize() int
	// Stamp returns an RFC 3161 time-stamp token whose imprint is the SHA-256 digest.
	Stamp(ctx context.Context, digest []byte) ([]byte, error)
}

// Archivist is what a renewal needs.
type Archivist interface {
	Stamper
	// TokenMaterial returns certificates and present status of the chain that made token, for the DSS.
	TokenMaterial(ctx context.Context, token []byte) (Material, error)
	// Now is proven time.
	Now() (time.Time, error)
}
