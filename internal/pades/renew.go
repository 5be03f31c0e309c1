package pades

import (
	"context"
	"fmt"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// Renew returns data with the validation material of its newest time stamps and a new document time stamp over all of it, and the ByteRange of that.
//
// EN 319 142-1 §5.4.3: the material of the previous time stamp goes in first. A file that does not validate any more is refused: a new
// time stamp proves only that the file existed today, and would dress up a dead signature. v's At is replaced by the Archivist's time.
func Renew(ctx context.Context, data []byte, a Archivist, v ValidateOptions) (Signed, error) {
	now, err := a.Now()
	if err != nil {
		return Signed{}, err
	}
	v.At = now
	report, err := Validate(ctx, data, v)
	if err != nil {
		return Signed{}, err
	}
	if !report.Good() {
		return Signed{}, fault.New(fault.Invalid, "this file does not validate ("+report.Summary+"), so it cannot be renewed").
			WithHint(`"appliance verify" gives the reasons; a renewal must come before the newest time stamp's certificate expires`)
	}
	f, err := Open(data, v.Limits)
	if err != nil {
		return Signed{}, err
	}
	tokens, err := newestTimeStamps(f)
	if err != nil {
		return Signed{}, err
	}
	var m Material
	for _, t := range tokens {
		its, err := a.TokenMaterial(ctx, t)
		if err != nil {
			return Signed{}, err
		}
		m.Certs = append(m.Certs, its.Certs...)
		m.OCSPs = append(m.OCSPs, its.OCSPs...)
		m.CRLs = append(m.CRLs, its.CRLs...)
	}
	if f, err = pdf.AppendDSS(f, m.dss()); err != nil {
		return Signed{}, fmt.Errorf("pades: writing the DSS: %w", err)
	}
	f, stamped, err := stamp(ctx, f, a)
	if err != nil {
		return Signed{}, err
	}
	return Signed{PDF: f.Bytes(), TimeStamp: stamped}, nil
}

// newestTimeStamps returns the tokens that a renewal must keep verifiable: the newest document time stamp's, which covers all that came
// before it, or, in a file that has none yet, those of each signature.
func newestTimeStamps(f *pdf.File) ([][]byte, error) {
	signatures, err := f.Signatures()
	if err != nil {
		return nil, err
	}
	for i := len(signatures) - 1; i >= 0; i-- {
		if signatures[i].Type != "DocTimeStamp" {
			continue
		}
		token, err := cms.TrimPadding(signatures[i].Contents)
		if err != nil {
			return nil, fmt.Errorf("pades: document time stamp %s: %w", signatures[i].Field, err)
		}
		return [][]byte{token}, nil
	}
	var tokens [][]byte
	for _, s := range signatures {
		its, err := signatureTimeStamps(s)
		if err != nil {
			return nil, fmt.Errorf("pades: signature %s: %w", s.Field, err)
		}
		tokens = append(tokens, its...)
	}
	if len(tokens) == 0 {
		return nil, fault.New(fault.Invalid, "the file has no time stamp that could be renewed").
			WithHint(`sign it with "appliance sign"`)
	}
	return tokens, nil
}

func signatureTimeStamps(s pdf.Signature) ([][]byte, error) {
	der, err := cms.TrimPadding(s.Contents)
	if err != nil {
		return nil, err
	}
	signed, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	return signed.TimeStamps(0)
}
