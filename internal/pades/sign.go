package pades

import (
	"context"
	"crypto"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// SignOptions says how the signature appears in the document.
type SignOptions struct {
	Field      string    // an existing empty field, or the name of a new one; "" = the next free "SignatureN"
	Name       string    // the signer, as /Name
	Time       time.Time // claimed time of signing, /M; must lie within the certificate's validity
	Location   string
	Contact    string
	Certify    int             // DocMDP permission 1..3 of a certification signature, 0 for an approval signature
	Appearance *pdf.Appearance // nil = invisible
	Limits     pdf.Limits      // of Sign, which opens the document
}

// slack is the room kept behind a document so that its three updates append in place: two Contents in hexadecimal, the DSS and xref.
const slack = 48 << 10

// Open parses a document with room behind it for a signature's updates. data is copied once and not kept.
func Open(data []byte, limits pdf.Limits) (*pdf.File, error) {
	return pdf.Open(append(make([]byte, 0, len(data)+slack), data...), limits)
}

// Signed is a finished document and where in it the two digests were taken.
type Signed struct {
	PDF       []byte
	Signature [4]int64 // ByteRange that the signature covers
	TimeStamp [4]int64 // ByteRange that the document time stamp covers: to the end of PDF
}

// Sign is Open and SignFile.
func Sign(ctx context.Context, data []byte, a Authority, o SignOptions) (Signed, error) {
	f, err := Open(data, o.Limits)
	if err != nil {
		return Signed{}, err
	}
	return SignFile(ctx, f, a, o)
}

// SignFile returns f, which Open gave, with a PAdES-B-LTA signature: three incremental updates behind bytes that stay as they are.
//
// EN 319 142-1 §6.3, in the order that the levels demand: signature with its time stamp (B-T), DSS with all that validates both (B-LT),
// document time stamp over all of it (B-LTA). On any error nothing is returned; what the authority logged tells how far it came.
func SignFile(ctx context.Context, f *pdf.File, a Authority, o SignOptions) (Signed, error) {
	p, err := pdf.Prepare(f, pdf.SignatureOptions{
		Field: o.Field, Type: "Sig", SubFilter: "ETSI.CAdES.detached",
		Name: o.Name, Location: o.Location, ContactInfo: o.Contact, M: o.Time,
		ContentsSize: a.SignatureSize(), Appearance: o.Appearance, Certify: o.Certify,
	})
	if err != nil {
		return Signed{}, err
	}
	digest, err := p.Digest(crypto.SHA256)
	if err != nil {
		return Signed{}, fmt.Errorf("pades: digest of the ByteRange: %w", err)
	}
	sig, err := a.Sign(ctx, digest)
	if err != nil {
		return Signed{}, err
	}
	if f, err = p.Embed(sig.CMS); err != nil {
		return Signed{}, fmt.Errorf("pades: embedding the signature: %w", err)
	}
	if f, err = pdf.AppendDSS(f, sig.Material.dss()); err != nil {
		return Signed{}, fmt.Errorf("pades: writing the DSS: %w", err)
	}
	covered := p.ByteRange()
	f, stamped, err := stamp(ctx, f, a)
	if err != nil {
		return Signed{}, err
	}
	return Signed{PDF: f.Bytes(), Signature: covered, TimeStamp: stamped}, nil
}

// stamp appends a document time stamp over everything in f. EN 319 142-1 §5.4.3; ISO 32000-2 §12.8.5.
func stamp(ctx context.Context, f *pdf.File, s Stamper) (*pdf.File, [4]int64, error) {
	var none [4]int64
	// ISO 32000-2 table 255: no M and no Name in a DocTimeStamp, whose time is the token's.
	p, err := pdf.Prepare(f, pdf.SignatureOptions{Type: "DocTimeStamp", SubFilter: "ETSI.RFC3161", ContentsSize: s.StampSize()})
	if err != nil {
		return nil, none, fmt.Errorf("pades: preparing the document time stamp: %w", err)
	}
	digest, err := p.Digest(crypto.SHA256)
	if err != nil {
		return nil, none, fmt.Errorf("pades: digest for the document time stamp: %w", err)
	}
	token, err := s.Stamp(ctx, digest)
	if err != nil {
		return nil, none, err
	}
	f, err = p.Embed(token)
	if err != nil {
		return nil, none, fmt.Errorf("pades: embedding the document time stamp: %w", err)
	}
	return f, p.ByteRange(), nil
}
