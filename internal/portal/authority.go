package portal

import (
	"context"
	"fmt"

	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/panel"
	"github.com/veripath/aes-appliance/internal/pdf"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

// authority is the signer's half of one signing operation, as pades wants it: digests in, finished structures out.
type authority struct {
	p      *Portal
	opened wire.SignOpened
}

// SignatureSize implements pades.Authority.
func (a *authority) SignatureSize() int { return a.opened.SignatureSize }

// StampSize implements pades.Stamper.
func (a *authority) StampSize() int { return a.opened.StampSize }

// Sign implements pades.Authority.
func (a *authority) Sign(ctx context.Context, digest []byte) (pades.Signature, error) {
	var s wire.Signature
	if _, err := a.p.call(ctx, wire.OpSign, wire.SignDigest{Operation: a.opened.Operation, Digest: digest}, &s, nil); err != nil {
		return pades.Signature{}, err
	}
	return pades.Signature{CMS: s.CMS, Material: pades.Material{Certs: s.Certs, OCSPs: s.OCSPs, CRLs: s.CRLs}}, nil
}

// Stamp implements pades.Stamper.
func (a *authority) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	var s wire.Stamped
	_, err := a.p.call(ctx, wire.OpStamp, wire.StampDigest{Operation: a.opened.Operation, Digest: digest}, &s, nil)
	return s.Token, err
}

// panel draws what a reader sees of the signature, in the place that the rendered page keeps for it, and in the page's own fonts.
func (p *Portal) panel(ctx context.Context, opened wire.SignOpened) (*pdf.Appearance, error) {
	status, _, err := p.lately(ctx)
	if err != nil {
		return nil, err
	}
	note := "The signature is in the file: verify it there."
	if status.Demo {
		note = "DEMO: not a prescription, not a signature in law."
	}
	names, resources := map[string]string{}, pdf.Dict{}
	for face, object := range p.renderer.Fonts() {
		names[face] = fmt.Sprintf("F%d", object)
		resources[pdf.Name(names[face])] = pdf.Ref{Num: object}
	}
	rect := prescription.PanelRect()
	width, height := rect[2]-rect[0], rect[3]-rect[1]
	content, err := p.panels.Draw(panel.Panel{
		Width: width, Height: height, Heading: "Signed electronically by", Name: opened.Name, Note: note, Fonts: names,
		Details: []string{opened.RegisterName + " " + opened.RegistrationNumber, opened.Time.UTC().Format("2 January 2006 15:04:05 UTC")},
	})
	if err != nil {
		return nil, err
	}
	return &pdf.Appearance{Rect: rect, BBox: [4]float64{0, 0, width, height}, Content: content, Resources: pdf.Dict{"Font": resources}}, nil
}
